"""Counts over prepared documents that add up: part by part, shard by shard, in memory that does not grow with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from medscroll.corpus.document import Document

SPLITS = ("train", "validation")
MAX_SOURCES = 200  # rows kept of the table of sources
OTHER_SOURCES = "(other sources)"


@dataclass
class Statistics:
    """Counts over documents; they add up. `sources`: name -> [documents, characters, bytes, tokens]."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    train_documents: int = 0
    validation_documents: int = 0
    documents_with_special_tokens: int = 0
    unknown_tokens: int = 0
    documents_without_cuts: int = 0
    cuts: dict[str, int] = field(default_factory=dict)
    sources: dict[str, list[int]] = field(default_factory=dict)

    def add(self, other: Statistics) -> None:
        """Adds the counts of other documents."""
        for name, value in asdict(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        for level, count in other.cuts.items():
            self.cuts[level] = self.cuts.get(level, 0) + count
        for source, row in other.sources.items():
            self.add_source(source, row)

    def add_source(self, source: str, row: list[int]) -> None:
        """Adds to one row of the table of sources; past `MAX_SOURCES` rows the rest share one."""
        if source not in self.sources and len(self.sources) >= MAX_SOURCES:
            source = OTHER_SOURCES
        old = self.sources.get(source, [0, 0, 0, 0])
        self.sources[source] = [a + b for a, b in zip(old, row, strict=True)]


def source_group(document: Document) -> str:
    """What the report counts together: a file of records, or the like files of a folder that are a document each."""
    if document.id != document.source:
        return document.source
    folder, _, name = document.source.rpartition("/")
    suffixes = "".join(f".{part}" for part in name.lower().split(".")[1:] if len(part) <= 5 and not part.isdigit())
    for packing in (".gz", ".zst"):
        suffixes = suffixes.removesuffix(packing)
    return f"{folder}/*{suffixes}" if folder else f"*{suffixes}"
