"""The step `page_lines`: headers, footers and page numbers of printed pages, which stand in the middle of the text.

Pages are known by form feeds (U+000C, as PDF readers write them), or, without these, by page numbers alone on a line
that count up by one at even distances. At the edge of a page a line goes if it stands there, word for word, on at least
a quarter of the pages (three at least), or if its number counts up with the pages. Everything else stays: a value at
the top of a page is no page number, and a line with a quantity (a number and its unit) stays on however many pages it
stands. Where a paragraph went over the page, its lines come together again.
Counted: `page_header`, `page_footer`, `page_number`, `page_break`. Cost: about 20 million characters a second.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from medscroll.corpus.configuration import config_fingerprint
from medscroll.corpus.deid_spans import fold, has_unit
from medscroll.corpus.document import Document
from medscroll.corpus.repair_edits import Changes
from medscroll.corpus.repair_lines import starts_something
from medscroll.corpus.step import StepLog

_EDGE = 3  # lines at either end of a page that are looked at
_LONGEST = 120  # characters of a header
_AT_END = re.compile(r"^\d{1,4}(?=[ \t\u3000|·•])|(?<=[ \t\u3000|·•])\d{1,4}$")
_PROSE = re.compile(r"[，。；？！]|[.;!?] ")
_PAGE_NUMBER = re.compile(
    r"[ \t\u3000]*(?:[-–—·•~(（]{1,2}[ ]?(?P<dashed>\d{1,4})[ ]?[-–—·•~)）]{1,2}|"
    r"第[ ]?(?P<zh>\d{1,4})[ ]?页(?:[ ，,/]*共[ ]?\d{1,4}[ ]?页)?|"
    r"(?:Page|PAGE|page|Pg\.?)[ ]?(?P<en>\d{1,4})(?:[ ]?(?:of|/)[ ]?\d{1,4})?|(?P<of>\d{1,4})[ ]?/[ ]?\d{1,4}|"
    r"(?P<bare>\d{1,4}))[ \t\u3000]*$",
)
_LEAST_CHAIN = {"bare": 6, "of": 6, "dashed": 4, "zh": 3, "en": 3}
_NUMBER = re.compile(r"\d+(?:[./]\d+)*")
_MORE_UNITS = re.compile(
    r"[ ]{0,2}(?:mmHg|kPa|cmH2O|bpm|g|dL|mEq|min|h|qd|bid|tid|puffs?|tablets?|tabs?|caps?|drops?|units?)(?![A-Za-z])|"
    r"[ ]{0,2}(?:次|天|小时|分钟|周|丸|剂|滴|喷|贴|毫克|微克|克|毫升|升|单位|厘米|毫米|公斤|毫米汞柱)"
)
_LONGEST_NUMBER = 40  # characters, of a line that is a page number
_LEAST_GAP = 8  # lines between two page numbers
_GOES_ON = re.compile(r"[a-z\u3400-\u9fff，、；,;）)]")
_ENDS = frozenset('。！？.!?:：”’"』」…|')


@dataclass
class PageLinesConfig:
    """Keys of the step `page_lines`."""

    enabled: bool = field(default=True, metadata={"help": "Take out headers, footers and numbers of pages."})
    least_share: float = field(default=0.25, metadata={"help": "Share of the pages on which a header must stand."})

    def build(self) -> PageLines:
        """The step."""
        return PageLines(self)


@dataclass(slots=True)
class _Line:
    start: int
    stop: int
    text: str
    row: int
    preceding: int  # start of the line before it that is not blank; -1 where there is none
    following: int = -1


class PageLines:
    """Takes out what belongs to pages, not to the text; see the module."""

    name = "page_lines"
    version = 1

    def __init__(self, config: PageLinesConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document without headers, footers, page numbers and form feeds."""
        text = document.text
        if "\f" not in text and not _may_count_pages(text):
            return document
        pages = _pages(text)
        if len(pages) == 1:
            gone = _counted_pages(pages[0])
        else:
            gone = _edges(pages, self._config.least_share) if len(pages) >= 3 else {}
        if not gone and len(pages) == 1:
            return document
        for name in gone.values():
            log.count(name)
        changes = Changes()
        before: tuple[int, _Line] | None = None
        for number, page in enumerate(pages):
            for line in page:
                if line.start in gone:
                    continue
                if before is None:
                    if any(place < line.start for place in gone) or number:
                        changes.add("page_break", 0, line.start)
                elif before[0] != number or _between(gone, before[1], line):
                    # put in first, taken out then: a section that begins at the top of the page stays at its heading
                    changes.add("", before[1].stop, before[1].stop, _separator(before[1].text, line.text))
                    changes.add("page_break", before[1].stop, line.start)
                before = number, line
        end = before[1].stop if before else 0
        if any(place >= end for place in gone) or "\f" in text[end:]:
            changes.add("page_break", end, len(text), "\n" if text.endswith("\n") else "")
        changes.apply(document, log)
        return document


def _between(gone: dict[int, str], before: _Line, after: _Line) -> bool:
    return before.following in gone or after.preceding in gone


def _may_count_pages(text: str) -> bool:
    """Whether enough lines look like page numbers for a chain of them; most texts are done with here."""
    found: Counter[str | None] = Counter()
    for raw in text.split("\n"):
        if len(line := raw.strip()) < _LONGEST_NUMBER and (match := _PAGE_NUMBER.match(line)):
            found[match.lastgroup] += 1
    return any(kind and number >= _LEAST_CHAIN[kind] for kind, number in found.items())


