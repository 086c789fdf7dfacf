"""Dates and high ages, both by option: taken out with the year kept, or moved by a number of days a document.

The number of days follows from a secret and the patient (or document) id, so that all dates of one patient move alike
and intervals stay; a moved date keeps its form (`2021-03-05`, `2021年3月5日`, `March 5, 2021`, `二〇二一年三月五日`).
"""

# ruff: noqa: E501  (patterns are tables of words; a Chinese character counts as two columns)

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from medscroll.corpus.code_points import CharacterSet, matches_at
from medscroll.corpus.deid_spans import Span

SHIFT_DAYS = 365  # at most, either way

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_MONTH = r"(?:" + "|".join(f"{month}|{month[:3]}" for month in _MONTHS) + r"|Sept)\b\.?"
_NUMERAL = "〇零○一二三四五六七八九十"
_Y = r"(?P<y>(?:18|19|20)\d{2})"
_DATE = re.compile(
    rf"(?<![\d./\-]){_Y}(?P<s1>[ ]?年[ ]?)(?P<m>1[0-2]|0?[1-9])(?P<s2>[ ]?月[ ]?)(?P<d>3[01]|[12]\d|0?[1-9])(?P<tail>[ ]?[日号])|"
    rf"(?<![\d./\-])(?P<y2>(?:18|19|20)\d{{2}})(?P<t1>[\-/.])(?P<m2>1[0-2]|0?[1-9])(?P<t2>[\-/.])(?P<d2>3[01]|[12]\d|0?[1-9])(?![\d\-/]|\.\d)|"
    rf"(?<![A-Za-z0-9])(?P<mn>{_MONTH})(?P<u1>[ ]{{1,2}})(?P<d3>3[01]|[12]\d|0?[1-9])(?P<ord>st|nd|rd|th)?(?P<u2>,?[ ]{{1,2}})(?P<y3>(?:18|19|20)\d{{2}})(?!\d)|"
    rf"(?<![A-Za-z0-9])(?P<d4>3[01]|[12]\d|0?[1-9])(?P<ord4>st|nd|rd|th)?(?P<v1>[ \-]{{1,2}})(?P<mn4>{_MONTH})(?P<v2>,?[ \-]{{1,2}})(?P<y4>(?:18|19|20)\d{{2}})(?!\d)|"
    rf"(?<![\d./\-])(?P<a5>\d{{1,2}})(?P<w1>[/\-.])(?P<b5>\d{{1,2}})(?P<w2>[/\-.])(?P<y5>(?:18|19|20)\d{{2}})(?![\d\-/]|\.\d)|"
    rf"(?P<yz>[一二][{_NUMERAL}]{{3}})年(?P<mz>十[一二]?|[一二三四五六七八九])月(?P<dz>三十一?|二?十[一二三四五六七八九]?|[一二三四五六七八九])(?P<tz>[日号])"
)
_CUE = r"(?<=[期于日间:： ])"
_PARTIAL = re.compile(
    r"(?<![\d年./\-])(?P<md>(?:1[0-2]|0?[1-9])月(?:3[01]|[12]\d|0?[1-9])[日号])|"
    r"(?<![\d./\-])(?:18|19|20)\d{2}年(?P<month>(?:1[0-2]|0?[1-9])月)(?!\d)|"
    rf"(?<![A-Za-z0-9])(?P<men>{_MONTH}[ ](?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?)(?![\d.,%]|[ ]?(?:,[ ])?\d{{4}})|"
    rf"(?<![A-Za-z0-9])(?P<mon>{_MONTH})[ ],?[ ]?(?:19|20)\d{{2}}(?!\d)"
)
_AGE = re.compile(
    r"(?P<a>9\d(?<![\d.\-–]\d\d)|1[0-4]\d(?<![\d.\-–]\d\d\d))(?=(?:[ \-]?years?[ \-]?olds?|[ ]?(?:y/?o\b|yo\b|y\.[ ]?o\.))(?:[ \-]{1,2}(?:[a-z\-]+[ ]){0,2}(?:man|woman|male|female|gentleman|lady|patient|M|F|with|who|presenting|admitted|African|Caucasian|white|black|Asian|Hispanic)\b|[ ]?[,.;\n]|$))|"
    r"A(?:ge|GE)[ ]{0,2}[:=|][ ]{0,3}(?P<b>9\d|1[0-4]\d)(?![\d.%\-–])|aged?[ ](?P<c>9\d|1[0-4]\d)(?=[,.;][ ](?:was|is|presented|with|a|he|she))"
)


