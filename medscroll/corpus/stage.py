"""The stage `raw files -> documents`: `write_documents`, and reading its shards back.

    output_dir/documents/<task>-<n>.jsonl.zst     documents, in the order of the sources' ids
    output_dir/rejects/<task>-<n>.jsonl.zst       what is no document: {id, source, step, reason, detail, text}
    output_dir/rejects/files.jsonl.zst            files and folders that were not read, with the reason
    output_dir/audit/<step>/, examples/           positions of what a step found; before/after examples
    output_dir/documents/.state/                  what is finished; safe to delete, then all is done again
    output_dir/staged/                            the same before the steps that need the whole corpus (see finish.py)

Every shard is whole or absent; a kill costs at most the shard that was being written. A task whose sources, steps and
reader version are unchanged is not done again. The shards are a function of the sources and the steps alone, so tasks
may be divided over any number of machines that share the folder. Memory: one document, or one 64 MB shard's
compressor, a worker; JSON files that hold one list are loaded whole. Speed without steps: about 5 MB of text a second
and core, from compressed JATS and GB18030 text alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medscroll.corpus.document import Document, json_line
from medscroll.corpus.files import JsonlWriter, file_lock, read_jsonl_zst
from medscroll.corpus.finish import STAGED, apply_decisions, remove_corpus_results, write_signatures
from medscroll.corpus.grouping import group_sources
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.pipeline import READ, Pipeline
from medscroll.corpus.processes import run_parallel
from medscroll.corpus.readers import require_packages
from medscroll.corpus.rejects import EXPECTED, named_rejects
from medscroll.corpus.shards import Task, plan_tasks
from medscroll.corpus.sources import Skipped, find_sources, scan_sources, sources_digest
from medscroll.corpus.step import StepLog
from medscroll.corpus.worker import TaskState, load_state, run_task
from medscroll.errors import DataError

_FILES_SHARD = "files.jsonl.zst"

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
        steps: what each step did, in order: the numbers of its `StepLog`. In each, documents in = out + rejected.
        failures: files and records that could not be read, by reason.
        source_digest: hash over ids and contents of all sources and the pipeline.
        shards, shards_reused: shards there are, and how many of them were finished already; shard_names: those with
            documents.
    """

    documents: int = 0
    characters: int = 0
    utf8_bytes: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    repairs: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    sources: dict[str, SourceCount] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    source_digest: str = ""
    shards: int = 0
    shards_reused: int = 0
    shard_names: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Ids of sources are file names, no text is in it."""
        return asdict(self)


def write_documents(
    sources: Sequence[Path],
    output_dir: Path,
    *,
    text_field: str | None = None,
    pipeline: Pipeline | None = None,
    shard: tuple[int, int] | None = None,
    merge: bool = False,
    num_workers: int = 1,
    progress: Progress | None = None,
) -> DocumentsSummary:
    """Reads all sources through the steps into document shards.

    Args:
        sources: files and folders of any mix of formats.
        output_dir: the prepared folder; `documents/` and `rejects/` are made in it.
        text_field: the field of records that holds the text, where no pipeline is given.
        pipeline: how to read, and the steps; None: no steps.
        shard: (i, N): only the i-th (from 1) of N portions of the work; the last phase is left to `merge`.
        merge: the portions are done, only put them together.
        num_workers: processes; 1 reads in this one. The result depends neither on it nor on portions.
        progress: called with (bytes of sources done, bytes in all, what is being done).

    Raises:
        DataError: a source is missing, binary, undecodable or broken (file and line or byte named), lacks the text
            field (fields that exist named), no document remains, or a portion is missing.
        CapacityError: no disk space, or a worker was killed.
    """
    pipeline = pipeline or Pipeline(ReadOptions(text_field=text_field))
    output_dir = Path(output_dir)
    root = output_dir / STAGED if pipeline.corpus_steps else output_dir
    state_dir = output_dir / "documents" / ".state"
    for folder in (state_dir, output_dir / "rejects", root / "documents" / ".state"):
        folder.mkdir(parents=True, exist_ok=True)
    files, skipped = find_sources([Path(source) for source in sources], exclude=[output_dir])
    require_packages(files)
    if progress:
        progress(0, sum(file.size for file in files), "hashing sources")
    with file_lock(state_dir / "scan.lock", wait=True):  # portions that start at the same time hash once
        failed = scan_sources(
            files, cache=state_dir / "scan.json", num_workers=num_workers, tolerant=pipeline.options.tolerant
        )
        files = [file for file in files if file.digest]
        digest = sources_digest(files, pipeline.fingerprint())
        if pipeline.options.group_by:
            files = group_sources(files, pipeline.options, output_dir / "grouped", num_workers)
    tasks = plan_tasks(files)
    mine = [task for task in tasks if shard is None or task.index % shard[1] == shard[0] - 1]
    states = {task.index: load_state(task, pipeline, root) for task in tasks}
    reused = sum(len(states[task.index].shards) for task in mine)
    todo = [task for task in mine if not states[task.index].complete]
    if merge and todo:
        raise DataError(
            f"{len(todo)} of {len(tasks)} portions of work are not done, or were done with other settings or sources",
            str(output_dir),
            "run `medscroll prepare ... --shard i/N` for every i from 1 to N first, with the same sources and settings",
        )
    if not pipeline.corpus_steps and shard is None:
        remove_corpus_results(output_dir)
    _remove_stale(root, states, {task.index for task in mine}, all_tasks=shard is None)
    total = sum(task.weight for task in mine)
    report = _Reporter(progress, total, total - sum(task.weight for task in todo))
    states.update({state.index: state for state in _run(todo, root, pipeline, num_workers, report)})
    report.finish()
    write_signatures([states[task.index] for task in mine], output_dir, pipeline, num_workers)
    ordered = [states[task.index] for task in mine]
    summary = _summarise(ordered, skipped + failed, pipeline)
    summary.source_digest, summary.shards_reused = digest, reused
    if shard is not None:
        return summary
    _write_skipped(output_dir / "rejects" / _FILES_SHARD, skipped + failed)
    if pipeline.corpus_steps:
        logs, totals = apply_decisions(tasks, ordered, output_dir, pipeline, num_workers)
        _adopt(summary, logs, totals)
    if not summary.documents:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.rejects.items()))
        named = "; ".join(named_rejects(output_dir, expected=True))
        raise DataError(
            f"no document remains of {len(files)} files (left out: {reasons}){f': {named}' if named else ''}",
            ", ".join(str(source) for source in sources),
            f"give files with text in them; what was left out is listed in {output_dir / 'rejects'}",
        )
    return summary


def _run(todo: list[Task], root: Path, pipeline: Pipeline, num_workers: int, report: _Reporter) -> list[TaskState]:
    if num_workers > 1 and len(todo) > 1:
        before = report.done
        jobs = [(task, root, pipeline) for task in todo]
        return run_parallel(run_task, jobs, num_workers, root, lambda total: report.set_added(before + total))
    return [run_task(task, root, pipeline, report.add) for task in todo]


def _adopt(summary: DocumentsSummary, logs: dict[str, StepLog], totals: dict[str, int]) -> None:
    """Puts what the corpus steps did into the summary."""
    for name, log in logs.items():
        summary.steps[name] = log.numbers()
        for reason, (documents, _) in log.rejects.items():
            summary.rejects[reason] = summary.rejects.get(reason, 0) + documents
    summary.rejects = dict(sorted(summary.rejects.items()))
    summary.documents, summary.characters = totals["documents"], totals["characters"]
    summary.utf8_bytes = totals["utf8_bytes"]
    summary.languages = {
        name.removeprefix("lang:"): number for name, number in sorted(totals.items()) if name.startswith("lang:")
    }


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
    return sources_digest(files, Pipeline(ReadOptions(text_field=text_field)).fingerprint())


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


def _remove_stale(root: Path, states: dict[int, TaskState], mine: set[int], *, all_tasks: bool) -> None:
    """Deletes shards and states that belong to no task of this plan, and temporary files of killed runs.

    With `all_tasks` false only those of the tasks in `mine`: others may be at work in the folder.
    """
    kept = {name for state in states.values() for name in state.shards}
    sidecars = {relative for state in states.values() for relative in state.sidecars}
    for folder in (root / "documents", root / "rejects", root / "audit", root / "examples"):
        for path in [*folder.rglob("[0-9]*.jsonl.zst"), *folder.rglob(".*.tmp")]:
            index = path.name.lstrip(".")[:6]
            ours = all_tasks or (index.isdigit() and int(index) in mine)
            known = path.relative_to(root).as_posix() in sidecars or folder.name in ("documents", "rejects")
            if ours and (not known or path.name.replace("-corpus.jsonl.zst", ".jsonl.zst") not in kept):
                path.unlink(missing_ok=True)
    names = {f"{index:06d}.json" for index, state in states.items() if state.shards or state.complete}
    for path in (root / "documents" / ".state").glob("[0-9]*.json"):
        if path.name not in names and (all_tasks or int(path.stem) in mine):
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


def _summarise(states: list[TaskState], skipped: list[Skipped], pipeline: Pipeline) -> DocumentsSummary:
    summary = DocumentsSummary(shards=sum(len(state.shards) for state in states))
    summary.shard_names = [name for state in states for name, sizes in state.shards.items() if sizes[0]]
    rejects: Counter[str] = Counter(entry.reason for entry in skipped)
    repairs: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    logs = {name: StepLog() for name in pipeline.names}
    for state in states:
        for name, numbers in state.steps.items():
            logs[name].add(StepLog.from_numbers(numbers))
        summary.utf8_bytes += state.utf8_bytes
        rejects.update(state.rejects)
        repairs.update(state.repairs)
        languages.update(state.languages)
        for identifier, (documents, characters, rejected) in state.sources.items():
            count = summary.sources.setdefault(identifier, SourceCount())
            count.documents += documents
            count.characters += characters
            count.rejects += rejected
    summary.steps = {name: log.numbers() for name, log in logs.items()}
    failures = Counter({reason: documents for reason, (documents, _) in logs[READ].rejects.items()})
    failures.update(entry.reason for entry in skipped)
    summary.failures = {reason: number for reason, number in sorted(failures.items()) if reason not in EXPECTED}
    summary.documents = sum(count.documents for count in summary.sources.values())
    summary.characters = sum(count.characters for count in summary.sources.values())
    summary.rejects, summary.repairs = dict(sorted(rejects.items())), dict(sorted(repairs.items()))
    summary.languages = dict(sorted(languages.items()))
    return summary
