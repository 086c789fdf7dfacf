"""What deduplication knows of each unit (document or section), as columns in files; read by ranges, never as a whole.

A folder holds one shard. `Table` puts the folders of all shards in a row: unit i of the corpus is row i - offset of
its folder. Files are memory-mapped only for the length of one read, so that what the process holds stays small.
Columns of a unit: 16 bytes of exact hash, length, hash of the id, signature, one key a band, id, start and stop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xxhash

from medscroll.corpus.minhash import PERMUTATIONS, band_keys

_COLUMNS = {
    "exact": np.dtype([("high", "<u8"), ("low", "<u8")]),
    "length": np.dtype("<i8"),
    "order": np.dtype("<u8"),
    "start": np.dtype("<i8"),
    "id_end": np.dtype("<i8"),
}
_WRITE_ROWS = 8192


class TableWriter:
    """Writes the columns of one kind of unit of one shard.

    Args:
        folder: of the shard. prefix: "documents" or "sections". bands, rows: of the keys.
    """

    def __init__(self, folder: Path, prefix: str, bands: int, rows: int) -> None:
        self._bands, self._rows = bands, rows
        names = [*_COLUMNS, "signature", "ids", *(f"band{band:03d}" for band in range(bands))]
        self._files = {
            name: os.open(folder / f"{prefix}.{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600) for name in names
        }
        self._pending: list[tuple[bytes, int, str, int, np.ndarray, bool]] = []
        self._id_end = 0

    def add(self, exact: bytes, length: int, identifier: str, start: int, signature: np.ndarray, *, near: bool) -> None:
        """One unit. start: character offset of a section, 0 for a document; length in characters; near: whether the
        signature says anything, which that of a very short text does not."""
        self._pending.append((exact, length, identifier, start, signature, near))
        if len(self._pending) >= _WRITE_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        exact, lengths, identifiers, starts, signatures, near = zip(*self._pending, strict=True)
        names = [identifier.encode("utf-8", "surrogatepass") for identifier in identifiers]
        ends = self._id_end + np.cumsum([len(name) for name in names], dtype=np.int64)
        self._id_end = int(ends[-1])
        matrix = np.stack(signatures)
        orders = np.array(
            [xxhash.xxh3_64_intdigest(name, start) for name, start in zip(names, starts, strict=True)], np.uint64
        )
        keys = band_keys(matrix, self._bands, self._rows)
        short = ~np.array(near)
        keys[short] = orders[short, None] * np.uint64(0x9E3779B97F4A7C15)  # a key that no other unit has
        self._write("exact", b"".join(exact))
        self._write("length", np.array(lengths, np.int64).tobytes())
        self._write("order", orders.tobytes())
        self._write("start", np.array(starts, np.int64).tobytes())
        self._write("id_end", ends.tobytes())
        self._write("ids", b"".join(names))
        self._write("signature", matrix.astype("<u4").tobytes())
        for band in range(self._bands):
            self._write(f"band{band:03d}", np.ascontiguousarray(keys[:, band]).tobytes())
        self._pending.clear()

    def _write(self, name: str, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._files[name], view) :]

    def close(self) -> None:
        """Writes what is left and closes the files."""
        try:
            self._flush()
        finally:
            for file in self._files.values():
                os.close(file)


class Table:
    """The units of all shards, numbered through."""

    def __init__(self, folders: Sequence[Path], prefix: str) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._prefix = prefix
        counts = [self._size(folder) for folder in self._folders]
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def _path(self, folder: Path, name: str) -> Path:
        return folder / f"{self._prefix}.{name}"

    def _size(self, folder: Path) -> int:
        path = self._path(folder, "length")
        return path.stat().st_size // 8 if path.exists() else 0

    def column(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first unit, values) of every folder; `name` as in the module's list, or "band007"."""
        dtype = _COLUMNS.get(name, np.dtype("<u8"))
        for place, folder in enumerate(self._folders):
            if self.offsets[place + 1] > self.offsets[place]:
                yield int(self.offsets[place]), np.fromfile(self._path(folder, name), dtype)

    def _by_folder(self, units: np.ndarray) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
        """(folder, where its units stand in `units`, their rows in its files), ascending by row; both int64."""
        order = np.argsort(units, kind="stable")
        inside = units[order]
        borders = np.searchsorted(inside, self.offsets)
        for number, folder in enumerate(self._folders):
            part = slice(borders[number], borders[number + 1])
            if part.start < part.stop:
                yield folder, order[part], inside[part] - self.offsets[number]

    def gather(self, name: str, units: np.ndarray) -> np.ndarray:
        """Values of some units (int64 [n], any order): [n], or uint32 [n, PERMUTATIONS] for "signature"."""
        wide = name == "signature"
        dtype = np.dtype("<u4") if wide else _COLUMNS[name]
        result = np.empty((len(units), PERMUTATIONS) if wide else len(units), dtype)
        for folder, places, rows in self._by_folder(units):
            shape = (-1, PERMUTATIONS) if wide else (-1,)
            values = np.memmap(self._path(folder, name), dtype, "r").reshape(shape)
            result[places] = values[rows]
            del values
        return result

    def ids(self, units: np.ndarray) -> list[str]:
        """Ids of the documents of some units, in their order."""
        names: list[str] = [""] * len(units)
        for folder, places, rows in self._by_folder(units):
            ends = np.memmap(self._path(folder, "id_end"), "<i8", "r")
            data = np.memmap(self._path(folder, "ids"), np.uint8, "r")
            for place, row in zip(places.tolist(), rows.tolist(), strict=True):
                start = int(ends[row - 1]) if row else 0
                names[place] = data[start : int(ends[row])].tobytes().decode("utf-8", "surrogatepass")
            del ends, data
        return names
