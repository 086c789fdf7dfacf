"""The token store: all documents' token ids, memory mapped, in Megatron-LM's indexed format plus a file of cuts.

Three files share a prefix (`DATA/tokens/train`), all of mode 0600 because tokens are corpus text:
    .bin        the ids of all documents one after another, uint16 where the vocabulary fits, else int32
    .idx        b"MMIDIDX\\0\\0", u64 version 1, u8 dtype code (uint16 = 8, int32 = 4), u64 sequences, u64 documents,
                int32 lengths [sequences], int64 pointers in bytes [sequences], int64 document index [sequences + 1]
                (Megatron-LM, megatron/core/datasets/indexed_dataset.py; one sequence a document here)
    .cuts.npz   offsets, positions, levels (see cuts.py), document_bytes, the documents' ids, hashes of the runs of
                .bin, and a small JSON `meta` with hashes of all arrays; what is read is compared (checksums.py)
Reading maps the files: opening costs a check of the sizes and 8 bytes a document, a document costs the pages that
it touches. Writing streams: memory does not grow with documents, tokens or cuts (each column is spooled to a
file of its own and put together at the end), and every file appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, overload

import numpy as np
import xxhash

from medscroll.corpus.files import private_open
from medscroll.errors import DataError
from medscroll.packing.checksums import RUN, CheckedBytes, HashedChunks, RunHashes, array_hash
from medscroll.packing.cuts import Cuts
from medscroll.packing.npz import DAMAGE, Member, map_npz, write_npz

MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
_CODES: dict[int, np.dtype[Any]] = {4: np.dtype("<i4"), 8: np.dtype("<u2")}
_CHUNK = 1 << 22  # bytes copied at a time
_MEMBERS = {"offsets": "<i8", "positions": "<i4", "levels": "u1", "document_bytes": "<i8", "ids": "u1"} | {
    "id_offsets": "<i8",
    "bin_hashes": "<u8",
}
REMEDY_DAMAGED = "copy the file again from where it is whole, or delete the folder `tokens` and run `medscroll prepare`"
REMEDY = "run `medscroll prepare` again with the same arguments; it makes what is missing and keeps the rest"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 where every id of the vocabulary (added tokens included) fits, else int32."""
    return _CODES[8] if vocab_size <= 65_535 else _CODES[4]


def store_files(prefix: str | Path) -> tuple[Path, Path, Path]:
    """The `.bin`, `.idx` and `.cuts.npz` paths of a prefix."""
    prefix = str(prefix)
    return Path(prefix + ".bin"), Path(prefix + ".idx"), Path(prefix + ".cuts.npz")


class DocumentIds(Sequence[str]):
    """The ids of the documents, decoded one by one from the mapped file."""

    def __init__(self, blob: np.ndarray, offsets: np.ndarray) -> None:
        self._blob, self._offsets = blob, offsets  # uint8 [bytes], int64 [docs + 1]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return bytes(self._blob[self._offsets[index] : self._offsets[index + 1]]).decode("utf-8", "surrogateescape")


