"""The badge turns red for wrong derivatives, those of the gallery and others."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make, set_gammas
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.errors import CommandError
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.checks.badge import describe_worst
from tinygrad_attn_models.microscope.checks.gallery import GALLERY, broken_derivative

pytestmark = pytest.mark.slow

SOFTMAX, ADDITIVE, LAYER_NORM = "softmax-without-second-term", "additive-without-tanh", "layernorm-gamma-outside"
HAS = {
    "bahdanau": {SOFTMAX, ADDITIVE},
    "luong general global": {SOFTMAX},
    "luong concat local-p": {SOFTMAX, ADDITIVE},
    "luong location local-m": {SOFTMAX},
    "transformer": {SOFTMAX, LAYER_NORM},
    "seq2seq": set(),
}
"""By model, what of the gallery it has."""


def test_the_gallery_is_all_tested():
    assert set(GALLERY) == set.union(*HAS.values())


@pytest.mark.parametrize(("name", "broken"), [(name, broken) for name, has in HAS.items() for broken in sorted(has)])
def test_a_wrong_derivative_turns_the_badge_red(name, broken):
    model = make(name)
    check = microscope(model, SOURCE, TARGET, broken=broken).data["check"]
    assert not check["ok"] and check["failing"] >= len(check["failures"]) > 0
    assert {failure["kind"] for failure in check["failures"]} & {"difference", "recomputed", "replayed"}
    assert microscope(model, SOURCE, TARGET).data["check"]["ok"]  # and the right derivative is back


WRONG = {
    SOFTMAX: ("broken_masked_softmax", "input", r"z \odot \bar z"),
    ADDITIVE: ("broken_tanh", "input", r"\bar z"),
    LAYER_NORM: ("broken_layer_norm", "weight", r"\textstyle\sum_{\text{rows}} \bar z \odot \hat x"),
}


@pytest.mark.parametrize("broken", GALLERY)
def test_the_tape_shows_the_derivative_that_was_wrong(broken):
    model = make("transformer" if broken == LAYER_NORM else "bahdanau")
    op, operand, formula = WRONG[broken]
    right = microscope(model, SOURCE, TARGET).data
    found = microscope(model, SOURCE, TARGET, broken=broken)
    assert found.data["ops"][op]["vjp"][operand] == formula
    name = op.removeprefix("broken_")
    assert [row["op"] for row in found.data["tape"]].count(op) > 0 and op not in right["ops"]
    if broken == ADDITIVE:  # the tanh of the encoder is right, beside that of the score
        assert found.data["ops"][name] == right["ops"][name] and name in {row["op"] for row in found.data["tape"]}
    assert op in found.html()


@pytest.mark.parametrize(
    ("name", "broken"), [(name, broken) for name, has in HAS.items() for broken in GALLERY if broken not in has]
)
def test_a_model_that_does_not_run_the_op(name, broken):
    model = make(name)
    with pytest.raises(
        CommandError, match=f"{broken}: this {type(model).__name__} runs no {GALLERY[broken].op}"
    ) as error:
        microscope(model, SOURCE, TARGET, broken=broken)
    offered = str(error.value).partition(";")[2]
    assert {other for other in GALLERY if other in offered} == HAS[name]
    assert bool(HAS[name]) != ("nothing of the gallery" in offered)


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_gammas_that_are_all_alike_hide_where_they_stand(gamma):
    model = make("transformer")
    set_gammas(model, gamma)
    found = microscope(model, SOURCE, TARGET, broken=LAYER_NORM).data
    assert found["check"]["ok"] and found["meta"]["broken"] == LAYER_NORM
    assert "γ differs from channel to channel" in GALLERY[LAYER_NORM].shows


def test_the_worst_failure_in_a_line():
    model = make("bahdanau")
    check = microscope(model, SOURCE, TARGET, broken=SOFTMAX).data["check"]
    described = set()
    for failure in check["failures"]:
        line = describe_worst({**check, "failures": [failure]})
        described.add(failure["kind"])
        assert line.startswith(f"{failure['kind']} {failure['tensor']}") and f"{failure['error']:.1e}" in line
        if "call" in failure:
            assert f"of op {failure['call']} of the tape" in line
        if "cell" in failure:
            assert str(failure["cell"]) in line and f"should be {failure['expected']:.6g}" in line
    assert described == {"replayed", "recomputed", "difference", "identity"}
    model.output.weight.array[0, 0] = np.nan
    described_nan = describe_worst(microscope(model, SOURCE, TARGET).data["check"])
    assert described_nan == "the pass is not finite since weight output.weight[0, 0], which is nan"


# -- the command -------------------------------------------------------------------------------------------------------


def look(trained, tmp_path, *options):
    return main(
        ["microscope", str(trained), "2026", "--target", "2026-11-22", *options, "--out", str(tmp_path / "p.json")]
    )


def test_a_red_badge_without_broken_is_a_failed_check(trained, tmp_path, capsys):
    assert look(trained, tmp_path) == 0
    assert capsys.readouterr().err == ""
    with broken_derivative(SOFTMAX):
        assert look(trained, tmp_path) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ") and "checks fail, the worst: replayed masked_softmax input of op " in line
    assert "checks fail" in printed.out


def test_a_red_badge_that_was_asked_for_is_what_it_should_be(trained, tmp_path, capsys):
    assert look(trained, tmp_path, "--broken", SOFTMAX) == 0
    printed = capsys.readouterr()
    assert "checks fail" in printed.out and printed.err == ""


def test_a_green_badge_although_broken_is_explained(make_trainer, tmp_path, capsys):
    sizes = {"d_model": 8, "heads": 4, "encoder_layers": 1, "decoder_layers": 1, "d_ff": 8}
    trainer = make_trainer(
        model__name="transformer", training__epochs=1,
        training__learning_rate=1e-30, **{f"model__{name}": size for name, size in sizes.items()},
    )  # fmt: skip
    assert trainer.train()
    trainer.finish()
    capsys.readouterr()
    assert look(trainer.run.directory, tmp_path, "--broken", LAYER_NORM) == 0
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"note: the badge is green although {LAYER_NORM} was used") and "γ" in line
    assert "numbers checked out" in printed.out


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            LAYER_NORM,
            f"this Bahdanau runs no layer_norm, so that nothing would be wrong; of the gallery it has {SOFTMAX}",
        ),
        ("nothing", f"there is no broken derivative 'nothing'; there are {SOFTMAX}"),
    ],
)
def test_what_cannot_be_broken_is_a_users_error(trained, tmp_path, capsys, broken, message):
    assert look(trained, tmp_path, "--broken", broken) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""
