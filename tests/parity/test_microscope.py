"""The gradients that the microscope shows at every place of attention, beside those of PyTorch's autograd.

The models stand here a second time, written with PyTorch's own layers where it has them. Both have the same weights,
and the whole pass, from the ids to the loss and back, is PyTorch's.
"""

import math

import numpy as np
import pytest
from looked_at import HEADS, LUONGS, SOURCE, TARGET, WINDOW, make, matrix
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.microscope import microscope
from translators import train

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
F = torch.nn.functional

SIZE = 8  # of the Transformer


def keep(place, **tensors):
    """Note tensors of a place, one more row of each, and let PyTorch keep their gradients."""
    for name, tensor in tensors.items():
        tensor.retain_grad()
        place.setdefault(name, []).append(tensor)


def attend(place, score, query, key, value, mask=None, gaussian=None):
    """The context, from copies of K and V that no other use shares; a query row for each call."""
    query, value = query.clone(), value.clone()
    key = None if key is None else key.clone()
    scores = score(query, key)
    weights = torch.softmax(scores if mask is None else scores.masked_fill(~mask, -math.inf), -1)
    mixed = weights
    if gaussian is not None:
        mixed = weights * gaussian
        keep(place, gaussian=gaussian, mixed=mixed)
    context = mixed @ value
    keep(place, Q=query, V=value, scores=scores, weights=weights, context=context)
    if key is not None:
        keep(place, K=key)
    return context


def recurrent(kind, state, prefix, input_size, **options):
    layer = kind(input_size, 6, batch_first=True, dtype=torch.float64, **options)
    own = {name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)}
    layer.load_state_dict(own)
    return layer


def run_bahdanau(w, source, target_in):
    place = {}
    embedded = w["target_embedding.weight"][target_in]
    encoder = recurrent(torch.nn.GRU, w, "encoder.", 5, bidirectional=True)
    annotations, last = encoder(w["source_embedding.weight"][source][None])
    keys = F.linear(annotations, w["attention.key.weight"], w["attention.key.bias"])
    decoder = torch.nn.GRUCell(5 + 12, 6, dtype=torch.float64)
    decoder.load_state_dict({n.removeprefix("decoder."): x for n, x in w.items() if n.startswith("decoder.")})
    hidden = torch.tanh(F.linear(last[1], w["initial.weight"], w["initial.bias"]))
    rows = []
    for token in embedded:
        query = F.linear(hidden, w["attention.query.weight"])[None]
        context = attend(
            place, lambda q, k: torch.tanh(q[:, :, None] + k[:, None]) @ w["attention.energy.weight"][0],
            query, keys, annotations,
        )[0]  # fmt: skip
        hidden = decoder(torch.cat([token[None], context], -1), hidden)
        rows.append(torch.cat([hidden, token[None], context], -1))
    left, right = F.linear(torch.cat(rows), w["readout.weight"], w["readout.bias"]).chunk(2, -1)
    return F.linear(torch.maximum(left, right), w["output.weight"], w["output.bias"]), {"attention": place}


def luong_score(name, w):
    """What of it depends on the keys alone, and the score."""
    if name == "general":
        return lambda h: F.linear(h, w["score.key.weight"]), lambda q, k: q @ k.transpose(1, 2)
    if name in ("additive", "concat"):
        return (
            lambda h: F.linear(h, w["score.key.weight"], w.get("score.key.bias")),
            lambda q, k: torch.tanh(q[:, :, None] + k[:, None]) @ w["score.energy.weight"][0],
        )
    if name == "location":
        return lambda h: None, lambda q, k: F.linear(q, w["score.query.weight"][: len(SOURCE)])
    scale = 1 / math.sqrt(6) if name == "scaled_dot" else 1.0
    return lambda h: h, lambda q, k: scale * q @ k.transpose(1, 2)


def luong_window(attention, w, states, first):
    """Which places the steps from ``first`` on may attend to, None for all, and local-p's Gaussian."""
    length, steps = len(SOURCE), states.shape[1]
    places = torch.arange(length)
    if attention == "global":
        return None, None
    if attention == "local-m":
        position = torch.arange(first, first + steps).clamp(max=length - 1)[:, None]
        return (places - position).abs() <= WINDOW, None
    inner = torch.tanh(F.linear(states, w["position.hidden.weight"]))
    distance = places - length * torch.sigmoid(F.linear(inner, w["position.share.weight"]))
    return distance.detach().abs() <= WINDOW, torch.exp(-(distance**2) / (2 * (WINDOW / 2) ** 2))


def run_luong(score_name, attention, feeding=False):
    def run(w, source, target_in):
        place = {}
        states, hidden = recurrent(torch.nn.LSTM, w, "encoder.", 5)(w["source_embedding.weight"][source][None])
        project, score = luong_score(score_name, w)
        decoder = recurrent(torch.nn.LSTM, w, "decoder.", 5 + 6 * bool(feeding))
        embedded = w["target_embedding.weight"][target_in][None]
        attentional = torch.zeros(1, 1, 6, dtype=torch.float64)
        found = []
        for step, inputs in enumerate(embedded.split(1, 1) if feeding else [embedded]):
            read = torch.cat([inputs, attentional], -1) if feeding else inputs
            outputs, hidden = decoder(read, hidden)
            query = F.linear(outputs, w["score.query.weight"]) if score_name in ("additive", "concat") else outputs
            mask, gaussian = luong_window(attention, w, outputs, step)
            context = attend(place, score, query, project(states), states, mask, gaussian)
            joined = torch.cat([context, outputs], -1)
            attentional = torch.tanh(F.linear(joined, w["combine.weight"], w["combine.bias"]))
            keep(place, joined=joined, attentional=attentional)
            found.append(attentional)
        logits = F.linear(torch.cat(found, 1), w["output.weight"], w["output.bias"])
        keep(place, logits=logits)
        return logits[0], {"attention": place}

    return run


