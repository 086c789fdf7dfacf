"""The steps `lost_characters`, `marks` and `colons`: the dirt of databases of classical Chinese books.

Such a database marks its volumes and chapters with `<目录>` and `<篇名>`, emphasis with a backslash and x, pictures
with a backslash and r, opens every chapter with the name of a database field, writes U+2236 for a colon, and leaves a
blank, or a code of two letters (`KT`, `HT`), where its font had no character. `lost_characters` and `marks` touch only
documents that have these structure marks at the start of lines: elsewhere a blank is a blank.

`lost_characters` writes □ (one for one) where the blank can be nothing else; what may as well part the items of a list
stays a blank. Counted: `blank_for_character`, `code_for_character`. Where a blank stands for a character: beside
punctuation that never has one there; before a bracket, if that has none in this book; between characters of a clause
of prose. Between characters of lists and headings only if the book has the same neighbour in sure places more often.

`marks`: structure marks become Markdown headings (`structure_mark`; a volume is named once, not before each of its
chapters: `repeated_volume_name`), names of fields go (`field_label`), emphasis goes (`emphasis_mark`) or, alone on a
short line above its text, is a heading (`emphasis_heading`), pictures stay or leave their caption (`image_mark`).

`colons`: U+2236 in Chinese text becomes a colon (`ratio_sign`) except between digits, where it is the sign of a ratio.
Cost: about 8, 16 and 110 million characters a second.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from medscroll.corpus.configuration import config_fingerprint
from medscroll.corpus.document import Document
from medscroll.corpus.repair_edits import Changes, change_titles
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError

LOST = "□"
_STRUCTURE = re.compile(r"^<(?:篇名|目录)>", re.MULTILINE)
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_NO_TEXT = ("<", "书名", "作者", "朝代", "年份")  # how lines begin that name a book or chapter
_SINGLE_BLANK = re.compile(r" (?<=[^ ] )(?=[^ ])")
# What must stand before a fixed character is looked for after it: the search goes from one such character to the next.
_CODE = re.compile(r"[KH](?<![A-Za-z0-9\\].)T(?:KT|HT)*(?![A-Za-z0-9])[ ]?")
_TIGHT_BRACKET = re.compile(r"（(?<=[\u3400-\u9fff]（)")
_LOOSE_BRACKET = re.compile(r"（(?<=[\u3400-\u9fff][ □]（)")
_AFTER_OTHER = re.compile("□(?<=[^□]□)")
_IN_BRACKETS = re.compile(r"（[^（）\n]*）|\([^()\n]*\)")
_PROSE_MARKS = re.compile(r"[，。；、？！]")
_LISTING = re.compile("[)）][ □]")
_NEVER_AFTER = frozenset("，、（“‘《〔【")  # no blank stands after these
_NEVER_BEFORE = frozenset("，。、；：？！）”’》〕】∶")
_CLAUSE_END = frozenset("，。；：∶、？！…“”‘’（）()《》〔〕【】<>\\")
_STOPS = frozenset("。）)")


@dataclass
class LostCharactersConfig:
    """Keys of the step `lost_characters`."""

    enabled: bool = field(default=True, metadata={"help": "Write □ where a blank or a code stands for a character."})
    evidence: str = field(
        default="marks",
        metadata={"help": "marks: only in documents with <目录> and <篇名> marks; always: in all Chinese documents."},
    )

    def build(self) -> LostCharacters:
        """The step.

        Raises:
            ConfigError: an unknown kind of evidence.
        """
        if self.evidence not in ("marks", "always"):
            raise ConfigError(f"lost_characters.evidence is {self.evidence!r}", remedy="give marks or always")
        return LostCharacters(self)


class LostCharacters:
    """Blanks and codes that stand for a character become □; see the module."""

    name = "lost_characters"
    version = 1

    def __init__(self, config: LostCharactersConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document with □ in their place."""
        text = document.text
        marked = _STRUCTURE.search(text) is not None
        if document.lang != "zh" or not (marked or self._config.evidence == "always"):
            return document
        changes = Changes()
        for match in _CODE.finditer(text):
            codes = len(match.group().strip()) // 2
            changes.add("code_for_character", match.start(), match.end(), LOST * codes)
        changes.apply(document, log)
        changes = Changes()
        for place in lost_places(document.text):
            changes.add("blank_for_character", place, place + 1, LOST)
        changes.apply(document, log)
        return document


