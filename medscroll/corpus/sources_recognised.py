"""Which files of a folder are parts or copies of one document that MinerU or PaddleOCR recognised.

MinerU writes a document as Markdown, as several JSON files and as marked copies of the PDF file; of them the content
list is read, else the middle file. PaddleOCR writes one JSON file a page; together they are one document, as are the
lines of a JSONL file of its service (an answer for some pages each) with the PDF file beside it. What is left
out is named ("superseded"). Cost: a folder's names, and the first kilobytes of files that are named like pages.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

_SUPPLEMENTS = (
    ".md", ".pdf", "_content_list_v2.json", "_middle.json", "_model.json", "_layout.pdf", "_span.pdf", "_spans.pdf",
    "_origin.pdf",
)  # fmt: skip
_PAGE_FILE = re.compile(r"(?P<stem>.+)_(?P<page>\d{1,6})_res\.json")
_MAIN = ("_content_list.json", "_content_list_v2.json", "_middle.json")
_HEAD = 1 << 16
Named = tuple[str, Path]


def bundle_pages(named: Sequence[Named]) -> tuple[list[Named], list[tuple[str, list[Path]]], list[tuple[str, str]]]:
    """Puts the files of recognised documents together.

    Args:
        named: (id, path) of all files.

    Returns:
        files that stay as they are; (id, paths in order) of documents of one file a page; (id, id of what is read
        instead) of files that are left out.
    """
    by_path = {path: identifier for identifier, path in named}
    bundles: dict[Path, list[tuple[int, Path]]] = defaultdict(list)
    instead: dict[Path, str] = {}
    joined: list[tuple[str, list[Path]]] = []
    for path, identifier in by_path.items():
        match = _PAGE_FILE.fullmatch(path.name)
        if match and _is_page(path):
            bundles[path.with_name(match["stem"])].append((int(match["page"]), path))
        if path.suffix == ".jsonl" and _is_service(path):
            joined.append((identifier, [path]))
            for other in (path.with_suffix(".md"), path.with_suffix(".pdf")):
                if other in by_path:
                    instead[other] = identifier
        ending = next((end for end in _MAIN if path.name.endswith(end)), "")
        stem = path.name.removesuffix(ending)
        if ending and stem and not any(path.with_name(stem + end) in by_path for end in _MAIN[: _MAIN.index(ending)]):
            for end in _SUPPLEMENTS:
                other = path.with_name(stem + end)
                if other in by_path and other != path:
                    instead[other] = identifier
    for stem_path, pages in sorted(bundles.items()):
        paths = [path for _, path in sorted(pages)]
        folder, slash, _ = by_path[paths[0]].rpartition("/")
        name = f"{folder}{slash}{stem_path.name}_*_res.json"
        joined.append((name, paths))
        copies = [stem_path.with_name(f"{stem_path.name}_{number}.md") for number, _ in pages]
        for other in [*copies, *(stem_path.with_name(stem_path.name + end) for end in (".md", ".pdf"))]:
            if other in by_path:
                instead[other] = name
    joined.sort()
    used = {path for _, paths in joined for path in paths}
    kept = [(identifier, path) for identifier, path in named if path not in used and path not in instead]
    return kept, joined, sorted((by_path[path], by) for path, by in instead.items())


def _is_page(path: Path) -> bool:
    """Whether a file that is named like PaddleOCR's result of a page is one."""
    return b'"parsing_res_list"' in _head(path)


def _is_service(path: Path) -> bool:
    """Whether a JSONL file holds answers of PaddleOCR's service."""
    return b'"layoutParsingResults"' in _head(path).partition(b"\n")[0]


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of one that cannot be read, which is told where it is read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""
