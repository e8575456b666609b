"""Dates: every source is read back by a parser that shares nothing with the generator."""

import calendar
import itertools
import re
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.data import DataError, generate_dates
from tinygrad_attn_models.data.dates import FIRST_DATE, FORMS, LAST_DATE, forms_of, write_date

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
CARDINALS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
ORDINALS = [
    *("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth"),
    "nineteenth",
]
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def korean_number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    total, digit = 0, 0
    for character in text:
        if character in "십백천":
            total += max(digit, 1) * 10 ** ("십백천".index(character) + 1)
            digit = 0
        else:
            digit = "일이삼사오육칠팔구".index(character) + 1
    return total + digit


def year_of(text: str) -> int:
    return datetime.strptime(text, "%y").year if len(text) == 2 else int(text)


def possible_dates(candidates) -> set[date]:
    found = set()
    for year, month, day in candidates:
        try:
            found.add(date(year, month, day))
        except ValueError:
            continue
    return found


def spelled_number(words: list[str]) -> dict[str, int]:
    """The number by its role: an ordinal is a day, any other a year."""
    cardinals = [{"twentieth": "twenty", "thirtieth": "thirty"}.get(word, word) for word in words]
    cardinals = [CARDINALS[ORDINALS.index(word)] if word in ORDINALS else word for word in cardinals]
    values = [
        TENS.index(w) * 10 if w in TENS else CARDINALS.index(w) for w in cardinals if w not in ("and", "thousand")
    ]
    if cardinals != words:
        return {"day": sum(values)}
    return {"year": values[0] * (1000 if "thousand" in words else 100) + sum(values[1:])}


def written_number(mark: str, number: str, suffix: str) -> dict[str, int]:
    """The number by each role that it may have."""
    if suffix:
        last = "th" if number in ("11", "12", "13") else number[-1]
        assert suffix == {"1": "st", "2": "nd", "3": "rd"}.get(last, "th")
        return {"day": int(number)}
    if mark or len(number) == 4:
        return {"year": year_of(number)}
    return {"day": int(number)} | ({"year": year_of(number)} if len(number) == 2 else {})


def english_readings(text: str) -> set[date]:
    text = re.sub(rf"\b({'|'.join(WEEKDAYS)})[a-z]*", " ", text.lower())
    month_name = re.search(rf"\b({'|'.join(MONTHS)})[a-z]*", text)
    month = MONTHS.index(month_name[1]) + 1
    numbers = []
    for part in re.sub(r"\b(the|of)\b", " ", text.replace(month_name[0], ",")).split(","):
        if re.search(r"\d", part):
            numbers += [written_number(*found) for found in re.findall(r"('?)(\d+)([a-z]*)", part)]
        elif words := re.findall(r"[a-z]+", part):
            numbers.append(spelled_number(words))
    assert len(numbers) == 2
    return possible_dates(
        (year["year"], month, day["day"])
        for day, year in itertools.permutations(numbers)
        if "day" in day and "year" in year
    )


def readings(text: str) -> set[date]:
    """Every calendar date that the text may mean."""
    if korean := re.match(r"(\S+)년 (\S+)월 (\S+?)일(?=[ (]|$)", text):
        year, month, day = korean.groups()
        month = {"유": "육", "시": "십"}.get(month, month)
        year = year_of(year) if year.isdecimal() else korean_number(year)
        return possible_dates([(year, korean_number(month), korean_number(day))])
    if numbers := re.match(r"(\d{4})(\. |/)(\d\d?)\2(\d\d?)", text):
        year, _, month, day = numbers.groups()
        return possible_dates([(int(year), int(month), int(day))])
    if numbers := re.fullmatch(r"(\d\d?)/(\d\d?)/(\d{4})", text):
        first, second, year = map(int, numbers.groups())
        return possible_dates([(year, first, second), (year, second, first)])
    return english_readings(text)


def weekday_in(text: str) -> int | None:
    if korean := re.search(r"([월화수목금토일])(?:요일|\))", text):
        return "월화수목금토일".index(korean[1])
    if english := re.match(rf"({'|'.join(WEEKDAYS)})[a-z]*[ ,]", text.lower()):
        return WEEKDAYS.index(english[1])
    return None


def test_the_parser_sees_what_is_ambiguous():
    assert len(readings("22 Nov 26")) == len(readings("11/12/2026")) == 2


def check(text: str, day: date) -> None:
    assert readings(text) == {day}, text
    assert weekday_in(text) in (None, calendar.weekday(day.year, day.month, day.day)), text


