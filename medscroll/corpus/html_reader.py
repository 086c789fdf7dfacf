"""Web pages (HTML, XHTML) to text: main text with sections, lists and tables; the frame of the page left out, counted.

The main text is <main>, else the only <article>, if it holds at least half of the text; else the whole body without
what is marked as navigation, header, footer or sidebar. `read: {html: all}` writes everything but scripts and hidden
parts. The encoding is that of a byte order mark, else of the <meta> element, else found by evidence; never guessed by
replacement. Nothing is fetched and no script runs. Speed: about 5 MB of HTML a second; memory about 10 times the file.
"""

from __future__ import annotations

import codecs
import importlib.util
import re
from collections.abc import Iterator
from typing import Any

from medscroll.corpus.encoding import decode, name_binary
from medscroll.corpus.html_inline import characters
from medscroll.corpus.html_text import PageText
from medscroll.corpus.jats_inline import collapse
from medscroll.corpus.record import Record
from medscroll.errors import DataError, missing_package

_CHARSET = re.compile(rb"<meta\b[^>]{0,300}?charset\s*=\s*[\"']?\s*([A-Za-z0-9._:-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
# What browsers take for the labels of the web that mean a subset of another encoding.
_LABELS = {
    "gb2312": "gb18030", "gbk": "gb18030", "gb_2312-80": "gb18030", "x-gbk": "gb18030", "chinese": "gb18030",
    "iso-8859-1": "cp1252", "latin1": "cp1252", "ascii": "cp1252", "us-ascii": "cp1252", "windows-1252": "cp1252",
    "big5": "big5hkscs", "shift_jis": "cp932", "utf8": "utf-8", "unicode-1-1-utf-8": "utf-8",
}  # fmt: skip
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements whose end tag is often left out do not tell how deep a page is nested.
_LOOSE = frozenset(
    {"p", "li", "td", "th", "tr", "dt", "dd", "option", "thead", "tbody", "tfoot", "colgroup", "col", "br", "img", "hr",
     "input", "meta", "link", "area", "base", "embed", "source", "track", "wbr", "param", "html", "head", "body"}
)  # fmt: skip
_DEEPEST = 3000  # elements; parsers of HTML take quadratic time beyond
_LEAST_SHARE = 0.5  # of the text of a page that a main element must hold to be taken for its main text


def require_selectolax() -> None:
    """Raises EnvironmentError_ with the `pip install` where selectolax is missing."""
    if importlib.util.find_spec("selectolax") is None:
        raise missing_package("selectolax", "html", "reading HTML")


def read_html(data: bytes, name: str, *, everything: bool = False) -> Iterator[Record]:
    """The record of a web page.

    Args:
        data: the file.
        name: its path, for errors.
        everything: write navigation, headers and footers too.

    Raises:
        DataError: binary, undecodable or nested absurdly.
        EnvironmentError_: selectolax is not installed.
    """
    if not data.strip():
        yield Record(0, reason="empty", detail=f"{len(data)} bytes")
        return
    text, codec = decode_page(data, name)
    tree = parse_page(text, name)
    page = PageText(everything)
    body = tree.body
    metadata: dict[str, Any] = {"format": "html", "encoding": codec, **_attribution(tree)}
    title = metadata.pop("title", None)
    licence = metadata.pop("licence", None)
    if body is not None:
        main = None if everything else _main(body)
        if main is not None:
            outside = _shown(body) - _shown(main)
            page.count("html_outside_main_characters", max(0, outside))
            metadata["main"] = main.tag
            page.in_main = True
        page.walk(main if main is not None else body)
    written, sections = page.finish()
    if title is None:
        title = next((section.title for section in sections if section.level == 1), None)
    yield Record(0, written, title, licence, metadata, sections, counts=dict(page.counts))


def decode_page(data: bytes, name: str) -> tuple[str, str]:
    """(text, codec) of a web page.

    Raises:
        DataError: binary, or undecodable in the encoding that it declares and in those that can be told by evidence.
    """
    kind = name_binary(data)
    if kind:
        raise DataError(f"not a web page but {kind}", name, "convert it to text, or move it out of the source folder")
    declared = _CHARSET.search(data[:4096]) or _XML.match(data[:400].removeprefix(codecs.BOM_UTF8))
    marked = data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if declared is None or marked or b"\0" in data[:4096]:
        return decode(data, name)
    label = declared.group(1).decode("ascii").lower()
    codec = _LABELS.get(label, label)
    try:
        return data.decode(codec), codecs.lookup(codec).name
    except (LookupError, UnicodeDecodeError) as error:
        try:
            return decode(data, name)  # pages often declare what they are not
        except DataError:
            at = error.start if isinstance(error, UnicodeDecodeError) else 0
            raise DataError(
                f"undecodable bytes: not {label}, which the page declares, nor another encoding that can be told",
                f"{name}, byte {at}", "convert it to UTF-8 and declare that", reason="undecodable",
            ) from None  # fmt: skip


def parse_page(text: str, name: str) -> Any:
    """The tree of a page or a fragment (a `LexborHTMLParser`).

    Raises:
        DataError: nested absurdly. EnvironmentError_: selectolax is not installed.
    """
    require_selectolax()
    from selectolax.lexbor import LexborHTMLParser

    depth = deepest = 0
    for match in _TAG.finditer(text):
        if match[2].lower() not in _LOOSE:
            depth = max(0, depth - 1) if match[1] else depth + 1
            deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise DataError(
            f"elements are nested more than {_DEEPEST:,} deep", name, "repair the page",
            reason="nested_too_deeply",
        )  # fmt: skip
    return LexborHTMLParser(text)


def _shown(element: Any) -> int:
    """Characters of text in an element, white space, scripts and styles aside."""
    return characters(element) - sum(characters(inner) for inner in element.css("script, style, noscript, template"))


def _main(body: Any) -> Any:
    """The element that holds the main text; None for the whole body."""
    for selector in ("main, [role=main]", "article"):
        found = body.css(selector)
        if len(found) == 1:
            total = _shown(body) - sum(_shown(element) for element in body.css("nav, footer"))
            if _shown(found[0]) >= _LEAST_SHARE * total:
                return found[0]
    return None


def _attribution(tree: Any) -> dict[str, Any]:
    """What the head of a page says of it: title, licence, language, and what is needed to cite it."""
    found: dict[str, Any] = {}
    names = {
        "citation_title": "title", "og:title": "title", "citation_journal_title": "journal", "citation_doi": "doi",
        "citation_pmid": "pmid", "citation_publication_date": "date", "citation_author": "authors", "author": "authors",
        "article:published_time": "date", "dc.rights": "licence", "dc.title": "title", "description": "description",
    }  # fmt: skip
    for element in tree.css("meta"):
        key = names.get((element.attributes.get("name") or element.attributes.get("property") or "").lower())
        value = collapse(element.attributes.get("content") or "")
        if key and value:
            if key == "authors":
                found.setdefault("authors", []).append(value)
            else:
                found.setdefault(key, value)
    link = tree.css_first('link[rel="license"], a[rel~="license"]')
    if link is not None and link.attributes.get("href"):
        found["licence"] = link.attributes["href"]
    title = tree.css_first("title")
    if title is not None and "title" not in found:
        text = collapse(title.text(deep=True) or "")
        if text:
            found["title"] = text
    root = tree.root
    language = (root.attributes.get("lang") or "") if root is not None else ""
    if language:
        found["html_lang"] = language[:35]
    canonical = tree.css_first('link[rel="canonical"]')
    if canonical is not None and canonical.attributes.get("href"):
        found["url"] = canonical.attributes["href"]
    return found
