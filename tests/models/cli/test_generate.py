"""The commands generate and score, and the same from Python."""

import dataclasses
import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from children import Child
from tinygrad_attn_models import load
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.cli.parser import make_parser
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.decoding.generate import Sampling
from tinygrad_attn_models.interface import LanguageModel
from tinygrad_attn_models.trained import TrainedModel

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn
from tinygrad_attn.nn import functional as F

# -- generate ----------------------------------------------------------------------------------------------------------


def test_the_text_is_printed_after_the_prompt(storyteller, capsys):
    assert main(["generate", storyteller, "Mina has", "--length", "20", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Mina has") and out.endswith("\n") and len(out) == 29
    pieces = list(load(storyteller).generate("Mina has", length=20, seed=3))
    assert "Mina has" + "".join(pieces) + "\n" == out
    main(["generate", storyteller, "Mina has", "--length", "20", "--seed", "4"])
    assert capsys.readouterr().out != out


def test_every_piece_is_flushed(storyteller, monkeypatch):
    screen, flushed = io.StringIO(), []
    screen.flush = lambda: flushed.append(len(screen.getvalue()))
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["generate", storyteller, "Mina", "--length", "5", "--seed", "1"]) == 0
    assert set(range(5, 10)) <= set(flushed)  # the prompt with the first


def test_a_reader_that_has_enough_ends_it(storyteller):
    command = [sys.executable, "-m", "tinygrad_attn_models", "generate", storyteller, "Mina", "--length", "1000000"]
    with Child(command, stdout=subprocess.PIPE) as process:
        assert len(process.stdout.read(200)) == 200
        process.stdout.close()  # as head does
        assert process.wait(60) == 141


def test_what_ends_it_is_told_on_a_line_of_its_own(storyteller, capsys, monkeypatch):
    def interrupted(*_, **__):
        yield from "ab"
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainedModel, "generate", interrupted)
    assert main(["generate", storyteller, "Mina "]) == 130
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("Mina ab\n", "interrupted\n")


