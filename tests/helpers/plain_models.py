"""The models a second time, forward only and in plain NumPy, for derivatives that no rule of a derivative made.

The forward passes run in complex numbers. The derivative of the loss L at x is then Im L(x + ih) / h with an h so small
that nothing of order h² is left, and without a difference that cancels digits: exact to rounding (Squire and Trapp,
"Using Complex Variables to Estimate Derivatives of Real Functions", 1998).
"""

import math

import numpy as np
from tinygrad_attn_models.data import END, START

H = 1e-30


class Probe:
    """Stands in a forward pass wherever a tensor of a place of attention is made: keeps it, and moves one cell of one.

    Args:
        target: (place, tensor) of the cell that moves by ih; None to move nothing.
        cell: (head, row, column).
    """

    def __init__(self, target=None, cell=None):
        self.target, self.cell = target, cell
        self.values = {}

    def __call__(self, place, tensor, array, step=0):
        """``array`` (heads, rows, columns), moved if the cell is in it; ``step`` is the number of its first row."""
        self.values.setdefault((place, tensor), {})[step] = array.real
        if self.target != (place, tensor):
            return array
        head, row, column = self.cell
        if not step <= row < step + array.shape[1]:
            return array
        moved = array.astype(complex)
        moved[head, row - step, column] += 1j * H
        return moved


def values(forward, weights, source, target):
    """Every tensor of every place of attention, by (place, tensor), as (heads, rows, columns); and of the "encoder" its
    states, "forward" and "backward"."""
    probe = Probe()
    forward(weights, source, [START, *target], probe)
    return {key: np.concatenate([parts[step] for step in sorted(parts)], axis=1) for key, parts in probe.values.items()}


def loss(forward, weights, source, target, probe=None):
    """The mean cross entropy of the target's symbols and </s>; complex."""
    logits = forward(weights, source, [START, *target], probe or Probe())
    highest = logits.real.max(axis=-1, keepdims=True)
    totals = np.log(np.exp(logits - highest).sum(axis=-1)) + highest[:, 0]
    expected = [*target, END]
    return np.mean(totals - logits[np.arange(len(expected)), expected])


def derivative(forward, weights, source, target, place, tensor, cell):
    """dL/d(one cell of a tensor of a place of attention)."""
    return loss(forward, weights, source, target, Probe((place, tensor), cell)).imag / H


def gradient(forward, weights, source, target, place, tensor, shape):
    """dL/d(a tensor of a place of attention), cell by cell."""
    return np.reshape(
        [derivative(forward, weights, source, target, place, tensor, cell) for cell in np.ndindex(shape)], shape
    )


class OneWay(Probe):
    """A probe that stops the moved cell's effect at the encoder's keys or values: ``closed`` is of "K" and "V"."""

    def __init__(self, target, cell, closed):
        super().__init__(target, cell)
        self.closed = closed

    def __call__(self, place, tensor, array, step=0):
        array = super().__call__(place, tensor, array, step)
        from_source = place == "attention" or place.endswith("multihead_attn")
        return array.real if from_source and tensor in self.closed else array


def ways(forward, weights, source, target, directions, width):
    """The gradient of the encoder's states (S, D) by the way it enters: "value", "key", "start", and their "total"."""

    def through(closed):
        cells = [
            [
                loss(forward, weights, source, target, OneWay(("encoder", direction), (0, j, c), closed)).imag / H
                for direction in directions
                for c in range(width)
            ]
            for j in range(len(source))
        ]
        return np.array(cells)

    start = through("KV")
    return {"value": through("K") - start, "key": through("V") - start, "start": start, "total": through("")}


def float64_weights(model):
    return {name: array.numpy().astype(np.float64) for name, array in model.state_dict().items()}


# -- functions ---------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(scores, mask):
    raised = np.where(mask, np.exp(scores - np.where(mask, scores.real, -np.inf).max(axis=-1, keepdims=True)), 0.0)
    return raised / raised.sum(axis=-1, keepdims=True)


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def gru(x, h, w, prefix, suffix=""):
    """The next state."""
    of_input = w[f"{prefix}.weight_ih{suffix}"] @ x + w[f"{prefix}.bias_ih{suffix}"]
    of_state = w[f"{prefix}.weight_hh{suffix}"] @ h + w[f"{prefix}.bias_hh{suffix}"]
    (ri, zi, ni), (rh, zh, nh) = np.split(of_input, 3), np.split(of_state, 3)
    r, z = sigmoid(ri + rh), sigmoid(zi + zh)
    return (1.0 - z) * np.tanh(ni + r * nh) + z * h


