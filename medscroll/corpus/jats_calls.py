"""Marks in an article that point elsewhere, taken out by option, and what of an article is not its text, counted.

A citation such as `[12]` or a superscript 12, and a call such as `(Fig. 2)`, are elements (<xref>). Dropping one also
drops the brackets that hold nothing else. Left-out parts are counted in characters without white space, so that the
text of an article is: its characters in the file, less what is counted here. Cost: a tenth of reading the article.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from medscroll.corpus.jats_inline import local_name

DROPPED = "\ue0f0"  # stands for a dropped mark until its surroundings are tidied
_FIGURES = frozenset({"fig", "table", "supplementary-material", "media", "boxed-text", "scheme", "chart", "plate"})
_BETWEEN = r"(?:[\s,;–−&-]|and|to|see|also|e\.g\.|cf\.)*"
_TIDY = (
    (re.compile(rf"[ \u00a0]?[\[(（]{_BETWEEN}{DROPPED}{_BETWEEN}(?:{DROPPED}{_BETWEEN})*[\])）]"), ""),
    (re.compile(rf"\s*[;,]\s*{DROPPED}(?:\s*[,;–−-]\s*{DROPPED})*(?=\s*[)\]])"), ""),
    (re.compile(rf"(?<=[(\[]){DROPPED}(?:\s*[,;–−-]\s*{DROPPED})*\s*[;,]\s*"), ""),
    (re.compile(rf"[ \u00a0]?{DROPPED}(?:\s*[,;–−-]\s*{DROPPED})*"), ""),
)
_FRONT = frozenset(
    {"journal-meta", "article-id", "article-categories", "contrib-group", "aff", "aff-alternatives", "author-notes",
     "pub-date", "volume", "issue", "issue-id", "issue-title", "issue-sponsor", "fpage", "lpage", "page-range",
     "elocation-id", "history", "permissions", "self-uri", "related-article", "related-object", "funding-group",
     "conference", "counts", "custom-meta-group", "product", "supplement", "alt-title", "pub-history",
     "article-version"}
)  # fmt: skip
_HOLD_FRONT = ("{*}front", "{*}article-meta", "{*}front-stub", "{*}sub-article", "{*}response")
_MACHINE = (
    "{*}object-id", "{*}alt-text", "{*}long-desc", "{*}annotation", "{*}annotation-xml", "{*}index-term", "{*}target",
)  # fmt: skip


def drop_calls(article: Any, *, citations: bool, figures: bool) -> dict[str, int]:
    """Replaces marks in the tree by `DROPPED`; what they were is counted.

    Args:
        article: an lxml element, changed in place.
        citations: marks that point at references. figures: marks that point at figures, tables and supplements.
    """
    counts: Counter[str] = Counter()
    for xref in article.iter("{*}xref"):
        kind = xref.get("ref-type") or ""
        name = "citations" if citations and kind == "bibr" else "figure_calls" if figures and kind in _FIGURES else ""
        if name:
            counts[f"jats_dropped_{name}"] += 1
            counts["jats_dropped_call_characters"] += _size(xref)
            tail = xref.tail
            for child in list(xref):
                xref.remove(child)
            xref.text, xref.tail = DROPPED, tail
    return dict(counts)


def tidy(text: str) -> str:
    """Text without dropped marks, and without brackets and commas that only they needed."""
    if DROPPED in text:
        for pattern, replacement in _TIDY:
            text = pattern.sub(replacement, text)
    return text


def count_left_out(article: Any, *, references: bool) -> dict[str, int]:
    """Characters (white space aside) of the parts of an article that are never or by option not written.

    Names: `jats_front_matter_characters` (authors, addresses, dates, permissions and the like, of which the metadata
    keeps what attribution needs), `jats_reference_characters`, `jats_machine_characters` (alternative descriptions and
    ids), `jats_alternative_characters` (second forms of formulas).
    """
    counts: Counter[str] = Counter()
    for holder in article.iter(*_HOLD_FRONT):
        for child in holder:
            name = local_name(child)
            if name in _FRONT or (name == "title-group" and child.find("{*}alt-title") is not None):
                left_out = [child] if name in _FRONT else child.findall("{*}alt-title")
                counts["jats_front_matter_characters"] += sum(map(_size, left_out))
    for title in article.iterfind("{*}front/{*}article-meta/{*}title-group/{*}article-title"):
        notes = [mark for mark in title.iter("{*}fn", "{*}xref") if not _is_inside(mark, ("fn", "xref"))]
        counts["jats_front_matter_characters"] += sum(map(_size, notes))
    if not references:
        lists = [element for element in article.iter("{*}ref-list") if not _is_inside(element, ("ref-list",))]
        counts["jats_reference_characters"] = sum(map(_size, lists))
    above = tuple(_FRONT) if references else (*_FRONT, "ref-list")
    for element in article.iter(*_MACHINE):
        if not _is_inside(element, above):
            counts["jats_machine_characters"] += _size(element)
    for formula in article.iter("{*}tex-math"):
        parent = formula.getparent()
        second = local_name(parent) == "alternatives" and parent.find("{*}math") is not None
        if second and not _is_inside(formula, above):
            counts["jats_alternative_characters"] += _size(formula)
    return {name: number for name, number in counts.items() if number}


def _is_inside(element: Any, names: tuple[str, ...]) -> bool:
    return any(local_name(above) in names for above in element.iterancestors())


def _size(element: Any) -> int:
    return len("".join("".join(map(str, element.itertext())).split()))
