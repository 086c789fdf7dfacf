"""Every format to records: one entry, `read_part`, and the readers of plain text and XML.

A text, Markdown or XML file is one record; JSON, JSONL, CSV and Parquet hold many (`readers_records`). Memory: one
record, except for JSON files that hold a list, and documents of one file, which are read whole (limit 1 GiB).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medscroll.corpus.document import Section
from medscroll.corpus.encoding import decode
from medscroll.corpus.files import open_source
from medscroll.corpus.shards import Part
from medscroll.errors import DataError

MAX_DOCUMENT_BYTES = 1 << 30

OnBytes = Callable[[int], None]


@dataclass(slots=True)
class Record:
    """What a reader makes of one text.

    Attributes:
        number: of the record in its file, from 1 (the line of a JSONL file); 0 where the file is one document.
        text: as read; line ends and lone surrogates are repaired later.
        sections: where the format states them (offsets into `text`); None to look for headings in the text.
        reason, detail: set for a record that is no document, such as "empty".
    """

    number: int
    text: str = ""
    title: str | None = None
    licence: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    sections: list[Section] | None = None
    reason: str = ""
    detail: str = ""


def read_part(part: Part, text_field: str | None, on_bytes: OnBytes) -> Iterator[Record]:
    """The records of a range of a source file, in order.

    Args:
        part: the range.
        text_field: the field of records that holds the text; None: text, content, document or body.
        on_bytes: called with numbers of bytes read, as stored.

    Raises:
        DataError: the file is binary, undecodable, broken or lacks the text field; it names file and line or byte.
    """
    if part.file.format in ("text", "markdown"):
        yield _read_text(part, on_bytes)
    elif part.file.format == "xml":
        from medscroll.corpus.jats import read_xml

        yield from read_xml(read_whole(part, on_bytes), part.file.path)
    else:
        from medscroll.corpus import readers_records

        yield from readers_records.read_records(part, text_field, on_bytes)


def read_whole(part: Part, on_bytes: OnBytes, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """All decompressed bytes of a file.

    Raises:
        DataError: more than `limit` bytes.
    """
    with open_source(Path(part.file.path), part.file.compression, on_bytes) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise DataError(
            f"the file is larger than {limit >> 20} MiB and would be read whole",
            part.file.path,
            "write one record a line into a .jsonl file, which is read piece by piece",
        )
    return data


def _read_text(part: Part, on_bytes: OnBytes) -> Record:
    data = read_whole(part, on_bytes)
    if not data:
        return Record(0, reason="empty", detail="0 bytes")
    text, encoding = decode(data, part.file.path)
    title = next((line.strip() for line in text[:1000].splitlines() if line.strip()), "")
    for mark in ("<篇名>", "#"):
        if title.startswith(mark):
            return Record(
                0, text, title=title.lstrip("#").removeprefix("<篇名>").strip(), metadata={"encoding": encoding}
            )
    return Record(0, text, metadata={"encoding": encoding})
