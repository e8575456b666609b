# %% [markdown]
# # 2. Softmax and its Jacobian
#
# Softmax stands in the middle of attention: scores go in, weights come out. Every gradient that trains a query or a key
# passes through it. Here is its derivative, first by nudging, then as a formula, then as the one line that an engine
# runs; each is held to the one before.

# %% [markdown] lang="ko"
# # 2. 소프트맥스와 야코비 행렬
#
# 소프트맥스는 어텐션의 한가운데에 있습니다. 점수가 들어가고 가중치가 나옵니다. 질의와 키를 학습시키는 기울기는 모두
# 이곳을 지납니다. 여기서는 소프트맥스의 미분을 먼저 값을 움직여서, 다음에는 공식으로, 마지막에는 엔진이 실제로 실행하는
# 한 줄로 구하고, 매번 앞의 것과 맞추어 봅니다.

# %%
import numpy as np

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F


def softmax(e):
    powers = np.exp(e - e.max())
    return powers / powers.sum()


e = np.array([2.0, 1.0, 0.0, -1.0])  # four scores
p = softmax(e)
print(p.round(4), "sum", p.sum())
assert np.isclose(p.sum(), 1.0) and np.isclose(p[0] / p[1], np.e)

# %% [markdown]
# Each weight is positive, and they sum to 1. A difference of 1 between two scores is a ratio of e between their
# weights.
#
# **Question.** What are the weights if 5 is added to *every* score? And why does the code subtract the largest score
# first?

# %% [markdown] lang="ko"
# 가중치는 모두 양수이고 합은 1입니다. 두 점수의 차이가 1이면 두 가중치의 비는 e입니다.
#
# **질문.** *모든* 점수에 5를 더하면 가중치는 어떻게 될까요? 그리고 코드는 왜 가장 큰 점수를 먼저 뺄까요?

# %%
assert np.allclose(softmax(e + 5.0), p)
with np.errstate(over="ignore", invalid="ignore"):
    naive = np.exp(e + 1000.0) / np.exp(e + 1000.0).sum()
print("exp(1000) / exp(1000):", naive, "after the subtraction:", softmax(e + 1000.0).round(4))
assert np.isnan(naive).all() and np.allclose(softmax(e + 1000.0), p)

# %% [markdown]
# Only differences of scores count. So one may subtract anything, and the largest is what keeps `exp` from overflowing.
#
# ## Nudge one score
#
# **Question.** The second score grows a little. Which weights grow, which shrink, and by how much in all?

# %% [markdown] lang="ko"
# 점수는 차이만 중요합니다. 그러니 무엇을 빼도 되고, 가장 큰 점수를 빼면 `exp`가 넘치지 않습니다.
#
# ## 점수 하나를 움직이기
#
# **질문.** 두 번째 점수를 조금 키웁니다. 어느 가중치가 커지고, 어느 것이 작아지며, 변화를 모두 더하면 얼마일까요?

# %%
nudge = 1e-6


def nudged(j):
    """How all weights change, per unit, with the score j."""
    step = nudge * np.eye(len(e))[j]
    return (softmax(e + step) - softmax(e - step)) / (2 * nudge)


print(nudged(1).round(4), "sum", abs(nudged(1).sum()).round(9))
assert (nudged(1) > 0).tolist() == [False, True, False, False]
assert abs(nudged(1).sum()) < 1e-9

# %% [markdown]
# One score moves all weights, for they share a total of 1: what one gains, the others lose. So the derivative is not a
# number for each score but a table, the *Jacobian*: row i, column j says how the weight i changes with the score j.
#
# ## The formula
#
# With S = Σ exp(e_k), the quotient rule gives for p_i = exp(e_i) / S
#
# $$\frac{\partial p_i}{\partial e_j} = \frac{[i = j]\, e^{e_i} S - e^{e_i} e^{e_j}}{S^2} = p_i\,([i = j] - p_j)
# \qquad J = \operatorname{diag}(p) - p\,p^\top$$
#
# **Question.** p₁ is about 0.237. What is the entry in row 1, column 1?

# %% [markdown] lang="ko"
# 점수 하나가 모든 가중치를 움직입니다. 합이 1로 정해져 있으니 하나가 얻는 만큼 나머지가 잃습니다. 그래서 미분은
# 점수마다 숫자 하나가 아니라 표, 곧 *야코비 행렬*입니다. i행 j열은 점수 j에 따라 가중치 i가 얼마나 변하는지를 말합니다.
#
# ## 공식
#
# S = Σ exp(e_k)라 하면, p_i = exp(e_i) / S에 몫의 미분법을 써서
#
# $$\frac{\partial p_i}{\partial e_j} = \frac{[i = j]\, e^{e_i} S - e^{e_i} e^{e_j}}{S^2} = p_i\,([i = j] - p_j)
# \qquad J = \operatorname{diag}(p) - p\,p^\top$$
#
# **질문.** p₁은 약 0.237입니다. 1행 1열은 얼마일까요?

