"""Where characters of a kind stand in a text, and how many there are, by numpy: 300 million characters a second.

`re` looks at one character after the other, about 15 million a second where a set holds other than Latin letters; the
repair steps look for characters that hardly ever occur, so that they would spend all their time on finding nothing.
Memory: 9 bytes a character of a window of a million characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

WINDOW = 1_000_000
_UNICODE = 0x110000
_SHORT = 500  # characters, below which Python's own loop is faster


def code_points(text: str) -> np.ndarray:
    """uint32 [characters]: the code point of each character (lone surrogates included)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def matches_at(pattern: re.Pattern[str], text: str, starts: Iterable[int]) -> Iterator[re.Match[str]]:
    """What `pattern.finditer(text)` gives, where it is known at which ascending places alone a match may begin."""
    reach = 0
    for start in starts:
        if start >= reach and (match := pattern.match(text, start)):
            reach = match.end()
            yield match


class Translation:
    """`str.translate` by a table of code point -> code point, for long texts: about 100 million characters a second.

    Args:
        table: what becomes of a code point; the others stay.
    """

    def __init__(self, table: Mapping[int, int]) -> None:
        self._changes = dict(table)
        self._table: np.ndarray | None = None

    def apply(self, text: str) -> str:
        """The text, each character by the table; of the same length."""
        if len(text) < _SHORT:
            return text.translate(self._changes)
        if self._table is None:
            self._table = np.arange(_UNICODE, dtype="<u4")
            self._table[list(self._changes)] = list(self._changes.values())
        pieces = (text[start : start + WINDOW] for start in range(0, len(text), WINDOW))
        return "".join(
            self._table[code_points(piece)].tobytes().decode("utf-32-le", "surrogatepass") for piece in pieces
        )


class CharacterSet:
    """A set of characters that can be looked for quickly.

    Args:
        ranges: (first, last) code points, both included.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self.ranges = tuple(ranges)
        self._table: np.ndarray | None = None

    def contains(self, points: np.ndarray) -> np.ndarray:
        """bool, the shape of `points`: whether each code point is in the set."""
        if self._table is None:
            table = np.zeros(_UNICODE, dtype=bool)
            for first, last in self.ranges:
                table[first : last + 1] = True
            self._table = table
        return self._table[points]

    def count(self, text: str) -> int:
        """How many characters of a text are in the set."""
        pieces = (text[start : start + WINDOW] for start in range(0, len(text), WINDOW))
        return sum(int(np.count_nonzero(self.contains(code_points(piece)))) for piece in pieces)

    def found_in(self, text: str) -> bool:
        """Whether a text has a character of the set."""
        return next(self.places(text), None) is not None

    def places(self, text: str, followed_by: CharacterSet | None = None) -> Iterator[int]:
        """Ascending positions of characters of the set; with `followed_by`, of those before one of that set."""
        if text.isascii() and all(first > 0x7F for first, _ in self.ranges):
            return
        for start in range(0, len(text), WINDOW):
            piece = text[start : start + WINDOW + (followed_by is not None)]
            points = code_points(piece)
            hit = self.contains(points)
            if followed_by is not None:
                hit = hit[:-1] & followed_by.contains(points[1:])
            yield from (np.flatnonzero(hit) + start).tolist()


class CharacterClasses:
    """Classes of characters that do not overlap, counted over a text in one pass.

    Args:
        classes: name -> its (first, last) code points, both included.
    """

    def __init__(self, classes: Mapping[str, Iterable[tuple[int, int]]]) -> None:
        self._classes = {name: tuple(ranges) for name, ranges in classes.items()}
        self._table: np.ndarray | None = None

    def count(self, text: str) -> dict[str, int]:
        """How many characters of each class a text has. Memory: 13 bytes a character of the text."""
        if self._table is None:
            table = np.zeros(_UNICODE, np.uint8)
            for number, ranges in enumerate(self._classes.values(), 1):
                for first, last in ranges:
                    table[first : last + 1] = number
            self._table = table
        counts = np.bincount(self._table[code_points(text)], minlength=len(self._classes) + 1)
        return dict(zip(self._classes, counts[1:].tolist(), strict=True))


# What `str.isspace` says of a character, and so what \s matches and `str.split` divides at.
BLANKS = CharacterSet(
    [(0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
     (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)]
)  # fmt: skip
