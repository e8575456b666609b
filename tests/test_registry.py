"""A registry: what a decorator has registered is found by name, and a wrong name is answered with the nearest."""

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
