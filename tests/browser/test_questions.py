"""Questions that learners asked in public: each opens the page at a view and finds the numbers that answer it.

The expected numbers are those of an ordinary pass of the model, or of plain NumPy, never the page's own data.
"""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.interface import LanguageModel
from tinygrad_attn_models.lab.scale import Unscaled
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.optim import Adam

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TEXT = [4, 6, 5, 7, 6, 5, 8]
CROSS = "transformer.decoder.layers.0.multihead_attn.in_proj_weight"


def gpt():
    ta.manual_seed(3)
    return GPT(9, layers=2, heads=2, d_model=8, context=10).eval()


def backward(model, texts):
    """An ordinary backward pass in float64; the gradients by parameter."""
    model = model.to(ta.float64).eval()
    model.zero_grad()
    if len(texts) == 1:
        logits, expected = model(ta.tensor([texts[0][:-1]])), texts[0][1:]
    else:
        logits = model(ta.tensor([texts[0]]), ta.ones(1, len(texts[0])).bool(), ta.tensor([[START, *texts[1]]]))
        expected = [*texts[1], END]
    nn.functional.cross_entropy(logits.squeeze(0), ta.tensor(expected)).backward()
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}


MODELS = {
    "bahdanau": (lambda: make("bahdanau"), (SOURCE, TARGET)),
    "transformer": (lambda: make("transformer"), (SOURCE, TARGET)),
    "gpt": (gpt, (TEXT,)),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    found = {}
    for name, (make_model, texts) in MODELS.items():
        found[name] = tmp_path_factory.mktemp("questions") / f"{name}.html"
        microscope(make_model(), *texts).save(found[name])
    return found


@pytest.fixture
def ask(visit, files):
    """``ask(model, view=…, …)`` opens the model's page at a selection; with the model's own gradients beside it."""

    def go(name, **selection):
        page = visit(files[name])
        look(page, **selection)
        make_model, texts = MODELS[name]
        return SimpleNamespace(page=page, gradients=backward(make_model(), texts))

    return go


def look(page, **selection):
    page.evaluate("(hash) => { location.hash = hash; }", "&".join(f"{key}={x}" for key, x in selection.items()))
    page.wait_for_selector(f"#tab-{selection['view']}[aria-selected=true]")
    page.evaluate(SETTLED)


def number(text):
    return float(text.replace("−", "-"))


def shown(page, which):
    """The numbers of a matrix, by the place of its heatmap on the page."""
    rows = page.locator("table.heatmap").nth(which).locator("tbody tr")
    cells = "(all) => all.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.title))"
    return np.array([[number(cell) for cell in row] for row in rows.evaluate_all(cells)])


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_1_what_is_the_gradient_of_attention_with_respect_to_each_weight_matrix(ask):
    """Of W^Q, W^K and W^V, their biases, and in cross-attention."""
    seen = ask("transformer", view="parameters", parameter=CROSS)
    for block, rows in (("Q", slice(0, 8)), ("K", slice(8, 16)), ("V", slice(16, 24))):
        seen.page.get_by_role("button", name=f"W {block}", exact=True).click()
        seen.page.evaluate(SETTLED)
        close(shown(seen.page, 1), seen.gradients[CROSS][rows])
        norm = seen.page.locator("#gradient-norm").get_attribute("title")
        close(number(norm), np.linalg.norm(seen.gradients[CROSS][rows]))
    bias = CROSS.replace("weight", "bias")
    look(seen.page, view="parameters", parameter=bias)
    close(shown(seen.page, 1), seen.gradients[bias][None])


def test_11_every_matrix_of_multi_head_attention_learns_and_not_the_output_map_alone(ask):
    seen = ask("transformer", view="parameters")
    listed = dict(
        zip(
            seen.page.locator("table.plain").last.locator("tbody th").all_inner_texts(),
            seen.page.locator("table.plain").last.locator("tbody td:nth-child(4)").all_inner_texts(),
            strict=True,
        )
    )
    for part in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"):
        name = CROSS.replace("in_proj_weight", part)
        assert number(listed[name]) == pytest.approx(np.linalg.norm(seen.gradients[name]), rel=1e-5)
        assert number(listed[name]) > 0.0


def test_13_the_gradient_of_a_shared_weight_is_the_sum_of_its_uses(ask):
    """Over the time steps of a recurrent layer, and over two layers that share a matrix."""
    for model, name, uses in (("bahdanau", "encoder.weight_hh_l0", 5), ("gpt", "embedding.weight", 12)):
        seen = ask(model, view="parameters", parameter=name)
        seen.page.locator("table.heatmap").nth(1).locator("tbody tr").nth(4).locator("td").nth(2).click()
        seen.page.evaluate(SETTLED)
        each = [number(cell.get_attribute("title")) for cell in seen.page.locator("table.uses td.here").all()]
        total = number(seen.page.locator("#sum-of-uses").get_attribute("title"))
        assert len(each) == uses and sum(each) == pytest.approx(total, abs=1e-15)
        close(total, seen.gradients[name][4, 2])


def titles(page, selector):
    return np.array([number(cell.get_attribute("title")) for cell in page.locator(selector).all()])


def test_2_and_3_the_gradient_passes_through_attention_into_the_encoder_in_one_backward_pass(ask):
    """Down to the embeddings of the source; encoder and decoder are one graph."""
    seen = ask("bahdanau", view="embeddings")
    sizes = titles(seen.page, "#embedded-source table.symbols td.size")
    for j, symbol in enumerate(SOURCE):
        if SOURCE.count(symbol) == 1:  # its gradient is all of its embedding's row
            close(sizes[j], np.linalg.norm(seen.gradients["source_embedding.weight"][symbol]))
    assert (sizes > 0.0).all() and "one graph" in seen.page.locator("#panel").inner_text().lower()
    look(seen.page, view="paths")
    values = titles(seen.page, "table.ways tbody td:nth-child(3)")
    assert (values > 0.0).all()


WIDTH, SYMBOLS, KEPT = 128, 10, (0, 1, 3, 10)


def reversing(kind):
    """One head of dot attention that learns to say what it reads in reverse, with its weights at some steps."""
    ta.manual_seed(0)
    model = kind(WIDTH, 1, batch_first=True)
    x = np.random.default_rng(0).normal(size=(1, SYMBOLS, WIDTH)).astype(np.float32)
    read, optimizer, kept = [ta.tensor(x)] * 3, Adam(model.parameters(), lr=0.003), {}

    def loss(output):
        return (output[0] - ta.tensor(x[:, ::-1].astype(output[0].dtype))).square().mean()

    for step in range(KEPT[-1] + 1):
        if step in KEPT:
            kept[step] = {name: tensor.array.copy() for name, tensor in model.state_dict().items()}
        optimizer.zero_grad()
        loss(model(*read)).backward()
        optimizer.step()
    model.load_state_dict(kept[KEPT[-1]])
    return model, (x, x, x), loss, kept


def attention_by_hand(x, state, factor):
    """The spread of the scores, the largest weight and the share of saturated rows, of factor times q·k/√d."""
    matrices, biases = (np.split(state[f"in_proj_{part}"].astype(float), 3) for part in ("weight", "bias"))
    q, k = (x[0] @ matrix.T + bias for matrix, bias in zip(matrices[:2], biases[:2], strict=True))
    scores = factor * q @ k.T / np.sqrt(WIDTH)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    largest = (weights / weights.sum(axis=1, keepdims=True)).max(axis=1)
    return scores.std(axis=1).mean(), largest.mean(), np.mean(largest >= 0.99)


def test_4_dot_attention_collapses_without_the_scale_and_learns_with_it(visit, tmp_path):
    """Why √d: without it the scores spread √d times as far, ten steps saturate every row, and no gradient passes."""
    columns, found = ("loss", "spread", "largest", "saturated", "passes"), {}
    for kind, factor in ((nn.MultiheadAttention, 1.0), (Unscaled, np.sqrt(WIDTH))):
        model, inputs, loss, kept = reversing(kind)
        microscope(model, inputs, loss=loss, checkpoints=kept).save(tmp_path / "page.html")
        page = visit(tmp_path / "page.html")
        look(page, view="over_training")
        table = {name: titles(page, f"table.film-facts td.{name}") for name in columns}
        by_hand = np.transpose([attention_by_hand(inputs[0].astype(float), state, factor) for state in kept.values()])
        for name, expected in zip(columns[1:4], by_hand, strict=True):
            np.testing.assert_allclose(table[name], expected, rtol=1e-9)
        page.locator("#frame").press("End")
        page.evaluate(SETTLED)
        found[kind] = table, page.locator(".film-says").inner_text()
    (scaled, says_scaled), (bare, says_bare) = found.values()
    np.testing.assert_allclose(bare["spread"][0], WIDTH**0.5 * scaled["spread"][0], rtol=1e-9)
    assert scaled["largest"][0] < 0.25 and bare["largest"][0] > 0.8
    assert bare["saturated"][-1] == 1.0 and bare["passes"][-1] < 1e-6
    assert scaled["saturated"][-1] <= 0.2 and scaled["passes"][-1] > 0.05
    assert scaled["loss"][-1] < 0.7 * bare["loss"][-1]
    assert "100.0 % of the queries put 0.99 or more on one key" in says_bare and "0.0 % passes" in says_bare
    assert "100.0 % of the queries" not in says_scaled
    assert "Why divide by √d?" in page.locator("#panel").inner_text()


def test_5_a_masked_score_has_the_weight_0_and_the_gradient_0(ask):
    seen = ask("transformer", view="site", site="decoder.layers.0.self_attn")
    later = np.triu(np.ones((4, 4), bool), 1)
    # Scores and their gradient, weights and theirs, as they stand on the page.
    assert (shown(seen.page, 1)[later] == 0.0).all() and np.isfinite(shown(seen.page, 1)).all()
    assert (shown(seen.page, 2)[later] == 0.0).all() and (shown(seen.page, 2)[~later] > 0.0).all()
    seen.page.locator("#masks summary").click()
    assert "exactly 0" in seen.page.locator("#masks").inner_text()


class Blind(LanguageModel):
    """Its first query may attend to nothing."""

    def __init__(self):
        super().__init__()
        self.embedding, self.output = nn.Embedding(9, 6), nn.Linear(6, 9)
        self.attention = nn.MultiheadAttention(6, 1, batch_first=True)

    def forward(self, text, *, need_weights=False):
        x = self.embedding(text)
        masked = ~np.tri(text.shape[1], k=-1, dtype=bool)  # of this layer True means masked, as in PyTorch
        return self.output(x + self.attention(x, x, x, attn_mask=ta.tensor(masked), need_weights=False)[0])


def test_6_a_row_that_is_wholly_masked_gives_zeros_and_no_nan(visit, tmp_path):
    ta.manual_seed(0)
    microscope(Blind(), TEXT).save(tmp_path / "page.html")
    page = visit(tmp_path / "page.html")
    look(page, view="site")
    for which in (1, 2, 3):  # the scores' gradient, the weights, and their gradient
        numbers = shown(page, which)
        assert np.isfinite(numbers).all() and (numbers[0] == 0.0).all() == (which != 3) and numbers[2].any()
    page.locator("#masks summary").click()
    assert "weights 0, context 0 and gradient 0" in page.locator("#masks").inner_text()


def twins(model):
    """The model with heads 0 and 1 of its first encoder layer made equal, also in the columns of the output map."""
    attention = model.transformer.encoder.layers[0].self_attn
    width = attention.in_proj_weight.shape[1] // attention.num_heads
    for block in range(3):
        first = block * attention.in_proj_weight.shape[1]
        for tensor in (attention.in_proj_weight, attention.in_proj_bias):
            tensor.array[first + width : first + 2 * width] = tensor.array[first : first + width]
    attention.out_proj.weight.array[:, width : 2 * width] = attention.out_proj.weight.array[:, :width]
    return model


def test_7_heads_learn_apart_because_they_start_apart(ask, visit, tmp_path):
    """They get different gradients; two heads that start alike get the same one and stay alike."""
    seen = ask("transformer", view="heads")
    assert seen.page.locator(".multiple").count() == 6 * 4
    alike = titles(seen.page, "table.cosines.gradients >> nth=0 >> td.number").reshape(4, 4)
    np.testing.assert_allclose(np.diag(alike), 1.0, rtol=1e-12)
    assert np.abs(alike - np.diag(np.diag(alike))).max() < 0.999
    assert "Heads with the same weights would get the same gradient" in seen.page.locator("#panel").inner_text()
    microscope(twins(make("transformer")), SOURCE, TARGET).save(tmp_path / "page.html")
    page = visit(tmp_path / "page.html")
    look(page, view="heads")
    for kind in ("weights", "gradients"):
        cosines = titles(page, f"table.cosines.{kind} >> nth=0 >> td.number").reshape(4, 4)
        assert cosines[0, 1] == pytest.approx(1.0, rel=1e-12) and np.abs(cosines[0, 2:]).max() < 0.999
    name = "transformer.encoder.layers.0.self_attn.in_proj_weight"
    rows = backward(twins(make("transformer")), (SOURCE, TARGET))[name].reshape(3, 4, 2, 8)
    close(rows[:, 0], rows[:, 1])


def by_each_map(model, attention):
    """‖∂L/∂x‖ of attention's input x, and of what reaches it as a query, as a key and as a value: of three copies."""
    forward, copies = attention.forward, []

    def apart(query, *more, **options):
        copies.extend(each.clone() for each in (query, *more[:2]))
        for copy in copies:
            copy.retain_grad()
        return forward(*copies, *more[2:], **options)

    attention.forward = apart
    backward(model, (SOURCE, TARGET))
    return {name: np.linalg.norm(copy.grad.numpy()) for name, copy in zip("QKV", copies, strict=True)}


def test_8_the_maps_of_queries_keys_and_values_bring_gradients_of_their_own(ask):
    """And 1, with respect to x: ∂L/∂x has come through each of the three."""
    seen = ask("transformer", view="layers")
    first = seen.page.locator("table.layers-table").first.locator("tbody tr").nth(1)  # self-attention of the last layer
    parts = {
        part.inner_text().split()[0]: number(part.get_attribute("title")) for part in first.locator(".guess").all()
    }
    model = make("transformer")
    assert parts == pytest.approx(by_each_map(model, model.transformer.encoder.layers[1].self_attn), rel=1e-9)


def test_9_pre_norm_passes_the_gradient_unchanged_and_post_norm_through_every_norm(visit, tmp_path):
    for norm_first in (True, False):
        ta.manual_seed(3)
        model = Transformer(
            9, 8, d_model=8, heads=2, encoder_layers=2, decoder_layers=2, d_ff=12, norm_first=norm_first
        )
        microscope(model, SOURCE, TARGET).save(tmp_path / "page.html")
        page = visit(tmp_path / "page.html")
        look(page, view="layers")
        arrives, total = titles(page, "td.arrives"), titles(page, "td.total")
        shares = titles(page, "td.past") + titles(page, "td.through")
        np.testing.assert_allclose(shares, 1.0, rtol=1e-12)
        # From one sublayer to the one below, within the encoder and within the decoder.
        inside = np.array([n for n in range(len(total) - 1) if n != 3])
        same = np.isclose(arrives[inside + 1], total[inside], rtol=1e-12)
        assert same.all() if norm_first else not same.any()
        assert ("Pre-norm" if norm_first else "Post-norm") in page.locator(".layers .words").inner_text()


def softmax(e):
    return np.exp(e - e.max()) / np.exp(e - e.max()).sum()


def test_10_the_derivative_of_softmax_in_numpy(ask):
    """J = diag(α) − ααᵀ is what differences of softmax find, and J times ∂L/∂α what the page's NumPy code says."""
    seen = ask("bahdanau", view="jacobian", step=2)
    jacobian = shown(seen.page, 0)
    d_alpha = titles(seen.page, "table.products tbody td:nth-of-type(2)")
    look(seen.page, view="site", step=2)
    e, eps = shown(seen.page, 0)[2], 1e-6
    by_differences = [(softmax(e + eps * x) - softmax(e - eps * x)) / (2 * eps) for x in np.eye(len(e))]
    np.testing.assert_allclose(jacobian, np.array(by_differences).T, rtol=0, atol=1e-9)
    for key in range(len(e)):
        look(seen.page, view="check", step=2, key=key, tensor="scores", part="gradient")
        code = seen.page.locator("#snippet").inner_text()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, {})
        assert float(printed.getvalue().split()[-1]) == pytest.approx((jacobian @ d_alpha)[key], rel=1e-9, abs=1e-15)


