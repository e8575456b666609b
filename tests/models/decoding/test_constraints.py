"""Constraints: no output breaks one, and the search finds the best of all translations that keep to them."""

import itertools

import numpy as np
import pytest
import translators as t
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted, sentences
from tinygrad_attn_models.data import END, PAD, START, UNKNOWN
from tinygrad_attn_models.decoding.beam import beam_search
from tinygrad_attn_models.decoding.constraints import Constraints
from tinygrad_attn_models.decoding.greedy import greedy
from tinygrad_attn_models.decoding.translate import search, translate
from tinygrad_attn_models.luong import Luong
from tinygrad_attn_models.runs.config import ConfigError, DecodingConfig

import tinygrad_attn as ta

CONSTRAINTS = st.builds(
    Constraints, min_length=st.integers(0, 5), no_repeat_ngram_size=st.integers(0, 3), forbid_unknown=st.booleans()
)


def ngrams(tokens, size):
    return [tokens[i : i + size] for i in range(len(tokens) - size + 1)]


def keeps_to(tokens, constraints):
    """The constraints in other words, but for the least length."""
    size = constraints.no_repeat_ngram_size
    repeats = size > 0 and len(set(ngrams(tokens, size))) < len(ngrams(tokens, size))
    return not repeats and not (constraints.forbid_unknown and UNKNOWN in tokens)


def permitted(size, constraints, length):
    """All permitted translations of at most ``length`` tokens, ``</s>`` included: those that end, and those cut off."""
    symbols = [token for token in range(size) if token not in (PAD, START, END)]
    ended, cut_off = [], []
    for count in range(length + 1):
        for tokens in itertools.product(symbols, repeat=count):
            if not keeps_to(tokens, constraints):
                continue
            stuck = not any(keeps_to((*tokens, token), constraints) for token in symbols)
            if count == length:
                cut_off.append(tokens)
            elif count >= constraints.min_length or stuck:
                ended.append(tokens)
    return ended, cut_off


def log_probability(table, tokens, end):
    """Of the tokens, by the table's logits; with ``</s>`` if it has ended."""
    total, before = 0.0, START
    for place, token in enumerate([*tokens, END] if end else tokens):
        logits = table[min(place, len(table) - 1), before]
        total += logits[token] - np.log(np.exp(logits).sum())
        before = token
    return total


@st.composite
def tables(draw):
    """Logits (sentences, places, V, V), all different."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(4, 6))
    return generator.normal(scale=3.0, size=(draw(st.integers(1, 3)), draw(st.integers(1, 4)), size, size))


@given(tables(), CONSTRAINTS, st.integers(1, 4), st.sampled_from([0.0, 0.6, 2.0]))
def test_the_widest_beam_finds_the_best_of_all_that_are_permitted(table, constraints, length, alpha):
    found = beam_search(Scripted(table), *sentences(len(table)), length, 200, alpha, 5, constraints)
    for logits, hypotheses in zip(table, found, strict=True):
        ended, cut_off = permitted(table.shape[-1], constraints, length)
        ranked = []
        for group, end in ((ended, True), (cut_off, False)):
            scores = {
                tokens: log_probability(logits, tokens, end) / ((5 + len(tokens) + end) / 6) ** alpha
                for tokens in group
            }
            ranked += sorted(scores.items(), key=lambda pair: -pair[1])
        # Two translations may have the same probability, so not their order, but that of the scores is compared.
        np.testing.assert_allclose([hypothesis.score for hypothesis in hypotheses], [score for _, score in ranked[:5]])
        assert len({hypothesis.tokens for hypothesis in hypotheses}) == len(hypotheses)
        for hypothesis in hypotheses:
            np.testing.assert_allclose(hypothesis.score, dict(ranked)[hypothesis.tokens])


@given(tables(), CONSTRAINTS, st.integers(1, 12), st.integers(1, 4))
def test_no_output_breaks_a_constraint(table, constraints, length, width):
    model, (source, mask) = Scripted(table), sentences(len(table))
    found = [hypothesis.tokens for row in beam_search(model, source, mask, length, width, 0.6, width, constraints)
             for hypothesis in row]  # fmt: skip
    found += map(tuple, greedy(model, source, mask, length, constraints))
    symbols = [token for token in range(table.shape[-1]) if token not in (PAD, START, END)]
    for tokens in found:
        assert keeps_to(tokens, constraints)
        stuck = not any(keeps_to((*tokens, token), constraints) for token in symbols)
        assert len(tokens) >= min(constraints.min_length, length) or stuck


@given(tables(), CONSTRAINTS, st.integers(1, 12))
def test_greedy_takes_the_likeliest_that_is_permitted(table, constraints, length):
    found = greedy(Scripted(table), *sentences(len(table)), length, constraints)
    for logits, tokens in zip(table, found, strict=True):
        written, before = [], START
        while len(written) < length:
            row = logits[min(len(written), len(logits) - 1), before]
            choices = [token for token in range(3, len(row)) if keeps_to((*written, token), constraints)]
            if not choices or len(written) >= constraints.min_length:
                choices.append(END)
            before = max(choices, key=lambda token: row[token])
            if before == END:
                break
            written.append(before)
        assert tokens == written


@given(tables(), CONSTRAINTS, st.integers(1, 7))
def test_a_beam_of_one_is_greedy_under_constraints_too(table, constraints, length):
    source, mask = sentences(len(table))
    found = beam_search(Scripted(table), source, mask, length, 1, 0.6, 1, constraints)
    assert [list(row[0].tokens) for row in found] == greedy(Scripted(table), source, mask, length, constraints)


def test_repeats_stop_where_they_begin():
    model = Scripted(np.tile([0, 0, 0.5, 0, 2, 1.0], (1, 1, 6, 1)))  # 4 4 4 …
    source, mask = sentences(1)
    assert greedy(model, source, mask, 6) == [[4] * 6]
    assert greedy(model, source, mask, 6, Constraints(no_repeat_ngram_size=2)) == [[4, 4, 5, 4]]  # not 44, 45, 54 again
    assert greedy(model, source, mask, 6, Constraints(no_repeat_ngram_size=1)) == [[4, 5]]


@pytest.mark.parametrize("beam", [1, 3])
def test_the_settings_reach_the_search(beam):
    ta.manual_seed(5)
    model = Luong(t.SOURCE_SIZE, t.TARGET_SIZE, 4, 5, dtype=np.float64).eval()
    settings = DecodingConfig(beam=beam, max_length=9, min_length=5, no_repeat_ngram_size=2, unknown="forbid")
    source = [example for example, _ in t.EXAMPLES]
    for tokens in translate(model, source, settings):
        assert len(tokens) >= 5 and keeps_to(tuple(tokens), Constraints.of(settings))
    for row in search(model, source, settings, n_best=beam):
        for hypothesis in row:
            assert len(hypothesis.tokens) >= 5 and keeps_to(hypothesis.tokens, Constraints.of(settings))


def test_a_least_length_above_the_largest():
    with pytest.raises(ConfigError, match=r"decoding.min_length is 9, above decoding.max_length 8; lower it"):
        DecodingConfig(max_length=8, min_length=9)
