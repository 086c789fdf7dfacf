"""Curves of bounded size: the numbers of any number of steps in a fixed number of buckets.

A bucket covers `width` steps and keeps count, sum, least and greatest of each name; when the steps outgrow the
buckets, neighbours are merged and the width doubles. Steps come in the order of the file; a step that is not above
the last one means that a resumed run repeats it, and what lay after it is forgotten (the last counts).

Cost: about 5 us a step, 28 bytes x buckets x names (512 kB a rank at 256 buckets and 60 names).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np

from medscroll.monitor.numbers import NAMES

_COLUMN = {name: at for at, name in enumerate(NAMES)}


class Series:
    """Numbers by step.

    Args:
        buckets: how many are kept, an even number.
    """

    def __init__(self, buckets: int = 256) -> None:
        self.buckets, self.width, self.last_step = buckets, 1, -1
        shape = (buckets, len(NAMES))
        self._sum, self._count = np.zeros(shape), np.zeros(shape, np.int32)
        self._least, self._greatest = np.full(shape, np.inf), np.full(shape, -np.inf)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of one step; unknown names are left out, NaN counts as absent."""
        if step <= self.last_step:
            self.forget(step)
        self.merge_in(step, values)
        self.last_step = step

    def merge_in(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers that belong to a step which is in already, or is about to come."""
        known = [(_COLUMN[name], value) for name, value in values.items() if name in _COLUMN and not isnan(value)]
        if not known or step < 0:
            return
        while step // self.width >= self.buckets:
            self._halve()
        pairs = np.array(known)
        columns, found = pairs[:, 0].astype(np.intp), pairs[:, 1]
        row = step // self.width
        self._sum[row][columns] += found
        self._count[row][columns] += 1
        least, greatest = self._least[row], self._greatest[row]
        least[columns] = np.minimum(least[columns], found)
        greatest[columns] = np.maximum(greatest[columns], found)

    def forget(self, step: int) -> None:
        """Drop whole buckets from `step` on."""
        first = -(-step // self.width)
        self._sum[first:], self._count[first:] = 0, 0
        self._least[first:], self._greatest[first:] = np.inf, -np.inf
        self.last_step = min(self.last_step, step - 1)

    def _halve(self) -> None:
        half = self.buckets // 2
        for array, join, empty in (
            (self._sum, np.add, 0.0),
            (self._count, np.add, 0),
            (self._least, np.minimum, np.inf),
            (self._greatest, np.maximum, -np.inf),
        ):
            array[:half] = join(array[0::2], array[1::2])
            array[half:] = empty
        self.width *= 2

    def steps(self) -> np.ndarray:
        """First step of every bucket, int64 [buckets]."""
        return np.arange(self.buckets, dtype=np.int64) * self.width

    def mean(self, name: str) -> np.ndarray:
        """Mean of each bucket, float64 [buckets]; NaN where nothing was measured."""
        count = self._count[:, _COLUMN[name]]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0, self._sum[:, _COLUMN[name]] / count, np.nan)

    def least(self, name: str) -> np.ndarray:
        """Least value of each bucket, float64 [buckets]; NaN where nothing was measured."""
        return np.where(self._count[:, _COLUMN[name]] > 0, self._least[:, _COLUMN[name]], np.nan)

    def greatest(self, name: str) -> np.ndarray:
        """Greatest value of each bucket, float64 [buckets]; NaN where nothing was measured."""
        return np.where(self._count[:, _COLUMN[name]] > 0, self._greatest[:, _COLUMN[name]], np.nan)

    def has(self, name: str) -> bool:
        """Whether the name was measured at all."""
        return bool(self._count[:, _COLUMN[name]].any())

    def total(self, name: str, last_step: int) -> tuple[float, bool]:
        """Sum over steps 1 to `last_step`, and whether it is exact: steps that were not read count as their bucket."""
        count = self._count[:, _COLUMN[name]]
        first = np.maximum(self.steps(), 1)
        held = np.clip(np.minimum(self.steps() + self.width - 1, last_step) - first + 1, 0, None)
        seen = count > 0
        return float((self.mean(name)[seen] * held[seen]).sum()), bool((count[held > 0] == held[held > 0]).all())


def resample(series: Sequence[Series], name: str, columns: int, peak: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The greatest values (or, without `peak`, the means) of several series over common columns of steps.

    What was not measured in a column keeps its last value, up to the last step of its series.

    Returns:
        First step of each column, int64 [columns]; values, float64 [series, columns], NaN where nothing was measured.
    """
    width = max((one.width for one in series), default=1)
    last = max((one.last_step for one in series), default=0)
    group = max(1, -(-(last // width + 1) // columns))
    count = max(1, -(-(last // width + 1) // group))
    rows = np.full((len(series), count), np.nan)
    for at, one in enumerate(series):
        values = one.greatest(name) if peak else one.mean(name)
        seen = ~np.isnan(values)
        target = np.minimum(one.steps()[seen] // (width * group), count - 1)
        if peak:
            np.fmax.at(rows[at], target, values[seen])
        else:
            held = np.bincount(target, minlength=count)
            sums = np.bincount(target, weights=values[seen], minlength=count)
            rows[at, held > 0] = sums[held > 0] / held[held > 0]
        if seen.any():
            known = np.maximum.accumulate(np.where(np.isnan(rows[at]), -1, np.arange(count)))
            ended = np.arange(count) > max(one.last_step, 0) // (width * group)
            rows[at] = np.where((known >= 0) & ~ended, rows[at, np.maximum(known, 0)], np.nan)
    return np.arange(count, dtype=np.int64) * width * group, rows
