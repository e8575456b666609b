# %% [markdown]
# # 7. An op of your own, with its kernel
#
# All of `tinygrad_attn` is ops: a forward on arrays, one line of calculus for each operand, and where it pays a
# compiled kernel. Here is one that the package lacks, made the way its own are made. Every step has a check, and for
# every check a mistake that it catches.

# %% [markdown] lang="ko"
# # 7. 나만의 연산과 커널
#
# `tinygrad_attn`은 모두 연산으로 되어 있습니다. 연산은 배열에 대한 순전파와 피연산자마다 한 줄씩의 미분이고, 그럴 만한
# 곳에는 컴파일된 커널이 있습니다. 여기서는 패키지에 없는 연산을, 패키지가 제 연산을 만드는 방법 그대로 만듭니다.
# 단계마다 검사가 있고, 검사마다 그것이 잡아내는 실수가 있습니다.

# %%
import math

import numba
import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import op
from tinygrad_attn.nn import functional as F
from tinygrad_attn.samples import Sample

# %% [markdown]
# ## Forward
#
# *Soft capping* bends large scores: z = c tanh(x / c) is nearly x where x is small, and never leaves (−c, c). Gemma 2
# caps its attention scores like that, so that softmax cannot saturate (lesson 2).
#
# An op is a function of arrays with a formula, and a way to draw operands to test it on. A parameter with a default is
# an option, the others are operands.

# %% [markdown] lang="ko"
# ## 순전파
#
# *소프트 캡*은 큰 점수를 구부립니다. z = c tanh(x / c)는 x가 작을 때는 거의 x와 같고, (−c, c)를 결코 벗어나지 않습니다.
# Gemma 2는 어텐션 점수를 이렇게 눌러서 소프트맥스가 포화되지 않게 합니다(2과).
#
# 연산은 배열의 함수에 공식과, 시험해 볼 피연산자를 뽑는 방법을 붙인 것입니다. 기본값이 있는 매개변수는 옵션이고
# 나머지는 피연산자입니다.


# %%
def draw_operands(draw):
    return Sample((draw.floats(draw.shape()),), {"c": draw.choice([0.5, 2.0])})


@op(r"z = c \tanh(x / c)", samples=draw_operands)
def softcap(x, c=30.0):
    return c * np.tanh(x / c)


x = ta.tensor([-1000.0, -1.0, 0.0, 1.0, 1000.0], dtype=ta.float64, requires_grad=True)
print(softcap(x.detach(), c=5.0).numpy().round(3))
assert abs(softcap(x.detach(), c=5.0).numpy()).max() <= 5.0
assert ta.registered_ops()["softcap"] is softcap

# %% [markdown]
# It is registered by its name; that is how tests and tools find every op, yours too.
#
# **Question.** There is no derivative yet. What should happen when x requires a gradient: zeros, or an error?

# %% [markdown] lang="ko"
# 연산은 이름으로 등록됩니다. 테스트와 도구는 이렇게 모든 연산을, 여러분의 것까지 찾아냅니다.
#
# **질문.** 아직 미분이 없습니다. x에 기울기가 필요하다면 어떻게 되어야 할까요? 0일까요, 오류일까요?

# %%
try:
    softcap(x)
except NotImplementedError as error:
    print("error:", error)
else:
    raise AssertionError("no error")

# %% [markdown]
# An error: a gradient that is silently zero would train a model that learns nothing, and nobody would know why.
#
# ## The rule
#
# z' = 1 − tanh²(x / c) = 1 − (z / c)². A rule names what it needs: `g` is the output's gradient, `z` the output, an
# operand or an option goes by its name. Only what some rule names is kept until backward.
#
# **Question.** Why is it written with z, and not with x?

