"""One task of the stage: source ranges through the steps to document and reject shards, resumable shard by shard.

After each finished shard the task's state is written (atomically) with the place in the sources up to which
everything is on disk; a later run goes on from there. Runs in the calling process or in a spawned one.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medscroll.corpus.document import Document, detect_language, json_line
from medscroll.corpus.files import JsonlWriter, atomic_file
from medscroll.corpus.headings import find_sections
from medscroll.corpus.pipeline import READ, SECTIONS, Passage, Pipeline
from medscroll.corpus.readers import read_part
from medscroll.corpus.record import FILE_FAILED, Record, check_unchanged, failure_detail
from medscroll.corpus.repair import repair_text
from medscroll.corpus.shards import Part, Task
from medscroll.corpus.step import StepLog
from medscroll.errors import DataError

SHARD_CHARACTERS = 64_000_000  # of text, after which a shard is closed
_PARENT_SECONDS = 1.0  # between looks whether the parent still lives
_counter: Any = None  # shared with the parent in a spawned worker
_stop: Any = None


@dataclass(slots=True)
class TaskState:
    """What a task has on disk.

    Attributes:
        index, fingerprint: of the task.
        shards: file names (the same in documents/ and rejects/) -> [bytes of documents, bytes of rejects], 0: no file.
        part, record: everything up to this record of this part is in the shards.
        complete: nothing is left to read.
        utf8_bytes, rejects, repairs, languages: counts. sources: id -> [documents, characters, rejects].
        steps: name of a step -> the numbers of its log.
        sidecars: private files beside the shards, relative to the folder -> bytes.
    """

    index: int
    fingerprint: str
    shards: dict[str, list[int]] = field(default_factory=dict)
    part: int = 0
    record: int = -1
    complete: bool = False
    utf8_bytes: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    repairs: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    sources: dict[str, list[int]] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)
    sidecars: dict[str, int] = field(default_factory=dict)


class Stopped(Exception):
    """The parent has given up (an error elsewhere, Ctrl-C); nobody waits for this task's result."""


def start_worker(counter: Any, stop: Any, parent: int) -> None:
    """Initializer of a spawned worker.

    Args:
        counter: shared integer to which the bytes read are added.
        stop: shared event that ends the task at the next read.
        parent: process id; the worker ends soon after it is gone, so that a killed run leaves nothing behind.
    """
    global _counter, _stop
    _counter, _stop = counter, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)


def _count(number: int) -> None:
    if _stop is not None and _stop.is_set():
        raise Stopped
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += number


def load_state(task: Task, pipeline: Pipeline, output_dir: Path) -> TaskState:
    """The state of a task, fresh unless a stored one has the same fingerprint and all its shards are there."""
    fingerprint = task.fingerprint(pipeline.fingerprint())
    fresh = TaskState(task.index, fingerprint)
    try:
        state = TaskState(**json.loads(_state_path(output_dir, task.index).read_bytes()))
    except (OSError, ValueError, TypeError):
        return fresh
    if state.fingerprint != fingerprint:
        return fresh
    files = dict(state.sidecars)
    for name, sizes in state.shards.items():
        files.update({f"{folder}/{name}": size for folder, size in zip(("documents", "rejects"), sizes, strict=True)})
    for relative, size in files.items():
        path = output_dir / relative
        if size and not (path.exists() and path.stat().st_size == size):
            return fresh
    return state


def _state_path(output_dir: Path, index: int) -> Path:
    return output_dir / "documents" / ".state" / f"{index:06d}.json"


def run_task(task: Task, output_dir: Path, pipeline: Pipeline, on_bytes: Callable[[int], None] = _count) -> TaskState:
    """Reads what is left of a task, passes it through the steps and returns the task's state.

    Raises:
        DataError: from a reader, naming file and line or byte, unless the pipeline is tolerant: then it becomes a
            reject. Shards finished before stay.
    """
    state = load_state(task, pipeline, output_dir)
    shard = _Shard(state, output_dir, pipeline)
    try:
        for number, part in enumerate(task.parts):
            if number < state.part:
                on_bytes(part.weight)
                continue
            done = state.record if number == state.part else -1
            for record in _records(part, pipeline, on_bytes):
                if record.number <= done:
                    continue
                shard.add(part, record)
                if shard.characters >= SHARD_CHARACTERS:
                    shard.close(number, record.number)
        shard.close(len(task.parts), -1, complete=True)
    finally:
        shard.discard()
    return state


def _records(part: Part, pipeline: Pipeline, on_bytes: Callable[[int], None]) -> Iterator[Record]:
    """The records of a part; where the pipeline is tolerant, a source that cannot be read on ends as a reject."""
    try:
        yield from read_part(part, pipeline.options, on_bytes)
        check_unchanged(part.file)
    except DataError as error:
        if not pipeline.options.tolerant or error.reason == "no_such_field":
            raise
        yield Record(FILE_FAILED, reason=error.reason or "unreadable", detail=failure_detail(error, part.file.path))


