"""Beam search: against all translations that there are, against greedy decoding, and in what it costs."""

import itertools
import math

import numpy as np
import pytest
import translators as t
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted, sentences
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.data import END, PAD, START, UNKNOWN, pad
from tinygrad_attn_models.decoding.beam import beam_search
from tinygrad_attn_models.decoding.greedy import greedy
from tinygrad_attn_models.luong import Luong
from tinygrad_attn_models.seq2seq import Seq2Seq
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta
from tinygrad_attn import Tensor, no_grad
from tinygrad_attn.nn import functional as F

SIZES = (t.SOURCE_SIZE, t.TARGET_SIZE)
MODELS = {
    "seq2seq": lambda: Seq2Seq(*SIZES, 4, 5, layers=2, dtype=np.float64),
    "luong": lambda: Luong(*SIZES, 4, 5, input_feeding=True, dtype=np.float64),
    "bahdanau": lambda: Bahdanau(*SIZES, 4, 5, dtype=np.float64),
    "transformer": lambda: Transformer(*SIZES, 4, 2, 1, 2, 6, dropout=0.0, dtype=np.float64),
}
TOKENS = [token for token in range(t.TARGET_SIZE) if token not in (PAD, START, END)]


@pytest.fixture(params=MODELS)
def model(request):
    """A model whose opinions are pronounced, though it has learned nothing."""
    ta.manual_seed(3)
    made = MODELS[request.param]().eval()
    for parameter in made.parameters():
        parameter.array[...] *= 2.0
    return made


def all_translations(model, source, length, alpha):
    """Every translation of one sentence of at most ``length`` tokens, ``</s>`` included: the scores of those that have
    ended, and of those cut off, by tokens."""
    found = {True: {}, False: {}}
    for count in range(length + 1):
        written = np.array(list(itertools.product(TOKENS, repeat=count)), dtype=np.int64).reshape(
            len(TOKENS) ** count, count
        )
        ended = count < length
        target_in = np.pad(written, ((0, 0), (1, 0)), constant_values=START)[:, : length if not ended else None]
        target_out = np.pad(written, ((0, 0), (0, 1)), constant_values=END) if ended else written
        sources = np.tile(source, (len(written), 1))
        with no_grad():
            logits = model(Tensor(sources), Tensor(np.ones(sources.shape, dtype=bool)), Tensor(target_in))
            log_softmax = F.log_softmax(logits, dim=-1).array
        totals = np.take_along_axis(log_softmax, target_out[..., None], -1).sum(axis=(1, 2))
        penalty = ((5 + target_out.shape[1]) / 6) ** alpha
        found[ended] |= dict(zip(map(tuple, written.tolist()), (totals / penalty).tolist(), strict=True))
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_the_widest_beam_finds_the_best_of_all_translations(model, alpha):
    length, count = 4, 90
    source, mask = pad([source for source, _ in t.EXAMPLES])
    found = beam_search(model, source, mask, length, width=600, length_penalty=alpha, n_best=count)
    for row, (sentence, _) in zip(found, t.EXAMPLES, strict=True):
        expected = all_translations(model, sentence, length, alpha)
        ranked = [
            (tokens, score, ended)
            for ended in (True, False)
            for tokens, score in sorted(expected[ended].items(), key=lambda item: -item[1])
        ]
        assert sum(ended for _, _, ended in ranked) == 85
        assert [(hypothesis.tokens, hypothesis.ended) for hypothesis in row] == [
            (tokens, ended) for tokens, _, ended in ranked[:count]
        ]
        np.testing.assert_allclose(
            [hypothesis.score for hypothesis in row], [score for _, score, _ in ranked[:count]], **t.EXACT
        )
        best = beam_search(model, *pad([sentence]), length, width=600, length_penalty=alpha)
        assert best[0][0].tokens == ranked[0][0]


def test_a_beam_of_one_is_greedy(model):
    source, mask = pad([source for source, _ in t.EXAMPLES])
    for length in (1, 3, 12):
        found = beam_search(model, source, mask, length, width=1)
        assert [list(row[0].tokens) for row in found] == greedy(model, source, mask, length)


