"""Lines of a text as the step `unwrap` sees them: how wide they are, and what is no running prose.

A line that is a heading, an item of a list, a row of a table, a listing of laboratory values, verse or a mark is never
joined to another. `Lines` holds the widths of all lines and, for each, the width at which its neighbourhood seems to be
wrapped. Cost: linear; each line is looked at once, each window of `_CHUNK` lines sorted once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

_CHUNK = 16  # lines; the neighbourhood of a line is its chunk and the ones before and after
_WIDEST = 132  # columns: wider lines are not hard-wrapped
_NARROWEST_ZH, _NARROWEST = 44, 40  # columns: narrower text is verse or a list
_CAPITALS = "A-ZÀ-ÖØ-Þ"
_STARTS_SOMETHING = re.compile(
    r"[ \t\u3000]*(?:#{1,6}[ \t]|<[^\s<>]{1,12}>|\\[a-z]|【|〔|\[[A-Z]|[-*•·●○◎◆■▲★☆─—–]+[ \t\u3000]?(?![\w])|"
    r"[-*•●○◎◆■▪‣][ \t]|[─—]{1,3}\S|"
    r"第[一二三四五六七八九十百千零〇\d]{1,6}[章节節回卷篇部编条]|卷[一二三四五六七八九十上中下之]{1,4}(?:\s|$)|"
    r"[一二三四五六七八九十]{1,3}[、．.]|[（(][一二三四五六七八九十\d]{1,3}[）)]|[①-⑳㈠-㈩]|"
    r"\d{1,3}(?:\.\d{1,2}){0,3}[.、)）．](?!\d)|\d{1,2}(?:\.\d{1,2}){1,3}[ \t]|[a-zA-Z][.)][ \t]|"
    r"[(（][a-zA-Z][)）][ \t]|(?:图|表|附图|附表|Fig(?:ure|\.)|Table|TABLE|FIGURE)[ ]?[\d一二三四五六七八九十]|"
    r"(?:Columns|Figure|Table|Note|Notes|Box):|```|~~~|>|\[\^|\$\$)"
)
_LABEL = re.compile(
    rf"[ \t]*(?:[{_CAPITALS}][A-Za-z/&'’()\-]*(?:[ ][A-Za-z/&'’()\-]+){{0,5}}|[\u3400-\u9fff]{{1,10}})[ ]?[:：]"
)
_ROW = re.compile(r"[^\s.!?:;,] {2,}\S|\S[ ]—[ ][^:]+: ")
_DOSES = re.compile(r"[\u3400-\u9fff□）][)）][ ]\S|[)）][ ][\u3400-\u9fff□]")
_HAN_BLANKS = re.compile(r"(?<=[\u3400-\u9fff□]) (?=[\u3400-\u9fff□])")
_NUMBERY = re.compile(r"\d")


def columns(line: str) -> int:
    """Width of a line on a terminal: Chinese and full-width characters take two columns, as they take two bytes."""
    return len(line) if line.isascii() else len(line.encode("gb18030", "replace"))


def _columns_of(lines: list[str]) -> list[int]:
    """`columns` of each line: all lines are encoded together, since no byte of a GB18030 character is a line end."""
    return list(map(len, "\n".join(lines).encode("gb18030", "replace").split(b"\n")))


def starts_something(line: str) -> bool:
    """Whether a line begins a heading, an item, a label, a mark: it is joined to nothing before it."""
    return _STARTS_SOMETHING.match(line) is not None


def is_label(line: str) -> bool:
    """Whether a line begins with a short label and a colon, as lines of forms and notes do."""
    return _LABEL.match(line) is not None


def is_listing(line: str) -> bool:
    """Whether a line is a table row, a list of prescriptions, values, or a heading in capitals: never joined."""
    if "\t" in line or "|" in line or (line.isascii() and len(line) > 3 and line.isupper()):
        return True
    if " " not in line:
        return False
    if ("  " in line or " — " in line) and _ROW.search(line):
        return True
    if (") " in line or "） " in line) and _DOSES.search(line):
        return True
    if line.count(" ") >= 3 and len(_HAN_BLANKS.findall(line)) >= 3:
        return True
    words = line.split()
    return len(words) >= 3 and 2 * sum(1 for word in words if _NUMBERY.search(word)) >= len(words)


@dataclass(slots=True)
class Lines:
    """The lines of a text.

    Attributes:
        texts: without line ends and without blanks at their end.
        starts: offset of each in the text. raw: length of each with its trailing blanks.
        widths: columns; 0 for a blank line.
        wrap: width at which the neighbourhood is wrapped; 0 where it is not.
        usual: the most frequent width of full lines there.
    """

    texts: list[str]
    starts: list[int]
    raw: list[int]
    widths: list[int]
    wrap: list[int]
    usual: list[int]
    listing: dict[int, bool] = field(default_factory=dict)

    def is_listing(self, index: int) -> bool:
        """`is_listing` of a line, looked at once."""
        if index not in self.listing:
            self.listing[index] = is_listing(self.texts[index])
        return self.listing[index]


def split_lines(text: str, chinese: bool) -> Lines:
    """The lines of a text with their widths."""
    whole = text.split("\n")
    starts, position = [], 0
    for line in whole:
        starts.append(position)
        position += len(line) + 1
    texts = [line.rstrip(" \t\u3000") for line in whole]
    widths = _columns_of(texts) if chinese else list(map(len, texts))
    lines = Lines(texts, starts, [len(line) for line in whole], widths, [], [])
    if 2 * sum(width for width in widths if width > _WIDEST) > sum(widths):
        lines.wrap = lines.usual = [0] * len(widths)  # most of it stands in paragraphs already
    else:
        _measure(lines, _NARROWEST_ZH if chinese else _NARROWEST)
    return lines


def _measure(lines: Lines, narrowest: int) -> None:
    """Fills in `wrap` and `usual`, chunk by chunk."""
    widths = lines.widths
    count = len(widths)
    # width of each line that may be a full one: not too wide, and another line follows; else 0
    eligible = [width if width <= _WIDEST and after else 0 for width, after in pairwise(widths)]
    everywhere = sorted(filter(None, eligible), reverse=True)
    whole = everywhere[min(len(everywhere) // 50, len(everywhere) - 1)] if everywhere else 0
    for start in range(0, count, _CHUNK):
        near = sorted(filter(None, eligible[max(0, start - _CHUNK) : start + 2 * _CHUNK]), reverse=True)
        wide = near[2] if len(near) >= 6 else whole
        full = [width for width in near if wide - 8 <= width <= wide + 8]
        wrapped = narrowest <= wide <= _WIDEST and (5 * len(full) >= max(15, len(near)) or len(near) < 6)
        usual = max(dict.fromkeys(full), key=full.count) if full else wide
        size = min(_CHUNK, count - start)
        lines.wrap += [wide if wrapped else 0] * size
        lines.usual += [usual] * size