@dataclass(frozen=True, slots=True)
class DateFound:
    """A date in the text: its span, the part of it that tells more than the year, and the day (None: not a whole
    date, or no day of the calendar)."""

    start: int
    stop: int
    parts: tuple[tuple[int, int], ...]
    day: date | None
    match: re.Match[str] | None


def find_dates(folded: str) -> list[DateFound]:
    """Whole dates, and months or days without a year or day, ascending."""
    found = []
    taken: list[tuple[int, int]] = []
    starts = _starts(folded)
    for match in matches_at(_DATE, folded, starts):
        day = _day(match)
        if day is not None:
            found.append(DateFound(*match.span(), _parts(match), day, match))
            taken.append(match.span())
    for match in matches_at(_PARTIAL, folded, starts):
        group = match.lastgroup or ""
        start, stop = match.span(group)
        if not any(begin < stop and start < end for begin, end in taken):
            found.append(DateFound(start, stop, ((start, stop),), None, None))
    found.sort(key=lambda each: each.start)
    return found


@lru_cache(maxsize=1)
def _first_characters() -> tuple[tuple[CharacterSet, CharacterSet | None], ...]:
    """Characters with which a date may begin, and those that must follow: digits, 一 or 二 of a year, months."""
    digits = CharacterSet((point, point) for point in range(0x110000) if chr(point).isdecimal())
    pairs = (("一二", _NUMERAL), ("".join(name[0] for name in _MONTHS), "".join(name[1] for name in _MONTHS)))
    sets = (tuple(CharacterSet((ord(c), ord(c)) for c in side) for side in pair) for pair in pairs)
    return (digits, None), *((first, second) for first, second in sets)


def _starts(folded: str) -> list[int]:
    """Where a date may begin, ascending: no digit of one stands right behind another number."""
    places: list[int] = []
    for first, second in _first_characters():
        places += first.places(folded, second)
    return sorted(place for place in places if not place or folded[place - 1] not in "0123456789")


def _chinese_number(text: str) -> int:
    digits = {"〇": 0, "零": 0, "○": 0} | {digit: value for value, digit in enumerate("一二三四五六七八九", 1)}
    if "十" not in text:
        return int("".join(str(digits[character]) for character in text))
    tens, _, ones = text.partition("十")
    return (digits[tens] if tens else 1) * 10 + (digits[ones] if ones else 0)


def _month_number(name: str) -> int:
    return [month[:3].lower() for month in _MONTHS].index(name[:3].lower()) + 1


def _day(match: re.Match[str]) -> date | None:  # noqa: PLR0911  (one return a form)
    try:
        if match["y"]:
            return date(int(match["y"]), int(match["m"]), int(match["d"]))
        if match["y2"]:
            return date(int(match["y2"]), int(match["m2"]), int(match["d2"])) if match["t1"] == match["t2"] else None
        if match["y3"]:
            return date(int(match["y3"]), _month_number(match["mn"]), int(match["d3"]))
        if match["y4"]:
            return date(int(match["y4"]), _month_number(match["mn4"]), int(match["d4"]))
        if match["y5"]:
            first, second = int(match["a5"]), int(match["b5"])
            month, day = (first, second) if first <= 12 else (second, first)
            return date(int(match["y5"]), month, day) if match["w1"] == match["w2"] else None
        return date(_chinese_number(match["yz"]), _chinese_number(match["mz"]), _chinese_number(match["dz"]))
    except ValueError:
        return None


def _parts(match: re.Match[str]) -> tuple[tuple[int, int], ...]:
    """The range that holds month and day, which the year stands before or behind."""
    if match["y"]:
        return ((match.start("m"), match.end("tail")),)
    if match["y2"]:
        return ((match.start("m2"), match.end("d2")),)
    if match["y3"]:
        return ((match.start("mn"), match.end("ord") if match["ord"] else match.end("d3")),)
    if match["y4"]:
        return ((match.start("d4"), match.end("mn4")),)
    if match["y5"]:
        return ((match.start("a5"), match.end("b5")),)
    return ((match.start("mz"), match.end("tz")),)


