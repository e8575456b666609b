# %% [markdown]
# # 4. Luong's six steps, forward and backward
#
# Luong, Pham and Manning made attention simpler: the decoder reads a symbol, is in its new state s, and from *that*
# state looks back. Six steps lead from s to the next word: **score, softmax, weighted sum, concatenation, s̃, output**.
# We compute them in NumPy, then walk back through all six by hand, and hold every gradient to `models/luong.py`.

# %% [markdown] lang="ko"
# # 4. 루옹의 여섯 단계, 앞으로 그리고 뒤로
#
# 루옹, 팜, 매닝은 어텐션을 더 단순하게 만들었습니다. 디코더가 기호를 읽어 새 상태 s가 되고, *그* 상태에서 뒤를
# 돌아봅니다. s에서 다음 단어까지 여섯 단계가 있습니다. **점수, 소프트맥스, 가중합, 연결, s̃, 출력**입니다. 이것을
# NumPy로 계산하고, 여섯 단계를 손으로 거꾸로 지나며, 모든 기울기를 `models/luong.py`와 맞추어 봅니다.

# %%
import numpy as np
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.luong import Luong

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F

ta.manual_seed(0)
model = Luong(source_size=9, target_size=8, embedding_size=4, hidden_size=6, score="general", dtype=ta.float64)
W = {name: p.detach().numpy() for name, p in model.named_parameters()}
source = ta.tensor([[4, 7, 5, 8, 6]])  # x_1 … x_5
read, say = ta.tensor([[1, 6, 3, 5]]), np.array([6, 3, 5, 2])  # <s> y_1 y_2 y_3, and y_1 y_2 y_3 </s>

# The recurrent layers are the model's own; h and s are where the six steps begin.
h_tensor, last = model.encoder(model.source_embedding(source))
s_tensor, _ = model.decoder(model.target_embedding(read), last)
h, s = h_tensor.detach().numpy()[0], s_tensor.detach().numpy()[0]
print("h", h.shape, "s", s.shape)
T, S, H = len(s), len(h), h.shape[1]
assert (T, S, H) == (4, 5, 6)

# %% [markdown]
# No step of the decoder waits for the attention of another: all states s_1 … s_T are known before the first score. So
# the six steps are matrix products over all times at once, with a row for each t.
#
# ## Forward
#
# **Question.** Before you read on: what are the shapes of e, α, a, [a; s], s̃ and of the logits? There are 8 words.

# %% [markdown] lang="ko"
# 디코더의 어느 단계도 다른 단계의 어텐션을 기다리지 않습니다. 첫 점수를 구하기 전에 상태 s_1 … s_T를 모두 압니다.
# 그래서 여섯 단계는 모든 시점을 한꺼번에 다루는 행렬 곱이고, 시점 t마다 행이 하나씩 있습니다.
#
# ## 순전파
#
# **질문.** 읽기 전에 답해 보세요. e, α, a, [a; s], s̃, 로짓의 모양은 각각 무엇일까요? 단어는 8개입니다.


