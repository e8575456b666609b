"""What a step does and keeps: operations against those of the primitive products, memory against tracemalloc."""

import functools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import CASES, TEXT
from tinygrad_attn_models.data import Batch, collate
from tinygrad_attn_models.evaluation.metrics import token_loss
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.speed.counts import Counts, Operations, Size, count_step
from tinygrad_attn_models.speed.flops import MATMULS
from tinygrad_attn_models.speed.subject import resized, size_of

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn
from tinygrad_attn.modes import Observer, observe
from tinygrad_attn.op import registered_ops
from tinygrad_attn.samples import Draw

SYMBOLS = 9
PAIRS = collate([([5, 6, 7, 4], [6, 4, 5]), ([4, 7], [5]), ([6, 6, 5], [4, 4, 6, 6])], [0, 1, 2])
IDS = np.array([[4, 5, 6, 7, 5, 6]] * 2)
WINDOWS = Batch(IDS[:, :-1], IDS[:, 1:], np.ones((2, 5), bool), np.arange(2), 10)
NAMES = sorted([*CASES, "gpt", "gpt, newer"])
NEWER = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "kv_heads": 1, "qk_norm": True}


@functools.cache
def model_of(name):
    """The model of a case."""
    settings = dict(CASES.get(name, {key.removeprefix("model."): v for key, v in TEXT.items() if "model." in key}))
    settings |= NEWER if name == "gpt, newer" else {}
    found = MODELS[settings.pop("name")]
    return found.from_settings(found.Settings(**settings), SYMBOLS, SYMBOLS)


def sample_of(name):
    return PAIRS if name in CASES else WINDOWS


def step_on(name, size):
    """A function that computes the gradients of a batch of this size."""
    model, batch = model_of(name), resized(sample_of(name), size)

    def step():
        model.zero_grad()
        token_loss(model(*map(Tensor, batch.given), Tensor(batch.target_in)), batch).backward()

    return step


def operations(name, size):
    found = count_step(step_on(name, size))
    return found.forward, found.backward


class Products(Observer):
    """Counts the primitive products that run, and in backward one for each factor that gets a gradient.

    So do first states of zeros, which need none: the kernels of recurrent layers compute it with those of later states.
    Products with a constant matrix are not counted: so turns by a position are written as primitives.
    """

    def __init__(self):
        self.sizes, self.forwards, self.backwards = {}, 0, 0

    def forward(self, op, operands, options, outputs):
        assert op.name not in ("einsum", "tensordot", "conv1d"), op.name
        if op.name == "matmul" and operands[1].requires_grad:
            size = 2 * outputs[0].array.size * operands[0].shape[-1]
            self.forwards += size
            if outputs[0].node is not None:
                first = not (operands[0].requires_grad or operands[0].array.any())
                self.sizes[outputs[0].node.number] = size, first

    def arrived(self, node, gradient):
        if node.number in self.sizes:
            size, first = self.sizes[node.number]
            self.backwards += size * (sum(edge is not None for edge in node.edges) + first)


def products(name, size):
    """The operations of the products into which a step falls without fused ops."""
    counter = Products()
    with ta.unfused(), observe(counter):
        step_on(name, size)()
    return counter.forwards, counter.backwards


@functools.cache
def polynomial_of(name):
    size = size_of(sample_of(name))
    return Operations.of(lambda small: count_step(step_on(name, small)), size.source, size.target)


@given(st.sampled_from(NAMES), st.integers(1, 4), st.integers(1, 7), st.integers(1, 6))
def test_the_operations_of_every_batch_are_those_of_its_products(name, rows, source, target):
    size = Size(rows, source if name in CASES else 0, target if name in CASES else 5)
    expected = products(name, size)
    assert operations(name, size) == expected
    assert polynomial_of(name)(size) == expected


@pytest.mark.parametrize("name", NAMES)
def test_of_every_model(name):
    size = Size(3, 5, 4) if name in CASES else Size(3, 0, 5)
    assert polynomial_of(name)(size) == operations(name, size) == products(name, size)


COMPOSED = {name: op for name, op in registered_ops().items() if op.reference is not None and op.samples}


@pytest.mark.parametrize("name", COMPOSED)
def test_every_op_that_falls_into_products_is_known(name):
    op, known = COMPOSED[name], MATMULS.get(name)
    for seed in range(8):
        sample = op.samples(Draw.seeded(seed))
        counter, shapes = Products(), [getattr(operand, "shape", None) for operand in sample.operands]
        leaves = [
            ta.tensor(x, requires_grad=x.dtype.kind == "f") if isinstance(x, np.ndarray) else x for x in sample.operands
        ]
        with ta.unfused(), observe(counter):
            op(*leaves, **{**op.defaults, **sample.options})
        options = {**op.defaults, **sample.options}
        assert (known.forward(shapes, options) if known else 0) == counter.forwards, str(sample)


def test_a_checkpoint_computes_its_forward_pass_again():
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), ta.randn(2, 3, 8)
    plain = count_step(lambda: layer(x).sum().backward())
    again = count_step(lambda: ta.checkpoint(layer, x).sum().backward())
    assert (again.forward, again.backward) == (plain.forward, plain.forward + plain.backward)
    assert again.kept < plain.kept / 4


def test_what_is_kept_is_what_is_allocated():
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
    x = ta.randn(4, 16, 32)
    kept = count_step(lambda: layer(x).sum().backward()).kept
    layer(x)
    tracemalloc.start()
    try:
        output = layer(x).sum()
        allocated = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert output.requires_grad
    assert kept == pytest.approx(allocated + x.array.nbytes, rel=0.1)


def test_what_is_shared_is_kept_once_and_parameters_are_not():
    w = ta.ones(10, requires_grad=True)

    def step():
        y = w * 2.0
        (y * y + y[2:].sum() * w).sum().backward()

    found = count_step(step)
    assert found.kept == 40 + 4  # y, and the sum; w is a leaf
    assert isinstance(found, Counts) and found.forward == found.backward == 0


# -- batches of other sizes --------------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
def test_batches_of_any_size(rows, source, target):
    for batch in (PAIRS, WINDOWS):
        size = Size(rows, source if batch is PAIRS else 0, target)
        made = resized(batch, size)
        assert size_of(made) == size and made.target_tokens == rows * target == made.target_mask.sum()
        assert {*made.target_in.flat} <= {*batch.target_in[batch.target_mask]}
        assert len(made) == rows
