"""Seeded orders that are the same on every machine and with every version of numpy.

A run that is resumed after an upgrade must find its blocks in the same order, and numpy promises no stable stream
for its generators. Here element i gets the key splitmix64(seed + i * golden ratio), a bijection, so that keys never
collide, and the permutation sorts by key. Cost: one sort of 8-byte keys, about 1 s and 160 MB for 10 million.
Source of the mixing function: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
import xxhash

# Of the rules that turn a plan and a seed into an order of data (here and in `schedule`); raise it with every change of
# them. A checkpoint carries it: going on under other rules would repeat some blocks and leave out others.
ORDER_VERSION = 2  # 1: a plain permutation. 2: even batches, the heaviest block first

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seeded_permutation(length: int, *keys: int | str) -> np.ndarray:
    """A permutation of 0..length-1, int64 [length], that depends on all keys (a seed, an epoch, a purpose)."""
    base = np.uint64(xxhash.xxh3_64_intdigest("/".join(map(str, keys)).encode()))
    values = np.arange(1, length + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        values *= _GOLDEN
        values += base
        values ^= values >> np.uint64(30)
        values *= np.uint64(0xBF58476D1CE4E5B9)
        values ^= values >> np.uint64(27)
        values *= np.uint64(0x94D049BB133111EB)
        values ^= values >> np.uint64(31)
    return np.argsort(values).astype(np.int64, copy=False)


BATCHES_TOGETHER = 8
QUARTERS = 4


def even_batches(order: np.ndarray, keys: np.ndarray, batch: int, *seed: int | str) -> np.ndarray:
    """The same items in an order whose consecutive batches each hold four groups of like items.

    A row that is one long document takes up to half as long again as a full row of short ones, and all ranks wait
    for it. A batch that draws few such rows must mix them with others in one micro step, however they are dealt.
    So each eight batches, as they were drawn, exchange items: all their items are sorted by key and divided in
    quarters, each quarter in eight groups, and every batch takes one group of each quarter, by lot. Every batch thus
    spans all kinds of items (a stratified draw), and the groups are what micro steps are dealt from.

    Args:
        order: int64 [n], items in drawn order.
        keys: [n], the key of each item of `order`, such as the attention cost of a block.
        batch: items of a batch; the last one of `order` may be shorter and stays as it is.
        seed: of the lot.

    Returns:
        int64 [n]; batch i of it lies within eight batches of where its items were.
    """
    whole = len(order) // batch
    sizes = [len(part) for part in np.array_split(np.empty(batch), min(QUARTERS, batch))]
    out = order.copy()
    for first in range(0, whole, BATCHES_TOGETHER):
        number = min(BATCHES_TOGETHER, whole - first)
        window = slice(first * batch, (first + number) * batch)
        ascending = order[window][np.argsort(keys[window], kind="stable")]
        groups, at = [], 0
        for quarter, size in enumerate(sizes):
            rows = ascending[at : at + number * size].reshape(number, size)
            groups.append(rows[seeded_permutation(number, *seed, first, quarter)])
            at += number * size
        out[window] = np.concatenate(groups, axis=1).reshape(-1)  # [number, batch]
    return out
