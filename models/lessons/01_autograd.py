# %% [markdown]
# # 1. An autograd engine in 100 lines
#
# To train a network is to know, for every one of its numbers, which way to move it so that the loss falls. An autograd
# engine finds that out for all numbers at once, for about the price of computing the loss a few times. We build one
# from nothing but NumPy. At the end attention runs through it, and random programs get the gradients of
# `tinygrad_attn`, to the last digits.

# %% [markdown] lang="ko"
# # 1. 100줄로 만드는 자동 미분 엔진
#
# 신경망을 학습한다는 것은, 손실이 줄어들도록 숫자 하나하나를 어느 쪽으로 움직일지 아는 것입니다. 자동 미분 엔진은 모든
# 숫자에 대한 답을 한 번에 구하며, 그 비용은 손실을 몇 번 계산하는 정도입니다. 여기서는 NumPy만으로 엔진을 처음부터
# 만듭니다. 끝에 가면 어텐션이 이 엔진을 지나가고, 무작위로 만든 프로그램들의 기울기가 `tinygrad_attn`과 마지막 자리까지
# 같아집니다.

# %%
import numpy as np

import tinygrad_attn as ta


def f(x, y):
    return x * y + x


print(f(3.0, -2.0))

# %% [markdown]
# ## What a gradient is
#
# The derivative of `f` by `x` says how much `f` changes, per unit, when `x` is nudged and all else stays.
#
# **Question.** At x = 3, y = −2: what is it by x, and by y? Decide before you run the next cell, which nudges.

# %% [markdown] lang="ko"
# ## 기울기란 무엇인가
#
# `f`를 `x`로 미분한 값은, 다른 것은 그대로 두고 `x`만 살짝 움직였을 때 `f`가 그 몇 배로 변하는지를 말합니다.
#
# **질문.** x = 3, y = −2에서 x에 대한 미분은 얼마이고, y에 대해서는 얼마일까요? 다음 셀이 직접 움직여 보기 전에 먼저
# 답을 정해 보세요.

# %%
nudge = 1e-6
by_x = (f(3.0 + nudge, -2.0) - f(3.0 - nudge, -2.0)) / (2 * nudge)
by_y = (f(3.0, -2.0 + nudge) - f(3.0, -2.0 - nudge)) / (2 * nudge)
print(f"by x {by_x:.6f}, by y {by_y:.6f}")
assert abs(by_x - (-2.0 + 1.0)) < 1e-8
assert abs(by_y - 3.0) < 1e-8

# %% [markdown]
# `x` is used twice. Through the product its share is y = −2, through the sum it is 1, and **the shares of all uses add
# up**: −1. That is half of all there is to know. The other half: a share that passes through several steps is
# **multiplied** by the derivative of each.
#
# Nudging costs one or two runs of `f` for every number. With a million numbers we need another way: walk through the
# computation once, backwards, and give each number its share.

# %% [markdown] lang="ko"
# `x`는 두 번 쓰였습니다. 곱셈을 지나는 몫은 y = −2, 덧셈을 지나는 몫은 1이고, **모든 쓰임의 몫은 더해져서** −1이
# 됩니다. 알아야 할 것의 절반이 이것입니다. 나머지 절반은, 여러 단계를 지나는 몫에는 각 단계의 미분이 **곱해진다**는
# 것입니다.
#
# 이렇게 직접 움직여 보려면 숫자마다 `f`를 한두 번씩 실행해야 합니다. 숫자가 백만 개라면 다른 방법이 필요합니다. 계산을
# 거꾸로 한 번만 훑으면서 각 숫자에 제 몫을 나누어 주는 것입니다.

# %% [markdown]
# ## A value remembers how it was made
#
# To walk backwards we must know the way. So each value keeps its *parents*, the values it was computed from, and for
# each parent a *rule*: given the gradient of the value, what is the parent's share?

