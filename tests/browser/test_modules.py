"""The page of a module that is no translator, in a real browser: every view opens, and says what cannot be shown."""

import pytest
from tinygrad_attn_models.microscope import microscope
from views import show, tabs

import tinygrad_attn as ta
from tinygrad_attn import nn


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("attends", [True, False])
def test_every_view_opens(visit, tmp_path, language, attends):
    ta.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    model = model if attends else nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
    microscope(model, ta.randn(2, 5, 8), loss=lambda y: (y * y * y).mean()).save(tmp_path / "page.html")
    page = visit(tmp_path / "page.html", locale=language)
    assert ("steps" in tabs(page)) == attends
    for view in tabs(page):
        show(page, view)
        page.wait_for_timeout(100)
    show(page, "summary")
    assert page.locator("#missing li").count() == (3 if attends else 1)
    assert "float64 (2, 5, 8)" in page.locator(".pair").inner_text()