def _pages(text: str) -> list[list[_Line]]:
    """The lines that are not blank, page by page."""
    pages: list[list[_Line]] = [[]]
    start = 0
    last: _Line | None = None
    for row, match in enumerate(re.finditer(r"[\n\f]|\Z", text)):
        line = text[start : match.start()].strip()
        if line:
            made = _Line(start, match.start(), line, row, last.start if last else -1)
            if last:
                last.following = start
            pages[-1].append(made)
            last = made
        if match.group() == "\f":
            pages.append([])
        start = match.end()
    return pages


def _edges(pages: list[list[_Line]], least_share: float) -> dict[int, str]:
    """Start of each line that goes -> the name it is counted under; every page keeps a line."""
    gone: dict[int, str] = {}
    left = [len(page) for page in pages]
    least = max(3, int(least_share * sum(1 for page in pages if page)))
    for place, name in ((1, "page_header"), (-1, "page_footer")):
        numbered = [False] * len(pages)
        for depth in range(_EDGE):
            # the outermost line of each page that is still there, where all outside of it have gone
            found = [
                (number, page[::place][depth])
                for number, page in enumerate(pages)
                if left[number] > 1 and all(line.start in gone for line in page[::place][:depth])
            ]
            found = [(number, line) for number, line in found if len(line.text) <= _LONGEST]
            same = Counter(line.text for _, line in found)
            offsets = Counter(key for number, line in found for key in _counters(line.text, number))
            for number, line in found:
                counting = any(offsets[key] >= least for key in _counters(line.text, number))
                if line.start in gone or not (same[line.text] >= least or (counting and not numbered[number])):
                    continue
                if _holds_quantity(line.text):
                    continue
                gone[line.start] = "page_number" if _PAGE_NUMBER.match(line.text) else name
                numbered[number] = numbered[number] or same[line.text] < least
                left[number] -= 1
    return gone


def _holds_quantity(text: str) -> bool:
    """Whether a number with a unit stands in a line that is no page number: a dose or a reading is no header."""
    folded = fold(text)
    return not _PAGE_NUMBER.match(text) and any(
        has_unit(folded, match.end()) or _MORE_UNITS.match(folded, match.end()) for match in _NUMBER.finditer(folded)
    )


def _counters(text: str, page: int) -> list[tuple[str, int]]:
    """(the line without its number, number - page) where a page number may stand: at either end, alone or apart."""
    if _PROSE.search(text):
        return []
    match = _PAGE_NUMBER.match(text)
    if match and match.lastgroup:
        return [("", int(match[match.lastgroup]) - page)]
    return [(text[: m.start()] + text[m.end() :], int(m.group()) - page) for m in _AT_END.finditer(text)]


def _separator(before: str, after: str) -> str:
    """A line end where a paragraph goes on, else a blank line."""
    return "\n" if before[-1] not in _ENDS and _GOES_ON.match(after) and not starts_something(after) else "\n\n"


def _counted_pages(lines: list[_Line]) -> dict[int, str]:
    """As `_edges`, for a text without form feeds: page numbers that count up, and the headers beside them."""
    numbers: dict[str, list[tuple[int, int, int]]] = {}
    for index, line in enumerate(lines):
        match = _PAGE_NUMBER.match(line.text) if len(line.text) < _LONGEST_NUMBER else None
        if match and match.lastgroup:
            numbers.setdefault(match.lastgroup, []).append((line.row, int(match[match.lastgroup]), index))
    best: list[int] = []
    for kind, found in numbers.items():
        chain = _chain([(row, value) for row, value, _ in found]) if len(found) >= _LEAST_CHAIN[kind] else []
        if len(chain) >= _LEAST_CHAIN[kind] and len(chain) > len(best):
            picked = [found[at] for at in chain]
            if _even([row for row, _, _ in picked]):
                best = [index for _, _, index in picked]
    gone = {lines[index].start: "page_number" for index in best}
    for step, name in ((1, "page_header"), (-1, "page_footer")):
        beside = [lines[index + step] for index in best if 0 <= index + step < len(lines)]
        beside = [line for line in beside if len(line.text) <= _LONGEST]
        texts = Counter(line.text for line in beside)
        least = max(3, len(best) // 2)
        gone.update(
            {line.start: name for line in beside if texts[line.text] >= least and not _holds_quantity(line.text)}
        )
    return gone


def _chain(found: list[tuple[int, int]]) -> list[int]:
    """Indexes of the longest run of numbers that count up by one, each at least `_LEAST_GAP` rows after the last."""
    last: dict[int, int] = {}  # number -> index of the best run that ends in it
    lengths: list[int] = []
    before: list[int] = []
    for index, (row, value) in enumerate(found):
        previous = last.get(value - 1, -1)
        if previous >= 0 and row - found[previous][0] < _LEAST_GAP:
            previous = -1
        lengths.append(1 + lengths[previous] if previous >= 0 else 1)
        before.append(previous)
        if value not in last or lengths[index] >= lengths[last[value]]:
            last[value] = index
    chain: list[int] = []
    at = max(range(len(found)), key=lengths.__getitem__)
    while at >= 0:
        chain.append(at)
        at = before[at]
    return chain[::-1]


def _even(rows: list[int]) -> bool:
    """Whether the distances between page numbers are much alike."""
    gaps = [after - before for before, after in pairwise(rows)]
    usual = median(gaps)
    return sum(0.4 * usual <= gap <= 2.5 * usual for gap in gaps) >= 0.75 * len(gaps)
