"""Cuts: the token positions where a document may be divided when it does not fit in one block.

A cut at p divides tokens[:p] | tokens[p:]. Borders are found in the text with regular expressions, by level:
    SECTION    where a section starts (the reader found it: headings, JATS sections, book chapters)
    PARAGRAPH  a blank line; or a line break before a heading-like line or after the end of a sentence (in
               hard-wrapped text every other line break is only layout)
    SENTENCE   Chinese 。！？；… with the quotes and brackets that close after it; English . ! ? before a space and a
               capital, digit or Chinese character, not after abbreviations and initials, not in numbers; and the
               end of a table row
    TOKEN      where these are more than 64 tokens apart: after a comma or colon, else between words or Chinese
               characters, about every 64 tokens, so that unpunctuated text is divided between words
and then moved to a token border through the tokenizer's offsets: only where a token starts and none before it
reaches over that place (so never inside a character that takes several tokens), moved at most over white space.
Nothing is cut inside a placeholder such as `[**2151-7-16**]`; and but for sections nothing inside a table row or a
number with its unit (`protected.py`).
Cost: about 5 MB of text a second and core, next to 1 or 2 MB/s for tokenizing; cuts take 5 bytes each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from medscroll.packing.protected import Protected

SECTION, PARAGRAPH, SENTENCE, TOKEN = 1, 2, 3, 4
LEVEL_NAMES = {SECTION: "section", PARAGRAPH: "paragraph", SENTENCE: "sentence", TOKEN: "token"}
RULES_VERSION = 2  # part of what decides whether finished work can be kept; raise it when the rules change

_CLOSERS = "”’」』）】》〉〕］)\\]\"'"
_CAPITALS = "A-ZÀ-ÖØ-ÞΑ-Ω"
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Possessive repeats and the look behind keep both linear on runs such as ".........". A reference mark may stand
# between the full stop and the space: "disease.[12] The". An end of a line is left to the paragraphs.
_CHINESE_END = re.compile(f"(?<![。！？；…])[。！？；…]++[{_CLOSERS}]*+(?![^\\S\\n]*\\n)")
_ENGLISH_END = re.compile(
    f"(?<![.!?])[.!?]++[{_CLOSERS}]*+(?:\\[\\d[\\d,;–\\- ]{{0,30}}\\])?+"
    f"(?=[ \\t\\u00a0\\u2009\\u3000]+[\"'“‘(\\[]*[{_CAPITALS}\\d{_CHINESE}])"
)
_LINE_BREAK = re.compile(r"\n\s*")
_LAST_WORD = re.compile(r"[A-Za-z][A-Za-z.]*$")
_CLAUSE = re.compile(r"[，、：；,;:](?:(?=[^\s\x00-\x7f])|[ \t\u00a0\u2009\u3000]+(?=\S))")
_WORD = re.compile(f"(?<![.\\s])\\s+(?=\\S)|(?<=[{_CHINESE}])(?=[{_CHINESE}])")
_APART = 64  # tokens between cuts above which safe places are added
_ABBREVIATION_LIST = """dr mr mrs ms prof st sr jr fig figs tab eq eqs ref refs no nos vol vols ch sec pp ed eds suppl
    al vs etc cf ca
    approx resp est dept inc ltd co corp univ jan feb mar apr jun jul aug sep sept oct nov dec viz incl excl
    mg kg ug mcg ml dl cm mm hr hrs min mins wk wks mo mos yr yrs tbsp tsp tab tabs cap caps pt pts temp wt ht
    max avg spp sp var subsp gen"""
_ABBREVIATIONS = frozenset(_ABBREVIATION_LIST.split())
_CLINICAL = (
    "主诉|现病史|既往史|个人史|婚育史|月经史|家族史|体格检查|查体|专科检查|辅助检查|实验室检查|影像学检查|初步诊断|鉴别诊断|"
    "入院诊断|出院诊断|入院情况|诊疗经过|治疗经过|出院情况|出院医嘱|出院带药|手术记录|病程记录|会诊记录|医师签名|诊断|治疗|随访|"
    "摘要|关键词|背景|目的|方法|结果|结论|讨论|参考文献"
)
_HEADING = re.compile(
    r"#{1,6}[ \t]"
    r"|[-*•·●][ \t\u3000]"
    r"|【[^】\n]{1,30}】"
    f"|<[{_CHINESE}]{{1,10}}>"
    r"|第[一二三四五六七八九十百千零〇\d]{1,6}[章节節回卷篇部]"
    r"|卷[一二三四五六七八九十上中下之]{1,4}[^\n]{0,20}$"
    r"|[一二三四五六七八九十]{1,3}、|[（(][一二三四五六七八九十\d]{1,3}[）)]"
    rf"|\d{{1,2}}(?:\.\d{{1,2}}){{0,3}}[.、)][ \t]*[{_CAPITALS}{_CHINESE}]"
    rf"|\d{{1,2}}(?:\.\d{{1,2}}){{1,3}}[ \t]+[{_CAPITALS}{_CHINESE}]"
    rf"|(?:{_CLINICAL})[ \t]*(?:[：:]|$)"
    r"|[A-Z][A-Za-z/&-]*(?:[ ][A-Za-z/&-]+){0,4}:(?:[ \t]|$)"
    r"|[A-Z][A-Z0-9 ,/&()-]{2,60}:?[ \t]*$",
    re.MULTILINE,
)


class SectionLike(Protocol):
    """What is needed of a section: the character offset where it starts."""

    start: int


class Cuts:
    """The cuts of all documents of a store.

    Args:
        offsets: int64 [docs + 1], where each document's cuts begin in the next two.
        positions: int32 [n], token positions, ascending within a document, 0 < p < its length.
        levels: uint8 [n], SECTION, PARAGRAPH, SENTENCE, or TOKEN for a place between words.
    """

    def __init__(self, offsets: np.ndarray, positions: np.ndarray, levels: np.ndarray) -> None:
        self.offsets, self.positions, self.levels = offsets, positions, levels

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(positions int32 [cuts], levels uint8 [cuts]) of one document."""
        index = range(len(self))[index]
        span = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return self.positions[span], self.levels[span]


