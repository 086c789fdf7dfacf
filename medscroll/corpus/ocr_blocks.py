"""The blocks of what MinerU and PaddleOCR wrote as JSON, in terms that both share.

Recognised by structure: MinerU's `content_list.json` (both forms) and `middle.json`; PaddleOCR's result of a page
(`parsing_res_list`), bare, under "res", or in the answer of its service. Nothing that is text is passed over: blocks
of an unknown kind are text. Cost: one pass over the parsed JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Blocks that frame a page, by the names of both programs.
_FRAME = {
    "header": "header", "footer": "footer", "page_number": "page_number", "number": "page_number",
    "aside_text": "aside_text", "page_header": "header", "page_footer": "footer", "page_aside_text": "aside_text",
    "header_image": "header", "footer_image": "footer", "discarded": "discarded", "abandon": "discarded",
}  # fmt: skip
_REFERENCES = frozenset({"ref_text", "reference", "reference_content"})
_PICTURES = frozenset({"image", "chart", "figure", "seal"})
_WRAPPERS = ("res", "result", "prunedResult")
_HEADING = re.compile(r"\s*(#{1,6})\s+(.*)", re.DOTALL)
_HAN_END, _HAN_START = re.compile(r"[\u3000-\u9fff\uff00-\uffef]$"), re.compile(r"[\u3000-\u9fff\uff00-\uffef]")


@dataclass(slots=True)
class Block:
    """A block of a page, in the terms of both programs.

    Attributes:
        kind: "text", "heading", "table", "picture", "frame:<name>", "reference".
        page: from 1. level: of a heading.
        text: of it; the HTML of a table.
        before, after: captions and notes.
    """

    kind: str
    page: int
    text: str = ""
    level: int = 0
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def recognised_by(value: Any) -> str:
    """ "mineru" or "paddleocr" where parsed JSON is what that program writes, else ""."""
    if isinstance(value, dict):
        pages = value.get("pdf_info")
        if isinstance(pages, list) and all(isinstance(page, dict) and "page_idx" in page for page in pages):
            return "mineru"
        return "paddleocr" if _paddle_pages(value) is not None else ""
    if not isinstance(value, list) or not value:
        return ""
    if all(isinstance(item, dict) and "type" in item and "page_idx" in item for item in value):
        return "mineru"
    if all(isinstance(page, list) and all(_is_v2(item) for item in page) for page in value) and any(value):
        return "mineru"
    return "paddleocr" if all(isinstance(page, dict) and _paddle_pages(page) for page in value) else ""


def blocks_of(value: Any, first_page: int = 1) -> Iterator[Block]:
    """All blocks of one parsed file in reading order; pages that are not stated are counted from `first_page`."""
    if isinstance(value, dict) and "pdf_info" in value:
        yield from _middle_blocks(value)
    elif isinstance(value, list) and isinstance(value[0], list):
        for number, items in enumerate(value, 1):
            for item in items:
                yield _content_block(_from_v2(item), number)
    elif isinstance(value, list) and "page_idx" in value[0]:
        for item in value:
            yield _content_block(item, int(item.get("page_idx") or 0) + 1)
    else:
        yield from _paddle_blocks(value, first_page)


def _middle_blocks(value: dict[str, Any]) -> Iterator[Block]:
    for page in value["pdf_info"]:
        number = int(page.get("page_idx") or 0) + 1
        for block in page.get("para_blocks") or []:
            yield from _middle_block(block, number)
        for block in page.get("discarded_blocks") or []:
            yield Block("frame:discarded", number, _lines_text(block))


def _paddle_blocks(value: Any, first_page: int) -> Iterator[Block]:
    parts = value if isinstance(value, list) else [value]
    pages = [page for part in parts for page in _paddle_pages(part) or []]
    for number, page in enumerate(pages, first_page):
        stated = page.get("page_index")
        at = stated + 1 if isinstance(stated, int) and len(pages) == 1 else number
        for item in page["parsing_res_list"]:
            if isinstance(item, dict):
                yield _paddle_block(item, at)


def _texts(value: Any) -> list[str]:
    """Captions and the like, which are a text, a list of texts, or missing."""
    items = value if isinstance(value, list) else [value]
    return [item.strip() for item in items if isinstance(item, str) and item.strip()]


def _content_block(item: dict[str, Any], page: int) -> Block:
    """A block of MinerU's content list; names of older versions included."""
    kind = str(item.get("type") or "")
    text = item.get("text")
    text = text if isinstance(text, str) else ""
    before, after = _around(item, kind)
    if kind in _FRAME:
        block = Block(f"frame:{_FRAME[kind]}", page, text)
    elif kind == "list" or "list_items" in item:
        listed = "\n".join(_texts(item.get("list_items"))) or text
        block = Block("reference" if item.get("sub_type") == "ref_text" else "text", page, listed)
    elif kind in _REFERENCES:
        block = Block("reference", page, text)
    elif kind == "table":
        block = Block("table", page, "\n".join(_texts(item.get("table_body"))) or text, before=before, after=after)
    elif kind in _PICTURES:
        block = Block("picture", page, "\n".join(_texts(item.get("content"))) or text, before=before, after=after)
    elif kind in ("code", "algorithm") and "code_body" in item:
        block = Block("text", page, "\n".join([*before, *_texts(item["code_body"]), *after]))
    else:
        stated = item.get("text_level")
        level = min(stated, 6) if isinstance(stated, int) and stated > 0 else 0
        block = Block("heading" if level else "text", page, text, level)
    return block


