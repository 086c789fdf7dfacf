"""What a reader makes of one text, and reading one source file whole; shared by the readers of every format.

Price: a whole file in memory, bounded by `MAX_DOCUMENT_BYTES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medscroll.corpus.document import Section
from medscroll.corpus.files import open_source
from medscroll.corpus.shards import Part
from medscroll.corpus.sources import SourceFile
from medscroll.errors import DataError

MAX_DOCUMENT_BYTES = 1 << 29
FILE_FAILED = 1 << 62  # number of the record that stands for the rest of a file that cannot be read

OnBytes = Callable[[int], None]


@dataclass(slots=True)
class Record:
    """What a reader makes of one text.

    Attributes:
        number: of the record in its file, from 1 (the line of a JSONL file); 0 where the file is one document.
        text: as read; line ends and lone surrogates are repaired later.
        sections: where the format states them (offsets into `text`); None to look for headings in the text.
        reason, detail: set for a record that is no document, such as "empty".
        id: of the document, where it is not made of the path and the number.
        counts: what the reader left out or changed, by stable name; added to the ledger under "read".
    """

    number: int
    text: str = ""
    title: str | None = None
    licence: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    sections: list[Section] | None = None
    reason: str = ""
    detail: str = ""
    id: str = ""
    counts: dict[str, int] = field(default_factory=dict)


def read_whole(part: Part, on_bytes: OnBytes, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """All decompressed bytes of a file.

    Raises:
        DataError: more than `limit` bytes.
    """
    data = b""
    if part.file.compression or part.file.pages or part.file.size <= limit:
        with open_source(Path(part.file.path), part.file.compression, on_bytes) as stream:
            data = stream.read(limit + 1)
    if len(data) > limit or (part.file.size > limit and not data):
        raise DataError(
            f"the file is larger than {limit >> 20} MiB and would be read whole",
            part.file.path,
            "write one record a line into a .jsonl file, which is read piece by piece", reason="too_large",
        )  # fmt: skip
    return data


def check_unchanged(file: SourceFile) -> None:
    """Raises DataError where a file is not any more what was hashed."""
    if file.format == "group":  # was put together from files that are named by their hashes
        return
    try:
        stats = [os.stat(path) for path in file.pages or [file.path]]
    except OSError as error:
        raise DataError(f"the file cannot be read any more: {error.strerror}", file.path, reason="unreadable") from None
    size, changed = sum(status.st_size for status in stats), max(status.st_mtime_ns for status in stats)
    if (size, changed) != (file.size, file.mtime_ns):
        raise DataError(
            "the file changed while it was being read", file.path, "run again when nothing writes to it",
            reason="changed_while_read",
        )  # fmt: skip


def failure_detail(error: DataError, path: str) -> str:
    """An error as the detail of a reject: what and where, the path aside (the id says it)."""
    where = (error.where or "").removeprefix(path).lstrip(", ")
    return f"{error.what} ({where})" if where else error.what
