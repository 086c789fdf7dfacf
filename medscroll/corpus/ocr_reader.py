"""What MinerU and PaddleOCR made of PDF files and scans, as JSON, to text with its pages.

They are recognised by their structure, not by their names (`ocr_blocks`). Formats as in MinerU's
docs/reference/output_files.md and PaddleX's tutorial of PaddleOCR-VL.
Headings become sections that know their page; tables are written row by row like those of web pages; page headers,
footers and numbers are left out and counted; pictures are counted. Cost: that of the JSON, which is in memory whole.
"""

from __future__ import annotations

import re
from typing import Any

from medscroll.corpus.builder import TextBuilder
from medscroll.corpus.html_reader import parse_page
from medscroll.corpus.html_text import PageText
from medscroll.corpus.ocr_blocks import Block, blocks_of, recognised_by
from medscroll.corpus.record import Record

_SENTENCE_END = re.compile(r"[.!?:;。！？：；…\"”）)\]]\s*$")
_MARKUP = re.compile(r"</?(?:table|div|html|img|p|span|details)\b", re.IGNORECASE)


def read_recognised(values: list[Any], name: str, *, references: bool = False) -> Record:
    """The document of recognised pages.

    Args:
        values: parsed JSON that `recognised_by` knows; several where a program writes one file a page, in order.
        name: for errors.
        references: keep what was recognised as entries of reference lists.

    Raises:
        EnvironmentError_: a table is there and selectolax is not installed.
    """
    writer = _Writer(name, references)
    blocks: list[Block] = []
    first = 1
    for value in values:
        mine = list(blocks_of(value, first))
        blocks += mine
        first = max([first, *(block.page + 1 for block in mine)])
    characters: dict[int, int] = {}
    for block in blocks:
        before = writer.length
        writer.page = block.page
        writer.write(block)
        characters[block.page] = characters.get(block.page, 0) + writer.length - before
    last = max(characters, default=0)
    metadata: dict[str, Any] = {
        "format": recognised_by(values[0]), "page_characters": [characters.get(page, 0) for page in range(1, last + 1)],
    }  # fmt: skip
    for key, source in (("recogniser_version", "_version_name"), ("recogniser_backend", "_backend")):
        if isinstance(values[0], dict) and isinstance(values[0].get(source), str):
            metadata[key] = values[0][source]
    text, sections = writer.finish()
    title = next((section.title for section in sections if section.level == 1), None)
    writer.count("ocr_pages", last)
    return Record(0, text, title, None, metadata, sections, counts=dict(writer.counts))


class _Writer(TextBuilder):
    """Writes blocks; a paragraph that runs over a page end stays one."""

    def __init__(self, name: str, references: bool) -> None:
        super().__init__()
        self._name, self._references = name, references
        self._open: tuple[int, str] = (0, "")  # page and text of the paragraph that was written last

    def write(self, block: Block) -> None:
        """One block, or its count."""
        kind, _, frame = block.kind.partition(":")
        if kind == "frame" or (kind == "reference" and not self._references):
            self.count(f"ocr_{frame or 'references'}")
            self.count("ocr_left_out_characters", len("".join(block.text.split())))
            return
        if kind == "heading":
            self.heading(block.text, block.level)
        elif kind in ("table", "picture"):
            if kind == "picture":
                self.count("ocr_pictures")
            elif not block.text.strip():
                self.count("ocr_tables_without_text")
            body = _plain(block.text, self._name, self)
            self.block("\n".join(part for part in (*block.before, body, *block.after) if part.strip()))
        else:
            text = _plain(block.text, self._name, self) if _MARKUP.search(block.text) else block.text.strip()
            page, last = self._open
            runs_on = page == block.page - 1 and last and not _SENTENCE_END.search(last) and not text[:1].isupper()
            self.block(text, gap="\n" if runs_on else "\n\n")
            self._open = (block.page, text)
            return
        self._open = (0, "")


def _plain(html: str, name: str, builder: TextBuilder) -> str:
    """The text of a fragment of HTML, its tables row by row; text without tags as it is."""
    if "<" not in html or not _MARKUP.search(html):
        return html.strip()
    page = PageText(everything=True)
    page.walk(parse_page(html, name).body)
    for key, number in page.counts.items():
        if key != "html_images":  # those are counted as pictures already
            builder.count(key, number)
    text, _ = page.finish()
    return text.strip()


def html_tables_in_markdown(text: str, name: str) -> tuple[str, dict[str, int]]:
    """Markdown with its HTML tables written row by row, and pictures of MinerU and PaddleOCR taken out; counts.

    Raises:
        EnvironmentError_: selectolax is not installed.
    """
    builder = TextBuilder()

    def table(match: re.Match[str]) -> str:
        builder.count("markdown_tables")
        return _plain(match[0], name, builder)

    def picture(match: re.Match[str]) -> str:
        builder.count("markdown_pictures")
        return ""

    text = re.sub(r"<table\b.*?</table>", table, text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"(?m)^!\[[^\]\n]{0,200}\]\((?:images|imgs)/[^)\s]+\)[ \t]*\n?", picture, text)
    text = re.sub(r'(?m)^<div[^>\n]*>\s*<img src="imgs/[^>\n]*>\s*</div>[ \t]*\n?', picture, text)
    return text, dict(builder.counts)