# %%
def softmax(e):
    powers = np.exp(e - e.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def from_scores(e, h, s):
    """Steps 2 to 6, and what they leave behind."""
    alpha = softmax(e)  # 2. softmax
    a = alpha @ h  # 3. weighted sum: the context
    joined = np.concatenate([a, s], 1)  # 4. concatenation
    s_tilde = np.tanh(joined @ W["combine.weight"].T + W["combine.bias"])  # 5. s̃
    logits = s_tilde @ W["output.weight"].T + W["output.bias"]  # 6. output
    return alpha, a, joined, s_tilde, logits


def loss_of(logits):
    return -np.log(softmax(logits)[np.arange(T), say]).mean()


keys = h @ W["score.key.weight"].T
e = s @ keys.T  # 1. score: e_tj = s_t · W_a h_j
alpha, a, joined, s_tilde, logits = from_scores(e, h, s)
shapes = [x.shape for x in (e, alpha, a, joined, s_tilde, logits)]
print(shapes)
assert shapes == [(T, S), (T, S), (T, H), (T, 2 * H), (T, H), (T, 8)]
of_model = model(source, ta.ones(1, S).to(bool), read)
np.testing.assert_allclose(logits, of_model.detach().numpy()[0], rtol=0, atol=1e-14)

# %% [markdown]
# ## Backward, from the last step to the first
#
# A bar marks a gradient: ē = ∂L/∂e. The loss is the mean of −log p(y_t), so the logits have the gradient of lesson 2:
# probability minus one where the right word is, divided by T.
#
# **Step 6, output.** Each logit is a dot product of s̃ with a row of W_y, so s̃ gets those rows back, weighted.
#
# **Step 5, s̃.** tanh' = 1 − tanh².
#
# **Question.** A component of s̃ is 0.99. How much of its gradient gets past the tanh?

# %% [markdown] lang="ko"
# ## 역전파, 마지막 단계에서 첫 단계로
#
# 위에 그은 줄은 기울기를 뜻합니다. ē = ∂L/∂e. 손실은 −log p(y_t)의 평균이므로 로짓의 기울기는 2과에서 본 대로입니다.
# 확률에서 정답 단어의 자리만 1을 빼고, T로 나눕니다.
#
# **6단계, 출력.** 로짓은 s̃와 W_y의 한 행의 내적이므로, s̃는 그 행들을 가중치를 매겨 돌려받습니다.
#
# **5단계, s̃.** tanh' = 1 − tanh²입니다.
#
# **질문.** s̃의 어떤 성분이 0.99입니다. 그 기울기 가운데 얼마가 tanh를 지나갈까요?

# %%
print(f"1 − 0.99² = {1 - 0.99**2:.4f}")
assert 1 - 0.99**2 < 0.02
logits_bar = (softmax(logits) - np.eye(8)[say]) / T
s_tilde_bar = logits_bar @ W["output.weight"]  # step 6
inner_bar = s_tilde_bar * (1 - s_tilde**2)  # step 5: past the tanh
joined_bar = inner_bar @ W["combine.weight"]  # and past W_c

# %% [markdown]
# Two per cent: a saturated component hardly learns, and nothing below it does through it.
#
# **Step 4, concatenation.** What was joined is cut apart: the first half is ā, the second is what s gets directly.
#
# **Step 3, weighted sum.** a_t = Σ_j α_tj h_j has two kinds of inputs, and the product rule gives each its share: ᾱ_tj
# = ā_t · h_j, a comparison of the wish with what stands at j; and h̄_j = Σ_t α_tj ā_t, the wish itself, as much of it as
# was looked at.
#
# **Question.** h_j was not looked at by any t: α_tj = 0. What gradient does it get as a value?

# %% [markdown] lang="ko"
# 2퍼센트입니다. 포화된 성분은 거의 배우지 못하고, 그 아래의 것도 이 성분을 통해서는 배우지 못합니다.
#
# **4단계, 연결.** 이어 붙인 것은 잘라 나눕니다. 앞쪽 절반이 ā이고, 뒤쪽 절반은 s가 바로 받는 것입니다.
#
# **3단계, 가중합.** a_t = Σ_j α_tj h_j에는 입력이 두 종류 있고, 곱의 미분법이 각각에게 몫을 줍니다. ᾱ_tj = ā_t · h_j는
# 바라는 것과 j에 있는 것의 비교이고, h̄_j = Σ_t α_tj ā_t는 바라는 것 그 자체를 눈길을 준 만큼 받은 것입니다.
#
# **질문.** 어느 t도 h_j를 보지 않았습니다(α_tj = 0). 값으로서 h_j가 받는 기울기는 얼마일까요?

# %%
a_bar, s_bar_joined = joined_bar[:, :H], joined_bar[:, H:]  # step 4
alpha_bar = a_bar @ h.T  # step 3, for the weights
h_bar_value = alpha.T @ a_bar  # step 3, for the values
unseen = alpha.copy()
unseen[:, 2] = 0
assert not (unseen.T @ a_bar)[2].any()
print("h̄ of the symbol that nobody looked at:", (unseen.T @ a_bar)[2])

# %% [markdown]
# Nothing: blame goes where attention went.
#
# **Step 2, softmax.** Lesson 2, row by row.
#
# **Step 1, score.** e_tj = s_t · W_a h_j is a product of three, and each gets the gradient times the other two.
#
# **Question.** What does each row of ē sum to?

# %% [markdown] lang="ko"
# 아무것도 받지 않습니다. 책임은 어텐션이 간 곳으로 갑니다.
#
# **2단계, 소프트맥스.** 2과에서 한 것을 행마다 합니다.
#
# **1단계, 점수.** e_tj = s_t · W_a h_j는 셋의 곱이고, 각각은 기울기에 나머지 둘을 곱한 것을 받습니다.
#
# **질문.** ē의 각 행을 더하면 얼마일까요?

# %%
e_bar = alpha * (alpha_bar - (alpha * alpha_bar).sum(1, keepdims=True))  # step 2
s_bar_score = e_bar @ keys  # step 1, for the state
keys_bar = e_bar.T @ s  # step 1, for W_a h_j
h_bar_key = keys_bar @ W["score.key.weight"]
print("rows of ē sum to", e_bar.sum(1).round(18))
assert abs(e_bar.sum(1)).max() < 1e-15

# %% [markdown]
# Zero, for softmax knows only differences: what one symbol gains in attention, others lose.
#
# ## Is it right?
#
# First, ask the loss: nudge each score a little, compute steps 2 to 6 anew, and compare.

# %% [markdown] lang="ko"
# 0입니다. 소프트맥스는 차이만 알기 때문입니다. 어떤 기호가 얻는 만큼 다른 기호들이 잃습니다.
#
# ## 맞는가
#
# 먼저 손실에게 물어봅니다. 점수를 하나씩 조금 움직이고, 2단계부터 6단계까지 다시 계산해서 비교합니다.

# %%
by_nudging = np.empty((T, S))
for t, j in np.ndindex(T, S):
    step = np.zeros((T, S))
    step[t, j] = 1e-4
    by_nudging[t, j] = (loss_of(from_scores(e + step, h, s)[-1]) - loss_of(from_scores(e - step, h, s)[-1])) / 2e-4
print("largest difference", abs(by_nudging - e_bar).max())
np.testing.assert_allclose(by_nudging, e_bar, rtol=0, atol=1e-10)

# %% [markdown]
# Then, the model. s and h each have two shares, which add up. Below them are recurrent layers, where the engine takes
# over from our numbers; so all parameters can be compared, those of encoder and decoder as well.
#
# **Question.** Which two ways lead from s_t to the loss, and which two from h_j?

# %% [markdown] lang="ko"
# 다음은 모델입니다. s와 h에는 각각 몫이 두 개씩 있고, 더하면 됩니다. 그 아래는 순환 층이고, 거기부터는 엔진이 우리
# 숫자를 이어받습니다. 그래서 인코더와 디코더의 것까지 모든 파라미터를 비교할 수 있습니다.
#
# **질문.** s_t에서 손실로 가는 두 길은 무엇이고, h_j에서 가는 두 길은 무엇일까요?

# %%
s_bar = s_bar_joined + s_bar_score  # by the concatenation, and by the scores
h_bar = h_bar_value + h_bar_key  # as a value, and as a key
ours = {
    "score.key.weight": keys_bar.T @ h,
    "combine.weight": inner_bar.T @ joined,
    "combine.bias": inner_bar.sum(0),
    "output.weight": logits_bar.T @ s_tilde,
    "output.bias": logits_bar.sum(0),
}
ta.backward([s_tensor, h_tensor], [ta.tensor(s_bar[None]), ta.tensor(h_bar[None])])
below = {name: p.grad.numpy() for name, p in model.named_parameters() if name not in ours}
model.zero_grad()
F.cross_entropy(of_model[0], ta.tensor(say)).backward()
for name, parameter in model.named_parameters():
    found = {**below, **ours}[name]
    np.testing.assert_allclose(found, parameter.grad.numpy(), rtol=0, atol=1e-14, err_msg=name)
print(f"{len(ours)} gradients by hand, {len(below)} below them: as the model's")

# %% [markdown]
# ## Luong or Bahdanau: which state asks?
#
# **Question.** The decoder is given another symbol at t = 2. In which rows may the attention change, with Luong's
# model, and with Bahdanau's?

# %% [markdown] lang="ko"
# ## 루옹인가 바흐다나우인가: 어느 상태가 묻는가
#
# **질문.** t = 2에서 디코더에 다른 기호를 줍니다. 루옹의 모델에서는 어느 행의 어텐션이 바뀔 수 있고, 바흐다나우의
# 모델에서는 어느 행일까요?

# %%
other = ta.tensor([[1, 6, 7, 5]])  # 7 in place of 3
for system in (model, Bahdanau(9, 8, 4, 5, dtype=ta.float64)):
    rows = [system(source, ta.ones(1, S).to(bool), x, need_weights=True)[1]["attention"][0, 0] for x in (read, other)]
    changed = np.flatnonzero(abs((rows[0] - rows[1]).detach().numpy()).max(1) > 0).tolist()
    print(f"{type(system).__name__}: rows {changed}")
    assert changed == ([2, 3] if system is model else [3])

# %% [markdown]
# Luong's s_t has read the symbol when it asks; Bahdanau's s_{t−1} has not, so the answer comes one step later. That is
# also why Bahdanau needs a loop over time and Luong none.
#
# **To try.** Replace the score by the plain dot product (`keys = h`) and mend the backward. `models/luong.py` with
# `score="dot"` is your judge. In the microscope the view "Six steps" walks through what you have just computed.

# %% [markdown] lang="ko"
# 루옹의 s_t는 물을 때 이미 그 기호를 읽었고, 바흐다나우의 s_{t−1}은 아직 읽지 않았으므로 한 걸음 늦게 반응합니다.
# 바흐다나우에는 시간에 대한 반복문이 필요하고 루옹에는 필요 없는 까닭이기도 합니다.
#
# **해 보기.** 점수를 단순한 내적으로 바꾸고(`keys = h`) 역전파를 고쳐 보세요. `score="dot"`인 `models/luong.py`가
# 심판입니다. 현미경의 ‘여섯 단계’ 화면은 방금 계산한 것을 하나씩 짚어 갑니다.
