"""Hashes that catch damaged files while they are read, without reading anything that is not needed.

The ids of a store are hashed in runs of 64 KiB, and a run is compared the first time that it is touched, so what a
disk or a copy has changed is never trained on. The smaller arrays beside them are hashed whole and compared when they
are first asked for. Source of the hash: xxh3 (64 bits), some 10 GB/s a core.
Cost: 8 bytes a run on disk and in memory, one byte a run for what has been compared; a piece of a document reads at
most 128 KiB more than its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import xxhash

RUN = 1 << 16  # bytes
_AT_ONCE = 1 << 26


def array_hash(values: np.ndarray) -> str:
    """xxh3_64 of an array's bytes, 16 hexadecimal digits."""
    raw = values.reshape(-1).view(np.uint8)
    state = xxhash.xxh3_64()
    for at in range(0, len(raw), _AT_ONCE):
        state.update(np.ascontiguousarray(raw[at : at + _AT_ONCE]).data)
    return state.hexdigest()


class RunHashes:
    """Takes in bytes as they are written; `values` are the hashes of their runs, uint64 [runs]."""

    def __init__(self) -> None:
        self._values, self._state, self._filled = array("Q"), xxhash.xxh3_64(), 0

    def update(self, data: bytes) -> None:
        """Takes in the next bytes."""
        view = memoryview(data)
        while view:
            part = view[: RUN - self._filled]
            self._state.update(part)
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == RUN:
                self._close()

    def _close(self) -> None:
        self._values.append(self._state.intdigest())
        self._state, self._filled = xxhash.xxh3_64(), 0

    def values(self) -> np.ndarray:
        """The hashes of all runs, the last of which may be shorter; nothing may be added afterwards."""
        if self._filled:
            self._close()
        return np.asarray(self._values, "<u8")


class HashedChunks:
    """Passes chunks of bytes on, and knows their hash when they have all gone through."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._state = chunks, xxhash.xxh3_64()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._state.update(chunk)
            yield chunk

    def hexdigest(self) -> str:
        """As `array_hash` of the array that the chunks make up."""
        return self._state.hexdigest()


class CheckedBytes:
    """Compares runs of a mapped file with their hashes, each once.

    Args:
        raw: uint8 [bytes], the mapped file.
        hashes: uint64 [runs].
    """

    def __init__(self, raw: np.ndarray, hashes: np.ndarray) -> None:
        self._raw, self._hashes = raw, hashes
        self._seen = bytearray(len(hashes))

    def damaged(self, first: int, last: int) -> int | None:
        """The first byte of a run that is not as it was written, among the bytes first..last-1; None: all are."""
        run, end = first // RUN, (last - 1) // RUN + 1
        while (run := self._seen.find(0, run, end)) >= 0:
            found = xxhash.xxh3_64_intdigest(self._raw[run * RUN : (run + 1) * RUN].data)
            if found != int(self._hashes[run]):
                return run * RUN
            self._seen[run] = 1
        return None