# %% [markdown] lang="ko"
# ## 값은 자기가 어떻게 만들어졌는지 기억한다
#
# 거꾸로 걸으려면 길을 알아야 합니다. 그래서 값마다 *부모*, 곧 자기를 계산하는 데 쓰인 값들을 기억하고, 부모마다 *규칙*
# 하나를 둡니다. 규칙은 이 값의 기울기를 받아 그 부모의 몫을 돌려주는 함수입니다.


# %% engine
class Value:
    """An array that remembers how it was made."""

    made = 0  # how many there are so far

    def __init__(self, array, parents=(), rules=()):
        self.array = np.asarray(array, dtype=np.float64)
        self.parents = parents  # the values that it was computed from
        self.rules = rules  # for each parent: from the gradient of this value to the parent's share
        self.grad = None
        self.number = Value.made = Value.made + 1  # the later made, the larger


def add(x, y):
    return Value(x.array + y.array, (x, y), (lambda g: g, lambda g: g))


def mul(x, y):
    return Value(x.array * y.array, (x, y), (lambda g: g * y.array, lambda g: g * x.array))


Value.__add__, Value.__mul__ = add, mul

# %% [markdown]
# The rule of `+` hands the gradient on as it is, to both. The rule of `*` gives each operand the gradient times the
# *other* operand. A rule knows nothing of the rest of the program: that is why an engine can be short.
#
# **Question.** `f` from above makes two new values. In which order must backward visit them, and why not in any order?

# %% [markdown] lang="ko"
# `+`의 규칙은 기울기를 그대로 양쪽에 넘깁니다. `*`의 규칙은 각 피연산자에 기울기 곱하기 *상대편* 피연산자를 줍니다.
# 규칙은 프로그램의 나머지 부분을 전혀 모릅니다. 엔진이 짧을 수 있는 까닭입니다.
#
# **질문.** 위의 `f`는 새 값을 두 개 만듭니다. 역전파는 이 둘을 어떤 순서로 방문해야 할까요? 아무 순서나 안 되는 까닭은
# 무엇일까요?

# %% [markdown]
# ## Newest first
#
# A value may hand on its gradient only when it is complete, when every later value that used it has reported. Whoever
# uses a value was made after it. So it is enough to visit **the newest first**: nothing that is still waiting can use
# it.

# %% [markdown] lang="ko"
# ## 가장 나중에 만든 것부터
#
# 값은 자기 기울기가 다 모인 뒤에야, 곧 자기를 쓴 뒤의 값들이 모두 몫을 보내온 뒤에야 기울기를 넘길 수 있습니다. 어떤
# 값을 쓰는 값은 반드시 그보다 나중에 만들어졌습니다. 그러니 **가장 나중에 만든 것부터** 방문하면 됩니다. 아직 기다리는
# 것 가운데 그 값을 쓴 것은 없기 때문입니다.


# %% engine
def backward(output):
    """Set the gradient d output / d value of every value that output was made from."""
    waiting = {output: np.ones_like(output.array)}
    while waiting:
        value = max(waiting, key=lambda each: each.number)
        value.grad = waiting.pop(value)
        for parent, rule in zip(value.parents, value.rules, strict=True):
            share = fit(rule(value.grad), parent.array.shape)
            waiting[parent] = waiting[parent] + share if parent in waiting else share


# %%
def fit(share, shape):
    return share  # we come back to this


x, y = Value(3.0), Value(-2.0)
backward(f(x, y))
print(f"by x {x.grad}, by y {y.grad}")
assert x.grad == -1.0 and y.grad == 3.0

# %% [markdown]
# `f` is the function from above, untouched: it met our values in place of numbers, and so left a trace of itself.
#
# What if every share were passed on at once, the moment it arrives? The numbers would be right, too. But look at the
# price.
#
# **Question.** y = x + x, then y = y + y, and so on, fifteen times in all. How often does either way ask a rule?

