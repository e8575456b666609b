"""Layers hold the weights of PyTorch's: the same state dict, outputs, and gradients of inputs and parameters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

# PyTorch tells of a fast path that it does not take.
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn import nn, serialize  # noqa: E402
from tinygrad_attn.autograd import grad  # noqa: E402

TOLERANCE = 1e-9
BATCH, STEPS, SOURCE = 3, 5, 4
LENGTHS = [5, 2, 3]


def flat(outputs):
    """Tensors in nested tuples, one after the other, without the Nones."""
    if outputs is None:
        return []
    return [x for part in outputs for x in flat(part)] if isinstance(outputs, tuple) else [outputs]


def hold(ours, theirs, arrays, run_ours=None, run_theirs=None):
    """Give ``ours`` the state of ``theirs`` and compare outputs and all gradients."""
    rng = np.random.default_rng(1)
    # Fresh layer norms and biases are ones and zeros, which would hide a mistake.
    for parameter in theirs.parameters():
        parameter.data += torch.tensor(0.1 * rng.standard_normal(tuple(parameter.shape)))
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    mine = [ta.Tensor(array.copy(), requires_grad=True) for array in arrays]
    other = [torch.tensor(array, requires_grad=True) for array in arrays]
    found = flat((run_ours or ours)(*mine))
    expected = flat((run_theirs or theirs)(*other))
    assert [x.shape for x in found] == [tuple(x.shape) for x in expected]
    seeds = [rng.standard_normal(x.shape) for x in found]
    for number, (x, y) in enumerate(zip(found, expected, strict=True)):
        compare(f"output {number}", x.array, y.detach().numpy())
    names = [name for name, _ in theirs.named_parameters()]
    parameters = dict(ours.named_parameters())
    leaves = [*mine, *(parameters[name] for name in names)]
    gradients = grad(found, leaves, [ta.Tensor(seed) for seed in seeds], allow_unused=True)
    wanted = torch.autograd.grad(
        expected, [*other, *theirs.parameters()], [torch.tensor(seed) for seed in seeds], allow_unused=True
    )
    for name, x, y in zip([*range(len(mine)), *names], gradients, wanted, strict=True):
        assert (x is None) == (y is None), name
        if y is not None:
            compare(f"gradient of {name}", x.array, y.numpy())


def compare(what, found, expected):
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def double(module):
    return module.to(np.float64)


@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"elementwise_affine": False}], ids=str)
@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_rms_norm(shape, options):
    theirs = torch.nn.RMSNorm(shape, **options).double()
    hold(double(nn.RMSNorm(shape, **options)), theirs, [draw(2, 3, 4)])


# -- recurrent ---------------------------------------------------------------------------------------------------------

KINDS = {
    "RNN": (nn.RNN, torch.nn.RNN, {}),
    "RNN relu": (nn.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
    "GRU": (nn.GRU, torch.nn.GRU, {}),
    "LSTM": (nn.LSTM, torch.nn.LSTM, {}),
}


def states(kind, count, batch=BATCH, size=4):
    shape = (count, batch, size) if batch else (count, size)
    return [draw(*shape, seed=number) for number in range(2 if kind == "LSTM" else 1)]


def with_state(run, kind):
    """``run``, which takes an input and the state, as a function of an input and the parts of the state."""
    return lambda x, *parts: run(x, parts if kind == "LSTM" else parts[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False, "batch_first": True},
        {"num_layers": 2},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
    ],
    ids=str,
)
def test_recurrent_layers(kind, options):
    ours, theirs, more = KINDS[kind]
    options = {**options, **more}
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    shape = (BATCH, STEPS, 3) if options.get("batch_first") else (STEPS, BATCH, 3)
    layer, other = double(ours(3, 4, **options)), theirs(3, 4, **options).double()
    hold(layer, other, [draw(*shape)])
    hold(layer, other, [draw(*shape), *states(kind, count)], with_state(layer, kind), with_state(other, kind))
    hold(layer, other, [draw(STEPS, 3), *states(kind, count, 0)], with_state(layer, kind), with_state(other, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_mask", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_padded_recurrent_layers_equal_packed_ones(kind, by_mask, batch_first):
    ours, theirs, more = KINDS[kind]
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first, **more}
    layer, other = double(ours(3, 4, **options)), theirs(3, 4, **options).double()
    mask = np.arange(STEPS)[:, None] < np.array(LENGTHS)
    padding = {"mask": mask.T if batch_first else mask} if by_mask else {"lengths": LENGTHS}

    def packed(x, state):
        x = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)
        outputs, final = other(x, state)
        return torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first)[0], final

    shape = (BATCH, STEPS, 3) if batch_first else (STEPS, BATCH, 3)
    run = with_state(lambda x, state: layer(x, state, **padding), kind)
    hold(layer, other, [draw(*shape), *states(kind, 4)], run, with_state(packed, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_cells(kind, bias):
    more = KINDS[kind][2]
    name = kind.split()[0] + "Cell"
    cell, other = double(getattr(nn, name)(3, 4, bias, **more)), getattr(torch.nn, name)(3, 4, bias, **more).double()
    hold(cell, other, [draw(BATCH, 3)])
    state = [part[0] for part in states(kind, 1)]
    hold(cell, other, [draw(BATCH, 3), *state], with_state(cell, kind), with_state(other, kind))
    state = [part[0] for part in states(kind, 1, 0)]
    hold(cell, other, [draw(3), *state], with_state(cell, kind), with_state(other, kind))


# -- attention ---------------------------------------------------------------------------------------------------------

PADDING = np.arange(SOURCE) >= np.array([[4], [2], [3]])  # True = ignore


def masks(kind, queries, keys, heads):
    """attn_mask of a kind that leaves every query something, beside PADDING too."""
    rng = np.random.default_rng(3)
    if kind is None:
        return None
    if kind == "bool":
        mask = rng.random((queries, keys)) < 0.4
        mask[:, 0] = False
        return mask
    if kind == "bool by head":
        mask = rng.random((BATCH * heads, queries, keys)) < 0.4
        mask[..., 0] = False
        return mask
    mask = rng.standard_normal((queries, keys))
    mask[:, -1] = -math.inf
    return mask


def as_torch(mask):
    return None if mask is None else torch.tensor(mask)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mask", [None, "bool", "bool by head", "floats"])
@pytest.mark.parametrize("padding", [None, "bool", "floats"])
def test_multihead_attention(mask, padding, batch_first):
    heads = 2
    ours = double(nn.MultiheadAttention(6, heads, batch_first=batch_first))
    theirs = torch.nn.MultiheadAttention(6, heads, batch_first=batch_first).double()
    layout = (lambda length: (BATCH, length, 6)) if batch_first else (lambda length: (length, BATCH, 6))
    ignore = {None: None, "bool": PADDING, "floats": np.where(PADDING, -math.inf, 0.5)}[padding]
    attn_mask = masks(mask, STEPS, SOURCE, heads)
    arrays = [draw(*layout(STEPS)), draw(*layout(SOURCE)), draw(*layout(SOURCE), seed=1)]
    if padding and mask and padding != mask.split()[0]:
        # PyTorch adds both masks and wants them of one kind.
        expected_masks = [
            torch.zeros(m.shape, dtype=torch.float64).masked_fill(torch.tensor(m), -math.inf)
            if m.dtype == bool
            else torch.tensor(m)
            for m in (ignore, attn_mask)
        ]
    else:
        expected_masks = [as_torch(ignore), as_torch(attn_mask)]
    for need_weights, average in [(True, True), (True, False), (False, True)]:
        hold(
            ours,
            theirs,
            arrays,
            lambda q, k, v: ours(q, k, v, ignore, need_weights, attn_mask, average),  # noqa: B023
            lambda q, k, v: theirs(q, k, v, expected_masks[0], need_weights, expected_masks[1], average),  # noqa: B023
        )


@pytest.mark.parametrize("bias", [False, True])
def test_self_attention_and_shared_keys_and_values(bias):
    ours, theirs = double(nn.MultiheadAttention(6, 3, bias=bias)), torch.nn.MultiheadAttention(6, 3, bias=bias).double()
    hold(ours, theirs, [draw(STEPS, BATCH, 6)], lambda x: ours(x, x, x), lambda x: theirs(x, x, x))
    arrays = [draw(STEPS, BATCH, 6), draw(SOURCE, BATCH, 6)]
    hold(ours, theirs, arrays, lambda q, k: ours(q, k, k), lambda q, k: theirs(q, k, k))
    causal = np.triu(np.ones((STEPS, STEPS), bool), 1)
    hold(
        ours,
        theirs,
        arrays[:1],
        lambda x: ours(x, x, x, is_causal=True),
        lambda x: theirs(x, x, x, attn_mask=torch.tensor(causal)),
    )


def test_keys_and_values_of_other_sizes_and_no_batch():
    options = {"kdim": 5, "vdim": 4}
    ours, theirs = double(nn.MultiheadAttention(6, 2, **options)), torch.nn.MultiheadAttention(6, 2, **options).double()
    hold(ours, theirs, [draw(STEPS, BATCH, 6), draw(SOURCE, BATCH, 5), draw(SOURCE, BATCH, 4)])
    hold(ours, theirs, [draw(STEPS, 6), draw(SOURCE, 5), draw(SOURCE, 4)])
    ignore = PADDING[1]
    hold(
        ours,
        theirs,
        [draw(STEPS, 6), draw(SOURCE, 5), draw(SOURCE, 4)],
        lambda q, k, v: ours(q, k, v, ignore, average_attn_weights=False),
        lambda q, k, v: theirs(q, k, v, torch.tensor(ignore), average_attn_weights=False),
    )


# -- the Transformer ---------------------------------------------------------------------------------------------------

OPTIONS = [
    {"norm_first": norm_first, "activation": activation, "batch_first": batch_first, "bias": bias}
    for (norm_first, activation), (batch_first, bias) in zip(
        itertools.product([False, True], ["relu", "gelu"]),
        [(False, True), (True, True), (True, False), (False, True)],
        strict=True,
    )
]


def sides(options, size=6):
    """A source and a target."""
    by_batch = [draw(BATCH, SOURCE, size), draw(BATCH, STEPS, size)]
    return by_batch if options["batch_first"] else [np.ascontiguousarray(x.swapaxes(0, 1)) for x in by_batch]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_encoder_layer(options):
    sizes = (6, 2, 7, 0.0)
    ours, theirs = nn.TransformerEncoderLayer(*sizes, **options), torch.nn.TransformerEncoderLayer(*sizes, **options)
    ours, theirs, x = double(ours), theirs.double(), sides(options)[0]
    mask = masks("bool", SOURCE, SOURCE, 2)
    hold(ours, theirs, [x])
    hold(
        ours,
        theirs,
        [x],
        lambda x: ours(x, src_mask=mask, src_key_padding_mask=PADDING),
        lambda x: theirs(x, src_mask=torch.tensor(mask), src_key_padding_mask=torch.tensor(PADDING)),
    )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_decoder_layer(options):
    sizes = (6, 2, 7, 0.0)
    ours, theirs = nn.TransformerDecoderLayer(*sizes, **options), torch.nn.TransformerDecoderLayer(*sizes, **options)
    ours, theirs, (memory, x) = double(ours), theirs.double(), sides(options)
    ahead = nn.generate_square_subsequent_mask(STEPS, np.float64)
    hold(ours, theirs, [x, memory])
    given = {"memory_mask": masks("bool", STEPS, SOURCE, 2), "memory_key_padding_mask": PADDING}
    hold(
        ours,
        theirs,
        [x, memory],
        lambda x, memory: ours(x, memory, tgt_mask=ahead, **given),
        lambda x, memory: theirs(
            x, memory, tgt_mask=torch.tensor(ahead.numpy()), **{name: torch.tensor(m) for name, m in given.items()}
        ),
    )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_transformer(options):
    sizes = (6, 2, 2, 2, 7, 0.0)
    ours, theirs = double(nn.Transformer(*sizes, **options)), torch.nn.Transformer(*sizes, **options).double()
    hold(ours, theirs, sides(options))
    ahead = theirs.generate_square_subsequent_mask(STEPS, dtype=torch.float64)
    np.testing.assert_array_equal(ahead.numpy(), nn.Transformer.generate_square_subsequent_mask(STEPS).numpy())
    behind = np.arange(STEPS) >= np.array([[5], [3], [4]])
    for causal in ({"tgt_mask": ahead.numpy()}, {"tgt_is_causal": True}):
        hold(
            ours,
            theirs,
            sides(options),
            lambda src, tgt: ours(
                src,
                tgt,
                src_key_padding_mask=PADDING,
                tgt_key_padding_mask=behind,
                memory_key_padding_mask=PADDING,
                **causal,  # noqa: B023
            ),
            lambda src, tgt: theirs(
                src,
                tgt,
                tgt_mask=ahead.isinf(),
                src_key_padding_mask=torch.tensor(PADDING),
                tgt_key_padding_mask=torch.tensor(behind),
                memory_key_padding_mask=torch.tensor(PADDING),
            ),
        )


def test_stacks_without_a_norm():
    sizes = {"d_model": 6, "nhead": 2, "dim_feedforward": 7, "dropout": 0.0}
    encoder = double(nn.TransformerEncoder(nn.TransformerEncoderLayer(**sizes), 2))
    other = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(**sizes), 2, enable_nested_tensor=False)
    hold(encoder, other.double(), [draw(SOURCE, BATCH, 6)])
    decoder = double(nn.TransformerDecoder(nn.TransformerDecoderLayer(**sizes), 2))
    other = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(**sizes), 2)
    hold(decoder, other.double(), [draw(STEPS, BATCH, 6), draw(SOURCE, BATCH, 6)])


def test_a_trained_transformer_travels_through_a_file_and_back(tmp_path):
    pytest.importorskip("safetensors")
    from safetensors.torch import load_file, save_file

    ta.manual_seed(0)
    sizes = (6, 2, 2, 2, 7, 0.0)
    ours, source, target = double(nn.Transformer(*sizes)), draw(SOURCE, BATCH, 6), draw(STEPS, BATCH, 6)
    optimizer = ta.optim.Adam(ours.parameters(), lr=0.01)
    for _ in range(3):
        ours.zero_grad()
        (ours(ta.Tensor(source), ta.Tensor(target), tgt_is_causal=True) - 1.0).abs().sum().backward()
        optimizer.step()
    with ta.no_grad():
        expected = ours(ta.Tensor(source), ta.Tensor(target), tgt_is_causal=True).numpy()
    serialize.save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    theirs = torch.nn.Transformer(*sizes).double()
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    ahead = theirs.generate_square_subsequent_mask(STEPS, dtype=torch.float64)
    compare("output", theirs(torch.tensor(source), torch.tensor(target), tgt_mask=ahead).detach().numpy(), expected)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    back = double(nn.Transformer(*sizes))
    back.load_state_dict(serialize.load_file(tmp_path / "theirs.safetensors")[0])
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name].numpy(), value.numpy(), err_msg=name)


# -- the beginning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: nn.LSTM(40, 50, 2, bidirectional=True), lambda: torch.nn.LSTM(40, 50, 2, bidirectional=True)),
        (lambda: nn.RNNCell(40, 50), lambda: torch.nn.RNNCell(40, 50)),
        (lambda: nn.MultiheadAttention(40, 4), lambda: torch.nn.MultiheadAttention(40, 4)),
        (
            lambda: nn.MultiheadAttention(40, 4, kdim=60, vdim=20),
            lambda: torch.nn.MultiheadAttention(40, 4, kdim=60, vdim=20),
        ),
        (lambda: nn.TransformerEncoderLayer(40, 4, 60), lambda: torch.nn.TransformerEncoderLayer(40, 4, 60)),
        (lambda: nn.Transformer(40, 4, 1, 1, 60), lambda: torch.nn.Transformer(40, 4, 1, 1, 60)),
    ],
)
def test_initial_values_have_the_same_bounds_and_spread(ours, theirs):
    ta.manual_seed(0)
    torch.manual_seed(0)
    mine, other = dict(ours().named_parameters()), dict(theirs().named_parameters())
    assert mine.keys() == other.keys()
    for name, value in other.items():
        found, expected = mine[name].array, value.detach().numpy()
        assert found.shape == expected.shape
        if expected.size > 1000:
            np.testing.assert_allclose(abs(found).max(), abs(expected).max(), rtol=0.02, err_msg=name)
            np.testing.assert_allclose(found.std(), expected.std(), rtol=0.05, err_msg=name)
        elif not expected.std():
            np.testing.assert_array_equal(found, expected, err_msg=name)
        else:
            np.testing.assert_allclose(abs(found).max(), abs(expected).max(), rtol=0.2, err_msg=name)
