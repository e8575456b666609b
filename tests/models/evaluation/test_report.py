"""An evaluation: its figures, how they are grouped, and the file that keeps them."""

import dataclasses
import itertools
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.data import Batches, DataError, encode_pairs
from tinygrad_attn_models.evaluation.bleu import BleuSettings, References
from tinygrad_attn_models.evaluation.metrics import TeacherForced, measure, teacher_forced
from tinygrad_attn_models.evaluation.plots import plot_bleu_by_length
from tinygrad_attn_models.evaluation.report import EVALUATION, Evaluation, buckets, describe_decoding, evaluate
from tinygrad_attn_models.runs.config import DecodingConfig, load_config
from tinygrad_attn_models.runs.folder import Run, RunError


@pytest.fixture(scope="module")
def evaluated(trained):
    """The tiny run, its model, its test pairs, and their evaluation."""
    run, model = Run.load(trained)
    pairs = run.config.data.load().test
    told = []
    found = evaluate(run, model, "test", pairs, run.config.decoding, BleuSettings("char"), told.append)
    assert sum(told) == len(pairs) == 10
    return run, model, pairs, found


def test_the_figures_are_those_of_training(evaluated):
    run, model, pairs, found = evaluated
    references = References.of(pairs, run.source, run.target, BleuSettings("char"))
    expected = measure(model, encode_pairs(pairs, run.source, run.target), run.config.decoding, references)
    assert found.scores.bleu == expected.bleu
    assert found.scores.pairs == expected.pairs
    assert found.scores.exact_match == expected.exact_match
    assert found.scores.token_accuracy_teacher_forced == pytest.approx(expected.teacher_forced.accuracy)
    assert found.scores.perplexity_teacher_forced == pytest.approx(expected.teacher_forced.perplexity)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_what_changes_translations_is_told():
    changed = {"length_penalty": 0.7, "min_length": 2, "no_repeat_ngram_size": 3, "unknown": "forbid", "int8": True}
    silent = {"batch_size", "max_length", "beam"}  # the last has its own words
    assert changed.keys() | silent == DecodingConfig.types().keys()
    told = {describe_decoding(DecodingConfig(beam=4, **{name: value})) for name, value in changed.items()}
    assert len(told | {describe_decoding(DecodingConfig(beam=4)), describe_decoding(DecodingConfig())}) == 7


def test_every_pair_is_in_one_group_of_its_length(evaluated):
    run, _, pairs, found = evaluated
    for row in found.by_source_length:
        here = [source for source, _ in pairs if row.shortest <= len(run.source.encode(source)) <= row.longest]
        assert row.scores.pairs == len(here) > 0
    assert sum(row.scores.pairs for row in found.by_source_length) == len(pairs)


def test_settings_of_decoding_and_comparison_are_used_and_told(evaluated):
    run, model, pairs, _ = evaluated
    settings = DecodingConfig(beam=3, max_length=2)
    found = evaluate(run, model, "test", pairs, settings, BleuSettings("none", lowercase=True))
    assert found.decoding == settings
    assert found.scores.exact_match == 0.0  # two symbols are no date
    assert "tok:none" in found.bleu_signature
    assert "case:lc" in found.bleu_signature
    assert ("eff:no" in found.bleu_signature, "eff:yes" in found.bleu_signature_by_source_length) == (True, True)


def test_a_perfect_model(evaluated, monkeypatch):
    run, model, pairs, _ = evaluated
    targets = [run.target.encode(target) for _, target in pairs]
    monkeypatch.setattr("tinygrad_attn_models.evaluation.report.translate", lambda *arguments: targets)
    found = evaluate(run, model, "test", pairs, run.config.decoding, BleuSettings("char"))
    for scores in (found.scores, *(row.scores for row in found.by_source_length)):
        assert scores.bleu == pytest.approx(100.0)
        assert scores.chrf == pytest.approx(100.0)
        assert scores.exact_match == 1.0


def test_no_pairs(evaluated):
    run, model, _, _ = evaluated
    with pytest.raises(DataError, match="the valid set is empty"):
        evaluate(run, model, "valid", [], run.config.decoding, BleuSettings())


