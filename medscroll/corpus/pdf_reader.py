"""PDF files to text, from their text layer, page by page; what has none, or a garbled one, is named and left out.

A page that is a scan, has drawn letters, is garbled (`pdf_quality`) or broken becomes a reject of its own with its
number and the reason; the document is what remains, with the pages that are missing in its metadata. Nothing is
recognised or guessed: give such files to MinerU or PaddleOCR, whose output is read too (`ocr_reader`). A form feed
stands between pages, by which the step `page_lines` finds headers, footers and page numbers and puts sentences together
that run over a page end. Sections come from the outline of the file, where it has one. Cost: pypdf reads 10 to 30 pages
a second and core.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from medscroll.corpus.document import Section
from medscroll.corpus.pdf_quality import page_problem
from medscroll.corpus.record import Record
from medscroll.errors import DataError, missing_package

_REMEDY = "give it to MinerU or PaddleOCR and put what they write into the source folder"
_SCAN_PIXELS = 600  # an image of more than so many pixels each way, on a page with hardly any text, is a scan
_HARDLY = 50  # characters
_PAGE_BREAK = "\n\f"
_MOST_OUTLINE = 5000


@dataclass(slots=True)
class _Page:
    """A page as it was read: its text, or the reason why it is left out and the numbers behind it."""

    text: str = ""
    reason: str = ""
    detail: str = ""
    sign: str = ""


def require_pypdf() -> None:
    """Raises EnvironmentError_ with the `pip install` where pypdf is missing."""
    if importlib.util.find_spec("pypdf") is None:
        raise missing_package("pypdf", "pdf", "reading PDF")


def read_pdf(data: bytes, name: str, identifier: str) -> Iterator[Record]:
    """The document of a PDF file, then a reject for each page that is left out (numbered by its page).

    Args:
        data: the file.
        name: its path, for errors.
        identifier: id of the file; the ids of rejected pages are `<identifier>#page=<number>`.

    Raises:
        DataError: broken, encrypted, or without any readable page.
        EnvironmentError_: pypdf is not installed.
    """
    if not data.strip():
        yield Record(0, reason="empty", detail=f"{len(data)} bytes")
        return
    require_pypdf()
    with _quiet():
        reader = _open(data, name)
        pages = [_read_page(page) for page in _pages(reader, name)]
        titles = _outline(reader)
        metadata = _attribution(reader)
    counts: Counter[str] = Counter({"pdf_pages": len(pages)})
    for page in pages:
        if page.reason:
            counts[f"pdf_{page.reason}"] += 1
            if page.sign:
                counts[f"pdf_garbled_{page.sign}"] += 1
    title = metadata.pop("title", None)
    text, sections = _join(pages, titles)
    metadata["page_characters"] = [0 if page.reason else len(page.text) for page in pages]
    left_out: dict[str, list[int]] = {}
    for number, page in enumerate(pages, 1):
        if page.reason:
            left_out.setdefault(page.reason, []).append(number)
    if left_out:
        metadata["pages_left_out"] = left_out
    reason, detail = "", ""
    if not text.strip():
        reason = "no_readable_page"
        detail = f"{len(pages)} pages" + "".join(f", {len(found)} {why}" for why, found in sorted(left_out.items()))
        detail += f": {_REMEDY}"
    yield Record(
        0, text, title, None, metadata, sections if titles else None, reason, detail, counts=dict(counts),
    )  # fmt: skip
    for number, page in enumerate(pages, 1):
        if page.reason and page.reason != "blank_page":
            detail = f"page {number} of {len(pages)}: {page.detail}"
            yield Record(number, page.text, reason=page.reason, detail=detail, id=f"{identifier}#page={number}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pypdf's warnings, which may quote what stands in the file."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _open(data: bytes, name: str) -> Any:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    if b"%PDF-" not in data[:1024]:
        raise DataError(
            "not a PDF file: it does not begin as one", name, "copy or download it again", reason="broken_pdf"
        )
    try:
        reader = PdfReader(BytesIO(data), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError(
                "the PDF file is encrypted and needs a password", name,
                "remove its password (such as with qpdf --decrypt)", reason="encrypted",
            )  # fmt: skip
        return reader
    except DependencyError:
        raise DataError(
            "the PDF file is encrypted with AES, which needs the package 'cryptography'", name,
            'pip install "medscroll[pdf]"', reason="encrypted",
        ) from None  # fmt: skip
    except DataError:
        raise
    except Exception as error:  # pypdf raises whatever a broken file leads it into
        raise _broken(error, name) from None


def _broken(error: Exception, name: str) -> DataError:
    return DataError(
        f"the PDF file is broken ({type(error).__name__})", name, "copy it again, or repair it (qpdf, mutool clean)",
        reason="broken_pdf",
    )  # fmt: skip


def _pages(reader: Any, name: str) -> list[Any]:
    try:
        pages = list(reader.pages)
    except Exception as error:
        raise _broken(error, name) from None
    if not pages:
        raise DataError("the PDF file has no pages", name, "copy it again", reason="broken_pdf")
    return pages


def _read_page(page: Any) -> _Page:
    try:
        text = page.extract_text() or ""
    except Exception as error:
        return _Page(reason="broken_page", detail=f"its content cannot be read ({type(error).__name__})")
    text = "\n".join(line.rstrip() for line in text.replace("\r", "\n").split("\n")).strip("\n")
    size = len("".join(text.split()))
    if size < _HARDLY:
        images, large = _images(page)
        if large or (images and not size):
            return _Page(text, "scanned_page", f"an image and {size} characters of text")
        if not size:
            drawn = _content_size(page)
            if drawn < 200:
                return _Page(reason="blank_page", detail="nothing on it")
            return _Page(reason="page_without_text", detail="drawings, no text: letters may be drawn as curves")
    problem = page_problem(text)
    if problem is not None:
        return _Page(text, "garbled_page", f"{problem[0]}: {problem[1]}", problem[0])
    return _Page(text)


def _images(page: Any) -> tuple[int, bool]:
    """(images on a page, forms in it included; whether one of them is as large as a scan)."""
    count, large = 0, False
    try:
        pending = [(page.get("/Resources"), 0)]
        while pending:
            resources, depth = pending.pop()
            resources = resources.get_object() if resources is not None else None
            objects = resources.get("/XObject") if resources is not None else None
            for item in (objects.get_object() if objects is not None else {}).values():
                thing = item.get_object()
                if thing.get("/Subtype") == "/Image":
                    count += 1
                    large = large or min(int(thing.get("/Width", 0)), int(thing.get("/Height", 0))) > _SCAN_PIXELS
                elif thing.get("/Subtype") == "/Form" and depth < 5:
                    pending.append((thing.get("/Resources"), depth + 1))
    except Exception:
        return count, large
    return count, large


def _content_size(page: Any) -> int:
    """Bytes of the drawing commands of a page."""
    try:
        content = page.get_contents()
        return len(content.get_data()) if content is not None else 0
    except Exception:
        return 0


def _outline(reader: Any) -> list[tuple[int, int, str]]:
    """(page from 0, level from 1, title) of the bookmarks; empty where there are none or they are broken."""
    found: list[tuple[int, int, str]] = []

    def walk(items: Any, level: int) -> None:
        for item in items:
            if isinstance(item, list):
                if level < 6:
                    walk(item, level + 1)
            elif len(found) < _MOST_OUTLINE:
                page = reader.get_destination_page_number(item)
                title = " ".join(str(item.title or "").split())
                if page is not None and page >= 0 and title:
                    found.append((page, level, title[:200]))

    try:
        walk(reader.outline, 1)
    except Exception:
        return []
    return sorted(found, key=lambda entry: entry[0])


def _join(pages: list[_Page], titles: list[tuple[int, int, str]]) -> tuple[str, list[Section]]:
    """(text of all pages with a form feed between them, a section for each bookmark); a page left out is empty."""
    parts: list[str] = []
    sections: list[Section] = []
    length = 0
    for number, page in enumerate(pages):
        if number:
            parts.append(_PAGE_BREAK)
            length += len(_PAGE_BREAK)
        if page.reason:
            continue
        start = 0
        for level, title in [(level, title) for at, level, title in titles if at == number]:
            start = _find_title(page.text, title, start)
            if not sections or sections[-1].start < length + start:
                sections.append(Section(length + start, level, title, number + 1))
        parts.append(page.text)
        length += len(page.text)
    return "".join(parts), sections


def _find_title(text: str, title: str, start: int) -> int:
    """Where a line begins that has a title; `start` where none does."""
    wanted = "".join(title.split()).lower()
    position = 0
    for line in text.split("\n"):
        if position >= start and wanted and wanted in "".join(line.split()).lower():
            return position
        position += len(line) + 1
    return start


def _attribution(reader: Any) -> dict[str, Any]:
    """Title, authors and year that the file states."""
    metadata: dict[str, Any] = {"format": "pdf"}
    try:
        information = reader.metadata or {}
        for key, name in (("/Title", "title"), ("/Author", "authors"), ("/Subject", "subject")):
            value = " ".join(str(information.get(key) or "").split())
            if value and "\ufffd" not in value:
                metadata[name] = value[:500]
        date = re.match(r"D?:?((?:19|20)\d\d)", str(information.get("/CreationDate") or ""))
        if date:
            metadata["year_of_file"] = date[1]
    except Exception:
        metadata = {"format": "pdf"}
    return metadata
