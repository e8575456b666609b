# %% [markdown]
# # 6. GPT: one stack that learns to write
#
# A language model reads a text from left to right and says at every position which symbol comes next. GPT is the
# decoder of lesson 5 without a source. We write it for whole batches, hold it to `models/gpt.py`, train it on a nursery
# rhyme for a few seconds, and let it write.

# %% [markdown] lang="ko"
# # 6. GPT: 쓰는 법을 배우는 층 쌓기
#
# 언어 모델은 글을 왼쪽에서 오른쪽으로 읽으며, 위치마다 다음에 어떤 기호가 올지 말합니다. GPT는 5과의 디코더에서 원문을
# 뺀 것입니다. 배치를 통째로 다루도록 쓰고, `models/gpt.py`와 맞추어 보고, 전래 동요로 몇 초 동안 학습시킨 다음 글을
# 쓰게 해 봅시다.

# %%
import math

import numpy as np
from tinygrad_attn_models.gpt import GPT

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F

deeds = """
house that Jack built|malt that lay in|rat that ate|cat that killed|dog that worried|cow that tossed
""".strip().split("|")
text = "".join(f"This is the {' the '.join(reversed(deeds[: n + 1]))}.\n" for n in range(len(deeds)))
symbols = sorted(set(text))
ids = np.array([symbols.index(letter) for letter in text])
print(text.splitlines()[2], f"… {len(text)} letters, {len(symbols)} different ones")
assert text.splitlines()[2] == "This is the rat that ate the malt that lay in the house that Jack built."

# %% [markdown]
# ## The model
#
# h is the *residual stream*: a vector for each position that passes through all blocks. Each block reads a normalised
# copy of it and adds what it found: first attention, which brings something from earlier positions, then the
# feed-forward network, which thinks about it.
#
# **Question.** In lesson 5 the norm stood behind the addition, here it stands before the sublayer. What does a gradient
# that comes down the stream pass on its way from the last block to the embedding?

# %% [markdown] lang="ko"
# ## 모델
#
# h는 *잔차 흐름*입니다. 위치마다 벡터 하나씩이 모든 블록을 지나갑니다. 블록은 흐름을 정규화한 사본을 읽고 찾은 것을
# 더합니다. 먼저 어텐션이 앞의 위치에서 무언가를 가져오고, 다음에 피드포워드 신경망이 그것을 가지고 생각합니다.
#
# **질문.** 5과에서는 정규화가 덧셈 뒤에 있었고, 여기서는 하위 층 앞에 있습니다. 흐름을 따라 내려오는 기울기는 마지막
# 블록에서 임베딩까지 무엇을 지나게 될까요?

# %%
D, HEADS, LAYERS, CONTEXT = 32, 4, 2, 24


def norm(x, w):
    centred = x - x.mean(-1, keepdim=True)
    return centred / ta.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-5) * w


