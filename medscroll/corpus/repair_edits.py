"""What the repair steps share: edits under stable names, counted so that every character is accounted for.

A step collects `Changes` and applies them once. For each name the log then holds how many edits there were, and for
the step as a whole `removed_characters` and `added_characters`: characters in - removed + added = characters out, for
every document. Cost: one pass over the text for all edits of a step together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from medscroll.corpus.document import Document
from medscroll.corpus.step import EXAMPLE_ROOM, Edit, StepLog, edit_text

_SHOWN = 200  # characters of a change that an example shows


@dataclass(slots=True)
class Changes:
    """Edits of one document by name. They may be added in any order; they must not overlap."""

    edits: list[Edit] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, name: str, start: int, stop: int, replacement: str = "") -> None:
        """Characters `start` to `stop` of the text become `replacement`; counted once under `name`, if it has one."""
        self.edits.append((start, stop, replacement))
        self.names.append(name)

    def apply(self, document: Document, log: StepLog) -> bool:
        """Changes the text, moves its sections along, counts; whether anything changed."""
        text = document.text
        removed = added = 0
        changed: list[Edit] = []
        counts: Counter[str] = Counter()
        wanted = {name: log.wants_example(name) for name in set(self.names) if name}
        for name, edit in zip(self.names, self.edits, strict=True):
            start, stop, replacement = edit
            before = text[start:stop]
            if before == replacement:
                continue
            changed.append(edit)
            if name:
                counts[name] += 1
            same = _common(before, replacement) if before and replacement else 0
            removed += len(before) - same
            added += len(replacement) - same
            if name and wanted[name]:
                left, right = text[max(0, start - EXAMPLE_ROOM) : start], text[stop : stop + EXAMPLE_ROOM]
                old, new = before[:_SHOWN], replacement[:_SHOWN]
                log.example(name, document, f"{left}{old}{right}", f"{left}{new}{right}")
                wanted[name] = log.wants_example(name)
        for name, number in counts.items():
            log.count(name, number)
        log.count("removed_characters", removed)
        log.count("added_characters", added)
        edit_text(document, changed)
        return bool(changed)


def _common(before: str, after: str) -> int:
    """Characters that both share at their start and end: they are neither removed nor added."""
    most = min(len(before), len(after))
    head = 0
    while head < most and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < most - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return head + tail


def change_titles(document: Document, change: Callable[[str], str]) -> None:
    """The same change to the titles of a document and its sections, which repeat what the text says."""
    if document.title:
        document.title = change(document.title)
    document.sections = [replace(section, title=change(section.title)) for section in document.sections]
