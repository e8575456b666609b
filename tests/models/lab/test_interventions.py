"""What experiments change in a model does what they say, and nothing else: by hand in NumPy, without training."""

import copy

import numpy as np
import pytest
from tinygrad_attn_models.data import collate
from tinygrad_attn_models.lab import broken_derivatives, heads_pruned, masks, norm_depth, positions, residuals, scale
from tinygrad_attn_models.lab import teacher_forcing as forcing
from tinygrad_attn_models.lab.form import training
from tinygrad_attn_models.lab.form.reader import Reader, Sequences, fit_reader, reverse
from tinygrad_attn_models.microscope.checks.gallery import broken_derivative
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn

WIDTH, HEADS = 8, 4
EXAMPLES = [([4, 5, 6], [5, 6, 4]), ([6, 4], [4]), ([5, 5, 4, 6], [6, 6])]


@pytest.fixture(autouse=True)
def _seeded():
    ta.manual_seed(0)


def numbers(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape))


def translator(kind=Transformer):
    return kind(8, 7, WIDTH, HEADS, 1, 1, 2 * WIDTH, dropout=0.0, dtype=ta.float64)


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def heads_of(attention, x, scaled=True):
    """The output of each head of self-attention (B, S, d), before W_O: B, heads, S, d_k."""
    weight, bias = attention.in_proj_weight.array, attention.in_proj_bias.array
    rows, length, width = x.shape
    projected = (x @ weight.T + bias).reshape(rows, length, 3, attention.num_heads, -1).transpose(2, 0, 3, 1, 4)
    query, key, value = projected
    size = width // attention.num_heads
    return softmax(query @ key.swapaxes(-1, -2) / (np.sqrt(size) if scaled else 1.0)) @ value


def joined(attention, heads):
    """W_O of the heads, beside each other."""
    rows, _, length, _ = heads.shape
    together = heads.transpose(0, 2, 1, 3).reshape(rows, length, -1)
    return together @ attention.out_proj.weight.array.T + attention.out_proj.bias.array


# -- heads pruned ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("removed", [[], [0], [1, 3], [0, 1, 2, 3]])
def test_a_removed_head_adds_nothing_and_the_others_what_they_did(removed, monkeypatch):
    model = translator()
    (attention,) = heads_pruned.attentions_of(model, "encoder")
    x = numbers(2, 3, WIDTH)
    monkeypatch.setattr(heads_pruned, "teacher_forced", lambda *_: attention(x, x, x, need_weights=False)[0].array)
    before = {name: tensor.array.copy() for name, tensor in model.state_dict().items()}
    found = heads_pruned.without(model, [attention], [(0, head) for head in removed], [])
    heads = heads_of(attention, x.array)
    heads[:, removed] = 0.0
    np.testing.assert_allclose(found, joined(attention, heads), rtol=1e-12, atol=1e-12)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.array, before[name])


def test_heads_are_of_the_kind_that_is_asked_for_and_come_back_after_an_error(monkeypatch):
    model = translator()
    layers = model.transformer.encoder.layers[0], model.transformer.decoder.layers[0]
    kinds = {"encoder": layers[0].self_attn, "decoder": layers[1].self_attn, "cross": layers[1].multihead_attn}
    for kind, attention in kinds.items():
        assert heads_pruned.attentions_of(model, kind) == [attention]
    before = layers[0].self_attn.out_proj.weight.array.copy()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(heads_pruned, "teacher_forced", interrupted)
    with pytest.raises(KeyboardInterrupt):
        heads_pruned.without(model, [layers[0].self_attn], [(0, 1)], [])
    np.testing.assert_array_equal(layers[0].self_attn.out_proj.weight.array, before)


# -- residuals, norms and positions ------------------------------------------------------------------------------------


def silenced(kind):
    """A layer whose sublayers give zeros."""
    layer = kind(WIDTH, 2, 2 * WIDTH, 0.0, batch_first=True, dtype=ta.float64)
    for name, parameter in layer.named_parameters():
        if name.startswith(("self_attn.out_proj", "linear2")):
            parameter.data = np.zeros_like(parameter.array)
    return layer


def test_without_residuals_nothing_passes_sublayers_that_give_zeros():
    x = numbers(1, 3, WIDTH).requires_grad_()
    with_residuals, without = silenced(residuals.LAYERS_OF["with"]), silenced(residuals.LAYERS_OF["without"])
    weighted = numbers(1, 3, WIDTH, seed=1)
    (passed,) = ta.grad((with_residuals(x) * weighted).sum(), x)
    (stopped,) = ta.grad((without(x) * weighted).sum(), x, allow_unused=True)
    assert np.linalg.norm(passed.array) > 0.1
    assert stopped is None or not stopped.array.any()
    np.testing.assert_array_equal(without(x).array, without(x * 2.0 + 1.0).array)


