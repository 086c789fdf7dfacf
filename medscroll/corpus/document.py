"""The document: one text with an id, its source and its sections; one line of `DATA/documents/*.jsonl.zst`.

`Document.to_json` and `from_json` are inverse to each other. Cost: one pass over the text for the hash and one over
at most 100,000 characters for the language.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import xxhash

from medscroll.corpus.code_points import CharacterClasses

_SCRIPTS = CharacterClasses(
    {
        "han": [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)],
        "latin": [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F)],
        "japanese": [(0x3040, 0x30FF)],
        "other": [(0x370, 0xFFF), (0x1000, 0x1CFF), (0xAC00, 0xD7AF)],
    }
)
_LANGUAGE_WINDOW = 50_000  # characters looked at from either end


@dataclass(slots=True)
class Section:
    """Where a section of a document starts: `start` is a character offset into the text, `level` is 1 for the
    outermost, `title` its heading (may be empty), `page` the page of the source that it starts on, from 1; 0 where the
    source has no pages."""

    start: int
    level: int
    title: str
    page: int = 0


@dataclass(slots=True)
class Document:
    """One text as it goes into tokenization.

    Attributes:
        id: `<path relative to the source root>` for files that hold one document, `<path>#<record number>` for
            records (counted from 1; for JSONL the line number). Unique within a corpus.
        text: the text; lines end in `\\n`.
        source: the path of the file it came from, relative to the source root.
        lang: "zh", "en" (Latin script) or "other", by script.
        title, licence: where the source states them.
        sections: ascending by `start`.
        metadata: what else the source states (article ids, journal, year, other fields of a record, encoding).
    """

    id: str
    text: str
    source: str
    lang: str = "other"
    title: str | None = None
    sections: list[Section] = field(default_factory=list)
    licence: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """xxh3_128 of the UTF-8 text, 32 hex digits: equal for equal texts, whatever their ids."""
        return hash_text(self.text)

    def to_json(self) -> str:
        """One line of JSON without the line end; metadata that is not Unicode is escaped, not lost."""
        values = asdict(self)
        for section in values["sections"]:
            if not section["page"]:
                del section["page"]
        return json_line(values)

    @classmethod
    def from_json(cls, line: str | bytes) -> Document:
        """The document of a line written by `to_json`."""
        values = json.loads(line)
        values["sections"] = [Section(**section) for section in values["sections"]]
        return cls(**values)


def hash_text(text: str) -> str:
    """xxh3_128 hex digest of the UTF-8 bytes of a text (lone surrogates, which no document holds, are hashed as is)."""
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def json_line(value: Any) -> str:
    """`value` as one line of JSON that can be encoded as UTF-8: escaped to ASCII only where it has lone surrogates."""
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value, separators=(",", ":"))
    return line


def detect_language(text: str) -> str:
    """ "zh", "en" or "other", by counting scripts in the first and last 50,000 characters.

    A Chinese character weighs as much as two Latin letters, since Chinese clinical text is full of Latin names of
    drugs and tests. "en" means Latin script: languages that share it are not told apart here.
    """
    sample = text if len(text) <= 2 * _LANGUAGE_WINDOW else text[:_LANGUAGE_WINDOW] + text[-_LANGUAGE_WINDOW:]
    han, latin, japanese, others = _SCRIPTS.count(sample).values()
    if japanese > 0.1 * han and japanese >= latin / 4 and japanese > 0:
        return "other"
    weights = {"zh": 2 * han, "en": latin, "other": 2 * others}
    best = max(weights, key=lambda name: weights[name])
    return best if weights[best] else "other"
