# %% [markdown]
# # 5. The Transformer in one file
#
# "Attention Is All You Need" took the recurrent network away. What is left are five small parts: embeddings with
# positions, attention with several heads, a feed-forward network, the residual connection, and the norm. Here is each
# in a few lines; together they are `models/transformer.py`, logits and gradients to the last digits.

# %% [markdown] lang="ko"
# # 5. 파일 하나로 쓰는 트랜스포머
#
# "Attention Is All You Need"는 순환 신경망을 걷어 냈습니다. 남은 것은 작은 부품 다섯 개입니다. 위치를 더한 임베딩,
# 머리가 여럿인 어텐션, 피드포워드 신경망, 잔차 연결, 정규화입니다. 각각 몇 줄씩이고, 모두 합치면 로짓과 기울기가 마지막
# 자리까지 `models/transformer.py`와 같습니다.

# %%
import math

import numpy as np
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F

ta.manual_seed(0)
D, HEADS, LAYERS = 8, 2, 2
model = Transformer(
    9, 8, d_model=D, heads=HEADS, encoder_layers=LAYERS, decoder_layers=LAYERS, d_ff=16, dropout=0.0, dtype=ta.float64
)
W = {name: ta.tensor(p.detach().numpy(), requires_grad=True) for name, p in model.named_parameters()}
source = ta.tensor([4, 7, 5, 8, 7])
read, say = ta.tensor([1, 6, 3, 5]), ta.tensor([6, 3, 5, 2])  # <s> y_1 y_2 y_3, and y_1 y_2 y_3 </s>

# %% [markdown]
# ## Attention
#
# Every position asks (query), every position offers (key) and has something to give (value). This is lesson 2 with a
# matrix product on each side:
#
# $$\operatorname{attention}(Q, K, V) = \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$
#
# **Question.** Why three matrices W_Q, W_K, W_V? What if queries and keys had the same one?

# %% [markdown] lang="ko"
# ## 어텐션
#
# 모든 위치가 묻고(질의), 모든 위치가 자기를 내놓으며(키), 줄 것을 가지고 있습니다(값). 2과의 소프트맥스 양쪽에 행렬
# 곱이 붙은 것입니다.
#
# $$\operatorname{attention}(Q, K, V) = \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$
#
# **질문.** 왜 W_Q, W_K, W_V 세 개일까요? 질의와 키가 같은 행렬을 쓰면 어떻게 될까요?


