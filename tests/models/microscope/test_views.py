"""A view of the page is one file: the page takes what is in the folder, and its bytes depend on nothing else."""

import base64
import json
import re

import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.bundle import VIEWS, find_views
from tinygrad_attn_models.microscope.page.render import render
from views import FILES, order_of, words_of

OWN = """
import { html } from "page/core.js";
import { data } from "page/data.js";
import { translator } from "page/i18n.js";

export const order = 55;

export const View = () => html`<p id="own">${t("loss_is", { loss: data.get().meta.loss })}</p>`;

export const words = {
  "en": { "title": "Loss alone", "loss_is": "The loss is {loss}" },
  "ko": { "title": "손실만", "loss_is": "손실은 {loss}" }
};

const t = translator(words);
"""


@pytest.fixture(scope="module")
def data():
    return microscope(make("bahdanau"), SOURCE, TARGET).data


def modules(page):
    """By name the source of all modules in a page."""
    (found,) = re.findall(r'<script type="importmap" nonce="[^"]+">(.*?)</script>', page)
    return {
        name: base64.b64decode(url.removeprefix("data:text/javascript;base64,")).decode()
        for name, url in json.loads(found)["imports"].items()
    }


def test_a_view_from_a_file_is_in_the_page(data, tmp_path):
    (tmp_path / "own.js").write_text(OWN, encoding="utf-8")
    page = render(data, views=(VIEWS, tmp_path))
    assert modules(page)["page/views/own.js"] == OWN
    assert 'import * as own from "page/views/own.js";' in page
    assert page.partition("start({ ")[2].partition(" }")[0].split(", ") == sorted([*FILES, "own"])


def test_every_module_that_is_imported_is_in_the_page(data):
    found = modules(render(data))
    imported = {name for code in found.values() for name in re.findall(r'\bfrom ?"([^"]+)"', code)}
    assert imported <= set(found) and {f"page/views/{name}.js" for name in FILES} <= set(found)
    assert set(found) - imported == {"page/app.js", *(f"page/views/{name}.js" for name in FILES)}


def test_views_have_places_of_their_own_and_titles():
    orders = [order_of(file) for file in FILES.values()]
    assert len(set(orders)) == len(orders) >= 7
    assert all(words_of(file)["en"]["title"] for file in FILES.values())


def test_the_same_data_makes_the_same_page(data):
    assert render(data) == render(data)


def test_only_modules_of_the_page_may_run(data):
    page = render(data)
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert f"script-src 'nonce-{nonce}'" in policy and "unsafe" not in policy
    other = render({**data, "source": {**data["source"], "text": f'<script nonce="{nonce}">alert(1)</script>'}})
    assert set(re.findall(r'nonce="([^"]+)"', other)) != {nonce}  # nobody can know it before the page is there


@pytest.mark.parametrize(("name", "message"), [("tape", "two views 'tape'"), ("my-view", "letters, digits and _")])
def test_a_name_that_does_not_do(tmp_path, name, message):
    (tmp_path / f"{name}.js").write_text(OWN, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        find_views((VIEWS, tmp_path))
