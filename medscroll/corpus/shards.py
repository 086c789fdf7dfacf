"""The plan of shards: which source ranges are read into which document shard, as a function of the sources alone.

Small files are put together, in the order of their ids; a large JSONL or Parquet file is divided into ranges; a large
file that can only be read from its start (CSV, compressed) has a task of its own, which fills several shards.
The plan does not depend on the number of workers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from medscroll.corpus.sources import SourceFile

READER_VERSION = 2  # part of every fingerprint: raise it when a reader changes what it makes of a file
TASK_BYTES = 16 << 20  # of sources a task, for a large corpus
TASK_BYTES_LEAST = 1 << 20  # for a small one, so that it too is read in parallel
TASK_FILES = 1024
_EXPANSION = 4  # assumed for compressed files


@dataclass(slots=True)
class Part:
    """A range of one source file.

    Attributes:
        file: the file.
        start, stop: bytes of a plain JSONL file, row groups of a Parquet file; stop None: to the end.
        first_record: number of the first record in the range, counted from 1.
    """

    file: SourceFile
    start: int = 0
    stop: int | None = None
    first_record: int = 1

    @property
    def weight(self) -> int:
        """Bytes as stored that reading it takes (an estimate for a range of a Parquet file)."""
        if len(self.file.ranges) == 1:
            return self.file.size
        if self.file.format == "parquet":
            return self.file.size // len(self.file.ranges)
        return (self.file.size if self.stop is None else self.stop) - self.start


@dataclass(slots=True)
class Task:
    """What one worker reads in one go: parts in order. `index` numbers its shards `<index>-<n>.jsonl.zst`."""

    index: int
    parts: list[Part]

    @property
    def weight(self) -> int:
        """Bytes as stored of all parts."""
        return sum(part.weight for part in self.parts)

    def fingerprint(self, pipeline: str) -> str:
        """xxh3_128 of all that decides the documents: ids, hashes and ranges of the sources, version, and the
        fingerprint of the pipeline."""
        parts = [
            (part.file.id, part.file.format, part.file.digest, part.start, part.stop, part.first_record)
            for part in self.parts
        ]
        return xxhash.xxh3_128_hexdigest(json.dumps([READER_VERSION, pipeline, parts]).encode())


def plan_tasks(files: Sequence[SourceFile]) -> list[Task]:
    """Divides scanned files (sorted by id) into tasks."""
    parts = [part for file in files for part in _parts_of(file)]
    total = sum(_cost(part) for part in parts)
    room = min(TASK_BYTES, max(TASK_BYTES_LEAST, total // 16))
    tasks: list[Task] = []
    current: list[Part] = []
    filled = 0
    for part in parts:
        if current and (filled + _cost(part) > room or len(current) >= TASK_FILES):
            tasks.append(Task(len(tasks), current))
            current, filled = [], 0
        current.append(part)
        filled += _cost(part)
    if current:
        tasks.append(Task(len(tasks), current))
    return tasks


def _parts_of(file: SourceFile) -> list[Part]:
    stops: list[int | None] = [start for start, _ in file.ranges[1:]]
    return [Part(file, start, stop, number) for (start, number), stop in zip(file.ranges, [*stops, None], strict=True)]


def _cost(part: Part) -> int:
    return part.weight * (_EXPANSION if part.file.compression else 1) + 1