# %%
J = np.diag(p) - np.outer(p, p)
print(J.round(4))
assert np.isclose(J[1, 1], 0.2369 * (1 - 0.2369), atol=1e-4)
np.testing.assert_allclose(J, np.stack([nudged(j) for j in range(4)], axis=1), atol=1e-9)

# %% [markdown]
# ## What the table says
#
# **Question.** Without computing: what do its columns sum to, and its rows? Is it symmetric?

# %% [markdown] lang="ko"
# ## 표가 말하는 것
#
# **질문.** 계산하지 말고 답해 보세요. 열의 합과 행의 합은 얼마일까요? 대칭일까요?

# %%
print("columns", abs(J.sum(0)).max().round(15), "rows", abs(J.sum(1)).max().round(15))
assert np.allclose(J.sum(0), 0) and np.allclose(J.sum(1), 0) and np.array_equal(J, J.T)
assert np.linalg.eigvalsh(J).min() > -1e-15

# %% [markdown]
# A column sums to 0, since the weights always sum to 1. A row sums to 0, since adding the same to all scores changes
# nothing. It is symmetric: score j pulls at weight i as score i pulls at weight j. And no eigenvalue is negative: if
# all scores move along a gradient, the weights never move against it.
#
# ## Backward needs no table
#
# Backward is given p̄ = ∂L/∂p, one number for each weight, and asks for ē = ∂L/∂e. That is Jᵀp̄, and with the formula
# above
#
# $$\bar e = J^\top \bar p = p \odot \Big(\bar p - \sum_k p_k\, \bar p_k\Big)$$
#
# **Question.** The loss would like every weight to be larger, each by the same amount: ∂L/∂p = (−1, −1, −1, −1). What
# reaches the scores?

# %% [markdown] lang="ko"
# 가중치의 합은 늘 1이므로 열의 합은 0입니다. 모든 점수에 같은 수를 더해도 변하는 것이 없으므로 행의 합도 0입니다.
# 그리고 대칭입니다. 점수 j가 가중치 i를 당기는 만큼 점수 i가 가중치 j를 당깁니다. 음의 고윳값은 없습니다. 점수가 어떤
# 기울기 방향으로 움직이면 가중치가 그 반대로 움직이는 일은 없습니다.
#
# ## 역전파에는 표가 필요 없다
#
# 역전파는 가중치마다 숫자 하나씩 p̄ = ∂L/∂p를 받아 ē = ∂L/∂e를 구합니다. 그것은 Jᵀp̄이고, 위의 공식을 넣으면
#
# $$\bar e = J^\top \bar p = p \odot \Big(\bar p - \sum_k p_k\, \bar p_k\Big)$$
#
# **질문.** 손실이 모든 가중치가 똑같이 커지기를 바랍니다. ∂L/∂p = (−1, −1, −1, −1)입니다. 점수에는 무엇이 도착할까요?


# %%
def softmax_backward(p, p_bar):
    return p * (p_bar - (p * p_bar).sum())


print(softmax_backward(p, -np.ones(4)))
assert np.allclose(softmax_backward(p, -np.ones(4)), 0)

# %% [markdown]
# Nothing: all weights cannot grow. What counts is how a weight's ∂L/∂p compares with the mean of all, taken under the
# weights. That one sentence explains every sign in an attention's gradient:
#
# - **below** the mean (more weight here lowers the loss more than elsewhere): ∂L/∂e < 0, the score will *rise*;
# - **above** the mean: the score will *fall*;
# - and the weight itself is a factor: where attention does not look, it hardly learns to look.
#
# **Question.** ∂L/∂p = (0.5, −1, 0, 0). Which scores will rise?