def test_an_end(storyteller, capsys):
    main(["generate", storyteller, "Mina", "--length", "60", "--seed", "1"])
    whole = capsys.readouterr().out.removesuffix("\n")
    stop = whole[20:22]
    main(["generate", storyteller, "Mina", "--length", "60", "--seed", "1", "--stop", stop, "--stop", "zzz"])
    assert capsys.readouterr().out == whole[: whole.index(stop, 4)] + "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--temperature", "-1"], "temperature must be at least 0"),
        (["--top-p", "0"], "top_p must be more than 0"),
        (["--stop", ""], "stop must be texts that are not empty"),
    ],
)
def test_what_cannot_be_generated(storyteller, capsys, words, message):
    assert main(["generate", storyteller, "Mina", *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_unknown_characters_are_named(storyteller, capsys):
    assert main(["generate", storyteller, "Mina hat fünf", "--length", "1"]) == 0
    assert "unknown to the model in 'Mina hat fünf': ü" in capsys.readouterr().err
    many = "".join(map(chr, range(0xAC00, 0xAC00 + 30)))
    assert main(["generate", storyteller, many, "--length", "1"]) == 0
    assert capsys.readouterr().err.endswith(f": {' '.join(many[:20])} …\n")


def test_the_options_are_those_of_sampling():
    given = make_parser().parse_args(["generate", "run"])
    assert {field.name: getattr(given, field.name) for field in dataclasses.fields(Sampling)} == {
        **dataclasses.asdict(Sampling()), "stop": []
    }  # fmt: skip


def test_an_error_of_the_first_symbol_is_a_line_of_its_own(storyteller, capsys, monkeypatch):
    model = load(storyteller)
    model.module.embedding.weight.array[:] = np.nan
    monkeypatch.setattr(TrainedModel, "load", lambda run: model)
    assert main(["generate", "RUN", "Mina"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "have diverged" in captured.err and captured.err.count("\n") == 1


def test_translators_do_not_generate(storyteller, trained, capsys):
    assert main(["generate", str(trained), "1 May"]) == 2
    assert "is a translator (bahdanau), which needs a source; use" in capsys.readouterr().err
    with pytest.raises(TypeError, match="there is no option of generate 'heat'"):
        load(storyteller).generate("a", heat=1)


# -- score -------------------------------------------------------------------------------------------------------------


def test_the_score_of_a_text_longer_than_the_context(storyteller):
    model = load(storyteller)
    text = "Mina has nine red apples. She gives four to Tom."
    ids = np.array(model.run.target.encode(text))
    expected = []
    for first in range(0, len(ids) - 1, 16):
        window = ids[first : first + 17]
        logits = model.module(Tensor(window[None, :-1]))[0]
        expected += (-F.cross_entropy(logits, Tensor(window[1:]), reduction="none").array).tolist()
    found = model.score(text)
    np.testing.assert_allclose([token.log_probability for token in found.tokens], expected, rtol=1e-5)
    assert "".join(token.symbol for token in found.tokens) == text[1:]
    assert found.log_probability == pytest.approx(sum(expected), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(-np.mean(expected)), rel=1e-5)


def test_the_score_of_a_translation(trained, capsys):
    model = load(trained)
    found = model.score("2020-05-01", "1 May 2020")
    assert [token.symbol for token in found.tokens] == [*"2020-05-01", "</s>"]
    source, target = (
        tokenizer.encode(text) for tokenizer, text in zip(model.tokenizers, ["1 May 2020", "2020-05-01"], strict=True)
    )
    given = Tensor(np.array([source])), Tensor(np.ones((1, len(source)), bool))
    logits = model.module(*given, Tensor(np.array([[1, *target]])))[0]
    expected = -F.cross_entropy(logits, Tensor(np.array([*target, 2])), reduction="none").array
    np.testing.assert_allclose([token.log_probability for token in found.tokens], expected, rtol=1e-5)
    assert main(["score", str(trained), "1 May 2020", "2020-05-01", "--json"]) == 0
    *tokens, whole = map(json.loads, capsys.readouterr().out.splitlines())
    assert [token["token"] for token in tokens] == [*"2020-05-01", "</s>"]
    assert whole["tokens"] == 11 and whole["log_probability"] == pytest.approx(found.log_probability)
    assert whole["perplexity"] == pytest.approx(found.perplexity)


def test_the_table(storyteller, capsys):
    assert main(["score", storyteller, "To m\n"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:4]] == ["o", "␣", "m", "↵"]
    assert "log-probability of 4 tokens" in lines[4] and lines[5].endswith("  perplexity per token")
    assert main(["score", storyteller, "To"]) == 0
    assert "log-probability of 1 token, in nats" in capsys.readouterr().out


def test_unknown_symbols_of_source_and_translation_are_named(storyteller, trained, capsys):
    assert main(["score", str(trained), "1 ☃ May", "2020 ü"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: unknown to the model in '1 ☃ May': ☃", "warning: unknown to the model in '2020 ü':   ü"
    ]  # fmt: skip
    assert main(["score", storyteller, "Mina ☃"]) == 0
    assert capsys.readouterr().err == "warning: unknown to the model in 'Mina ☃': ☃\n"


class Sentences(LanguageModel):
    """Reads sentences between <s> and </s>; each symbol depends on the last alone."""

    delimited = True

    def __init__(self, symbols):
        super().__init__()
        self.embedding, self.output = nn.Embedding(symbols, 6), nn.Linear(6, symbols)

    def forward(self, text):
        return self.output(self.embedding(text))


@pytest.mark.parametrize("text", ["To m", "T"])
def test_the_score_of_a_sentence_is_of_its_first_symbol_and_its_end_too(storyteller, text):
    ta.manual_seed(0)
    run = load(storyteller).run
    model = TrainedModel(run, Sentences(len(run.target)))
    found = model.score(text)
    assert [token.symbol for token in found.tokens] == [*text, "</s>"]
    ids = run.target.encode(text)
    logits = model.module(Tensor(np.array([[START, *ids]])))[0]
    expected = -F.cross_entropy(logits, Tensor(np.array([*ids, END])), reduction="none").array
    np.testing.assert_allclose([token.log_probability for token in found.tokens], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "texts", "message"),
    [
        ("text", ["a", "b"], "needs one text (quote what has blanks); got 2 texts"),
        ("text", ["a"], "a text of one symbol"),
        ("text", [""], "the text is empty"),
        ("pairs", ["1 May"], "needs a source and its translation; got 1 text"),
        ("pairs", ["", "2020"], "the source is empty"),
    ],
)
def test_what_cannot_be_scored(storyteller, trained, capsys, kind, texts, message):
    assert main(["score", storyteller if kind == "text" else str(trained), *texts]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
