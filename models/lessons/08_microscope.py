# %% [markdown]
# # 8. Reading the microscope
#
# The microscope writes down every number of a forward and a backward pass and checks each. A page full of right numbers
# still has to be read. We train a small model for a few seconds, tell it something wrong, and follow one question
# through: *why does this score's gradient have this sign?*

# %% [markdown] lang="ko"
# # 8. 현미경 읽기
#
# 현미경은 순전파와 역전파의 모든 숫자를 적고 하나하나 검사합니다. 맞는 숫자로 가득한 화면도 읽을 줄 알아야 합니다. 작은
# 모델을 몇 초 동안 학습시키고, 틀린 것을 말해 준 다음, 질문 하나를 끝까지 따라가 봅시다. *이 점수의 기울기는 왜 이
# 부호일까요?*

# %%
import numpy as np
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record.arrays import decoded

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F

START, END, DIGITS, LENGTH = 1, 2, 4, 5  # the ids 4 … 13 are the digits 0 … 9
ta.manual_seed(0)
rng = np.random.default_rng(0)
model = Bahdanau(14, 14, embedding_size=16, hidden_size=32)
optimizer = ta.optim.Adam(model.parameters(), lr=5e-3)
mask = ta.ones(32, LENGTH).to(bool)
for step in range(301):
    source = rng.integers(DIGITS, 14, size=(32, LENGTH))
    target = np.concatenate([np.full((32, 1), START), source[:, ::-1], np.full((32, 1), END)], 1)  # reversed
    logits = model(ta.tensor(source), mask, ta.tensor(target[:, :-1]))
    loss = F.cross_entropy(logits.reshape(-1, 14), ta.tensor(target[:, 1:].ravel()))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
assert loss.item() < 0.05

# %% [markdown]
# It reverses five digits. Now we show it 1 2 3 4 5 and claim that the answer is 5 4 **9** 2 1.
#
# **Question.** The page has the loss of each of six symbols (five digits and `</s>`). Which is large?

# %% [markdown] lang="ko"
# 모델은 숫자 다섯 개를 뒤집습니다. 이제 1 2 3 4 5를 보여 주고 답이 5 4 **9** 2 1이라고 우겨 봅시다.
#
# **질문.** 화면에는 여섯 기호(숫자 다섯 개와 `</s>`)의 손실이 하나씩 있습니다. 어느 것이 클까요?

# %%
shown = [DIGITS + digit for digit in (1, 2, 3, 4, 5)]
claimed = [DIGITS + digit for digit in (5, 4, 9, 2, 1)]
page = microscope(model, shown, claimed)
data = page.data
losses = [token["loss"] for token in data["tokens"]]
print(page)
print("losses", np.round(losses, 3))
assert int(np.argmax(losses)) == 2 and losses[2] > 3
assert data["check"]["ok"]

# %% [markdown]
# The third, and the badge is green: central differences of the loss, plain NumPy and identities agree with every number
# on the page. A green badge does not say that the model is right. It says that what you read is true of it.
#
# ## Where does it look?
#
# The view *Attention matrices* has the scores e, the weights α, the context, and the gradient of each. A row is a step
# of the decoder, a column a symbol of the source.
#
# **Question.** In row 2 it should say the third digit from the right. Which column has the largest weight?

# %% [markdown] lang="ko"
# 세 번째입니다. 그리고 배지는 초록색입니다. 손실의 중심 차분, 순수한 NumPy, 항등식이 화면의 모든 숫자와 일치합니다.
# 초록 배지는 모델이 옳다는 말이 아닙니다. 여러분이 읽는 것이 그 모델에 대해 참이라는 말입니다.
#
# ## 어디를 보는가
#
# ‘어텐션 행렬’ 화면에는 점수 e, 가중치 α, 문맥 벡터와 각각의 기울기가 있습니다. 행은 디코더의 단계이고 열은 원문의
# 기호입니다.
#
# **질문.** 2행에서는 오른쪽에서 세 번째 숫자를 말해야 합니다. 어느 열의 가중치가 가장 클까요?


# %%
def read(name, part):
    """A tensor of the attention, or its gradient: (rows, columns)."""
    return decoded(data["arrays"][data["sites"][0]["tensors"][name][part]])[0]


alpha, alpha_bar, e_bar = read("weights", "value"), read("weights", "gradient"), read("scores", "gradient")
print("weights\n", alpha.round(3))
assert int(alpha[2].argmax()) == 2

# %% [markdown]
# ## Which way does the gradient pull?
#
# **Question.** In which row is ∂L/∂e the largest? And what does row 2 of it sum to?

# %% [markdown] lang="ko"
# ## 기울기는 어느 쪽으로 당기는가
#
# **질문.** ∂L/∂e는 어느 행에서 가장 클까요? 그리고 그 2행을 더하면 얼마일까요?

# %%
print("∂L/∂e, row by row, largest:", abs(e_bar).max(1).round(5))
print("row 2:", e_bar[2].round(5), "sum", abs(e_bar[2].sum()).round(12))
assert abs(e_bar[2].sum()) < 1e-12

# %% [markdown]
# Zero: attention is shared out, and what one symbol gains the others lose. (Rows after the mistake have gradients, too:
# their state has read the 9.)
#
# ## Why this sign?
#
# The view *Softmax Jacobian* computes ē = α (ᾱ − Σ α ᾱ). A weight is never negative, so the sign is that of the
# bracket.
#
# **Question.** For the column that it looks at in row 2: is its ᾱ above or below the mean? What will gradient descent
# do with the score?