def lstm(x, state, w, prefix):
    """The next (h, c)."""
    h, c = state
    total = w[f"{prefix}.weight_ih_l0"] @ x + w[f"{prefix}.bias_ih_l0"]
    i, f, g, o = np.split(total + w[f"{prefix}.weight_hh_l0"] @ h + w[f"{prefix}.bias_hh_l0"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def encoded(w, source, probe):
    """The states h_j of one layer of LSTM, and the last (h, c)."""
    size = w["encoder.weight_hh_l0"].shape[1]
    h, c = np.zeros(size), np.zeros(size)
    states = []
    for step, x in enumerate(w["source_embedding.weight"][source]):
        h, c = lstm(x, (h, c), w, "encoder")
        h = probe("encoder", "forward", h[None, None], step)[0, 0]
        states.append(h)
    return states, (h, c)


def attend(probe, score, query, key, value, step=0, mask=True, gaussian=None, place="attention"):
    """The context (heads, rows, channels) of queries; keys and values have been probed already."""
    query = probe(place, "Q", query, step)
    scores = probe(place, "scores", score(query, key), step)
    weights = probe(place, "weights", softmax(scores, np.broadcast_to(mask, scores.shape)), step)
    if gaussian is not None:
        gaussian = probe(place, "gaussian", gaussian, step)
        weights = probe(place, "mixed", weights * gaussian, step)
    return probe(place, "context", weights @ value, step)


def additive(energy):
    return lambda q, k: np.tanh(q[:, :, None] + k[:, None]) @ energy[0]


# -- models ------------------------------------------------------------------------------------------------------------


def bahdanau(w, source, target_in, probe):
    size = w["decoder.weight_hh"].shape[1]
    embedded = w["source_embedding.weight"][source]
    forwards, backwards = [np.zeros(size)], [np.zeros(size)]
    for step, x in enumerate(embedded):
        state = gru(x, forwards[-1], w, "encoder", "_l0")
        forwards.append(probe("encoder", "forward", state[None, None], step)[0, 0])
    for step, x in reversed(list(enumerate(embedded))):
        state = gru(x, backwards[-1], w, "encoder", "_l0_reverse")
        backwards.append(probe("encoder", "backward", state[None, None], step)[0, 0])
    annotations = np.concatenate([forwards[1:], backwards[:0:-1]], axis=-1)[None]
    keys = probe("attention", "K", linear(annotations, w, "attention.key"))
    values = probe("attention", "V", annotations)
    state = np.tanh(linear(backwards[-1], w, "initial"))
    rows = []
    for step, token in enumerate(w["target_embedding.weight"][target_in]):
        query = linear(state, w, "attention.query")[None, None]
        context = attend(probe, additive(w["attention.energy.weight"]), query, keys, values, step)[0, 0]
        state = gru(np.concatenate([token, context]), state, w, "decoder")
        rows.append(np.concatenate([state, token, context]))
    joined = probe("attention", "joined", np.array(rows)[None])[0]
    left, right = np.split(linear(joined, w, "readout"), 2, axis=-1)
    readout = probe("attention", "attentional", np.where(left.real > right.real, left, right)[None])[0]
    return probe("attention", "logits", linear(readout, w, "output")[None])[0]


def luong(score, attention="global", window=10, input_feeding=False):
    """The forward pass of Luong's model with one layer of LSTM."""

    def forward(w, source, target_in, probe):
        size, length = w["output.weight"].shape[1], len(source)
        states, state = encoded(w, source, probe)
        values = probe("attention", "V", np.array(states)[None])
        keys, compare = _luong_score(score, w, np.array(states)[None])
        if keys is not None:
            keys = probe("attention", "K", keys)
        attentional, found = np.zeros(size), []
        for step, token in enumerate(w["target_embedding.weight"][target_in]):
            state = lstm(np.concatenate([token, attentional]) if input_feeding else token, state, w, "decoder")
            query = w["score.query.weight"] @ state[0] if score in ("additive", "concat") else state[0]
            mask, gaussian = _luong_window(attention, window, state[0], step, length, w)
            context = attend(probe, compare, query[None, None], keys, values, step, mask, gaussian)[0, 0]
            joined = probe("attention", "joined", np.concatenate([context, state[0]])[None, None], step)[0, 0]
            attentional = np.tanh(linear(joined, w, "combine"))
            attentional = probe("attention", "attentional", attentional[None, None], step)[0, 0]
            found.append(attentional)
        return probe("attention", "logits", linear(np.array(found), w, "output")[None])[0]

    return forward


def _luong_score(name, w, states):
    """The keys (1, S, …), None for the location score, and the score of queries (1, 1, …) and keys."""
    if name == "general":
        return states @ w["score.key.weight"].T, lambda q, k: q @ k.swapaxes(1, 2)
    if name in ("additive", "concat"):
        keys = states @ w["score.key.weight"].T + w.get("score.key.bias", 0.0)
        return keys, additive(w["score.energy.weight"])
    if name == "location":
        return None, lambda q, k: q @ w["score.query.weight"][: states.shape[1]].T
    scale = 1.0 / math.sqrt(states.shape[2]) if name == "scaled_dot" else 1.0
    return states, lambda q, k: scale * (q @ k.swapaxes(1, 2))


def _luong_window(attention, window, state, step, length, w):
    """Which places a step may attend to, and local-p's Gaussian (1, 1, S)."""
    if attention == "global":
        return True, None
    if attention == "local-m":
        return abs(np.arange(length) - min(step, length - 1)) <= window, None
    share = sigmoid(linear(np.tanh(linear(state, w, "position.hidden")), w, "position.share"))
    distance = np.arange(length) - length * share
    gaussian = np.exp(-(distance**2) / (2.0 * (window / 2.0) ** 2))
    return abs(distance.real) <= window, gaussian[None, None]


def seq2seq(w, source, target_in, probe):
    _, state = encoded(w, source, probe)
    states = []
    for x in w["target_embedding.weight"][target_in]:
        state = lstm(x, state, w, "decoder")
        states.append(state[0])
    return linear(np.array(states), w, "output")


def transformer(heads):
    """The forward pass of the post-norm Transformer with sinusoidal positions."""

    def forward(w, source, target_in, probe):
        size = w["output.weight"].shape[1]

        def embedded(name, ids):
            place, pair = np.arange(len(ids))[:, None], np.arange(0, size, 2)
            angle = place / 10000.0 ** (pair / size)
            positions = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(len(ids), size)
            return w[f"{name}.weight"][ids] * math.sqrt(size) + positions

        def norm(x, name):
            centred = x - x.mean(axis=-1, keepdims=True)
            rate = 1.0 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
            return centred * rate * w[f"{name}.weight"] + w[f"{name}.bias"]

        def split(x):
            return x.reshape(len(x), heads, size // heads).swapaxes(0, 1)

        def attention(name, x, memory, mask=True):
            place = name.removeprefix("transformer.")
            matrices, biases = np.split(w[f"{name}.in_proj_weight"], 3), np.split(w[f"{name}.in_proj_bias"], 3)
            q, k, v = (
                split(y @ matrix.T + bias)
                for y, matrix, bias in zip((x, memory, memory), matrices, biases, strict=True)
            )
            k, v = probe(place, "K", k), probe(place, "V", v)
            scale = 1.0 / math.sqrt(size // heads)
            context = attend(probe, lambda q, k: scale * (q @ k.swapaxes(1, 2)), q, k, v, mask=mask, place=place)
            joined = probe(place, "joined", context.swapaxes(0, 1).reshape(1, len(x), size))[0]
            return linear(joined, w, f"{name}.out_proj")

        def feed_forward(x, name):
            inner = linear(x, w, f"{name}.linear1")
            return linear(np.where(inner.real > 0.0, inner, 0.0), w, f"{name}.linear2")

        def layers(stack):
            prefix = f"transformer.{stack}.layers."
            return sorted({prefix + name.removeprefix(prefix).split(".")[0] for name in w if name.startswith(prefix)})

        x = embedded("source_embedding", source)
        for name in layers("encoder"):
            x = norm(x + attention(f"{name}.self_attn", x, x), f"{name}.norm1")
            x = norm(x + feed_forward(x, name), f"{name}.norm2")
        memory = probe("encoder", "forward", norm(x, "transformer.encoder.norm")[None])[0]
        y = embedded("target_embedding", target_in)
        causal = np.tri(len(target_in), dtype=bool)
        for name in layers("decoder"):
            y = norm(y + attention(f"{name}.self_attn", y, y, causal), f"{name}.norm1")
            y = norm(y + attention(f"{name}.multihead_attn", y, memory), f"{name}.norm2")
            y = norm(y + feed_forward(y, name), f"{name}.norm3")
        return linear(norm(y, "transformer.decoder.norm"), w, "output")

    return forward
