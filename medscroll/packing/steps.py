"""What the corpus steps did, added up for the ledger: in = out + rejected by reason, step by step, and who was a copy.

Everything here is ids, names and numbers: no text. Cost: the numbers of the steps; of the list of copies as many lines
as are listed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from medscroll.corpus.files import read_jsonl_zst
from medscroll.corpus.stage import DocumentsSummary
from medscroll.corpus.step import StepLog

LISTED = 1000  # copies that the ledger names; all are in the audit file
COPIES = "deduplicate"


def added_steps(summaries: Mapping[str, DocumentsSummary]) -> dict[str, dict[str, Any]]:
    """Step -> its numbers (as `StepLog.numbers`), over all groups of sources, in the order of the steps."""
    logs: dict[str, StepLog] = {}
    for summary in summaries.values():
        for name, numbers in summary.steps.items():
            logs.setdefault(name, StepLog()).add(StepLog.from_numbers(numbers))
    return {name: log.numbers() for name, log in logs.items()}


def step_checks(steps: Mapping[str, Mapping[str, Any]], kept: int, characters: int) -> dict[str, bool]:
    """Whether the numbers of the steps balance, by the name of the check.

    Args:
        kept, characters: documents at the end, and their characters.
    """
    lost = [
        name
        for name, each in steps.items()
        if each["documents"]["in"]
        != each["documents"]["out"] + sum(reason["documents"] for reason in each["rejected"].values())
    ]
    flow = list(steps.values())
    passed = all(
        before[kind]["out"] == after[kind]["in"]
        for before, after in pairwise(flow)
        for kind in ("documents", "characters")
    )
    last = flow[-1] if flow else {"documents": {"out": kept}, "characters": {"out": characters}}
    return {
        "documents into a step = out of it + rejected by reason": not lost,
        "documents and characters out of a step = into the next": passed,
        "out of the last step = kept": (last["documents"]["out"], last["characters"]["out"]) == (kept, characters),
    }


def files_left_out(summaries: Mapping[str, DocumentsSummary]) -> dict[str, int]:
    """Files and folders that were never opened, or not read to their end, by reason: the rejects of no step."""
    rest: Counter[str] = Counter()
    for summary in summaries.values():
        rest.update(summary.rejects)
        for numbers in summary.steps.values():
            rest.subtract({reason: each["documents"] for reason, each in numbers["rejected"].items()})
    return {reason: number for reason, number in sorted(rest.items()) if number}


def listed_copies(folders: list[Path], limit: int = LISTED) -> list[dict[str, Any]]:
    """The first documents and sections that went as copies: {"id", "reason", "detail"}, the detail names what stayed.

    Args:
        folders: prepared folders (`DATA`, `DATA/validation`).
    """
    lines = (line for folder in folders for path in _audit(folder) for line in read_jsonl_zst(path))
    entries = (
        {"id": position["id"], "reason": entry["reason"], "detail": entry["detail"]}
        for position in map(json.loads, lines)
        for entry in position["entries"]
    )
    return list(islice(entries, limit))


def _audit(folder: Path) -> list[Path]:
    return sorted((folder / "audit" / COPIES).glob("[0-9]*.jsonl.zst"))


def copies_in_words(steps: Mapping[str, Mapping[str, Any]], folders: list[Path]) -> dict[str, Any]:
    """The part of the ledger on copies; empty where copies were not looked for."""
    if COPIES not in steps:
        return {}
    numbers = steps[COPIES]
    documents = sum(each["documents"] for each in numbers["rejected"].values())
    sections = numbers["counts"].get("duplicate_section", 0)
    return {
        "documents": documents,
        "sections": sections,
        "listed": listed_copies(folders),
        "all_of_them": f"audit/{COPIES}/" if documents + sections else "",
    }


def private_files(folders: list[Path]) -> dict[str, int]:
    """Private files (mode 0600) beside the documents: folder -> number of files."""
    counts: Counter[str] = Counter()
    for folder in folders:
        for path in [*(folder / "rejects").glob("*.zst"), *(folder / "examples").glob("*.zst"),
                     *(folder / "audit").glob("*/*.zst")]:  # fmt: skip
            counts[path.parent.relative_to(folder).as_posix()] += 1
    return dict(sorted(counts.items()))