# %%
def attention(q, k, v, allowed=None):
    """The contexts and weights of queries (…, T, d), keys and values (…, S, d); where allowed is False none looks."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = ta.where(allowed, scores, -math.inf)
    weights = ta.softmax(scores, dim=-1)
    return weights @ v, weights


x = ta.randn(5, D, dtype=ta.float64)
w_q, w_k = ta.randn(D, D, dtype=ta.float64), ta.randn(D, D, dtype=ta.float64)
same, different = ((x @ w_q) @ (x @ w_q).T).numpy(), ((x @ w_q) @ (x @ w_k).T).numpy()
print("symmetric:", np.allclose(same, same.T), "with one matrix,", np.allclose(different, different.T), "with two")
assert np.allclose(same, same.T) and not np.allclose(different, different.T)

# %% [markdown]
# With one matrix the scores are symmetric: "it" could not look at "cat" without "cat" looking back as much. And what
# decides where to look would be what is handed over. Three roles, three matrices.
#
# ## Heads
#
# One softmax gives one mixture. To look at several places for several reasons, the vector of size 8 is cut into 2 heads
# of size 4, each with a softmax of its own; W_O mixes what they found.
#
# **Question.** Do more heads need more parameters?

# %% [markdown] lang="ko"
# 행렬이 하나이면 점수가 대칭입니다. "it"이 "cat"을 보는 만큼 "cat"도 "it"을 보아야 합니다. 게다가 어디를 볼지 정하는
# 것이 곧 건네줄 것이 되어 버립니다. 역할이 셋이니 행렬도 셋입니다.
#
# ## 머리
#
# 소프트맥스 하나는 섞은 것 하나를 줍니다. 여러 까닭으로 여러 곳을 보려면, 크기 8인 벡터를 크기 4인 머리 두 개로 나누고
# 머리마다 소프트맥스를 따로 둡니다. 머리들이 찾은 것은 W_O가 섞습니다.
#
# **질문.** 머리가 많아지면 파라미터도 많아질까요?


# %%
def linear(x, name):
    return x @ W[f"{name}.weight"].T + W[f"{name}.bias"]


def into_heads(x):
    """(T, D) to (heads, T, D / heads)."""
    return x.reshape(x.shape[0], HEADS, D // HEADS).transpose(0, 1)


def multihead(x, memory, name, allowed=None):
    """x asks, memory answers; in self-attention they are the same."""
    (w_q, w_k, w_v), (b_q, b_k, b_v) = (ta.chunk(W[f"{name}.in_proj_{kind}"], 3) for kind in ("weight", "bias"))
    q, k, v = x @ w_q.T + b_q, memory @ w_k.T + b_k, memory @ w_v.T + b_v
    contexts, _ = attention(into_heads(q), into_heads(k), into_heads(v), allowed)
    return linear(contexts.transpose(0, 1).reshape(x.shape), f"{name}.out_proj")


in_proj = W["transformer.encoder.layers.0.self_attn.in_proj_weight"]
print("W_Q, W_K and W_V, one above the other:", in_proj.shape, "whatever the number of heads")
assert in_proj.shape == (3 * D, D)

# %% [markdown]
# No: heads are a way to cut the same vectors. Without them one large map, with them several small ones.
#
# ## Positions
#
# **Question.** The words of the source are shuffled. What happens to the outputs of self-attention?

# %% [markdown] lang="ko"
# 아닙니다. 머리는 같은 벡터를 나누는 방법일 뿐입니다. 나누지 않으면 큰 지도 하나, 나누면 작은 지도 여럿입니다.
#
# ## 위치
#
# **질문.** 원문의 단어들을 뒤섞습니다. 셀프 어텐션의 출력은 어떻게 될까요?

# %%
shuffled = ta.tensor([3, 0, 4, 1, 2])
name = "transformer.encoder.layers.0.self_attn"
plain, mixed = multihead(x, x, name), multihead(x[shuffled], x[shuffled], name)
print("shuffled alike:", np.allclose(mixed.detach().numpy(), plain[shuffled].detach().numpy()))
np.testing.assert_allclose(mixed.detach().numpy(), plain[shuffled].detach().numpy(), atol=1e-12)

# %% [markdown]
# They are shuffled alike, and nothing else: attention sees a *set* of words. So the place is added to each embedding,
# as sines and cosines of wavelengths from 2π to 10000 · 2π.

# %% [markdown] lang="ko"
# 똑같이 뒤섞일 뿐 달라지는 것이 없습니다. 어텐션은 단어의 *집합*을 봅니다. 그래서 임베딩마다 자리를 더해 줍니다. 파장이
# 2π부터 10000 · 2π까지인 사인과 코사인입니다.


# %%
def embed(tokens, name):
    """√D E x + positions: (T,) to (T, D)."""
    angles = np.arange(tokens.shape[0])[:, None] / 10000 ** (np.arange(0, D, 2) / D)
    positions = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(-1, D)
    return W[f"{name}_embedding.weight"][tokens] * math.sqrt(D) + positions


x = embed(source, "source")
print("7 at position 1 and at position 4:", np.round(abs((x[1] - x[4]).detach().numpy()).max(), 3), "apart")
assert abs((x[1] - x[4]).detach().numpy()).max() > 0.1

# %% [markdown]
# ## Residual and norm
#
# Every sublayer's output is *added* to what it read, and the sum is normalised to mean 0 and variance 1.
#
# **Question.** A sublayer's last matrix is all zeros, as if it were not there. What gradient reaches its input through
# x + sublayer(x)? And what would reach it through sublayer(x) alone?

# %% [markdown] lang="ko"
# ## 잔차 연결과 정규화
#
# 하위 층의 출력은 그 입력에 *더해지고*, 합은 평균 0, 분산 1로 정규화됩니다.
#
# **질문.** 어떤 하위 층의 마지막 행렬이 모두 0이어서 없는 것이나 마찬가지입니다. x + sublayer(x)를 지나서 입력에 닿는
# 기울기는 무엇일까요? sublayer(x)만 지난다면 무엇이 닿을까요?


# %%
def norm(x, name):
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / ta.sqrt(variance + 1e-5) * W[f"{name}.weight"] + W[f"{name}.bias"]


def feed_forward(x, name):
    return linear(F.relu(linear(x, f"{name}.linear1")), f"{name}.linear2")


kept = W["transformer.encoder.layers.0.linear2.weight"]
W["transformer.encoder.layers.0.linear2.weight"] = ta.zeros(kept.shape, dtype=ta.float64)
x, wish = ta.randn(5, D, dtype=ta.float64, requires_grad=True), ta.randn(5, D, dtype=ta.float64)
through = feed_forward(x, "transformer.encoder.layers.0")
(beside,) = ta.grad(((x + through) * wish).sum(), x, retain_graph=True)
(alone,) = ta.grad((through * wish).sum(), x)
W["transformer.encoder.layers.0.linear2.weight"] = kept
print("with the residual, the wish itself:", np.array_equal(beside.numpy(), wish.numpy()))
print("without it:", abs(alone.numpy()).max())
assert np.array_equal(beside.numpy(), wish.numpy()) and not alone.numpy().any()

# %% [markdown]
# The addition hands the gradient on untouched, whatever the sublayer does. That is why deep stacks can be trained.
#
# ## The encoder, and the decoder that must not peek
#
# The decoder is trained on all its positions at once: at position t it has read y_1 … y_{t−1} and says y_t. But the
# whole target lies there, so a *causal mask* lets each position look at itself and to the left only.

# %% [markdown] lang="ko"
# 하위 층이 무엇을 하든 덧셈은 기울기를 그대로 넘깁니다. 깊이 쌓아도 학습되는 까닭입니다.
#
# ## 인코더, 그리고 훔쳐보면 안 되는 디코더
#
# 디코더는 모든 위치를 한꺼번에 학습합니다. 위치 t에서는 y_1 … y_{t−1}을 읽었고 y_t를 말합니다. 그런데 목표 문장이
# 통째로 놓여 있으므로, *인과 마스크*를 써서 각 위치가 자기 자신과 왼쪽만 보게 합니다.


# %%
def encode(source):
    x = embed(source, "source")
    for layer in range(LAYERS):
        name = f"transformer.encoder.layers.{layer}"
        x = norm(x + multihead(x, x, f"{name}.self_attn"), f"{name}.norm1")
        x = norm(x + feed_forward(x, name), f"{name}.norm2")
    return norm(x, "transformer.encoder.norm")


def decode(memory, x):
    """The logits at every position, of the target's embeddings x."""
    causal = ta.tensor(np.tri(x.shape[0], dtype=bool))
    for layer in range(LAYERS):
        name = f"transformer.decoder.layers.{layer}"
        x = norm(x + multihead(x, x, f"{name}.self_attn", causal), f"{name}.norm1")
        x = norm(x + multihead(x, memory, f"{name}.multihead_attn"), f"{name}.norm2")
        x = norm(x + feed_forward(x, name), f"{name}.norm3")
    return linear(norm(x, "transformer.decoder.norm"), "output")