def find_cuts(
    text: str, sections: Sequence[SectionLike], token_offsets: np.ndarray | Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """The cuts of one document.

    Args:
        text: the document.
        sections: its sections.
        token_offsets: [tokens, 2], the characters start..stop-1 that each token stands for (fast tokenizers give
            it; a BOS has an empty range).

    Returns:
        positions int32 [cuts], ascending, 0 < p < tokens; levels uint8 [cuts]. No piece between the document's ends
        and a cut is white space alone.
    """
    offsets = np.asarray(token_offsets, dtype=np.int64).reshape(-1, 2)  # [tokens, 2]
    protected = Protected(text)
    places, levels = text_borders(text, sections, protected)
    edges = _edges(text)
    positions, keep = _token_positions(text, places, offsets, edges)
    positions, levels = positions[keep], levels[keep]
    order = np.lexsort((levels, positions))  # best level first where several borders fall on one token
    positions, levels = positions[order], levels[order]
    first = np.ones(len(positions), dtype=bool)
    first[1:] = positions[1:] != positions[:-1]
    positions, levels = positions[first], levels[first]
    safe = _between_words(text, positions, offsets, protected, edges)
    positions = np.concatenate([positions, safe])
    levels = np.concatenate([levels, np.full(len(safe), TOKEN, np.uint8)])
    order = np.argsort(positions)
    return positions[order].astype(np.int32), levels[order].astype(np.uint8)


def text_borders(
    text: str, sections: Sequence[SectionLike], protected: Protected | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Character positions (int64) and levels (uint8) of all borders in the text, in no special order."""
    protected = protected or Protected(text)
    found = {
        SECTION: np.asarray([s.start for s in sections if 0 < s.start < len(text)], np.int64),
        PARAGRAPH: np.asarray(list(_paragraph_ends(text)), np.int64),
        SENTENCE: np.concatenate([np.asarray(list(_sentence_ends(text)), np.int64), protected.row_borders()]),
    }
    places = np.concatenate(list(found.values()))
    levels = np.repeat(np.asarray(list(found), np.uint8), [len(of_level) for of_level in found.values()])
    inside = protected.in_quantity(places) | protected.in_row(places)
    keep = ~protected.in_mark(places) & (~inside | (levels == SECTION))
    return places[keep], levels[keep]


def _edges(text: str) -> tuple[int, int]:
    """Where the text begins and stops but for white space."""
    return len(text) - len(text.lstrip()), len(text.rstrip())


def _between_words(
    text: str, cuts: np.ndarray, offsets: np.ndarray, protected: Protected, edges: tuple[int, int]
) -> np.ndarray:
    """Safe token positions where cuts are far apart, int64 [n]: at most `_APART` from one to the next where possible.

    Args:
        cuts: int64 [cuts], the token positions of better cuts, ascending.
    """
    borders = np.concatenate([[0], cuts, [len(offsets)]])
    chosen: list[int] = []
    for gap in np.flatnonzero(np.diff(borders) > _APART).tolist():
        first, last = int(borders[gap]), int(borders[gap + 1])
        begin, end = int(offsets[first, 0]), int(offsets[last - 1, 1])
        kinds = []
        for pattern in (_CLAUSE, _WORD):
            places = np.asarray([match.end() for match in pattern.finditer(text, begin, end)], np.int64)
            bad = protected.in_quantity(places) | protected.in_row(places) | protected.in_mark(places)
            positions, keep = _token_positions(text, places[~bad], offsets[first:last], edges)
            kinds.append(np.unique(positions[keep]) + first)
        at = first
        while last - at > _APART:
            best = 0
            for positions in kinds:
                k = int(np.searchsorted(positions, at + _APART, "right")) - 1
                if k >= 0 and positions[k] > at + _APART // 2:
                    best = int(positions[k])
                    break
            if best:
                chosen.append(best)
            at = best or at + _APART // 2
    return np.asarray(chosen, np.int64)


def _token_positions(
    text: str, places: np.ndarray, offsets: np.ndarray, edges: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """For each place in the text the token that starts there, and whether there is one."""
    starts, ends = offsets[:, 0], offsets[:, 1]  # [tokens]
    reach = np.concatenate([[0], np.maximum.accumulate(ends)[:-1]]) if len(ends) else ends
    begin, stop = edges
    clean = np.flatnonzero((starts >= reach) & (ends > starts) & (starts > begin) & (starts < stop))
    if len(clean) == 0 or len(places) == 0:
        return np.zeros(len(places), np.int64), np.zeros(len(places), bool)
    at = starts[clean]  # ascending: each starts where all before have ended
    index = np.searchsorted(at, places, "left")
    keep = (index < len(at)) & (at[np.minimum(index, len(at) - 1)] == places)
    for i in np.flatnonzero(~keep):  # the few that need a step over white space, forward or else back
        place, k = int(places[i]), int(index[i])
        if k < len(at) and at[k] - place <= 64 and text[place : at[k]].isspace():
            keep[i] = True
        elif k > 0 and place - at[k - 1] <= 64 and text[at[k - 1] : place].isspace():
            keep[i], index[i] = True, k - 1
    return clean[np.minimum(index, len(at) - 1)], keep


def _paragraph_ends(text: str) -> Iterator[int]:
    """The start of each paragraph after the first: the character after its last line break."""
    for match in _LINE_BREAK.finditer(text):
        begin, after = match.span()
        last = text.rfind("\n", begin, after) + 1
        if last > begin + 1 or _HEADING.match(text, after) or _ends_sentence(text, begin, after):
            yield last


def _ends_sentence(text: str, end: int, after: int) -> bool:
    """Whether the line that stops at `end` stops with the end of a sentence."""
    while end > 0 and (text[end - 1] in " \t\r\u3000" or text[end - 1] in _CLOSERS):
        end -= 1
    if end == 0:
        return False
    last = text[end - 1]
    return last in "。！？；…!?" or (last == "." and not _is_abbreviation(text, end - 1, after))


def _sentence_ends(text: str) -> Iterator[int]:
    """The character after each sentence and its closing quotes; none at a line break (see paragraphs)."""
    length = len(text)
    for match in _CHINESE_END.finditer(text):
        end = match.end()
        number = end < length and text[end].isdigit() and (text[end - 1] == "…" or text[match.start() - 1].isdigit())
        if end < length and not number:
            yield end
    for match in _ENGLISH_END.finditer(text):
        begin, end = match.span()
        if text[begin] != "." or text[begin + 1] in "!?" or not _is_abbreviation(text, begin, end):
            yield end


def _is_abbreviation(text: str, dot: int, after: int) -> bool:
    """Whether the full stop at `dot` ends an abbreviation, an initial, a list number or part of a number."""
    before = text[dot - 1] if dot else ""
    if before.isdigit():
        follows = text[after : after + 8].lstrip()
        begin = dot
        while begin > 0 and text[begin - 1].isdigit():
            begin -= 1
        numbered = not text[max(0, begin - 4) : begin].strip(" \t\u3000") or text[begin - 1] == "\n"
        return follows[:1].isdigit() or numbered
    word = _LAST_WORD.search(text, max(0, dot - 14), dot)
    if word is None:
        return False
    name = word.group()
    return len(name) == 1 or "." in name or name.lower() in _ABBREVIATIONS
