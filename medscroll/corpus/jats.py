"""XML files to text: JATS articles (PubMed Central) with their sections, other XML as plain text.

Written are title, abstracts, keywords, body, appendices, glossary, notes and acknowledgements; headings as Markdown
headings, paragraphs apart by a blank line, tables row by row, figures by their captions, formulas on one line. Left out
and counted are the reference list (unless `read: {references: true}`), formulas and figures that are images only, and
the front matter, of which licence, article ids, journal, year, authors and copyright are kept as metadata. Marks that
point at references and figures stay, unless `citations` or `figure_calls` are false (`jats_calls`). Parsing is closed:
no DTD, no entity is resolved, no network. Speed: about 8 MB of XML a second; memory about 10 times the file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any

from lxml import etree

from medscroll.corpus.document import Section
from medscroll.corpus.encoding import decode, name_binary
from medscroll.corpus.jats_calls import count_left_out, drop_calls
from medscroll.corpus.jats_inline import collapse, inline_text, local_name
from medscroll.corpus.jats_text import ArticleText
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.record import Record
from medscroll.errors import DataError

_DECLARATION = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"'][^>]*\?>")
_DECLARATION_TEXT = re.compile(r"^\s*<\?xml[^>]*\?>")
_HREF = "{http://www.w3.org/1999/xlink}href"
_HUGE = 8 << 20  # bytes, from which on the parser's limit on one text node is lifted

# An external entity that is text; figures (`NDATA`) are none.
_QUOTED = r"""(?:"[^"]*"|'[^']*')"""
_OUTSIDE = re.compile(rf"<!ENTITY\s+(?:%\s+)?[^\s\"'<>]{{1,80}}\s+(?:SYSTEM|PUBLIC)\s+{_QUOTED}(?:\s+{_QUOTED})?\s*>")


def read_xml(data: bytes, name: str, options: ReadOptions | None = None) -> Iterator[Record]:
    """The record of an XML file; one for each article where it holds several (numbered from 1).

    Args:
        data: the file.
        name: its path, for errors.
        options: what of an article is written; None for the defaults.

    Raises:
        DataError: broken XML (with the line), nested absurdly, binary or undecodable.
    """
    try:
        yield from _read(data, name, options or ReadOptions())
    except RecursionError:
        raise DataError("elements are nested too deeply", name, "repair the file", reason="nested_too_deeply") from None


def _read(data: bytes, name: str, options: ReadOptions) -> Iterator[Record]:
    if not data.strip():
        yield Record(0, reason="empty", detail=f"{len(data)} bytes")
        return
    root = _parse(data, name)
    articles = [root] if local_name(root) == "article" else [e for e in root.iter("{*}article") if _is_jats(e)]
    if not articles or not _is_jats(articles[0]):
        yield _plain(root)
    elif len(articles) == 1:
        yield article_record(articles[0], 0, options)
    else:
        for number, article in enumerate(articles, 1):
            yield article_record(article, number, options)


def _parse(data: bytes, name: str) -> Any:
    kind = name_binary(data)
    if kind:
        raise DataError(f"not an XML file but {kind}", name, "convert it to text, or move it out of the source folder")
    declared = _DECLARATION.match(data[:400].removeprefix(codecs.BOM_UTF8))
    encoding = declared.group(1).decode("ascii").lower() if declared else ""
    if encoding in ("", "utf-8", "utf8", "us-ascii", "ascii") or encoding.startswith(("utf-16", "gb")):
        text, _ = decode(data, name)
    else:
        try:
            text = data.decode(encoding)
        except LookupError:
            text, _ = decode(data, name)
        except UnicodeDecodeError as error:
            raise DataError(
                f"undecodable bytes: not {encoding}, which the file declares", f"{name}, byte {error.start}",
                "correct the encoding in its first line",
            ) from None  # fmt: skip
    lines_before = 0
    declaration = _DECLARATION_TEXT.match(text)
    if declaration:
        lines_before = declaration.group().count("\n")
        text = text[declaration.end() :]
    outside = _OUTSIDE.search(text, 0, 100_000) if "<!ENTITY" in text[:100_000] else None
    if outside:
        raise DataError(
            "an entity is declared that lies outside of the file: nothing is fetched, so the text would have a gap",
            name, "put its text into the file", reason="external_entity",
        )  # fmt: skip
    has_entities = "<!ENTITY" in text[:100_000]
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False,
        huge_tree=len(data) > _HUGE and not has_entities, remove_pis=True, remove_comments=True,
    )  # fmt: skip
    try:
        return etree.fromstring(text.encode("utf-8", "surrogatepass"), parser)
    except etree.XMLSyntaxError as error:
        line = (error.lineno or 1) + lines_before
        # libxml2's message may quote the file; its code does not.
        number = getattr(error, "code", None)  # not in the type stubs
        code = etree.ErrorTypes._getName(number, "syntax error") if number is not None else "syntax error"
        raise DataError(f"broken XML: {code}", f"{name}, line {line}", "repair the file or copy it again") from None


