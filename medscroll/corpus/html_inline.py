"""Inline text of HTML: scripts that keep their meaning, formulas, white space; nodes are selectolax's.

The same rules as for articles (`jats_inline`): `10<sup>9</sup>` becomes 10⁹, a script without a Unicode form `^(...)`
or `_(...)`, a superscript that links to a reference [12]. Depth is bounded; below it the text is taken as it stands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from medscroll.corpus.jats_inline import collapse, math_text, subscript, superscript

DEEPEST = 120  # nested elements, below which a part is taken as plain text
SILENT = frozenset(
    {"script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "embed", "audio", "video", "map",
     "button", "input", "select", "textarea", "datalist", "dialog", "head", "link", "meta", "nav"}
)  # fmt: skip
_BREAK = "\ue0fe"  # stands for <br> until white space is collapsed
_CITATION = re.compile(r"\d{1,3}(?:\s*[,;–−-]\s*\d{1,3})*")


def children(node: Any) -> Iterator[Any]:
    """The child nodes in order."""
    child = node.child
    while child is not None:
        following = child.next
        yield child
        child = following


def left_out_name(node: Any) -> str:
    """Under which name an element is counted that is never text: its tag, or "hidden"; "" where it is text."""
    tag = node.tag
    if tag in SILENT:
        return str(tag)
    attributes = node.attributes
    if not attributes:
        return ""
    style = (attributes.get("style") or "").replace(" ", "").lower()
    if "hidden" in attributes or "display:none" in style or "visibility:hidden" in style:
        return "hidden"
    # MathML is often marked as decoration because a picture stands beside it for the eye
    return "hidden" if attributes.get("aria-hidden") == "true" and node.css_first("math") is None else ""


def characters(node: Any) -> int:
    """Characters of text in an element, white space aside."""
    return len("".join((node.text(deep=True) or "").split()))


class InlineWriter:
    """Text of inline elements.

    Attributes:
        counts: what was left out, by stable name: `html_<tag>`, `html_images`, `html_left_out_characters`.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self._writers: dict[str, Callable[[Any, int], str]] = {
            "br": lambda node, depth: _BREAK, "img": self._image, "math": self._formula, "sup": self._superscript,
            "sub": self._subscript,
        }  # fmt: skip

    def leave_out(self, node: Any, name: str) -> None:
        """Counts an element that is not written."""
        self.counts[f"html_{name}"] += 1
        if name not in ("script", "style"):
            self.counts["html_left_out_characters"] += characters(node)

    def text(self, node: Any, depth: int = 0) -> str:
        """Text of an element, one line; a <br> ends a line only through `lines`."""
        return collapse(self._inside(node, depth).replace(_BREAK, " "))

    def lines(self, parts: list[str]) -> str:
        """Pieces of running text as lines: white space collapsed, <br> as line end."""
        return "\n".join(filter(None, (collapse(line) for line in "".join(parts).split(_BREAK))))

    def piece(self, node: Any, depth: int, before: str = "") -> str:
        """Text of one inline node, white space not collapsed.

        Args:
            before: what stands before it in the same run.
        """
        tag = node.tag
        if node.is_text_node:
            return node.text_content or ""
        if tag is None or tag.startswith("-") or tag == "wbr":
            return ""
        writer = self._writers.get(tag)
        if writer is not None:
            return writer(node, depth)
        name = left_out_name(node)
        if name:
            self.leave_out(node, name)
            return ""
        return self._running(node, tag, depth, before)

    def _running(self, node: Any, tag: str, depth: int, before: str) -> str:
        """An inline element that is written as what is in it."""
        if depth > DEEPEST:
            self.counts["html_flattened_nesting"] += 1
            return node.text(deep=True, separator=" ") or ""
        inside = self._inside(node, depth + 1)
        if tag == "a" and _refers(node) and _CITATION.fullmatch(collapse(inside)) and before[-1:].isalnum():
            return f"[{collapse(inside)}]"  # so that 4.5 with a note 1 does not become 4.51
        return f'"{inside}"' if tag == "q" else inside

    def _inside(self, node: Any, depth: int) -> str:
        parts: list[str] = []
        for child in children(node):
            parts.append(self.piece(child, depth, parts[-1] if parts else ""))
        return "".join(parts)

    def _subscript(self, node: Any, depth: int) -> str:
        return subscript(self._flat(node, depth))

    def _flat(self, node: Any, depth: int) -> str:
        """What is in an element on one line; below the depth that is walked, its plain text."""
        if depth > DEEPEST:
            self.counts["html_flattened_nesting"] += 1
            return collapse(node.text(deep=True, separator=" ") or "")
        return collapse(self._inside(node, depth + 1).replace(_BREAK, " "))

    def _superscript(self, node: Any, depth: int) -> str:
        text = self._flat(node, depth)
        links = node.css("a")
        parent = node.parent
        inside_link = parent is not None and parent.tag == "a" and _refers(parent)
        if (links and all(_refers(link) for link in links)) or inside_link:
            bare = text.strip(",; ")
            if _CITATION.fullmatch(bare.strip("[]()")):
                return bare if bare.startswith(("[", "(")) else f"[{bare}]"
        return text if text.startswith("[") else superscript(text)

    def _image(self, node: Any, depth: int) -> str:
        """A sign that is set as a picture (an `alt` of up to three characters) is kept, other pictures are counted."""
        sign = collapse(node.attributes.get("alt") or "")
        if sign and len(sign) <= 3 and not sign.isalpha():
            return sign
        self.counts["html_images"] += 1
        return ""

    def _formula(self, node: Any, depth: int) -> str:
        from lxml import etree

        source = node.attributes.get("alttext") or ""
        try:
            root = etree.fromstring(node.html or "", etree.HTMLParser(no_network=True))
            found = root.find(".//math") if root is not None else None
            text = collapse(math_text(found)) if found is not None else ""
        except (etree.LxmlError, RecursionError):
            text = ""
        text = text or collapse(source) or collapse(node.text(deep=True) or "")
        if not text:
            self.counts["html_images"] += 1
        return f" {text} " if text else ""


def _refers(link: Any) -> bool:
    """Whether a link points at a place of the same page, as citations and footnotes do."""
    target = link.attributes.get("href") or ""
    return ("#" in target and not target.startswith(("http:", "https:", "mailto:"))) or "bib" in target.lower()