# %% [markdown] lang="ko"
# `f`는 위의 함수 그대로입니다. 숫자 대신 우리 값을 만났고, 그래서 지나간 자취를 남겼습니다.
#
# 몫이 도착하는 대로 바로 넘기면 어떨까요? 그래도 숫자는 맞습니다. 하지만 비용을 보세요.
#
# **질문.** y = x + x, 그다음 y = y + y, 이렇게 모두 열다섯 번 합니다. 두 방법은 각각 규칙을 몇 번 부를까요?

# %%
asked = 0


def counted(g):
    global asked
    asked += 1
    return g


def backward_at_once(value, gradient):
    value.grad = gradient if value.grad is None else value.grad + gradient
    for parent, rule in zip(value.parents, value.rules, strict=True):
        backward_at_once(parent, rule(gradient))


x = y = Value(1.0)
for _ in range(15):
    y = Value(y.array + y.array, (y, y), (counted, counted))
backward_at_once(y, np.ones(()))
print(f"at once: gradient {x.grad}, rules asked {asked:,} times")
assert x.grad == 2.0**15 and asked == 2**16 - 2

asked = 0
backward(y)
print(f"newest first: gradient {x.grad}, rules asked {asked} times")
assert x.grad == 2.0**15 and asked == 2 * 15

# %% [markdown]
# A network reuses values everywhere: a residual connection uses its input twice, in every layer. Without the order, a
# network twice as deep would not take twice but the square of the time.
#
# ## What was copied is summed
#
# Arrays of different shapes may meet: a bias of shape (3,) is added to each of 4 rows.
#
# **Question.** `b` has shape (3,), `x` (4, 3), and the loss is the sum of all of x + b. What is the gradient of `b`?

# %% [markdown] lang="ko"
# 신경망은 곳곳에서 값을 다시 씁니다. 잔차 연결은 층마다 입력을 두 번 씁니다. 순서를 지키지 않으면 깊이가 두 배인
# 신경망은 시간이 두 배가 아니라 제곱으로 걸립니다.
#
# ## 복사된 것은 더한다
#
# 모양이 다른 배열이 만나기도 합니다. 모양이 (3,)인 편향은 네 행 모두에 더해집니다.
#
# **질문.** `b`의 모양은 (3,), `x`는 (4, 3)이고 손실은 x + b의 모든 원소의 합입니다. `b`의 기울기는 얼마일까요?


# %% engine
def fit(share, shape):
    """The share of a value of this shape, which broadcasting has copied along some axes: summed over the copies."""
    while share.ndim > len(shape):
        share = share.sum(0)
    for axis, size in enumerate(shape):
        if size == 1:
            share = share.sum(axis, keepdims=True)
    return share


def total(x, axis=None):
    """The sum over an axis, which stays with the size 1."""
    return Value(x.array.sum(axis, keepdims=True), (x,), (lambda g: np.broadcast_to(g, x.array.shape),))


# %%
x, b = Value(np.zeros((4, 3))), Value([1.0, 2.0, 3.0])
backward(total(x + b))
print(b.grad)
assert b.grad.tolist() == [4.0, 4.0, 4.0]

# %% [markdown]
# Each number of `b` was used four times, once in each row, and the shares of all uses add up: the first rule again.
# Copying and summing are each other's backward: `fit` sums what was copied, the rule of `total` copies what was summed.
#
# ## The rest of the ops
#
# Each is one line of NumPy and one line of calculus for each operand.

# %% [markdown] lang="ko"
# `b`의 숫자는 행마다 한 번씩 네 번 쓰였고, 모든 쓰임의 몫은 더해집니다. 첫 번째 규칙 그대로입니다. 복사와 합은 서로의
# 역전파입니다. `fit`은 복사된 것을 더하고, `total`의 규칙은 더해진 것을 복사합니다.
#
# ## 나머지 연산
#
# 연산마다 NumPy 한 줄, 그리고 피연산자마다 미분 한 줄이면 됩니다.


# %% engine
def sub(x, y):
    return Value(x.array - y.array, (x, y), (lambda g: g, lambda g: -g))


