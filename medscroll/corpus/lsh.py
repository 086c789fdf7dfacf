"""Groups of units that are alike: equal ones by hash, near ones by bands of their signatures, in bounded memory.

Band by band, units with equal keys are compared with the longest of them and with their neighbour in length; a pair
whose signatures agree often enough is united. Keys are looked at in partitions of `ROOM` at a time (the column files
are read again for each), so memory is 4 or 8 bytes a unit for the union-find, plus a constant. Everything is a
function of the units alone, not of how they lie in folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from medscroll.corpus.duplicate_table import Table

ROOM = 1 << 24  # keys looked at together
PAIRS = 1 << 16  # compared at once


class Groups:
    """Union-find over unit numbers, in batches of numpy.

    Args:
        size: number of units. Costs 4 bytes each (8 above two thousand million).
    """

    def __init__(self, size: int) -> None:
        self.parent = np.arange(size, dtype=np.int32 if size < 2**31 else np.int64)

    def find(self, units: np.ndarray) -> np.ndarray:
        """The least unit of the group of each."""
        roots = self.parent[units]
        while True:
            above = self.parent[roots]
            if np.array_equal(above, roots):
                self.parent[units] = roots
                return roots
            roots = above

    def unite(self, left: np.ndarray, right: np.ndarray) -> None:
        """Makes one group of those of each pair."""
        while len(left):
            first, second = self.find(left), self.find(right)
            apart = first != second
            left, right = left[apart], right[apart]
            low, high = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
            np.minimum.at(self.parent, high, low)

    def members(self) -> Iterator[np.ndarray]:
        """Units of each group of two or more, groups in the order of their least unit, a batch of groups at a time
        as rows (root, unit) int64 [n, 2]."""
        size = len(self.parent)
        for start in range(0, size, ROOM):
            self.find(np.arange(start, min(size, start + ROOM)))
        inner = np.flatnonzero(self.parent != np.arange(size, dtype=self.parent.dtype))
        roots = self.parent[inner].astype(np.int64)
        order = np.argsort(roots, kind="stable")
        inner, roots = inner[order].astype(np.int64), roots[order]
        borders = (
            np.flatnonzero(np.concatenate([[True], roots[1:] != roots[:-1], [True]]))
            if len(roots)
            else np.zeros(1, int)
        )
        begin = 0
        while begin < len(borders) - 1:
            end = int(np.searchsorted(borders, borders[begin] + PAIRS, side="right")) - 1
            end = max(end, begin + 1)
            inside = slice(borders[begin], borders[end])
            heads = np.unique(roots[inside])
            pairs = np.concatenate([np.stack([heads, heads], 1), np.stack([roots[inside], inner[inside]], 1)])
            yield pairs[np.argsort(pairs[:, 0], kind="stable")]
            begin = end


def _partitions(table: Table, name: str, excluded: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(keys, units) of units whose keys begin alike, about `ROOM` at a time; excluded units (bool [n]) left out."""
    bits = max(0, int(np.ceil(np.log2(max(1, len(table) / ROOM)))))
    for part in range(1 << bits):
        keys, units = [], []
        for first, column in table.column(name):
            key = column["high"] if name == "exact" else column
            chosen = ~excluded[first : first + len(column)]
            if bits:
                chosen &= (key >> np.uint64(64 - bits)) == part
            places = np.flatnonzero(chosen)
            keys.append(column[places])
            units.append(places + first)
        if keys:
            yield np.concatenate(keys), np.concatenate(units)


def _ranked(table: Table, keys: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(units, whether a run of equal keys begins) of the units that share a key: by key, then longest, then id."""
    order = np.argsort(keys, kind="stable")
    keys, units = keys[order], units[order]
    same = keys[1:] == keys[:-1]
    shared = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    keys, units = keys[shared], units[shared]
    if not len(units):
        return units, np.zeros(0, bool)
    order = np.lexsort((table.gather("order", units), -table.gather("length", units), keys))
    keys, units = keys[order], units[order]
    return units, np.concatenate([[True], keys[1:] != keys[:-1]])


def exact_duplicates(table: Table, excluded: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(units, the longest unit with the same text), int64 each, of all units that are equal to another."""
    for columns, units in _partitions(table, "exact", excluded):
        low = columns["low"] ^ (columns["high"] * np.uint64(0x9E3779B97F4A7C15))
        ranked, begins = _ranked(table, low, units)
        if len(ranked):
            heads = ranked[np.maximum.accumulate(np.where(begins, np.arange(len(ranked)), 0))]
            copies = ~begins
            left, right = table.gather("exact", ranked[copies]), table.gather("exact", heads[copies])
            equal = left == right
            yield ranked[copies][equal], heads[copies][equal]


def near_groups(
    table: Table, bands: int, threshold: float, excluded: np.ndarray, progress: Callable[[int, int], None] | None = None
) -> tuple[Groups, int, int]:
    """(groups, pairs compared, pairs alike) over all bands. excluded: bool [n], units left out."""
    groups = Groups(len(table))
    compared = alike = 0
    for band in range(bands):
        for keys, units in _partitions(table, f"band{band:03d}", excluded):
            ranked, begins = _ranked(table, keys, units)
            if not len(ranked):
                continue
            places = np.arange(len(ranked))
            heads = np.maximum.accumulate(np.where(begins, places, 0))
            copies = np.flatnonzero(~begins)
            left = np.concatenate([ranked[heads[copies]], ranked[copies - 1]])
            right = np.concatenate([ranked[copies], ranked[copies]])
            for start in range(0, len(left), PAIRS):
                first, second = left[start : start + PAIRS], right[start : start + PAIRS]
                apart = groups.find(first) != groups.find(second)
                first, second = first[apart], second[apart]
                if len(first):
                    good = similarities(table, first, second) >= threshold
                    compared += len(first)
                    alike += int(good.sum())
                    groups.unite(first[good], second[good])
        if progress:
            progress(band + 1, bands)
    return groups, compared, alike


def similarities(table: Table, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of each pair, float64 [n]."""
    return (table.gather("signature", left) == table.gather("signature", right)).mean(1)