@dataclass(frozen=True, slots=True)
class _Blank:
    """A blank between two characters of a line, and how sure it is that a third stood there: yes, perhaps, no."""

    place: int
    before: str
    after: str
    lost: bool | None


def lost_places(text: str) -> list[int]:
    """Where single blanks stand for a lost character, ascending.

    A first look finds the sure ones; the rest are judged by what stands before them: a character that is followed by
    a sure one at least twice, and more often than by a blank of a list.
    """
    # A □ that is there already counts as a blank that was judged before: a second run must not judge otherwise.
    tight = len(_TIGHT_BRACKET.findall(text))
    loose = len(_LOOSE_BRACKET.findall(text))
    blanks = list(_blanks(text, loose < 0.05 * tight))
    sure = Counter(blank.before for blank in blanks if blank.lost)
    sure.update(text[match.start() - 1] for match in _AFTER_OTHER.finditer(text))
    listed = Counter(blank.before for blank in blanks if blank.lost is False)
    return [
        blank.place
        for blank in blanks
        if blank.lost or (blank.lost is None and 2 <= sure[blank.before] > listed[blank.before])
    ]


def _blanks(text: str, brackets_are_tight: bool) -> Iterator[_Blank]:
    after_line = 0
    for content in text.split("\n"):
        start, after_line = after_line, after_line + len(content) + 1
        if not 0 < content.find(" ") < len(content) - 1 or content.startswith(_NO_TEXT):
            continue
        is_prose: bool | None = None
        for match in _SINGLE_BLANK.finditer(content):
            at = match.start()
            before, after = content[at - 1], content[at + 1]
            kind: bool | None = False
            if before in _NEVER_AFTER or after in _NEVER_BEFORE:
                kind = True
            elif _HAN.match(before) and after == "（":
                kind = True if brackets_are_tight else None
            elif _HAN.match(before) and _HAN.match(after):
                if is_prose is None:
                    is_prose = _is_prose(content)
                kind = _in_clause(content, at) if is_prose else False
            else:
                continue
            yield _Blank(start + at, before, after, kind)


def _is_prose(line: str) -> bool:
    return len(_PROSE_MARKS.findall(_IN_BRACKETS.sub("", line))) >= 2 and not _LISTING.search(line)


def _in_clause(line: str, at: int) -> bool | None:
    """Whether the blank is the only one in a clause that begins and ends inside the line; None: it may be."""
    start = at
    while start > 0 and line[start - 1] not in _CLAUSE_END and at - start < 60:
        start -= 1
    stop = at + 1
    while stop < len(line) and line[stop] not in _CLAUSE_END and stop - at < 60:
        stop += 1
    clause = line[start:stop]
    if start == 0 or line[start - 1] == "：" or clause.startswith("x") or line[start - 1] in _STOPS:
        return None
    if line[stop : stop + 2] == "\\x" and line.rfind("\\x", 0, start) >= 0 and "。" not in line[:at]:
        return None
    return True if clause.count(" ") + clause.count(LOST) == 1 else None


@dataclass
class MarksConfig:
    """Keys of the step `marks`."""

    enabled: bool = field(default=True, metadata={"help": "Write database marks of Chinese books as Markdown."})
    images: str = field(
        default="keep", metadata={"help": "keep the marks of pictures; caption: of them keep the caption alone."}
    )

    def build(self) -> Marks:
        """The step.

        Raises:
            ConfigError: an unknown value.
        """
        if self.images not in ("keep", "caption"):
            raise ConfigError(f"marks.images is {self.images!r}", remedy="give keep or caption")
        return Marks(self)