logits = decode(encode(source), embed(read, "target"))
loss = F.cross_entropy(logits, say)
loss.backward()

# %% [markdown]
# That is the whole model. Is it `models/transformer.py`?

# %% [markdown] lang="ko"
# 모델은 이것이 전부입니다. `models/transformer.py`와 같을까요?

# %%
of_model = model(source.unsqueeze(0), ta.ones(1, 5).to(bool), read.unsqueeze(0))
F.cross_entropy(of_model[0], say).backward()
np.testing.assert_allclose(logits.detach().numpy(), of_model[0].detach().numpy(), rtol=0, atol=1e-12)
for name, parameter in model.named_parameters():
    np.testing.assert_allclose(W[name].grad.numpy(), parameter.grad.numpy(), rtol=0, atol=1e-12, err_msg=name)
print(f"the logits and the gradients of {len(W)} parameters agree")

# %% [markdown]
# ## What the causal mask does to gradients
#
# **Question.** Take the loss of position 1 alone. Which embeddings of the target get a gradient? And the keys that were
# masked with −∞: is their gradient infinite?

# %% [markdown] lang="ko"
# ## 인과 마스크는 기울기에 무엇을 하는가
#
# **질문.** 위치 1의 손실만 봅시다. 목표 쪽의 어느 임베딩이 기울기를 받을까요? −∞로 가려진 키의 기울기는 무한대일까요?

# %%
embedded = embed(read, "target").detach().requires_grad_()
logits = decode(encode(source), embedded)
rows = []
for position in range(4):
    of_one = F.cross_entropy(logits[position], say[position])
    rows.append(abs(ta.grad(of_one, embedded, retain_graph=True)[0].numpy()).sum(-1))
print("rows: the loss of a position; columns: what it read\n", np.round(rows, 3))
assert ((np.array(rows) > 0) == np.tri(4, dtype=bool)).all() and np.isfinite(rows).all()

# %% [markdown]
# A triangle of exact zeros: the loss at t neither sees nor blames what comes later. So one pass over a sentence of T
# words trains on T examples, each with its own beginning of the sentence, in one pass.
#
# **To try.** Leave out the mask: the loss falls to nearly 0 in training, and the model writes nonsense. Why? Move the
# norm before the sublayer (x + sublayer(norm(x))) and compare with `norm_first=True`.

# %% [markdown] lang="ko"
# 정확히 0인 삼각형입니다. 위치 t의 손실은 뒤에 오는 것을 보지도 않고 탓하지도 않습니다. 그래서 단어가 T개인 문장을 한
# 번 지나는 것만으로, 문장의 앞부분이 저마다 다른 예 T개를 학습합니다.
#
# **해 보기.** 마스크를 빼 보세요. 학습 손실은 거의 0이 되는데 모델은 엉뚱한 것을 씁니다. 왜일까요? 정규화를 하위 층
# 앞으로 옮기고 (x + sublayer(norm(x))) `norm_first=True`와 비교해 보세요.