# %% [markdown] lang="ko"
# 0입니다. 어텐션은 나누어 갖는 것이어서, 한 기호가 얻는 만큼 다른 기호들이 잃습니다. (실수 다음의 행에도 기울기가
# 있습니다. 그 상태들이 9를 읽었기 때문입니다.)
#
# ## 왜 이 부호인가
#
# ‘소프트맥스 야코비안’ 화면은 ē = α (ᾱ − Σ α ᾱ)를 계산합니다. 가중치는 음수가 될 수 없으므로 부호는 괄호 안의
# 부호입니다.
#
# **질문.** 2행에서 보고 있는 열의 ᾱ는 평균보다 클까요, 작을까요? 경사 하강법은 그 점수를 어떻게 할까요?

# %%
mean = (alpha[2] * alpha_bar[2]).sum()
bracket = alpha_bar[2, 2] - mean
print(f"α {alpha[2, 2]:.4f}, ᾱ {alpha_bar[2, 2]:+.5f}, mean {mean:+.5f}, bracket {bracket:+.5f}, ē {e_bar[2, 2]:+.6f}")
print("gradient descent", "lowers" if e_bar[2, 2] > 0 else "raises", "the score")
np.testing.assert_allclose(alpha[2] * (alpha_bar[2] - mean), e_bar[2], rtol=0, atol=1e-15)
assert np.sign(bracket) == np.sign(e_bar[2, 2])

# %% [markdown]
# So that is why. Not because the model looks at the wrong symbol (it looks at the right one), but because more of this
# symbol moves the loss by more, or by less, than more of the others would.
#
# ## Does it tell the truth?
#
# **Question.** A gradient is a promise: move along it by a little, and the loss falls by η‖g‖². We take one step of
# descent with every weight of the model. Is the promise kept at η = 0.001, and at η = 1?

# %% [markdown] lang="ko"
# 이것이 까닭입니다. 모델이 엉뚱한 기호를 보아서가 아닙니다(옳은 기호를 보고 있습니다). 이 기호를 더 보는 것이 다른
# 기호들을 더 보는 것보다 손실을 더 많이, 또는 더 적게 움직이기 때문입니다.
#
# ## 기울기는 참말을 하는가
#
# **질문.** 기울기는 약속입니다. 그 방향으로 조금 움직이면 손실이 η‖g‖²만큼 줄어든다는 약속입니다. 모델의 모든 가중치를
# 한 걸음 움직입니다. η = 0.001일 때 약속은 지켜질까요? η = 1일 때는요?


# %%
def loss_now(model):
    read_, said = [START, *claimed], [*claimed, END]
    logits = model(ta.tensor([shown]), ta.ones(1, LENGTH).to(bool), ta.tensor([read_]))
    return F.cross_entropy(logits[0], ta.tensor(said))


exact = model.to(np.float64)
exact.zero_grad()
before = loss_now(exact)
before.backward()
gradients = {name: parameter.grad.numpy().copy() for name, parameter in exact.named_parameters()}
promised = sum((gradient**2).sum() for gradient in gradients.values())
assert np.isclose(before.item(), data["meta"]["loss"], rtol=1e-12)
kept = {}
for eta in (1e-5, 1e-3, 1.0):
    with ta.no_grad():
        for name, parameter in exact.named_parameters():
            parameter.sub_(ta.tensor(gradients[name]) * eta)
        kept[eta] = (before.item() - loss_now(exact).item()) / (eta * promised)
        for name, parameter in exact.named_parameters():
            parameter.add_(ta.tensor(gradients[name]) * eta)
    print(f"η = {eta}: the loss falls by {kept[eta]:.4f} of what was promised")
assert abs(kept[1e-5] - 1) < 0.01 and abs(kept[1.0] - 1) > 0.5

# %% [markdown]
# A gradient is true in a small neighbourhood, and says nothing of how small. That is what a learning rate is for.
#
# **To read on.** `page.save("page.html")` writes the page; in a notebook `page` alone shows it. Its views in the order
# of this lesson: Summary, Attention matrices, Softmax Jacobian; then Paths through time for the ways of lesson 3, and
# Check it yourself for code that computes any cell from the others. `microscope(module, inputs, loss=…)` opens on a
# module of yours, and `from_torch` on one of PyTorch.
#
# **To try.** Claim 5 4 3 2 1, the truth, and look at the gradients again. What is left of them, and why?

# %% [markdown] lang="ko"
# 기울기는 좁은 이웃 안에서만 참이고, 얼마나 좁은지는 말해 주지 않습니다. 학습률이 있는 까닭입니다.
#
# **더 읽기.** `page.save("page.html")`은 화면을 파일로 씁니다. 노트북에서는 `page`만 적으면 보입니다. 이 과의 차례대로
# 화면을 들면 ‘요약’, ‘어텐션 행렬’, ‘소프트맥스 야코비안’이고, 그다음 3과의 길들을 보여 주는 ‘시간을 거치는 경로’,
# 그리고 아무 칸이나 다른 칸들로 계산하는 코드가 있는 ‘직접 확인하기’가 있습니다. `microscope(module, inputs, loss=…)`는
# 여러분의 모듈에서, `from_torch`는 PyTorch 모듈에서 열립니다.
#
# **해 보기.** 참인 5 4 3 2 1을 답이라고 하고 기울기를 다시 보세요. 무엇이 남았고, 왜 그럴까요?
