"""Steps that need the whole corpus: signatures of each shard, decisions over all, and shards rewritten by them.

    staged/documents/*.jsonl.zst      what the steps before made
    staged/<step>/<shard>/            signatures of a shard, and `done.json` when they are whole
    documents/*.jsonl.zst             without what was decided to be dropped; a shard that loses nothing is linked

Signatures and rewritten shards are kept by a fingerprint of what they were made from, so a run that was killed goes
on. Memory: the decisions; on disk the staged documents stand beside the final ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medscroll.corpus.document import Document, json_line
from medscroll.corpus.files import JsonlWriter, atomic_file, read_jsonl_zst
from medscroll.corpus.pipeline import Pipeline, digest
from medscroll.corpus.processes import run_parallel
from medscroll.corpus.shards import Task
from medscroll.corpus.step import CorpusStep, Decisions, StepLog, run_corpus_step
from medscroll.corpus.worker import TaskState

STAGED = "staged"
_LINKED = ("rejects", "examples", "audit")


def write_signatures(states: Sequence[TaskState], output_dir: Path, pipeline: Pipeline, num_workers: int) -> None:
    """Makes the signatures of every shard of these tasks, for every corpus step, where they are not there already."""
    jobs = [
        (step, output_dir, name, digest(f"{state.fingerprint}/{name}/{sizes}/{step.version}/{step.fingerprint()}"))
        for step in pipeline.corpus_steps
        for state in states
        for name, sizes in state.shards.items()
        if sizes[0]
    ]
    jobs = [job for job in jobs if _read_json(_folder(job[0], output_dir, job[2]) / "done.json") != job[3]]
    run_parallel(_write_signature, jobs, num_workers, output_dir)


def _folder(step: CorpusStep, output_dir: Path, shard: str) -> Path:
    return output_dir / STAGED / step.name / shard.removesuffix(".jsonl.zst")


def _write_signature(step: CorpusStep, output_dir: Path, shard: str, fingerprint: str) -> None:
    folder = _folder(step, output_dir, shard)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    step.prepare_shard(_documents(output_dir / STAGED / "documents" / shard), folder)
    with atomic_file(folder / "done.json") as out:
        json.dump(fingerprint, out)


def _documents(path: Path) -> Iterator[Document]:
    for line in read_jsonl_zst(path):
        yield Document.from_json(line)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def apply_decisions(
    tasks: Sequence[Task], states: Sequence[TaskState], output_dir: Path, pipeline: Pipeline, num_workers: int
) -> tuple[dict[str, StepLog], dict[str, int]]:
    """Decides, rewrites the shards into `documents/`, and puts everything else of the staged folder beside them.

    Returns:
        the log of each corpus step; what the final documents sum up to: "documents", "characters", "utf8_bytes", and
        documents by language as "lang:zh" and so on.
    """
    shards = [name for state in states for name, sizes in state.shards.items() if sizes[0]]
    decided: list[Decisions] = []
    work = output_dir / STAGED / ".decide"
    for step in pipeline.corpus_steps:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, mode=0o700)
        decided.append(step.decide([_folder(step, output_dir, name) for name in shards], work))
    shutil.rmtree(work, ignore_errors=True)
    of_task = [_split(decisions, tasks) for decisions in decided]
    jobs = []
    for state in states:
        mine = [parts.get(state.index, Decisions()) for parts in of_task]
        for name, sizes in state.shards.items():
            if sizes[0]:
                jobs.append((pipeline, mine, output_dir, name, state.fingerprint))
    _clean(output_dir, states, pipeline)
    results = run_parallel(_rewrite, jobs, num_workers, output_dir)
    _link_rest(states, output_dir)
    logs = {step.name: StepLog() for step in pipeline.corpus_steps}
    totals: dict[str, int] = {"documents": 0, "characters": 0, "utf8_bytes": 0}
    for name, decisions in zip(logs, decided, strict=True):
        logs[name].add(decisions.log)
    for result in results:
        for name, numbers in result["steps"].items():
            logs[name].add(StepLog.from_numbers(numbers))
        for name, number in result["totals"].items():
            totals[name] = totals.get(name, 0) + number
    return logs, totals


def _split(decisions: Decisions, tasks: Sequence[Task]) -> dict[int, Decisions]:
    """The decisions that concern each task, by the ranges of the sources."""
    ranges: dict[str, tuple[list[int], list[int]]] = {}
    for task in tasks:
        for part in task.parts:
            firsts, indexes = ranges.setdefault(part.file.id, ([], []))
            firsts.append(part.first_record)
            indexes.append(task.index)
    found: dict[int, Decisions] = {}
    for attribute in ("drops", "edits", "origins"):
        for identifier, value in getattr(decisions, attribute).items():
            for index in _tasks_of(identifier, ranges) or [task.index for task in tasks]:
                getattr(found.setdefault(index, Decisions()), attribute)[identifier] = value
    return found


def _tasks_of(identifier: str, ranges: dict[str, tuple[list[int], list[int]]]) -> list[int]:
    """The task that reads a document; none known for ids that are not made of a path and a number."""
    source, _, number = identifier.rpartition("#")
    if number.isdigit() and source in ranges:
        firsts, indexes = ranges[source]
        return [indexes[max(0, bisect_right(firsts, int(number)) - 1)]]
    if identifier in ranges:
        return ranges[identifier][1]
    return []


def _rewrite(
    pipeline: Pipeline, decided: Sequence[Decisions], output_dir: Path, shard: str, task_fingerprint: str
) -> dict[str, Any]:
    """One shard by the decisions; what it did is kept in a state file, so that it is not done twice."""
    staged, final = output_dir / STAGED / "documents" / shard, output_dir / "documents" / shard
    values = [[sorted(each.drops.items()), sorted(each.edits.items())] for each in decided]
    fingerprint = digest(json.dumps([task_fingerprint, staged.stat().st_size, pipeline.corpus_fingerprint(), values]))
    state_path = output_dir / "documents" / ".state" / f"final-{shard.removesuffix('.jsonl.zst')}.json"
    kept = _read_json(state_path)
    if kept and kept["fingerprint"] == fingerprint and (final.stat().st_size if final.exists() else 0) == kept["size"]:
        result: dict[str, Any] = kept
        return result
    final_shard = _FinalShard(pipeline, decided, output_dir, shard)
    try:
        for document in _documents(staged):
            final_shard.add(document)
        size = final_shard.close(staged)
    finally:
        final_shard.discard()
    result = {
        "fingerprint": fingerprint, "size": size, "totals": final_shard.totals,
        "steps": {name: log.numbers() for name, log in final_shard.logs.items()},
    }  # fmt: skip
    with atomic_file(state_path) as out:
        json.dump(result, out)
    return result


class _FinalShard:
    """One final shard while it is written: the documents that survive, and rejects of the corpus steps."""

    def __init__(self, pipeline: Pipeline, decided: Sequence[Decisions], output_dir: Path, shard: str) -> None:
        self._chain = list(zip(pipeline.corpus_steps, decided, strict=True))
        self._final = output_dir / "documents" / shard
        self._audits = {step.name: output_dir / "audit" / step.name / shard for step in pipeline.corpus_steps}
        self._rejects = output_dir / "rejects" / f"{shard.removesuffix('.jsonl.zst')}-corpus.jsonl.zst"
        self._writers = {self._final: JsonlWriter(self._final)}
        self._changed = False
        self.logs = {step.name: StepLog() for step in pipeline.corpus_steps}
        self.totals: dict[str, int] = {"documents": 0, "characters": 0, "utf8_bytes": 0}

    def add(self, document: Document) -> None:
        """Passes a document through the corpus steps."""
        text = document.text
        survivor: Document | None = document
        for step, decisions in self._chain:
            if survivor is None:
                break
            log = self.logs[step.name]
            survivor = run_corpus_step(step, survivor, decisions, log)
            for position in log.positions:
                self._write(self._audits[step.name], position)
            log.positions.clear()
            if survivor is None:
                entry = {"id": document.id, "source": document.source, "step": step.name, "reason": log.reason}
                rest = {"detail": log.detail, "characters": len(text), "text": text}
                self._write(self._rejects, {**entry, **rest})
        self._changed = self._changed or survivor is None or survivor.text != text
        if survivor is not None:
            self._writers[self._final].write(survivor.to_json())
            size = len(survivor.text.encode("utf-8"))
            counts = {"documents": 1, "characters": len(survivor.text), "utf8_bytes": size, f"lang:{survivor.lang}": 1}
            for name, number in counts.items():
                self.totals[name] = self.totals.get(name, 0) + number

    def _write(self, path: Path, entry: dict[str, Any]) -> None:
        if path not in self._writers:
            self._writers[path] = JsonlWriter(path)
        self._writers[path].write(json_line(entry))

    def close(self, staged: Path) -> int:
        """Puts the files on disk; returns the bytes of the documents file, 0 where no document is left."""
        for path in (self._rejects, *self._audits.values()):
            if path in self._writers:
                self._writers.pop(path).commit()
            else:
                path.unlink(missing_ok=True)
        if not self.totals["documents"]:
            self._final.unlink(missing_ok=True)
            return 0
        if self._changed:
            return self._writers.pop(self._final).commit()
        link(staged, self._final)
        return staged.stat().st_size

    def discard(self) -> None:
        """Removes what is not finished."""
        for writer in self._writers.values():
            writer.discard()


def link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):  # renaming one name of a file to another of it would do nothing
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
        temporary.chmod(0o600)
    os.replace(temporary, target)


def _link_rest(states: Sequence[TaskState], output_dir: Path) -> None:
    """Rejects, audit files and examples of the staged folder appear beside the final documents."""
    for state in states:
        names = [f"rejects/{name}" for name, sizes in state.shards.items() if sizes[1]]
        for relative in [*names, *state.sidecars]:
            link(output_dir / STAGED / relative, output_dir / relative)


def _clean(output_dir: Path, states: Sequence[TaskState], pipeline: Pipeline) -> None:
    """Removes final files whose shard is no more, private files that no step writes any more, temporary files of
    killed runs, and states of a run without corpus steps: its documents have been replaced."""
    shards = {name for state in states for name in state.shards}
    sidecars = {relative for state in states for relative in state.sidecars}
    sidecars |= {f"audit/{step.name}/{name}" for step in pipeline.corpus_steps for name in shards}
    for folder in ("documents", *_LINKED):
        for path in [*(output_dir / folder).rglob("[0-9]*.jsonl.zst"), *(output_dir / folder).rglob(".*.tmp")]:
            known = path.relative_to(output_dir).as_posix() in sidecars or folder in ("documents", "rejects")
            if not known or path.name.replace("-corpus.jsonl.zst", ".jsonl.zst") not in shards:
                path.unlink(missing_ok=True)
    states_dir = output_dir / "documents" / ".state"
    for path in states_dir.glob("[0-9]*.json"):
        path.unlink(missing_ok=True)
    for path in states_dir.glob("final-*.json"):
        if path.stem.removeprefix("final-") + ".jsonl.zst" not in shards:
            path.unlink(missing_ok=True)


def remove_corpus_results(output_dir: Path) -> None:
    """Removes what corpus steps of an earlier run left, where there are none any more."""
    for path in [
        *(output_dir / "rejects").glob("*-corpus.jsonl.zst"),
        *(output_dir / "documents" / ".state").glob("final-*.json"),
    ]:
        path.unlink(missing_ok=True)
    shutil.rmtree(output_dir / STAGED, ignore_errors=True)