# %% [markdown] lang="ko"
# 오류여야 합니다. 기울기가 말없이 0이면 아무것도 배우지 못하는 모델이 되고, 아무도 그 까닭을 모릅니다.
#
# ## 규칙
#
# z' = 1 − tanh²(x / c) = 1 − (z / c)²입니다. 규칙은 필요한 것을 이름으로 부릅니다. `g`는 출력의 기울기, `z`는 출력이고,
# 피연산자와 옵션은 제 이름으로 부릅니다. 어떤 규칙이든 부른 것만 역전파까지 보관합니다.
#
# **질문.** 왜 x가 아니라 z로 적을까요?

# %%
softcap.vjp("x", r"\bar z \left(1 - (z / c)^2\right)", lambda g, z, c: g * (1.0 - (z / c) * (z / c)))
softcap(x, c=5.0).sum().backward()
print("gradient", x.grad.numpy().round(3))
np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh(x.detach().numpy() / 5.0) ** 2, rtol=0, atol=1e-15)

# %% [markdown]
# The output is there anyway, and a tanh is saved. At ±1000 the gradient is 0: a capped score no longer learns.
#
# ## The checks
#
# `check_op` draws operands and compares: gradients with finite differences, gradients of gradients too, and **the
# formula with the code**, symbol by symbol. So the formula that a reader sees is the one that runs.
#
# **Question.** We forget the square. Which check notices? And if only the formula is wrong, while the code is right?

# %% [markdown] lang="ko"
# 출력은 어차피 있으니 tanh를 한 번 아낍니다. ±1000에서 기울기는 0입니다. 눌린 점수는 더는 배우지 않습니다.
#
# ## 검사
#
# `check_op`은 피연산자를 뽑아 비교합니다. 기울기를 유한 차분과, 기울기의 기울기도 마찬가지로, 그리고 **공식을 코드와**
# 기호 하나하나 비교합니다. 그래서 독자가 보는 공식이 곧 실행되는 공식입니다.
#
# **질문.** 제곱을 빠뜨렸습니다. 어느 검사가 알아차릴까요? 코드는 맞고 공식만 틀렸다면 어떨까요?


# %%
def refused():
    try:
        ta.check_op(softcap)
    except ta.CheckError as error:
        print("refused:", str(error).splitlines()[0][:100])
        return True
    return False


right = r"\bar z \left(1 - (z / c)^2\right)", lambda g, z, c: g * (1.0 - (z / c) * (z / c))
softcap.vjp("x", r"\bar z \left(1 - z / c\right)", lambda g, z, c: g * (1.0 - z / c))
assert refused()
softcap.vjp("x", r"\bar z \left(1 - z / c\right)", right[1])
assert refused()
softcap.vjp("x", *right)
print(ta.check_op(softcap))
assert not refused()

# %% [markdown]
# A rule is an expression over tensors, so it can itself be differentiated: the second derivative comes for free.
#
# ## A kernel
#
# The rule makes four arrays on its way. A kernel makes one, in one pass over memory. It gets arrays in place of
# tensors, and is used unless somebody needs the gradient's gradient.

# %% [markdown] lang="ko"
# 규칙은 텐서의 식이므로 규칙 자체도 미분할 수 있습니다. 이계도함수는 덤으로 얻습니다.
#
# ## 커널
#
# 규칙은 중간에 배열을 네 개 만듭니다. 커널은 메모리를 한 번만 지나면서 하나만 만듭니다. 커널은 텐서 대신 배열을 받고,
# 기울기의 기울기가 필요한 때가 아니면 커널이 쓰입니다.


# %%
@numba.njit
def _capped(g, z, c, result):
    for i in range(z.size):
        share = z[i] / c
        result[i] = g[i] * (1.0 - share * share)


def softcap_kernel(g, z, c):
    g, z = np.ascontiguousarray(g), np.ascontiguousarray(z)
    result = np.empty_like(z)
    _capped(g.ravel(), z.ravel(), c, result.ravel())
    return result


@softcap.composed_of
def in_primitives(x, c):
    return ta.tanh(x / c) * c


softcap.vjp("x", *right, kernel=softcap_kernel)
print(ta.check_op(softcap))

