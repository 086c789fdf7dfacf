"""Files that may hold corpus text: private modes, atomic writing, decompression, JSONL in zstd.

Everything written here is of mode 0600, goes to a temporary name first, is fsynced and then renamed, so that a file
under its final name is always whole. Reading decompresses `.gz` and `.zst` on the fly in constant memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import zstandard

from medscroll.errors import CapacityError, ConfigError, DataError, EnvironmentError_

COMPRESSIONS = {".gz": "gz", ".zst": "zst"}
BLOCK = 1 << 20  # bytes a read
_ZSTD_BLOCK = 8192  # which gives at most 256 MiB at once, whatever was put into the file
# A compressed file may unpack to the greater of the two, in bytes and as a multiple of its size: text takes 3 to 20.
EXPANSION_ROOM, EXPANSION = 1 << 30, 250
_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


def private_open(path: str | os.PathLike[str], mode: str = "w", *, encoding: str | None = None) -> IO[Any]:
    """`open` for files that hold corpus text: what it creates or opens for writing is of mode 0600.

    Args:
        path: the file.
        mode: as for `open`.
        encoding: UTF-8 in text modes unless given.
    """
    if encoding is None and "b" not in mode:
        encoding = "utf-8"
    if "r" in mode and "+" not in mode:
        return open(path, mode, encoding=encoding)

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags, 0o600)
        os.fchmod(descriptor, 0o600)
        return descriptor

    return open(path, mode, encoding=encoding, opener=opener)


@contextlib.contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A private file that appears under `path` when the block ends without an error, whole and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with private_open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise CapacityError("no space left on the disk", str(path), "free some, or take another folder") from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sync_directory(path: Path) -> None:
    """Makes a rename in `path` durable; a no-op where the file system does not allow it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds an advisory lock on a file; the system releases it when the process ends, however that happens.

    Args:
        wait: wait for another holder; else it is an error.
        on_wait: called once before waiting.

    Raises:
        ConfigError: another process holds it and `wait` is false.
        EnvironmentError_: the file system has no locks.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as handle:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                if on_wait:
                    on_wait()
                fcntl.flock(handle, fcntl.LOCK_EX)
        except BlockingIOError as error:
            raise ConfigError(
                "another `medscroll prepare` is at work in this folder", str(path.parent), "wait for it to end"
            ) from error
        except OSError as error:
            raise EnvironmentError_(
                "the file system of this folder has no file locks",
                str(path.parent),
                "choose a folder on another file system, or mount this one with locks (Lustre: -o flock)",
            ) from error
        yield


def split_suffixes(path: Path) -> tuple[str, str]:
    """(format suffix, compression): `notes.JSONL.gz` -> (".jsonl", "gz"); compression is "" for plain files."""
    compression = COMPRESSIONS.get(path.suffix.lower(), "")
    name = path.with_suffix("") if compression else path
    return name.suffix.lower(), compression


class _CountingReader(io.RawIOBase):
    """A raw file that reports how many bytes were read from it."""

    def __init__(self, raw: io.FileIO, on_bytes: Callable[[int], None]) -> None:
        self._raw, self._on_bytes = raw, on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._raw.readinto(buffer) or 0
        self._on_bytes(count)
        return count

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _ZstdReader(io.RawIOBase):
    """Decompresses zstd frames one after another; unlike the library's reader it raises EOFError on a cut-off file."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._frame = self._new_frame()
        self._inside = False  # a frame has begun and not ended
        self._ready = memoryview(b"")

    @staticmethod
    def _new_frame() -> Any:
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._inside = self._new_frame(), False
            data = data or self._source.read(_ZSTD_BLOCK)
            if not data:
                if self._inside:
                    raise EOFError("zstd frame ends early")
                return 0
            self._inside = True
            self._ready = memoryview(self._frame.decompress(data))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


class _BoundedReader(io.RawIOBase):
    """Decompressed bytes up to a limit; beyond it the file is taken for one that is made to fill memory or disk."""

    def __init__(self, source: BinaryIO, limit: int, path: Path) -> None:
        self._source, self._left, self._path = source, limit, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"the compressed file unpacks to more than {EXPANSION} times its size", str(self._path),
                "unpack it yourself if it is what it should be", reason="expands_too_much",
            )  # fmt: skip
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def open_source(
    path: Path, compression: str = "", on_bytes: Callable[[int], None] | None = None, *, bounded: bool = True
) -> Iterator[BinaryIO]:
    """The decompressed bytes of a source file.

    Args:
        path: the file.
        compression: "", "gz" or "zst".
        on_bytes: called with the number of bytes (as stored) after each read.
        bounded: refuse what unpacks absurdly; false for files that medscroll wrote itself.

    Raises:
        DataError: it cannot be opened, or its compressed data is broken, ends early or unpacks absurdly.
    """
    try:
        raw: Any = io.FileIO(path, "r")
    except OSError as error:
        raise DataError(
            f"cannot read the file: {error.strerror}", str(path), "check its permissions", reason="unreadable"
        ) from error
    limit = max(EXPANSION_ROOM, EXPANSION * os.fstat(raw.fileno()).st_size) if bounded else 1 << 62
    buffered = io.BufferedReader(_CountingReader(raw, on_bytes) if on_bytes else raw, BLOCK)
    try:
        with buffered:
            if compression == "gz":
                with gzip.GzipFile(fileobj=buffered, mode="rb") as file:
                    yield cast(BinaryIO, io.BufferedReader(_BoundedReader(cast(BinaryIO, file), limit, path), BLOCK))
            elif compression == "zst":
                with io.BufferedReader(_ZstdReader(buffered), BLOCK) as reader:
                    yield cast(BinaryIO, io.BufferedReader(_BoundedReader(reader, limit, path), BLOCK))
            else:
                yield cast(BinaryIO, buffered)
    except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise DataError(
            f"the compressed data ({compression}) is broken or ends early", str(path),
            "copy or download the file again", reason="broken_compression",
        ) from error  # fmt: skip


class JsonlWriter:
    """Lines of JSON into one zstd file, written under a temporary name.

    `commit` makes it appear under `path` (mode 0600, fsynced); `discard` leaves no trace. `lines` counts.
    """

    def __init__(self, path: Path, level: int = 3) -> None:
        self.path = path
        self.lines = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._file = private_open(self._temporary, "wb")
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._stream = compressor.stream_writer(self._file, closefd=False)

    def write(self, line: str) -> None:
        """Adds one line (given without its line end)."""
        try:
            self._stream.write(line.encode("utf-8") + b"\n")
        except OSError as error:
            self._full(error)
        self.lines += 1

    def commit(self) -> int:
        """Finishes the file under its final name; returns its size in bytes."""
        try:
            self._stream.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            size = self._temporary.stat().st_size
            os.replace(self._temporary, self.path)
        except OSError as error:
            self._full(error)
        sync_directory(self.path.parent)
        return size

    def discard(self) -> None:
        """Removes what was written so far; harmless after `commit`."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _full(self, error: OSError) -> None:
        if error.errno in _NO_SPACE:
            raise CapacityError(
                "no space left on the disk for the documents", str(self.path), "free some, or take another folder"
            ) from error
        raise error


def read_jsonl_zst(path: Path) -> Iterator[bytes]:
    """The lines of a file written by `JsonlWriter`, without their line ends, in constant memory."""
    with open_source(path, "zst", bounded=False) as stream:
        for line in stream:
            yield line.rstrip(b"\n")
