"""What experiments have in common: results that are kept and used again, verdicts, tables, figures, and the page."""

import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from made_up import LOUD, Sizes, made_up
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.lab.form import page, running
from tinygrad_attn_models.lab.form import results as results_module
from tinygrad_attn_models.lab.form.experiment import Expect, Words, find_experiments, load_experiment
from tinygrad_attn_models.lab.form.figures import draw
from tinygrad_attn_models.lab.form.page import PAGE, render
from tinygrad_attn_models.lab.form.results import FILE, Results, Spread
from tinygrad_attn_models.lab.form.running import carry_out
from tinygrad_attn_models.lab.form.tables import tables
from tinygrad_attn_models.lab.form.verdict import judge, verdict
from tinygrad_attn_models.runs.jsons import checked_json, read_json


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The made-up experiment stands for all of the folder."""
    monkeypatch.setattr(page, "find_experiments", lambda: {"made_up": "A made-up experiment."})
    monkeypatch.setattr(page, "load_experiment", lambda name: made_up())
    for module in (page, running):  # to draw takes long
        monkeypatch.setattr(module, "draw", lambda results, language, theme: f"<svg>{language} {theme}</svg>")


def measured(folder, values, expected):
    """Results with these numbers of the case "right", one a seed; "wrong" measures 0."""
    experiment = made_up(expected=expected)
    results = Results("made_up", experiment, folder, experiment.full)
    for seed, value in enumerate(values):
        for case, number in {"right": value, "wrong": 0.0}.items():
            results.add(seed, case, {"value": number, "decay": {1: 1.0, 2: 0.5}}, 1.0)
    return results


def of_right(seed):
    return seed["right"]["value"]


@pytest.mark.parametrize(
    ("values", "bounds", "outcome"),
    [
        ([1.0, 1.1, 1.2], {"above": 0.9}, "held"),
        ([1.0, 1.1, 1.2], {"above": 1.3}, "failed"),
        ([1.0, 1.1, 1.2], {"above": 1.05}, "mixed"),
        ([1.0, 1.1, 1.2], {"above": 1.0}, "mixed"),  # a bound itself is outside
        ([1.0, 1.1, 1.2], {"below": 1.3}, "held"),
        ([1.0, 1.1, 1.2], {"above": 0.9, "below": 1.05}, "mixed"),
        ([1.0, 1.1, 1.2], {"above": 2.0, "below": 3.0}, "failed"),
        ([math.nan] * 3, {"above": -math.inf, "below": math.inf}, "failed"),
        ([0.0, 1.0], {"above": 0.5, "value": lambda of: 1.0 / of["right"]["value"]}, "mixed"),
        ([], {"above": 0.0}, "unfinished"),
    ],
)
def test_an_expectation_is_held_with_every_seed_with_none_or_with_some(tmp_path, values, bounds, outcome):
    results = measured(tmp_path, values, [Expect(Words("right", "옳음"), **{"value": of_right, **bounds})])
    (judged,) = judge(results)
    assert judged.verdict == verdict([judged]) == outcome
    assert judged.held == sum(judged.expect.holds(value) for value in judged.found.values)


def test_a_claim_needs_all_of_its_expectations(tmp_path):
    held, failed = (Expect(Words("", ""), of_right, above=bound) for bound in (0.0, 9.0))
    mixed = Expect(Words("", ""), of_right, above=1.05)
    outcomes = {"held": [held, held], "part": [held, mixed], "mixed": [mixed], "failed": [failed, failed]}
    for outcome, expected in outcomes.items():
        assert verdict(judge(measured(tmp_path / outcome, [1.0, 1.1], expected))) == outcome
    assert verdict(judge(measured(tmp_path / "three", [1.0, 1.1], [mixed, failed, held]))) == "part"


def test_a_seed_counts_when_all_of_its_cases_are_measured(tmp_path):
    results = measured(tmp_path, [1.0], [Expect(Words("", ""), of_right, above=0.0)])
    results.add(5, "right", {"value": 2.0, "decay": {}}, 1.0)
    assert list(results.complete()) == [0] and judge(results)[0].found.values == (1.0,)
    assert results.number("right", "value").values == (1.0, 2.0)
    assert results.missing([0, 5, 6]) == [(5, "wrong"), (6, "right"), (6, "wrong")]


def test_spread():
    assert Spread((1.0, 2.0, 6.0)).text(".1f") == "3.0 (1.0–6.0)"
    assert Spread((2.0,)).text(".1f") == Spread((2.01, 2.02)).text(".1f") == "2.0"
    assert Spread(()).text(".1f") == "–" and math.isnan(Spread(()).mean)


def test_what_was_measured_is_kept_and_not_measured_again(tmp_path, capsys):
    tried = []

    def measure(trial):
        tried.append((trial.seed, trial.case))
        return made_up().measure(trial)

    experiment = made_up(measure=measure)
    carry_out("made_up", experiment, tmp_path, [0, 1], quick=False)
    assert tried == [(0, "right"), (0, "wrong"), (1, "right"), (1, "wrong")]
    first = capsys.readouterr().out
    carry_out("made_up", experiment, tmp_path, [0, 1, 2], quick=False)
    assert tried[4:] == [(2, "right"), (2, "wrong")]
    kept = json.loads((tmp_path / "made_up" / FILE).read_text(encoding="utf-8"))
    assert kept["sizes"] == {"steps": 3, "lengths": [1, 2, 4]} and kept["versions"][0]["numpy"]
    assert kept["measured"]["2"]["right"] == {"value": 1.2, "decay": [[1, 0.6], [2, 0.3], [4, 0.075]]}
    table = (tmp_path / "made_up" / "table.txt").read_text(encoding="utf-8")
    assert "1.10 (1.00–1.20)" in table
    assert "came out as expected" in first and "in 2 of 2 seeds" in first and "1 trial left, about 0:00" in first
    assert capsys.readouterr().out.count("seed 2") == 2


def test_results_of_several_versions_are_named(tmp_path, capsys, monkeypatch):
    known = {"python": "3.11", "numpy": "2.3", "commit": ""}
    monkeypatch.setattr(results_module, "versions", lambda: dict(known))
    carry_out("made_up", made_up(), tmp_path, [0], quick=False)
    carry_out("made_up", made_up(), tmp_path, [0, 1], quick=False)
    assert "different versions" not in capsys.readouterr().out + (tmp_path / PAGE).read_text(encoding="utf-8")
    known["numpy"] = "2.4"
    results = carry_out("made_up", made_up(), tmp_path, [0, 1, 2], quick=False)
    said = capsys.readouterr().out
    assert "from different versions: numpy 2.3 and 2.4; remove" in said and str(tmp_path / "made_up" / FILE) in said
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert page.count("numpy 2.3 and 2.4") == 2 and "서로 다른 버전" in page
    assert results.made_with[1]["right"]["numpy"] == "2.3" and results.made_with[2]["wrong"]["numpy"] == "2.4"
    again = Results("made_up", results.experiment, tmp_path / "made_up", Sizes())
    assert again.made_with == results.made_with and again.mixed() == {"numpy": ["2.3", "2.4"]}


def test_an_older_file_has_the_versions_of_its_first_trial(tmp_path):
    carry_out("made_up", made_up(), tmp_path, [0], quick=False)
    path = tmp_path / "made_up" / FILE
    values = read_json(path)
    del values["made_with"]
    path.write_text(checked_json(values | {"versions": {"numpy": "1.0"}}), encoding="utf-8")
    results = carry_out("made_up", made_up(), tmp_path, [0, 1], quick=False)
    assert results.made_with[0]["right"] == {"numpy": "1.0"} and results.mixed()["numpy"][0] == "1.0"
    path.write_text(checked_json(values | {"made_with": {"0": {"right": 9}}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"results\.json is damaged"):
        carry_out("made_up", made_up(), tmp_path, [0], quick=False)


def test_ctrl_c_keeps_what_has_been_measured(tmp_path, capsys):
    def measure(trial):
        if (trial.seed, trial.case) == (1, "wrong"):
            raise KeyboardInterrupt
        return made_up().measure(trial)

    with pytest.raises(KeyboardInterrupt):
        carry_out("made_up", made_up(measure=measure), tmp_path, [0, 1, 2], quick=True)
    assert "lab made_up --quick --out" in capsys.readouterr().out and (tmp_path / PAGE).exists()
    results = carry_out("made_up", made_up(), tmp_path, [0, 1, 2], quick=True)
    assert len(results.complete()) == 3


def test_other_sizes_and_damaged_results_are_refused(tmp_path):
    carry_out("made_up", made_up(), tmp_path, [0], quick=False)
    with pytest.raises(UserError, match=r"holds results of other sizes .* remove it to measure anew, or name another"):
        carry_out("made_up", made_up(), tmp_path, [0], quick=True)
    for damaged in ("{", "[]", "{}", '{"experiment": "made_up", "sizes": {"steps": 3, "lengths": [1, 2, 4]}}'):
        (tmp_path / "made_up" / FILE).write_text(damaged, encoding="utf-8")
        with pytest.raises(UserError, match=r"results\.json is damaged .* remove it to measure anew"):
            carry_out("made_up", made_up(), tmp_path, [0], quick=False)


def test_numbers_that_are_not_finite_are_kept_as_none(tmp_path):
    results = measured(tmp_path, [math.nan], [])
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    assert "NaN" not in text and "null" in text
    again = Results("made_up", results.experiment, tmp_path, Sizes())
    assert math.isnan(again.measured[0]["right"]["value"])


def test_a_table_of_numbers_and_one_of_each_curve(tmp_path):
    results = carry_out("made_up", made_up(), tmp_path, [0, 1, 2], quick=False)
    decay, numbers = tables(results, "en")
    assert decay.title == "decay, by length" and decay.headers == ["", "1", "4"]
    assert decay.rows[1] == ["wrong", "0.275 (0.250–0.300)", "0.034 (0.031–0.037)"]
    assert numbers.title == "" and numbers.headers == ["", f"value {LOUD}"]
    decay, numbers = tables(results, "ko")
    assert decay.title == "감소, 길이별" and numbers.rows[1] == ["틀린 것", "0.55 (0.50–0.60)"]


@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("ko", "dark")])
def test_figures(tmp_path, language, theme):
    results = carry_out("made_up", made_up(), tmp_path, [0, 1], quick=False)
    assert (tmp_path / "made_up" / f"figure-{language}-{theme}.svg").read_text() == f"<svg>{language} {theme}</svg>"
    svg = draw(results, language, theme)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert svg == draw(results, language, theme)  # the same bytes each time
    assert {"light": "#ffffff", "dark": "#1a1d22"}[theme] in svg


class Reader(HTMLParser):
    """Whatever a page has: tags with attributes, and texts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_escaped_in_both_languages_and_loads_nothing(tmp_path):
    carry_out("made_up", made_up(), tmp_path, [0, 1, 2], quick=False)
    html = (tmp_path / PAGE).read_text(encoding="utf-8")
    read = Reader(html)
    assert not [tag for tag, _ in read.tags if tag in ("script", "link", "iframe")]
    for language, words in {"en": "came out as expected", "ko": "예상대로 나왔습니다"}.items():
        assert ("main", {"lang": language, "class": language}) in read.tags
        assert words in read.text
    assert sum(LOUD in text for text in read.text) >= 8  # claim, case, quantity and expectation, in two languages
    sources = [value for _, attributes in read.tags for name, value in attributes.items() if name in ("src", "srcset")]
    assert len(sources) == 4 and all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?://", re.sub(r'"data:[^"]*"', "", html))
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {value[1:] for _, each in read.tags for name, value in each.items() if name == "href"}
    assert targets == {"en-made_up", "ko-made_up"} <= set(ids)