def test_every_form_of_every_day_of_a_year_has_one_reading():
    for offset in range(366):
        in_leap_year = date(2024, 1, 1) + timedelta(days=offset)
        year = FIRST_DATE.year + 37 * offset % 100
        day = in_leap_year if (in_leap_year.month, in_leap_year.day) == (2, 29) else in_leap_year.replace(year=year)
        for language in FORMS:
            for form in forms_of(day, language):
                check(write_date(day, form), day)


@given(st.dates(FIRST_DATE, LAST_DATE), st.data())
def test_a_form_has_one_reading(day, data):
    language = data.draw(st.sampled_from(sorted(FORMS)))
    check(write_date(day, data.draw(st.sampled_from(forms_of(day, language)))), day)


def test_the_calendar_is_the_century_that_two_digits_can_name():
    assert {datetime.strptime(f"{n:02}", "%y").year for n in range(100)} == set(
        range(FIRST_DATE.year, LAST_DATE.year + 1)
    )


@pytest.mark.parametrize(
    ("day", "form", "text"),
    [
        (date(2026, 11, 22), FORMS["en"][0], "Sunday, 22 November 2026"),
        (date(2026, 11, 22), "{month_name:.3} {ordinal} {short_year}", "Nov 22nd 26"),
        (date(2026, 11, 22), "{year}년 {month}월 {day}일 {weekday_ko}요일", "2026년 11월 22일 일요일"),
        (date(2026, 11, 22), "{year_sino}년 {month_sino}월 {day_sino}일", "이천이십육년 십일월 이십이일"),
        (date(1999, 6, 10), "{year_sino}년 {month_sino}월 {day_sino}일", "천구백구십구년 유월 십일"),
        (date(2000, 10, 31), "{year_sino}년 {month_sino}월 {day_sino}일", "이천년 시월 삼십일일"),
        (date(2005, 3, 12), FORMS["en"][-2], "the twelfth of March, two thousand and five"),
        (date(1984, 1, 30), FORMS["en"][-1], "January thirtieth, nineteen eighty-four"),
    ],
)
def test_examples(day, form, text):
    assert form in FORMS["en"] + FORMS["ko"]
    assert write_date(day, form) == text


def test_day_and_month_in_digits_only_where_they_cannot_be_confused():
    assert "{day}/{month}/{year}" in forms_of(date(2026, 11, 22), "en")
    assert "{month}/{day}/{year}" in forms_of(date(2026, 11, 11), "en")
    assert "{day}/{month}/{year}" not in forms_of(date(2026, 11, 12), "en")


@given(seed=st.integers(0, 2**32), train=st.integers(1, 300), valid=st.integers(1, 300), test=st.integers(1, 300))
def test_splits_are_disjoint_by_date_and_by_source(seed, train, valid, test):
    text = generate_dates(seed, train=train, valid=valid, test=test)
    splits = [text.train, text.valid, text.test]
    assert [len(split) for split in splits] == [train, valid, test]
    for side in (0, 1):
        seen = [{pair[side] for pair in split} for split in splits]
        assert len(set.union(*seen)) == train + valid + test
    for source, iso in itertools.chain(*splits):
        check(source, date.fromisoformat(iso))


def test_default_sizes_and_disjointness_when_training_dates_repeat():
    assert len(generate_dates().test) == 2000
    text = generate_dates(3, train=50_000, valid=100, test=2000)
    dates = [{iso for _, iso in split} for split in (text.train, text.valid, text.test)]
    assert len(dates[2]) == 2000
    assert len(dates[0]) == (LAST_DATE - FIRST_DATE).days + 1 - 2100
    assert not dates[0] & dates[1] and not dates[0] & dates[2] and not dates[1] & dates[2]


def test_the_same_seed_gives_the_same_pairs_and_sizes_do_not_change_the_test_split():
    small, large = generate_dates(7, train=50, valid=10, test=20), generate_dates(7, train=90, valid=30, test=20)
    assert small == generate_dates(7, train=50, valid=10, test=20)
    assert small.test == large.test
    assert generate_dates(7, train=90, valid=10, test=20).train[:50] == small.train
    assert generate_dates(8, train=50, valid=10, test=20).test != small.test


def test_both_languages_come_about_equally_often():
    korean = sum(bool(re.search("[년월일]|\\. ", source)) for source, _ in generate_dates(0, train=4000).train)
    assert 1800 < korean < 2200


def test_sizes_that_cannot_be_had():
    with pytest.raises(DataError, match=r"number of valid pairs must be at least 1, got 0"):
        generate_dates(valid=0)
    with pytest.raises(DataError, match=r"valid=20000 and test=20000 leave none of the 36525 dates"):
        generate_dates(valid=20_000, test=20_000)
