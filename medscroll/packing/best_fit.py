"""Best-fit decreasing bin packing on the histogram of sizes.

Items are placed from the largest to the smallest, each in the fullest bin that still takes it, or in a new one
(Johnson 1974; as "best-fit packing" of documents in arXiv 2404.10830). Items of one size are placed together:
 - bins are kept in lists by the room that they have left, and a Python integer has bit r set where such a list
   exists, so the smallest sufficient room is one shift and one lowest-set-bit;
 - the bin that best fit has just chosen stays the best for the next item of the same size, so each bin of that list
   takes floor(room / size) items at once, and a whole list is used by one slice.
The result is exactly that of placing one item after the other. Cost: about 1 microsecond an item and less where many
share a size; memory is that of the items.

Some items must stay apart from those directly before them (the last piece of a document from its other pieces):
they are placed one by one.
"""

from __future__ import annotations

import numpy as np


class _Bins:
    """Open bins by the room left in them."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.count = capacity, 0
        self._mask = 0
        self._by_room: dict[int, list[int]] = {}

    def _pop(self, room: int) -> list[int]:
        self._mask ^= 1 << room
        return self._by_room.pop(room)

    def _push(self, room: int, ids: list[int]) -> None:
        if room and ids:
            if room in self._by_room:
                self._by_room[room].extend(ids)
            else:
                self._by_room[room] = ids
                self._mask |= 1 << room

    def _open(self, number: int) -> list[int]:
        ids = list(range(self.count, self.count + number))
        self.count += number
        return ids

    def place(self, size: int, items: int) -> list[int]:
        """The bins of `items` items of one size, in the order in which they are filled."""
        chosen: list[int] = []
        while items:
            fitting = self._mask >> size
            if fitting:
                room = size + (fitting & -fitting).bit_length() - 1
                ids = self._pop(room)
            else:
                room = self.capacity
                ids = self._open(-(-items // (room // size)))
            each = room // size
            if items >= len(ids) * each:
                chosen += ids * each if each > 1 else ids
                items -= len(ids) * each
                self._push(room - each * size, ids)
                continue
            full, rest = divmod(items, each)
            used, extra = ids[len(ids) - full :], ids[len(ids) - full - 1]
            left = ids[: len(ids) - full - (1 if rest else 0)]
            chosen += used * each + [extra] * rest
            items = 0
            self._push(room, left)
            self._push(room - each * size, used)
            if rest:
                self._push(room - rest * size, [extra])
        return chosen

    def place_apart(self, size: int, forbidden: set[int]) -> int:
        """The bin of one item that may not lie in any of the forbidden bins."""
        fitting, room = self._mask >> size, size - 1
        while fitting:
            step = (fitting & -fitting).bit_length()
            room, fitting = room + step, fitting >> step
            ids = self._by_room[room]
            for at in range(len(ids) - 1, -1, -1):
                if ids[at] not in forbidden:
                    chosen = ids.pop(at)
                    if not ids:
                        self._pop(room)
                    self._push(room - size, [chosen])
                    return chosen
        chosen = self._open(1)[0]
        self._push(self.capacity - size, [chosen])
        return chosen


def best_fit_decreasing(
    sizes: np.ndarray, capacity: int, apart_from: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Which bin each item goes to.

    Args:
        sizes: int [items], each 1..capacity.
        capacity: of a bin.
        apart_from: int [items], how many items directly before this one may not share its bin; 0 is free. Those
            before must be larger than the item itself (a document's last piece after its nearly full ones).

    Returns:
        bins int64 [items], numbered from 0 in the order in which they were opened; the number of bins.
    """
    if len(sizes) == 0:
        return np.empty(0, np.int64), 0
    bound = np.zeros(len(sizes), bool) if apart_from is None else apart_from > 0
    order = np.lexsort((bound, -sizes))  # large to small, the bound ones last among equals
    ordered, bound_ordered = sizes[order], bound[order]
    borders = np.flatnonzero(np.diff(ordered)) + 1
    firsts = [0, *borders.tolist()]
    lasts = [*borders.tolist(), len(ordered)]
    bound_before = np.concatenate([[0], np.cumsum(bound_ordered)])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    bins = _Bins(capacity)
    chosen: list[int] = []
    for first, last in zip(firsts, lasts, strict=True):
        size = int(ordered[first])
        middle = last - int(bound_before[last] - bound_before[first])
        chosen += bins.place(size, middle - first)
        for at in range(middle, last):
            item = int(order[at])
            siblings = rank[item - int(apart_from[item]) : item] if apart_from is not None else ()
            chosen.append(bins.place_apart(size, {chosen[int(k)] for k in siblings}))
    result = np.empty(len(sizes), np.int64)
    result[order] = chosen
    return result, bins.count
