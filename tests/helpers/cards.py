"""Computes a formula of the microscope from the numbers of its data: what a reader would do with a page and a pencil.

`Numbers` binds each letter to the numbers that the page shows under it; parameters of the model are the only others.
`Numbers.sides` computes both sides of a formula's first equation; the equations after it are definitions.
"""

import re
from itertools import product

import numpy as np
from looked_at import matrix
from tinygrad_attn_models.data import END
from tinygrad_attn_models.microscope.record.arrays import decoded

LETTERS = {
    "Q": "Q", "K": "K", "V": "V", "P": "product", "e": "scores", r"\hat e": "masked", r"\alpha": "weights",
    "G": "gaussian", r"\beta": "mixed", "c": "context", "u": "joined", r"\tilde s": "attentional", "o": "logits",
}  # fmt: skip
"""The tensor of each letter: the one and only."""
ROWS = {"K": "j", "V": "j"}
COLUMNS = {"context": "i", "Q": "i", "K": "i", "V": "i", "joined": "i", "attentional": "i", "logits": "n"}
_TOKEN = re.compile(r"\\[A-Za-z]+|[A-Za-z]'?|\d+|\S")
_IGNORED = re.compile(r"\\(?:textstyle|left|right)(?![A-Za-z])|\\[,;!]")
_RELATIONS = {"=": np.equal, r"\ge": np.greater_equal, "<": np.less}


