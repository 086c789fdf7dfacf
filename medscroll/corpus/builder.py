"""The text of a structured document, built block by block, with the places where its sections start.

What readers of articles, web pages, PDF files and recognised pages share: blocks apart by a blank line, headings as
Markdown headings, and counts of what is left out. Cost: one list of pieces, joined once.
"""

from __future__ import annotations

import re
from collections import Counter

from medscroll.corpus.document import Section

_SPACE = re.compile(r"[ \t\r\n\f\v]+")


class TextBuilder:
    """Blocks of text, apart by a blank line, and the sections that start among them.

    Attributes:
        counts: what was left out or changed, by stable name; goes to the ledger.
        page: page of the source that is being written, from 1; 0 where the source has none.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._sections: list[Section] = []
        self._untitled: int | None = None  # level of a section without a title, which starts with the next block
        self.counts: Counter[str] = Counter()
        self.page = 0

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    def finish(self) -> tuple[str, list[Section]]:
        """(the text, its sections)."""
        return "".join(self._parts), self._sections

    def block(self, text: str, gap: str = "\n\n") -> None:
        """Adds a block, after `gap`; an empty one is nothing."""
        if not text.strip():
            return
        if self._parts:
            self._parts.append(gap)
            self._length += len(gap)
        if self._untitled is not None:
            self._sections.append(Section(self._length, self._untitled, "", self.page))
            self._untitled = None
        self._parts.append(text)
        self._length += len(text)

    def heading(self, title: str, level: int) -> None:
        """Starts a section; its title becomes a Markdown heading."""
        self._untitled = None
        title = _SPACE.sub(" ", title).strip(" ")
        if not title:
            self._untitled = level
            return
        start = self._length + (2 if self._parts else 0)
        self._sections.append(Section(start, level, title, self.page))
        self.block(f"{'#' * min(level, 6)} {title}")

    def count(self, name: str, number: int = 1) -> None:
        """Counts what is left out under a stable name; zero is not counted."""
        if number:
            self.counts[name] += number
