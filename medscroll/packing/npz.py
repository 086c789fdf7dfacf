"""Large `.npz` files that are written as a stream and read as memory maps.

`numpy.savez` wants every array in memory; a corpus has more cuts than that. Here each member is copied from an
iterator of chunks into an uncompressed zip entry (`write_npz`), and mapped back without reading it (`map_npz`).
The result is an ordinary npz that `numpy.load` opens too, byte-identical for identical content (fixed dates).
Cost: one pass over the bytes for the zip's CRC when writing; nothing but the headers when mapping.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

# What numpy and zipfile raise on files whose bytes are not as they were written.
DAMAGE: tuple[type[Exception], ...] = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, EOFError, OSError, MemoryError),
    *(SyntaxError, RuntimeError, AssertionError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error),
)
SMALL = 1 << 16  # members up to this many bytes are compared with the zip's CRC when they are mapped

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # PKZIP application note 4.3.7; the last two: length of name and extra


class Member(NamedTuple):
    """One array to write: its name, dtype, number of elements, and its bytes in order."""

    name: str
    dtype: np.dtype[Any]
    length: int
    chunks: Iterable[bytes]


def write_npz(handle: IO[bytes], members: Iterable[Member]) -> None:
    """Writes one-dimensional arrays to an open binary file; memory used is one chunk.

    Raises:
        ValueError: the chunks of a member do not add up to its count (a defect of the caller).
    """
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for member in members:
            info = zipfile.ZipInfo(member.name + ".npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o600 << 16
            with archive.open(info, "w", force_zip64=True) as entry:
                header = {
                    "descr": np.lib.format.dtype_to_descr(member.dtype),
                    "fortran_order": False,
                    "shape": (member.length,),
                }
                np.lib.format.write_array_header_1_0(entry, header)
                written = 0
                for chunk in member.chunks:
                    entry.write(chunk)
                    written += len(chunk)
            if written != member.length * member.dtype.itemsize:
                raise ValueError(f"{member.name}: {written} bytes for {member.length} elements of {member.dtype}")


def map_npz(path: Path) -> dict[str, np.ndarray]:
    """The members of an uncompressed npz as read-only memory maps (empty members as empty arrays).

    Small members are compared with their CRC; whoever maps large ones has hashes of them (`checksums`).

    Raises:
        DAMAGE: the file is damaged or compressed.
    """
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as handle:
        size = path.stat().st_size
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"member {info.filename} is compressed")
            handle.seek(info.header_offset)
            *_, name_length, extra_length = _LOCAL_HEADER.unpack(handle.read(_LOCAL_HEADER.size))
            handle.seek(name_length + extra_length, 1)
            version = np.lib.format.read_magic(handle)
            if version != (1, 0):
                raise ValueError(f"member {info.filename} has npy version {version}")
            shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
            if len(shape) != 1 or dtype.hasobject:
                raise ValueError(f"member {info.filename} is no plain array of one dimension")
            start, length = handle.tell(), int(shape[0]) * dtype.itemsize
            if start + length > size:
                raise ValueError(f"member {info.filename} ends past the file")
            if info.file_size <= SMALL:
                archive.read(info)  # BadZipFile where the CRC differs
            name = info.filename.removesuffix(".npy")
            if length == 0:
                arrays[name] = np.empty(shape, dtype)
            else:
                arrays[name] = np.memmap(path, dtype, mode="r", offset=start, shape=shape)
    return arrays