# %% [markdown] lang="ko"
# 아무것도 도착하지 않습니다. 모든 가중치가 함께 커질 수는 없기 때문입니다. 중요한 것은 어떤 가중치의 ∂L/∂p를, 가중치로
# 잰 전체의 평균과 비교하는 것입니다. 이 한 문장이 어텐션 기울기의 모든 부호를 설명합니다.
#
# - 평균보다 **작으면** (여기에 가중치를 더 주는 것이 다른 곳보다 손실을 더 줄이면): ∂L/∂e < 0이고, 점수는 *올라갑니다*.
# - 평균보다 **크면** 점수는 *내려갑니다*.
# - 그리고 가중치 자신이 곱해집니다. 어텐션이 보지 않는 곳은 보는 법을 배우기도 어렵습니다.
#
# **질문.** ∂L/∂p = (0.5, −1, 0, 0)입니다. 어느 점수가 올라갈까요?

# %%
p_bar = np.array([0.5, -1.0, 0.0, 0.0])
print(f"mean {(p * p_bar).sum():+.4f}", softmax_backward(p, p_bar).round(4))
np.testing.assert_allclose(softmax_backward(p, p_bar), J.T @ p_bar, atol=1e-15)
assert (softmax_backward(p, p_bar) < 0).tolist() == [False, True, True, True]

# %% [markdown]
# The mean is +0.085, so the third and the fourth score rise, too, although their ∂L/∂p is 0: the first weight, which
# does harm, is to be taken from. But they rise a little only, for their weights are small.
#
# Now the engine: `ta.softmax` through its kernel, and inside `ta.unfused()` through exp, sum and division.

# %% [markdown] lang="ko"
# 평균이 +0.085이므로 ∂L/∂p가 0인 세 번째와 네 번째 점수도 올라갑니다. 해로운 첫 번째 가중치를 덜어 내야 하기
# 때문입니다. 다만 가중치가 작으니 조금만 올라갑니다.
#
# 이제 엔진입니다. `ta.softmax`는 커널로, `ta.unfused()` 안에서는 exp와 합과 나눗셈으로 계산합니다.


# %%
def by_the_engine():
    scores = ta.tensor(e, requires_grad=True)
    (ta.softmax(scores, dim=-1) * p_bar).sum().backward()
    return scores.grad.numpy()


np.testing.assert_allclose(by_the_engine(), softmax_backward(p, p_bar), atol=1e-15)
with ta.unfused():
    np.testing.assert_allclose(by_the_engine(), softmax_backward(p, p_bar), atol=1e-15)

# %% [markdown]
# ## Why attention divides by √d
#
# A score is a dot product of d pairs of numbers. If those have variance 1, the score has variance d, so with d = 256
# scores of ±16 are common. Softmax of such scores puts all the weight on one symbol.
#
# **Question.** And the gradient? Look at the formula when p is nearly (1, 0, 0, …).

# %% [markdown] lang="ko"
# ## 어텐션은 왜 √d로 나누는가
#
# 점수는 숫자 d쌍의 내적입니다. 숫자의 분산이 1이면 점수의 분산은 d이므로, d = 256이면 ±16쯤 되는 점수가 흔합니다. 그런
# 점수를 소프트맥스에 넣으면 가중치가 한 기호에 다 몰립니다.
#
# **질문.** 그러면 기울기는 어떻게 될까요? p가 거의 (1, 0, 0, …)일 때의 공식을 보세요.

# %%
rng = np.random.default_rng(0)


def mean_size_of_jacobian(d, scale):
    """The mean, over 500 draws, of the largest entry of J, for a query and 10 keys of d numbers."""
    sizes = []
    for _ in range(500):
        weights = softmax(scale * (rng.normal(size=(10, d)) @ rng.normal(size=d)))
        sizes.append(abs(np.diag(weights) - np.outer(weights, weights)).max())
    return np.mean(sizes)


for d in (4, 64, 1024):
    plain, scaled = mean_size_of_jacobian(d, 1.0), mean_size_of_jacobian(d, d**-0.5)
    print(f"d = {d:4}: largest entry of J {plain:.4f}, after dividing by √d {scaled:.4f}")
    assert abs(scaled - 0.2) < 0.02  # the same for every d
assert plain < 0.05

# %% [markdown]
# Every entry has a factor p_i (1 − p_i) or p_i p_j, and all of these vanish when one weight is 1. A softmax that is
# sure passes no gradient, not even when it is wrong. Dividing by √d keeps the variance of scores at 1 for any d.
#
# ## Masks: −∞ goes in, and nothing comes back
#
# What must not be looked at gets the score −∞, and so the weight exp(−∞) = 0.
#
# **Question.** Is its gradient −∞, too, or NaN? Ask the formula.

