"""The step `deidentify`: identifiers of persons become typed placeholders, consistent within a document.

`find_identifiers` unites the rules of the modules `deid_*` into spans that do not overlap; `Deidentify.apply` writes
`[NAME1]`, `[ID1]`, `[PHONE2]`, ... in their place: the same text gets the same number throughout a document. Outside
of the spans no character changes. In mode `audit` nothing changes at all. What is found goes into the audit file as
kinds, rules and positions, never as text. Rules find what has structure, a label or a cue; docs/deidentification.md
says what they cannot find. Cost: about 1.3 million characters a second and core.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from medscroll.corpus.deid_cells import table_cells
from medscroll.corpus.deid_dates import date_spans, high_ages, partial_date_spans, shift_of, shifted_dates
from medscroll.corpus.deid_fields import Fields
from medscroll.corpus.deid_names_en import ENGLISH_NAME_WORDS, english_names, repeated_english_names
from medscroll.corpus.deid_names_zh import chinese_names, repeated_names
from medscroll.corpus.deid_numbers import ENGLISH_WORDS, cued_ids, structured_ids
from medscroll.corpus.deid_places import ADDRESS_WORDS, addresses
from medscroll.corpus.deid_spans import PROTECTED_WORDS, Span, fold, protected_spans, resolve
from medscroll.corpus.deid_tables import FIRST_NAMES
from medscroll.corpus.deid_words import Words
from medscroll.corpus.document import Document
from medscroll.corpus.step import StepLog, edit_text
from medscroll.errors import ConfigError

KINDS = (
    "NAME", "ID", "RECORD", "PHONE", "EMAIL", "ADDRESS", "ORG", "INSURANCE", "ACCOUNT", "LICENSE", "PLATE", "VEHICLE",
    "DEVICE", "SSN", "BED", "URL", "IP", "AGE", "DATE",
)  # fmt: skip
SECRET_VARIABLE = "MEDSCROLL_DEID_SECRET"
_PLACEHOLDER = re.compile(rf"\[({'|'.join(KINDS)})(\d{{1,6}})\]")
WINDOW = 1_000_000  # characters looked at in one go
_WANTED = ENGLISH_WORDS | ENGLISH_NAME_WORDS | PROTECTED_WORDS | ADDRESS_WORDS
_MARK = "deidentified"  # key of the metadata


@dataclass
class DeidentifyConfig:
    """Keys of the step `deidentify`."""

    SHORTHAND: ClassVar[tuple[str, tuple[str, ...]]] = ("mode", ("replace", "audit"))
    enabled: bool = field(default=False, metadata={"help": "Find identifiers of persons."})
    mode: str = field(
        default="replace", metadata={"help": "replace them by placeholders; audit: only report where they are."}
    )
    dates: str = field(
        default="keep",
        metadata={
            "help": "keep; year: month and day are taken out; shift: all dates of a patient move by the same days."
        },
    )
    patient_field: str | None = field(
        default=None, metadata={"help": "Field of the metadata whose value moves dates together."}
    )
    skip_kinds: list[str] = field(
        default_factory=list, metadata={"help": "Kinds that are left alone, such as [URL, ORG]."}
    )

    def build(self) -> Deidentify:
        """The step.

        Raises:
            ConfigError: a value that does not exist, or dates are to be shifted without a secret.
        """
        problems = []
        if self.mode not in ("replace", "audit"):
            problems.append(ConfigError(f"deidentify.mode is {self.mode!r}", remedy="give replace or audit"))
        if self.dates not in ("keep", "year", "shift"):
            problems.append(ConfigError(f"deidentify.dates is {self.dates!r}", remedy="give keep, year or shift"))
        for kind in self.skip_kinds:
            if kind not in KINDS:
                problems.append(
                    ConfigError(f"deidentify.skip_kinds names {kind!r}", remedy=f"there are {', '.join(KINDS)}")
                )
        secret = os.environ.get(SECRET_VARIABLE, "")
        if self.dates == "shift" and len(secret) < 8:
            problems.append(
                ConfigError(
                    "deidentify.dates is shift, which needs a secret of at least 8 characters",
                    f"environment variable {SECRET_VARIABLE}",
                    f"export {SECRET_VARIABLE}=... (keep it from whoever gets the data, and the same for every run)",
                )
            )
        if problems:
            raise ConfigError.collect(problems)
        return Deidentify(self, secret if self.dates == "shift" else "")


def find_identifiers(text: str, dates: str = "keep", skip_kinds: Iterable[str] = ()) -> list[Span]:
    """All identifiers of a text, ascending, without overlaps.

    Args:
        dates: "keep"; "year": spans of what tells more than the year of a date, and of ages above 89; "shift": of
            dates that name no whole day, and of such ages.
    """
    spans: list[Span] = []
    protected: list[tuple[int, int]] = []
    for start, stop in _windows(text):
        found, untouchable = _in_window(text[start:stop], dates)
        spans += [replace(span, start=span.start + start, stop=span.stop + start) for span in found] if start else found
        protected += [(begin + start, end + start) for begin, end in untouchable]
    names = [span for span in spans if span.kind == "NAME"]
    if names:
        folded = fold(text)
        again = [*repeated_names(folded, names), *repeated_english_names(folded, names)]
        spans = resolve([*spans, *again], protected)
    skipped = set(skip_kinds)
    return [span for span in spans if span.kind not in skipped and span.stop > span.start]


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of about a million characters that end at line ends, so that memory does not grow with the text."""
    start = 0
    while start < len(text):
        stop = start + WINDOW
        if stop < len(text):
            line_end = text.find("\n\n", stop, stop + WINDOW)
            line_end = line_end if line_end >= 0 else text.find("\n", stop, stop + WINDOW)
            stop = line_end + 1 if line_end >= 0 else stop
        yield start, min(stop, len(text))
        start = stop