class Numbers:
    """The numbers of one head of a site, by letter.

    Args:
        data: the microscope's.
        site: one of its sites.
        head: one of its heads.
        parameters: the model's, by the letters of the formulas: ``W_o``, ``b_o`` …
    """

    def __init__(self, data, site, head, parameters):
        self.site, self.parameters = site, parameters
        self.values, self.gradients = {}, {}
        for letter, tensor in LETTERS.items():
            if tensor not in site["tensors"]:
                continue
            for part, numbers in (("value", self.values), ("gradient", self.gradients)):
                found = matrix(data, site, tensor, part)
                if found is not None:
                    numbers[letter] = found[min(head, len(found) - 1)]
        rows, columns = self.values["e"].shape
        mask = np.ones((1, rows, columns), bool) if site["mask"] is None else decoded(data["arrays"][site["mask"]])
        self.mask = mask[min(head, len(mask) - 1)]
        self.values["P"], self.gradients["P"] = self.values["e"] / site["scale"], self.gradients["e"] * site["scale"]
        self.values[r"\hat e"] = np.where(self.mask, self.values["e"], -np.inf)
        self.gradients[r"\hat e"] = self.gradients["e"]
        self.constants = {
            "M": self.mask.astype(float), "T": len(data["tokens"]), "y": np.array([*data["target"]["ids"], END]),
            r"\lambda": site["scale"], "d_k": site["tensors"].get("Q", site["tensors"]["V"])["shape"][-1],
            **{name: decoded(data["arrays"][id]) for name, id in site["weights"].items()},
        }  # fmt: skip
        size = self.values["c"].shape[1]
        at = None if site["context_at"] is None else site["context_at"] + head * size
        self.part = None if at is None else slice(at, at + size)
        self.definitions = {}

    def define(self, formula):
        """Keep the definitions after the first equation of a formula."""
        for part in _equations(formula)[1:]:
            left, right = part.split("=", 1)
            self.definitions[_Reader(left, self, {}).head()] = left, right

    def shape(self, letter):
        """The index letters of a tensor."""
        tensor = LETTERS[letter]
        return ROWS.get(tensor, "t") + COLUMNS.get(tensor, "j")

    def sides(self, formula, most=5):
        """The left and the right side of the formula's first equation, at up to ``most`` places."""
        left, right = _equations(formula)[0].split("=", 1)
        letter, subscript = _Reader(left, self, {}).head(), re.search(r"_\{?([a-z]+)\}?\s*$", left)[1]
        numbers = self.gradients if letter.startswith(r"\bar") else self.values
        array = numbers[letter.removeprefix(r"\bar ")]
        shape = dict(zip(self.shape(letter.removeprefix(r"\bar ")), array.shape, strict=True))
        places = list(product(*(range(shape[index]) for index in subscript)))
        for place in places[:: max(1, len(places) // most)]:
            at = dict(zip(subscript, place, strict=True))
            yield _Reader(left, self, at).whole(), _Reader(right, self, at).whole()

    def belongs(self, formula):
        """Whether the formula's numbers are those of the page."""
        self.define(formula)
        scale = 0.0
        for left, right in self.sides(formula):
            if np.shape(left) != np.shape(right):
                return False
            both = np.array([left, right], float)
            if not (np.isfinite(both[0]) == np.isfinite(both[1])).all():
                return False
            scale = max(scale, np.abs(both[np.isfinite(both)]).max(initial=0.0))
            if not np.allclose(left, right, rtol=1e-9, atol=1e-11 * scale, equal_nan=True):
                return False
        return True


def _equations(formula):
    return [part.strip() for part in re.split(r",\s*\\quad", formula)]


class _Reader:
    """Reads an expression from left to right and computes it at indices, as an array for those left open."""

    def __init__(self, text, numbers, at):
        self.tokens, self.numbers, self.at, self.next = _TOKEN.findall(_IGNORED.sub(" ", text)), numbers, dict(at), 0

    def peek(self):
        return self.tokens[self.next] if self.next < len(self.tokens) else ""

    def take(self, *expected):
        token = self.peek()
        if expected and token not in expected:
            return ""
        self.next += 1
        return token

    def whole(self):
        value = self.sum()
        assert not self.peek(), f"cannot compute {self.tokens[self.next :]} of {self.tokens}"
        return value

    def head(self):
        """The letter at the beginning, with its accents."""
        letter, opened = self.take(), 0
        while letter.split()[-1] in (r"\bar", r"\hat", r"\tilde"):
            opened += bool(self.take("{"))
            letter += " " + self.take()
        for _ in range(opened):
            assert self.take("}")
        return letter

    def sum(self):
        if self.take("["):
            self.next -= 1
        value = -self.product() if self.take("-") else self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            value = value + term if sign == "+" else value - term
        if self.take(r"\text"):  # value where M = 1, else -inf
            assert " ".join(self.tokens[self.next :]).startswith("{ w h e r e }")
            held = self.numbers.mask[self.at["t"], self.at["j"]]
            self.next = len(self.tokens)
            return value if held else -np.inf
        return value

    def product(self):
        value = self.power()
        while self.peek() not in ("", "+", "-", ")", "]", "}", ",", *_RELATIONS, r"\text"):
            if self.take("/"):
                value = value / self.power()
            elif self.take(r"\odot"):
                value = value * self.power()
            else:
                factor = self.power()
                value = value @ factor if np.ndim(value) == 2 else value * factor
        return value

    def power(self):
        function = self.take(r"\exp", r"\tanh", r"\max", r"\sqrt")
        if function:
            exponent = float(self.take()) if self.take("^") else 1.0
            closing = {"(": ")", "{": "}"}[self.take()]
            inside = [self.sum()]
            while self.take(","):
                inside.append(self.sum())
            assert self.take() == closing
            compute = {r"\exp": np.exp, r"\tanh": np.tanh, r"\max": np.maximum, r"\sqrt": np.sqrt}[function]
            return compute(*inside) ** exponent
        value = self.atom()
        if self.take("^"):
            exponent = self.take()
            return np.transpose(value) if exponent == r"\top" else value ** float(exponent)
        return value

    def atom(self):
        if self.peek().isdigit():
            return float(self.take())
        if self.take("("):
            value = self.sum()
            assert self.take(")")
            return value
        if self.take("["):
            value = self.sum()
            if relation := self.take(*_RELATIONS):
                value = _RELATIONS[relation](value, self.sum()).astype(float)
            assert self.take("]")
            if self.take("_"):
                assert self.take() == "c"
                return value[self.numbers.part]
            return value
        if self.take(r"\sum"):
            return self.summed()
        return self.symbol()

    def summed(self):
        assert self.take("_")
        index, start = self.take(), self.next
        numbers = self.numbers
        size = len(numbers.values["e"]) if index == "t" else self.size(index)
        total = 0.0
        for place in range(size):
            self.next, self.at[index] = start, place
            total = total + self.product()
        del self.at[index]
        return total

    def size(self, index):
        values = self.numbers.values
        if index in ("j", "k"):
            return values["e"].shape[1]
        if index in ("n", "m"):
            return values["o"].shape[1]
        inside = self.tokens[self.next :]  # i: the channels of the vectors that the sum has
        return values["c" if "V" in inside else "Q"].shape[1]

    def symbol(self):
        letter = self.head()
        squared = ""
        if self.peek() == "^" and self.tokens[self.next + 1] != r"\top":
            self.next += 1
            squared = self.take()
        subscript = ""
        if self.take("_"):
            if self.take("{"):
                while not self.take("}"):
                    subscript += self.take()
            else:
                subscript = self.take()
            if self.peek() == "^" and not squared and self.tokens[self.next + 1].isdigit():
                self.next += 1
                squared = self.take()
        found = self.look_up(letter, subscript)
        return found ** float(squared) if squared else found

    def look_up(self, letter, subscript):
        numbers, at = self.numbers, self.at
        if f"{letter}_{subscript}" in numbers.parameters or letter in numbers.parameters:
            return numbers.parameters.get(f"{letter}_{subscript}", numbers.parameters.get(letter))
        if f"{letter}_{subscript}" in numbers.constants:
            return numbers.constants[f"{letter}_{subscript}"]
        if not subscript and letter in at:
            return at[letter]
        base = letter.removeprefix(r"\bar ")
        if letter == r"\bar r":
            return numbers.gradients["c"][at["t"]] - numbers.gradients["u"][at["t"]][numbers.part]
        array = (numbers.gradients if base != letter else numbers.values).get(base)
        if array is None and letter in numbers.definitions:
            left, right = numbers.definitions[letter]
            names = re.search(r"_\{?([a-z]+)\}?\s*$", left)
            inner = {} if names is None else {
                name: at[given] for name, given in zip(names[1], subscript, strict=True)
            }  # fmt: skip
            return _Reader(right, numbers, inner).whole()
        if array is None:
            array = numbers.constants[letter]
        return array[tuple(at[index] for index in subscript)] if subscript else array
