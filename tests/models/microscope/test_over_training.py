"""The view Over training: every frame's numbers beside an ordinary pass with those weights, and beside plain NumPy."""

import json
import shutil

import numpy as np
import plain_models
import pytest
from looked_at import SOURCE, TARGET, make, matrix, plain
from tinygrad_attn_models import load
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record.arrays import decoded
from tinygrad_attn_models.microscope.record.build import build
from tinygrad_attn_models.microscope.record.over_training import SATURATED
from tinygrad_attn_models.runs.kept import file_of, kept_steps

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.nn import functional as F

TEXT = [4, 6, 5, 7, 6, 5, 8]
MODELS = ["bahdanau", "luong dot global", "luong location local-p", "transformer", "seq2seq"]
KINDS = ["frame_attention", "frame_ops", "frame_uses", "frame_losses", "frame_saturation"]


def states_of(model, steps=(0, 10)):
    """Other weights than the model's at each step, and the model's own at step 30."""
    rng = np.random.default_rng(1)
    state = {name: tensor.array.copy() for name, tensor in model.state_dict().items()}
    found = {
        step: {name: (x * rng.uniform(0.5, 2.0, x.shape)).astype(x.dtype) for name, x in state.items()}
        for step in steps
    }
    return {**found, 30: state}


def with_weights(name, state):
    model = make(name)
    model.load_state_dict(state)
    return model


def film_of(data):
    (film,) = data["films"]
    return film


def arrays_of(data, frame):
    """By site the weights and the gradient of the scores."""

    def decode(number):
        return None if number is None else decoded(data["arrays"][number])

    return {site["site"]: (decode(site["weights"]), decode(site["gradient"])) for site in frame["sites"]}


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_norms_are_those_of_an_ordinary_pass_and_of_plain_numpy(name):
    model = make(name)
    states = states_of(model)
    data = microscope(model, SOURCE, TARGET, checkpoints=states).data
    film = film_of(data)
    assert [(frame["step"], frame["shown"]) for frame in film["frames"]] == [(0, False), (10, False), (30, True)]
    assert film["frames"][-1]["loss"] == data["meta"]["loss"] and data["check"]["ok"]
    for frame in film["frames"]:
        same = with_weights(name, states[frame["step"]]).to(ta.float64).eval()
        weights = {key: parameter.array for key, parameter in same.named_parameters()}
        assert frame["loss"] == pytest.approx(plain_models.loss(plain(name), weights, SOURCE, TARGET).real, rel=1e-12)
        assert np.mean(frame["losses"]) == pytest.approx(frame["loss"], rel=1e-14)
        logits = same(ta.tensor([SOURCE]), ta.ones(1, len(SOURCE)).bool(), ta.tensor([[START, *TARGET]]))
        each = F.cross_entropy(logits.squeeze(0), ta.tensor([*TARGET, END]), reduction="none")
        np.testing.assert_allclose(frame["losses"], each.array, rtol=1e-12)
        each.mean().backward()
        for key, size, gradient in zip(film["parameters"], frame["norms"], frame["gradient_norms"], strict=True):
            parameter = dict(same.named_parameters())[key]
            assert size == pytest.approx(np.linalg.norm(parameter.array), rel=1e-12)
            assert gradient == pytest.approx(np.linalg.norm(parameter.grad.array), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("bahdanau", "luong dot global")), "transformer"]
)
def test_attention_has_the_bits_of_a_page_of_its_own(name):
    """And the rows of weights sum to 1, those of the gradient to 0, to 1e-12."""
    model = make(name)
    states = states_of(model, [10])
    data = microscope(model, SOURCE, TARGET, checkpoints=states).data
    for frame in film_of(data)["frames"]:
        alone = microscope(with_weights(name, states[frame["step"]]), SOURCE, TARGET).data
        found = arrays_of(data, frame)
        assert list(found) == [site["id"] for site in alone["sites"]]
        for site in alone["sites"]:
            weights, gradient = found[site["id"]]
            np.testing.assert_array_equal(weights, matrix(alone, site, "weights", "value"))
            np.testing.assert_array_equal(gradient, matrix(alone, site, "scores", "gradient"))
            np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=0, atol=1e-12)
            np.testing.assert_allclose(gradient.sum(axis=-1), 0.0, rtol=0, atol=1e-12)