def _in_window(text: str, dates: str) -> tuple[list[Span], list[tuple[int, int]]]:
    folded = fold(text)
    words = Words(folded, _WANTED, FIRST_NAMES)
    found = list(structured_ids(folded))
    found += cued_ids(folded, words)
    found += chinese_names(folded)
    found += english_names(folded, words)
    found += table_cells(folded)
    found += addresses(folded, words)
    found += high_ages(folded)
    if dates == "year":
        found += date_spans(folded)
    elif dates == "shift":
        found += partial_date_spans(folded)
    protected = protected_spans(text, folded, words)
    return resolve(found, protected), protected


def placeholders(text: str, spans: Iterable[Span]) -> list[tuple[int, int, str]]:
    """(start, stop, placeholder) of each span; numbers go on after those of placeholders that the text has already."""
    last = _last_numbers(text)
    numbers: dict[tuple[str, str], int] = {}
    edits = []
    for span in spans:
        key = span.kind, re.sub(r"[\s\-.·,()_/]", "", fold(text[span.start : span.stop])).casefold()
        if key not in numbers:
            numbers[key] = last[span.kind] = last.get(span.kind, 0) + 1
        edits.append((span.start, span.stop, f"[{span.kind}{numbers[key]}]"))
    return edits


def _last_numbers(text: str) -> dict[str, int]:
    """Kind -> the greatest number of its placeholders in a text."""
    last: dict[str, int] = {}
    if "[" in text:
        for match in _PLACEHOLDER.finditer(text):
            last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    return last


class Deidentify:
    """Replaces identifiers, or in mode `audit` only says where they are."""

    name = "deidentify"
    version = 2

    def __init__(self, config: DeidentifyConfig, secret: str = "") -> None:
        self._config = config
        self._secret = secret

    def fingerprint(self) -> str:
        """The configuration, and a hash of the secret by which dates move."""
        mark = hashlib.blake2b(self._secret.encode(), digest_size=8).hexdigest() if self._secret else ""
        return repr((sorted(asdict(self._config).items()), mark))

    def _find(self, text: str) -> list[Span]:
        dates = "keep" if self._config.dates == "shift" else self._config.dates
        return find_identifiers(text, dates, self._config.skip_kinds)

    def apply(self, document: Document, log: StepLog) -> Document | None:
        """The document with placeholders; positions and counts go to the log."""
        config = self._config
        spans = find_identifiers(document.text, config.dates, config.skip_kinds)
        before: Any = document.metadata.get(_MARK)
        moved: list[tuple[int, int, str]] = []
        days = 0
        if (
            config.dates == "shift"
            and config.mode != "audit"
            and not (isinstance(before, dict) and before.get("dates") == "shift")
        ):
            # split_key: a hash of the fields of --split_by, the same for all documents of a patient
            patient = document.metadata.get(config.patient_field or "split_key")
            days = shift_of(self._secret, str(patient) if patient is not None else document.id)
            moved = list(shifted_dates(fold(document.text), days))
            taken = [(span.start, span.stop) for span in spans] + _protected(document.text)
            moved = [edit for edit in moved if not any(start < edit[1] and edit[0] < stop for start, stop in taken)]
        for span in spans:
            log.count(span.kind.lower())
            log.observe("rules", span.rule)
        log.count("shifted_date", len(moved))
        log.count("documents_with_identifiers", bool(spans))
        log.observe("identifiers_a_document", _bucket(len(spans)))
        if spans:
            log.position(
                document,
                [{"kind": span.kind, "rule": span.rule, "start": span.start, "stop": span.stop} for span in spans],
            )
        if config.mode == "audit":
            return document
        edits = placeholders(document.text, spans)
        replaced = {document.text[start:stop]: mark for start, stop, mark in edits}
        if edits or moved:
            edit_text(document, [*edits, *moved])
        fields = Fields(self._find, replaced, _last_numbers(document.text))
        fields.clean(document, (_MARK, "split_key", "quality", "repairs", "encoding", config.patient_field or ""))
        log.count("in_fields", fields.changed)
        if moved or (isinstance(before, dict) and before.get("dates") == "shift"):
            document.metadata[_MARK] = {"dates": "shift"}
        return document


def _protected(text: str) -> list[tuple[int, int]]:
    folded = fold(text)
    return protected_spans(text, folded, Words(folded, PROTECTED_WORDS, frozenset()))


def _bucket(number: int) -> str:
    return next((f"<={edge}" for edge in (0, 1, 3, 10, 30, 100, 300, 1000) if number <= edge), ">1000")
