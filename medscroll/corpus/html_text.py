"""The blocks of a web page: headings with levels, paragraphs, lists, data tables with their head, definitions.

A walk over the tree of selectolax, with bounded depth. What is not text (scripts, navigation, forms, hidden parts) is
left out and counted; layout tables are read as text, cell by cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medscroll.corpus.builder import TextBuilder
from medscroll.corpus.html_inline import DEEPEST, InlineWriter, children, left_out_name
from medscroll.corpus.jats_inline import collapse
from medscroll.corpus.table_grid import Cell, grid_lines, span

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dir", "div", "dl",
     "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup",
     "hr", "legend", "li", "main", "menu", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot",
     "th", "thead", "tr", "ul", "nav"}
)  # fmt: skip
_IN_LAYOUT = "table, p, h1, h2, h3, h4, ul, ol, div div, article, section"
# Names of classes, ids and roles of what frames a page. Looked at only outside of its main text.
_FRAME = frozenset(
    {"nav", "navbar", "navigation", "menu", "breadcrumb", "breadcrumbs", "footer", "sidebar", "cookie", "cookies",
     "advert", "ads", "share", "social", "pagination", "pager", "banner", "contentinfo", "complementary", "search",
     "toolbar", "skip"}
)  # fmt: skip
_FRAME_TAGS = frozenset({"div", "ul", "ol", "section", "p", "span", "form", "header", "aside"})


class PageText(TextBuilder):
    """The blocks and sections of a web page.

    Args:
        everything: write navigation, headers and footers too.
    """

    def __init__(self, everything: bool = False) -> None:
        super().__init__()
        self._everything = everything
        self._inline = InlineWriter(self.counts)
        self.in_main = False  # whether what is walked is the main text, where no names of classes are looked at

    def walk(self, node: Any, depth: int = 0) -> None:
        """All blocks in an element."""
        run: list[str] = []
        for child in children(node):
            tag = child.tag or ""
            if tag not in _BLOCKS and not self._holds_blocks(child, tag):
                run.append(self._inline.piece(child, depth, run[-1] if run else ""))
                continue
            self._flush(run)
            name = self._frame_name(child) or left_out_name(child)
            if name and not (name == "nav" and self._everything):
                self._inline.leave_out(child, name)
            elif depth > DEEPEST:
                self.count("html_flattened_nesting")
                self.block(collapse(child.text(deep=True, separator=" ") or ""))
            else:
                self._element(child, tag, depth + 1)
        self._flush(run)

    def _flush(self, run: list[str]) -> None:
        self.block(self._inline.lines(run))
        run.clear()

    @staticmethod
    def _holds_blocks(node: Any, tag: str) -> bool:
        """Whether an inline element (a link, a font) has blocks inside."""
        if not tag or tag.startswith("-") or node.child is None or tag in ("math", "svg"):
            return False
        return left_out_name(node) == "" and any((child.tag or "") in _BLOCKS for child in children(node))

    def _frame_name(self, node: Any) -> str:
        """How an element that frames the page is counted; "" where it is text."""
        tag = node.tag
        if self._everything:
            return ""
        if tag == "footer" or (tag in ("header", "aside") and not self.in_main):
            return str(tag)
        attributes = node.attributes
        role = (attributes.get("role") or "").lower()
        if role in ("navigation", "search"):
            return "nav"
        if self.in_main or tag not in _FRAME_TAGS:
            return ""
        words = f"{role} {attributes.get('class') or ''} {attributes.get('id') or ''}".lower()
        named = set(words.replace("-", " ").replace("_", " ").split()) & _FRAME
        return "nav" if named else ""

    def _element(self, node: Any, tag: str, depth: int) -> None:
        if tag in _HEADINGS:
            self.heading(self._inline.text(node, depth), _HEADINGS[tag])
            return
        writers: dict[str, Callable[[Any, int], None]] = {
            "ul": self._list, "ol": self._list, "menu": self._list, "dir": self._list, "dl": self._definitions,
            "table": self._table, "pre": self._preformatted,
        }  # fmt: skip
        writer = writers.get(tag)
        if writer is not None:
            writer(node, depth)
        elif tag != "hr":
            self.walk(node, depth)

    def _preformatted(self, node: Any, depth: int) -> None:
        self.block((node.text(deep=True) or "").strip("\n"))

    def _list(self, node: Any, depth: int) -> None:
        if node.css_first("table, h1, h2, h3, h4, h5, pre") is not None:
            self.walk(node, depth)  # a list used for layout: its items are blocks of their own
            return
        self.block("\n".join(self._list_lines(node, "", depth)))

    def _list_lines(self, node: Any, indent: str, depth: int) -> list[str]:
        lines: list[str] = []
        number = _whole(node.attributes.get("start"), 1)
        for item in children(node):
            tag = item.tag or ""
            if tag in ("ul", "ol", "menu", "dir"):
                lines += self._nested(item, indent, depth)
                continue
            mark = f"{number}." if node.tag == "ol" else "-"
            parts: list[str] = []
            inner: list[str] = []
            if tag == "li":
                self._item_parts(item, parts, inner, indent, depth)
                number += 1
            else:
                parts.append(self._inline.piece(item, depth))
            text = self._inline.lines(parts).replace("\n", " ")
            if text or inner:
                lines += [f"{indent}{mark} {text}".rstrip(), *inner]
        return lines

    def _nested(self, node: Any, indent: str, depth: int) -> list[str]:
        if depth > DEEPEST:
            self.count("html_flattened_nesting")
            return [f"{indent}  - {collapse(node.text(deep=True, separator=' ') or '')}"]
        return self._list_lines(node, indent + "  ", depth + 1)

    def _item_parts(self, item: Any, parts: list[str], inner: list[str], indent: str, depth: int) -> None:
        """The text of a list item and, apart, the lists in it, however deep they are wrapped."""
        for child in children(item):
            tag = child.tag or ""
            if tag in ("ul", "ol", "menu", "dir"):
                inner += self._nested(child, indent, depth)
            elif tag in _BLOCKS and depth <= DEEPEST and not left_out_name(child):
                parts.append(" ")
                self._item_parts(child, parts, inner, indent, depth + 1)
                parts.append(" ")
            else:
                parts.append(self._inline.piece(child, depth, parts[-1] if parts else ""))

    def _definitions(self, node: Any, depth: int) -> None:
        lines: list[str] = []
        pending: list[Any] = list(children(node))
        while pending:
            item = pending.pop(0)
            tag = item.tag or ""
            if tag == "div":
                pending[:0] = list(children(item))
            elif tag == "dt":
                lines.append(f"{self._inline.text(item, depth)}:")
            elif tag == "dd":
                text = self._inline.text(item, depth)
                joined = bool(lines) and lines[-1].endswith(":")
                lines[-1:] = [f"{lines[-1]} {text}" if joined else text] if joined else [*lines[-1:], text]
            else:
                lines.append(self._inline.lines([self._inline.piece(item, depth)]))
        self.block("\n".join(line for line in lines if line.strip(": ")))

    def _table(self, node: Any, depth: int) -> None:
        role = (node.attributes.get("role") or "").lower()
        if role == "presentation" or self._is_layout(node):
            for row in _rows(node):
                for cell in children(row):
                    if cell.tag in ("td", "th"):
                        self.walk(cell, depth + 1)
            for child in children(node):
                if child.tag == "caption":
                    self.block(self._inline.text(child, depth))
            return
        caption = next((child for child in children(node) if child.tag == "caption"), None)
        lines = [self._inline.text(caption, depth)] if caption is not None else []
        lines += self.table_lines(node, depth)
        self.block("\n".join(line for line in lines if line))

    @staticmethod
    def _is_layout(node: Any) -> bool:
        """Whether a table arranges the page: one cell, or cells that hold tables, headings or paragraphs in number."""
        rows = _rows(node)
        cells = [cell for row in rows for cell in children(row) if cell.tag in ("td", "th")]
        if any(cell.css_first("table, h1, h2") is not None for cell in cells) or len(cells) <= 1:
            return True
        blocks = sum(len(cell.css(_IN_LAYOUT)) for cell in cells)
        return blocks > 2 * len(cells) and not any(cell.tag == "th" for cell in cells)

    def table_lines(self, node: Any, depth: int = 0) -> list[str]:
        """The rows of a data table, each with the names of its columns."""
        head: list[list[Cell]] = []
        body: list[list[Cell]] = []
        for row in _rows(node):
            cells = [
                Cell(
                    self._inline.text(cell, depth), span(cell.attributes.get("colspan")),
                    span(cell.attributes.get("rowspan")), cell.tag == "th",
                )
                for cell in children(row)
                if cell.tag in ("td", "th")
            ]  # fmt: skip
            (head if row.parent is not None and row.parent.tag == "thead" else body).append(cells)
        return grid_lines(head, body, guess=True)


def _rows(table: Any) -> list[Any]:
    """The rows of a table itself, not of tables in it."""
    rows = []
    for child in children(table):
        if child.tag == "tr":
            rows.append(child)
        elif child.tag in ("thead", "tbody", "tfoot"):
            rows += [row for row in children(child) if row.tag == "tr"]
    return rows


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else default