def run_seq2seq(w, source, target_in):
    _, hidden = recurrent(torch.nn.LSTM, w, "encoder.", 5)(w["source_embedding.weight"][source][None])
    states, _ = recurrent(torch.nn.LSTM, w, "decoder.", 5)(w["target_embedding.weight"][target_in][None], hidden)
    return F.linear(states[0], w["output.weight"], w["output.bias"]), {}


def positions(length):
    place, pair = np.arange(length)[:, None], np.arange(0, SIZE, 2)
    angle = place / 10000 ** (pair / SIZE)
    return torch.from_numpy(np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, SIZE))


def run_transformer(w, source, target_in):
    places = {}

    def norm(x, name):
        return F.layer_norm(x, (SIZE,), w[f"{name}.weight"], w[f"{name}.bias"])

    def attention(path, x, memory, mask=None):
        name = f"transformer.{path}"
        weight, bias = w[f"{name}.in_proj_weight"].chunk(3), w[f"{name}.in_proj_bias"].chunk(3)
        q, k, v = (
            F.linear(y, m, b).reshape(-1, HEADS, SIZE // HEADS).transpose(0, 1)
            for y, m, b in zip((x, memory, memory), weight, bias, strict=True)
        )
        scale = 1 / math.sqrt(SIZE // HEADS)
        place = places.setdefault(path, {})
        context = attend(place, lambda q, k: scale * q @ k.transpose(1, 2), q, k, v, mask)
        joined = context.transpose(0, 1).reshape(-1, SIZE)
        return F.linear(joined, w[f"{name}.out_proj.weight"], w[f"{name}.out_proj.bias"])

    def feed_forward(x, name):
        inner = torch.relu(F.linear(x, w[f"{name}.linear1.weight"], w[f"{name}.linear1.bias"]))
        return F.linear(inner, w[f"{name}.linear2.weight"], w[f"{name}.linear2.bias"])

    x = w["source_embedding.weight"][source] * math.sqrt(SIZE) + positions(len(source))
    for i in range(2):
        name = f"transformer.encoder.layers.{i}"
        x = norm(x + attention(f"encoder.layers.{i}.self_attn", x, x), f"{name}.norm1")
        x = norm(x + feed_forward(x, name), f"{name}.norm2")
    memory = norm(x, "transformer.encoder.norm")
    y = w["target_embedding.weight"][target_in] * math.sqrt(SIZE) + positions(len(target_in))
    causal = torch.ones(len(target_in), len(target_in), dtype=torch.bool).tril()
    for i in range(2):
        name = f"transformer.decoder.layers.{i}"
        y = norm(y + attention(f"decoder.layers.{i}.self_attn", y, y, causal), f"{name}.norm1")
        y = norm(y + attention(f"decoder.layers.{i}.multihead_attn", y, memory), f"{name}.norm2")
        y = norm(y + feed_forward(y, name), f"{name}.norm3")
    decoded_states = norm(y, "transformer.decoder.norm")
    return F.linear(decoded_states, w["output.weight"], w["output.bias"]), places


RUNS = {
    "bahdanau": run_bahdanau,
    "seq2seq": run_seq2seq,
    "transformer": run_transformer,
    **{luong + feeding: run_luong(*(luong + feeding).split()[1:]) for luong in LUONGS for feeding in ("", " feeding")},
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("steps", [0, 20])
def test_gradients_of_the_whole_model(name, steps):
    model = make(name)
    if steps:
        train(model, steps, learning_rate=0.02)
    data = microscope(model, SOURCE, TARGET).data
    weights = {
        path: torch.from_numpy(array.numpy().astype(np.float64)).requires_grad_()
        for path, array in model.state_dict().items()
    }
    logits, places = RUNS[name](weights, torch.tensor(SOURCE), torch.tensor([START, *TARGET]))
    loss = F.cross_entropy(logits, torch.tensor([*TARGET, END]))
    loss.backward()
    assert data["meta"]["loss"] == pytest.approx(loss.item(), rel=1e-12)
    assert {site["id"] for site in data["sites"]} == set(places)
    for site in data["sites"]:
        for tensor, expected in places[site["id"]].items():
            rows = tensor not in ("K", "V")
            values = torch.cat(expected, 1) if rows else expected[0]
            gradients = [part.grad for part in expected]
            gradient = torch.cat(gradients, 1) if rows else sum(gradients)
            where = f"{tensor} at {site['id']}"
            found = matrix(data, site, tensor, "value")
            np.testing.assert_allclose(found, values.detach().numpy(), rtol=1e-9, atol=1e-12, err_msg=where)
            found = matrix(data, site, tensor, "gradient")
            size = gradient.abs().max().item()
            assert size > 0, where
            np.testing.assert_allclose(
                found, gradient.numpy(), rtol=1e-6, atol=1e-9 * size, err_msg=f"gradient of {where}"
            )
