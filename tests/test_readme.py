"""The README's examples run as they stand, and its two commands are where `.ci/run` looks for them."""

import re
from pathlib import Path

import numpy as np
import pytest

from tinygrad_attn.op import registered_ops

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The one that loads a trained run is run where there is one, in tests/models/test_trained.py.
EXAMPLES = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "load(" not in code]


@pytest.mark.parametrize("code", EXAMPLES)
def test_example(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out


def test_the_op_of_the_example_is_like_any_other() -> None:
    code = next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "@op" in code)
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    import tinygrad_attn as ta

    x, y = ta.tensor(np.array([1.0, 2.0]), requires_grad=True), ta.tensor(np.array([3.0, 5.0]), requires_grad=True)
    registered_ops()["scale_by_square"](x, y).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [9.0, 25.0])
    np.testing.assert_array_equal(y.grad.numpy(), [6.0, 20.0])


def test_two_commands() -> None:
    commands = re.findall(r'^pip install -e "\.\[[a-z,]+\]" && python -m .*$', README, re.MULTILINE)
    assert [command.split(" && ")[1] for command in commands] == ["python -m models train", "python -m pytest"]
