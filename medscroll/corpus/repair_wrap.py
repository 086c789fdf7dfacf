"""The step `unwrap`: lines that were broken at a fixed width become paragraphs again.

A line is joined to the next only where both are running prose of one paragraph, the line is as full as its neighbours
allow (in English: the next word would not have fitted), and it does not seem to end there. In Chinese nothing stands
between the two, in English a blank; a digit is never joined to a digit. Headings, list items, rows, listings of values
and verse keep their lines (`repair_lines.py`). Counted: `wrapped_line`.

A hyphen at a line end goes only where the joined word occurs elsewhere in the document more often than the hyphenated
one (`hyphenated_word`); else the line is joined and the hyphen stays (`hyphen_kept`), so that "beta-" and "blocker"
become "beta-blocker". Cost: about 3 million characters a second of wrapped text, 200 of other.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from medscroll.corpus.configuration import config_fingerprint
from medscroll.corpus.document import Document
from medscroll.corpus.headings import is_heading
from medscroll.corpus.repair_edits import Changes
from medscroll.corpus.repair_lines import Lines, is_label, split_lines, starts_something
from medscroll.corpus.step import StepLog

_TOLERANCE = 8  # columns that a full line may lack in Chinese: lost characters, punctuation moved over
_PASSES = 16
_STOPS = frozenset("。！？!?…：:")
_CLOSERS = "”’」』）】》〉〕)\\]\"'"
_CLOSERS_ZH = _CLOSERS.replace("\\", "")
_CLOSING = frozenset("，。；、：？！）》”’】〕…")  # a line never begins with these but by a mistake of the wrapping
_PROSE = re.compile(r"[，。；、]")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff□]")
_FIRST_WORD = re.compile(r"\S+")
_SENTENCE_END = re.compile(rf"[.!?:][{_CLOSERS}]*$")
_HYPHEN = re.compile(r"(?<![\w-])((?:[^\W\d_]+-)*[^\W\d_]{2,})[-\u2010]$")
_SOFT_START = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*")
_SUSPENDED = frozenset(("and", "or", "to", "und", "y", "et", "but", "nor"))


@dataclass
class UnwrapConfig:
    """Keys of the step `unwrap`."""

    enabled: bool = field(default=True, metadata={"help": "Join lines that were broken at a fixed width."})
    hyphens: bool = field(default=True, metadata={"help": "Undo hyphenation at line ends where a word proves it."})

    def build(self) -> Unwrap:
        """The step."""
        return Unwrap(self)


class Unwrap:
    """Joins lines; see the module."""

    name = "unwrap"
    version = 1

    def __init__(self, config: UnwrapConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document with its paragraphs; repeated until nothing is left to join (mostly two or three passes)."""
        for _ in range(_PASSES):
            changes = self._changes(document)
            if not changes.edits:
                return document
            changes.apply(document, log)
        log.count("document_not_settled")
        return document

    def _changes(self, document: Document) -> Changes:
        text = document.text
        changes = Changes()
        chinese = document.lang == "zh"
        lines = split_lines(text, chinese)
        headings = {section.start for section in document.sections}
        vocabulary: Counter[str] | None = None
        joins = _joins_zh(lines) if chinese else _joins_en(lines)
        for index in joins:
            after = index + 1
            if lines.starts[after] in headings:
                continue
            left, right = lines.texts[index], lines.texts[after]
            start = lines.starts[index] + len(left)
            stop = lines.starts[after] + len(right) - len(right.lstrip(" \t\u3000"))
            right = right.lstrip(" \t\u3000")
            hyphen = _HYPHEN.search(left) if left[-1] in "-\u2010" else None
            rest = _SOFT_START.match(right) if hyphen else None
            if hyphen and rest and rest.group()[0].islower() and rest.group().lower() not in _SUSPENDED:
                if not self._config.hyphens:
                    continue
                if vocabulary is None:
                    vocabulary = Counter(word.lower().replace("\u2010", "-") for word in _WORD.findall(text))
                if _is_one_word(hyphen[1], rest.group(), vocabulary):
                    changes.add("hyphenated_word", start - 1, stop)
                else:
                    changes.add("hyphen_kept", start, stop)
            else:
                changes.add("wrapped_line", start, stop, _between(left[-1], right[0]))
        return changes


