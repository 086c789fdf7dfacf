"""Best fit on the histogram gives what placing one item after the other gives."""

from __future__ import annotations

import numpy as np
import pytest

from medscroll.packing.best_fit import best_fit_decreasing


def rooms_one_by_one(sizes: np.ndarray, capacity: int) -> list[int]:
    """The plain algorithm: the room left in every bin, ascending."""
    rooms: list[int] = []
    for size in sorted(sizes.tolist(), reverse=True):
        fitting = [(room, at) for at, room in enumerate(rooms) if room >= size]
        if fitting:
            rooms[min(fitting)[1]] -= size
        else:
            rooms.append(capacity - size)
    return sorted(rooms)


@pytest.mark.parametrize("capacity", [1, 2, 7, 30, 100, 1000])
def test_same_rooms_as_one_by_one(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    for trial in range(40):
        largest = rng.integers(1, capacity + 1)
        sizes = rng.integers(1, largest + 1, size=rng.integers(1, 120))
        bins, count = best_fit_decreasing(sizes, capacity)
        loads = np.bincount(bins, weights=sizes, minlength=count)
        assert count == len(loads), trial
        assert sorted((capacity - loads).astype(int).tolist()) == rooms_one_by_one(sizes, capacity), trial


def test_bound_items_stay_apart() -> None:
    # Documents of nearly full pieces and a small last one that would fit exactly beside them.
    rng = np.random.default_rng(0)
    would_clash = 0
    for _ in range(60):
        sizes, apart = [], []
        for _ in range(int(rng.integers(1, 30))):
            full = int(rng.integers(1, 4))
            sizes += [*rng.integers(90, 97, size=full).tolist(), int(rng.integers(1, 11))]
            apart += [0] * full + [full]
        items, bound = np.asarray(sizes), np.asarray(apart)
        free, _ = best_fit_decreasing(items, 100)
        bins, count = best_fit_decreasing(items, 100, bound)
        assert np.bincount(bins, weights=items, minlength=count).max() <= 100
        for item in np.flatnonzero(bound):
            siblings = slice(item - bound[item], item)
            assert bins[item] not in bins[siblings]
            would_clash += int(free[item] in free[siblings])
    assert would_clash > 20  # without the rule they do meet


def test_nothing_to_place() -> None:
    bins, count = best_fit_decreasing(np.empty(0, np.int64), 10)
    assert len(bins) == 0
    assert count == 0
