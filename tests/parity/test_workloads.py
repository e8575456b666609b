"""The workloads beside the same models in PyTorch: the loss, and the loss again after three training steps."""

import math

import numpy as np
import pytest
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.speed.bench import CLIP_NORM, LEARNING_RATE
from tinygrad_attn_models.speed.workloads import (
    BahdanauWorkload,
    LuongWorkload,
    TransformerWorkload,
    batch_loss,
    random_batch,
    random_text,
)

from tinygrad_attn import random
from tinygrad_attn.optim import Adam

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
nn = torch.nn
V, E, H, LAYERS, HEADS, FF = 23, 6, 8, 2, 2, 10
BATCH_SIZE, SOURCE_LENGTH, TARGET_LENGTH = 5, 7, 6


class TorchBahdanau(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.se, self.te = nn.Embedding(V, E), nn.Embedding(V, E)
        self.enc, self.cell = nn.GRU(E, H, batch_first=True), nn.GRUCell(E + H, H)
        self.wq, self.wk, self.v = nn.Linear(H, H, bias=False), nn.Linear(H, H), nn.Linear(H, 1, bias=False)
        self.out = nn.Linear(H, V)

    def forward(self, source, target, mask):
        encoded, last = self.enc(self.drop(self.se(source)))
        keys, hidden, states = self.wk(encoded), last[0], []
        for token in self.drop(self.te(target)).unbind(1):
            scores = self.v(torch.tanh(self.wq(hidden)[:, None] + keys))[..., 0].masked_fill(~mask, -1e9)
            context = (torch.softmax(scores, -1)[:, None] @ encoded)[:, 0]
            hidden = self.cell(torch.cat([token, context], -1), hidden)
            states.append(hidden)
        return self.out(self.drop(torch.stack(states, 1)))


class TorchLuong(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.se, self.te = nn.Embedding(V, E), nn.Embedding(V, E)
        self.enc, self.dec = nn.LSTM(E, H, batch_first=True), nn.LSTM(E, H, batch_first=True)
        self.wa, self.wc, self.out = nn.Linear(H, H, bias=False), nn.Linear(2 * H, H), nn.Linear(H, V)

    def forward(self, source, target, mask):
        encoded, last = self.enc(self.drop(self.se(source)))
        decoded, _ = self.dec(self.drop(self.te(target)), last)
        scores = (decoded @ self.wa(encoded).transpose(1, 2)).masked_fill(~mask[:, None], -1e9)
        context = torch.softmax(scores, -1) @ encoded
        return self.out(self.drop(torch.tanh(self.wc(torch.cat([decoded, context], -1)))))


class TorchTransformer(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.se, self.te = nn.Embedding(V, H), nn.Embedding(V, H)
        self.tr = nn.Transformer(H, HEADS, LAYERS, LAYERS, FF, dropout=dropout, batch_first=True)
        self.out = nn.Linear(H, V)
        angles = torch.arange(16)[:, None] / 10000 ** (torch.arange(0, H, 2) / H)
        self.register_buffer("pe", torch.stack([angles.sin(), angles.cos()], -1).flatten(1))

    def forward(self, source, target, mask):
        x = self.se(source) * math.sqrt(H) + self.pe[: source.shape[1]]
        y = self.te(target) * math.sqrt(H) + self.pe[: target.shape[1]]
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        masks = {"src_key_padding_mask": ~mask, "memory_key_padding_mask": ~mask, "tgt_mask": causal}
        return self.out(self.tr(self.drop(x), self.drop(y), **masks, tgt_is_causal=True))


class TorchGPT(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(V, H), nn.Embedding(TARGET_LENGTH, H)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TorchBlock(dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(H, bias=False)

    def forward(self, text):
        x = self.dropout(self.embedding(text) + self.positions.weight)
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.embedding.weight.T


class TorchBlock(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(H, bias=False), nn.LayerNorm(H, bias=False)
        self.self_attn = nn.MultiheadAttention(H, HEADS, dropout, bias=False, batch_first=True)
        self.feed_forward = nn.Module()
        self.feed_forward.linear1 = nn.Linear(H, 4 * H, bias=False)
        self.feed_forward.linear2 = nn.Linear(4 * H, H, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        y, causal = self.norm1(x), nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        x = x + self.dropout(self.self_attn(y, y, y, attn_mask=causal, is_causal=True, need_weights=False)[0])
        hidden = nn.functional.gelu(self.feed_forward.linear1(self.norm2(x)))
        return x + self.dropout(self.feed_forward.linear2(hidden))


def make_gpt(dtype, dropout=0.0):
    sizes = {"layers": LAYERS, "heads": HEADS, "d_model": H, "context": TARGET_LENGTH}
    return GPT(V, dtype=dtype, dropout=dropout, **sizes)


def make_batch(kind):
    if kind == "gpt":
        return random_text(V, BATCH_SIZE, TARGET_LENGTH, seed=1)
    batch = random_batch(V, BATCH_SIZE, SOURCE_LENGTH, TARGET_LENGTH, seed=1)
    assert not batch.source_mask.array.all()
    return batch


def in_torch(tensors):
    return [torch.from_numpy(tensor.array) for tensor in tensors]


PAIRS = {
    "bahdanau": (lambda dtype, dropout=0.0: BahdanauWorkload(V, E, H, dropout, dtype=dtype), TorchBahdanau),
    "luong": (lambda dtype, dropout=0.0: LuongWorkload(V, E, H, dropout, dtype=dtype), TorchLuong),
    "transformer": (
        lambda dtype, dropout=0.0: TransformerWorkload(V, H, LAYERS, HEADS, FF, dropout, dtype=dtype),
        TorchTransformer,
    ),
    "gpt": (make_gpt, TorchGPT),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-5)])
def test_losses_and_steps(kind, dtype, tolerance):
    make, make_theirs = PAIRS[kind]
    torch.manual_seed(0)
    theirs = make_theirs().to(getattr(torch, dtype))
    if kind != "gpt":
        with torch.no_grad():
            theirs.out.weight *= 8.0  # models as small as these have gradients too small to be clipped
    ours = make(np.dtype(dtype))
    # The table of positions is a buffer there, and computed here.
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items() if name != "pe"})
    assert {name for name, _ in ours.named_parameters()} == {name for name, _ in theirs.named_parameters()}
    batch = make_batch(kind)
    operands, target_out = in_torch(batch.operands), torch.from_numpy(batch.target_out.array)
    optimizer = Adam(ours.parameters(), LEARNING_RATE)
    their_optimizer = torch.optim.Adam(theirs.parameters(), LEARNING_RATE)
    losses, norms = [], []
    for _ in range(4):
        optimizer.zero_grad()
        loss = batch_loss(ours, batch)
        loss.backward()
        norm = optimizer.step(clip_norm=CLIP_NORM)

        their_optimizer.zero_grad()
        logits = theirs(*operands)
        their_loss = nn.functional.cross_entropy(logits.flatten(0, 1), target_out.flatten())
        their_loss.backward()
        their_norm = nn.utils.clip_grad_norm_(theirs.parameters(), CLIP_NORM)
        their_optimizer.step()

        norms.append(float(their_norm))
        assert norm == pytest.approx(float(their_norm), rel=tolerance)
        assert float(loss.item()) == pytest.approx(their_loss.item(), rel=tolerance)
        losses.append(their_loss.item())
    assert min(norms) > CLIP_NORM
    assert losses[0] - losses[3] > 10 * tolerance * losses[0]  # three steps are seen in the loss


@pytest.mark.parametrize("kind", PAIRS)
def test_as_much_is_dropped(kind, monkeypatch):
    """As many tensors as in PyTorch, attention weights among them."""
    make, make_theirs = PAIRS[kind]
    counts = {"ours": 0, "theirs": 0}

    def count(whose, function):
        def counted(*arguments, **options):
            given = [value for value in (*arguments, *options.values()) if isinstance(value, float)]
            counts[whose] += whose == "ours" or 0.3 in given
            return function(*arguments, **options)

        return counted

    monkeypatch.setattr(random, "new_key", count("ours", random.new_key))
    for name in ("dropout", "scaled_dot_product_attention"):
        monkeypatch.setattr(nn.functional, name, count("theirs", getattr(nn.functional, name)))
    batch = make_batch(kind)
    batch_loss(make(np.dtype("float32"), 0.3), batch)
    make_theirs(0.3)(*in_torch(batch.operands))
    assert counts["ours"] == counts["theirs"] > 0
