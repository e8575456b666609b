"""Workloads small enough for kernels that run as plain Python."""

from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.speed.workloads import BahdanauWorkload, LuongWorkload, TransformerWorkload, Workload

VOCABULARY, BATCH_SIZE, LENGTH = 11, 3, 4  # of source and target alike
EMBEDDING, HIDDEN = 5, 6
D_MODEL, LAYERS, HEADS, D_FF = 8, 2, 2, 10
_SIZES = (VOCABULARY, BATCH_SIZE, LENGTH, LENGTH)

TINY_WORKLOADS = {
    "tiny-bahdanau": Workload(lambda: BahdanauWorkload(VOCABULARY, EMBEDDING, HIDDEN), *_SIZES),
    "tiny-luong": Workload(lambda: LuongWorkload(VOCABULARY, EMBEDDING, HIDDEN), *_SIZES),
    "tiny-transformer": Workload(lambda: TransformerWorkload(VOCABULARY, D_MODEL, LAYERS, HEADS, D_FF), *_SIZES),
    "tiny-gpt": Workload(
        lambda: GPT(VOCABULARY, layers=LAYERS, heads=HEADS, d_model=D_MODEL, context=LENGTH),
        VOCABULARY,
        BATCH_SIZE,
        None,
        LENGTH,
    ),  # fmt: skip,
}
