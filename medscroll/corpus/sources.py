"""Which files a corpus consists of: found, named, hashed, divided into ranges that can be read on their own.

Folders are walked in sorted order. What is not read is listed with a reason and counted, never skipped silently:
hidden files and folders ("hidden") and files of an unknown kind inside a folder ("unsupported_format"). A file of an
unknown kind that is named itself is an error. Cost: every file is read once for its hash (several hundred MB a
second); a cache of (size, modification time) spares that the next time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from medscroll.corpus.files import atomic_file, open_source, split_suffixes
from medscroll.corpus.sources_recognised import bundle_pages
from medscroll.errors import DataError

FORMATS = {
    ".txt": "text", ".text": "text", ".md": "markdown", ".markdown": "markdown", ".json": "json",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".xml": "xml", ".nxml": "xml",
    ".html": "html", ".htm": "html", ".xhtml": "html", ".pdf": "pdf",
}  # fmt: skip
FORMAT_LIST = ".txt .md .json .jsonl .csv .parquet .xml .nxml .html .pdf, each also .gz and .zst"
RANGE_BYTES = 16 << 20  # of a JSONL or Parquet file, from which on it is divided
_SCAN_VERSION = 2


@dataclass(slots=True)
class SourceFile:
    """One input file.

    Attributes:
        id: path relative to the source root, `/`-separated, unique within the corpus.
        path: where it is now.
        format: "text", "markdown", "json", "jsonl", "csv", "parquet", "xml", "html", "pdf" or
            "pages" (what PaddleOCR wrote of each page of a document).
        compression: "", "gz" or "zst".
        size: bytes as stored. mtime_ns: modification time.
        digest: xxh3_128 of the stored bytes; "" until scanned.
        pages: paths of the files of a document that is written as one file a page, in order; `path` is the first.
        ranges: (first byte, first record number) of each independently readable range; [(0, 1)] if undivided.
    """

    id: str
    path: str
    format: str
    compression: str
    size: int
    mtime_ns: int
    digest: str = ""
    ranges: list[tuple[int, int]] = field(default_factory=lambda: [(0, 1)])
    pages: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Skipped:
    """A file or folder that is not read: its path relative to the source root, and the named reason."""

    id: str
    reason: str
    detail: str


def find_sources(sources: Sequence[Path], *, exclude: Iterable[Path] = ()) -> tuple[list[SourceFile], list[Skipped]]:
    """All files of the corpus, sorted by id, and what is left out of it. A file that is reached twice is read once.

    Args:
        sources: files and folders.
        exclude: folders not to walk into (the output folder, where it lies inside a source).

    Raises:
        DataError: a source does not exist, is a file of an unknown kind, or nothing readable is found.
    """
    if not sources:
        raise DataError("no source is given", remedy="name files or folders to read")
    excluded = {os.path.realpath(path) for path in exclude}
    found: dict[str, tuple[Path, Path]] = {}  # real path -> (root, path)
    skipped: list[Skipped] = []
    for source in sources:
        if source.is_dir():
            for path in _walk(source, source, excluded, skipped):
                found.setdefault(os.path.realpath(path), (source, path))
        elif source.is_file():
            if split_suffixes(source)[0] not in FORMATS:
                raise DataError("this kind of file cannot be read", str(source), f"convert it to one of {FORMAT_LIST}")
            found.setdefault(os.path.realpath(source), (source.parent, source))
        else:
            raise DataError("no such file or folder", str(source), "check the path")
    if not found:
        names = ", ".join(str(source) for source in sources)
        count = sum(skip.reason == "unsupported_format" for skip in skipped)
        kinds = f" ({count} files of other kinds are there)" if count else ""
        raise DataError(f"no file that can be read{kinds}", names, f"readable are {FORMAT_LIST}")
    ids = _unique_ids(list(found.values()))
    named = [(identifier, path) for identifier, (_, path) in zip(ids, found.values(), strict=True)]
    named, bundles, superseded = bundle_pages(named)
    skipped += [Skipped(identifier, "superseded", f"read from {by}") for identifier, by in superseded]
    files = [_stat(identifier, path) for identifier, path in named]
    for identifier, paths in bundles:
        stats = [path.stat() for path in paths]
        size, changed = sum(status.st_size for status in stats), max(status.st_mtime_ns for status in stats)
        files.append(SourceFile(identifier, str(paths[0]), "pages", "", size, changed, pages=[str(p) for p in paths]))
    return sorted(files, key=lambda file: file.id), sorted(skipped, key=lambda skip: skip.id)


def _walk(root: Path, folder: Path, excluded: set[str], skipped: list[Skipped]) -> list[Path]:
    """Readable files under `folder`; follows links to folders, once each."""
    paths: list[Path] = []
    seen: set[str] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in seen or real in excluded:
            continue
        seen.add(real)
        try:
            entries = sorted(current.iterdir())
        except OSError as error:
            if current == root:
                raise DataError(
                    f"cannot read the folder: {error.strerror}", str(current), "check its permissions"
                ) from error
            name = current.relative_to(root).as_posix()
            skipped.append(Skipped(name, "unreadable", f"folder: {error.strerror or 'error of the file system'}"))
            continue
        for entry in entries:
            name = entry.relative_to(root).as_posix()
            if entry.name.startswith(".medscroll"):
                continue  # written by medscroll itself
            if entry.name.startswith("."):
                skipped.append(Skipped(name, "hidden", "name starts with a dot"))
            elif (kind := _kind(entry)) == "folder":
                pending.append(entry)
            elif kind:
                skipped.append(Skipped(name, "not_a_file" if kind == "other" else "unreadable", _KINDS[kind]))
            elif split_suffixes(entry)[0] not in FORMATS:
                skipped.append(Skipped(name, "unsupported_format", entry.suffix or "no suffix"))
            else:
                paths.append(entry)
    return paths


_KINDS = {"other": "a broken link, a circle of links, a pipe or a device", "denied": "its status cannot be read"}


def _kind(path: Path) -> str:
    """ "" for a file, "folder", "other", or "denied"."""
    try:
        return "" if path.is_file() else "folder" if path.is_dir() else "other"
    except OSError:
        return "denied"


def _unique_ids(found: list[tuple[Path, Path]]) -> list[str]:
    """Paths relative to their roots; where two roots hold the same one, with the name of the root before it, and
    where that is not enough, the absolute path. Undecodable names are escaped."""
    candidates = []
    for root, path in found:
        relative = path.relative_to(root).as_posix()
        absolute = Path(os.path.abspath(path))
        candidates.append((relative, f"{Path(os.path.abspath(root)).name}/{relative}", absolute.as_posix()))
    chosen = [names[0] for names in candidates]
    for step in (1, 2):
        counts: dict[str, int] = {}
        for name in chosen:
            counts[name] = counts.get(name, 0) + 1
        chosen = [names[step] if counts[name] > 1 else name for name, names in zip(chosen, candidates, strict=True)]
    return [name.encode("utf-8", "backslashreplace").decode("utf-8") for name in chosen]


def _stat(identifier: str, path: Path) -> SourceFile:
    status = path.stat()
    suffix, compression = split_suffixes(path)
    return SourceFile(identifier, str(path), FORMATS[suffix], compression, status.st_size, status.st_mtime_ns)


def scan_sources(
    files: list[SourceFile], *, cache: Path | None = None, num_workers: int = 1, tolerant: bool = False
) -> list[Skipped]:
    """Fills in `digest` and `ranges` of every file, from the cache where size and modification time are the same.

    Args:
        files: as found; changed in place.
        cache: a JSON file that is read and written (mode 0600).
        num_workers: threads.
        tolerant: a file that cannot be opened keeps an empty digest and is returned; otherwise it is an error.

    Raises:
        DataError: a file cannot be read.
    """
    known: dict[str, Any] = {}
    if cache is not None and cache.exists():
        try:
            stored = json.loads(cache.read_bytes())
            known = stored["files"] if stored["version"] == _SCAN_VERSION else {}
        except (ValueError, KeyError, TypeError):
            known = {}
    todo = []
    for file in files:
        entry = known.get(os.path.abspath(file.path))
        now = [file.size, file.mtime_ns, file.format, file.pages]
        if entry and [entry[key] for key in ("size", "mtime_ns", "format", "pages")] == now:
            file.digest, file.ranges = entry["digest"], [(start, number) for start, number in entry["ranges"]]
        else:
            todo.append(file)
    if not todo:
        return []
    if num_workers > 1 and len(todo) > 1:
        with ThreadPoolExecutor(num_workers) as pool:
            failures = list(pool.map(_try_scan, todo))
    else:
        failures = [_try_scan(file) for file in todo]
    failed = []
    for file, failure in zip(todo, failures, strict=True):
        if failure and not tolerant:
            raise DataError(f"the file cannot be read: {failure}", file.path, "check its permissions, or the disk")
        if failure:
            failed.append(Skipped(file.id, "unreadable", failure))
    if cache is not None:
        with atomic_file(cache) as out:
            entries = {os.path.abspath(file.path): asdict(file) for file in files if file.digest}
            json.dump({"version": _SCAN_VERSION, "files": entries}, out)
    return failed


def _try_scan(file: SourceFile) -> str:
    """What the system says against reading a file; "" where it was scanned."""
    try:
        _scan(file)
    except OSError as error:
        return error.strerror or "error of the file system"
    except DataError as error:  # it cannot be opened
        return error.what.rpartition(": ")[2]
    return ""


def _scan(file: SourceFile) -> None:
    """One pass over the stored bytes: hash, and for plain JSONL where a range may begin (after a line end)."""
    digest = xxhash.xxh3_128()
    divide = file.format == "jsonl" and not file.compression and file.size > RANGE_BYTES
    ranges, offset, lines, next_border = [(0, 1)], 0, 1, RANGE_BYTES
    for page in file.pages:
        with open_source(Path(page)) as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    if file.pages:
        file.digest = digest.hexdigest()
        return
    with open_source(Path(file.path)) as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
            if divide and offset == 0 and b"\0" in block:
                divide = False  # UTF-16: its line ends are not those of bytes
            if divide:
                while offset + len(block) > next_border:
                    end = block.find(b"\n", max(0, next_border - offset))
                    if end < 0:
                        next_border = offset + len(block)
                        break
                    ranges.append((offset + end + 1, lines + block.count(b"\n", 0, end + 1)))
                    next_border = offset + end + 1 + RANGE_BYTES
                lines += block.count(b"\n")
            offset += len(block)
    if offset != file.size:
        file.size = offset  # it grew while it was read; the hash is of what was read
    file.digest = digest.hexdigest()
    if file.format == "parquet" and not file.compression:
        file.ranges = _parquet_ranges(Path(file.path))
        return
    file.ranges = [entry for entry in ranges if entry[0] < offset or entry[0] == 0]


def _parquet_ranges(path: Path) -> list[tuple[int, int]]:
    """(first row group, first record) of ranges of about 16 MiB each; [(0, 1)] for a file that is not Parquet
    (the reader will say so)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.ParquetFile(path).metadata
    except (pa.ArrowInvalid, OSError):
        return [(0, 1)]
    ranges, filled, record = [(0, 1)], 0, 1
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        size = sum(row_group.column(column).total_compressed_size for column in range(row_group.num_columns))
        if filled and filled + size > RANGE_BYTES:
            ranges.append((group, record))
            filled = 0
        filled += size
        record += row_group.num_rows
    return ranges


def sources_digest(files: Sequence[SourceFile], pipeline: str) -> str:
    """xxh3_128 over ids and hashes of all files and a pipeline's fingerprint: equal where the documents will be."""
    digest = xxhash.xxh3_128(pipeline.encode())
    for file in files:
        digest.update(f"{file.id}\0{file.format}\0{file.digest}\n".encode())
    return digest.hexdigest()
