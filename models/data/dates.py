"""The dates task: dates in many English and Korean forms, translated to ISO 8601.

A real translation task, small enough to learn in minutes. The output order differs from the input order, months and
weekdays are words, and a Korean or English numeral spans several symbols. So there is an alignment for attention to
learn, and its weights can be checked by eye.

Every source determines its ISO date:

- Two-digit years are read as POSIX and Python's ``%y`` do: 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068. The
  calendar here is exactly these hundred years, and a two-digit year always stands where only a year can stand.
- All-numeric dates put the year first, or have four digits for it and are used only where day/month and month/day
  cannot be confused: for a day above 12, or equal to the month.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from ..console.working import worked_off
from ..setting import constant
from .corpus import DataError, Pair, ParallelText
from .packed_pairs import PackedPairs
from .task import GeneratedTask, register_task

__all__ = ["FIRST_DATE", "FORMS", "LAST_DATE", "Dates", "forms_of", "generate_dates", "write_date"]

FIRST_DATE = date(1969, 1, 1)
LAST_DATE = date(2068, 12, 31)
_DAYS = (LAST_DATE - FIRST_DATE).days + 1

# The fields are those of `_FIELDS`; the examples are of 2026-11-22.
FORMS: dict[str, tuple[str, ...]] = {
    "en": (
        "{weekday}, {day} {month_name} {year}",  # Sunday, 22 November 2026
        "{weekday}, {month_name} {day}, {year}",  # Sunday, November 22, 2026
        "{weekday} {ordinal} {month_name} {year}",  # Sunday 22nd November 2026
        "{weekday:.3}, {month_name:.3} {ordinal}, {year}",  # Sun, Nov 22nd, 2026
        "{weekday:.3} {day} {month_name:.3} {year}",  # Sun 22 Nov 2026
        "{day} {month_name} {year}",  # 22 November 2026
        "{month_name} {day}, {year}",  # November 22, 2026
        "{month_name} {ordinal}, {year}",  # November 22nd, 2026
        "the {ordinal} of {month_name} {year}",  # the 22nd of November 2026
        "{day} {month_name:.3} {year}",  # 22 Nov 2026
        "{month_name:.3} {day}, {year}",  # Nov 22, 2026
        "{day:02}-{month_name:.3}-{year}",  # 22-Nov-2026
        "{month_name:.3} {ordinal} {short_year}",  # Nov 22nd 26
        "{ordinal} {month_name:.3} {short_year}",  # 22nd Nov 26
        "{day} {month_name:.3} '{short_year}",  # 22 Nov '26
        "{year}/{month:02}/{day:02}",  # 2026/11/22
        "the {ordinal_words} of {month_name}, {year_words}",  # the twenty-second of November, twenty twenty-six
        "{month_name} {ordinal_words}, {year_words}",  # November twenty-second, twenty twenty-six
    ),
    "ko": (
        "{year}년 {month}월 {day}일",  # 2026년 11월 22일
        "{year}년 {month}월 {day}일 {weekday_ko}요일",  # 2026년 11월 22일 일요일
        "{year}년 {month}월 {day}일({weekday_ko})",  # 2026년 11월 22일(일)
        "{year}년 {month:02}월 {day:02}일",  # 2026년 11월 22일
        "{short_year}년 {month}월 {day}일",  # 26년 11월 22일
        "{short_year}년 {month}월 {day}일 {weekday_ko}요일",  # 26년 11월 22일 일요일
        "{year}. {month}. {day}.",  # 2026. 11. 22.
        "{year}. {month}. {day}. ({weekday_ko})",  # 2026. 11. 22. (일)
        "{year_sino}년 {month_sino}월 {day_sino}일",  # 이천이십육년 십일월 이십이일
        "{year_sino}년 {month_sino}월 {day_sino}일 {weekday_ko}요일",  # 이천이십육년 십일월 이십이일 일요일
        "{year}년 {month_sino}월 {day_sino}일",  # 2026년 십일월 이십이일
    ),
}
_DAY_AND_MONTH_IN_DIGITS = ("{day}/{month}/{year}", "{month}/{day}/{year}")  # 22/11/2026, 11/22/2026

# Written out, since the names in `calendar` and `strftime` follow the user's locale.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WEEKDAYS_KO = "월화수목금토일"
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}


@register_task
@dataclass(frozen=True)
class Dates(GeneratedTask):
    """Generated dates."""

    kind: str = constant("dates")

    def load(self) -> ParallelText:
        """See `generate_dates`."""
        self.refuse_too_many(length=20)
        return generate_dates(self.seed, train=self.train_size, valid=self.valid_size, test=self.test_size)


def generate_dates(seed: int = 0, *, train: int = 20_000, valid: int = 1_000, test: int = 2_000) -> ParallelText:
    """Pairs of a date as people write it, English or Korean with equal chance, and its ISO form.

    The splits are disjoint by calendar date: a test date is unseen in any form. A source determines its date, so they
    are disjoint by source string too. The dates of ``valid`` and ``test`` are distinct. Those of ``train`` are distinct
    as long as there are enough; beyond that dates repeat, usually in another form. For one seed, ``test`` does not
    depend on the other sizes, and a smaller ``train`` is a prefix of a larger one.

    Raises:
        DataError: a size is below 1, or ``valid`` and ``test`` leave no date for ``train``.
    """
    for split, size in (("train", train), ("valid", valid), ("test", test)):
        if size < 1:
            raise DataError(f"dates: the number of {split} pairs must be at least 1, got {size}")
    if valid + test >= _DAYS:
        raise DataError(
            f"dates: valid={valid} and test={test} leave none of the {_DAYS} dates from {FIRST_DATE} to {LAST_DATE} "
            f"for training; make them smaller"
        )
    shuffled = np.random.default_rng(seed).permutation(_DAYS)
    for_test, for_valid, for_train = np.split(shuffled, [test, test + valid])
    return ParallelText(
        name="dates",
        source_language="human",
        target_language="iso",
        train=_write_pairs(np.resize(for_train, train), np.random.default_rng([seed, 1])),
        valid=_write_pairs(for_valid, np.random.default_rng([seed, 2])),
        test=_write_pairs(for_test, np.random.default_rng([seed, 3])),
    )


def forms_of(day: date, language: str) -> tuple[str, ...]:
    """The forms of ``language`` ("en" or "ko") that determine ``day``."""
    unambiguous = day.day > 12 or day.day == day.month
    return FORMS[language] + (_DAY_AND_MONTH_IN_DIGITS if language == "en" and unambiguous else ())


def write_date(day: date, form: str) -> str:
    """``day`` written in ``form``, one of ``forms_of(day, language)``."""
    return form.format_map(_Fields(day))


def _write_pairs(offsets: np.ndarray, generator: np.random.Generator) -> PackedPairs:
    return PackedPairs.of(_pairs(worked_off(offsets, "generating pairs", len(offsets)), generator))


def _pairs(offsets: Iterable[int], generator: np.random.Generator) -> Iterator[Pair]:
    languages = tuple(FORMS)
    for offset in offsets:
        day = FIRST_DATE + timedelta(days=int(offset))
        forms = forms_of(day, languages[generator.integers(len(languages))])
        yield write_date(day, forms[generator.integers(len(forms))]), day.isoformat()


class _Fields(dict[str, str | int]):
    """The fields of a date that a form asks for."""

    def __init__(self, day: date) -> None:
        self.day = day

    def __missing__(self, name: str) -> str | int:
        return _FIELDS[name](self.day)


_FIELDS: dict[str, Callable[[date], str | int]] = {
    "year": lambda day: day.year,
    "short_year": lambda day: f"{day.year % 100:02}",
    "year_words": lambda day: _year_words(day.year),
    "year_sino": lambda day: _sino_korean(day.year),
    "month": lambda day: day.month,
    "month_name": lambda day: _MONTHS[day.month - 1],
    # June and October drop their final consonant before 월.
    "month_sino": lambda day: {6: "유", 10: "시"}.get(day.month) or _sino_korean(day.month),
    "day": lambda day: day.day,
    "ordinal": lambda day: f"{day.day}{_ordinal_suffix(day.day)}",
    "ordinal_words": lambda day: _ordinal_words(day.day),
    "day_sino": lambda day: _sino_korean(day.day),
    "weekday": lambda day: _WEEKDAYS[day.weekday()],
    "weekday_ko": lambda day: _WEEKDAYS_KO[day.weekday()],
}


def _ordinal_suffix(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _cardinal_words(number: int) -> str:
    """22 -> "twenty-two", for 0 to 99."""
    if number < 20:
        return _ONES[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")


def _ordinal_words(number: int) -> str:
    """22 -> "twenty-second", for 1 to 31."""
    tens, hyphen, last = _cardinal_words(number).rpartition("-")
    return tens + hyphen + _IRREGULAR_ORDINALS.get(last, f"{last}th")


def _year_words(year: int) -> str:
    """1984 -> "nineteen eighty-four", 2007 -> "two thousand and seven", 2026 -> "twenty twenty-six"."""
    century, rest = divmod(year, 100)
    if rest >= 10:
        return f"{_cardinal_words(century)} {_cardinal_words(rest)}"
    return "two thousand" + (f" and {_ONES[rest]}" if rest else "")


def _sino_korean(number: int) -> str:
    """2026 -> "이천이십육", for 1 to 9999. A one before 천, 백 or 십 is left out: 1111 is 천백십일."""
    text = ""
    for value, unit in ((1000, "천"), (100, "백"), (10, "십"), (1, "")):
        digit = number // value % 10
        if digit:
            text += ("" if digit == 1 and unit else "일이삼사오육칠팔구"[digit - 1]) + unit
    return text
