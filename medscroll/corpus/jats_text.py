"""The text of a JATS article, built block by block, with the places where its sections start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medscroll.corpus.builder import TextBuilder
from medscroll.corpus.jats_calls import tidy
from medscroll.corpus.jats_inline import (
    alternatives_text,
    append_child,
    child_text,
    collapse,
    inline_text,
    local_name,
    math_text,
)
from medscroll.corpus.jats_table import table_lines

_FLOATS = frozenset(
    {"table-wrap", "table-wrap-group", "fig", "fig-group", "boxed-text", "supplementary-material", "media"}
)
_BLOCKS = frozenset(
    {"list", "def-list", "disp-formula", "disp-formula-group", "disp-quote", "fn-group", "fn", "verse-group",
     "statement", "speech", "preformat", "array", "p", "sec"}
)  # fmt: skip
_HEADED = {"ack": "Acknowledgements", "app": "Appendix", "glossary": "", "notes": "", "bio": "", "fn-group": ""}
_SILENT = frozenset({"graphic", "object-id", "alt-text", "long-desc", "permissions", "attrib-id", "sec-meta"})


class ArticleText(TextBuilder):
    """The blocks and sections of an article.

    Args:
        write_references: whether reference lists are written.

    Attributes:
        references: entries of reference lists.
        images: formulas, tables and figures that are there as images only.
    """

    def __init__(self, write_references: bool = False) -> None:
        super().__init__()
        self._write_references = write_references
        self.references = 0
        self.images = 0

    def block(self, text: str, gap: str = "\n\n") -> None:
        """As for any document; what is left of dropped marks is tidied."""
        super().block(tidy(text), gap)

    def heading(self, title: str, level: int) -> None:
        """As for any document; what is left of dropped marks is tidied."""
        super().heading(tidy(title), level)

    def abstract(self, element: Any) -> None:
        """An <abstract> or <trans-abstract>."""
        title = element.find("{*}title")
        self.heading(inline_text(title) if title is not None else "Abstract", 2)
        self.blocks(element, 3)

    def keywords(self, element: Any) -> None:
        """A <kwd-group> on one line."""
        words = [collapse(inline_text(e)) for e in element.iter("{*}kwd", "{*}compound-kwd")]
        words = [word for word in words if word]
        title = element.find("{*}title")
        label = collapse(inline_text(title)).rstrip(":") if title is not None else "Keywords"
        if words:
            self.block(f"{label or 'Keywords'}: {'; '.join(words)}")

    def notes(self, element: Any) -> None:
        """A <notes> of the front matter."""
        self._section(element, 2)

    def sub_article(self, element: Any) -> None:
        """A reply, translation or review that comes inside an article: a section of its own."""
        title = element.find(".//{*}article-title")
        self.heading(inline_text(title) if title is not None else "", 1)
        for child in element:
            name = local_name(child)
            if name in ("front-stub", "front"):
                for abstract in child.iter("{*}abstract", "{*}trans-abstract"):
                    self.abstract(abstract)
            elif name in ("body", "back", "floats-group"):
                self.blocks(child, 2)
            elif name in ("sub-article", "response"):
                self.sub_article(child)

    def blocks(self, element: Any, level: int) -> None:
        """All blocks inside an element; sections in it are of `level`."""
        for child in element:
            name = local_name(child)
            if name and name not in ("title", "label") and name not in _SILENT:
                self._block_element(child, name, level)
            elif name == "graphic":
                self.images += 1

    def _block_element(self, element: Any, name: str, level: int) -> None:
        writers: dict[str, Callable[[Any, int], None]] = {
            "p": self._paragraph, "sec": self._section, "app": self._section, "ack": self._section,
            "glossary": self._section, "notes": self._section, "bio": self._section, "ref-list": self._references,
            "table-wrap": self._table, "fig": self._figure, "list": self._list, "def-list": self._definitions,
            "disp-formula": self._formula, "fn": self._footnote, "fn-group": self._section, "boxed-text": self._boxed,
            "supplementary-material": self._captioned, "media": self._captioned, "table": self._bare_table,
            "alternatives": self._alternatives,
        }  # fmt: skip
        if name in writers:
            writers[name](element, level)
        elif any(local_name(child) in _BLOCKS | _FLOATS | {"caption", "app", "attrib"} for child in element):
            self.blocks(element, level)
        else:
            self.block(collapse(inline_text(element)))

    def _section(self, element: Any, level: int) -> None:
        label, title = element.find("{*}label"), element.find("{*}title")
        words = [collapse(inline_text(part)) for part in (label, title) if part is not None]
        text = " ".join(word for word in words if word) or _HEADED.get(local_name(element), "")
        if not text and local_name(element) in ("notes", "fn-group", "bio"):
            self.blocks(element, level)
            return
        self.heading(text, level)
        self.blocks(element, level + 1)
        self._untitled = None

    def _paragraph(self, element: Any, level: int) -> None:
        """Text with what is set inside it: tables and figures come after the paragraph, lists and formulas in place."""
        run = [element.text or ""]
        floats = []
        for child in element:
            name = local_name(child)
            if name in _FLOATS:
                floats.append(child)
            elif name in _BLOCKS:
                self.block(collapse("".join(run)))
                self._block_element(child, name, level)
                run = []
            elif name:
                append_child(run, child, name)
                self._count_images(child, name)
            run.append(child.tail or "")
        self.block(collapse("".join(run)))
        for child in floats:
            self._block_element(child, local_name(child), level)

    def _count_images(self, element: Any, name: str) -> None:
        graphic = name in ("inline-graphic", "graphic")
        if graphic or (name in ("inline-formula", "alternatives") and not collapse(child_text(element, name))):
            self.images += 1

    def _references(self, element: Any, level: int) -> None:
        self.references += sum(1 for _ in element.iter("{*}ref"))
        if self._write_references:
            title = element.find("{*}title")
            self.heading(inline_text(title) if title is not None else "References", level)
            self.block("\n".join(filter(None, (reference_line(ref) for ref in element.iterfind("{*}ref")))))
        for child in element:  # notes among the references are text
            if local_name(child) in ("p", "sec") or (self._write_references and local_name(child) == "ref-list"):
                self._block_element(child, local_name(child), level)

    def _caption(self, element: Any) -> str:
        """ "Table 1. Title. Text." of a float."""
        label, caption = element.find("{*}label"), element.find("{*}caption")
        parts = [collapse(inline_text(label))] if label is not None else []
        for part in caption if caption is not None else []:
            if local_name(part):
                parts.append(collapse(inline_text(part)))
        if caption is not None and caption.text and caption.text.strip():
            parts.append(collapse(caption.text))
        joined = ""
        for part in filter(None, parts):
            joined += ("" if not joined else " " if joined[-1] in ".:?!。：？！" else ". ") + part
        return joined

    def _table(self, element: Any, level: int) -> None:
        lines = [self._caption(element)]
        tables = list(element.iter("{*}table"))
        for table in tables:
            lines += table_lines(table)
        if not tables and any(local_name(e) in ("graphic", "inline-graphic") for e in element.iter()):
            self.images += 1
        for child in element:
            name = local_name(child)
            if name == "table-wrap-foot":
                lines += self._foot_lines(child)
            elif name not in ("", "label", "caption", "table", "alternatives", "graphic") and name not in _SILENT:
                lines.append(collapse(inline_text(child)))
        self.block("\n".join(line for line in lines if line))

    def _bare_table(self, element: Any, level: int) -> None:
        self.block("\n".join(table_lines(element)))

    def _foot_lines(self, element: Any) -> list[str]:
        lines = []
        for child in element:
            name = local_name(child)
            if name in ("fn-group", "fn") and any(local_name(part) == "fn" for part in child):
                lines += self._foot_lines(child)
            elif name == "fn":
                lines.append(_labelled(child))
            elif name and name not in _SILENT:
                lines.append(collapse(inline_text(child)))
        return lines

    def _figure(self, element: Any, level: int) -> None:
        self.images += sum(1 for child in element.iter("{*}graphic"))
        self.block(self._caption(element))
        known = ("label", "caption", "graphic", "alternatives", "media")
        for child in element:
            name = local_name(child)
            if name and name not in known and name not in _SILENT:
                self._block_element(child, name, level)
            elif name == "media":
                self._captioned(child, level)

    def _captioned(self, element: Any, level: int) -> None:
        self.block(self._caption(element))
        for child in element:
            if local_name(child) in ("p", "media"):
                self._block_element(child, local_name(child), level)

    def _boxed(self, element: Any, level: int) -> None:
        self.block(self._caption(element))
        for child in element:
            name = local_name(child)
            if name and name not in ("label", "caption", "title") and name not in _SILENT:
                self._block_element(child, name, level)
            elif name == "title":
                self.heading(inline_text(child), level)

    def _list(self, element: Any, level: int) -> None:
        self.block("\n".join(self._list_lines(element, "")))

    def _list_lines(self, element: Any, indent: str) -> list[str]:
        lines = []
        ordered = element.get("list-type") in ("order", "ordered")
        title = element.find("{*}title")
        if title is not None and collapse(inline_text(title)):
            lines.append(indent + collapse(inline_text(title)))
        items = [child for child in element if local_name(child) == "list-item"]
        for number, item in enumerate(items, 1):
            label = item.find("{*}label")
            mark = collapse(inline_text(label)) if label is not None else f"{number}." if ordered else "-"
            texts, inner = [], []
            for part in item:
                name = local_name(part)
                if name == "list":
                    inner += self._list_lines(part, indent + "  ")
                elif name and name != "label":
                    texts.append(collapse(inline_text(part, frozenset({"list"}))))
                    for nested in part.iterfind("{*}list"):
                        inner += self._list_lines(nested, indent + "  ")
            text = " ".join(filter(None, texts))
            lines += [f"{indent}{mark} {text}".rstrip(), *inner] if text or inner else []
        return lines

    def _definitions(self, element: Any, level: int) -> None:
        title = element.find("{*}title")
        lines = [collapse(inline_text(title))] if title is not None else []
        for item in element:
            name = local_name(item)
            if name == "def-item":
                terms = [collapse(inline_text(part)) for part in item if local_name(part) == "term"]
                meanings = [collapse(inline_text(part)) for part in item if local_name(part) == "def"]
                lines.append(f"{', '.join(terms)}: {' '.join(meanings)}".strip(": "))
            elif name and name != "title":
                lines.append(collapse(inline_text(item)))
        self.block("\n".join(line for line in lines if line))

    def _formula(self, element: Any, level: int) -> None:
        label = element.find("{*}label")
        skip = frozenset({"label"})
        text = collapse(inline_text(element, skip))
        if not text:
            self.images += 1
            return
        number = collapse(inline_text(label)) if label is not None else ""
        self.block(f"{text} {number}".strip())

    def _alternatives(self, element: Any, level: int) -> None:
        tables = list(element.iter("{*}table"))
        if tables:
            self._bare_table(tables[0], level)
            return
        text = collapse(alternatives_text(element) or math_text(element))
        self.images += not text
        self.block(text)

    def _footnote(self, element: Any, level: int) -> None:
        self.block(_labelled(element))


def reference_line(reference: Any) -> str:
    """An entry of a reference list on one line: its label, then the citation as printed or put together."""
    parts = []
    for child in reference:
        name = local_name(child)
        if name in ("element-citation", "nlm-citation"):
            parts.append(". ".join(filter(None, (_cited(part) for part in child))))
        elif name:
            parts.append(collapse(inline_text(child)))
    return " ".join(part for part in parts if part)


def _cited(element: Any) -> str:
    """A part of a citation that is given as data."""
    name = local_name(element)
    if name in ("person-group", "name-alternatives"):
        return ", ".join(filter(None, (_cited(child) for child in element)))
    if name in ("name", "string-name"):
        words = " ".join(filter(None, (collapse(inline_text(child)) for child in element)))
        return words or collapse(inline_text(element))
    return collapse(inline_text(element)) if name else ""


def _labelled(element: Any) -> str:
    """A footnote on one line, its label before it."""
    label = element.find("{*}label")
    parts = [collapse(inline_text(label))] if label is not None else []
    parts += [collapse(inline_text(part)) for part in element if local_name(part) not in ("label", "")]
    return " ".join(part for part in parts if part)