@st.composite
def scripts(draw):
    """Tables of few different logits, so that equals are common, and how to search."""
    count, places, size = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(4, 7))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = generator.integers(0, draw(st.integers(1, 6)), (count, places, size, size)) * draw(
        st.sampled_from([0.5, 3.0])
    )
    return table, draw(st.integers(1, 6)), draw(st.integers(1, 7)), draw(st.sampled_from([0.0, 0.6, 1.5]))


@given(scripts())
def test_a_beam_of_one_is_greedy_among_equals_too(script):
    table, _, length, alpha = script
    source, mask = sentences(len(table))
    found = beam_search(Scripted(table), source, mask, length, 1, alpha)
    assert [list(row[0].tokens) for row in found] == greedy(Scripted(table), source, mask, length)


@given(scripts())
def test_sentences_do_not_know_of_each_other(script):
    table, width, length, alpha = script
    source, mask = sentences(len(table))
    together = beam_search(Scripted(table), source, mask, length, width, alpha, n_best=width)
    for i in range(len(table)):
        assert beam_search(Scripted(table), source[i : i + 1], mask[:1], length, width, alpha, width) == [together[i]]


@given(scripts())
def test_what_is_found_is_what_it_says(script):
    """Translations differ, come in their order, and have the probability that the table gives them."""
    table, width, length, alpha = script
    exponents = np.exp(table)
    log_probabilities = np.log(exponents / exponents.sum(axis=-1, keepdims=True))
    found = beam_search(Scripted(table), *sentences(len(table)), length, width, alpha, n_best=width)
    for i, row in enumerate(found):
        assert 1 <= len(row) <= width
        assert len({(hypothesis.tokens, hypothesis.ended) for hypothesis in row}) == len(row)
        assert sorted(row, key=lambda hypothesis: (not hypothesis.ended, -hypothesis.score)) == row
        for hypothesis in row:
            written = [START, *hypothesis.tokens, *([END] if hypothesis.ended else [])]
            assert not {PAD, START, END} & set(hypothesis.tokens)
            assert len(written) - 1 == length if not hypothesis.ended else len(written) - 1 <= length
            total = sum(
                log_probabilities[i, min(place, table.shape[1] - 1), before, after]
                for place, (before, after) in enumerate(itertools.pairwise(written))
            )
            assert hypothesis.log_probability == pytest.approx(total)
            assert hypothesis.score == pytest.approx(total / ((4 + len(written)) / 6) ** alpha)


@given(scripts(), st.data())
def test_the_best_do_not_depend_on_how_many_are_asked_for(script, data):
    """A sentence is given up early only where nothing better could come."""
    table, width, length, alpha = script
    source, mask = sentences(len(table))
    count = data.draw(st.integers(1, width))
    few = beam_search(Scripted(table), source, mask, length, width, alpha, n_best=count)
    many = beam_search(Scripted(table), source, mask, length, width, alpha, n_best=width)
    for found, row in zip(few, many, strict=True):
        assert [(hypothesis.score, hypothesis.ended) for hypothesis in found] == [
            (hypothesis.score, hypothesis.ended) for hypothesis in row[:count]
        ]


def plainly(log_probabilities, width, length, alpha):
    """The search as its docstring has it, for one sentence: tokens of those that have ended, then of those cut off."""
    going_on, ended = [((START,), 0.0)], []

    def score(pair):
        return pair[1] / ((5 + len(pair[0]) - 1) / 6) ** alpha

    def over():
        best = sorted(map(score, ended), reverse=True)[:width]
        return len(best) == width and (width == 1 or best[-1] >= going_on[0][1] / ((5 + length) / 6) ** alpha)

    while going_on and len(going_on[0][0]) <= length and not over():
        continued = [
            ((*written, token), total + log_probabilities[len(written) - 1, written[-1], token])
            for written, total in going_on
            for token in (END, *TOKENS)
        ]
        continued.sort(key=lambda pair: -pair[1])
        ended += [pair for pair in continued[:width] if pair[0][-1] == END]
        going_on = [pair for pair in continued if pair[0][-1] != END][:width]
    ranked = [pair for group in (ended, going_on) for pair in sorted(group, key=score, reverse=True)]
    return [tuple(token for token in written if token not in (START, END)) for written, _ in ranked[:width]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 7), st.sampled_from([0.0, 0.6, 1.5]))
