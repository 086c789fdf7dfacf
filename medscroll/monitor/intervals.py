"""Arithmetic of time intervals: unions, their lengths, what two unions share.

Intervals are float64 arrays [n, 2] of starts and ends in microseconds. Everything is O(n log n) in numpy.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def union(intervals: Iterable[tuple[float, float]] | np.ndarray) -> np.ndarray:
    """Disjoint intervals [m, 2] in ascending order that cover the same time; touching ones are joined."""
    found = np.asarray(intervals if isinstance(intervals, np.ndarray) else list(intervals), dtype=np.float64)
    if not found.size:
        return np.empty((0, 2))
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    reached = np.maximum.accumulate(found[:, 1])  # latest end so far
    begins = np.concatenate(([True], found[1:, 0] > reached[:-1]))
    starts = found[begins, 0]
    ends = reached[np.concatenate((np.flatnonzero(begins)[1:] - 1, [len(found) - 1]))]
    return np.stack((starts, ends), axis=1)


def length(disjoint: np.ndarray) -> float:
    """Summed length of disjoint intervals."""
    return float((disjoint[:, 1] - disjoint[:, 0]).sum())


def shared(one: np.ndarray, other: np.ndarray) -> float:
    """Length of the time that two unions (disjoint, ascending) have in common."""
    if not len(one) or not len(other):
        return 0.0
    return float((_covered(other, one[:, 1]) - _covered(other, one[:, 0])).sum())


def _covered(disjoint: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Length of the union before each of `times`."""
    sums = np.concatenate(([0.0], np.cumsum(disjoint[:, 1] - disjoint[:, 0])))
    index = np.searchsorted(disjoint[:, 0], times, side="right")  # intervals that began
    last = disjoint[np.maximum(index - 1, 0)]
    beyond = np.where(index > 0, np.maximum(last[:, 1] - times, 0.0), 0.0)  # part of the last that is still to come
    return sums[index] - beyond
