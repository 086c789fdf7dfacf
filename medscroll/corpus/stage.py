"""The stage `raw files -> documents`: `write_documents`, and reading its shards back.

    output_dir/documents/<task>-<n>.jsonl.zst     documents, in the order of the sources' ids
    output_dir/rejects/<task>-<n>.jsonl.zst       what is no document: {id, source, reason, detail, characters, text}
    output_dir/rejects/files.jsonl.zst            files and folders that were not read, with the reason
    output_dir/documents/.state/                  what is finished; safe to delete, then all is done again

Every shard is whole or absent; a kill costs at most the shard that was being written. A task whose sources, text
field and reader version are unchanged is not done again. Memory: one document, or one 64 MB shard's compressor, a
worker; JSON files that hold one list are loaded whole. Speed: about 5 MB of text a second and core, from compressed
JATS and GB18030 text alike.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medscroll.corpus.document import Document, json_line
from medscroll.corpus.files import JsonlWriter, read_jsonl_zst
from medscroll.corpus.shards import Task, plan_tasks
from medscroll.corpus.sources import Skipped, find_sources, scan_sources, sources_digest
from medscroll.corpus.worker import TaskState, load_state, run_task, start_worker
from medscroll.errors import CapacityError, DataError

_FILES_SHARD = "files.jsonl.zst"
_POLL_SECONDS = 0.3

Progress = Callable[[int, int, str], None]


@dataclass(slots=True)
class SourceCount:
    """What one source file gave: numbers of documents, characters and rejects."""

    documents: int = 0
    characters: int = 0
    rejects: int = 0


@dataclass(slots=True)
class DocumentsSummary:
    """What the stage made.

    Attributes:
        documents, characters, utf8_bytes: totals over all shards.
        rejects: how many records and files were left out, by reason ("empty", "unsupported_format", "hidden", ...).
        repairs: how many characters were replaced or removed, by reason ("lone_surrogate", "nul").
        languages: documents by language.
        sources: by id of the source file.
        source_digest: hash over ids and contents of all sources and the text field.
        shards, shards_reused: shards there are, and how many of them were finished already.
    """

    documents: int = 0
    characters: int = 0
    utf8_bytes: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    repairs: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    sources: dict[str, SourceCount] = field(default_factory=dict)
    source_digest: str = ""
    shards: int = 0
    shards_reused: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Ids of sources are file names, no text is in it."""
        return asdict(self)


def write_documents(
    sources: Sequence[Path],
    output_dir: Path,
    *,
    text_field: str | None = None,
    num_workers: int = 1,
    progress: Progress | None = None,
) -> DocumentsSummary:
    """Reads all sources into document shards.

    Args:
        sources: files and folders of any mix of formats.
        output_dir: the prepared folder; `documents/` and `rejects/` are made in it.
        text_field: the field of records that holds the text; None: the first of text, content, document, body.
        num_workers: processes; 1 reads in this one. The result does not depend on it.
        progress: called with (bytes of sources done, bytes in all, what is being done).

    Raises:
        DataError: a source is missing, binary, undecodable or broken (file and line or byte named), lacks the text
            field (fields that exist named), or no document remains.
        CapacityError: no disk space, or a worker was killed.
    """
    output_dir = Path(output_dir)
    documents_dir, rejects_dir = output_dir / "documents", output_dir / "rejects"
    state_dir = documents_dir / ".state"
    files, skipped = find_sources([Path(source) for source in sources], exclude=[output_dir])
    state_dir.mkdir(parents=True, exist_ok=True)
    rejects_dir.mkdir(parents=True, exist_ok=True)
    if progress:
        progress(0, sum(file.size for file in files), "hashing sources")
    scan_sources(files, cache=state_dir / "scan.json", num_workers=num_workers)
    tasks = plan_tasks(files)
    states = {task.index: load_state(task, text_field, output_dir) for task in tasks}
    _remove_stale(output_dir, states)
    todo = [task for task in tasks if not states[task.index].complete]
    reused = sum(len(state.shards) for state in states.values())
    total = sum(task.weight for task in tasks)
    report = _Reporter(progress, total, total - sum(task.weight for task in todo))
    if num_workers > 1 and len(todo) > 1:
        done = _run_pool(todo, output_dir, text_field, min(num_workers, len(todo)), report)
        states.update({state.index: state for state in done})
    else:
        for task in todo:
            states[task.index] = run_task(task, output_dir, text_field, report.add)
    report.finish()
    _write_skipped(rejects_dir / _FILES_SHARD, skipped)
    summary = _summarise([states[task.index] for task in tasks], skipped)
    summary.source_digest = sources_digest(files, text_field)
    summary.shards_reused = reused
    if not summary.documents:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.rejects.items()))
        raise DataError(
            f"no document remains of {len(files)} files (left out: {reasons})",
            ", ".join(str(source) for source in sources),
            f"give files with text in them; what was left out is listed in {rejects_dir}",
        )
    return summary


