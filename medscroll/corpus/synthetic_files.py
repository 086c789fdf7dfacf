"""The synthetic corpus as files, in a mix of all formats and encodings that the readers know.

Chinese documents go to UTF-8 and GB18030 text, Markdown and records, English ones to text, JATS and records; the
record files are JSONL, JSONL in gzip and zstd, CSV, JSON and Parquet. The bytes depend only on the arguments (Parquet
also on the version of pyarrow).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import zstandard

from medscroll.corpus.files import atomic_file
from medscroll.corpus.synthetic import LEAST_MAXIMUM, SyntheticDocument, generate_documents
from medscroll.errors import ConfigError

MARKER = ".medscroll_sample.json"  # tells that a folder holds a sample; never read as a document
_FORMATS = {
    "zh": ("txt", "txt_gb18030", "md", "jsonl", "jsonl.zst", "csv", "txt", "txt_gb18030", "txt_utf16", "parquet"),
    "en": ("txt", "xml", "md", "jsonl.gz", "xml", "json", "txt", "xml", "jsonl", "csv"),
}
_SINGLE = {"txt": "txt", "txt_gb18030": "txt", "txt_utf16": "txt", "md": "md", "xml": "nxml"}
_ENCODINGS = {"txt_gb18030": "gb18030", "txt_utf16": "utf-16"}


@dataclass(slots=True)
class SampleSummary:
    """What was written: totals, and documents by kind, language and format; `longest` in characters."""

    documents: int = 0
    characters: int = 0
    longest: int = 0
    bytes: int = 0
    files: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def write_sample(
    folder: Path,
    *,
    documents: int = 200,
    seed: int = 0,
    max_characters: int = 200_000,
    validation_documents: int = 0,
    overwrite: bool = False,
) -> SampleSummary:
    """Writes the corpus into `folder`; with validation documents, into `folder/train` and `folder/validation`.

    Args:
        folder: new, empty, or (with `overwrite`) one that holds a sample, which is removed first.
        documents: how many, validation not counted.
        seed: decides the text.
        max_characters: the longest length.
        validation_documents: how many more, of their own.
        overwrite: whether a previous sample is replaced.

    Raises:
        ConfigError: the folder holds something else, or a number is too small.
    """
    _check(folder, documents, max_characters, validation_documents, overwrite)
    if (folder / MARKER).exists():
        for name in json.loads((folder / MARKER).read_bytes()).get("entries", []):
            entry = folder / name
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    everything = list(generate_documents(documents + validation_documents, seed=seed, max_characters=max_characters))
    parts = {".": everything[:documents]}
    if validation_documents:
        parts = {"train": everything[:documents], "validation": everything[documents:]}
    settings = {"documents": documents, "seed": seed, "max_characters": max_characters}
    settings["validation_documents"] = validation_documents
    formats: Counter[str] = Counter()
    files: dict[str, bytes] = {}
    for part, chosen in parts.items():
        for path, data in _files_of(chosen, formats):
            files[path if part == "." else f"{part}/{path}"] = data
    # The marker comes first, so that an interrupted sample can be replaced.
    entries = sorted({name.split("/")[0] for name in files})
    with atomic_file(folder / MARKER) as out:
        json.dump({**settings, "entries": entries, "note": "made-up texts, written by medscroll sample"}, out)
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return SampleSummary(
        documents=len(everything),
        characters=sum(document.characters for document in everything),
        longest=max(document.characters for document in everything),
        bytes=sum(map(len, files.values())),
        files=len(files),
        kinds=dict(sorted(Counter(document.kind for document in everything).items())),
        languages=dict(sorted(Counter(document.lang for document in everything).items())),
        formats=dict(sorted(formats.items())),
    )


def _check(folder: Path, documents: int, max_characters: int, validation: int, overwrite: bool) -> None:
    problems = []
    if documents < 1:
        problems.append(ConfigError("at least one document is needed", f"--documents {documents}", "give 1 or more"))
    if validation < 0:
        problems.append(ConfigError("a number of documents cannot be negative", f"--validation_documents {validation}"))
    if max_characters < LEAST_MAXIMUM:
        problems.append(
            ConfigError(
                "the longest document needs room for 2,000 characters",
                f"--max_characters {max_characters}",
                "give 2000 or more",
            )
        )
    if folder.exists() and not folder.is_dir():
        problems.append(ConfigError("there is a file of that name", str(folder), "name another folder"))
    elif folder.is_dir() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            problems.append(
                ConfigError("the folder is not empty and holds no sample", str(folder), "name a new or an empty folder")
            )
        elif not overwrite:
            problems.append(
                ConfigError("the folder holds a sample already", str(folder), "add --overwrite to replace it")
            )
    if problems:
        raise ConfigError.collect(problems)


def _files_of(documents: Iterable[SyntheticDocument], formats: Counter[str]) -> Iterable[tuple[str, bytes]]:
    """(path, bytes) of every file."""
    records: dict[str, list[dict[str, str]]] = {}
    for document in documents:
        names = _FORMATS[document.lang]
        name = names[document.number // 2 % len(names)]
        formats[name] += 1
        if name in _SINGLE:
            text = {"md": as_markdown, "xml": as_jats}.get(name, as_text)(document)
            folder = {"xml": "articles", "md": "notes"}.get(name, f"books_{document.lang}")
            path = f"{folder}/{document.kind}_{document.number:05d}.{_SINGLE[name]}"
            yield path, text.encode(_ENCODINGS.get(name, "utf-8"))
        else:
            record = {"title": document.title, "kind": document.kind, "text": as_text(document)}
            records.setdefault(name, []).append(record)
    for name, rows in sorted(records.items()):
        yield f"records/records.{name}", _RECORD_WRITERS[name](rows)


def as_text(document: SyntheticDocument) -> str:
    """Plain text: 【主诉】 headings in Chinese, `Chief Complaint:` in English; paragraphs apart by a blank line."""
    blocks = [document.title]
    for heading, paragraphs in document.sections:
        blocks.append(f"【{heading}】" if document.lang == "zh" else f"{heading}:")
        blocks += paragraphs
    return "\n\n".join(blocks) + "\n"


def as_markdown(document: SyntheticDocument) -> str:
    """Markdown with `#` and `##` headings."""
    blocks = [f"# {document.title}"]
    for heading, paragraphs in document.sections:
        blocks += [f"## {heading}", *paragraphs]
    return "\n\n".join(blocks) + "\n"


def as_jats(document: SyntheticDocument) -> str:
    """A JATS article with an abstract, sections, superscripts, a table and a reference."""
    first, *others = document.sections
    body = "".join(
        f"<sec><title>{_xml(heading)}</title>{''.join(f'<p>{_xml(text)}</p>' for text in paragraphs)}</sec>"
        for heading, paragraphs in others
    )
    abstract = "".join(f"<p>{_xml(text)}</p>" for text in first[1])
    table = (
        "<table-wrap><label>Table 1</label><caption><p>Made-up values.</p></caption><table><thead><tr><th>Test</th>"
        "<th>Before</th><th>After</th></tr></thead><tbody><tr><td>White cell count</td><td>12.3 ×10<sup>9</sup>/L</td>"
        "<td>7.1 ×10<sup>9</sup>/L</td></tr></tbody></table></table-wrap>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<article article-type="research-article"><front><journal-meta>'
        "<journal-title-group><journal-title>Journal of Made-up Medicine</journal-title></journal-title-group>"
        f'</journal-meta><article-meta><article-id pub-id-type="publisher-id">sample-{document.number}</article-id>'
        f"<title-group><article-title>{_xml(document.title)}</article-title></title-group><pub-date><year>2020</year>"
        "</pub-date><permissions><license><license-p>Synthetic text, free for any use.</license-p></license>"
        f"</permissions><abstract>{abstract}</abstract></article-meta></front>"
        f"<body>{body}{table}</body><back><ref-list><ref><mixed-citation>A reference.</mixed-citation></ref></ref-list>"
        "</back></article>\n"
    )


def _xml(text: str) -> str:
    return escape(text).replace("×10⁹/L", "×10<sup>9</sup>/L")


def _jsonl(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _csv(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8-sig")


def _parquet(rows: list[dict[str, str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


_RECORD_WRITERS: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "jsonl": _jsonl,
    "jsonl.gz": lambda rows: gzip.compress(_jsonl(rows), mtime=0),
    "jsonl.zst": lambda rows: zstandard.ZstdCompressor().compress(_jsonl(rows)),
    "json": lambda rows: json.dumps({"data": rows}, ensure_ascii=False, indent=1).encode(),
    "csv": _csv,
    "parquet": _parquet,
}
