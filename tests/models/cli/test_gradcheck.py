"""The command gradcheck: its table, and what fails."""

from commands import refused
from tinygrad_attn_models.cli.main import main

import tinygrad_attn
from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.samples import floats


def test_gradcheck_prints_a_table(capsys):
    assert main(["gradcheck", "tanh", "mul", "--samples", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["op", "gradient", "double", "kernel", "formula"]
    assert [line.split()[0] for line in lines[1:3]] == ["tanh", "mul"]
    assert lines[2].endswith(r"z = x \odot y")
    assert all(float(number) < 1e-5 for number in lines[1].split()[1:4])
    assert "2 of 2 ops pass" in lines[4]


def cube(derivative):
    """An op made directly, not by @op, which would register it for the whole process."""
    made = Op(lambda x: x * x * x, "z = x^3", samples=floats(), errors=(), outputs=1, saves=(), floating=False)
    made.name = "cube"
    made.vjp("x", r"3 x^2 \odot \bar z", derivative)
    return made


def test_gradcheck_leaves_out_what_an_op_does_not_have(capsys, monkeypatch):
    ops = {"cube": cube(lambda g, x: 3.0 * x * x * g), **registered_ops()}
    monkeypatch.setattr(tinygrad_attn, "registered_ops", lambda: ops)
    assert main(["gradcheck", "argmax", "cube", "tanh", "--samples", "2"]) == 0
    rows = [line.split()[1:4] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert rows[0] == ["–", "–", "–"]  # no derivative
    assert float(rows[1][0]) < 1e-5
    assert rows[1][2] == "–"  # no kernel
    assert float(rows[2][2]) < 1e-9


def test_gradcheck_fails_for_a_wrong_derivative(capsys, monkeypatch):
    ops = {"cube": cube(lambda g, x: 2.0 * x * g), **registered_ops()}
    monkeypatch.setattr(tinygrad_attn, "registered_ops", lambda: ops)
    assert main(["gradcheck", "cube", "tanh"]) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out.splitlines()[1]
    assert "1 of 2 ops pass" in captured.out
    assert captured.err.startswith("FAILED cube")


def test_an_unknown_op(capsys):
    refused(capsys, ["gradcheck", "sotfmax"], "'sotfmax'", "did you mean softmax")
    refused(capsys, ["gradcheck", "tanh", "--samples", "0"], "--samples", "at least 1")