class TokenStore:
    """Read access to one split; open it with `TokenStore.open`. Picklable: a copy maps the files again.

    Attributes:
        lengths: int64 [docs], tokens of each document, EOS included.
        document_bytes: int64 [docs], UTF-8 bytes of each document's text.
        cuts: where each document may be divided.
        ids: the documents' ids, list-like.
        eos_token_id, vocab_size, adds_bos: of the tokenizer; `adds_bos` when each document starts with a BOS.
        digest: hash of ids, lengths and cuts, computed when written.
        checked: the store has hashes, and damage is found when it is read; earlier versions wrote none.

    Raises:
        DataError: from any of them, where what is read is not what was written.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = str(prefix)
        self._bin, self._idx, self._npz = store_files(prefix)
        for path in (self._bin, self._idx, self._npz):
            if not path.is_file():
                raise DataError("the token store is not complete: a file is missing", str(path), REMEDY)
        self._read_index()
        self._read_cuts()

    @classmethod
    def open(cls, prefix: str | Path) -> TokenStore:
        """Maps the store at `prefix` and checks that its three files agree.

        Raises:
            DataError: a file is missing, truncated, or does not belong to the others.
        """
        return cls(prefix)

    def _broken(self, path: Path, why: str, remedy: str = REMEDY) -> NoReturn:
        raise DataError(f"the token store is damaged: {why}", str(path), remedy)

    def _read_index(self) -> None:
        size = self._idx.stat().st_size
        if size < _HEADER.size:
            self._broken(self._idx, "the index is shorter than its header")
        with self._idx.open("rb") as handle:
            magic, version, code, count, documents = _HEADER.unpack(handle.read(_HEADER.size))
        if magic != MAGIC or version != 1 or code not in _CODES:
            self._broken(self._idx, "this is no Megatron-LM index of version 1 with uint16 or int32 tokens")
        expected = _HEADER.size + 12 * count + 8 * documents
        if documents != count + 1 or size != expected:
            self._broken(self._idx, f"the index has {size:,} bytes where {expected:,} belong")
        self.dtype = _CODES[code]
        raw = np.memmap(self._idx, np.uint8, mode="r")
        start = _HEADER.size
        self.lengths = raw[start : start + 4 * count].view("<i4").astype(np.int64)  # [docs]
        self._pointers = raw[start + 4 * count : start + 12 * count].view("<i8")  # [docs], bytes
        self.num_tokens = int(self.lengths.sum())
        if count and (int(self.lengths.min()) < 1 or int(self._pointers[0]) != 0):
            self._broken(self._idx, "a document has no tokens")
        ends = self._pointers + self.lengths * self.dtype.itemsize
        if not np.array_equal(ends[:-1], self._pointers[1:]):
            self._broken(self._idx, "lengths and pointers disagree")
        size, expected = self._bin.stat().st_size, self.num_tokens * self.dtype.itemsize
        if size != expected:
            self._broken(self._bin, f"the tokens take {size:,} bytes where the index says {expected:,}")
        self._tokens = np.memmap(self._bin, self.dtype, mode="r") if expected else np.empty(0, self.dtype)

    def _read_cuts(self) -> None:
        try:
            self._arrays = map_npz(self._npz)
            meta = json.loads(bytes(self._arrays["meta"]))
            self.eos_token_id, self.vocab_size = int(meta["eos_token_id"]), int(meta["vocab_size"])
            self.adds_bos, self.digest = bool(meta["adds_bos"]), str(meta["digest"])
            self._hashes: dict[str, str] = dict(meta.get("hashes", {}))
            self.checked = bool(self._hashes)
            members = {name: dtype for name, dtype in _MEMBERS.items() if self.checked or name != "bin_hashes"}
            lengths = {name: len(self._arrays[name]) for name in members}
            wrong = [name for name, dtype in members.items() if self._arrays[name].dtype != np.dtype(dtype)]
            documents, tokens = int(meta["documents"]), int(meta["tokens"])
        except DAMAGE as error:
            self._broken(self._npz, f"the file of cuts cannot be read ({type(error).__name__})")
        if wrong:
            self._broken(self._npz, f"{', '.join(wrong)} hold another kind of numbers")
        found = (lengths["offsets"] - 1, lengths["document_bytes"], lengths["id_offsets"] - 1, documents)
        if any(number != len(self) for number in found) or tokens != self.num_tokens:
            self._broken(self._npz, "cuts and index are of different stores")
        if lengths["positions"] != lengths["levels"]:
            self._broken(self._npz, "cut positions and levels disagree")
        self._checked_bytes: CheckedBytes | None = None
        if self.checked:
            self._compare(self._idx, "lengths", self.lengths.astype("<i4"))
            hashes = self._member("bin_hashes")
            if len(hashes) != -(-self._tokens.nbytes // RUN):
                self._broken(self._npz, "hashes and tokens are of different stores")
            self._checked_bytes = CheckedBytes(self._tokens.view(np.uint8), hashes)

    def _compare(self, path: Path, name: str, values: np.ndarray) -> None:
        if array_hash(values) != self._hashes.get(name):
            self._broken(path, f"{name} are not what was written", REMEDY_DAMAGED)

    def _member(self, name: str) -> np.ndarray:
        """An array beside the tokens, compared with its hash."""
        if self.checked:
            self._compare(self._npz, name, self._arrays[name])
        return self._arrays[name]

    @cached_property
    def cuts(self) -> Cuts:
        """Where each document may be divided."""
        cuts = Cuts(self._member("offsets"), self._member("positions"), self._member("levels"))
        if int(cuts.offsets[-1]) != len(cuts.positions):
            self._broken(self._npz, "cut offsets and positions disagree")
        return cuts

    @cached_property
    def document_bytes(self) -> np.ndarray:
        """UTF-8 bytes of each document's text, int64 [docs]."""
        return np.asarray(self._member("document_bytes"))

    @cached_property
    def ids(self) -> DocumentIds:
        """The documents' ids."""
        return DocumentIds(self._member("ids"), self._member("id_offsets"))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        """The ids of one document, uint16 or int32 [length], a read-only view of the map."""
        index = range(len(self))[index]
        return self.tokens(index, 0, int(self.lengths[index]))

    def tokens(self, index: int, start: int, stop: int) -> np.ndarray:
        """Ids start..stop-1 of a document, 0 <= start < stop <= its length, uint16 or int32, a view of the map.

        Raises:
            DataError: the bytes are not what was written.
        """
        item = self.dtype.itemsize
        begin = int(self._pointers[index]) // item
        if self._checked_bytes is not None:
            damaged = self._checked_bytes.damaged((begin + start) * item, (begin + stop) * item)
            if damaged is not None:
                self._broken(self._bin, f"the bytes from {damaged:,} on are not what was written", REMEDY_DAMAGED)
        return self._tokens[begin + start : begin + stop]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (TokenStore, (self.prefix,))

    def token_chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """The raw bytes of documents start..stop-1, a few MB at a time."""
        item = self.dtype.itemsize
        if stop > start:
            first = int(self._pointers[start]) // item
            last = int(self._pointers[stop - 1]) // item + int(self.lengths[stop - 1])
            for at in range(first, last, _CHUNK // item):
                yield self._tokens[at : min(at + _CHUNK // item, last)].tobytes()

    def verify(self) -> None:
        """Reads every byte and compares with the stored digest.

        Raises:
            DataError: the content is not what was written.
        """
        digest = StoreDigest(self.dtype)
        digest.add(self, 0, len(self))
        found = digest.hexdigest(self.eos_token_id, self.vocab_size, self.adds_bos)
        if found != self.digest:
            self._broken(self._bin, "the content does not have the digest written with it", REMEDY_DAMAGED)


class StoreDigest:
    """A running hash over tokens, lengths and cuts; equal content gives an equal digest however it was put together."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._tokens, self._lengths, self._cuts = xxhash.xxh3_128(), xxhash.xxh3_128(), xxhash.xxh3_128()

    def document(self, tokens: bytes, length: int, positions: bytes, levels: bytes) -> None:
        """Takes in one document."""
        self._tokens.update(tokens)
        self._tail(length, positions, levels)

    def _tail(self, length: int, positions: bytes, levels: bytes) -> None:
        self._lengths.update(length.to_bytes(8, "little"))
        self._cuts.update(len(levels).to_bytes(8, "little") + positions + levels)

    def add(self, store: TokenStore, start: int, stop: int) -> None:
        """Takes in documents start..stop-1 of a store."""
        for chunk in store.token_chunks(start, stop):
            self._tokens.update(chunk)
        for index in range(start, stop):
            positions, levels = store.cuts[index]
            self._tail(int(store.lengths[index]), positions.tobytes(), levels.tobytes())

    def hexdigest(self, eos_token_id: int, vocab_size: int, adds_bos: bool) -> str:
        """The hash as 32 hexadecimal digits."""
        parts = [h.hexdigest() for h in (self._tokens, self._lengths, self._cuts)]
        parts += [self._dtype.str, str(eos_token_id), str(vocab_size), str(bool(adds_bos))]
        return xxhash.xxh3_128_hexdigest("/".join(parts).encode())


class TokenStoreWriter:
    """Writes a token store document by document; use it as a context manager (an exception leaves no files).

    Args:
        prefix: where; the folder must exist.
        dtype: of the ids, see `token_dtype`.
        eos_token_id, vocab_size, adds_bos: of the tokenizer, kept in the store.
    """

    _COLUMNS = ("lengths", "cut_counts", "positions", "levels", "document_bytes", "ids", "id_lengths")

    def __init__(
        self,
        prefix: str | Path,
        dtype: np.dtype[Any] | type | str,
        *,
        eos_token_id: int = -1,
        vocab_size: int = 0,
        adds_bos: bool = False,
    ) -> None:
        self._targets = store_files(prefix)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if self.dtype not in _CODES.values():
            raise ValueError(f"token dtype {self.dtype} is neither uint16 nor int32")
        self._eos, self._vocab_size, self._adds_bos = int(eos_token_id), int(vocab_size), bool(adds_bos)
        self._bin = private_open(self._temporary(self._targets[0]), "w+b")
        self._spool_paths = {c: Path(f"{prefix}.{c}.tmp") for c in self._COLUMNS}
        self._spools = {c: private_open(path, "w+b") for c, path in self._spool_paths.items()}
        self._digest, self._runs = StoreDigest(self.dtype), RunHashes()
        self.num_documents = self.num_tokens = self.num_cuts = 0
        self._id_bytes = 0

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.with_name(path.name + ".tmp")

    def add(
        self,
        ids: Sequence[int] | np.ndarray,
        cut_positions: Sequence[int] | np.ndarray = (),
        cut_levels: Sequence[int] | np.ndarray = (),
        document_bytes: int = 0,
        document_id: str = "",
    ) -> None:
        """Appends one document: ids [length >= 1]; cut positions ascending in 1..length-1 with a level each.

        Raises:
            ValueError: no tokens, an id outside the dtype, or cuts that are not as above (a defect of the caller).
        """
        wide = np.asarray(ids, dtype=np.int64)  # [length]
        positions, levels = np.asarray(cut_positions, "<i4"), np.asarray(cut_levels, np.uint8)  # [cuts]
        info = np.iinfo(self.dtype)
        if len(wide) == 0 or int(wide.min()) < 0 or int(wide.max()) > info.max:
            raise ValueError(f"document {document_id!r}: no tokens, or an id outside 0..{info.max}")
        if len(positions) != len(levels) or (
            len(positions) and (positions[0] < 1 or positions[-1] >= len(wide) or bool((np.diff(positions) <= 0).any()))
        ):
            raise ValueError(f"document {document_id!r}: cuts are not ascending inside the document")
        raw, name = wide.astype(self.dtype).tobytes(), document_id.encode("utf-8", "surrogateescape")
        self._bin.write(raw)
        self._runs.update(raw)
        self._digest.document(raw, len(wide), positions.tobytes(), levels.tobytes())
        self._spool("lengths", np.asarray([len(wide)], "<i4"))
        self._spool("cut_counts", np.asarray([len(levels)], "<i8"))
        self._spool("positions", positions)
        self._spool("levels", levels)
        self._spool("document_bytes", np.asarray([document_bytes], "<i8"))
        self._spools["ids"].write(name)
        self._spool("id_lengths", np.asarray([len(name)], "<i8"))
        self._count(1, len(wide), len(levels), len(name))

    def add_store(self, store: TokenStore, start: int, stop: int) -> None:
        """Appends documents start..stop-1 of another store of the same dtype, in chunks of a few MB."""
        if store.dtype != self.dtype:
            raise ValueError(f"dtype {store.dtype} is appended to {self.dtype}")
        for chunk in store.token_chunks(start, stop):
            self._bin.write(chunk)
            self._runs.update(chunk)
        self._digest.add(store, start, stop)
        offsets, id_offsets = store.cuts.offsets, store.ids._offsets
        first, last = int(offsets[start]), int(offsets[stop])
        id_first, id_last = int(id_offsets[start]), int(id_offsets[stop])
        self._spool("lengths", store.lengths[start:stop].astype("<i4"))
        self._spool("cut_counts", np.diff(offsets[start : stop + 1]))
        self._spool("positions", store.cuts.positions[first:last])
        self._spool("levels", store.cuts.levels[first:last])
        self._spool("document_bytes", store.document_bytes[start:stop])
        self._spool("ids", store.ids._blob[id_first:id_last])
        self._spool("id_lengths", np.diff(id_offsets[start : stop + 1]))
        self._count(stop - start, int(store.lengths[start:stop].sum()), last - first, id_last - id_first)

    def _spool(self, column: str, values: np.ndarray) -> None:
        step = _CHUNK // values.dtype.itemsize
        for at in range(0, len(values), step):
            self._spools[column].write(np.ascontiguousarray(values[at : at + step]).tobytes())

    def _count(self, documents: int, tokens: int, cuts: int, id_bytes: int) -> None:
        self.num_documents += documents
        self.num_tokens += tokens
        self.num_cuts += cuts
        self._id_bytes += id_bytes

    def _chunks(self, column: str) -> Iterator[bytes]:
        handle = self._spools[column]
        handle.seek(0)
        while chunk := handle.read(_CHUNK):
            yield chunk

    def _running(self, column: str, dtype: str, *, scale: int = 1, last: bool = True) -> Iterator[bytes]:
        """int64 prefix sums of a column times `scale`, starting at 0; with the total at the end where `last`."""
        total = 0
        for chunk in self._chunks(column):
            values = np.frombuffer(chunk, dtype).astype(np.int64) * scale
            yield (total + np.cumsum(values) - values).astype("<i8").tobytes()
            total += int(values.sum())
        if last:
            yield np.asarray([total], "<i8").tobytes()

    def _write_index(self, handle: IO[bytes]) -> None:
        code = next(c for c, dtype in _CODES.items() if dtype == self.dtype)
        handle.write(_HEADER.pack(MAGIC, 1, code, self.num_documents, self.num_documents + 1))
        for chunk in self._chunks("lengths"):
            handle.write(chunk)
        for chunk in self._running("lengths", "<i4", scale=self.dtype.itemsize, last=False):
            handle.write(chunk)
        for at in range(0, self.num_documents + 1, _CHUNK // 8):
            handle.write(np.arange(at, min(at + _CHUNK // 8, self.num_documents + 1), dtype="<i8").tobytes())

    def _write_cuts(self, handle: IO[bytes]) -> None:
        hashes = self._runs.values()
        contents: dict[str, tuple[int, Iterator[bytes]]] = {
            "offsets": (self.num_documents + 1, self._running("cut_counts", "<i8")),
            "positions": (self.num_cuts, self._chunks("positions")),
            "levels": (self.num_cuts, self._chunks("levels")),
            "document_bytes": (self.num_documents, self._chunks("document_bytes")),
            "ids": (self._id_bytes, self._chunks("ids")),
            "id_offsets": (self.num_documents + 1, self._running("id_lengths", "<i8")),
            "bin_hashes": (len(hashes), iter([hashes.tobytes()])),
        }

        def members() -> Iterator[Member]:
            """The arrays, and at last the meta, which holds the hashes of all that went before."""
            hashed = {"lengths": HashedChunks(self._chunks("lengths"))}
            for _ in hashed["lengths"]:
                pass
            for name, (length, chunks) in contents.items():
                hashed[name] = HashedChunks(chunks)
                yield Member(name, np.dtype(_MEMBERS[name]), length, hashed[name])
            raw = self._meta({name: chunks.hexdigest() for name, chunks in hashed.items()})
            yield Member("meta", np.dtype("u1"), len(raw), [raw])

        write_npz(handle, members())

    def _meta(self, hashes: dict[str, str]) -> bytes:
        meta = {
            "digest": self._digest.hexdigest(self._eos, self._vocab_size, self._adds_bos),
            "documents": self.num_documents,
            "tokens": self.num_tokens,
            "eos_token_id": self._eos,
            "vocab_size": self._vocab_size,
            "adds_bos": self._adds_bos,
            "hashes": hashes,
        }
        return json.dumps(meta, sort_keys=True).encode()

    def close(self) -> None:
        """Puts index and cuts together, flushes all three files to disk, then gives them their names."""
        _, idx, npz = self._targets
        with private_open(self._temporary(idx), "w+b") as handle:
            self._write_index(handle)
            _flush(handle)
        with private_open(self._temporary(npz), "w+b") as handle:
            self._write_cuts(handle)
            _flush(handle)
        _flush(self._bin)
        self._bin.close()
        for path in self._targets:
            self._temporary(path).replace(path)
        self._drop_spools()

    def abort(self) -> None:
        """Removes everything that was written."""
        self._bin.close()
        for path in self._targets:
            self._temporary(path).unlink(missing_ok=True)
        self._drop_spools()

    def _drop_spools(self) -> None:
        for column, handle in self._spools.items():
            handle.close()
            self._spool_paths[column].unlink(missing_ok=True)

    def __enter__(self) -> TokenStoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _flush(handle: IO[bytes]) -> None:
    handle.flush()
    os.fsync(handle.fileno())
