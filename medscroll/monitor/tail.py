"""Reading files that others append to: whole lines from a byte offset, samples from the middle, replaced files.

A line counts once its newline is there; what follows the last newline is read again later. A file is another one when
its inode changes or it is shorter than what was read (`schema`: thinning replaces it).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 2**20
LONGEST_LINE = 8 * 2**20


@dataclass
class Tail:
    """A file and how far it was read.

    Attributes:
        path: the file.
        offset: bytes read, the start of a line.
        inode: of the file that `offset` belongs to; 0 before it was seen.
        size: bytes of the file when it was last looked at.
        skipped: lines longer than `LONGEST_LINE`, left out.
        problem: why the file could not be read, "" where it could.
    """

    path: Path
    offset: int = 0
    inode: int = 0
    size: int = 0
    skipped: int = 0
    problem: str = ""

    def look(self) -> bool:
        """Take note of the file's size; True where it is another file than the one that was read."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            self.problem = error.strerror or str(error)
            return False
        self.size = found.st_size
        return bool(self.inode) and (found.st_ino != self.inode or found.st_size < self.offset)

    def lines(self, most: int | None = None) -> Iterator[list[bytes]]:
        """Whole lines from `offset` on, in lists of about `CHUNK` bytes; stops after `most` bytes."""
        try:
            with self.path.open("rb") as handle:
                self.inode, self.problem = os.fstat(handle.fileno()).st_ino, ""
                handle.seek(self.offset)
                began = self.offset
                while most is None or self.offset - began < most:
                    found = self._whole_lines(handle.read(CHUNK), handle)
                    if found is None:
                        return
                    self.offset += len(found)
                    yield found.split(b"\n")[:-1]
        except OSError as error:
            self.problem = error.strerror or str(error)

    def _whole_lines(self, data: bytes, handle: object) -> bytes | None:
        """`data` up to its last newline, more of it where a line is longer; None where no line has ended yet."""
        end = data.rfind(b"\n")
        while end < 0 and data:
            more = handle.read(CHUNK)  # type: ignore[attr-defined]
            if not more:
                return None
            at = more.rfind(b"\n")
            data, end = data + more, -1 if at < 0 else len(data) + at
            if end < 0 and len(data) > LONGEST_LINE:
                self.skipped, self.offset, data = self.skipped + 1, self.offset + len(data), b""
        if end < 0:
            return None
        handle.seek(self.offset + end + 1)  # type: ignore[attr-defined]
        return data[: end + 1]


def samples(path: Path, size: int, count: int, window: int = 8192) -> Iterator[list[bytes]]:
    """Whole lines around `count` evenly spaced offsets of a file of `size` bytes, in its order."""
    try:
        with path.open("rb", buffering=0) as handle:
            if hasattr(os, "posix_fadvise"):  # no reading ahead of what is skipped
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            for at in range(1, count + 1):
                handle.seek(size * at // (count + 1))
                parts = handle.read(window).split(b"\n")
                if len(parts) > 2:
                    yield parts[1:-1]
    except OSError:
        return  # the tail of the same file reports it
