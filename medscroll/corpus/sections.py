"""The step `sections`: where the sections of a document begin, for the cuts of the token store and for the reader.

Sections that the format states (JATS, HTML, notes joined to an admission) stay; elsewhere headings are looked for
(`headings.py`). The step comes after the repairs, so that titles are those of the repaired text; what later steps
change moves sections along (`edit_text`). Counted: `document_with_sections`, `document_without_sections`,
`stated_section`, `found_section`; a histogram of sections a document.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from medscroll.corpus.configuration import config_fingerprint
from medscroll.corpus.document import Document
from medscroll.corpus.headings import find_sections
from medscroll.corpus.step import StepLog

_EDGES = (0, 1, 3, 10, 30, 100, 300, 1000)


@dataclass
class SectionsConfig:
    """Keys of the step `sections`."""

    enabled: bool = field(default=True, metadata={"help": "Look for headings where the format states no sections."})

    def build(self) -> Sections:
        """The step."""
        return Sections(self)


class Sections:
    """Fills in `Document.sections`; see the module."""

    name = "sections"
    version = 1

    def __init__(self, config: SectionsConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document with its sections."""
        if document.sections:
            log.count("stated_section", len(document.sections))
        else:
            document.sections = find_sections(document.text)
            log.count("found_section", len(document.sections))
        number = len(document.sections)
        log.count("document_with_sections" if number else "document_without_sections")
        log.observe("sections", next((f"<={edge}" for edge in _EDGES if number <= edge), f">{_EDGES[-1]}"))
        return document
