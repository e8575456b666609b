"""The microscope over a text, of models without a source."""

import numpy as np
import pytest
from commands import refused
from looked_at import matrix
from silent import Silent
from tinygrad_attn_models import load
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.evaluation.scoring import score
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.interface import LanguageModel
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.serve import MicroscopeServer
from tinygrad_attn_models.microscope.page.terminal import print_microscope
from tinygrad_attn_models.microscope.record import estimate
from tinygrad_attn_models.microscope.record.trace import in_float64, trace

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, no_grad
from tinygrad_attn.autograd import grad
from tinygrad_attn.nn import functional as F

TEXT = [4, 6, 5, 7, 6, 5, 5, 4]
LAYERS, HEADS = 3, 4
FORMS = {
    "gpt": {},
    "gpt-modern": {
        "norm": "rms", "activation": "swiglu", "positions": "rotary", "kv_heads": 2, "qk_norm": True,
    },
    "alibi": {"positions": "alibi", "activation": "gelu_tanh", "bias": True},
}  # fmt: skip
SCORES = {"alibi": "biased_dot"}
BROKEN = "softmax-without-second-term"


def make(name, **options):
    ta.manual_seed(3)
    model = GPT(9, layers=LAYERS, heads=HEADS, d_model=16, context=10, **FORMS[name], **options)
    for path, parameter in model.named_parameters():  # as in a trained one
        if "norm" in path and path.endswith("weight"):
            parameter.array[:] = np.linspace(0.5, 2.0, parameter.numel())
        else:
            parameter.array *= 5
    return model.eval()


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def model(form):
    return make(form)


@pytest.fixture(scope="module")
def data(model):
    return microscope(model, TEXT).data


def test_all_checks_hold(data):
    check = data["check"]
    assert check["ok"], check["failures"]
    assert check["unknown_ops"] == [] and check["replayed"] > 50 and check["worst"] <= 1e-5
    assert check["compared"] >= 6 * LAYERS and check["identities"]


def test_every_head_of_every_layer_is_there(data, form, model):
    sites = data["sites"]
    assert [site["id"] for site in sites] == [f"blocks.{layer}.self_attn" for layer in range(LAYERS)]
    assert [site["layer"] for site in sites] == list(range(LAYERS))
    assert {(site["role"], site["heads"], site["score"]) for site in sites} == {
        ("causal", HEADS, SCORES.get(form, "scaled_dot"))
    }
    read = [str(number) for number in TEXT[:-1]]
    with no_grad():
        _, weights = in_float64(model)(Tensor(np.array([TEXT[:-1]])), need_weights=True)
    for site in sites:
        assert site["queries"] == site["keys"] == read
        np.testing.assert_allclose(matrix(data, site, "weights", "value"), weights[site["id"]].array[0], rtol=1e-12)
        gradient = matrix(data, site, "scores", "gradient")
        later = ~np.tri(len(read), dtype=bool)
        assert np.all(gradient[:, later] == 0) and np.all(gradient[:, ~later][:, 1:] != 0)


def test_the_losses_are_those_of_score(data, model):
    found = score(model, TEXT, [str(number) for number in TEXT])
    tokens = data["tokens"]
    np.testing.assert_allclose(
        [-token["loss"] for token in tokens], [token.log_probability for token in found.tokens], atol=2e-6
    )
    assert [token["expected_id"] for token in tokens] == TEXT[1:]
    assert [token["read"] for token in tokens] == [str(number) for number in TEXT[:-1]]
    assert data["meta"]["loss"] == pytest.approx(np.mean([token["loss"] for token in tokens]), rel=1e-12)


def test_a_norm_keeps_the_eps_of_the_trained_dtype():
    model = make("gpt-modern")
    norms = [module for module in model.modules() if isinstance(module, nn.RMSNorm)]
    for norm in norms:
        norm.eps = None
    model.embedding.weight.array *= 2e-3  # so small that RMSNorm's eps, float32's own, counts
    model.norm.weight.array *= 500  # the output layer has these weights too
    found = score(model, TEXT, [str(number) for number in TEXT])
    losses = [-token["loss"] for token in microscope(model, TEXT).data["tokens"]]
    np.testing.assert_allclose(losses, [token.log_probability for token in found.tokens], atol=1e-6)
    assert all(norm.eps is None for norm in norms)  # and the model is as it was


def test_nothing_of_a_translator_is_there(data):
    assert data["source"] is None and data["translation"] is None
    assert data["target"]["ids"] == TEXT and data["meta"]["target_from"] == "given"


def test_the_paths_are_those_of_every_sublayer(data, model):
    (paths,) = data["paths"]
    assert (paths["tokens"], paths["ways"], paths["total"]) == ([], {}, [])
    assert [(layer["module"], layer["sublayer"]) for layer in paths["layers"]] == [
        (f"GPT.blocks.{layer}", sublayer) for layer in range(LAYERS) for sublayer in ("self_attention", "feed_forward")
    ]
    same, (read, said) = in_float64(model), (TEXT[:-1], TEXT[1:])
    x = Tensor(same._embed(Tensor(np.array([read]))).array, requires_grad=True)
    h = x
    for block in same.blocks:
        h = block(h)
    (gradient,) = grad([F.cross_entropy(same._logits(h).squeeze(0), Tensor(np.array(said)))], [x])
    first = paths["layers"][0]
    np.testing.assert_allclose(first["total"], np.linalg.norm(gradient.array[0], axis=-1), rtol=1e-9)
    assert first["tokens"] == [str(number) for number in read]