_BLOCK = re.compile(
    r"(?P<head>\A\s*|\n[ \t]*\n*|\n)(?:<目录>(?P<path>[^\n]*)\n\s*)?<篇名>(?P<title>[^\n]*)"
    r"(?P<tail>\n+(?P<label>(?:内容|属性)：[ \t]*)?|\Z)"
)
_EMPHASIS = re.compile(
    r"^(?P<hashes>#{1,6})[ ]|^\\x(?P<title>[\u3400-\u9fff□（）·]{2,14})\\x$(?=\n(?![\\#\n]))|\\x(?![0-9A-Fa-f]{2})",
    re.MULTILINE,
)
_IMAGE = re.compile(r"\\r([^\\\n]{0,80})\\[\w.-]{1,40}\.(?:bmp|jpg|gif|png)\\r", re.ASCII | re.IGNORECASE)


class Marks:
    """Database marks become Markdown; see the module."""

    name = "marks"
    version = 1

    def __init__(self, config: MarksConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document with headings for structure marks; without emphasis marks."""
        text = document.text
        if not _STRUCTURE.search(text):
            return document
        changes = Changes()
        if self._config.images == "caption":
            for match in _IMAGE.finditer(text):
                changes.add("image_mark", match.start(), match.end(), match[1].strip())
        changes.apply(document, log)
        changes = Changes()
        path: list[str] = []
        for number, match in enumerate(_BLOCK.finditer(document.text)):
            lines = []
            volume = (match["path"] or "").strip()
            parts = [part.strip() for part in volume.split("\\") if part.strip()]
            book = number == 0 and match["path"] is None
            same = 0
            while same < min(len(parts), len(path)) and parts[same] == path[same]:
                same += 1
            log.count("repeated_volume_name", bool(parts) and same == len(parts))
            lines += [_heading(2 + level, part) for level, part in enumerate(parts) if level >= same]
            path = parts
            if match["title"].strip():
                lines.append(_heading(1 if book else 2 + len(parts), match["title"].strip()))
            head = "" if match.start() == 0 else "\n\n"
            tail = "\n\n" if match["tail"] else ""
            stop = match.start("label") if match["label"] else match.end()
            changes.add("structure_mark", match.start(), stop, head + "\n\n".join(lines) + tail)
            if match["label"]:
                changes.add("field_label", stop, match.end())
        changes.apply(document, log)
        emphasis(document.text).apply(document, log)
        return document


def emphasis(text: str) -> Changes:
    """What is emphasised on a line of its own, short and followed by text, is a heading below its chapter; other marks
    of emphasis go."""
    changes = Changes()
    level = 1
    for match in _EMPHASIS.finditer(text):
        if match["hashes"]:
            level = len(match["hashes"])
        elif match["title"]:
            start, stop = match.span()
            above = "\n" if text[max(0, start - 2) : start] not in ("\n\n", "\n", "") else ""
            changes.add("emphasis_heading", start, stop, f"{above}{_heading(level + 1, match['title'])}\n")
        else:
            changes.add("emphasis_mark", match.start(), match.end())
    return changes


def _heading(level: int, title: str) -> str:
    return f"{'#' * min(6, level)} {title}"


@dataclass
class ColonsConfig:
    """Keys of the step `colons`."""

    enabled: bool = field(default=True, metadata={"help": "Write U+2236 in Chinese text as a colon."})

    def build(self) -> Colons:
        """The step."""
        return Colons()


class Colons:
    """U+2236, the sign of a ratio, becomes a Chinese colon where it is none."""

    name = "colons"
    version = 1

    def fingerprint(self) -> str:
        """Nothing to set."""
        return ""

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document with colons."""
        if document.lang != "zh":
            return document
        changes = Changes()
        for place in _colons(document.text):
            changes.add("ratio_sign", place, place + 1, "：")
        if changes.apply(document, log):
            change_titles(document, _with_colons)
        return document


def _colons(text: str) -> Iterator[int]:
    place = text.find("\u2236")
    while place >= 0:
        before, after = text[max(0, place - 2) : place].rstrip()[-1:], text[place + 1 : place + 3].lstrip()[:1]
        if not (before.isdigit() and after.isdigit()):
            yield place
        place = text.find("\u2236", place + 1)


def _with_colons(title: str) -> str:
    places = set(_colons(title))
    return "".join("：" if place in places else character for place, character in enumerate(title))