def _around(item: dict[str, Any], kind: str) -> tuple[list[str], list[str]]:
    """(captions, notes) of a table, picture or listing, under the names of all versions."""
    names = (f"{kind}_", "img_", "image_")
    found = []
    for role in ("caption", "footnote"):
        keys = dict.fromkeys(f"{name}{role}" for name in names)
        found.append([text for key in keys for text in _texts(item.get(key))])
    return found[0], found[1]


def _is_v2(item: Any) -> bool:
    return isinstance(item, dict) and "type" in item and isinstance(item.get("content"), dict)


def _from_v2(item: dict[str, Any]) -> dict[str, Any]:
    """An entry of the second form of the content list in the terms of the first."""
    kind, content = str(item["type"]), item["content"]
    spans = {key: _spans(value) for key, value in content.items() if isinstance(value, list) and key != "list_items"}
    if kind == "title":
        return {"type": "text", "text": spans.get("title_content", ""), "text_level": content.get("level") or 1}
    if kind == "equation_interline":
        return {"type": "equation", "text": f"$$\n{str(content.get('math_content') or '').strip()}\n$$"}
    if kind == "list":
        entries = [entry for entry in content.get("list_items") or [] if isinstance(entry, dict)]
        sub_type = "ref_text" if "ref" in str(content.get("list_type")) else ""
        return {"type": kind, "sub_type": sub_type, "list_items": [_spans(e.get("item_content")) for e in entries]}
    if kind == "table":
        return {
            "type": kind, "table_body": content.get("html"), "table_caption": spans.get("table_caption"),
            "table_footnote": spans.get("table_footnote"),
        }  # fmt: skip
    if kind in _PICTURES:
        return {
            "type": kind, "content": content.get("content"), f"{kind}_caption": spans.get(f"{kind}_caption"),
            f"{kind}_footnote": spans.get(f"{kind}_footnote"),
        }  # fmt: skip
    return {"type": kind, "text": "\n".join(part for part in spans.values() if part)}


def _spans(value: Any) -> str:
    """The text of a list of spans; formulas in dollar signs."""
    parts = []
    for span in value if isinstance(value, list) else []:
        if isinstance(span, dict) and isinstance(span.get("content"), str):
            formula = "equation" in str(span.get("type"))
            parts.append(f"${span['content'].strip()}$" if formula else span["content"])
    return "".join(parts)


def _middle_block(block: dict[str, Any], page: int) -> Iterator[Block]:
    """The blocks of one paragraph of `middle.json`."""
    kind = str(block.get("type") or "")
    inner = [part for part in block.get("blocks") or [] if isinstance(part, dict)]
    if kind in ("table", "image", "chart"):
        by_role: dict[str, list[str]] = {}
        for part in inner:
            role = str(part.get("type") or "").rpartition("_")[2]
            by_role.setdefault(role, []).append(_lines_text(part))
        body = "\n".join(text for text in by_role.get("body", []) if text)
        name = "table" if kind == "table" else "picture"
        yield Block(name, page, body, before=by_role.get("caption", []), after=by_role.get("footnote", []))
    elif kind == "title":
        level = block.get("level")
        yield Block("heading", page, _lines_text(block), level if isinstance(level, int) and level > 0 else 1)
    elif inner:
        reference = block.get("sub_type") == "ref_text"
        text = "\n".join(_lines_text(part) for part in inner)
        yield Block("reference" if reference else "text", page, text)
    elif kind in _FRAME:
        yield Block(f"frame:{_FRAME[kind]}", page, _lines_text(block))
    else:
        text = _lines_text(block)
        formula = kind == "interline_equation" and text and not text.startswith("$")
        yield Block("reference" if kind in _REFERENCES else "text", page, f"$$\n{text}\n$$" if formula else text)


def _lines_text(block: dict[str, Any]) -> str:
    """The lines of a block as one paragraph; the HTML of a table."""
    text = ""
    for line in block.get("lines") or []:
        parts = []
        for span in line.get("spans") or []:
            content = span.get("html") or span.get("content")
            if isinstance(content, str) and content:
                parts.append(f"${content.strip()}$" if span.get("type") == "inline_equation" else content.strip())
        joined = " ".join(parts) if not any(_HAN_START.match(part) for part in parts) else "".join(parts)
        if not text or not joined:
            text += joined
        elif re.search(r"[a-z]-$", text) and joined[:1].islower():
            text = text[:-1] + joined
        else:
            text += ("" if _HAN_END.search(text) and _HAN_START.match(joined) else " ") + joined
    return text


def _paddle_pages(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The results of pages inside what PaddleOCR or its service wrote; None where there are none."""
    for _ in range(4):
        if isinstance(value.get("parsing_res_list"), list):
            return [value]
        pages = value.get("layoutParsingResults")
        if isinstance(pages, list):
            found = [page for part in pages if isinstance(part, dict) for page in _paddle_pages(part) or []]
            return found or None
        inner = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), dict)), None)
        if inner is None:
            return None
        value = inner
    return None


def _paddle_block(item: dict[str, Any], page: int) -> Block:
    label = str(item.get("block_label") or "text")
    content = item.get("block_content")
    text = content if isinstance(content, str) else ""
    if label in _FRAME:
        return Block(f"frame:{_FRAME[label]}", page, text)
    if label in _REFERENCES:
        return Block("reference", page, text)
    if label in ("doc_title", "paragraph_title", "title"):
        marked = _HEADING.fullmatch(text)
        level = len(marked[1]) if marked else 1 if label == "doc_title" else 2
        return Block("heading", page, marked[2] if marked else text, level)
    if label == "table":
        return Block("table", page, text)
    return Block("picture" if label in _PICTURES else "text", page, text)