def test_the_page_says_that_a_claim_has_failed(tmp_path):
    results = measured(tmp_path, [1.0, 1.1], [Expect(Words("right", "옳음"), of_right, above=2.0)])
    html = render([results])
    assert "came out otherwise" in html and "예상과 다르게 나왔습니다" in html and "&gt; 2" in html and "0/2" in html
    assert "came out as expected" not in html and "quick sizes" not in html


def test_the_page_has_results_of_any_sizes_and_says_which_are_quick(tmp_path):
    carry_out("made_up", made_up(), tmp_path, [0], quick=True)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "quick sizes" in page and "lab made_up --quick" in page
    other = made_up(full=Sizes(steps=7, lengths=(1, 2)))
    carry_out("made_up", other, tmp_path / "other", [0], quick=False)
    page = (tmp_path / "other" / PAGE).read_text(encoding="utf-8")
    assert "steps 7, lengths 1 2" in page and "quick" not in page


def test_every_file_of_the_folder_is_an_experiment():
    for name, claim in find_experiments().items():
        experiment = load_experiment(name)
        assert claim.endswith(".") and experiment.expected and len(experiment.cases) > 1
        texts = [experiment.claim, experiment.method, *experiment.cases.values()]
        texts += [quantity.words for quantity in experiment.quantities.values()]
        texts += [expect.words for expect in experiment.expected]
        texts += [experiment.remark] if experiment.remark else []
        assert all(text.en and text.ko for text in texts)
        assert not [
            text.ko for text in texts if re.search("[가-힣](?<!니)다[.]", text.ko)
        ]  # whole sentences are polite
        assert all(expect.bounds() for expect in experiment.expected) and experiment.full != experiment.quick


