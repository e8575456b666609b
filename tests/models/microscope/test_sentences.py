"""Averages over many sentences: what plain NumPy says of each of them alone, and the checks of the badge."""

import json

import numpy as np
import plain_models
import pytest
from commands import refused
from looked_at import FEEDING, SOURCE, TARGET, make, plain
from tinygrad_attn_models import load
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.checks.sentences import find_sentence_identities
from tinygrad_attn_models.microscope.record import sentences
from tinygrad_attn_models.microscope.record.arrays import Store, decoded
from tinygrad_attn_models.microscope.record.example import Example, sentence
from tinygrad_attn_models.microscope.record.sentences import follow_among
from tinygrad_attn_models.microscope.record.spread import described_sentences
from tinygrad_attn_models.microscope.record.trace import in_float64, trace

import tinygrad_attn as ta
from tinygrad_attn import Tensor
from tinygrad_attn.autograd import grad
from tinygrad_attn.nn import functional as F

PAIRS = [(SOURCE, TARGET), ([4, 6, 5], [5, 4, 6, 7, 7]), ([8, 8, 7, 4, 5, 6, 4], [6]), ([5], [4, 4, 7])]
TEXTS = [[4, 6, 5, 7, 6, 5, 8], [4, 4, 5], [8, 8, 7, 6, 5, 4, 5, 6, 6]]
PARTS = {
    "count": len,
    "mean": np.mean,
    "error": lambda numbers: np.std(numbers, ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else None,
    "lower": lambda numbers: np.percentile(numbers, 25),
    "median": np.median,
    "upper": lambda numbers: np.percentile(numbers, 75),
}


def gpt():
    ta.manual_seed(3)
    return GPT(9, layers=2, heads=2, d_model=8, context=10, positions="rotary").eval()


def curve(data, name, of="", measure=""):
    key, curves = (name, of, measure), data["sentences"]["curves"]
    (found,) = [each for each in curves if (each["name"], each["of"], each["measure"]) == key]
    return found


def is_spread_of(found, rows, own, tolerance=1e-10):
    """A curve's numbers are those of each sentence's ``rows``, {place: number}."""
    assert found["places"] == sorted({place for row in rows for place in row})
    for k, place in enumerate(found["places"]):
        numbers = [row[place] for row in rows if place in row]
        size = max(numbers)
        for part, expected in PARTS.items():
            expected = expected(numbers)
            assert found[part][k] == (None if expected is None else pytest.approx(expected, abs=tolerance * size)), part
        assert found["own"][k] == (pytest.approx(own[place], abs=tolerance * size) if place in own else None)
        below = sum(x < own[place] - tolerance * size for x in numbers) if place in own else None
        assert found["below"][k] == below


def gradients_of_tokens(name, source, target):
    """By side ∂L_t/∂x_j, (T, S, E), in plain NumPy by complex steps."""
    weights = plain_models.float64_weights(make(name))
    texts = {"source": source, "target": [START, *target]}
    expected = [*target, END]
    found = {}
    for side in texts:
        weight = f"{side}_embedding.weight"
        rows = weights[weight][texts[side]]  # a row for each place, so that one place can move alone
        placed = {**texts, side: list(range(len(rows)))}
        found[side] = np.zeros((len(expected), *rows.shape))
        for cell in np.ndindex(rows.shape):
            moved = rows.astype(complex)
            moved[cell] += 1j * plain_models.H
            logits = plain(name)({**weights, weight: moved}, *placed.values(), plain_models.Probe())
            highest = logits.real.max(axis=-1, keepdims=True)
            losses = np.log(np.exp(logits - highest).sum(axis=-1)) - logits[np.arange(len(expected)), expected]
            found[side][:, cell[0], cell[1]] = losses.imag / plain_models.H
    return found


def rows_of(gradients):
    """By curve {place: number} of one sentence, in loops."""
    found = {}
    norms = {side: np.linalg.norm(each, axis=-1) for side, each in gradients.items()}
    means = {side: np.linalg.norm(each.mean(axis=0), axis=-1) for side, each in gradients.items()}
    of_token = sum(each.sum(axis=1) for each in norms.values())
    of_all = sum(each.sum() for each in means.values())
    for side, each in norms.items():
        tokens, symbols = each.shape
        at = {"norm": {}, "share": {}}
        for t in range(tokens):
            for j in range(symbols):
                distance = (symbols - 1 - j) + (t + 1) if side == "source" else t - j
                if distance >= 0:
                    at["norm"].setdefault(distance, []).append(each[t, j])
                    at["share"].setdefault(distance, []).append(each[t, j] / of_token[t])
        for measure, numbers in at.items():
            found["distance", side, measure] = {place: np.mean(those) for place, those in numbers.items()}
        found["position", side, "norm"] = dict(enumerate(means[side]))
        found["position", side, "share"] = dict(enumerate(means[side] / of_all))
    return found


@pytest.mark.parametrize("name", ["bahdanau", "transformer", "seq2seq", FEEDING[0]])
def test_averages_are_those_of_plain_numpy_sentence_by_sentence(name):
    data = microscope(make(name), *PAIRS[0], sentences=PAIRS).data
    assert data["check"]["ok"], data["check"]["failures"]
    rows = [rows_of(gradients_of_tokens(name, *pair)) for pair in PAIRS]
    assert {(c["name"], c["of"], c["measure"]) for c in data["sentences"]["curves"] if c["measure"]} == set(rows[0])
    for key in rows[0]:
        is_spread_of(curve(data, *key), [row[key] for row in rows], rows[0][key])


def test_a_text_has_one_side():
    data = microscope(gpt(), TEXTS[0], sentences=TEXTS).data
    model, rows = in_float64(gpt()), []
    for text in TEXTS:
        x = Tensor(model.embedding(Tensor(np.array([text[:-1]]))).array, requires_grad=True)
        h = x
        for block in model.blocks:
            h = block(h)
        each = []
        for t, said in enumerate(text[1:]):
            loss = F.cross_entropy(model._logits(h)[0, t : t + 1], Tensor(np.array([said])))
            each.append(grad(loss, [x], retain_graph=True)[0].array[0])
        rows.append(rows_of({"target": np.array(each)}))
    assert {(c["name"], c["of"], c["measure"]) for c in data["sentences"]["curves"] if c["measure"]} == set(rows[0])
    for key in rows[0]:
        is_spread_of(curve(data, *key), [row[key] for row in rows], rows[0][key])


@pytest.mark.parametrize("name", ["bahdanau", "transformer"])
def test_losses_and_heads_are_those_of_each_sentences_own_page(name):
    model = make(name)
    pairs = PAIRS[:3] if name == "bahdanau" else PAIRS[:2]
    data = microscope(model, *pairs[1], sentences=pairs).data
    pages = [microscope(model, *pair).data for pair in pairs]
    is_spread_of(curve(data, "loss"), [{0: page["meta"]["loss"]} for page in pages], {0: pages[1]["meta"]["loss"]})
    for n, site in enumerate(pages[0]["heads"]):
        for kind, key in (("entropy", "entropy"), ("gradient", "gradient_norms")):
            rows = [dict(enumerate(page["heads"][n][key])) for page in pages]
            is_spread_of(curve(data, kind, site["site"]), rows, rows[1])
    assert data["sentences"]["texts"][1] == ("4 6 5", "5 4 6 7 7")


def test_every_sentences_numbers_are_kept():
    data = microscope(make("bahdanau"), *PAIRS[0], sentences=PAIRS).data
    for each in data["sentences"]["curves"]:
        values = decoded(data["arrays"][each["values"]])
        assert values.shape == (len(PAIRS), len(each["places"]))
        np.testing.assert_allclose(np.nanmean(values, axis=0), each["mean"], rtol=1e-14)
        np.testing.assert_array_equal(np.sum(~np.isnan(values), axis=0), each["count"])


def test_pieces_of_a_batch_of_copies_give_the_same(monkeypatch):
    pairs = [PAIRS[1], PAIRS[3]]
    whole = microscope(make("bahdanau"), *PAIRS[3], sentences=pairs).data
    monkeypatch.setattr(sentences, "_SYMBOLS", 1)
    pieces = microscope(make("bahdanau"), *PAIRS[3], sentences=pairs).data
    for one, other in zip(whole["sentences"]["curves"], pieces["sentences"]["curves"], strict=True):
        np.testing.assert_allclose(one["mean"], other["mean"], rtol=1e-12)


# -- the checks --------------------------------------------------------------------------------------------------------

NAMES = {"tokens_mean_of_sentences", "shown_among_sentences", "averages_recomputed", "shares_sum_to_one"}


@pytest.fixture
def found():
    """The averages, what they were taken of, and a function that checks them: the names of the checks that fail."""
    model, pair = in_float64(make("bahdanau")), PAIRS[0]
    example = Example(sentence(pair[0], None), sentence(pair[1], None), None)
    traced = trace(model, *pair)
    among = follow_among(model, PAIRS, None, traced, example)
    shown = described_sentences(among, Store())

    def failing():
        identities = list(find_sentence_identities(among, shown, traced))
        assert {each["name"] for each in identities} == NAMES
        assert all(each["worst"] <= 1e-12 for each in identities if each["holds"])
        return {each["name"] for each in identities if not each["holds"]}

    return among, shown, failing


def test_the_checks_hold(found):
    assert found[2]() == set()


@pytest.mark.parametrize("part", ["mean", "error", "lower", "median", "upper", "count"])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_wrong_average_is_noticed(found, part, which):
    _, shown, failing = found
    shown["curves"][which][part][0] += 1 if part == "count" else 1e-9
    assert failing() == {"averages_recomputed"}


def test_a_wrong_gradient_is_noticed(found):
    among, _, failing = found
    side = among.own.sides["source"]
    side.each[1, 2] *= 1 + 1e-8
    assert failing() == {"shown_among_sentences"}
    among.followed[1].sides["source"].each[0, 1] *= 1 + 1e-8
    assert "averages_recomputed" in failing()
    object.__setattr__(among.followed[2], "off", 1e-9)
    assert "tokens_mean_of_sentences" in failing()


def test_a_model_that_is_sure_of_all_is_not_called_wrong():
    for scale in (3.0, 30.0, 300.0):
        model = make("bahdanau")
        model.output.weight.array[:] *= scale
        data = microscope(model, [4, 6, 5], sentences=[[4, 6, 5], [5, 5]]).data
        failures = [each for each in data["check"]["failures"] if each["site"] == "sentences"]
        assert failures == [], scale


# -- what is asked for -------------------------------------------------------------------------------------------------


def test_without_being_asked_there_are_none():
    assert microscope(make("bahdanau"), SOURCE, TARGET).data["sentences"] is None


def test_sources_alone_are_translated():
    data = microscope(make("bahdanau"), SOURCE, sentences=[([4, 6], [5]), ([7, 7], [6, 6])]).data
    assert data["sentences"]["split"] == "given" and data["sentences"]["texts"] == [("4 6", "5"), ("7 7", "6 6")]


def test_what_is_not_finite_is_left_out():
    model = make("bahdanau")
    model.source_embedding.weight.array[8] = np.nan
    data = microscope(model, SOURCE, TARGET, sentences=PAIRS).data["sentences"]
    assert data["count"] == len(PAIRS) - 1 and data["left_out"] == 1
    model.source_embedding.weight.array[:] = np.nan
    assert microscope(model, SOURCE, TARGET, sentences=PAIRS).data["sentences"] is None


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (5, {}, "a number of sentences is drawn from a run's test set"),
        (0, {}, "expected at least 1, got 0"),
        ("4 5", {}, "got one text; put it in a list"),
        ([([4], [5], [6])], {}, r"expected \(source, target\) or a source, got"),
        ([], {}, "none that the model can read"),
        ([([], [4])], {}, "the source is empty"),
        (PAIRS, {"broken": "softmax-without-second-term"}, "leave out sentences, or broken"),
    ],
)
def test_what_cannot_be(given, options, message):
    with pytest.raises(UserError, match=message):
        microscope(make("bahdanau"), SOURCE, TARGET, sentences=given, **options)