def test_12_the_gradient_of_attention_and_which_zeros_are_right(ask):
    """∂L/∂α and ∂L/∂e of every cell, each row of the latter with the sum 0; zeros at masked cells alone."""
    seen = ask("bahdanau", view="site")
    gradient = shown(seen.page, 1)
    assert np.abs(gradient.sum(axis=1)).max() < 1e-15 and (gradient != 0.0).all()


def at_each_position(text):
    """‖∂L/∂x_j‖ of the last symbol's loss, by the table of positions, whose row j is added to x_j alone."""
    model = gpt().to(ta.float64)
    logits = model(ta.tensor([text[:-1]]))[0, -1]
    nn.functional.cross_entropy(logits.reshape(1, -1), ta.tensor(text[-1:])).backward()
    return np.linalg.norm(model.positions.weight.grad.numpy()[: len(text) - 1], axis=1)


def test_14_all_positions_are_trained_at_once_and_none_sees_a_later_symbol(ask):
    seen = ask("gpt", view="embeddings")
    norms = shown(seen.page, 1)
    later = np.triu(np.ones(norms.shape, bool), 1)
    assert norms.shape == (len(TEXT) - 1,) * 2 and (norms[later] == 0.0).all() and (norms[~later] > 0.0).all()
    for t in range(len(norms)):  # of the pass over all at once a row is what training on that prefix alone would give
        np.testing.assert_allclose(norms[t, : t + 1], at_each_position(TEXT[: t + 2]), rtol=1e-9)
    assert "All positions are trained at once" in seen.page.locator("#panel").inner_text()


