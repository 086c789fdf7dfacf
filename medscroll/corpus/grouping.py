"""Rows of database exports joined into one document a group, such as all notes of one admission, over all files.

Two passes with bounded memory: every range of a file is divided by the hash of its groups into buckets (in parallel),
one spill file a range with a directory of where each bucket's rows lie; then each bucket, which holds whole groups,
is read as a source of its own (`grouping_reader`). Spill files are of mode 0600 and kept until their sources change.
Cost: the rows are written once and read once more; memory for one bucket, about 64 MB of rows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import zstandard

from medscroll.corpus.document import json_line
from medscroll.corpus.files import atomic_file, private_open
from medscroll.corpus.grouping_reader import FAILED
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.pipeline import digest
from medscroll.corpus.processes import run_parallel
from medscroll.corpus.readers_records import check_fields, key_of, read_rows
from medscroll.corpus.record import failure_detail
from medscroll.corpus.shards import Part, plan_tasks
from medscroll.corpus.sources import SourceFile
from medscroll.errors import DataError

BUCKET_BYTES = 64 << 20
RECORD_FORMATS = ("json", "jsonl", "csv", "parquet")
FORMAT = "group"
_BUFFER = 32 << 20  # characters of rows a process holds before it writes
_EXPANSION = {"gz": 6, "zst": 6, "": 1}
_PARQUET = 8  # its columns are compressed, and equal values stored once


def group_sources(
    files: Sequence[SourceFile], options: ReadOptions, folder: Path, num_workers: int
) -> list[SourceFile]:
    """Replaces the files of records by buckets of whole groups; other files stay.

    Args:
        files: scanned.
        folder: for the spill files.

    Raises:
        DataError: no file of records, or one lacks a field that rows are joined or ordered by.
    """
    records = [file for file in files if file.format in RECORD_FORMATS]
    if not records:
        raise DataError(
            "there are no records to join: none of the sources is JSON, JSONL, CSV or Parquet",
            "--group_by", "leave --group_by out, or name a source with records",
        )  # fmt: skip
    size = sum(file.size * (_PARQUET if file.format == "parquet" else _EXPANSION[file.compression]) for file in records)
    buckets = max(1, min(4096, size // BUCKET_BYTES))
    fingerprint = digest(json.dumps([[(f.id, f.digest) for f in records], repr(options), buckets, 3]))
    marker = folder / "done.json"
    try:
        done = json.loads(marker.read_bytes()) == fingerprint
    except (OSError, ValueError):
        done = False
    tasks = plan_tasks(records)
    if not done:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in folder.iterdir():
            path.unlink()
        parts = [part for task in tasks for part in task.parts]
        run_parallel(_spill, [(n, part, options, folder, buckets) for n, part in enumerate(parts)], num_workers, folder)
        with atomic_file(marker) as out:
            json.dump(fingerprint, out)
    sizes: dict[int, int] = defaultdict(int)
    for path in sorted(folder.glob("*.json")):
        if path != marker:
            for bucket, spans in json.loads(path.read_bytes()).items():
                sizes[int(bucket)] += sum(length for _, length in spans)
    grouped = [
        SourceFile(f"group-{bucket:05d}", str(folder), FORMAT, "", size, 0, digest(f"{fingerprint}/{bucket}"))
        for bucket, size in sizes.items()
    ]
    return sorted([*(file for file in files if file.format not in RECORD_FORMATS), *grouped], key=lambda f: f.id)


def _spill(number: int, part: Part, options: ReadOptions, folder: Path, buckets: int) -> None:
    """One range of rows to a spill file: zstd frames of JSON lines, a bucket each, and a directory of them."""
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    waiting: dict[int, list[str]] = defaultdict(list)
    held = 0
    compressor = zstandard.ZstdCompressor(level=1)
    with private_open(folder / f"{number:06d}.rows", "wb") as out:

        def flush() -> None:
            for bucket in sorted(waiting):
                frame = compressor.compress(("\n".join(waiting[bucket]) + "\n").encode("utf-8"))
                spans[bucket].append((out.tell(), len(frame)))
                out.write(frame)
            waiting.clear()

        for row in _rows(part, options):
            bucket, line = row
            waiting[bucket % buckets].append(line)
            held += len(line)
            if held > _BUFFER:
                flush()
                held = 0
        flush()
    with atomic_file(folder / f"{number:06d}.json") as directory:
        json.dump(spans, directory)


def _rows(part: Part, options: ReadOptions) -> Iterator[tuple[int, str]]:
    """(hash of the group, its key and the row as a line); what has no group or is broken becomes a row that says so."""
    checked = False
    try:
        for row in read_rows(part, options, lambda count: None):
            try:
                if row.error is not None:
                    raise row.error
                if not checked and isinstance(row.values, dict):
                    check_fields(list(row.values), options, row.where)
                    checked = True
                key = key_of(row, options.group_by)
            except DataError as error:
                if not options.tolerant or error.reason == "no_such_field":
                    raise
                yield 0, _failure(part, row.number, error, "broken_record")
                continue
            yield int(key[:12], 16), f"{key} {json_line({'values': row.values, 'left_out': row.left_out})}"
    except DataError as error:
        if not options.tolerant or error.reason == "no_such_field":
            raise
        yield 0, _failure(part, 0, error, "unreadable")


def _failure(part: Part, number: int, error: DataError, reason: str) -> str:
    name = f"{part.file.id}#{number}" if number else part.file.id
    detail = failure_detail(error, part.file.path)
    return f"{FAILED} {json_line({'failed': name, 'reason': error.reason or reason, 'detail': detail})}"