def test_of_a_loss_of_ones_own_there_are_none():
    module = ta.nn.Linear(3, 2)
    with pytest.raises(UserError, match="no target, run, beside or sentences"):
        microscope(module, ta.randn(1, 3), loss=lambda output: output.sum(), sentences=PAIRS)


def test_of_a_run_they_are_drawn_from_the_test_set(trained, tmp_path, capsys):
    pages = []
    for name in ("one.json", "two.json"):
        path = tmp_path / name
        assert main(["microscope", str(trained), "2026", "--sentences", "3", "--out", str(path)]) == 0
        pages.append(json.loads(path.read_text(encoding="utf-8"))["sentences"])
    assert pages[0] == pages[1] and pages[0]["split"] == "test" and pages[0]["count"] == 3
    test = {tuple(pair) for pair in load(str(trained)).text.test}
    assert {tuple(text) for text in pages[0]["texts"]} <= test and len({tuple(t) for t in pages[0]["texts"]}) == 3
    capsys.readouterr()


@pytest.mark.slow
def test_more_than_there_are_gives_all(trained):
    model = load(str(trained))
    found = model.microscope("2026", sentences=1000).data["sentences"]
    assert found["count"] + found["left_out"] == len(model.text.test)


def test_a_files_lines(trained, tmp_path, capsys):
    lines, page = tmp_path / "lines.txt", tmp_path / "page.json"
    lines.write_text("4 May 2026\t2026-05-04\n\n2 June 1990\n", encoding="utf-8")
    command = ["microscope", str(trained), "2026", "--out", str(page), "--file", str(lines)]
    assert main(command) == 0
    found = json.loads(page.read_text(encoding="utf-8"))["sentences"]
    assert found["count"] == 2 and found["split"] == "given" and found["texts"][0] == ["4 May 2026", "2026-05-04"]
    assert found["texts"][1][0] == "2 June 1990"
    assert main([*command, "--sentences", "1"]) == 0
    assert json.loads(page.read_text(encoding="utf-8"))["sentences"]["count"] == 1
    capsys.readouterr()
    lines.write_text("\n", encoding="utf-8")
    refused(capsys, command, f"{lines} has no sentences")
    refused(capsys, [*command[:-1], tmp_path / "none"], "cannot be read")
    refused(capsys, ["microscope", trained, "2026", "--sentences", "0"], "--sentences", "at least 1")


@pytest.mark.slow
def test_the_terminal_has_the_averages(trained, capsys):
    assert main(["microscope", str(trained), "2026", "--sentences", "3", "--view", "term"]) == 0
    out = capsys.readouterr().out
    assert "Averages over 3 sentences of the test set" in out and "|dL_t/dx| by distance from the token" in out
    assert "entropy by head, attention" in out


def test_pieces_of_a_text(storyteller, tmp_path, capsys):
    model, page, lines = load(storyteller), tmp_path / "page.json", tmp_path / "lines.txt"
    found = model.microscope("Mina has", sentences=4).data["sentences"]
    assert found["count"] == 4 and found["split"] == "test"
    for source, text in found["texts"]:
        assert source is None and text in model.text.test
        assert len(model.run.target.encode(text)) == model.module.context + 1
    lines.write_text("Mina\nMina is\n", encoding="utf-8")
    assert main(["microscope", storyteller, "Mina has", "--file", str(lines), "--out", str(page)]) == 0
    assert json.loads(page.read_text(encoding="utf-8"))["sentences"]["texts"] == [[None, "Mina"], [None, "Mina is"]]
    capsys.readouterr()
