"""The steps `characters` and `half_width`: characters that are no text, and the width of digits and letters.

`characters` touches only what has no meaning of its own; each kind is counted:
    control_character       C0 and C1 controls (not tab, line feed, form feed), noncharacters: taken out
    byte_order_mark         U+FEFF, also the old zero width no-break space: taken out
    invisible_character     zero width space, soft hyphen, word joiner, marks of direction, of annotation: taken out
                            (a soft hyphen with the line end after it, where a small letter follows;
                            U+200C and U+200D, which join letters of some scripts and signs, stay)
    line_separator          U+2028, U+2029, U+0085, vertical tab: a line end
    unusual_blank           no-break, thin, en, em and other blanks of one line: a blank (the full-width one stays)
    trailing_blank          blanks before a line end, and lines of blanks: taken out
    blank_lines             three and more empty lines: two
Signs, superscripts, Greek and full-width characters, private use characters (lost glyphs) and U+FFFD stay.

`half_width` (off unless asked for) writes full-width digits and Latin letters as ASCII, and nothing else: full-width
punctuation, ＜, ％ and ～ stay. Cost: about 11 and 17 million characters a second on dirty texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from medscroll.corpus.code_points import CharacterSet
from medscroll.corpus.configuration import config_fingerprint
from medscroll.corpus.document import Document
from medscroll.corpus.repair_edits import Changes, change_titles
from medscroll.corpus.step import StepLog

_KINDS: dict[str, list[tuple[int, int]]] = {
    "control_character": [
        (0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x84), (0x86, 0x9F), (0xFDD0, 0xFDEF),
        *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)),
    ],
    "byte_order_mark": [(0xFEFF, 0xFEFF)],
    "invisible_character": [
        (0xAD, 0xAD), (0x61C, 0x61C), (0x180E, 0x180E), (0x200B, 0x200B), (0x200E, 0x200F), (0x202A, 0x202E),
        (0x2060, 0x2064), (0x2066, 0x206F), (0xFFF9, 0xFFFB), (0xE0000, 0xE007F),
    ],
    "line_separator": [(0x0B, 0x0B), (0x85, 0x85), (0x2028, 0x2029)],
    "unusual_blank": [(0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F)],
}  # fmt: skip
_BECOMES = {"line_separator": "\n", "unusual_blank": " "}
_SOFT_HYPHEN = "\xad"
_ODD = CharacterSet(span for spans in _KINDS.values() for span in spans)
_BLANK_LINES = re.compile(r"\n\n\n\n+")
_BLANKS = " \t\u3000"
_BLANK = CharacterSet((ord(blank), ord(blank)) for blank in _BLANKS)
_LINE_END = CharacterSet([(0x0A, 0x0A), (0x0C, 0x0C)])

_TAKEN_OUT = {
    point: _BECOMES.get(kind, "")
    for kind, spans in _KINDS.items()
    if kind != "line_separator"
    for first, last in spans
    for point in range(first, last + 1)
}


def without_odd(line: str) -> str:
    """A line as the step `characters` leaves it with all its keys on, but for its end."""
    return line.translate(_TAKEN_OUT) + (_SOFT_HYPHEN if line.endswith(_SOFT_HYPHEN) else "")


@dataclass
class CharactersConfig:
    """Keys of the step `characters`."""

    enabled: bool = field(default=True, metadata={"help": "Take out controls and invisible characters."})
    blanks: bool = field(default=True, metadata={"help": "Write no-break and thin blanks as blanks."})
    trailing: bool = field(default=True, metadata={"help": "Take out blanks at line ends and needless empty lines."})

    def build(self) -> Characters:
        """The step."""
        return Characters(self)


class Characters:
    """Takes out what is no text; see the module."""

    name = "characters"
    version = 1

    def __init__(self, config: CharactersConfig) -> None:
        self._config = config
        self._kinds = [kind for kind in _KINDS if config.blanks or kind != "unusual_blank"]

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document without them; titles likewise."""
        text = document.text
        changes = Changes()
        for place in _ODD.places(text):
            kind = _kind(text[place])
            if kind in self._kinds:
                at_line_end = text[place] == _SOFT_HYPHEN and text[place + 1 : place + 2] == "\n"
                inside_word = at_line_end and text[place + 2 : place + 3].islower()
                changes.add(kind, place, place + 1 + inside_word, _BECOMES.get(kind, ""))
        if changes.apply(document, log):
            change_titles(document, self._plain)
        if self._config.trailing:
            text = document.text
            changes = Changes()
            for match in _trailing(text):
                changes.add("trailing_blank", *match)
            changes.apply(document, log)
            changes = Changes()
            for found in _BLANK_LINES.finditer(document.text):
                changes.add("blank_lines", found.start() + 3, found.end())
            changes.apply(document, log)
        return document

    def _plain(self, title: str) -> str:
        kinds = [(character, _kind(character)) for character in title]
        kept = [_BECOMES.get(kind, "") if kind in self._kinds else character for character, kind in kinds]
        return "".join(kept).replace("\n", " ")


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    point = ord(character)
    return next((kind for kind, spans in _KINDS.items() if any(first <= point <= last for first, last in spans)), "")


def _trailing(text: str) -> list[tuple[int, int]]:
    """(start, stop) of the blanks before each line end and page break (which another step may take out)."""
    found = []
    last = list(_BLANK.places(text, _LINE_END))  # the last blank of each
    if text and text[-1] in _BLANKS:
        last.append(len(text) - 1)
    for place in last:
        start = place
        while start > 0 and text[start - 1] in _BLANKS:
            start -= 1
        found.append((start, place + 1))
    return found


@dataclass
class HalfWidthConfig:
    """Keys of the step `half_width`."""

    enabled: bool = field(default=False, metadata={"help": "Write full-width digits and letters as ASCII."})
    letters: bool = field(default=True, metadata={"help": "Letters too, not only digits."})

    def build(self) -> HalfWidth:
        """The step."""
        return HalfWidth(self)


_DIGITS, _LETTERS = (0xFF10, 0xFF19), ((0xFF21, 0xFF3A), (0xFF41, 0xFF5A))


class HalfWidth:
    """Writes full-width digits and letters as ASCII."""

    name = "half_width"
    version = 1

    def __init__(self, config: HalfWidthConfig) -> None:
        self._config = config
        spans = [_DIGITS, *(_LETTERS if config.letters else ())]
        self._table = {point: point - 0xFEE0 for first, last in spans for point in range(first, last + 1)}

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document with ASCII digits; offsets stay, since each character becomes one."""
        text = document.text
        if text.isascii():
            return document
        changed = text.translate(self._table)
        if changed != text:
            number = sum(changed.count(chr(to)) - text.count(chr(to)) for to in self._table.values())
            log.count("full_width_character", number)
            log.count("removed_characters", number)
            log.count("added_characters", number)
            document.text = changed
            change_titles(document, lambda title: title.translate(self._table))
        return document