def _is_one_word(left: str, right: str, vocabulary: Counter[str]) -> bool:
    """Whether the document has the joined word more often than the one with a hyphen."""
    whole = vocabulary[(left + right).lower()]
    return whole > vocabulary[f"{left}-{right}".lower()]


def _between(left: str, right: str) -> str:
    """What stands between two lines: nothing beside Chinese, else a blank."""
    wide = ("\u2e80", "\uffee")
    return "" if any(wide[0] <= side <= wide[1] or side == "□" for side in (left, right)) else " "


def _may_follow(lines: Lines, index: int) -> bool:
    """Whether neither of two lines forbids joining them, whatever their widths."""
    left, right = lines.texts[index], lines.texts[index + 1].lstrip(" \t\u3000")
    if not left or not right or not lines.wrap[index]:
        return False
    if left[-1].isdigit() and right[0].isdigit():
        return False
    return not (
        lines.is_listing(index) or lines.is_listing(index + 1) or starts_something(right)
        or is_heading(right) or left.lstrip()[0] in "#<\\|>" or left.lstrip()[:3] in ("```", "~~~")
    )  # fmt: skip


def _joins_zh(lines: Lines) -> list[int]:
    """Indexes of the lines that go on in the next."""
    found = []
    for index in range(len(lines.texts) - 1):
        wrap = lines.wrap[index]
        if not wrap or not lines.widths[index] or not lines.widths[index + 1]:
            continue
        left, right = lines.texts[index], lines.texts[index + 1]
        width = lines.widths[index]
        # a line that begins with a blank after the break is never joined here
        if right[0] in " \t\u3000":
            continue
        full = wrap - _TOLERANCE <= width <= wrap + _TOLERANCE
        torn = right[0] in _CLOSING and 2 * width >= wrap and left[-1] not in _STOPS
        if torn:
            if _may_follow(lines, index):
                found.append(index)
            continue
        if not full:
            continue
        ends = left.rstrip(_CLOSERS_ZH)[-1:] in _STOPS
        goes_on = not ends or (left[-1] not in "：:" and lines.widths[index + 1] >= lines.usual[index])
        prose = " " not in left or _PROSE.search(left) or _PROSE.search(right)
        if goes_on and prose and not (ends and is_label(right)) and _may_follow(lines, index):
            found.append(index)
    return found


def _joins_en(lines: Lines) -> list[int]:
    """As `_joins_zh`, for scripts with blanks between words."""
    found = []
    sure = _certain(lines)
    for index in range(len(lines.texts) - 1):
        wrap = lines.wrap[index]
        if not wrap or not lines.widths[index] or not lines.widths[index + 1]:
            continue
        after = lines.texts[index + 1]
        right = after.lstrip(" \t\u3000")
        left = lines.texts[index]
        word = _FIRST_WORD.match(right)
        width = lines.widths[index]
        if width > wrap + _TOLERANCE or word is None or not _may_follow(lines, index) or is_label(right):
            continue
        exact = width + 1 + len(word.group()) > wrap
        ends = _SENTENCE_END.search(left) is not None
        lower = right[0].islower() and not ends
        deeper = len(after) - len(right) > len(left) - len(left.lstrip(" \t\u3000"))
        hanging = deeper and starts_something(left) and lower
        if deeper and not hanging:
            continue
        if (lower and (exact or 100 * width >= 85 * wrap)) or (exact and sure[index] and left[-1] != ":"):
            found.append(index)
    return found


def _certain(lines: Lines) -> list[bool]:
    """For each line, whether its block (lines without a blank one between) is wrapped prose beyond doubt: most of its
    lines could not have held the next word, and some go on with a small letter."""
    count = len(lines.texts)
    sure = [False] * count
    start = 0
    while start < count:
        if not lines.widths[start]:
            start += 1
            continue
        stop = start
        while stop < count and lines.widths[stop]:
            stop += 1
        if stop - start >= 3:
            fit = lower = 0
            for index in range(start, stop - 1):
                right = lines.texts[index + 1].lstrip(" \t\u3000")
                word = _FIRST_WORD.match(right)
                exact = word is not None and lines.widths[index] + 1 + len(word.group()) > lines.wrap[index]
                fit += exact
                lower += exact and right[0].islower()
            if 5 * fit >= 4 * (stop - 1 - start) and 4 * lower >= stop - 1 - start:
                sure[start:stop] = [True] * (stop - start)
        start = stop
    return sure