# %% [markdown] lang="ko"
# 모든 원소에는 p_i (1 − p_i)나 p_i p_j가 들어 있고, 가중치 하나가 1이면 이것들은 모두 사라집니다. 확신에 찬
# 소프트맥스는 틀렸을 때조차 기울기를 흘려보내지 않습니다. √d로 나누면 d가 얼마든 점수의 분산이 1로 유지됩니다.
#
# ## 마스크: −∞가 들어가고, 돌아오는 것은 없다
#
# 보면 안 되는 것에는 점수 −∞를 주고, 그러면 가중치는 exp(−∞) = 0이 됩니다.
#
# **질문.** 그 기울기도 −∞일까요, 아니면 NaN일까요? 공식에게 물어보세요.

# %%
masked = softmax(np.array([2.0, 1.0, -np.inf, -1.0]))
print("weights", masked.round(4), "gradient", softmax_backward(masked, p_bar).round(4))
assert masked[2] == 0 and softmax_backward(masked, p_bar)[2] == 0

# %% [markdown]
# The weight is the factor in front, and 0 times a finite number is 0. −∞ appears in the forward pass alone. But when
# *everything* is masked:

# %% [markdown] lang="ko"
# 맨 앞에 가중치가 곱해져 있고, 0에 유한한 수를 곱하면 0입니다. −∞는 순전파에만 나옵니다. 그런데 *모두* 가려지면
# 이렇습니다.

# %%
with np.errstate(invalid="ignore"):
    print("nothing to look at:", softmax(np.full(4, -np.inf)))
    assert np.isnan(softmax(np.full(4, -np.inf))).all()
scores = ta.tensor(e, requires_grad=True)
weights = F.masked_softmax(scores, ta.zeros(4).to(bool), dim=-1)
(weights * p_bar).sum().backward()
print("here:", weights.detach().numpy(), "gradient", scores.grad.numpy())
assert not weights.detach().numpy().any() and not scores.grad.numpy().any()

# %% [markdown]
# The formula says −∞ − (−∞), which is NaN, and one NaN spoils every gradient behind it. That is why masks are boolean
# here: a row with nothing to attend to has zeros, and zero gradient.
#
# ## Softmax, then cross entropy
#
# At the very end of a model softmax meets the loss −log p_y, of the right symbol y. Then ∂L/∂p is −1/p_y at y and 0
# elsewhere.
#
# **Question.** Put that into the one line. What is left?

# %% [markdown] lang="ko"
# 공식대로라면 −∞ − (−∞)이고, 이것은 NaN이며, NaN 하나는 그 뒤의 모든 기울기를 망칩니다. 그래서 여기서는 마스크가
# 불(bool) 값입니다. 볼 것이 없는 행은 0이고 기울기도 0입니다.
#
# ## 소프트맥스 다음의 교차 엔트로피
#
# 모델의 맨 끝에서 소프트맥스는 손실 −log p_y를 만납니다. y는 정답 기호입니다. 그러면 ∂L/∂p는 y에서 −1/p_y이고 다른
# 곳에서는 0입니다.
#
# **질문.** 이것을 위의 한 줄에 넣어 보세요. 무엇이 남을까요?

# %%
y = 2
of_loss = np.zeros(4)
of_loss[y] = -1 / p[y]
logits = ta.tensor(e[None], requires_grad=True)
F.cross_entropy(logits, ta.tensor([y])).backward()
print("p − [y]:", (p - np.eye(4)[y]).round(4))
np.testing.assert_allclose(softmax_backward(p, of_loss), p - np.eye(4)[y], atol=1e-15)
np.testing.assert_allclose(logits.grad.numpy()[0], p - np.eye(4)[y], atol=1e-15)

# %% [markdown]
# p − [y]: what the model said, minus what it should have said. The factor p that kills a sure softmax has cancelled:
# here a model that is sure and wrong gets the largest gradient of all. Attention has no such luck, hence √d.
#
# **To try.** Leave out the second term of `softmax_backward`. Which asserts fail? (It is a common mistake: `python -m
# models microscope RUN TEXT --broken softmax-without-second-term` computes with it.)

# %% [markdown] lang="ko"
# p − [y], 곧 모델이 말한 것에서 말했어야 할 것을 뺀 것입니다. 확신에 찬 소프트맥스를 죽이던 p가 약분되었습니다.
# 여기서는 확신에 차서 틀린 모델이 가장 큰 기울기를 받습니다. 어텐션에는 이런 행운이 없고, 그래서 √d가 있습니다.
#
# **해 보기.** `softmax_backward`의 둘째 항을 빼 보세요. 어느 assert가 실패하나요? (흔한 실수입니다. `python -m models
# microscope RUN TEXT --broken softmax-without-second-term`은 이 실수를 안고 계산합니다.)