def date_spans(folded: str) -> Iterator[Span]:
    """What is taken out of dates where only the year may stay."""
    for found in find_dates(folded):
        for start, stop in found.parts:
            yield Span(start, stop, "DATE", "date" if found.day else "partial_date")


def shifted_dates(folded: str, days: int) -> Iterator[tuple[int, int, str]]:
    """(start, stop, new text) of every whole date moved by `days`; partial dates cannot be moved."""
    for found in find_dates(folded):
        if found.day is not None and found.match is not None:
            try:
                yield found.start, found.stop, _written(found.match, found.day + timedelta(days))
            except OverflowError:
                continue


def partial_date_spans(folded: str) -> Iterator[Span]:
    """Dates that name no whole day: where dates are moved they are taken out."""
    for found in find_dates(folded):
        if found.day is None:
            yield Span(found.start, found.stop, "DATE", "partial_date")


def _like(number: int, model: str) -> str:
    """A day or month with as many digits as the one it replaces, or as it needs."""
    return f"{number:02d}" if len(model) == 2 else str(number)


def _ordinal(day: int) -> str:
    return "th" if 10 < day % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _chinese_text(number: int) -> str:
    digits = "〇一二三四五六七八九"
    if number < 10:
        return digits[number]
    tens, ones = divmod(number, 10)
    return ("" if tens == 1 else digits[tens]) + "十" + (digits[ones] if ones else "")


def _month_name(month: int, model: str) -> str:
    bare = model.rstrip(".")
    name = _MONTHS[month - 1] if len(bare) > 4 or bare in ("June", "July", "May") else _MONTHS[month - 1][:3]
    return name + model[len(bare) :]


def _written(match: re.Match[str], day: date) -> str:
    """The day in the form of the date that was matched."""
    if match["y"]:
        return f"{day.year}{match['s1']}{_like(day.month, match['m'])}{match['s2']}{_like(day.day, match['d'])}{match['tail']}"
    if match["y2"]:
        return f"{day.year}{match['t1']}{_like(day.month, match['m2'])}{match['t2']}{_like(day.day, match['d2'])}"
    if match["y3"]:
        ordinal = _ordinal(day.day) if match["ord"] else ""
        return f"{_month_name(day.month, match['mn'])}{match['u1']}{_like(day.day, match['d3'])}{ordinal}{match['u2']}{day.year}"
    if match["y4"]:
        ordinal = _ordinal(day.day) if match["ord4"] else ""
        return f"{_like(day.day, match['d4'])}{ordinal}{match['v1']}{_month_name(day.month, match['mn4'])}{match['v2']}{day.year}"
    if match["y5"]:
        first, second = (day.month, day.day) if int(match["a5"]) <= 12 else (day.day, day.month)
        return f"{_like(first, match['a5'])}{match['w1']}{_like(second, match['b5'])}{match['w2']}{day.year}"
    year = "".join("〇一二三四五六七八九"[int(digit)] for digit in str(day.year))
    return f"{year}年{_chinese_text(day.month)}月{_chinese_text(day.day)}{match['tz']}"


def shift_of(secret: str, identity: str) -> int:
    """Days by which the dates of a patient or document move: 1 to 365 either way, by BLAKE2 of secret and id."""
    digest = hashlib.blake2b(
        identity.encode("utf-8", "surrogatepass"), key=secret.encode()[:64], digest_size=8
    ).digest()
    number = int.from_bytes(digest, "big") % (2 * SHIFT_DAYS)
    return number - SHIFT_DAYS if number < SHIFT_DAYS else number - SHIFT_DAYS + 1


def high_ages(folded: str) -> Iterator[Span]:
    """Ages above 89 of a person, which HIPAA counts among the identifiers; ages of groups stay."""
    for match in _AGE.finditer(folded):
        group = match.lastgroup or "a"
        yield Span(*match.span(group), "AGE", "high_age")
