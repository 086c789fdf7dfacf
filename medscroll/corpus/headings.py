"""Sections of plain text: headings of Markdown, textbooks, Chinese classics, clinical records, papers, drug labels.

Only positions are recorded; the text is never changed. A line is a heading if its form leaves little doubt: marks
(`#`, `<篇名>`, 【】, 第三章, 卷上), numbers with a short title and no punctuation of prose, or a known heading
(`heading_words.py`) alone on its line or before a colon at its start. A line that merely ends in a colon is none.
Numbers without a blank after them ("1.2方法", "2.5毫克") count only where the number before them has a line too. Below
a Markdown heading the levels of all other kinds begin one deeper. Speed: about 25 million characters a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from medscroll.corpus.document import Section
from medscroll.corpus.heading_words import HEADINGS_EN, HEADINGS_ZH, NOTES, NOTES_ZH

_NUMERALS = "一二三四五六七八九十"
_DIGITS = f"{_NUMERALS}百千零〇\\d"
_HEAD = re.compile(r"^[ \t\u3000]*(?P<head>[^\s\d\W]|[#<【第卷（(\d=])(?P<rest>[^\n]{0,200})", re.MULTILINE)
_HASH = re.compile(r"(#{1,6})[ \t]+([^\n]{1,200}?)[ \t]*#*[ \t]*$")
_MARK = re.compile(r"<(目录|篇名)>([^\n]{0,80})$")
_BRACKET = re.compile(r"【(?P<title>(?!\d+】)[^】\n]{1,20})】")
_PART = re.compile(rf"第[ ]?[{_DIGITS}]{{1,6}}[ ]?([章节節回卷篇部编])([^\n。；，]{{0,40}})$")
_JUAN = re.compile(r"卷[一二三四五六七八九十上中下之]{1,4}[^\n。；，]{0,20}$")
_CHAPTER = re.compile(
    r"(?:Chapter|CHAPTER|Part|PART|Section|SECTION|Appendix|APPENDIX)[ ](?:\d{1,3}|[A-Z]|[IVXL]{1,6})\b[^\n]{0,80}$"
)
_ZH_NUMBER = re.compile(rf"[{_NUMERALS}]{{1,3}}、[^\n。；，,]{{1,30}}$")
_ZH_BRACKET = re.compile(rf"[（(][{_NUMERALS}]{{1,3}}[）)][^\n。；，,]{{1,30}}$")
_NUMBER = re.compile(
    r"(?P<number>\d{1,2}(?:\.\d{1,2}){1,3})[.、]?[ \t\u3000]+"
    r"(?P<title>[A-Z\u4e00-\u9fff][^\n。；]{1,70}[^\n.。；;:：,，])$"
)
_TIGHT_NUMBER = re.compile(r"(?P<number>\d{1,2}(?:\.\d{1,2}){1,3})(?P<title>[\u4e00-\u9fff][^\n。；，,：:]{1,24})$")
_LISTED = re.compile(r"(?:\d{1,2}|[IVX]{1,4})[.、．]?[ \t\u3000]*(?=[A-Z\u4e00-\u9fff])")
_NOTE = re.compile(
    r"(?:\d{4}[-/.年]\d{1,2}[-/.月]\d{1,2}日?)[ \t\u3000T]*(?:\d{1,2}[:：时]\d{0,2}(?::\d{2})?分?)?[ \t\u3000]*"
    rf"(?P<title>[^\n。；，]{{0,24}}(?:{NOTES_ZH})[^\n。；，：:]{{0,8}})[：:]?$"
)
_ADVICE = re.compile(r"推荐意见[ ]?\d{1,2}(?:\.\d{1,2})?(?=[：:（( \t]|$)")
_CAPITALS = re.compile(r"(?=[^\n]*[A-Z]{4})[A-Z][A-Z0-9 ,/&()'’-]{4,70}:?$")
_UNDERLINE = re.compile(r"={4,}[ \t]*$")
_WORDS_ZH = frozenset(HEADINGS_ZH)
_LONGEST_ZH = max(map(len, HEADINGS_ZH))
_WORDS_EN = frozenset(" ".join(word.lower().split()) for word in HEADINGS_EN)
_LONGEST_EN = max(map(len, HEADINGS_EN))
_WORD_END = re.compile("[：:∶ \t\u3000]")
_FENCE = re.compile(r"^(?:```|~~~)[^\n]*$", re.MULTILINE)
_NUMBERED_LIST_ROOM = 3000  # sections a document, beyond which numbered lines are taken for a list
_CAPITALS_SHARE = 0.25  # of all lines, beyond which capitals are how the text is written
_PART_LEVELS = {"章": 2, "回": 2, "节": 3, "節": 3}  # 卷 篇 部 编: 1

Found = tuple[int, int, str, str]  # start, level, title, kind


def find_sections(text: str) -> list[Section]:
    """The sections of a text, ascending by start; empty where no line looks like a heading.

    A section starts at the first character of its heading's line that is no blank.
    """
    fences = [(match.start(), match.end()) for match in _FENCE.finditer(text)] if "```" in text or "~~~" in text else []
    code = [(fences[i][0], fences[i + 1][1]) for i in range(0, len(fences) - 1, 2)]
    found = _without_lists(list(_headings(text, code)), text)
    sections: list[Section] = []
    hashes = 0  # level of the Markdown heading that we are under
    classic = _Classic()
    for start, level, title, kind in found:
        if kind in ("目录", "篇名"):
            sections += classic.sections(text, start, title, kind, bool(sections))
        elif kind == "hash":
            hashes = level
            sections.append(Section(start, level, title))
        else:
            deeper = classic.depth if classic.seen else max(0, hashes - 1)
            sections.append(Section(start, level + deeper, title))
    return sections


def is_heading(line: str) -> bool:
    """Whether a line, alone, begins a section by these rules (blanks at its start aside)."""
    match = _HEAD.match(line)
    if match is None:
        return False
    found = _rule(match["head"])((match["head"] + match["rest"]).rstrip(), match.end() == len(line))
    return found is not None and found[2] not in ("underline", "capitals", "tight_number")


class _Classic:
    """Volumes and chapters of databases of classics: <目录> names a volume before each of its chapters."""

    def __init__(self) -> None:
        self.seen = False
        self.depth = 1  # of the volume that we are in
        self._volume: str | None = None
        self._pending: int | None = None  # where a <目录> line begins that its <篇名> has not followed yet

    def sections(self, text: str, start: int, title: str, kind: str, any_before: bool) -> list[Section]:
        """The section that a mark begins, or none."""
        self.seen = True
        if kind == "目录":
            self._pending = start
            if not title or title == self._volume:
                return []
            self.depth = 1 + title.count("\\")
            self._volume, self._pending = title, None
            return [Section(start, self.depth, title.rsplit("\\", 1)[-1].strip())]
        pending, self._pending = self._pending, None
        if pending is None or "\n" in text[pending:start].strip():
            pending = start
        return [Section(pending, self.depth + 1 if self._volume or any_before else 1, title)]


def _headings(text: str, code: list[tuple[int, int]]) -> Iterator[Found]:
    """All lines that look like headings, in order."""
    block = 0
    for match in _HEAD.finditer(text):
        start = match.start("head")
        while block < len(code) and code[block][1] <= start:
            block += 1
        if block < len(code) and code[block][0] <= start:
            continue
        line = (match["head"] + match["rest"]).rstrip()
        whole = match.end() == len(text) or text[match.end()] == "\n"
        found = _rule(match["head"])(line, whole)
        if found is not None:
            level, title, kind = found
            if kind == "underline":
                above = text.rfind("\n", 0, max(0, match.start() - 1)) + 1
                title = text[above : max(above, match.start() - 1)].strip()
                if not title or len(title) > 100:
                    continue
                start = above
            elif kind == "capitals" and text[max(0, match.start() - 2) : match.start()] not in ("\n\n", "\n", ""):
                continue
            yield start, level, title, kind


_Rule = Callable[[str, bool], tuple[int, str, str] | None]


def _rule(head: str) -> _Rule:
    """The rule for lines that begin with a character."""
    return _RULES.get(head) or (_numerals if head in _NUMERALS else _latin if head.isascii() else _chinese)


def _hash(line: str, whole: bool) -> tuple[int, str, str] | None:
    match = _HASH.match(line) if whole else None
    return (len(match[1]), match[2].strip(), "hash") if match else None


def _mark(line: str, whole: bool) -> tuple[int, str, str] | None:
    match = _MARK.match(line) if whole else None
    return (1, match[2].strip(), match[1]) if match else None


def _bracket(line: str, _: bool) -> tuple[int, str, str] | None:
    match = _BRACKET.match(line)
    return (2, match["title"].strip(), "bracket") if match else None


def _part(line: str, whole: bool) -> tuple[int, str, str] | None:
    match = _PART.match(line) if whole else None
    return (_PART_LEVELS.get(match[1], 1), line, "part") if match else None


def _juan(line: str, whole: bool) -> tuple[int, str, str] | None:
    return (1, line, "juan") if whole and _JUAN.match(line) else None


def _in_brackets(line: str, whole: bool) -> tuple[int, str, str] | None:
    return (3, line, "zh_bracket") if whole and _ZH_BRACKET.match(line) else None


def _numerals(line: str, whole: bool) -> tuple[int, str, str] | None:
    return (2, line, "zh_number") if whole and _ZH_NUMBER.match(line) else None


def _digit(line: str, whole: bool) -> tuple[int, str, str] | None:
    if whole:
        for pattern, kind in ((_NUMBER, "number"), (_TIGHT_NUMBER, "tight_number")):
            match = pattern.match(line)
            if match:
                return match["number"].count(".") + 1, f"{match['number']} {match['title']}".strip(), kind
        note = _NOTE.match(line)
        if note:
            return 1, line.rstrip("：:"), "note"
    return _listed(line, whole)


def _listed(line: str, whole: bool) -> tuple[int, str, str] | None:
    """A number before a known heading."""
    match = _LISTED.match(line)
    if not match:
        return None
    rest = line[match.end() :]
    known = _latin_word(rest, whole) if rest[:1].isascii() else _chinese(rest, whole)
    return (2, f"{match.group().strip()} {known[1]}", "word") if known else None


def _chinese(line: str, whole: bool) -> tuple[int, str, str] | None:
    head = line[: _LONGEST_ZH + 2]
    if head.startswith("推荐意见"):
        match = _ADVICE.match(line)
        if match:
            return 3, match.group(), "advice"
    end = _WORD_END.search(head)
    if end:
        word = head[: end.start()]
        colon = line[end.start() :].lstrip(" \t\u3000")[:1]
        return (_word_level(word), word, "word") if word in _WORDS_ZH and colon in "：:∶" else None
    return (_word_level(line), line, "word") if whole and line in _WORDS_ZH else None


def _word_level(word: str) -> int:
    """1 for the name of a whole note, 2 for a part of one."""
    return 1 if word in NOTES else 2


def _latin_word(line: str, whole: bool) -> tuple[int, str, str] | None:
    colon = line.find(":", 0, _LONGEST_EN + 3)
    if colon > 0 or (whole and len(line) <= _LONGEST_EN):
        title = (line[:colon] if colon > 0 else line).strip()
        if title[:1].isupper() and " ".join(title.lower().split()) in _WORDS_EN:
            return _word_level(title.lower()), title, "word"
    return None


def _latin(line: str, whole: bool) -> tuple[int, str, str] | None:
    known = _latin_word(line, whole)
    if known or not whole or not line[0].isupper():
        return known
    if _CHAPTER.match(line):
        return 1, line, "chapter"
    if line[0] in "IVX":
        listed = _listed(line, whole)
        if listed:
            return listed
    return (2, line.rstrip(":"), "capitals") if _CAPITALS.match(line) else None


def _underline(line: str, whole: bool) -> tuple[int, str, str] | None:
    return (1, "", "underline") if whole and _UNDERLINE.match(line) else None


_RULES: dict[str, _Rule] = {
    "#": _hash, "<": _mark, "【": _bracket, "第": _part, "卷": _juan, "（": _in_brackets, "(": _in_brackets,
    "=": _underline, **dict.fromkeys("0123456789", _digit),
}  # fmt: skip


def _without_lists(found: list[Found], text: str) -> list[Found]:
    """Leaves out numbered lines and capitals where there are so many that they must be something else, and numbers
    without a blank that follow no other."""
    kinds = ("number", "tight_number", "zh_number", "zh_bracket")
    if sum(kind in kinds for *_, kind in found) > _NUMBERED_LIST_ROOM:
        found = [each for each in found if each[3] not in kinds]
    capitals = sum(each[3] == "capitals" for each in found)
    if capitals > 3 and capitals > _CAPITALS_SHARE * sum(1 for _ in re.finditer(r"\S[^\n]*", text)):
        found = [each for each in found if each[3] != "capitals"]
    numbers = {each[2].split(" ", 1)[0] for each in found if each[3] in ("number", "tight_number")}
    return [each for each in found if each[3] != "tight_number" or _follows(each[2].split(" ", 1)[0], numbers)]


def _follows(number: str, numbers: set[str]) -> bool:
    before, _, last = number.rpartition(".")
    return f"{before}.{int(last) - 1}" in numbers if int(last) > 1 else f"{before}.2" in numbers and int(last) == 1