def _is_jats(element: Any) -> bool:
    return any(local_name(child) in ("front", "body", "front-stub") for child in element)


def article_record(article: Any, number: int, options: ReadOptions) -> Record:
    """The record of one JATS <article> element; the element is changed where marks are dropped."""
    counts = count_left_out(article, references=options.references)
    if not (options.citations and options.figure_calls):
        counts |= drop_calls(article, citations=not options.citations, figures=not options.figure_calls)
    writer = ArticleText(options.references)
    meta = _first(article, "front/article-meta")
    title = _first(meta, "title-group/article-title")
    title_text = collapse(inline_text(title, frozenset({"xref", "fn"}))) if title is not None else ""
    if title_text:
        writer.heading(title_text, 1)
    _write_parts(writer, article, meta)
    licence, metadata = _metadata(article, meta)
    if writer.references:
        metadata["references"] = writer.references
        if not options.references:
            counts["jats_references"] = writer.references
    if writer.images:
        metadata["images"] = writer.images
        counts["jats_images"] = writer.images
    text, sections = writer.finish()
    return Record(number, text, title_text or None, licence, metadata, sections, counts=counts)


def _write_parts(writer: ArticleText, article: Any, meta: Any) -> None:
    """Abstracts and keywords, then body, back matter, notes and what comes inside the article."""
    for element in meta if meta is not None else []:
        name = local_name(element)
        if name in ("abstract", "trans-abstract"):
            writer.abstract(element)
        elif name == "kwd-group":
            writer.keywords(element)
    for element in article:
        name = local_name(element)
        if name in ("body", "back", "floats-group"):
            writer.blocks(element, 2)
        elif name in ("sub-article", "response"):
            writer.sub_article(element)
        elif name == "front":
            for note in element:
                if local_name(note) == "notes":
                    writer.notes(note)


def _metadata(article: Any, meta: Any) -> tuple[str | None, dict[str, Any]]:
    """(licence, what is kept for attribution)."""
    metadata: dict[str, Any] = {"format": "jats"}
    if article.get("article-type"):
        metadata["article_type"] = article.get("article-type")
    journal = _first(article, "front/journal-meta//journal-title")
    if journal is not None:
        metadata["journal"] = collapse(inline_text(journal))
    if meta is None:
        return None, metadata
    ids = {e.get("pub-id-type", "id"): collapse(inline_text(e)) for e in meta if local_name(e) == "article-id"}
    if ids:
        metadata["article_ids"] = ids
    years = [collapse(inline_text(e)) for e in meta.iterfind("{*}pub-date/{*}year")]
    if years:
        metadata["year"] = min(years)
    authors = []
    for contributor in meta.iterfind("{*}contrib-group/{*}contrib"):
        name = [_first(contributor, f"name/{part}") for part in ("given-names", "surname")]
        whole = [collapse(inline_text(part)) for part in name if part is not None]
        collab = _first(contributor, "collab")
        if whole or collab is not None:
            authors.append(" ".join(whole) or collapse(inline_text(collab, frozenset({"contrib-group"}))))
    if authors:
        metadata["authors"] = authors
    statement = _first(meta, "permissions/copyright-statement")
    if statement is not None:
        metadata["copyright"] = collapse(inline_text(statement))
    licence = _first(meta, "permissions/license")
    if licence is None:
        return None, metadata
    words = collapse(inline_text(licence))
    if words:
        metadata["licence_text"] = words
    links = [e.get(_HREF) for e in licence.iter() if isinstance(e.tag, str) and e.get(_HREF)]
    links = [link for link in links if "creativecommons.org" in link] or links
    return (links[0] if links else words or licence.get("license-type")), metadata


def _first(element: Any, path: str) -> Any:
    """The first element on a path, whatever its namespace; None where there is none."""
    if element is None:
        return None
    pattern = "/".join(f"{{*}}{step}" if step else "" for step in path.split("/"))
    return element.find(pattern)


def _plain(root: Any) -> Record:
    """XML that is no article: the text of all elements. An element with text of its own is a paragraph."""
    paragraphs: list[str] = []
    pending = [root]
    while pending:
        element = pending.pop()
        own = [element.text, *(child.tail for child in element)]
        if any(part and part.strip() for part in own):
            text = collapse("".join(inline_text(element)))
            if text:
                paragraphs.append(text)
        else:
            pending.extend(child for child in reversed(element) if local_name(child))
    sections: list[Section] = []
    return Record(0, "\n\n".join(paragraphs), None, None, {"format": "xml", "root": local_name(root)}, sections)