def attend(x, W, block):
    """(B, T, D) to the same: every position reads itself and those before it."""
    B, T, _ = x.shape
    q, k, v = ta.chunk(x @ W[f"{block}.self_attn.in_proj_weight"].T, 3, -1)
    q, k, v = (part.reshape(B, T, HEADS, D // HEADS).transpose(1, 2) for part in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(D // HEADS)
    weights = ta.softmax(ta.where(ta.tensor(np.tri(T, dtype=bool)), scores, -math.inf), dim=-1)
    return (weights @ v).transpose(1, 2).reshape(B, T, D) @ W[f"{block}.self_attn.out_proj.weight"].T


def think(x, W, block):
    return F.gelu(x @ W[f"{block}.feed_forward.linear1.weight"].T) @ W[f"{block}.feed_forward.linear2.weight"].T


def stream(h, W):
    """All blocks: (B, T, D) to (B, T, D)."""
    for number in range(LAYERS):
        block = f"blocks.{number}"
        h = h + attend(norm(h, W[f"{block}.norm1.weight"]), W, block)
        h = h + think(norm(h, W[f"{block}.norm2.weight"]), W, block)
    return h


def gpt(x, W):
    """Ids (B, T) to logits (B, T, V): the last matrix is the embedding, transposed."""
    h = W["embedding.weight"][x] + W["positions.weight"][: x.shape[1]]
    return norm(stream(h, W), W["norm.weight"]) @ W["embedding.weight"].T


ta.manual_seed(0)
model = GPT(len(symbols), layers=LAYERS, heads=HEADS, d_model=D, context=CONTEXT, dtype=ta.float64)
W = {name: ta.tensor(p.detach().numpy(), requires_grad=True) for name, p in model.named_parameters()}
last = ("out_proj.weight", "linear2.weight")  # of every sublayer
silent = {name: ta.zeros_like(w) if name.endswith(last) else w for name, w in W.items()}
h, wish = ta.randn(1, 5, D, dtype=ta.float64, requires_grad=True), ta.randn(1, 5, D, dtype=ta.float64)
(gradient,) = ta.grad((stream(h, silent) * wish).sum(), h)
print("blocks that say nothing change the gradient by", abs(gradient - wish).max().item())
assert ta.equal(gradient, wish)

# %% [markdown]
# Nothing but additions: with silent blocks the gradient arrives at the bottom as it left the top. A block can only add
# to it. (In lesson 5 it would have passed a norm at every sublayer.)
#
# ## The same as the model

# %% [markdown] lang="ko"
# 덧셈뿐입니다. 블록이 아무 말도 하지 않으면 기울기는 꼭대기를 떠난 그대로 바닥에 닿습니다. 블록은 거기에 더할 수 있을
# 뿐입니다. (5과에서라면 하위 층마다 정규화를 지나야 했을 것입니다.)
#
# ## 모델과 같은가

# %%
x, y = ta.tensor(ids[None, :CONTEXT]), ta.tensor(ids[1 : CONTEXT + 1])
logits, of_model = gpt(x, W)[0], model(x)[0]
F.cross_entropy(logits, y).backward()
F.cross_entropy(of_model, y).backward()
np.testing.assert_allclose(logits.detach().numpy(), of_model.detach().numpy(), rtol=0, atol=1e-12)
for name, parameter in model.named_parameters():
    np.testing.assert_allclose(W[name].grad.numpy(), parameter.grad.numpy(), rtol=0, atol=1e-12, err_msg=name)
print(f"the logits and the gradients of {len(W)} parameters agree")

# %% [markdown]
# ## One matrix, used twice
#
# The embedding reads symbols at the bottom and, transposed, says them at the top.
#
# **Question.** Two uses, one gradient. How do the two shares combine?

# %% [markdown] lang="ko"
# ## 두 번 쓰이는 행렬 하나
#
# 임베딩은 바닥에서 기호를 읽고, 전치되어 꼭대기에서 기호를 말합니다.
#
# **질문.** 쓰임은 둘인데 기울기는 하나입니다. 두 몫은 어떻게 합쳐질까요?

# %%
reads, says = (W["embedding.weight"].detach().clone().requires_grad_() for _ in range(2))
h = reads[x] + W["positions.weight"][:CONTEXT]
F.cross_entropy((norm(stream(h, W), W["norm.weight"]) @ says.T)[0], y).backward()
sizes = [np.linalg.norm(part.grad.numpy()) for part in (reads, says)]
print("as reader {:.4f}, as speaker {:.4f}".format(*sizes))
whole = model.embedding.weight.grad.numpy()
np.testing.assert_allclose((reads.grad + says.grad).numpy(), whole, rtol=0, atol=1e-12)

# %% [markdown]
# They add up, as in lesson 1: the shares of all uses.
#
# ## Training
#
# **Question.** The loss is the mean of −log p(next letter). There are 24 different letters, and an untrained model
# knows nothing. What is its loss?

# %% [markdown] lang="ko"
# 더해집니다. 1과에서 본 대로, 모든 쓰임의 몫입니다.
#
# ## 학습
#
# **질문.** 손실은 −log p(다음 글자)의 평균입니다. 서로 다른 글자는 24개이고, 학습하지 않은 모델은 아무것도 모릅니다.
# 손실은 얼마일까요?

# %%
rng = np.random.default_rng(0)
W = {name: ta.tensor(w.detach().numpy(), dtype=ta.float32, requires_grad=True) for name, w in W.items()}
optimizer = ta.optim.AdamW(W.values(), lr=6e-3)
losses = []
for step in range(400):
    starts = rng.integers(0, len(ids) - CONTEXT, size=16)
    windows = np.stack([ids[start : start + CONTEXT + 1] for start in starts])
    logits = gpt(ta.tensor(windows[:, :-1]), W)
    loss = F.cross_entropy(logits.reshape(-1, len(symbols)), ta.tensor(windows[:, 1:].ravel()))
    optimizer.zero_grad()
    loss.backward()
    optimizer.lr = 6e-3 * (1 - step / 400)  # smaller and smaller steps
    optimizer.step()
    losses.append(loss.item())
    if step % 100 == 0 or step == 399:
        print(f"step {step:3}: loss {loss.item():.3f}, {loss.item() / math.log(2):.2f} bits a letter")
assert len(symbols) == 24 and abs(losses[0] - math.log(24)) < 0.1
assert np.mean(losses[-10:]) < 0.5

# %% [markdown]
# log 24 = 3.18: as good as guessing. In the end few letters are a surprise, and those that are cannot be known: after
# "This is the " come six different words.
#
# ## Writing
#
# The model says how likely each letter is. Dividing the logits by a *temperature* below 1 makes it bolder, above 1 more
# daring.
#
# **Question.** "This is the cat" is given. What follows if it always takes the likeliest letter?

# %% [markdown] lang="ko"
# log 24 = 3.18, 찍는 것과 같습니다. 마지막에는 뜻밖의 글자가 거의 없고, 남은 것은 알 수 없는 글자입니다. "This is the "
# 다음에는 여섯 단어가 올 수 있습니다.
#
# ## 글쓰기
#
# 모델은 글자마다 얼마나 그럴듯한지 말합니다. 로짓을 1보다 작은 *온도*로 나누면 확실한 것만 고르고, 1보다 큰 온도로
# 나누면 모험을 합니다.
#
# **질문.** "This is the cat"이 주어졌습니다. 늘 가장 그럴듯한 글자를 고르면 무엇이 이어질까요?


# %%
def write(beginning, letters, temperature=0.0):
    written = [symbols.index(letter) for letter in beginning]
    for _ in range(letters):
        with ta.no_grad():
            logits = gpt(ta.tensor([written[-CONTEXT:]]), W).numpy()[0, -1]
        if temperature:
            logits = logits / temperature + rng.gumbel(size=len(logits))  # the largest is now a draw from softmax
        written.append(int(logits.argmax()))
    return "".join(symbols[i] for i in written)


print(write("This is the cat", 60))
print("temperature 2:", write("This is the cat", 60, temperature=2.0).replace("\n", "↵"))
assert sum(w.numel() for w in W.values()) == 26_272 and len(text) == 505
assert write("This is the cat", 25) == "This is the cat that killed the rat that"

# %% [markdown]
# It has learned the rhyme by heart: 26,272 numbers for 505 letters. What it does with a text that it cannot memorise is
# `python -m models train --config gpt`: the same model, on stories that are new each time.
#
# **To try.** Ask for "This is the dog that killed": does it follow the dog or the killing? Train with one head, or
# without positions. In the microscope every head of every layer can be seen: `python -m models microscope RUN "TEXT"`.

# %% [markdown] lang="ko"
# 동요를 외웠습니다. 글자 505개에 숫자 26,272개를 썼으니까요. 외울 수 없는 글로 무엇을 하는지는 `python -m models train
# --config gpt`에서 볼 수 있습니다. 같은 모델을 매번 새로운 이야기로 학습시킵니다.
#
# **해 보기.** "This is the dog that killed"를 주어 보세요. 개를 따라갈까요, 죽인 것을 따라갈까요? 머리를 하나로
# 줄이거나 위치를 빼고 학습해 보세요. 현미경에서는 모든 층의 모든 머리를 볼 수 있습니다: `python -m models microscope
# RUN "TEXT"`.