def div(x, y):
    z = x.array / y.array
    return Value(z, (x, y), (lambda g: g / y.array, lambda g: -g * z / y.array))


def matmul(x, y):
    return Value(x.array @ y.array, (x, y), (lambda g: g @ y.array.T, lambda g: x.array.T @ g))


def transpose(x):
    return Value(x.array.T, (x,), (lambda g: g.T,))


def exp(x):
    z = np.exp(x.array)
    return Value(z, (x,), (lambda g: g * z,))


def tanh(x):
    z = np.tanh(x.array)
    return Value(z, (x,), (lambda g: g * (1 - z * z),))


def log(x):
    return Value(np.log(x.array), (x,), (lambda g: g / x.array,))


Value.__sub__, Value.__truediv__, Value.__matmul__ = sub, div, matmul

# %% [markdown]
# That is the engine. Is it right? We trust no derivative that nothing has checked.
#
# ## Attention
#
# Two queries look at four keys. A score says how well they fit, softmax turns scores into weights that sum to 1, and
# the context is the weighted sum of the values. The loss is any number that depends on it.

# %% [markdown] lang="ko"
# 엔진은 이것이 전부입니다. 맞을까요? 검사받지 않은 미분은 믿지 않습니다.
#
# ## 어텐션
#
# 질의 두 개가 키 네 개를 봅니다. 점수는 둘이 얼마나 잘 맞는지를 말하고, 소프트맥스는 점수를 합이 1인 가중치로 바꾸며,
# 문맥 벡터는 값들의 가중합입니다. 손실은 문맥 벡터로 정해지는 아무 숫자나 괜찮습니다.

# %%
rng = np.random.default_rng(0)
query, key, value = rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))


def attention(q, k, v):
    scores = q @ transpose(k) / Value(np.sqrt(3.0))
    powers = exp(scores)
    weights = powers / total(powers, 1)
    return weights, total((weights @ v) * (weights @ v))


q, k, v = Value(query), Value(key), Value(value)
weights, loss = attention(q, k, v)
backward(loss)
print("weights\n", weights.array.round(3))
print("gradient of the weights\n", weights.grad.round(3))

# %% [markdown]
# **Question.** The first key is nudged by one millionth in its first number. How much does the loss move? The gradient
# has the answer; the next cell asks the loss itself, and then the real engine.

# %% [markdown] lang="ko"
# **질문.** 첫 번째 키의 첫 번째 숫자를 백만분의 1만큼 움직입니다. 손실은 얼마나 움직일까요? 답은 기울기에 있습니다.
# 다음 셀은 손실에게 직접 묻고, 그다음에 진짜 엔진에게 묻습니다.

# %%
nudged = key.copy()
nudged[0, 0] += nudge
difference = attention(Value(query), Value(nudged), Value(value))[1].array - loss.array
print(f"the loss moves by {difference.item():.3e}, the gradient said {k.grad[0, 0] * nudge:.3e}")
assert abs(difference.item() / nudge - k.grad[0, 0]) < 1e-5

theirs = [ta.tensor(array, requires_grad=True) for array in (query, key, value)]
real_weights = ta.softmax(theirs[0] @ theirs[1].T / 3.0**0.5, dim=-1)
((real_weights @ theirs[2]) ** 2).sum().backward()
for ours, real in zip((q, k, v), theirs, strict=True):
    np.testing.assert_allclose(ours.grad, real.grad.numpy(), rtol=0, atol=1e-13)

# %% [markdown]
# ## Any program
#
# One example proves little. So a program is drawn by chance: a list of steps, each an op and the values it reads, among
# them some that were used before and some that must be broadcast. We run it here and in `tinygrad_attn`.

