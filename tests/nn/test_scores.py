"""Every attention score: its witness and formulas agree with its results; a user's score is one file."""

import numpy as np
import pytest
from from_file import module_from

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.nn import SCORES
from tinygrad_attn.record import record

B, T, S, D = 2, 3, 4, 3


def draw(*shape, seed=0):
    return ta.Tensor(np.random.default_rng([seed, *shape]).standard_normal(shape), requires_grad=True)


@pytest.fixture(params=SCORES)
def name(request):
    return request.param


def parts(name):
    """The score's announcements in a pass over queries and keys whose scores have the gradient that is returned."""
    ta.manual_seed(0)
    score = SCORES[name].make(D, D, D, 8, np.float64)
    query, keys = draw(B, T, D), draw(B, S, D, seed=1)
    gradient = np.random.default_rng(3).standard_normal((B, T, S))
    with record() as tape, ta.unfused():
        score(query, keys).backward(ta.Tensor(gradient))
    found = {mark.name: mark.source for mark in tape.marks if mark.name != "parameter"}
    parameters = {mark.details["symbol"]: mark.source.value for mark in tape.marks if mark.name == "parameter"}
    scales = [mark.details["scale"] for mark in tape.marks if "scale" in mark.details]
    return found, {"s": scales[0] if scales else 1.0, **parameters}, gradient


def test_a_score_knows_its_name(name):
    assert SCORES[name].name == name and SCORES[name].formula.startswith("e_{tj} = ")


def test_the_witness_finds_the_same_scores_and_gradients(name):
    found, parameters, gradient = parts(name)
    score = SCORES[name]
    query, key = found["query"].value, found["key"].value if score.has_keys else None
    np.testing.assert_allclose(score.witness(query, key, parameters), found["scores"].value, rtol=1e-12)
    gradients = score.witness_gradients(gradient, query, key, parameters)
    assert set(gradients) == set(score.gradient_formulas) == ({"Q", "K"} if score.has_keys else {"Q"})
    for letter, array in gradients.items():
        expected = found[{"Q": "query", "K": "key"}[letter]].gradient
        np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-14)


def test_first_and_second_derivatives(name, of_parameters_too):
    ta.manual_seed(0)
    score = SCORES[name].make(D, D, D, 8, np.float64)
    function, parameters = of_parameters_too(score, score)
    inputs = [draw(B, T, D), draw(B, S, D, seed=1), *parameters]
    if not score.has_keys:
        keys = inputs.pop(1)
        function, parameters = of_parameters_too(score, lambda query: score(query, keys))
    gradcheck(function, inputs)
    gradgradcheck(function, inputs)


def evaluate(expression, tensors, at, sizes):
    """The number that an expression stands for: see `tinygrad_attn.nn.scores.Expression`."""
    if not isinstance(expression, tuple):
        return expression
    head, *rest = expression
    if head == "sum":
        index, inner = rest
        return sum(evaluate(inner, tensors, {**at, index: i}, sizes) for i in range(sizes[index]))
    if head in tensors:
        return tensors[head][tuple(at[index] for index in rest)]
    values = [evaluate(x, tensors, at, sizes) for x in rest]
    return {
        "*": lambda: np.prod(values),
        "+": lambda: np.sum(values),
        "-": lambda: values[0] - values[1],
        "tanh": lambda: np.tanh(values[0]),
        "square": lambda: values[0] ** 2,
    }[head]()


def test_the_recipes_give_every_number(name):
    found, parameters, gradient = parts(name)
    tensors = {"Q": found["query"].value[0], "de": gradient[0]}
    if SCORES[name].has_keys:
        tensors["K"] = found["key"].value[0]
    tensors |= {symbol: np.asarray(array) for symbol, array in parameters.items()}
    channels = tensors["Q"].shape[1]
    sizes = {"t": T, "j": S, "i": channels, "a": channels}
    expected = {"scores": found["scores"].value[0], "Q": found["query"].gradient[0]}
    if SCORES[name].has_keys:
        expected["K"] = found["key"].gradient[0]
    assert set(SCORES[name].recipes) == set(expected)
    for which, array in expected.items():
        rows, columns = {"scores": "tj", "Q": "ti", "K": "ji"}[which]
        for (row, column), number in np.ndenumerate(array):
            at = {rows: row, columns: column, "a": column}
            np.testing.assert_allclose(evaluate(SCORES[name].recipes[which], tensors, at, sizes), number, rtol=1e-12)


CUTS = {  # of an array, for the number at (row, column)
    "all": lambda array, row, column: array,
    "row": lambda array, row, column: array[row],
    "query_row": lambda array, row, column: array[row],
    "column": lambda array, row, column: array[:, row],
    "key_row": lambda array, row, column: array[column],
    "channel": lambda array, row, column: array[:, column],
    "element": lambda array, row, column: array[column] if array.ndim == 1 else array[row, column],
}


def test_the_snippets_print_every_number(name, capsys):
    found, parameters, gradient = parts(name)
    tensors = {("Q", "value"): found["query"].value[0], ("scores", "gradient"): gradient[0]}
    if SCORES[name].has_keys:
        tensors["K", "value"] = found["key"].value[0]
    tensors |= {(symbol, "weight"): array for symbol, array in parameters.items()}
    tensors["scale", "value"] = parameters["s"]
    expected = {("scores", "value"): found["scores"].value[0], ("Q", "gradient"): found["query"].gradient[0]}
    if SCORES[name].has_keys:
        expected["K", "gradient"] = found["key"].gradient[0]
    assert set(SCORES[name].snippets) == set(expected)
    for which, (code, needs) in SCORES[name].snippets.items():
        names = {"np": np}
        for variable, wanted in needs.items():
            of, part, cut = wanted.split()
            array = tensors[of, part]
            names[variable] = array if of == "scale" else CUTS[cut](array, 1, 2)
        exec(code, names)
        np.testing.assert_allclose(float(capsys.readouterr().out), expected[which][1, 2], rtol=1e-12)


OWN = """
from tinygrad_attn.modes import mark
from tinygrad_attn.nn.functional import normalize
from tinygrad_attn.nn.scores import SCORES, Score


@SCORES.register("cosine")
class CosineScore(Score):
    @classmethod
    def make(cls, query_size, key_size, size, max_length, dtype):
        return cls()

    def scores(self, query, projected):
        query, key = mark("query", query), mark("key", projected)
        return normalize(query, dim=-1) @ normalize(key, dim=-1).mT
"""


@pytest.fixture
def cosine(tmp_path):
    path = tmp_path / "cosine.py"
    path.write_text(OWN)
    yield module_from(path)
    del SCORES._found["cosine"]


def test_a_score_of_ones_own_is_one_file(cosine):
    score = SCORES["cosine"].make(D, D, D, 8, np.float64)
    query, keys, values = draw(B, T, D), draw(B, S, D, seed=1), draw(B, S, 2, seed=2)
    with record() as tape:
        nn.attention(query, keys, values, score)
    assert [mark.details["score"] for mark in tape.marks if mark.name == "scores"] == ["cosine"]
    assert score.witness(query.array, keys.array, {}) is None
    gradcheck(lambda *inputs: nn.attention(*inputs, score)[0], [query, keys, values])
    with pytest.raises(
        ValueError, match=r"the attention score 'dot' is already defined in tinygrad_attn.nn.scores.dot"
    ):
        SCORES.register("dot")(type(score))


def test_a_score_without_make_is_no_choice():
    with pytest.raises(NotImplementedError, match="Score has no make, so that no config can choose it"):
        nn.Score.make(D, D, D, 8)