def test_saturation_is_what_the_weights_say():
    """Query by query, in loops; of a causal mask the first query has one key, and does not count."""
    model = make("transformer")
    data = microscope(model, SOURCE, TARGET, checkpoints=states_of(model)).data
    sites = {site["id"]: site for site in data["sites"]}
    for frame in film_of(data)["frames"]:
        found = arrays_of(data, frame)
        for facts in frame["sites"]:
            mask = sites[facts["site"]]["mask"]
            weights, gradient = found[facts["site"]]
            allowed = np.ones(weights.shape, bool)
            if mask is not None:
                allowed = np.broadcast_to(decoded(data["arrays"][mask]).astype(bool), weights.shape)
            for head, (rows, masks) in enumerate(zip(weights, allowed, strict=True)):
                open_rows = [row[those] for row, those in zip(rows, masks, strict=True) if those.sum() > 1]
                entropies = [-sum(a * np.log(a) for a in row) for row in open_rows]
                assert facts["entropy"][head] == pytest.approx(np.mean(entropies), rel=1e-12)
                assert facts["room"][head] == pytest.approx(np.mean([np.log(len(row)) for row in open_rows]))
                assert facts["largest"][head] == pytest.approx(np.mean([max(row) for row in open_rows]), rel=1e-14)
                assert facts["saturated"][head] == np.mean([max(row) >= SATURATED for row in open_rows])
                assert facts["scores_gradient"][head] == pytest.approx(np.linalg.norm(gradient[head]), rel=1e-12)
                assert facts["scores_gradient"][head] <= facts["weights_gradient"][head]


def test_scores_that_are_too_large_saturate_it_and_let_no_gradient_pass():
    """At most trace(diag(α) − ααᵀ) of it: 2 % where the largest weight is 0.99."""
    model = make("bahdanau")
    states = {0: {name: tensor.array.copy() for name, tensor in model.state_dict().items()}}
    states[10] = {name: x * (4000.0 if name == "attention.energy.weight" else 1.0) for name, x in states[0].items()}
    soft, hard = (
        frame["sites"][0] for frame in film_of(microscope(model, SOURCE, TARGET, checkpoints=states).data)["frames"]
    )
    assert soft["saturated"] == [0.0] and hard["saturated"] == [1.0] and hard["largest"][0] > SATURATED
    assert hard["spread"][0] == pytest.approx(4000 * soft["spread"][0], rel=0.5)
    passes = [site["scores_gradient"][0] / site["weights_gradient"][0] for site in (soft, hard)]
    assert passes[0] > 0.05 and passes[1] < 1 - SATURATED**2


def test_every_frame_has_its_witnesses_and_a_wrong_derivative_turns_the_badge_red():
    model = make("luong dot global")
    options = {"checkpoints": states_of(model)}
    for broken in (None, "softmax-without-second-term"):
        check = microscope(model, SOURCE, TARGET, broken=broken, **options).data["check"]
        found = [(each["site"], each["name"], each["holds"]) for each in check["identities"] if each["name"] in KINDS]
        assert [(site, name) for site, name, _ in found] == [(f"step {n}", kind) for n in (0, 10, 30) for kind in KINDS]
        wrong = {name for _, name, holds in found if not holds}
        assert wrong == (set() if broken is None else {"frame_attention", "frame_ops"})
        assert check["ok"] == (broken is None)


@pytest.mark.parametrize("options", [{"nudge": {"parameter": "output.bias", "index": [3], "by": 0.5}},
                                     {"step": {"optimizer": "sgd", "rate": 0.1}}])  # fmt: skip
def test_weights_that_the_page_has_changed_are_a_frame_of_their_own(options):
    model = make("bahdanau")
    data = build(model, SOURCE, TARGET, checkpoints=states_of(model), **options)
    frames = film_of(data)["frames"]
    assert [(frame["step"], frame["shown"]) for frame in frames[-2:]] == [(30, False), (None, True)]
    assert frames[-1]["loss"] == data["meta"]["loss"] != frames[-2]["loss"]


def test_a_language_model():
    ta.manual_seed(3)
    model = GPT(9, layers=2, heads=2, d_model=8, context=10).eval()
    data = microscope(model, TEXT, checkpoints=states_of(model)).data
    frames = film_of(data)["frames"]
    assert all(len(frame["losses"]) == len(TEXT) - 1 and len(frame["sites"]) == 2 for frame in frames)
    assert data["check"]["ok"] and frames[-1]["loss"] == data["meta"]["loss"]