def test_it_is_what_its_description_says(seed, width, length, alpha):
    table = 2.0 * np.random.default_rng(seed).standard_normal((3, length, t.TARGET_SIZE, t.TARGET_SIZE))
    found = beam_search(Scripted(table), *sentences(3), length, width, alpha, n_best=width)
    log_probabilities = table - np.log(np.exp(table).sum(axis=-1, keepdims=True))
    for row, expected in zip(found, log_probabilities, strict=True):
        assert [hypothesis.tokens for hypothesis in row] == plainly(expected, width, length, alpha)


def table_of(*rows):
    """One sentence's table from probabilities of </s>, <unk>, 4 and 5 after <s>, and then after anything."""
    table = np.full((1, len(rows), 6, 6), -np.inf)
    for place, row in enumerate(rows):
        with np.errstate(divide="ignore"):
            table[0, place, :, END:] = np.log(row)
    return table


def test_the_length_penalty_favours_the_longer():
    # "" has probability 0.5, "4 4" 0.45.
    table = table_of([0.5, 0.0, 0.45, 0.05], [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0])
    for alpha, expected in ((0.0, ()), (1.0, (4, 4))):
        (found,) = beam_search(Scripted(table), *sentences(1), 5, 3, alpha)
        assert found[0].tokens == expected
    assert found[0].score == pytest.approx(math.log(0.45) / (8 / 6))


def test_a_likelier_hypothesis_is_waited_for():
    """Two hypotheses end before "4 4 4 5", which was likelier all the while; a beam of two is not done with those."""
    table = table_of(
        [0.2, 0.0, 0.8, 0.0], [0.2, 0.0, 0.8, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1, 0, 0, 0]
    )
    (found,) = beam_search(Scripted(table), *sentences(1), 9, 2, n_best=2)
    assert [hypothesis.tokens for hypothesis in found] == [(4, 4, 4, 5), ()]
    assert found[0].log_probability == pytest.approx(math.log(0.64))


def test_a_length_penalty_bounds_what_may_still_come():
    """ "" is finished with 0.3; with α = 1 a hypothesis of 0.2 may reach (log 0.2) / lp(12), with α = 0 it may not."""
    endless = table_of([0.3, 0.0, 0.2, 0.5], [0.0, 0.0, 1.0, 0.0])
    endless[0, 1:, 4:] = -np.inf
    endless[0, 1, 5, END] = 0.0  # "5" ends, and wins
    endless[0, 1, 4, 4] = 0.0
    for alpha, steps in ((0.0, [1, 1]), (1.0, [1, 2] + 10 * [1])):
        model = Scripted(endless)
        (found,) = beam_search(model, *sentences(1), 12, 2, alpha)
        assert (found[0].tokens, model.steps) == ((5,), steps)


def test_greedy_decoding_can_miss_what_a_beam_finds():
    table = table_of([0.0, 0.0, 0.6, 0.4], [0.1, 0.3, 0.3, 0.3], [1.0, 0.0, 0.0, 0.0])
    table[0, 1, 5] = np.where(np.arange(6) == END, 0.0, -np.inf)  # after 5 comes </s>
    assert greedy(Scripted(table), *sentences(1), 5) == [[4, UNKNOWN]]
    (found,) = beam_search(Scripted(table), *sentences(1), 5, 2)
    assert (found[0].tokens, found[0].log_probability) == ((5,), pytest.approx(math.log(0.4)))


def test_a_sentence_that_is_done_costs_no_steps():
    certain = table_of([0.9, 0.05, 0.03, 0.02])
    endless = table_of([0.0, 0.2, 0.5, 0.3])
    model = Scripted(np.concatenate([certain, endless]))
    found = beam_search(model, *sentences(2), 4, width=2)
    assert model.steps == [2, 2, 2, 2]  # 2 sentences, then 2 hypotheses of the second
    assert found[0][0].tokens == ()
    assert [hypothesis.ended for hypothesis in found[1]] == [False]
    model = Scripted(certain)
    beam_search(model, *sentences(1), 50, width=2, n_best=2)
    assert len(model.steps) < 4
