"""from_torch: the page's numbers of nn.MultiheadAttention are PyTorch's, however it is called."""

import numpy as np
import pytest
from looked_at import matrix
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.microscope import from_torch, microscope
from tinygrad_attn_models.microscope.page.terminal import print_microscope

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
MHA = torch.nn.MultiheadAttention
WITNESSES = {"torch_outputs", "torch_gradients", "torch_differences"}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Attending(torch.nn.Module):
    """Between two linear maps, so that gradients arrive from below and above."""

    def __init__(self, **options):
        super().__init__()
        self.before, self.after = torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)
        self.attend = MHA(8, 2, **options)

    def forward(self, query, key=None, value=None, **options):
        query = self.before(query)
        key = query if key is None else key
        output, _ = self.attend(query, key, key if value is None else value, **options)
        return torch.tanh(self.after(output))


def cube(output):
    return (output**3).sum() + output.sum()


def site_of(found):
    data = found.data
    assert data["check"]["ok"], data["check"]["failures"]
    made = [each["name"] for each in data["check"]["identities"] if each["name"] in WITNESSES]
    assert set(made) == WITNESSES and len(made) == 3 * len(data["sites"])
    return data["sites"][0]


def padding(batch, keys):
    mask = torch.zeros(batch, keys, dtype=torch.bool)
    mask[0, -2:] = True
    return mask


CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)
CASES = {
    "self": ({}, (4, 2, 8), {}),
    "self, batch first": ({"batch_first": True}, (2, 4, 8), {}),
    "no batch": ({}, (4, 8), {}),
    "without biases": ({"bias": False}, (4, 2, 8), {}),
    "dropout": ({"dropout": 0.5}, (4, 2, 8), {}),
    "with weights": ({}, (4, 2, 8), {"need_weights": True}),
    "with weights of heads": ({}, (4, 2, 8), {"need_weights": True, "average_attn_weights": False}),
    "causal": ({}, (4, 2, 8), {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}),
    "bool mask": ({"batch_first": True}, (2, 4, 8), {"attn_mask": CAUSAL}),
    "float mask": ({}, (4, 2, 8), {"attn_mask": torch.randn(4, 4)}),
    "float mask of -inf": ({}, (4, 2, 8), {"attn_mask": torch.zeros(4, 4).masked_fill(CAUSAL, -torch.inf)}),
    "mask of each head": ({}, (4, 2, 8), {"attn_mask": torch.randn(4, 4, 4)}),
    "padding": ({}, (4, 2, 8), {"key_padding_mask": padding(2, 4)}),
    "padding, floats": ({}, (4, 2, 8), {"key_padding_mask": torch.randn(2, 4)}),
    "padding and causal": (
        {"batch_first": True}, (2, 4, 8), {"key_padding_mask": padding(2, 4), "attn_mask": CAUSAL}
    ),
    "padding, no batch": ({}, (4, 8), {"key_padding_mask": padding(1, 4)[0]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_self_attention(case):
    options, shape, arguments = CASES[case]
    found = from_torch(Attending(**options), {"query": torch.randn(shape), **arguments}, cube)
    site = site_of(found)
    assert (site["id"], site["role"], site["heads"]) == ("attend", "self", 2)
    assert (site["mask"] is not None) == any(
        mask.dtype == torch.bool or bool((mask == -torch.inf).any())
        for mask in arguments.values() if isinstance(mask, torch.Tensor)
    )  # fmt: skip
    assert found.data["meta"]["model"] == "Attending" and "outside" in found.data["meta"]["missing"]


@pytest.mark.parametrize(
    "options", [{}, {"kdim": 6, "vdim": 5}, {"kdim": 6, "vdim": 5, "batch_first": True, "bias": False}]
)
def test_cross_attention(options):
    sizes = options.get("kdim", 8), options.get("vdim", 8)
    query, key, value = torch.randn(4, 2, 8), torch.randn(5, 2, sizes[0]), torch.randn(5, 2, sizes[1])
    if options.get("batch_first"):
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    given = (query, key, value) if options else (query, key)
    site = site_of(from_torch(Attending(**options), given, cube))
    assert site["role"] == "cross" and len(site["keys"]) == 5 and len(site["queries"]) == 4


def test_the_numbers_are_those_of_pytorchs_autograd():
    module, x = Attending(batch_first=True), torch.randn(2, 4, 8)
    found = from_torch(module, x, cube)
    site = site_of(found)
    real = Attending(batch_first=True).double()
    real.load_state_dict(module.state_dict())
    h = real.before(x.double())
    weight, bias = real.attend.in_proj_weight, real.attend.in_proj_bias
    tensors = dict(zip("QKV", (h @ w.T + b for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)), strict=True))
    tensors = {name: each.unflatten(-1, (2, 4)).transpose(1, 2) for name, each in tensors.items()}
    tensors["scores"] = tensors["Q"] @ tensors["K"].mT / 2
    tensors["weights"] = tensors["scores"].softmax(-1)
    tensors["context"] = tensors["weights"] @ tensors["V"]
    for each in tensors.values():
        each.retain_grad()
    joined = tensors["context"].transpose(1, 2).flatten(2)
    loss = cube(torch.tanh(real.after(real.attend.out_proj(joined))))
    loss.backward()
    assert found.data["meta"]["loss"] == pytest.approx(loss.item(), rel=1e-12)
    for name, each in tensors.items():
        value, gradient = each.detach()[0].numpy(), each.grad[0].numpy()
        np.testing.assert_allclose(matrix(found.data, site, name, "value"), value, rtol=0, atol=1e-12)
        shown = matrix(found.data, site, name, "gradient")
        np.testing.assert_allclose(shown, gradient, rtol=0, atol=1e-12 * abs(gradient).max())


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_transformer():
    source, target = torch.randn(5, 2, 8), torch.randn(4, 2, 8)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(4)
    found = from_torch(torch.nn.Transformer(8, 2, 1, 2, 16), (source, target, None, causal), cube)
    site_of(found)
    assert [(site["id"], site["role"]) for site in found.data["sites"]] == [
        ("encoder.layers.0.self_attn", "self"),
        ("decoder.layers.0.self_attn", "self"), ("decoder.layers.0.multihead_attn", "cross"),
        ("decoder.layers.1.self_attn", "self"), ("decoder.layers.1.multihead_attn", "cross"),
    ]  # fmt: skip


def test_a_module_called_twice_and_one_without_effect():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attend, self.unused = MHA(8, 2), MHA(8, 2)

        def forward(self, x):
            self.unused(x, x, x)
            h = self.attend(x, x, x)[0]
            return self.attend(self.attend(h, h, h)[0], x, x)[0]

    found = from_torch(Twice(), torch.randn(4, 2, 8), cube)
    assert found.data["check"]["ok"], found.data["check"]["failures"]
    assert [(site["id"], len(site["queries"])) for site in found.data["sites"]] == [("attend", 8), ("attend#2", 4)]


def test_the_attention_itself():
    x = torch.randn(4, 2, 8)
    found = from_torch(MHA(8, 2), (x, x, x), lambda results: cube(results[0]))
    assert site_of(found)["id"] == "attention"


def test_the_module_is_not_changed():
    module = Attending(dropout=0.5)
    module.attend.in_proj_weight.requires_grad_(False)
    before = {name: each.clone() for name, each in module.state_dict().items()}
    from_torch(module, torch.randn(4, 2, 8), cube)
    assert module.training and not module.attend.in_proj_weight.requires_grad
    assert "forward" not in vars(module.attend) and all(p.grad is None for p in module.parameters())
    for name, each in module.state_dict().items():
        assert each.dtype == torch.float32 and torch.equal(each, before[name])


def test_it_is_shown(capsys):
    found = from_torch(Attending(), torch.randn(4, 2, 8), cube)
    print_microscope(found.data)
    assert "the ops of PyTorch outside attention" in capsys.readouterr().out
    assert "query: float64 (4, 2, 8)" in found.html() and found.data["meta"]["trained_dtype"] == "float32"


def test_a_wrong_gradient_of_the_output_is_red(monkeypatch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2.0

        @staticmethod
        def backward(ctx, g):
            return g * 2.1

    check = from_torch(Attending(), torch.randn(4, 2, 8), lambda y: cube(Wrong.apply(y))).data["check"]
    assert check["state"] == "bad"
    assert {failure["tensor"] for failure in check["failures"]} == {"torch_differences"}


def test_what_cannot_be(monkeypatch):
    x = torch.randn(4, 2, 8)
    with pytest.raises(UserError, match=r"Linear has no nn\.MultiheadAttention"):
        from_torch(torch.nn.Linear(8, 8), x, cube)
    with pytest.raises(UserError, match="attend has add_bias_kv=True"):
        from_torch(Attending(add_bias_kv=True), x, cube)
    with pytest.raises(UserError, match="attend has add_zero_attn=True"):
        from_torch(Attending(add_zero_attn=True), x, cube)
    with pytest.raises(UserError, match=r"must be a torch\.nn\.Module, it is int"):
        from_torch(3, x, cube)
    with pytest.raises(UserError, match="one number"):
        from_torch(Attending(), x, lambda y: y)
    with pytest.raises(UserError, match="does not depend on any"):
        from_torch(Attending(), x, lambda y: torch.zeros((), requires_grad=True) + 0 * y.sum())
    with pytest.raises(UserError, match=r"at attend are not finite; a query whose keys are all masked"):
        from_torch(Attending(), {"query": x, "attn_mask": torch.ones(4, 4, dtype=torch.bool)}, cube)
    with pytest.raises(UserError, match="reads the attention weights"):
        from_torch(MHA(8, 2), (x, x, x), lambda results: results[1].square().sum())
    with pytest.raises(UserError, match="use from_torch"):
        microscope(Attending(), x, loss=cube)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UserError, match="from_torch needs PyTorch: pip install torch"):
        from_torch(3, x, cube)


# -- modules and losses as people write them ---------------------------------------------------------------------------


class Written(torch.nn.Module):
    """What a forward does, given as a function of the module and its input."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.attend, self.out, self.plain = MHA(8, 2, batch_first=True), torch.nn.Linear(8, 3), torch.randn(4, 8)
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.out(self.function(self, x))


def attended(module, query, key=None, **options):
    key = query if key is None else key
    return module.attend(query, key, key, **options)[0]


def causal_mask(module, x):
    return attended(module, x, attn_mask=torch.nn.Transformer.generate_square_subsequent_mask(x.shape[1]))


def with_first_symbol(module, x):
    return attended(module, torch.cat([torch.zeros(len(x), 1, 8), x], 1))


def written_over(module, x):
    y = attended(module, x)
    y += x
    return y.relu_()


def without_gradient(module, x):
    with torch.no_grad():
        memory = attended(module, x)
    return attended(module, x, memory)


def kept(module, x):
    module.last = attended(module, x)
    return module.last


FORWARDS = {
    "a mask of float32": causal_mask,
    "a state of float32": lambda module, x: attended(module, x, torch.ones(x.shape, dtype=torch.float32)),
    "the input in float32": lambda module, x: attended(module, x.float()),
    "a tensor that is no buffer": lambda module, x: attended(module, x + module.plain),
    "something joined to the input": with_first_symbol,
    "the output written over": written_over,
    "dropout that no mode turns off": lambda module, x: torch.nn.functional.dropout(attended(module, x), 0.5),
    "a part without gradient": without_gradient,
    "the output kept": kept,
}  # fmt: skip


@pytest.mark.parametrize("case", FORWARDS)
def test_a_forward_as_people_write_it(case):
    module, x = Written(FORWARDS[case]), torch.randn(2, 4, 8)
    before = torch.random.get_rng_state()
    module(x)  # whatever it keeps of this
    torch.random.set_rng_state(before)
    found = from_torch(module, x, cube)
    assert found.data["check"]["ok"], found.data["check"]["failures"]
    assert torch.equal(torch.random.get_rng_state(), before)


HEAD = torch.nn.Linear(3, 1)
LOSSES = {
    "mse": lambda y: torch.nn.functional.mse_loss(y, torch.ones(2, 4, 3)),
    "classes": lambda y: torch.nn.functional.cross_entropy(
        y.flatten(0, 1), torch.arange(8) % 3, weight=torch.tensor([1.0, 2.0, 3.0])
    ),
    "two classes": lambda y: torch.nn.functional.binary_cross_entropy_with_logits(
        y, torch.ones(2, 4, 3), pos_weight=torch.ones(3)
    ),
    "a product": lambda y: (y @ torch.ones(3, 1)).square().sum(),
    "a layer": lambda y: HEAD(y).square().sum(),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_with_numbers_in_float32(case):
    module, x = Written(attended), torch.randn(2, 4, 8)
    found = from_torch(module, x, LOSSES[case])
    assert found.data["check"]["ok"], found.data["check"]["failures"]
    assert found.data["meta"]["loss"] == pytest.approx(LOSSES[case](module(x)).item(), rel=1e-4)


class Guided(MHA):
    """Attention to itself alone, with arguments of its own."""

    def forward(self, x, *rest, **options):
        return super().forward(x, x, x, *rest, need_weights=False, **options)[0]


def test_a_subclass_with_arguments_of_its_own():
    module = torch.nn.Sequential(Guided(8, 2, batch_first=True), torch.nn.Linear(8, 3))
    assert site_of(from_torch(module, torch.randn(2, 4, 8), cube))["id"] == "0"
    assert MHA.forward.__qualname__ == "MultiheadAttention.forward"


def test_a_weight_that_is_computed():
    module = Written(attended)
    torch.nn.utils.parametrizations.weight_norm(module.attend.out_proj)
    site_of(from_torch(module, torch.randn(2, 4, 8), cube))


def test_parts_named_as_what_the_page_computes_with():
    module = Written(lambda module, x: module.computed(module.loss(x)), loss=Guided(8, 2), computed=Guided(8, 2))
    found = from_torch(module, torch.randn(4, 2, 8), cube)
    assert [site["id"] for site in found.data["sites"]] == ["loss", "computed"]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_within_a_mode_without_gradients(mode):
    with mode():
        x = torch.randn(2, 4, 8, dtype=torch.float64)
        site_of(from_torch(Written(attended).double(), x, cube))
        assert not torch.is_grad_enabled()


def test_inputs_within_lists_and_arrays():
    x = torch.randn(2, 4, 8)
    expected = from_torch(Written(attended), x, cube).data["meta"]["inputs"]
    assert from_torch(Written(attended), x.numpy(), cube).data["meta"]["inputs"] == expected == ["x: float64 (2, 4, 8)"]
    site_of(from_torch(Written(lambda module, pair: attended(module, *pair)), ([x, x],), cube))


def test_dropout_is_said_to_be_off():
    x = torch.randn(2, 4, 8)
    for module in (Attending(dropout=0.5), torch.nn.Sequential(Guided(8, 2), torch.nn.Dropout(0.1))):
        assert "evaluation" in from_torch(module, x, cube).data["meta"]["missing"]
        assert "evaluation" not in from_torch(module.eval(), x, cube).data["meta"]["missing"]


def test_errors_of_the_module_and_of_the_loss_are_told():
    with pytest.raises(UserError, match="Written fails on these inputs: AssertionError: was expecting embedding dim"):
        from_torch(Written(attended), torch.randn(2, 4, 7), cube)
    with pytest.raises(UserError, match="the loss fails on what Written returns: IndexError: "):
        from_torch(Written(attended), torch.randn(2, 4, 8), lambda y: y[5].sum())
    with pytest.raises(UserError, match="Written cannot be copied: NotImplementedError: Cannot copy out of meta"):
        from_torch(Written(attended).to("meta"), torch.randn(2, 4, 8), cube)
