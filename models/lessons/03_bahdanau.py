# %% [markdown]
# # 3. Attention as it was invented: Bahdanau's loop
#
# Before 2015 a translation model read the whole sentence into one vector of fixed size, and a second network wrote the
# translation from that vector alone. Long sentences did not fit. Bahdanau, Cho and Bengio let the writer look back: for
# every word that it writes it decides anew which words of the source to read. We write their equations as the paper has
# them, one symbol after the other, and hold the result and every gradient to `models/bahdanau.py`.

# %% [markdown] lang="ko"
# # 3. 처음의 어텐션: 바흐다나우의 반복문
#
# 2015년 이전의 번역 모델은 문장 전체를 크기가 정해진 벡터 하나로 읽고, 다른 신경망이 그 벡터만 가지고 번역을 썼습니다.
# 긴 문장은 그 안에 다 들어가지 않았습니다. 바흐다나우, 조경현, 벤지오는 쓰는 쪽이 뒤를 돌아보게 했습니다. 단어를 하나
# 쓸 때마다 원문의 어느 단어를 읽을지 새로 정하는 것입니다. 논문의 식을 적힌 그대로 기호 하나씩 계산하고, 결과와 모든
# 기울기를 `models/bahdanau.py`와 맞추어 봅니다.

# %%
import itertools

import numpy as np
from tinygrad_attn_models.bahdanau import Bahdanau

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F

ta.manual_seed(0)
model = Bahdanau(source_size=9, target_size=8, embedding_size=4, hidden_size=5, dtype=ta.float64)
W = {name: ta.tensor(p.detach().numpy(), requires_grad=True) for name, p in model.named_parameters()}
source = [4, 7, 5, 8]  # x_1 … x_4
target = [1, 6, 3, 5, 2]  # <s> y_1 y_2 y_3 </s>

# %% [markdown]
# `W` holds copies of the model's weights, which are random: an equation is right or wrong with any weights.
#
# ## A state that forgets what it must
#
# Both networks are *gated recurrent units*. A GRU reads one vector x and updates its state h:
#
# - the reset gate r says how much of the old state the new proposal may see;
# - the proposal n is what the state would become;
# - the update gate z mixes: h' = (1 − z) ∘ n + z ∘ h. (The paper has z and 1 − z the other way round.)
#
# **Question.** If z is 1 in every component, what is the new state, and what does its gradient become on its way to the
# old one?

# %% [markdown] lang="ko"
# `W`는 모델의 가중치를 복사한 것이고, 가중치는 무작위입니다. 식은 어떤 가중치에서든 맞거나 틀립니다.
#
# ## 잊을 것은 잊는 상태
#
# 두 신경망은 모두 *게이트 순환 유닛*(GRU)입니다. GRU는 벡터 x를 하나 읽고 상태 h를 고칩니다.
#
# - 리셋 게이트 r은 새 후보가 옛 상태를 얼마나 볼 수 있는지를 정합니다.
# - 후보 n은 상태가 앞으로 될 수 있는 값입니다.
# - 업데이트 게이트 z는 둘을 섞습니다. h' = (1 − z) ∘ n + z ∘ h. (논문에서는 z와 1 − z의 자리가 바뀌어 있습니다.)
#
# **질문.** z의 모든 성분이 1이면 새 상태는 무엇이고, 그 기울기는 옛 상태로 가면서 어떻게 될까요?


# %%
def gru(x, h, name, suffix=""):
    """The state after reading x, with the weights of this name."""
    of_x = W[f"{name}.weight_ih{suffix}"] @ x + W[f"{name}.bias_ih{suffix}"]
    of_h = W[f"{name}.weight_hh{suffix}"] @ h + W[f"{name}.bias_hh{suffix}"]
    (x_r, x_z, x_n), (h_r, h_z, h_n) = ta.chunk(of_x, 3), ta.chunk(of_h, 3)
    r, z = F.sigmoid(x_r + h_r), F.sigmoid(x_z + h_z)
    n = ta.tanh(x_n + r * h_n)
    return (1.0 - z) * n + z * h