def test_a_bare_layer_is_the_layer_less_its_residuals():
    bare = residuals.Bare(WIDTH, 2, 2 * WIDTH, 0.0, batch_first=True, dtype=ta.float64)
    x = numbers(2, 3, WIDTH)
    attended = bare.norm1(Tensor(joined(bare.self_attn, heads_of(bare.self_attn, x.array))))
    inner = np.maximum(attended.array @ bare.linear1.weight.array.T + bare.linear1.bias.array, 0.0)
    expected = bare.norm2(Tensor(inner @ bare.linear2.weight.array.T + bare.linear2.bias.array))
    np.testing.assert_allclose(bare(x).array, expected.array, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", norm_depth.EXPERIMENT.cases)
def test_norms_stand_where_the_case_says_and_warmup_is_there_where_it_says(case, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(norm_depth, "fit_reader", lambda model, *_, warmup: seen.append((model, warmup)))
    sizes = norm_depth.Sizes(depths=(2,), batch=2, tested=2, width=8)
    norm_depth.measure(norm_depth.Trial(case, 0, sizes, tmp_path))
    ((model, warmup),) = seen
    assert {layer.norm_first for layer in model.layers} == {case == "pre"}
    assert (model.norm is not None) == (case == "pre") and (warmup > 0.0) == (case == "post_warmup")


@pytest.mark.parametrize(("warmup", "first"), [(0.0, 1.0), (0.5, 0.2)])
def test_the_warmup_of_training(warmup, first, monkeypatch):
    rates = []
    monkeypatch.setattr(training.optim.Adam, "step", lambda self, **_: rates.append(self.lr))
    sizes = Sequences(symbols=3, length=2, batch=2, steps=10)
    fit_reader(Reader(3, 4, []), sizes, reverse, 0, warmup=warmup)
    assert rates[0] == pytest.approx(first * sizes.rate, rel=0.05) and len(rates) == 10


POSITIONS = positions.Sizes(symbols=5, length=4, width=WIDTH, tested=3)


def test_without_positions_a_permuted_source_gives_permuted_outputs_and_with_them_not():
    ids = POSITIONS.test(0)
    moved = {case: positions.moved_by_permutation(positions.reader(case, POSITIONS), ids, 0) for case in
             positions.EXPERIMENT.cases}  # fmt: skip
    assert moved.pop("none") < 1e-5
    assert set(moved) == {"sinusoidal", "learned", "causal"} and min(moved.values()) > 0.01


def test_the_causal_reader_reads_no_later_symbol():
    model, ids = positions.reader("causal", POSITIONS), POSITIONS.test(0)
    changed = ids.copy()
    changed[:, 2:] = (changed[:, 2:] + 1) % POSITIONS.symbols
    before, after = model(Tensor(ids)).array, model(Tensor(changed)).array
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (before[:, 2:] != after[:, 2:]).any(-1).all()


def test_the_tasks_are_what_they_say():
    ids = np.array([[3, 1, 1, 2]])
    assert positions.previous(ids).tolist() == [[3, 3, 1, 1]]
    assert positions.count(ids).tolist() == [[0, 1, 1, 0]]
    assert reverse(ids).tolist() == [[2, 1, 1, 3]]


# -- scale -------------------------------------------------------------------------------------------------------------


def test_unscaled_attention_is_softmax_of_the_products_themselves():
    attention = scale.Unscaled(WIDTH, 2, batch_first=True, dtype=ta.float64)
    attention.in_proj_bias.data = numbers(3 * WIDTH).array  # that of the query, too, as after training
    x, others = numbers(2, 3, WIDTH), numbers(2, 5, WIDTH, seed=3)
    heads = heads_of(attention, x.array, scaled=False)
    np.testing.assert_allclose(attention(x, x, x)[0].array, joined(attention, heads), rtol=1e-10, atol=1e-12)
    usual = nn.MultiheadAttention(WIDTH, 2, batch_first=True, dtype=ta.float64)
    usual.load_state_dict(attention.state_dict())
    usual.in_proj_weight.data[:WIDTH] *= np.sqrt(WIDTH // 2)
    usual.in_proj_bias.data[:WIDTH] *= np.sqrt(WIDTH // 2)
    np.testing.assert_allclose(
        attention(x, others, others)[0].array, usual(x, others, others)[0].array, rtol=1e-10, atol=1e-12
    )


def test_what_passes_a_softmax():
    assert scale.passing(np.array([[1.0, 0.0, 0.0]])) == 0.0
    alpha = np.array([0.5, 0.3, 0.2])
    assert scale.passing(alpha[None]) == pytest.approx(np.linalg.norm(np.diag(alpha) - np.outer(alpha, alpha)))


# -- masks -------------------------------------------------------------------------------------------------------------


def logits_of(model, batch):
    return model(Tensor(batch.source), Tensor(batch.source_mask), Tensor(batch.target_in)).array


def test_a_forgotten_causal_mask_lets_later_tokens_in_and_changes_nothing_else():
    model = translator()
    batch = collate(EXAMPLES, [0])
    parameters, right = dict(model.named_parameters()), logits_of(model, batch)
    careless = copy.deepcopy(model)
    masks.forget_causal_mask(careless)
    assert dict(careless.named_parameters()).keys() == parameters.keys()
    for name, parameter in careless.named_parameters():
        np.testing.assert_array_equal(parameter.array, parameters[name].array)
    changed = collate([([4, 5, 6], [5, 6, 6])], [0])  # the last token of the target
    assert np.array_equal(right[:, :3], logits_of(model, changed)[:, :3])
    assert (logits_of(careless, batch)[:, :3] != logits_of(careless, changed)[:, :3]).any(-1).all()
    # The last position sees nothing more than before where there is nothing after it, in one layer.
    np.testing.assert_allclose(logits_of(careless, batch)[:, -1], right[:, -1], rtol=1e-10)
    # Writing alone it has no later token: a step is that of the model with its mask.
    memory = (m.encode(Tensor(batch.source), Tensor(batch.source_mask)) for m in (model, careless))
    steps = [
        m.step(m.start(each), Tensor(np.array([1])))[0].array for m, each in zip((model, careless), memory, strict=True)
    ]
    np.testing.assert_array_equal(*steps)


def test_a_forgotten_padding_mask_lets_padding_in_and_changes_nothing_else():
    model, careless = translator(), translator(masks.SeesPadding)
    careless.load_state_dict(model.state_dict())
    whole, padded = collate(EXAMPLES, [0]), collate(EXAMPLES, [1, 2])
    np.testing.assert_array_equal(logits_of(model, whole), logits_of(careless, whole))
    assert (logits_of(model, padded)[0] != logits_of(careless, padded)[0]).any(-1).all()
    padded.source[~padded.source_mask] = 7
    before = collate(EXAMPLES, [1, 2])
    np.testing.assert_array_equal(logits_of(model, padded), logits_of(model, before))
    assert (logits_of(careless, padded)[0] != logits_of(careless, before)[0]).any()
    memories = [m.encode(Tensor(before.source), Tensor(before.source_mask)) for m in (model, careless)]
    assert memories[0].padding.array.any() and not memories[1].padding.array.any()


# -- broken derivatives ------------------------------------------------------------------------------------------------


def gradient_of(run, x):
    leaf = Tensor(x.copy())
    leaf.requires_grad_()
    output = run(leaf)
    (gradient,) = ta.grad((output * Tensor(np.arange(float(output.array.size)).reshape(output.shape))).sum(), leaf)
    return output.array, gradient.array


def norm_with(gamma):
    def run(x):
        return nn.functional.layer_norm(x, (4,), gamma, ta.zeros(4, dtype=ta.float64))

    return run


def test_softmax_without_its_second_term():
    x = np.array([[0.3, -1.0, 0.8]])
    with ta.unfused():
        right = gradient_of(lambda x: ta.softmax(x, dim=-1), x)
        with broken_derivative("softmax-without-second-term"):
            wrong = gradient_of(lambda x: ta.softmax(x, dim=-1), x)
        after = gradient_of(lambda x: ta.softmax(x, dim=-1), x)
    alpha, g = softmax(x), np.arange(3.0)
    np.testing.assert_array_equal(wrong[0], right[0])
    np.testing.assert_allclose(wrong[1], alpha * g)
    np.testing.assert_allclose(right[1], alpha * (g - (alpha * g).sum()))
    np.testing.assert_array_equal(after[1], right[1])


def test_layer_norm_with_gamma_outside():
    x, gamma = np.array([[0.3, -1.0, 0.8, 2.0]]), Tensor(np.array([0.5, 2.0, 1.0, -1.0]))
    with ta.unfused():
        right = gradient_of(norm_with(gamma), x)
        with broken_derivative("layernorm-gamma-outside"):
            wrong = gradient_of(norm_with(gamma), x)
            ones = gradient_of(norm_with(ta.ones(4, dtype=ta.float64)), x)
        all_ones = gradient_of(norm_with(ta.ones(4, dtype=ta.float64)), x)
    np.testing.assert_allclose(wrong[0], right[0])
    np.testing.assert_allclose(wrong[1], gamma.array * all_ones[1], atol=1e-12)  # γ times the rest, in place of within
    np.testing.assert_allclose(ones[1], all_ones[1], atol=1e-12)
    assert np.abs(wrong[1] - right[1]).max() > 0.1


def test_additive_without_tanh():
    keys, energy, x = numbers(1, 3, 4), numbers(4, seed=2), numbers(1, 2, 4, seed=1).array
    score = nn.SCORES["additive"].make(4, 4, 4, 0).double()

    def run(x):
        return score.compare(x, keys)

    with ta.unfused():
        right = gradient_of(run, x)
        with broken_derivative("additive-without-tanh"):
            wrong = gradient_of(run, x)
    np.testing.assert_allclose(wrong[0], right[0])
    assert np.abs(wrong[1] - right[1]).max() > 1e-3
    assert energy.shape == (4,)


@pytest.mark.parametrize("case", broken_derivatives.MISTAKES)
def test_the_check_of_the_gradient_finds_each_mistake_and_nothing_else(case):
    layer = broken_derivatives.Additive(WIDTH)
    if case not in ("additive", "tanh"):
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, 0.0, batch_first=True)
        for norm in (layer.norm1, layer.norm2):  # with γ = 1 it is the same inside as outside
            norm.weight.data = np.linspace(0.5, 2.0, WIDTH).astype(np.float32)
    model = Reader(4, WIDTH, [layer], nn.SinusoidalPositionalEncoding(WIDTH))
    ids = Sequences(symbols=4, length=4, tested=3).test(0)
    mistake = broken_derivatives.MISTAKES[case]
    with ta.unfused():
        assert broken_derivatives.error_of_the_gradient(model, ids) < 1e-4
        if mistake is not None:
            with broken_derivative(mistake):
                assert broken_derivatives.error_of_the_gradient(model, ids) > 1e-3


def test_attention_with_bahdanaus_score():
    layer = broken_derivatives.Additive(WIDTH).double()
    x = numbers(2, 3, WIDTH)
    names = dict(layer.score.named_parameters())
    query, key = (
        next(p.array for n, p in names.items() if n.startswith(part) and p.ndim == 2) for part in ("query", "key")
    )
    bias = next((p.array for n, p in names.items() if n.startswith("key") and p.ndim == 1), 0.0)
    energy = next(p.array for n, p in names.items() if n.startswith("energy"))
    hidden = np.tanh((x.array @ query.T)[:, :, None] + (x.array @ key.T + bias)[:, None])
    weights = softmax((hidden @ energy.T)[..., 0])
    values = x.array @ layer.value.weight.array.T + layer.value.bias.array
    np.testing.assert_allclose(layer(x).array, x.array + weights @ values, rtol=1e-10, atol=1e-12)


# -- teacher forcing ---------------------------------------------------------------------------------------------------


class Counter:
    """A model that always says the symbol after the one that it reads, and remembers what it has read."""

    def __init__(self):
        self.read = []

    def encode(self, *given):
        return None

    def start(self, memory):
        return None

    def step(self, state, token):
        self.read.append(token.array.copy())
        return Tensor(np.eye(24)[token.array + 1]), state, {}


@pytest.mark.parametrize("case", forcing.FORCED)
def test_the_decoder_reads_the_truth_as_often_as_the_case_says(case):
    batch = collate([([4], [9, 9, 9, 9, 9])] * 200, range(200))
    model = Counter()
    forcing.sampled_logits(model, batch, forcing.FORCED[case], np.random.default_rng(0))
    read = np.stack(model.read, 1)
    own = np.concatenate([read[:, :1], read[:, :-1] + 1], 1)  # what it said before
    assert (read[:, 0] == batch.target_in[0, 0]).all()
    truth = read[:, 1:] == 9
    assert (truth | (read[:, 1:] == own[:, 1:])).all()
    assert truth.mean() == pytest.approx(forcing.FORCED[case], abs=0.06)


def test_the_probability_reaches_training(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(forcing, "fit_translator", lambda *_, forced: given.append(forced))
    sizes = forcing.Sizes(length=2, hidden=4, pairs=20, tested=4)
    for case in forcing.EXPERIMENT.cases:
        forcing.measure(forcing.Trial(case, 0, sizes, tmp_path))
    assert given == [1.0, 0.5, 0.0]


# -- what a step takes -------------------------------------------------------------------------------------------------


def test_the_time_of_a_step_is_not_that_of_compilation(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "process_time", lambda: now[0])
    steps = iter([30.0, 5.0, *[0.002] * 9])

    def gradients(batch):
        now[0] += next(steps)
        return 0.0

    def batches():
        while True:
            now[0] += 1.0  # cutting batches is no part of a step
            yield None

    times = []
    model = nn.Linear(2, 2)
    training.fit(model, gradients, batches(), 11, 0.1, times=times)
    assert len(times) == 11 and training.milliseconds_of(times) == pytest.approx(2.0)
