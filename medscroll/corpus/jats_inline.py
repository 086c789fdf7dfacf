"""Inline text of JATS: super- and subscripts that keep their meaning, formulas, citations, white space.

`10<sup>9</sup>/L` becomes `10⁹/L`, never `109/L`. A script whose characters all have a Unicode form takes it; others
become `^(...)` and `_(...)`. A superscript that is a citation becomes `[12]`, so that it is not read as a power.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Callable
from typing import Any

_SUPERSCRIPTS = dict(
    zip(
        "0123456789+-−–=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVW",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂ",
        strict=True,
    )
)
_SUBSCRIPTS = dict(zip("0123456789+-−–=()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
_SPACE = re.compile(r"[ \t\r\n\f\v]+")
_CITATION = re.compile(r"\d{1,3}(?:\s*[,;–−-]\s*\d{1,3})*")
_MATHML = "{http://www.w3.org/1998/Math/MathML}"
# Left out of running text: they are printed elsewhere or are machine data.
_SILENT = frozenset({"object-id", "inline-graphic", "graphic", "alt-text", "long-desc", "index-term", "target", "x"})
_BREAKS = frozenset({"break", "hr"})


def local_name(element: Any) -> str:
    """The tag without its namespace; "" for comments and processing instructions, "&" for entities."""
    tag = element.tag
    if isinstance(tag, str):
        return tag.rsplit("}", 1)[-1]
    return "&" if getattr(element, "name", None) and str(element.text or "").startswith("&") else ""


def collapse(text: str) -> str:
    """Runs of ASCII white space as one blank; no-break and thin spaces stay as they are."""
    return _SPACE.sub(" ", text).strip(" ")


def entity_text(element: Any) -> str:
    """The character of an entity that a DTD (which is never loaded) would define; `&name;` where it is unknown."""
    name = element.name
    return html.entities.html5.get(f"{name};", f"&{name};")


def superscript(text: str) -> str:
    """A superscript as text: "9" -> "⁹", "th" -> "th", "*" -> "*", "a,b" -> "^(a,b)"."""
    return _script(text, _SUPERSCRIPTS, "^")


def subscript(text: str) -> str:
    """A subscript as text: "2" -> "₂", "max" -> "ₘₐₓ", "EXTEM" -> "_(EXTEM)"."""
    return _script(text, _SUBSCRIPTS, "_")


def _script(text: str, table: dict[str, str], mark: str) -> str:
    text = collapse(text)
    if not text or (mark == "^" and text.lower() in ("st", "nd", "rd", "th")):
        return text
    if all(char in table for char in text):
        return "".join(table[char] for char in text)
    if not any(char.isalnum() for char in text):
        return text  # a footnote sign such as * or †, ®: the same on the line
    return f"{mark}{text}" if text[0] == "(" and text[-1] == ")" else f"{mark}({text})"


def inline_text(element: Any, skip: frozenset[str] = frozenset()) -> str:
    """Text of an element and what is in it, without its tail; white space not yet collapsed.

    Args:
        element: an lxml element.
        skip: names of elements inside that are left out (blocks that the caller writes apart).
    """
    parts = [element.text or ""]
    for child in element:
        name = local_name(child)
        if name and name not in skip:
            append_child(parts, child, name, skip)
        parts.append(child.tail or "")
    return "".join(parts)


def append_child(parts: list[str], child: Any, name: str, skip: frozenset[str] = frozenset()) -> None:
    """Adds the text of one inline element to what stands before it."""
    text = child_text(child, name, skip)
    if name == "xref":
        before = next((part for part in reversed(parts) if part), "")
        if before[-1:].isalnum():
            text = _citation_after_word(child, text)
    parts.append(text)


def child_text(child: Any, name: str, skip: frozenset[str] = frozenset()) -> str:
    """Text of one inline element, given with its local name."""
    if name in _SILENT:
        return ""
    if name in _BREAKS:
        return " "
    if name == "xref" and child.get("ref-type") == "bibr" and len(child) == 1 and local_name(child[0]) == "sup":
        return _bracketed(inline_text(child[0], skip))
    writer = _WRITERS.get(name)
    return writer(child, skip) if writer else inline_text(child, skip)


def _citation_after_word(element: Any, text: str) -> str:
    """A bare reference right after a letter or digit, set apart, so that 4.5 with a note 1 does not become 4.51."""
    kind = element.get("ref-type")
    if kind in ("fn", "table-fn") and any(char.isalnum() for char in text):
        return superscript(text) if element.find(".//{*}sup") is None else text
    if kind == "bibr" and _CITATION.fullmatch(collapse(text)):
        return f"[{collapse(text)}]"
    return text


def _superscript_element(element: Any, skip: frozenset[str]) -> str:
    references = [child for child in element if local_name(child) == "xref"]
    text = inline_text(element, skip)
    if references and all(child.get("ref-type") == "bibr" for child in references):
        return _bracketed(text)
    return superscript(text)


def _bracketed(text: str) -> str:
    """A citation that was a superscript, in square brackets."""
    text = collapse(text).strip(",; ")
    if not text or text.startswith(("[", "(")) or not _CITATION.search(text):
        return text
    return f"[{text}]"


def alternatives_text(element: Any, skip: frozenset[str] = frozenset()) -> str:
    """The first form of an <alternatives> that has text; TeX where there is no other."""
    for child in element:
        name = local_name(child)
        if name in _SILENT or name == "tex-math":
            continue
        text = math_text(child) if name == "math" else inline_text(child, skip)
        if text.strip():
            return text
    for child in element:
        if local_name(child) == "tex-math":
            return tex_text(child)
    return ""


def tex_text(element: Any) -> str:
    """The body of a <tex-math> without its document frame."""
    source = inline_text(element)
    match = re.search(r"\\begin\{document\}(.*?)\\end\{document\}", source, re.DOTALL)
    return collapse(match.group(1) if match else source)


def math_text(element: Any) -> str:
    """A MathML formula on one line: fractions as (a)/(b), roots as √(a), scripts as superscripts and subscripts."""
    name = local_name(element)
    if name in ("", "annotation", "annotation-xml"):
        return ""
    if name == "&":
        return entity_text(element)
    if name in ("mi", "mn", "mo", "mtext", "ms"):
        text = collapse(inline_text(element))
        return f" {text} " if name == "mo" and text and text in "=<>≤≥±×≈≠∼" else text
    parts = [math_text(child) for child in element if local_name(child)]
    if name == "mfenced":
        return f"{element.get('open', '(')}{', '.join(parts)}{element.get('close', ')')}"
    layout = _MATH_LAYOUTS.get((name, len(parts)))
    return layout(parts) if layout else "".join(parts) + _MATH_ENDS.get(name, "")


def _grouped(text: str) -> str:
    text = text.strip()
    return text if re.fullmatch(r"[\w.]+", text) else f"({text})"


_WRITERS: dict[str, Callable[[Any, frozenset[str]], str]] = {
    "&": lambda element, skip: entity_text(element),
    "sup": _superscript_element,
    "sub": lambda element, skip: subscript(inline_text(element, skip)),
    "math": lambda element, skip: math_text(element),
    "alternatives": alternatives_text,
    "tex-math": lambda element, skip: f" {tex_text(element)} ",
}
_MATH_ENDS = {"mspace": " ", "mtr": "; ", "mtd": " "}
_MATH_LAYOUTS: dict[tuple[str, int], Callable[[list[str]], str]] = {  # (element, number of parts in it)
    ("mfrac", 2): lambda parts: f"{_grouped(parts[0])}/{_grouped(parts[1])}",
    ("msup", 2): lambda parts: parts[0] + superscript(parts[1]),
    ("mover", 2): lambda parts: parts[0] + superscript(parts[1]),
    ("msub", 2): lambda parts: parts[0] + subscript(parts[1]),
    ("munder", 2): lambda parts: parts[0] + subscript(parts[1]),
    ("msubsup", 3): lambda parts: parts[0] + subscript(parts[1]) + superscript(parts[2]),
    ("munderover", 3): lambda parts: parts[0] + subscript(parts[1]) + superscript(parts[2]),
    ("mroot", 2): lambda parts: f"{superscript(parts[1])}√({parts[0]})",
    **{("msqrt", count): lambda parts: f"√({''.join(parts)})" for count in range(1, 30)},
}
