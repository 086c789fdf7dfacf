"""Raw input files as `prepare` sees them: how many bytes, whether they changed, and what their content hashes to.

A stamp (path, size, time of change) says in milliseconds that nothing changed; a content digest (xxh3 over every
byte) finds prepared data again after files were moved or touched, and is remembered by stamp, so unchanged files
are read once. Which files a source holds is the corpus room's business (`medscroll.corpus.sources`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xxhash

from medscroll.corpus.sources import SourceFile, find_sources, scan_sources, sources_digest


def _files(paths: Sequence[str | Path]) -> list[SourceFile]:
    return find_sources([Path(path) for path in paths])[0] if paths else []


def raw_input_bytes(*paths: str | Path | None) -> int:
    """Total size in bytes of the raw files that would be read (compressed ones as stored); None stands for nothing.

    Raises:
        DataError: a source does not exist, or holds nothing that can be read.
    """
    return sum(file.size for file in _files([path for path in paths if path is not None]))


def text_bytes_estimate(paths: Sequence[str | Path]) -> int:
    """A generous estimate of the bytes of text in the files: compressed ones count four times."""
    return sum(4 * f.size if f.compression or f.format == "parquet" else f.size for f in _files(paths))


def stamp(paths: Sequence[str | Path]) -> str:
    """A hash over path, size and time of change of every file; reads no content.

    Raises:
        DataError: as `raw_input_bytes`.
    """
    digest = xxhash.xxh3_128()
    for file in _files(paths):
        line = f"{file.id}\0{Path(file.path).absolute()}\0{file.size}\0{file.mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def content_digest(paths: Sequence[str | Path], pipeline: str, cache_dir: Path) -> str:
    """A hash over the relative paths and contents of all files; equal wherever the sources lie.

    Args:
        pipeline: fingerprint of what is done to them.
        cache_dir: where the hashes of files are remembered by path, size and time of change.
    """
    files = _files(paths)
    place = xxhash.xxh3_64_hexdigest(
        "\n".join(str(Path(p).absolute()) for p in paths).encode("utf-8", "surrogateescape")
    )
    scan_sources(files, cache=cache_dir / f"scan-{place}.json")
    return sources_digest(files, pipeline)