def test_the_experiments_are_listed_and_mistakes_are_answered(capsys, monkeypatch, tmp_path):
    assert main(["lab"]) == 0
    assert re.search(r"^copy_length +Copying with one context vector or with attention", capsys.readouterr().out, re.M)
    assert main(["lab", "copy_lenght"]) == 2
    assert capsys.readouterr().err == "error: there is no experiment 'copy_lenght'; did you mean copy_length?\n"
    assert main(["lab", "form"]) == 2 and main(["lab", "copy_length", "--all"]) == 2
    with pytest.raises(SystemExit):
        main(["lab", "copy_length", "--seed", "-1"])
    assert "--seed: expected a whole number of at least 0, got '-1'" in capsys.readouterr().err


def test_all_carries_out_every_experiment_the_shortest_first(monkeypatch, tmp_path, capsys):
    done = []
    monkeypatch.setattr(running, "carry_out", lambda name, *rest: done.append((name, *rest[1:])))
    assert main(["lab", "--all", "--quick", "--out", str(tmp_path), "--seed", "3", "4", "3"]) == 0
    assert sorted(name for name, *_ in done) == sorted(find_experiments())
    minutes = [load_experiment(name).minutes for name, *_ in done]
    assert minutes == sorted(minutes) and {tuple(rest[1]) for _, *rest in done} == {(3, 4)}