def test_a_module_with_a_loss_of_ones_own():
    ta.manual_seed(0)
    model = nn.MultiheadAttention(6, 2, batch_first=True)
    x = np.random.default_rng(0).normal(size=(1, 5, 6))
    given = {"inputs": (x, x, x), "loss": lambda output: output[0].square().mean()}
    data = microscope(model, given["inputs"], loss=given["loss"], checkpoints=states_of(model)).data
    frames = film_of(data)["frames"]
    assert [frame["step"] for frame in frames] == [0, 10, 30] and all(frame["losses"] == [] for frame in frames)
    assert frames[-1]["loss"] == data["meta"]["loss"] and data["check"]["ok"]
    norms = dict(zip(film_of(data)["parameters"], frames[-1]["gradient_norms"], strict=True))
    told = {parameter["name"]: parameter["gradient_norm"] for parameter in data["parameters"]}
    assert norms == told


def test_a_model_without_checkpoints_has_no_film():
    assert microscope(make("bahdanau"), SOURCE, TARGET).data["films"] == []


def test_the_films_matrices_are_dropped_before_all_others():
    model = make("transformer")
    whole = microscope(model, SOURCE, TARGET).data["kept"]["bytes"]
    data = microscope(model, SOURCE, TARGET, checkpoints=states_of(model), limit=whole + 500).data
    assert data["kept"]["dropped"] and all(name.startswith("film") for name in data["kept"]["dropped"])
    assert film_of(data)["frames"][0]["sites"][0]["weights"] is None
    assert film_of(data)["frames"][0]["sites"][0]["entropy"]


@pytest.mark.parametrize("given", [[1], {"a": {}}, {-1: {}}, {0: 3}, {True: {}}])
def test_what_is_no_dict_of_checkpoints_is_refused(given):
    with pytest.raises(UserError, match="checkpoints must be a dict of state dicts by step"):
        microscope(make("bahdanau"), SOURCE, TARGET, checkpoints=given)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("output.bias"), "missing: output.bias"),
        (lambda state: state["output.bias"].fill(np.nan), "output.bias has values that are nan or infinite"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_left_out_and_named(spoil, message):
    model = make("bahdanau")
    states = states_of(model)
    spoil(states[10])
    with pytest.warns(UserWarning, match=f"Over training is without step 10: .*{message}"):
        data = microscope(model, SOURCE, TARGET, checkpoints=states).data
    assert [frame["step"] for frame in film_of(data)["frames"]] == [0, 30]


def test_a_run_shows_what_it_has_kept(kept_run):
    model = load(kept_run)
    data = model.microscope("22 November 2026", "2026-11-22").data
    film = film_of(data)
    steps = kept_steps(kept_run)
    assert [frame["step"] for frame in film["frames"] if frame["step"] is not None] == steps == [0, 1, 3, 10, 20]
    assert sum(frame["shown"] for frame in film["frames"]) == 1 and film["run"] == "kept" and data["check"]["ok"]
    shown = next(frame for frame in film["frames"] if frame["shown"])
    assert shown["loss"] == data["meta"]["loss"] < film["frames"][0]["loss"]


def test_a_damaged_file_of_a_run_is_named_and_the_rest_shown(kept_run, tmp_path):
    folder = shutil.copytree(kept_run, tmp_path / "kept")
    path = folder / file_of(3)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"without step 3: .*step-3\.safetensors"):
        data = load(folder).microscope("22 November 2026", "2026-11-22").data
    assert [frame["step"] for frame in film_of(data)["frames"]][:4] == [0, 1, 10, 20]


@pytest.mark.slow
def test_the_run_beside_has_a_film_too(kept_run):
    model = load(kept_run)
    data = model.microscope("22 November 2026", "2026-11-22", beside=load(kept_run)).data
    first, second = data["films"]
    assert first == second


@pytest.mark.slow
def test_the_command_in_a_terminal_and_as_json(kept_run, tmp_path, capsys):
    words = ["microscope", str(kept_run), "22 Nov 2026", "--target", "2026-11-22"]
    assert main([*words, "--view", "term", "--out", str(tmp_path / "page.json")]) == 0
    out = capsys.readouterr().out
    data = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    rows = [line.split() for line in out.partition("Over training, Bahdanau kept")[2].splitlines()]
    found = [row for row in rows if len(row) == 2 and row[0].isdecimal()]
    frames = [frame for frame in film_of(data)["frames"] if frame["step"] is not None]
    assert found == [[str(frame["step"]), f"{frame['loss']:.6g}"] for frame in frames]
    table = [float(row[3]) for row in rows if len(row) == 7 and row[0].isdecimal()]
    assert table == pytest.approx([frame["sites"][0]["largest"][0] for frame in frames], rel=1e-5)