def test_parts_together_are_the_whole(evaluated):
    run, model, pairs, _ = evaluated
    examples = encode_pairs(pairs, run.source, run.target)
    parts = [teacher_forced(model, Batches(part, batch_size=2).in_order()) for part in (examples[:3], examples[3:])]
    whole = teacher_forced(model, Batches(examples, batch_size=20).in_order())
    for name, value in dataclasses.asdict(TeacherForced.pooled(parts)).items():
        assert value == pytest.approx(getattr(whole, name))


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60))
def test_groups_of_lengths(lengths):
    found = buckets(lengths)
    assert len(found) <= 12
    assert len({longest - shortest for shortest, longest in found}) == 1
    for (_, longest), (following, _) in itertools.pairwise(found):
        assert longest < following
    for length in lengths:
        assert sum(shortest <= length <= longest for shortest, longest in found) == 1
    for shortest, longest in found:
        assert any(shortest <= length <= longest for length in lengths)


def test_few_lengths_are_kept_apart():
    assert buckets([6, 15, 7]) == [(6, 6), (7, 7), (15, 15)]
    assert buckets(range(1, 31))[:2] == [(1, 5), (6, 10)]


def test_it_is_kept_by_split(evaluated, tmp_path):
    found = evaluated[-1]
    other = dataclasses.replace(found, split="valid", seed=7)
    (tmp_path / EVALUATION).write_text("no JSON", encoding="utf-8")  # of no use to anybody
    for evaluation in (found, other):
        evaluation.save(tmp_path)
        plot_bleu_by_length({evaluation.model: evaluation}, tmp_path / "bleu_by_length_test.png")
    assert Evaluation.load(tmp_path, "test") == found
    assert Evaluation.load(tmp_path, "valid") == other
    assert (tmp_path / "bleu_by_length_test.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((tmp_path / EVALUATION).read_text(encoding="utf-8"))["test"]
    assert {"config", "seed", "versions", "decoding", "bleu_signature", "chrf_signature"} <= set(stored)
    assert "sacrebleu" in stored["versions"]


def test_evaluations_that_cannot_be_had(evaluated, tmp_path):
    command = "python -m models evaluate"
    with pytest.raises(RunError, match="there is no run folder"):
        Evaluation.load(tmp_path / "none", "test")
    with pytest.raises(RunError, match=f"is not evaluated yet; do so with: {command} .* --split test"):
        Evaluation.load(tmp_path, "test")
    evaluated[-1].save(tmp_path)
    with pytest.raises(RunError, match=f"is not evaluated on valid yet; do so with: {command} .* --split valid"):
        Evaluation.load(tmp_path, "valid")
    for content in ("{", "[]", '{"test": {"scores": 1}}', '{"test": []}'):
        (tmp_path / EVALUATION).write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match=r"evaluation\.json is (no evaluation|damaged)|not evaluated on test"):
            Evaluation.load(tmp_path, "test")
    shutil.rmtree(tmp_path)


def run_of(**settings):
    """A run that is written nowhere, with limits low enough for any model."""
    lengths = {"data.max_length": 2, "decoding.max_length": 2}
    config = load_config(None, lengths | {f"model.{name}": value for name, value in settings.items()})
    return Run("", config, None, None)


def test_a_sentence_longer_than_the_model_can_read():
    run_of(name="transformer", max_length=3).refuse_too_long([[4] * 9])
    run_of(name="luong", score="location", max_length=3).refuse_too_long([[4] * 3, []])
    for options in ({"name": "transformer", "positions": "learned"}, {"name": "luong", "score": "location"}):
        with pytest.raises(DataError, match=r"has 4 symbols, but this model reads 3 at most; .*model\.max_length=4"):
            run_of(max_length=3, **options).refuse_too_long([[4], [4] * 4])
    with pytest.raises(DataError, match=r"^here:source:1 has 4 symbols.* \(1 more is too long\)$"):
        run_of(max_length=3, **options).refuse_too_long([[4], [4] * 4, [4] * 4], (), "here:{}:{}".format)


def test_a_target_longer_than_the_decoder_can_read():
    run_of(name="luong", score="location", max_length=3).refuse_too_long([[4]], [[4] * 9])
    learned = run_of(name="transformer", positions="learned", max_length=3)
    learned.refuse_too_long([[4] * 3], [[4] * 2])
    with pytest.raises(DataError, match=r"target 1 has 3 .* reads 2 at most; .*model\.max_length=4"):
        learned.refuse_too_long([[4]], [[4] * 3])
