"""The steps `repeated_paragraphs` and `copied_paragraphs`: the same paragraph again and again in one document.

`repeated_paragraphs` (boilerplate: notices, licences, menus; preset web): a paragraph of some length that
occurs at least three times stays where it is first. `copied_paragraphs` (preset clinical): a paragraph that was copied
forward through the notes of an admission stays in the first note; only in a document of several notes: joined rows, or
two dated lines or headings of notes at least (a book that repeats a prescription is none). Paragraphs are compared word for word, blanks aside;
headings, table rows and listings of values are never compared, so that a value that was measured twice stays twice.
Counted: `repeated_paragraph`, `copied_paragraph`, their characters, `removed_run`.
Cost: about 40 million characters a second.
"""

# ruff: noqa: E501  (a Chinese character counts as two columns)

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import xxhash

from medscroll.corpus.configuration import config_fingerprint
from medscroll.corpus.document import Document
from medscroll.corpus.repair_edits import Changes
from medscroll.corpus.repair_lines import columns, is_listing, starts_something
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError

_BLOCK = re.compile(r"[^\n]+(?:\n[^\n]+)*")
_LINE = re.compile(r"[^\n]+")
_NOTE = re.compile(
    r"^[ \t#*【\[]{0,6}(?:(?:日期|时间|记录时间|Date|DATE)[：: ]{1,3})?(?:(?:19|20)\d{2}[-./年]\d{1,2}[-./月]\d{1,2}|\d{1,2}/\d{1,2}/(?:19|20)?\d{2}(?!\d))|"
    r"^[ \t#*【\[]{0,6}(?:[\u4e00-\u9fff]{0,8}(?:病程|查房|交班|接班|会诊|入院|出院|转科|护理|手术|随访)记录|[A-Za-z /\-]{0,24}(?:Note|NOTE|note)s?\b[^\n]{0,40}$|DISCHARGE SUMMARY|Discharge Summary)",
    re.MULTILINE,
)


@dataclass
class RepeatedParagraphsConfig:
    """Keys of the step `repeated_paragraphs`."""

    enabled: bool = field(default=False, metadata={"help": "Keep boilerplate paragraphs once a document."})
    least_columns: int = field(
        default=80, metadata={"help": "Width of a paragraph (a Chinese character counts two) to be compared."}
    )
    least_times: int = field(default=3, metadata={"help": "How often it must occur."})

    def build(self) -> Repeats:
        """The step.

        Raises:
            ConfigError: fewer than two times.
        """
        return _build("repeated_paragraphs", "repeated_paragraph", self.least_columns, self.least_times, self)


@dataclass
class CopiedParagraphsConfig:
    """Keys of the step `copied_paragraphs`."""

    enabled: bool = field(default=False, metadata={"help": "Keep what was copied forward through notes once."})
    least_columns: int = field(
        default=80, metadata={"help": "Width of a paragraph (a Chinese character counts two) to be compared."}
    )
    least_times: int = field(default=2, metadata={"help": "How often it must occur."})

    def build(self) -> Repeats:
        """The step.

        Raises:
            ConfigError: fewer than two times.
        """
        return _build("copied_paragraphs", "copied_paragraph", self.least_columns, self.least_times, self)


def _build(step: str, name: str, least_columns: int, least_times: int, config: object) -> Repeats:
    problems = []
    for key, value, least in (("least_columns", least_columns, 20), ("least_times", least_times, 2)):
        if value < least:
            problems.append(ConfigError(f"{step}.{key} is {value}", remedy=f"give {least} or more"))
    if problems:
        raise ConfigError.collect(problems)
    return Repeats(step, name, least_columns, least_times, config_fingerprint(config))


class Repeats:
    """Keeps the first of paragraphs that are the same; see the module."""

    version = 2

    def __init__(self, step: str, counted: str, least_columns: int, least_times: int, fingerprint: str) -> None:
        self.name = step
        self._counted = counted
        self._notes = counted == "copied_paragraph"
        self._columns, self._times = least_columns, least_times
        self._fingerprint = fingerprint

    def fingerprint(self) -> str:
        """The configuration."""
        return self._fingerprint

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document with each such paragraph once; first whole blocks, then single lines."""
        if self._notes and not _has_notes(document):
            return document
        for unit in (_BLOCK, _LINE):
            text = document.text
            found = [
                (match.start(), match.end(), _digest(match.group()))
                for match in unit.finditer(text)
                if 2 * (match.end() - match.start()) >= self._columns
            ]
            times = Counter(digest for _, _, digest in found)
            seen: set[bytes] = set()
            runs: list[list[int]] = []  # [start, stop] of repeated paragraphs with nothing but line ends between them
            for start, stop, digest in found:
                if times[digest] < self._times or not self._is_compared(text[start:stop]):
                    continue
                if digest in seen:
                    log.count(self._counted)
                    log.count(f"{self._counted}_characters", stop - start)
                    if runs and not text[runs[-1][1] : start].strip("\n"):
                        runs[-1][1] = stop
                    else:
                        runs.append([start, stop])
                seen.add(digest)
            changes = Changes()
            for start, stop in runs:
                # Of the line ends on either side the longer run stays, so that what is left keeps its blank lines.
                after = stop
                while text[after : after + 1] == "\n":
                    after += 1
                if after == len(text) or (after - stop > 1 and text[start - 2 : start] != "\n\n"):
                    changes.add("removed_run", start - 1, stop)
                else:
                    changes.add("removed_run", start, after)
            changes.apply(document, log)
        return document

    def _is_compared(self, paragraph: str) -> bool:
        if columns(paragraph) < self._columns:
            return False
        lines = paragraph.split("\n")
        if len(lines) > 1:
            return not any(is_listing(line) for line in lines)
        return not (starts_something(paragraph) and paragraph[0] in "#|<") and not is_listing(paragraph)


def _has_notes(document: Document) -> bool:
    """Whether a document consists of several notes."""
    rows = document.metadata.get("rows")
    if isinstance(rows, int) and rows > 1:
        return True
    return len(_NOTE.findall(document.text)) > 1


def _digest(paragraph: str) -> bytes:
    return xxhash.xxh3_128_digest(" ".join(paragraph.split()).encode("utf-8", "surrogatepass"))
