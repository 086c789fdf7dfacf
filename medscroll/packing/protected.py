"""Parts of a text that a cut must not fall inside: numbers with their units, bracketed placeholders, table rows.

    number      "5 mg", "3.5 mmol/L", "120/80 mmHg", "5 ± 0.3 %", "4.2×10⁹/L", "p < 0.05", "三钱", with the unit on the
                same line or the next one
    placeholder "[**2151-7-16**]", "[NAME]", "【姓名】", "<DATE>", "{{ID}}", at most 200 characters on one line
    table row   a line with `|` or tabs after its first word, or of the form "row — column: value; column: value" that
                tables of JATS articles are written in; a very long line only where its cells are short
A cut right before or after such a part is allowed. Cost: three regular expressions, linear in the text.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

_SPACE = "[ \\t\\u00a0\\u2009\\u202f\\u200a\\u3000]"
_LATIN_UNITS = (
    "%|‰|℃|℉|°[CF]?|º[CF]?|mmHg|cmH2O|cmH₂O|mosm|mOsm|mEq|mmol|[μµumnp]mol|mol|[μµ]g|mcg|[kmnpud]?g|[kKmMnpuμµ]?IU|"
    "[kKmM]?U|[mdcμµu]?[lL]|[kcmnμµ]?m|[mk]?Pa|kPa|[kM]?Hz|kcal|cal|kJ|J|mSv|Gy|cGy|mV|bpm|rpm|ppm|copies|cells|"
    "hours?|hrs?|h|minutes?|mins?|min|seconds?|secs?|ms|s|days?|d|weeks?|wks?|months?|mos?|years?|yrs?|y|"
    "times|tablets?|tabs?|capsules?|caps?|drops?|puffs?|units?|fold"
)
_CHINESE_UNITS = (
    "毫克|微克|千克|公斤|毫升|微升|厘米|毫米|微米|公分|单位|小时|分钟|个月|毫摩尔|摩尔|国际单位|克|升|米|岁|年|月|日|天|周|时|分|秒|"
    "次|片|粒|支|瓶|袋|盒|滴|丸|剂|付|帖|枚|两|钱|斤|合|斗|石|匙|碗|盏|寸|尺|例|倍|度"
)
_NUMBER = r"\d(?:[\d.,，]|[/:：–—~～±×^-](?=\d)|[⁰¹²³⁴⁵⁶⁷⁸⁹⁻])*+"
_UNIT = (
    rf"(?:(?:{_LATIN_UNITS})(?![A-Za-z])(?:(?:/|·|⋅)[A-Za-zμµ%\d.²³]{{1,10}}|[⁻²³¹\d^]{{1,3}}){{0,4}}"
    rf"|/[A-Za-zμµ]{{1,10}}[²³]?|(?:{_CHINESE_UNITS}))"
)
_QUANTITY = re.compile(
    rf"(?:(?:\b[A-Za-z]{{1,4}}{_SPACE}?)?[<>=≤≥±×~≈＜＞＝]{_SPACE}?+)?+{_NUMBER}"
    rf"(?:{_SPACE}?[±×xX*~–-]{_SPACE}?{_NUMBER}){{0,3}}+(?:{_SPACE}{{0,2}}+(?:\n{_SPACE}{{0,8}}+)?{_UNIT})?+"
    rf"|[一二三四五六七八九十百千半数两]{{1,4}}+(?:{_CHINESE_UNITS})(?:半|[一二三四五六七八九]分)?"
)
_PLACEHOLDER = re.compile(
    r"\[\*\*[^\]\n]{0,200}\]|\[[^\]\[\n]{1,200}\]"
    r"|【[^】【\n]{1,40}】|［[^］［\n]{1,40}］|<[A-Z\u4e00-\u9fff][^<>\n]{0,40}>|\{\{?[^{}\n]{1,60}\}?\}"
)
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)
_FIELDS = re.compile(r"^[^\n]{0,300}? — [^\n:]{1,300}: |^(?:[^\n:;]{1,200}: [^\n;]{0,200}; ){2}", re.MULTILINE)
_BAR, _TAB, _BREAK = 124, 9, 10


class Protected:
    """The protected parts of one text.

    Args:
        text: the document.
    """

    def __init__(self, text: str) -> None:
        marks = [match.span() for match in _PLACEHOLDER.finditer(text)]
        self._marks = np.asarray(marks, np.int64).reshape(-1, 2)
        self._text = text
        self._quantities: np.ndarray | None = None
        self.breaks, self.is_row = _lines(text)
        self._ends, self._any_row = np.append(self.breaks, len(text)), bool(self.is_row.any())

    def in_mark(self, places: np.ndarray) -> np.ndarray:
        """bool [places]: strictly inside a placeholder."""
        return _inside(places, self._marks)

    def in_quantity(self, places: np.ndarray) -> np.ndarray:
        """bool [places]: strictly inside a number with its unit."""
        if self._quantities is None:
            self._quantities = np.asarray([m.span() for m in _QUANTITY.finditer(self._text)], np.int64).reshape(-1, 2)
        return _inside(places, self._quantities)

    def in_row(self, places: np.ndarray) -> np.ndarray:
        """bool [places]: inside a line that looks like a row of a table; its beginning and end are outside."""
        if not self._any_row or len(places) == 0:
            return np.zeros(len(places), bool)
        line = np.searchsorted(self.breaks, places - 1)  # of the character before the place
        end = self._ends[line]  # where its line break is
        return self.is_row[line] & (places - 1 != end) & (places != end)

    def row_borders(self) -> np.ndarray:
        """The places after a line break that has a row before or after it, int64 [n], ascending."""
        either = self.is_row[:-1] | self.is_row[1:]
        return self.breaks[either] + 1


def _inside(places: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """bool [places]: start < place < stop of one of the spans, which are ascending and do not overlap."""
    started = np.searchsorted(spans[:, 0], places, "left")  # spans that start before the place
    ended = np.searchsorted(spans[:, 1], places, "right")  # spans that stop at or before it
    return started != ended


def _lines(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Places of the line breaks, int64 [lines - 1], and whether each line is a row of a table, bool [lines]."""
    characters: np.ndarray[Any, Any] = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")  # [characters]
    breaks = np.flatnonzero(characters == _BREAK)
    row = np.zeros(len(breaks) + 1, bool)
    lengths = np.diff(np.concatenate([[-1], breaks, [len(characters)]]))  # [lines]
    if "|" in text or "\t" in text:
        bars = np.searchsorted(breaks, np.flatnonzero((characters == _BAR) | (characters == _TAB)))
        bars_of = np.bincount(bars, minlength=len(breaks) + 1)  # [lines]
        for match in _LEADING_TABS.finditer(text):
            bars_of[np.searchsorted(breaks, match.start())] -= match.end() - match.start()
        row |= (bars_of > 0) & ((lengths <= 2_000) | (lengths <= 200 * (bars_of + 1)))
    if "; " in text or " — " in text:
        fields = np.asarray([m.start() for m in _FIELDS.finditer(text)], np.int64)
        lines = np.unique(np.searchsorted(breaks, fields))
        for line in lines.tolist():
            start = int(breaks[line - 1]) + 1 if line else 0
            stop = start + int(lengths[line]) - 1
            cells = text.count(": ", start, stop)
            row[line] |= cells > 0 and stop - start <= 200 * (cells + 1)
    return breaks, row
