"""The stories task: a text of tiny stories, a line each, of which everybody can tell whether they are right.

    Mina has five red apples. She gives two to Tom. Now she has three.
    Yesterday was Sunday, so today is Monday and tomorrow is Tuesday.

To go on with a story a model must have learnt spelling and grammar, who is she and who is he, to remember what was said
some words ago, and to count. A story is determined by its beginning: its givens, found by a pattern, say how it goes
on, and so `Stories.is_right` judges what a model has written. Splits are drawn by chance, so stories of the shorter
kinds come in several of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..console.working import worked_off
from ..memory import refuse_beyond_memory
from ..setting import constant, setting
from .corpus import PlainText
from .task import TextTask, register_task

__all__ = ["FORMS", "Form", "Stories", "generate_stories"]

_SHE = ("Mina", "Anna", "Sora", "Eva")
_HE = ("Tom", "Ben", "Minho", "Leo")
_NAMES = (*_SHE, *_HE)
_THINGS = ("apple", "book", "coin", "ball", "egg")
_COLOURS = ("red", "blue", "green", "white")
_ANIMALS = ("cat", "dog", "bird", "mouse")
_PREPOSITIONS = ("under", "behind", "near")
_PLACES = ("table", "house", "tree", "door")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SIZES = ("taller", "older", "faster")
_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
)


@dataclass(frozen=True)
class Form:
    """A kind of story.

    Attributes:
        begins: the givens of a story, as a regular expression that matches its beginning.
        draw: draws the givens by chance.
        write: the whole story with these givens.

    ``write`` raises ValueError if there is no such story.
    """

    begins: re.Pattern[str]
    draw: Callable[[np.random.Generator], list[str]]
    write: Callable[..., str]


def _giving(name: str, had: str, colour: str, things: str, gave: str, other: str) -> str:
    a, b = _NUMBERS.index(had), _NUMBERS.index(gave)
    _check(b < a and name != other and _thing(things, a) and colour in _COLOURS and other in _NAMES)
    he = _pronoun(name)
    return f"{name} has {had} {colour} {things}. {he} gives {gave} to {other}. Now {he.lower()} has {_NUMBERS[a - b]}."


def _finding(name: str, first: str, things: str, second: str) -> str:
    a, b = _NUMBERS.index(first), _NUMBERS.index(second)
    _check(_thing(things, a) and 1 <= a <= 9 and 1 <= b <= 9)
    found = _plural(things.removesuffix("s"), a + b)
    return f"{name} finds {first} {things}, and then {second} more. {_pronoun(name)} has {_NUMBERS[a + b]} {found}."


def _days(yesterday: str) -> str:
    number = _DAYS.index(yesterday)
    today, tomorrow = (_DAYS[(number + days) % 7] for days in (1, 2))
    return f"Yesterday was {yesterday}, so today is {today} and tomorrow is {tomorrow}."


def _where(animal: str, preposition: str, place: str) -> str:
    _check(animal in _ANIMALS and preposition in _PREPOSITIONS and place in _PLACES)
    return f"The {animal} is {preposition} the {place}. Where is the {animal}? It is {preposition} the {place}."


def _order(first: str, size: str, second: str, third: str) -> str:
    _check(len({first, second, third} & set(_NAMES)) == 3 and size in _SIZES)
    return f"{first} is {size} than {second}, and {second} is {size} than {third}. So {first} is {size} than {third}."


def _draw_giving(generator: np.random.Generator) -> list[str]:
    had = int(generator.integers(2, 6))
    name, other = _some(generator, _NAMES, 2)
    gave = _NUMBERS[int(generator.integers(1, had))]
    things = _plural(_one(generator, _THINGS), had)
    return [name, _NUMBERS[had], _one(generator, _COLOURS), things, gave, other]


def _draw_finding(generator: np.random.Generator) -> list[str]:
    first, second = (int(generator.integers(1, 4)) for _ in range(2))
    things = _plural(_one(generator, _THINGS), first)
    return [_one(generator, _NAMES), _NUMBERS[first], things, _NUMBERS[second]]


def _draw_order(generator: np.random.Generator) -> list[str]:
    first, second, third = _some(generator, _NAMES, 3)
    return [first, _one(generator, _SIZES), second, third]


FORMS = (
    Form(re.compile(r"(\w+) has (\w+) (\w+) (\w+)\. \w+ gives (\w+) to (\w+)\."), _draw_giving, _giving),
    Form(re.compile(r"(\w+) finds (\w+) (\w+), and then (\w+) more\."), _draw_finding, _finding),
    Form(re.compile(r"Yesterday was (\w+),"), lambda generator: [_one(generator, _DAYS)], _days),
    Form(
        re.compile(r"The (\w+) is (\w+) the (\w+)\."),
        lambda generator: [_one(generator, words) for words in (_ANIMALS, _PREPOSITIONS, _PLACES)],
        _where,
    ),
    Form(re.compile(r"(\w+) is (\w+) than (\w+), and \w+ is \w+ than (\w+)\."), _draw_order, _order),
)
_SHARES = (0.2, 0.2, 0.2, 0.2, 0.2)
_LONGEST = 100  # characters of a story


@register_task
@dataclass(frozen=True)
class Stories(TextTask):
    """Tiny stories, generated."""

    kind: str = constant("stories")
    train_size: int = setting(20_000, "generated stories for training", minimum=1, affects="training")
    valid_size: int = setting(1_000, "generated stories for validation", minimum=1)
    test_size: int = setting(1_000, "generated stories for testing", minimum=1)
    seed: int = setting(0, "seed of the generated stories", minimum=0)

    def load(self) -> PlainText:
        """See `generate_stories`."""
        stories = self.train_size + self.valid_size + self.test_size
        refuse_beyond_memory(
            8 * _LONGEST * stories, f"{stories:,} generated stories", "lower data.train_size, valid_size or test_size"
        )
        return generate_stories(self.seed, train=self.train_size, valid=self.valid_size, test=self.test_size)

    def is_right(self, line: str) -> bool | None:
        """Whether the line is a story, word for word as its beginning demands."""
        for form in FORMS:
            if found := form.begins.match(line):
                try:
                    return form.write(*found.groups()) == line
                except ValueError:
                    return False
        return False


def generate_stories(seed: int = 0, *, train: int = 20_000, valid: int = 1_000, test: int = 1_000) -> PlainText:
    """So many stories of each split, a line each; each split has random numbers of its own."""
    splits = {"train": train, "valid": valid, "test": test}
    texts = {
        split: _stories(np.random.default_rng([seed, number]), size, split)
        for number, (split, size) in enumerate(splits.items())
    }
    return PlainText("stories", **texts)


def _stories(generator: np.random.Generator, count: int, split: str) -> str:
    kinds = generator.choice(len(FORMS), size=count, p=_SHARES)
    chosen = worked_off(kinds.tolist(), f"generating {split} stories", count)
    return "".join(f"{FORMS[kind].write(*FORMS[kind].draw(generator))}\n" for kind in chosen)


def _check(possible: bool) -> None:
    if not possible:
        raise ValueError("there is no such story")


def _one(generator: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(generator.integers(len(words)))]


def _some(generator: np.random.Generator, words: tuple[str, ...], count: int) -> list[str]:
    return [words[i] for i in generator.choice(len(words), size=count, replace=False).tolist()]


def _pronoun(name: str) -> str:
    _check(name in _NAMES)
    return "She" if name in _SHE else "He"


def _plural(thing: str, count: int) -> str:
    return thing if count == 1 else f"{thing}s"


def _thing(things: str, count: int) -> bool:
    """Whether ``things`` is a thing, in the plural if there are several."""
    return things in [_plural(thing, count) for thing in _THINGS]