# %% [markdown] lang="ko"
# ## 어떤 프로그램이든
#
# 예 하나로 증명되는 것은 거의 없습니다. 그래서 프로그램을 무작위로 뽑습니다. 프로그램은 단계의 목록이고, 단계마다
# 연산과 그것이 읽을 값이 있습니다. 이미 쓰인 값도, 브로드캐스팅이 필요한 값도 섞여 있습니다. 이것을 여기서도,
# `tinygrad_attn`에서도 실행합니다.

# %%
OURS = {
    "add": add, "sub": sub, "mul": mul, "matmul": matmul, "transpose": transpose, "tanh": tanh, "exp": exp,
    "log": lambda x: log(x * x + Value(1.0)), "div": lambda x, y: x / (y * y + Value(1.0)),
    "total": lambda x: total(x, 0),
}  # fmt: skip
REAL = {
    "add": ta.add, "sub": ta.sub, "mul": ta.mul, "matmul": ta.matmul, "transpose": lambda x: x.T, "tanh": ta.tanh,
    "exp": ta.exp, "log": lambda x: ta.log(x * x + 1.0), "div": lambda x, y: x / (y * y + 1.0),
    "total": lambda x: x.sum(0, keepdim=True),
}  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "matmul")


def run(program, leaves, ops):
    """The last value of a program, a list of (op, positions of what it reads); each result is squashed."""
    values = list(leaves)
    for name, positions in program:
        operands = [values[position % len(values)] for position in positions]
        if name == "matmul" and operands[0].array.shape[1] != operands[1].array.shape[0]:
            operands[1] = ops["transpose"](operands[0])
        values.append(ops["tanh"](ops[name](*operands)))
    return values[-1]


def gradients(program, arrays):
    """The gradients of all arrays, by our engine and by the real one; 0 where the program does not read an array."""
    ours = [Value(array) for array in arrays]
    real = [ta.tensor(array, requires_grad=True) for array in arrays]
    backward(total(run(program, ours, OURS)))
    run(program, real, REAL).sum().backward()
    of_ours = [np.zeros_like(x.array) if x.grad is None else x.grad for x in ours]
    of_real = [np.zeros_like(x.array) if x.grad is None else x.grad.numpy() for x in real]
    return of_ours, of_real


arrays = [rng.normal(size=shape) for shape in ((3, 3), (1, 3), (3, 1), (1, 1))]
for _ in range(50):
    names = rng.choice(list(OURS), size=12)
    program = [(name, rng.integers(0, 100, size=2 if name in BINARY else 1)) for name in names]
    for ours, real in zip(*gradients(program, arrays), strict=True):
        np.testing.assert_allclose(ours, real, rtol=1e-10, atol=1e-12)
print("50 random programs of 12 steps: the same gradients")

# %% [markdown]
# ## What the real engine adds
#
# The idea is all here. `tinygrad_attn` is longer since it also notices an array that was overwritten before backward
# needed it, writes a rule as an expression of tensors, so that gradients have gradients, and runs compiled kernels.
# `tinygrad_attn/autograd.py` is our `backward`, `tinygrad_attn/ops/pointwise.py` our list of ops: read them now.
#
# **To try.** Break a rule (let `tanh` forget its 1 −). Which cells notice? Add an op of your own, `sin`, and its line
# in both tables.

# %% [markdown] lang="ko"
# ## 진짜 엔진에는 무엇이 더 있는가
#
# 생각은 여기 다 있습니다. `tinygrad_attn`이 더 긴 것은, 역전파에 필요한 배열을 누가 덮어썼는지 알아차리고, 규칙을
# 텐서의 식으로 적어 기울기의 기울기까지 구하며, 컴파일된 커널을 실행하기 때문입니다. `tinygrad_attn/autograd.py`가
# 우리의 `backward`이고 `tinygrad_attn/ops/pointwise.py`가 우리의 연산 목록입니다. 이제 읽어 보세요.
#
# **해 보기.** 규칙 하나를 망가뜨려 보세요(`tanh`에서 1 −를 빼 보세요). 어느 셀이 알아차리나요? 연산 `sin`을 만들고 두
# 표에 한 줄씩 더해 보세요.