x, h = ta.randn(4, dtype=ta.float64), ta.randn(5, dtype=ta.float64, requires_grad=True)
bias = W["encoder.bias_ih_l0"]
W["encoder.bias_ih_l0"] = bias + ta.tensor([0.0] * 5 + [50.0] * 5 + [0.0] * 5)  # now z = 1
kept = gru(x, h, "encoder", "_l0")
(gradient,) = ta.grad(kept.sum(), h)
W["encoder.bias_ih_l0"] = bias
print("change", abs((kept - h).detach().numpy()).max(), "gradient", gradient.numpy())
assert np.allclose(kept.detach().numpy(), h.detach().numpy(), atol=1e-12)
assert np.allclose(gradient.numpy(), 1, atol=1e-12)

# %% [markdown]
# The state is kept and the gradient passes untouched, however many steps: that is why gated units remember longer.
#
# ## The encoder reads in both directions
#
# One GRU reads from the left, another from the right. The *annotation* h_j = [→h_j; ←h_j] joins their states at symbol
# j, so that it knows what stands before it and what stands behind.
#
# **Question.** On which of the four symbols does h_2 depend?

# %% [markdown] lang="ko"
# 상태는 그대로 남고, 기울기는 몇 단계를 지나든 손상 없이 지나갑니다. 게이트가 있는 유닛이 더 오래 기억하는 까닭입니다.
#
# ## 인코더는 양쪽에서 읽는다
#
# GRU 하나는 왼쪽에서, 다른 하나는 오른쪽에서 읽습니다. *어노테이션* h_j = [→h_j; ←h_j]는 기호 j에서 두 상태를 이은
# 것이어서, 앞에 있는 것과 뒤에 있는 것을 모두 압니다.
#
# **질문.** h_2는 네 기호 가운데 어느 것에 좌우될까요?


# %%
def read_source(embedded):
    """The annotations h_1 … h_S, and the last state of the network that reads from the right."""
    forward, backward = [], []
    state = ta.zeros(5, dtype=ta.float64)
    for x in embedded:
        state = gru(x, state, "encoder", "_l0")
        forward.append(state)
    state = ta.zeros(5, dtype=ta.float64)
    for x in reversed(embedded):
        state = gru(x, state, "encoder", "_l0_reverse")
        backward.insert(0, state)
    return [ta.cat([to_right, to_left]) for to_right, to_left in zip(forward, backward, strict=True)], state


embedded = [W["source_embedding.weight"][j] for j in source]
h, last = read_source(embedded)
reached = [abs(g.numpy()).sum() for g in ta.grad(h[1].sum(), embedded, retain_graph=True)]
print("gradient of h_2 at x_1 … x_4:", np.round(reached, 3))
assert all(size > 0 for size in reached)

# %% [markdown]
# On all four. So an annotation is a reading of the whole sentence, with its symbol in the centre.
#
# ## The alignment model
#
# Before it writes y_i, the decoder is in the state s_{i−1}. How well does that state fit each annotation? A small
# network answers with one number, the score, and softmax makes weights of the scores:
#
# $$e_{ij} = v_a^\top \tanh(W_a s_{i-1} + U_a h_j) \qquad \alpha_i = \operatorname{softmax}(e_i) \qquad
# c_i = \sum_j \alpha_{ij} h_j$$
#
# **Question.** U_a h_j is needed for each pair (i, j). How often must it be computed?

# %% [markdown] lang="ko"
# 네 기호 모두입니다. 그러니 어노테이션은 제 기호를 가운데에 두고 문장 전체를 읽은 것입니다.
#
# ## 정렬 모델
#
# y_i를 쓰기 전에 디코더의 상태는 s_{i−1}입니다. 이 상태는 각 어노테이션과 얼마나 잘 맞을까요? 작은 신경망이 숫자 하나,
# 곧 점수로 답하고, 소프트맥스가 점수를 가중치로 바꿉니다.
#
# $$e_{ij} = v_a^\top \tanh(W_a s_{i-1} + U_a h_j) \qquad \alpha_i = \operatorname{softmax}(e_i) \qquad
# c_i = \sum_j \alpha_{ij} h_j$$
#
# **질문.** U_a h_j는 쌍 (i, j)마다 필요합니다. 몇 번 계산해야 할까요?