class _Shard:
    """The open files (documents, rejects) that a task writes; counts go to the state when they are closed."""

    def __init__(self, state: TaskState, output_dir: Path, pipeline: Pipeline) -> None:
        self._state, self._output_dir, self._pipeline = state, output_dir, pipeline
        self._open()

    def _open(self) -> None:
        self._name = f"{self._state.index:06d}-{len(self._state.shards):04d}.jsonl.zst"
        self._writers: dict[str, JsonlWriter] = {}
        self._passage = Passage(self._pipeline)
        self._read = StepLog()
        self.characters = 0
        self._counts: list[tuple[dict[str, int], str, int]] = []
        self._sources: dict[str, list[int]] = {}
        self._utf8_bytes = 0

    def _write(self, folder: str, line: str) -> None:
        if folder not in self._writers:
            self._writers[folder] = JsonlWriter(self._output_dir / folder / self._name)
        self._writers[folder].write(line)

    def add(self, part: Part, record: Record) -> None:
        """One record: a document, or a reject with its reason."""
        state, source = self._state, part.file.id
        identifier = record.id or (f"{source}#{record.number}" if 0 < record.number < FILE_FAILED else source)
        text, repairs = repair_text(record.text)
        for reason, number in repairs.items():
            self._counts.append((state.repairs, reason, number))
            self._read.count(reason, number)
        for name, number in record.counts.items():
            self._read.count(name, number)
        counts = self._sources.setdefault(source, [0, 0, 0])
        reason, detail = record.reason, record.detail
        if not reason and not text.strip():
            reason, detail = "empty", detail or ("white space only" if text else "no characters")
        self._read.enter(len(text))
        entry = {"id": identifier, "source": source}
        self.characters += len(text)
        if reason:
            self._read.leave_rejected(reason, len(text))
            self._reject({**entry, "step": READ, "reason": reason, "detail": detail}, text)
            return
        self._read.leave(len(text))
        document = make_document(identifier, source, text, record, repairs, find=SECTIONS not in self._pipeline.names)
        kept, reason, detail = self._passage.run(document)
        if kept is None:
            self._reject({**entry, "step": self._passage.last, "reason": reason, "detail": detail}, text)
            return
        self._write("documents", kept.to_json())
        self._counts.append((state.languages, kept.lang, 1))
        counts[0] += 1
        counts[1] += len(kept.text)
        self._utf8_bytes += len(kept.text.encode("utf-8"))

    def _reject(self, entry: dict[str, Any], text: str) -> None:
        self._write("rejects", json_line({**entry, "characters": len(text), "text": text}))
        self._sources[entry["source"]][2] += 1
        self._counts.append((self._state.rejects, entry["reason"], 1))

    def close(self, part: int, record: int, *, complete: bool = False) -> None:
        """Puts the shard and the state on disk: everything up to `record` of `part` is done."""
        for name, log in self._passage.logs.items():
            for entry in log.positions:
                self._write(f"audit/{name}", json_line(entry))
        for example in self._passage.examples():
            self._write("examples", json_line(example))
        sizes = {folder: writer.commit() for folder, writer in self._writers.items()}
        state = self._state
        if sizes:
            state.shards[self._name] = [sizes.pop("documents", 0), sizes.pop("rejects", 0)]
            state.sidecars.update({f"{folder}/{self._name}": size for folder, size in sizes.items()})
        for counts, reason, number in self._counts:
            counts[reason] = counts.get(reason, 0) + number
        for source, added in self._sources.items():
            before = state.sources.get(source, [0, 0, 0])
            state.sources[source] = [old + new for old, new in zip(before, added, strict=True)]
        for name, log in {READ: self._read, **self._passage.logs}.items():
            if name in state.steps:
                log.add(StepLog.from_numbers(state.steps[name]))
            state.steps[name] = log.numbers()
        state.utf8_bytes += self._utf8_bytes
        state.part, state.record, state.complete = part, record, complete
        with atomic_file(_state_path(self._output_dir, state.index)) as out:
            json.dump(asdict(state), out)
        self._open()

    def discard(self) -> None:
        """Removes the files of an unfinished shard."""
        for writer in self._writers.values():
            writer.discard()


def make_document(
    identifier: str, source: str, text: str, record: Record, repairs: dict[str, int], *, find: bool
) -> Document:
    """The document of a record; `find`: look for headings where the format states no sections."""
    metadata = dict(record.metadata)
    if repairs:
        metadata["repairs"] = repairs
    return Document(
        id=identifier,
        text=text,
        source=source,
        lang=detect_language(text),
        title=repair_text(record.title)[0].strip() or None if record.title else None,
        sections=record.sections if record.sections is not None else find_sections(text) if find else [],
        licence=record.licence,
        metadata=metadata,
    )