# %% [markdown]
# Now there are three of it: the kernel that runs, the rule that explains it, and the *reference*, the op in primitives,
# which runs inside `ta.unfused()`. `check_op` holds each to the others.
#
# **Question.** The kernel uses `1.0 + share * share`. The forward is right, the rule is right. Who notices?

# %% [markdown] lang="ko"
# 이제 같은 것이 셋 있습니다. 실행되는 커널, 그것을 설명하는 규칙, 그리고 기본 연산으로 적은 *참조 구현*입니다. 참조
# 구현은 `ta.unfused()` 안에서 실행됩니다. `check_op`은 셋을 서로 맞추어 봅니다.
#
# **질문.** 커널이 `1.0 + share * share`를 쓴다고 합시다. 순전파도 맞고 규칙도 맞습니다. 누가 알아차릴까요?

# %%
softcap.vjp("x", *right, kernel=lambda g, z, c: g * (1.0 + (z / c) * (z / c)))
assert refused()
softcap.vjp("x", *right, kernel=softcap_kernel)
assert not refused()

# %% [markdown]
# ## In attention
#
# **Question.** A query is 100 times too long, so softmax is sure of itself. How much gradient reaches the query without
# the cap, and with c = 5?

# %% [markdown] lang="ko"
# ## 어텐션에서
#
# **질문.** 질의가 100배나 길어서 소프트맥스가 확신에 차 있습니다. 캡이 없을 때와 c = 5일 때, 질의에 닿는 기울기는 각각
# 얼마나 될까요?

# %%
ta.manual_seed(0)
query, key, value = (ta.randn(n, 4, dtype=ta.float64, requires_grad=True) for n in (2, 5, 5))


def attend(query, cap):
    scores = query @ key.T / math.sqrt(4)
    return ta.softmax(softcap(scores, c=cap) if cap else scores, dim=-1) @ value


for cap in (0.0, 5.0):
    (gradient,) = ta.grad(F.mse_loss(attend(query * 100.0, cap), ta.zeros(2, 4, dtype=ta.float64)), query)
    size = abs(gradient.numpy()).max()
    print(f"cap {cap}: largest gradient of the query {size:.1e}")
    assert size < 1e-6 if not cap else size > 1e-6
assert ta.gradcheck(lambda q: attend(q, 5.0), [query]) < 1e-6

# %% [markdown]
# With the cap the weights stay away from 0 and 1, and something comes through. Scores far beyond the cap still get
# nothing: there the cap itself is flat.
#
# ## Where it would live
#
# In your own file it works as it stands: `--import FILE` brings it into every command, `@public("Tensor")` makes it a
# method. In the package it would be one more function in `tinygrad_attn/ops/activation.py`, and every test of ops would
# find it by the registry. `python -m models gradcheck` prints the table of all.
#
# **To try.** Let c be learned: make it an operand (no default), and write its rule. (∂z/∂c = tanh(x/c) − (x/c)(1 −
# tanh²(x/c)).) Which symbols does its formula need?

# %% [markdown] lang="ko"
# 캡이 있으면 가중치가 0과 1에서 떨어져 있어서 무언가가 지나갑니다. 캡을 훨씬 넘는 점수는 여전히 아무것도 받지 못합니다.
# 거기서는 캡 자체가 평평하기 때문입니다.
#
# ## 어디에 두는가
#
# 여러분의 파일에서는 이대로 동작합니다. `--import FILE`로 모든 명령에서 쓸 수 있고, `@public("Tensor")`를 붙이면
# 메서드가 됩니다. 패키지라면 `tinygrad_attn/ops/activation.py`의 함수 하나가 되고, 연산의 모든 테스트가 등록부에서
# 그것을 찾아냅니다. `python -m models gradcheck`는 모든 연산의 표를 보여 줍니다.
#
# **해 보기.** c를 학습하게 해 보세요. 기본값을 없애 피연산자로 만들고 규칙을 적으세요. (∂z/∂c = tanh(x/c) − (x/c)(1 −
# tanh²(x/c))입니다.) 공식에는 어떤 기호가 필요할까요?