# %%
def attend(s, values, keys):
    """The context c_i and the weights α_i of the state s = s_{i-1}; keys are U_a h_j, values h_j."""
    v, of_s = W["attention.energy.weight"][0], W["attention.query.weight"] @ s
    e = ta.stack([(v * ta.tanh(of_s + key)).sum() for key in keys])
    alpha = ta.softmax(e, dim=0)
    return sum(alpha[j] * value for j, value in enumerate(values)), alpha


def make_keys(h):
    return [W["attention.key.weight"] @ annotation + W["attention.key.bias"] for annotation in h]


keys = make_keys(h)  # once for each j: it does not depend on i
c, alpha = attend(ta.tanh(W["initial.weight"] @ last + W["initial.bias"]), h, keys)
print("weights of the first step:", alpha.detach().numpy().round(3))
assert len(keys) == len(source) and np.isclose(alpha.detach().numpy().sum(), 1)

# %% [markdown]
# Once for each j; the paper says so, too. With random weights the attention is nearly even: where to look is learned.
#
# ## The decoder
#
# For each symbol: attend from the *previous* state, step to the next state with the context, and read the logits from
# state, last symbol and context, through a maxout layer (the larger of each pair of numbers).

# %% [markdown] lang="ko"
# j마다 한 번이면 됩니다. 논문도 그렇게 말합니다. 가중치가 무작위이면 어텐션은 거의 고르게 퍼져 있습니다. 어디를 볼지는
# 배우는 것입니다.
#
# ## 디코더
#
# 기호마다 이렇게 합니다. *이전* 상태로 어텐션을 계산하고, 문맥 벡터를 받아 다음 상태로 가고, 상태와 마지막 기호와 문맥
# 벡터에서 맥스아웃 층(숫자 쌍마다 큰 쪽을 고르는 층)을 거쳐 로짓을 읽어 냅니다.


# %%
def write(h_as_value, h_as_key, h_as_start):
    """The loss: the mean of −log p(y_i). The annotations come in three times, once for each use of them."""
    keys = make_keys(h_as_key)
    s = ta.tanh(W["initial.weight"] @ h_as_start[0][5:] + W["initial.bias"])  # s_0 from ←h_1
    losses, logits, weights = [], [], []
    for before, following in itertools.pairwise(target):
        y = W["target_embedding.weight"][before]
        c, alpha = attend(s, h_as_value, keys)
        s = gru(ta.cat([y, c]), s, "decoder")
        a, b = ta.chunk(W["readout.weight"] @ ta.cat([s, y, c]) + W["readout.bias"], 2)
        logits.append(W["output.weight"] @ ta.maximum(a, b) + W["output.bias"])
        losses.append(F.cross_entropy(logits[-1], ta.tensor(following)))
        weights.append(alpha)
    return sum(losses) / len(losses), ta.stack(logits), ta.stack(weights)


loss, logits, weights = write(h, h, h)
loss.backward()

# %% [markdown]
# ## The same as the model
#
# `models/bahdanau.py` reads batches, runs one compiled op for the whole decoder and writes its derivative by hand.
#
# **Question.** Which numbers must agree so that you would believe that the two are the same model?

# %% [markdown] lang="ko"
# ## 모델과 같은가
#
# `models/bahdanau.py`는 배치를 읽고, 디코더 전체를 컴파일된 연산 하나로 실행하며, 그 미분을 손으로 적어 두었습니다.
#
# **질문.** 어떤 숫자들이 같아야 둘이 같은 모델이라고 믿을 수 있을까요?

# %%
of_model, of_attention = model(
    ta.tensor([source]), ta.ones(1, len(source)).to(bool), ta.tensor([target[:-1]]), need_weights=True
)
F.cross_entropy(of_model[0], ta.tensor(target[1:])).backward()
np.testing.assert_allclose(logits.detach().numpy(), of_model.detach().numpy()[0], rtol=0, atol=1e-12)
np.testing.assert_allclose(weights.detach().numpy(), of_attention["attention"].detach().numpy()[0, 0], atol=1e-12)
for name, parameter in model.named_parameters():
    np.testing.assert_allclose(W[name].grad.numpy(), parameter.grad.numpy(), rtol=0, atol=1e-12, err_msg=name)
