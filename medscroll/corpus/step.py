"""The contract of the steps that documents pass through between reading and writing.

A `Step` looks at one document at a time: it changes it, replaces it, or rejects it with a reason. It keeps no state
between documents and is picklable, so any scheduler may run it on any shard in any order. A `CorpusStep` needs the
whole corpus (deduplication): it writes what it must know of each shard into a folder (in parallel), decides over all
folders at once, and its decisions are then applied when the shards are rewritten (in parallel again).

Everything that a step does is counted in its `StepLog` under names that stay the same from version to version; the
ledger, the report and the private files are made of these logs alone. Nothing here knows how steps are scheduled.
Cost: `edit_text` is one pass over the text, whatever the number of edits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from medscroll.corpus.document import Document, Section

EXAMPLES = 3  # before/after pairs kept under one name of a step in one shard
EXAMPLE_ROOM = 40  # characters shown on either side of a change

Edit = tuple[int, int, str]  # (start, stop, what stands there afterwards)


@dataclass(frozen=True, slots=True)
class Example:
    """A change as it was made: goes, after de-identification, into a private file (mode 0600), never elsewhere."""

    name: str
    document: str
    before: str
    after: str


@dataclass(slots=True)
class StepLog:
    """What one step did to the documents of one shard. Plain data; logs of shards are added up with `add`.

    Attributes:
        counts: changes by stable name, such as {"wrapped_line": 812}. A name is lower_snake_case.
        rejects: reason -> [documents, characters].
        histograms: name -> bucket -> how many (for plots: never text).
        positions: one object a document for the audit file of a step that keeps one: positions and kinds, no text.
        examples: at most `EXAMPLES` a name.
        documents, characters: [in, out]; the scheduler fills them in.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rejects: dict[str, list[int]] = field(default_factory=dict)
    histograms: dict[str, Counter[str]] = field(default_factory=dict)
    positions: list[dict[str, Any]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    documents: list[int] = field(default_factory=lambda: [0, 0])
    characters: list[int] = field(default_factory=lambda: [0, 0])
    reason: str = ""
    detail: str = ""

    def count(self, name: str, number: int = 1) -> None:
        """Counts changes under a stable name; zero is not counted."""
        if number:
            self.counts[name] += number

    def reject(self, reason: str, detail: str = "") -> None:
        """Says why the document that is being looked at is dropped; the step then returns None.

        Args:
            reason: a stable name. detail: numbers and ids only, no text of the document.
        """
        self.reason, self.detail = reason, detail

    def observe(self, histogram: str, bucket: str | int | float) -> None:
        """Adds one to a bucket of a histogram."""
        self.histograms.setdefault(histogram, Counter())[str(bucket)] += 1

    def position(self, document: Document, entries: Sequence[Mapping[str, Any]]) -> None:
        """One line of the audit file: the document's id and its entries, such as {"kind": "phone", "start": 17,
        "stop": 28}. Offsets are those of the text as the step got it."""
        self.positions.append({"id": document.id, "entries": [dict(entry) for entry in entries]})

    def wants_example(self, name: str) -> bool:
        """Whether another example under this name would be kept: ask before cutting one out of a long text."""
        return sum(example.name == name for example in self.examples) < EXAMPLES

    def example(self, name: str, document: Document, before: str, after: str) -> None:
        """Keeps a before/after pair for the private file while there is room for it."""
        if self.wants_example(name):
            self.examples.append(Example(name, document.id, before, after))

    def enter(self, characters: int) -> None:
        """A document of so many characters comes in (called by the scheduler, not by steps)."""
        self.reason = self.detail = ""
        self.documents[0] += 1
        self.characters[0] += characters

    def leave(self, characters: int) -> None:
        """The document goes out with so many characters."""
        self.documents[1] += 1
        self.characters[1] += characters

    def leave_rejected(self, reason: str, characters: int) -> None:
        """The document that came in with so many characters is rejected."""
        rejected = self.rejects.setdefault(reason, [0, 0])
        rejected[0] += 1
        rejected[1] += characters

    def add(self, other: StepLog) -> None:
        """Adds the numbers of another shard; positions and examples stay in the files of their shard."""
        self.counts.update(other.counts)
        for reason, (documents, characters) in other.rejects.items():
            before = self.rejects.setdefault(reason, [0, 0])
            before[0] += documents
            before[1] += characters
        for name, buckets in other.histograms.items():
            self.histograms.setdefault(name, Counter()).update(buckets)
        self.documents = [a + b for a, b in zip(self.documents, other.documents, strict=True)]
        self.characters = [a + b for a, b in zip(self.characters, other.characters, strict=True)]

    def numbers(self) -> dict[str, Any]:
        """What the ledger holds of it: plain values, keys sorted, no text and no positions."""
        return {
            "documents": {"in": self.documents[0], "out": self.documents[1]},
            "characters": {"in": self.characters[0], "out": self.characters[1]},
            "rejected": {
                reason: {"documents": documents, "characters": characters}
                for reason, (documents, characters) in sorted(self.rejects.items())
            },
            "counts": dict(sorted(self.counts.items())),
            "histograms": {name: dict(sorted(buckets.items())) for name, buckets in sorted(self.histograms.items())},
        }

    @classmethod
    def from_numbers(cls, values: Mapping[str, Any]) -> StepLog:
        """The log of what `numbers` gave."""
        return cls(
            counts=Counter(values["counts"]),
            rejects={reason: [each["documents"], each["characters"]] for reason, each in values["rejected"].items()},
            histograms={name: Counter(buckets) for name, buckets in values["histograms"].items()},
            documents=[values["documents"]["in"], values["documents"]["out"]],
            characters=[values["characters"]["in"], values["characters"]["out"]],
        )


class Step(Protocol):
    """A step that looks at one document at a time.

    Attributes:
        name: stable, lower_snake_case; the key of the step in the configuration and in the ledger.
        version: raise it whenever the step would make something else of the same document: finished shards are then
            made again.
    """

    name: str
    version: int

    def fingerprint(self) -> str:
        """A text that changes with everything that decides what the step does: its configuration, and the content
        (not the path) of files that it reads."""
        ...

    def apply(self, document: Document, log: StepLog) -> Document | None:
        """The document, changed in place or another one; None where it is rejected (after `log.reject`).

        Pure: the same document gives the same result whatever was looked at before. Sections stay right (use
        `edit_text`).
        """
        ...


@dataclass(slots=True)
class Decisions:
    """What a `CorpusStep` decided.

    Attributes:
        drops: id of a document -> (reason, detail). The detail may name another id ("copy of ..."), never text.
        edits: id -> character ranges (start, stop) to take out of the text as the step saw it.
        origins: id -> for each of its ranges why, such as "copy of ...": ids and numbers, never text.
        log: counts and histograms of the decision itself (clusters, sizes).
    """

    drops: dict[str, tuple[str, str]] = field(default_factory=dict)
    edits: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    origins: dict[str, list[str]] = field(default_factory=dict)
    log: StepLog = field(default_factory=StepLog)


@runtime_checkable
class CorpusStep(Protocol):
    """A step that needs the whole corpus; its three phases may run in different processes and on different machines.

    `name`, `version` and `fingerprint` as for `Step`. A shard is one documents file; `folder` is a folder of its own
    for this step and shard, empty at the start, whose files are of mode 0600.
    """

    name: str
    version: int

    def fingerprint(self) -> str:
        """As for `Step`."""
        ...

    def prepare_shard(self, documents: Iterator[Document], folder: Path) -> None:
        """Writes what must be known of the documents of one shard (signatures, hashes, ids, lengths)."""
        ...

    def decide(self, folders: Sequence[Path], work_dir: Path) -> Decisions:
        """Decides over all shards, given in their order; memory is bounded, tables go to `work_dir` (temporary)."""
        ...

    def apply(self, document: Document, decisions: Decisions, log: StepLog) -> Document | None:
        """As `Step.apply`, with the decisions; `drop_or_cut` does it for most steps."""
        ...


def drop_or_cut(document: Document, decisions: Decisions, log: StepLog, name: str) -> Document | None:
    """The usual `CorpusStep.apply`: drops what is to be dropped, takes out ranges and counts them under `name`; the
    audit file of the step says of both why and where."""
    drop = decisions.drops.get(document.id)
    if drop is not None:
        log.position(document, [{"reason": drop[0], "detail": drop[1], "start": 0, "stop": len(document.text)}])
        log.reject(*drop)
        return None
    ranges = decisions.edits.get(document.id)
    if ranges:
        log.count(name, len(ranges))
        log.count(f"{name}_characters", sum(stop - start for start, stop in ranges))
        details = decisions.origins.get(document.id, [""] * len(ranges))
        entries = [
            {"reason": name, "detail": detail, "start": start, "stop": stop}
            for (start, stop), detail in zip(ranges, details, strict=True)
        ]
        log.position(document, entries)
        edit_text(document, [(start, stop, "") for start, stop in ranges])
    return document


def edit_text(document: Document, edits: Sequence[Edit]) -> int:
    """Applies edits to the text of a document in place and moves its sections along.

    A section that starts inside a replaced range moves to where the replacement begins; where sections come to lie at
    one place (their texts were taken out), the last of them stays; sections at the end of the text go.

    Args:
        document: changed in place.
        edits: (start, stop, replacement), offsets into the text as it is; in any order, not overlapping.

    Returns:
        the number of edits that changed something.

    Raises:
        ValueError: edits overlap or reach out of the text (a defect of the step).
    """
    text = document.text
    edits = sorted(edit for edit in edits if text[edit[0] : edit[1]] != edit[2])
    if not edits:
        return 0
    parts: list[str] = []
    position = 0
    for start, stop, replacement in edits:
        if not position <= start <= stop <= len(text):
            raise ValueError(f"edit {start}..{stop} overlaps another or lies outside of {len(text)} characters")
        parts += (text[position:start], replacement)
        position = stop
    parts.append(text[position:])
    document.text = "".join(parts)
    if document.sections:
        _move_sections(document, edits)
    return len(edits)


def _move_sections(document: Document, edits: Sequence[Edit]) -> None:
    starts = [start for start, _, _ in edits]
    shifts = [0, *accumulate(len(replacement) - (stop - start) for start, stop, replacement in edits)]
    moved: list[Section] = []
    for section in document.sections:
        # Edits that begin before the section shift it; one that begins right at it leaves it where it is.
        index = bisect_right(starts, section.start - 1)
        start, stop, _ = edits[index - 1] if index else (0, 0, "")
        inside = index > 0 and section.start < stop
        place = start + shifts[index - 1] if inside else section.start + shifts[index]
        if place >= len(document.text) and section.start > 0:
            continue
        if moved and moved[-1].start == place:
            moved.pop()
        moved.append(replace(section, start=place))
    document.sections = moved


def run_step(step: Step, document: Document, log: StepLog) -> Document | None:
    """Applies a step and fills in the numbers of its log: the scheduler's side of the contract.

    Raises:
        ValueError: the step returned None without a reason, or a reason with a document (a defect of the step).
    """
    length = len(document.text)
    log.enter(length)
    return _leave(step.apply(document, log), length, log, step.name)


def run_corpus_step(step: CorpusStep, document: Document, decisions: Decisions, log: StepLog) -> Document | None:
    """As `run_step`, for the last phase of a step that needs the whole corpus."""
    length = len(document.text)
    log.enter(length)
    return _leave(step.apply(document, decisions, log), length, log, step.name)


def _leave(result: Document | None, length: int, log: StepLog, name: str) -> Document | None:
    if (result is None) != bool(log.reason):
        raise ValueError(f"the step {name} rejects a document without a reason, or names a reason and keeps it")
    if result is None:
        log.leave_rejected(log.reason, length)
    else:
        log.leave(len(result.text))
    return result
