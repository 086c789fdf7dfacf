"""Where characters of a kind stand in a text, found with numpy: about 300 million characters a second.

`re` looks at one character after the other, about 15 million a second where a set holds other than Latin letters; the
repair steps look for characters that hardly ever occur, so that they would spend all their time on finding nothing.
Memory: 9 bytes a character of a window of a million characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

WINDOW = 1_000_000
_UNICODE = 0x110000


def code_points(text: str) -> np.ndarray:
    """uint32 [characters]: the code point of each character (lone surrogates included)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


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