print(f"the logits, the weights and the gradients of {len(W)} parameters agree")

# %% [markdown]
# All outputs, and all gradients: a wrong equation hides from a few outputs, but hardly from the gradient of every
# weight. Note the encoder's weights among them. Encoder and decoder are one graph, and one backward pass trains both.
#
# ## How does the encoder hear of a mistake?
#
# The annotations are used in three ways: as **values**, summed to the context; as **keys**, in the scores; and the
# **start** of the decoder is made from ←h_1. `write` takes them three times, so we can ask for the gradient of each.
#
# **Question.** If we cut off the context's gradient (the values), does the encoder still learn? Which way carries most?

# %% [markdown] lang="ko"
# 출력 전부, 그리고 기울기 전부입니다. 틀린 식은 출력 몇 개에는 드러나지 않을 수 있어도 모든 가중치의 기울기를 피해
# 가기는 어렵습니다. 그 가운데 인코더의 가중치도 있다는 점을 보세요. 인코더와 디코더는 하나의 그래프이고, 역전파 한 번이
# 둘을 함께 학습시킵니다.
#
# ## 인코더는 실수를 어떻게 전해 듣는가
#
# 어노테이션은 세 가지로 쓰입니다. **값**으로서 더해져 문맥 벡터가 되고, **키**로서 점수에 들어가며, ←h_1은 디코더의
# **시작** 상태가 됩니다. `write`는 어노테이션을 세 번 받으므로, 각각의 기울기를 따로 물어볼 수 있습니다.
#
# **질문.** 문맥 벡터의 기울기(값)를 끊어도 인코더는 계속 배울까요? 어느 길이 기울기를 가장 많이 나를까요?

# %%
h, _ = read_source([W["source_embedding.weight"][j] for j in source])
ways = {way: [annotation * 1.0 for annotation in h] for way in ("value", "key", "start")}
loss, _, _ = write(*ways.values())
whole = ta.grad(loss, h, retain_graph=True)
parts = {
    way: ta.grad(loss, copies if way != "start" else copies[:1], retain_graph=True) for way, copies in ways.items()
}
for way, gradients in parts.items():
    print(f"{way:>5}:", np.round([np.linalg.norm(g.numpy()) for g in gradients], 5))
for j, total in enumerate(whole):
    together = sum(gradients[j].numpy() for gradients in parts.values() if j < len(gradients))
    np.testing.assert_allclose(together, total.numpy(), rtol=0, atol=1e-15)
sizes = {way: sum(np.linalg.norm(g.numpy()) for g in gradients) for way, gradients in parts.items()}
assert sizes["value"] > sizes["key"] > 0

# %% [markdown]
# The three sum to the whole, exactly. Through the keys the encoder learns *where it should be looked at*, through the
# values *what it should say there*. Here, at random weights, the values carry far more: the scores' gradient passes
# softmax (lesson 2), and there is little to compare as long as all annotations look alike.
#
# **To try.** Replace the values by `[a.detach() for a in h]` and train: what can still be learned? In the microscope
# the view "Paths through time" shows these three ways for a trained model.

# %% [markdown] lang="ko"
# 셋을 더하면 정확히 전체가 됩니다. 키를 통해 인코더는 *어디를 보아야 하는지*를, 값을 통해 *거기서 무엇을 말해야
# 하는지*를 배웁니다. 지금처럼 가중치가 무작위일 때는 값이 훨씬 많이 나릅니다. 점수의 기울기는 소프트맥스(2과)를 지나야
# 하고, 어노테이션이 모두 비슷비슷하면 비교할 것도 별로 없기 때문입니다.
#
# **해 보기.** 값을 `[a.detach() for a in h]`로 바꾸고 학습해 보세요. 무엇을 아직 배울 수 있나요? 현미경의 "시간을
# 지나는 경로" 화면은 학습된 모델에서 이 세 길을 보여 줍니다.