def test_15_how_each_input_word_affects_the_loss_of_each_token(ask):
    seen = ask("transformer", view="embeddings")
    effects = shown(seen.page, 0)
    assert effects.shape == (len(TARGET) + 1, len(SOURCE))
    # Their mean over the tokens is that of the loss, which erasing the symbol follows to first order.
    predicted = titles(seen.page, "#embedded-source table.symbols td.effect")
    np.testing.assert_allclose(-effects.mean(axis=0), predicted, rtol=0, atol=1e-14)
    weight = make("transformer").source_embedding.weight.array.astype(float)
    rows = [symbol for symbol in SOURCE if SOURCE.count(symbol) == 1]
    gradient = seen.gradients["source_embedding.weight"]
    found = [predicted[SOURCE.index(symbol)] for symbol in rows]
    np.testing.assert_allclose(found, [-(weight[s] @ gradient[s]) for s in rows], rtol=1e-9)


def test_does_the_gradient_point_where_it_says(ask):
    seen = ask("bahdanau", view="step")
    squared = sum(np.sum(gradient**2) for gradient in seen.gradients.values())
    assert titles(seen.page, "#slope") == pytest.approx(-squared, rel=1e-12)
    seen.page.locator("#rate").fill("0")
    seen.page.evaluate(SETTLED)
    assert titles(seen.page, "#real") == pytest.approx(titles(seen.page, "#predicted"), rel=0.01)
    assert "nearly a straight line" in seen.page.locator("#whole-step").inner_text()
    seen.page.locator("#site-rate").fill("-3")
    seen.page.evaluate(SETTLED)
    assert titles(seen.page, "#site-real") == pytest.approx(titles(seen.page, "#site-predicted"), rel=0.01)


def test_why_the_backward_pass_goes_in_topological_order(ask):
    """Every op that uses a value stands below it, so going upwards a gradient is whole when it is sent on."""
    seen = ask("bahdanau", view="tape")
    uses = {}
    for op in range(40):
        look(seen.page, view="tape", op=op)
        lists = seen.page.locator(".inspector .plain-list")
        numbers = [[int(x.inner_text().split()[0][1:]) for x in each.locator("a").all()] for each in lists.all()]
        assert all(source < op for source in numbers[0]), op
        uses[op] = numbers[1] if len(numbers) > 1 else []
        assert all(reader > op for reader in uses[op]), op
    assert any(len(readers) > 1 for readers in uses.values())
    seen.page.locator("#order summary").click()
    assert "from the last to the first" in seen.page.locator("#order").inner_text()


def test_luong_or_bahdanau_which_states(ask):
    seen = ask("bahdanau", view="steps")
    seen.page.locator("details.legend summary").first.click()
    assert "t − 1 in Bahdanau's model and t in Luong's" in seen.page.locator("details.legend").first.inner_text()
