"""The step `mojibake`: text that was once decoded by the wrong rule is read again by the right one.

Three mistakes are undone, line by line, and only where the result leaves no doubt:
    UTF-8 read as Latin-1, Windows-1252 and the like ("Âµg", "â€œ")   ftfy, its encoding repairs alone
    UTF-8 read as GB18030, GB18030 read as Latin-1 (Chinese)            strict decoding of the whole line or run
ftfy's other habits are off: no NFKC or NFC, no width folding, no straight quotes, no HTML entities (`&lt;` stays what
it is), no ligatures. What was lost for good (U+FFFD, "锟斤拷") stays: the step `quality` counts it. Counted:
`line_of_latin_mojibake`, `line_of_chinese_mojibake`. Cost: a search for suspicious pairs, about 80 million characters
a second; only suspicious lines are looked at closely.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from medscroll.corpus.code_points import CharacterSet
from medscroll.corpus.configuration import config_fingerprint
from medscroll.corpus.document import Document, detect_language
from medscroll.corpus.encoding import looks_chinese
from medscroll.corpus.repair_characters import without_odd
from medscroll.corpus.repair_edits import Changes, change_titles
from medscroll.corpus.step import StepLog

# The first byte of a UTF-8 sequence as the usual one-byte encodings show it, before what is not ASCII; C1 controls.
_LEADS = CharacterSet(
    [(0xC2, 0xF4), (0x102, 0x165), (0x390, 0x3A9), (0x420, 0x421), (0x221A, 0x221A), (0x201A, 0x201A)]
)
_NOT_ASCII = CharacterSet([(0x80, 0x10FFFF)])
_C1 = CharacterSet([(0x80, 0x9F)])
_C0 = CharacterSet([(0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x7F)])
# UTF-8 of Chinese text: E4..E9, then two of 80..BF. Read as GB18030, two bytes a character, it shows these pairs.
_GB_LEADS, _GB_SECONDS = (
    CharacterSet(
        (ord(character), ord(character))
        for character in (bytes((a, b)).decode("gb18030", "ignore")[:1] for a in firsts for b in seconds if b != 0x7F)
        if character
    )
    for firsts, seconds in ((range(0xE4, 0xEA), range(0x80, 0xC0)), (range(0x81, 0xC0), range(0xE4, 0xEA)))
)
# GB2312 characters read as Latin-1: pairs of two high bytes, at least four of them on end.
_LATIN_RUN = re.compile("(?:[\u00a1-\u00f7][\u00a1-\u00fe]){4,}")
_HAN = re.compile("[\u3400-\u9fff]")
_LONGEST = 100_000  # characters of a line that are looked at in one go
_ROUNDS = 3  # of what a repair and the step `characters` do to each other
_LEAST_BYTES = 12  # high bytes of a line below which strict decoding is no evidence


@dataclass
class MojibakeConfig:
    """Keys of the step `mojibake`."""

    enabled: bool = field(default=True, metadata={"help": "Undo decoding by the wrong encoding."})
    chinese: bool = field(default=True, metadata={"help": "Undo mix-ups of UTF-8, GB18030 and Latin-1 too."})

    def build(self) -> Mojibake:
        """The step."""
        return Mojibake(self)


@lru_cache(maxsize=1)
def _ftfy() -> tuple[Any, Any]:
    import ftfy

    return ftfy.fix_encoding, ftfy.TextFixerConfig(
        unescape_html=False, fix_latin_ligatures=False, fix_character_width=False, uncurl_quotes=False,
        fix_line_breaks=False, remove_control_chars=False, remove_terminal_escapes=False, fix_surrogates=False,
        replace_lossy_sequences=False, normalization=None, explain=False,
    )  # fmt: skip


def fix_latin(line: str) -> str:
    """A line without the mojibake of one-byte encodings; the same line where there is none."""
    if line.isascii():
        return line
    fix, config = _ftfy()
    return fix(line, config) if len(line) <= _LONGEST else "".join(fix(piece, config) for piece in _pieces(line))


def _pieces(line: str) -> list[str]:
    """A very long line in pieces that end at blanks where there are any."""
    pieces, start = [], 0
    while start < len(line):
        stop = start + _LONGEST
        blank = line.rfind(" ", start + 1, stop) if stop < len(line) else -1
        stop = blank + 1 if blank > 0 else stop
        pieces.append(line[start:stop])
        start = stop
    return pieces


def fix_chinese(line: str) -> str:
    """A line without the mix-ups of Chinese encodings; the same line where there are none."""
    try:
        data = line.encode("gb18030")
        if sum(byte > 0x7F for byte in data[:1000]) >= _LEAST_BYTES:
            fixed = data.decode("utf-8")
            if detect_language(fixed) == "zh" and looks_chinese(fixed):
                return fixed
    except (UnicodeEncodeError, UnicodeDecodeError):
        pass
    if _LATIN_RUN.search(line):
        return _LATIN_RUN.sub(_read_as_gb, line)
    return line


def _read_as_gb(match: re.Match[str]) -> str:
    try:
        fixed = match.group().encode("latin-1").decode("gb2312")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return match.group()
    han = sum(1 for _ in _HAN.finditer(fixed))
    return fixed if han >= 0.7 * len(fixed) and looks_chinese(fixed) else match.group()


class Mojibake:
    """Repairs lines; see the module."""

    name = "mojibake"
    version = 2

    def __init__(self, config: MojibakeConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document with the suspicious lines repaired; titles likewise."""
        text = document.text
        if text.isascii():
            return document
        changes = Changes()
        done = 0  # the end of the last line looked at
        for place in sorted(self._places(text)):
            if place < done:
                continue
            start = text.rfind("\n", 0, place) + 1
            stop = text.find("\n", place)
            done = len(text) if stop < 0 else stop
            line = text[start:done]
            chinese = self._config.chinese and fix_chinese(line) != line
            fixed = self._fix(line)
            if fixed != line:
                changes.add("line_of_chinese_mojibake" if chinese else "line_of_latin_mojibake", start, done, fixed)
        if changes.apply(document, log):
            change_titles(document, self._fix)
        return document

    def _fix(self, line: str) -> str:
        """A line repaired, also where only the step `characters` will bring the parts of a mistake together."""
        fixed = self._fix_once(line)
        for _ in range(_ROUNDS):
            bare = without_odd(fixed)
            if bare == fixed or (again := self._fix_once(bare)) == bare:
                break
            fixed = again
        return fixed

    def _fix_once(self, line: str) -> str:
        return fix_latin(fix_chinese(line) if self._config.chinese else line)

    def _places(self, text: str) -> Iterator[int]:
        """Where a line must be looked at."""
        yield from _LEADS.places(text, _NOT_ASCII)
        yield from _LEADS.places(text, _C0)
        yield from _C1.places(text)
        if self._config.chinese:
            yield from _GB_LEADS.places(text, _GB_SECONDS)