def document_shards(output_dir: Path) -> list[Path]:
    """The finished document shards of a prepared folder, in order; the order of documents is that of source ids."""
    return sorted((Path(output_dir) / "documents").glob("[0-9]*.jsonl.zst"))


def read_shard(path: Path) -> Iterator[Document]:
    """The documents of one shard, one at a time."""
    for line in read_jsonl_zst(path):
        yield Document.from_json(line)


def source_digest(sources: Sequence[Path], *, text_field: str | None = None, num_workers: int = 1) -> str:
    """The digest that `write_documents` would report, from hashing the sources alone (nothing is written)."""
    files, _ = find_sources([Path(source) for source in sources])
    scan_sources(files, num_workers=num_workers)
    return sources_digest(files, text_field)


class _Reporter:
    """Adds up bytes and calls the progress function, at most 1,000 times in all."""

    def __init__(self, progress: Progress | None, total: int, done: int) -> None:
        self._progress, self._total, self._done, self._shown = progress, total, done, -1

    def add(self, count: int) -> None:
        self.set_added(self._done + count)

    def set_added(self, done: int) -> None:
        self._done = done
        shown = self._done * 1000 // max(1, self._total)
        if self._progress and shown != self._shown:
            self._shown = shown
            self._progress(min(self._done, self._total), self._total, "reading documents")

    @property
    def done(self) -> int:
        return self._done

    def finish(self) -> None:
        self.set_added(self._total)


def _run_pool(
    todo: list[Task], output_dir: Path, text_field: str | None, num_workers: int, report: _Reporter
) -> list[TaskState]:
    """Runs tasks in spawned processes; the first error ends the rest and is raised as it was in the worker."""
    states = []
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    stop = context.Event()
    before = report.done
    pool = ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=start_worker, initargs=(counter, stop, os.getpid())
    )
    try:
        pending: set[Future[TaskState]] = {pool.submit(run_task, task, output_dir, text_field) for task in todo}
        while pending:
            finished, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                states.append(future.result())
            report.set_added(before + counter.value)
        return states
    except BrokenProcessPool as error:
        raise CapacityError(
            "a process that read documents was killed, most likely for memory",
            str(output_dir),
            "take fewer with --num_workers, or divide the largest files; what is finished is kept",
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _remove_stale(output_dir: Path, states: dict[int, TaskState]) -> None:
    """Deletes shards and states that belong to no task of this plan, and temporary files of killed runs."""
    kept = {name for state in states.values() for name in state.shards}
    for folder in (output_dir / "documents", output_dir / "rejects"):
        for path in [*folder.glob("[0-9]*.jsonl.zst"), *folder.glob(".*.tmp")]:
            if path.name not in kept:
                path.unlink(missing_ok=True)
    names = {f"{index:06d}.json" for index, state in states.items() if state.shards or state.complete}
    for path in (output_dir / "documents" / ".state").glob("[0-9]*.json"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _write_skipped(path: Path, skipped: list[Skipped]) -> None:
    if not skipped:
        path.unlink(missing_ok=True)
        return
    writer = JsonlWriter(path)
    try:
        for entry in skipped:
            record = {"id": entry.id, "source": entry.id, "reason": entry.reason, "detail": entry.detail}
            writer.write(json_line({**record, "characters": 0, "text": ""}))
        writer.commit()
    finally:
        writer.discard()


def _summarise(states: list[TaskState], skipped: list[Skipped]) -> DocumentsSummary:
    summary = DocumentsSummary(shards=sum(len(state.shards) for state in states))
    rejects: Counter[str] = Counter(entry.reason for entry in skipped)
    repairs: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    for state in states:
        summary.utf8_bytes += state.utf8_bytes
        rejects.update(state.rejects)
        repairs.update(state.repairs)
        languages.update(state.languages)
        for identifier, (documents, characters, rejected) in state.sources.items():
            count = summary.sources.setdefault(identifier, SourceCount())
            count.documents += documents
            count.characters += characters
            count.rejects += rejected
    summary.documents = sum(count.documents for count in summary.sources.values())
    summary.characters = sum(count.characters for count in summary.sources.values())
    summary.rejects, summary.repairs = dict(sorted(rejects.items())), dict(sorted(repairs.items()))
    summary.languages = dict(sorted(languages.items()))
    return summary
