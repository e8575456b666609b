"""A registry: what a decorator has registered is found by name, and a wrong name is answered with the nearest."""

import importlib
import sys

import pytest

from tinygrad_attn.registry import Registry


def made_in(module):
    return type("Thing", (), {"__module__": module})


def test_things_are_found_by_name_in_their_order():
    registry = Registry("score")
    first, second = made_in("a"), made_in("a")
    assert registry.register("one")(first) is first
    registry.register("two")(second)
    assert list(registry) == ["one", "two"] and registry["two"] is second and "three" not in registry


def test_a_module_may_run_again_but_no_other_take_its_names():
    registry = Registry("score")
    registry.register("one")(made_in("a"))
    again = made_in("a")
    registry.register("one")(again)
    assert registry["one"] is again
    with pytest.raises(ValueError, match="the score 'one' is already defined in a; choose another name"):
        registry.register("one")(made_in("b"))


def test_an_unknown_name_is_answered_with_the_nearest_or_with_all():
    registry = Registry("score")
    registry.register("general")(made_in("a"))
    registry.register("dot")(made_in("a"))
    with pytest.raises(KeyError, match=r"there is no score 'generl'; did you mean general\?"):
        registry["generl"]
    assert registry.unknown("location") == "there is no score 'location'; there are general, dot"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a registry and two modules, one of which defines something."""
    folder = tmp_path / "things"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from tinygrad_attn.registry import Registry\nTHINGS = Registry('thing', package=__package__)\n"
    )
    (folder / "one.py").write_text("from . import THINGS\n\n@THINGS.register('one')\nclass One: ...\n")
    (folder / "_private.py").write_text("raise RuntimeError('not to be imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("things")
    for name in [name for name in sys.modules if name.partition(".")[0] == "things"]:
        del sys.modules[name]


def test_the_modules_of_a_package_are_imported_when_the_registry_is_asked(package):
    assert "things.one" not in sys.modules
    assert list(package.THINGS) == ["one"] and package.THINGS["one"].__name__ == "One"
    assert "two" not in package.THINGS


def test_a_name_of_the_package_is_taken_even_if_another_file_registers_first(package):
    with pytest.raises(ValueError, match=r"the thing 'one' is already defined in things\.one; choose another name"):
        package.THINGS.register("one")(made_in("mine"))


def test_a_module_that_fails_fails_again(package, tmp_path):
    (tmp_path / "things" / "two.py").write_text("raise RuntimeError('boom')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="boom"):
            len(package.THINGS)
