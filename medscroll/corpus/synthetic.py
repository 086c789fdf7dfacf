"""Synthetic medical documents, Chinese and English, deterministic by seed: for demos and tests.

Each document is a pure function of (seed, number): a discharge summary, guideline, case report or textbook chapter of
sections and sentences filled from small vocabularies. Lengths are log-normal between 200 and `max_characters`, and
about one document in a hundred is close to the maximum. Speed: about 3 million characters a second.
"""

from __future__ import annotations

import datetime
import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from medscroll.corpus.synthetic_words import DOSES, KINDS, PATTERNS, UNITS, WORDS

LEAST_CHARACTERS = 200
LEAST_MAXIMUM = 2000  # of --max_characters: room for a title and some sentences
_LEAST_SECTION = {"zh": 100, "en": 300}  # characters
_MEDIAN_CHARACTERS = 1500
_SIGMA = 1.2
_SLOT = re.compile(r"\{(\w+)\}")
_CHANGE = {"zh": ("升高", "下降", "无明显变化"), "en": ("higher", "lower", "unchanged")}


@dataclass(frozen=True, slots=True)
class SyntheticDocument:
    """A made-up document.

    Attributes:
        number: from 0; with the seed it decides everything else.
        kind: "discharge_summary", "guideline", "case_report" or "textbook".
        lang: "zh" or "en".
        title: its title.
        sections: (heading, paragraphs) in order.
    """

    number: int
    kind: str
    lang: str
    title: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def characters(self) -> int:
        """Characters of its title, headings and paragraphs."""
        return len(self.title) + sum(len(head) + sum(map(len, texts)) for head, texts in self.sections)


def generate_documents(count: int, *, seed: int = 0, max_characters: int = 200_000) -> Iterator[SyntheticDocument]:
    """`count` documents, alternating Chinese and English; document i does not depend on `count`.

    Args:
        count: how many.
        seed: another seed gives another corpus.
        max_characters: upper end of the lengths, at least 2,000.
    """
    for number in range(count):
        yield _document(number, seed, max_characters)


def target_length(number: int, seed: int, max_characters: int) -> int:
    """The length in characters that document `number` aims at: log-normal, every hundredth near the maximum."""
    generator = random.Random(f"length {seed} {number}")
    if number % 100 in (50, 51):
        return round(max_characters * generator.uniform(0.85, 0.97) / (1 if number % 100 == 50 else 4))
    drawn = _MEDIAN_CHARACTERS * math.exp(_SIGMA * generator.gauss(0, 1))
    return min(max(LEAST_CHARACTERS, round(drawn)), round(0.97 * max_characters))


def _document(number: int, seed: int, max_characters: int) -> SyntheticDocument:
    generator = random.Random(f"{seed} {number}")
    lang = ("zh", "en")[number % 2]
    kind = generator.choice(sorted(KINDS))
    title_pattern, outline = KINDS[kind][lang]
    writer = _Writer(generator, lang)
    title = writer.fill(title_pattern)
    title = title[0].upper() + title[1:]
    target = target_length(number, seed, max_characters)
    room = max(0, target - len(title))
    outline = outline[: max(1, room // _LEAST_SECTION[lang])]  # a short document has fewer sections
    shares = [0.12] * len(outline)
    shares[max(0, len(outline) - 2)] = 1 - 0.12 * (len(outline) - 1)
    sections = []
    for (heading, group), share in zip(outline, shares, strict=True):
        sections += writer.section(heading, group, round(room * share))
    document = SyntheticDocument(number, kind, lang, title, tuple(sections))
    while document.characters < LEAST_CHARACTERS:
        heading, paragraphs = sections[-1]
        sections[-1] = (heading, (*paragraphs, *writer.paragraphs(outline[-1][1], 0)))
        document = SyntheticDocument(number, kind, lang, title, tuple(sections))
    return document


class _Writer:
    """Fills patterns with words of one language."""

    def __init__(self, generator: random.Random, lang: str) -> None:
        self._random, self._lang = generator, lang
        self._words, self._patterns = WORDS[lang], PATTERNS[lang]
        self._day = datetime.date(2015, 1, 1) + datetime.timedelta(days=generator.randrange(3000))
        self._disease = generator.choice(self._words["disease"])

    def section(self, heading: str, group: str, room: int) -> list[tuple[str, tuple[str, ...]]]:
        """One section of about `room` characters, or several numbered ones where that is much."""
        parts = max(1, min(400, room // 4000))
        written = []
        for part in range(1, parts + 1):
            name = heading if parts == 1 else f"{heading}（{part}）" if self._lang == "zh" else f"{heading} ({part})"
            written.append((name, self.paragraphs(group, room // parts - len(name) - 4)))
        return written

    def paragraphs(self, group: str, room: int) -> tuple[str, ...]:
        """Paragraphs of about `room` characters together, at least one."""
        paragraphs: list[str] = []
        length = 0
        while not paragraphs or length < room:
            most = 3 if room > 1000 else 1
            patterns = self._random.sample(self._patterns[group], k=self._random.randint(1, most))
            if not paragraphs and group == "history":
                patterns[0] = self._patterns[group][0]
            joined = ("" if self._lang == "zh" else " ").join(self._sentence(pattern) for pattern in patterns)
            if paragraphs and length + len(joined) + 2 > room:
                break
            paragraphs.append(joined)
            length += len(joined) + 2  # and a blank line
        return tuple(paragraphs)

    def _sentence(self, pattern: str) -> str:
        text = self.fill(pattern)
        return text[0].upper() + text[1:]

    def fill(self, pattern: str) -> str:
        """The pattern with every slot filled."""
        return _SLOT.sub(lambda match: self._slot(match.group(1)), pattern)

    def _slot(self, name: str) -> str:
        generator = self._random
        if name == "disease" and generator.random() < 0.6:
            return self._disease  # a document keeps to its subject
        if name in self._words:
            return generator.choice(self._words[name])
        return _NUMBERS[name](self._random, self._lang) if name in _NUMBERS else self._date()

    def _date(self) -> str:
        """A date some days after the last one."""
        self._day += datetime.timedelta(days=self._random.randint(0, 5))
        day = self._day
        return f"{day.year}年{day.month}月{day.day}日" if self._lang == "zh" else day.isoformat()


def _between(low: int, high: int) -> Callable[[random.Random, str], str]:
    return lambda generator, lang: str(generator.randint(low, high))


_NUMBERS: dict[str, Callable[[random.Random, str], str]] = {
    "value": lambda generator, lang: f"{generator.uniform(0.5, 40):.1f}{generator.choice(UNITS)}",
    "dose": lambda generator, lang: generator.choice(DOSES),
    "pressure": lambda generator, lang: f"{generator.randint(95, 180)}/{generator.randint(55, 110)}",
    "temperature": lambda generator, lang: f"{generator.uniform(36.1, 40.2):.1f}",
    "change": lambda generator, lang: generator.choice(_CHANGE[lang]),
    "n": _between(2, 14),
    "age": _between(18, 92),
    "pulse": _between(55, 130),
    "saturation": _between(86, 100),
    "percent": _between(3, 78),
    "many": _between(120, 9800),
}
