"""Every format to records: one entry, `read_part`, and the readers of plain text and XML.

A text, Markdown, XML, HTML or PDF file is one record; JSON, JSONL, CSV and Parquet hold many (`readers_records`).
Memory: one record, except for JSON files that hold a list, and documents of one file, which are read whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from medscroll.corpus.encoding import decode
from medscroll.corpus.ocr_blocks import recognised_by
from medscroll.corpus.ocr_reader import html_tables_in_markdown, read_recognised
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.record import OnBytes, Record, read_whole
from medscroll.corpus.shards import Part
from medscroll.corpus.sources import SourceFile
from medscroll.errors import DataError

_RECOGNISED = re.compile(r"<table\b|\]\((?:images|imgs)/|<img src=\"imgs/", re.IGNORECASE)


def read_part(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Record]:
    """The records of a range of a source file, in order.

    Args:
        part: the range.
        options: how to read.
        on_bytes: called with numbers of bytes read, as stored.

    Raises:
        DataError: the file is binary, undecodable, broken or lacks the text field; it names file and line or byte.
    """
    if part.file.format in ("text", "markdown"):
        yield _read_text(part, on_bytes)
    elif part.file.format == "xml":
        from medscroll.corpus.jats import read_xml

        yield from read_xml(read_whole(part, on_bytes), part.file.path, options)
    elif part.file.format == "html":
        from medscroll.corpus.html_reader import read_html

        yield from read_html(read_whole(part, on_bytes), part.file.path, everything=options.html == "all")
    elif part.file.format == "pdf":
        from medscroll.corpus.pdf_reader import read_pdf

        yield from read_pdf(read_whole(part, on_bytes), part.file.path, part.file.id)
    elif part.file.format == "pages":
        yield _read_pages(part, options, on_bytes)
    elif part.file.format == "group":
        from medscroll.corpus.grouping_reader import read_bucket

        yield from read_bucket(part, options, on_bytes)
    else:
        from medscroll.corpus import readers_records

        yield from readers_records.read_records(part, options, on_bytes)


def require_packages(files: Sequence[SourceFile]) -> None:
    """Looks before any work is done whether the optional packages are there that these files need.

    Raises:
        EnvironmentError_: one is missing; the `pip install` is named.
    """
    formats = {file.format for file in files}
    if "html" in formats:
        from medscroll.corpus.html_reader import require_selectolax

        require_selectolax()
    if "pdf" in formats:
        from medscroll.corpus.pdf_reader import require_pypdf

        require_pypdf()


def _read_pages(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Record:
    """The document of PaddleOCR's results of its pages, one file each or all lines of one."""
    values = []
    for path in part.file.pages:
        page = Part(replace(part.file, path=path))
        text, _ = decode(read_whole(page, on_bytes), path)
        lines = [line for line in text.split("\n") if line.strip()] if str(path).endswith(".jsonl") else [text]
        for line in lines:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                raise DataError("broken JSON", path, "recognise this page again", reason="broken_record") from None
            if recognised_by(value) != "paddleocr":
                raise DataError("not the result of a page of PaddleOCR", path, "rename it", reason="broken_record")
            values.append(value)
    return read_recognised(values, part.file.path, references=options.references)


def _read_text(part: Part, on_bytes: OnBytes) -> Record:
    data = read_whole(part, on_bytes)
    if not data:
        return Record(0, reason="empty", detail="0 bytes")
    text, encoding = decode(data, part.file.path)
    counts: dict[str, int] = {}
    if part.file.format == "markdown" and _RECOGNISED.search(text):
        text, counts = html_tables_in_markdown(text, part.file.path)
    title = next((line.strip() for line in text[:1000].splitlines() if line.strip()), "")
    found = next((mark for mark in ("<篇名>", "#") if title.startswith(mark)), None)
    title = title.lstrip("#").removeprefix("<篇名>").strip() if found else ""
    return Record(0, text, title=title or None, metadata={"encoding": encoding}, counts=counts)