@pytest.mark.parametrize(
    "form", [form if form == "gpt" else pytest.param(form, marks=pytest.mark.slow) for form in FORMS],
    indirect=True, scope="module",
)  # fmt: skip
def test_a_wrong_derivative_turns_the_badge_red(model):
    check = microscope(model, TEXT, broken=BROKEN).data["check"]
    assert check["state"] == "bad" and check["failing"] >= LAYERS
    assert {failure["kind"] for failure in check["failures"]} >= {"replayed", "recomputed", "difference"}


def test_three_short_passes_tell_the_size_of_a_long_one(form):
    model = in_float64(GPT(9, layers=2, heads=2, d_model=16, context=40, **FORMS[form]))
    found = estimate._size(trace(model, None, [4] * 30))
    assert estimate.needed_memory(model, [30]) / estimate._SHARE == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize(
    ("ids", "target", "message"),
    [
        ([], None, "the text is empty"),
        ([4], None, "has one symbol, which is given, so that nothing is predicted"),
        ([4] * 12, None, "has 12 symbols; GPT reads and predicts at most 11 from one start"),
        ([4] * 300, None, "300 symbols, the microscope takes at most 200"),
        (TEXT, [4], "GPT is a language model, which has no target"),
        ("abc", None, "is a string, but there is no run with a tokenizer"),
    ],
)
def test_what_cannot_be(ids, target, message):
    with pytest.raises(UserError, match=message):
        microscope(make("gpt"), ids, target)


def test_a_whole_context_can_be_looked_at():
    assert len(microscope(make("gpt"), [4, 5] * 5 + [4]).data["tokens"]) == 10


class Sentences(LanguageModel):
    """Reads sentences between <s> and </s>, one step of nn.attention after the other, which announces no role."""

    delimited = True

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.output = nn.Linear(6, 9)

    def forward(self, text, *, need_weights=False):
        x = self.embedding(text)
        places = np.arange(text.shape[1])
        contexts = [nn.attention(x[:, t], x, x, mask=Tensor(places[None] <= t))[0] for t in places.tolist()]
        return self.output(ta.stack(contexts, 1))


def test_an_own_model_of_sentences():
    ta.manual_seed(0)
    data = microscope(Sentences(), [4, 5, 6]).data
    assert data["check"]["ok"], data["check"]["failures"]
    assert [token["expected_id"] for token in data["tokens"]] == [4, 5, 6, END]
    (site,) = data["sites"]
    assert (site["role"], site["queries"], site["keys"]) == (
        "causal",
        [str(START), "4", "5", "6"],
        [str(START), "4", "5", "6"],
    )
    assert data["paths"] == []


def test_a_model_that_announces_nothing(capsys):
    ta.manual_seed(0)
    found = microscope(Silent(), [4, 5, 6])
    assert found.data["check"]["ok"] and found.data["sites"] == found.data["paths"] == []
    print_microscope(found.data)
    assert "announces no attention" in capsys.readouterr().out


def test_a_model_must_say_its_logits():
    with pytest.raises(UserError, match="needs LanguageModel to define forward"):
        microscope(LanguageModel(), TEXT)


# -- of a run ----------------------------------------------------------------------------------------------------------


def test_the_page_of_a_run_is_that_of_the_command(storyteller, tmp_path, capsys):
    text, page = "Mina has\n a", tmp_path / "page.html"
    assert main(["microscope", storyteller, text, "--out", str(page)]) == 0
    assert "page.html: Mina has↵ a; " in capsys.readouterr().out
    model = load(storyteller)
    found = model.microscope(text)
    assert page.read_text(encoding="utf-8") == found.html()
    assert repr(found).startswith("<Microscope 'Mina has\\n a', loss ") and "→" not in repr(found)
    scored = model.score(text)
    for token, other in zip(found.data["tokens"], scored.tokens, strict=True):
        assert token["expected"] == other.symbol
        assert token["loss"] == pytest.approx(-other.log_probability, abs=1e-5)


def test_the_terminal_shows_blanks(storyteller, capsys):
    assert main(["microscope", storyteller, "a b\nc", "--view", "term"]) == 0
    out = capsys.readouterr().out
    assert "GPT: a b↵c" in out and "␣" in out and "↵" in out and "Attention at blocks.0.self_attn" in out
    assert "encoder" not in out and "past it" in out


def test_a_target_is_refused(storyteller, capsys):
    refused(
        capsys, ["microscope", storyteller, "Mina", "--target", "x"], "GPT is a language model, which has no target"
    )
    refused(capsys, ["microscope", storyteller, "Mina has a " * 9], "by model.context 16")


@pytest.mark.parametrize("wrong", [-1, 999])
def test_an_id_that_the_vocabulary_does_not_have(storyteller, trained, wrong):
    for run in (storyteller, trained):
        with pytest.raises(UserError, match=rf"has the id {wrong}; those of the vocabulary are 0 to \d+"):
            load(run).microscope([4, wrong])


def test_two_runs_side_by_side(storyteller, trained):
    model = load(storyteller)
    paths = model.microscope("Mina", beside=model).data["paths"]
    assert len(paths) == 2 and paths[0] == paths[1]
    with pytest.raises(UserError, match=r"GPT and .* cannot be shown side by side"):
        model.microscope("Mina", beside=load(trained))
    with pytest.raises(UserError, match="cannot be shown side by side"):
        load(trained).microscope("2026", beside=model)


def test_it_is_served(storyteller):
    model = load(storyteller)
    with MicroscopeServer(model.run, model.module, {"source": "Mina "}) as server:
        assert "Mina " in server.page.decode()
        nudge = {"parameter": "embedding.weight", "index": [4, 0], "by": 0.5}
        data = server.rerun({"source": "Mina has", "target": None, "nudge": nudge})
    assert data["target"]["text"] == "Mina has" and data["meta"]["nudge"]["by"] == 0.5
