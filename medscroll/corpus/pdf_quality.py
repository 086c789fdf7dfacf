"""Whether the text layer of a PDF page can be trusted: what a font without a usable Unicode map makes of a page.

Extraction of text never fails loudly: a font whose codes have no map to Unicode gives private-use characters,
`(cid:7)`, rare characters of many scripts, letters that are other letters, or words without spaces. `page_problem`
names the first of these signs that a page shows; a page with a sign is left out and named, never guessed. Thresholds
err towards keeping short pages: most need 50 to 200 characters of evidence. Cost: a few passes over the text of a page.
"""

from __future__ import annotations

import re
from collections import Counter

from medscroll.corpus.encoding import FREQUENT_HAN

_CID = re.compile(r"\(cid:\d{1,6}\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
# Bullets and arrows of symbol fonts lie at U+F020..F0FF: some of them stand on good pages too.
_PRIVATE = re.compile("[\ud800-\udfff\ue000-\uf01f\uf100-\uf8ff\U000f0000-\U0010fffd]")
_SYMBOL_FONT = re.compile("[\uf020-\uf0ff]")
# A point that was lost makes 38.5 of 38<?>5: one such place is enough.
_IN_NUMBER = re.compile("[0-9][\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff][0-9]")
_SPACES = re.compile(r"\s+")
_LATIN_RUN = re.compile(r"[A-Za-z]{21,}")
_LATIN = re.compile(r"[A-Za-z]")
_LOWER = re.compile(r"[a-z]")
_COMMON_LOWER = re.compile(r"[etaoinsrld]")  # 73 % of the letters of English, 38 % of letters drawn at random
_ACCENTED = re.compile("[\u0080-\u00a9\u00ab-\u00af\u00b4\u00b8\u00bc-\u00be\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Ranges of scripts that a page may be written in; everything else is rare.
_SCRIPTS = (
    ("latin", "A-Za-z\u00c0-\u024f\u1e00-\u1eff"), ("greek", "\u0370-\u03ff"), ("cyrillic", "\u0400-\u052f"),
    ("armenian", "\u0530-\u058f"), ("hebrew", "\u0590-\u05ff"), ("arabic", "\u0600-\u08ff"),
    ("indic", "\u0900-\u0dff"), ("thai", "\u0e00-\u0eff"), ("tibetan", "\u0f00-\u10ff"),
    ("ethiopic", "\u1100-\u1dff"), ("kana", "\u3040-\u30ff"), ("han", "\u3400-\u9fff"), ("yi", "\ua000-\uabff"),
    ("hangul", "\uac00-\ud7af"),
)  # fmt: skip
_SCRIPT_PATTERNS = tuple((name, re.compile(f"[{ranges}]")) for name, ranges in _SCRIPTS)
_AT_HOME = frozenset({"latin", "greek", "han", "kana"})  # scripts that stand beside any other in medical text
_FREQUENT_HANGUL = frozenset("이다의는에을가고하한로지사도기서를은자과대인여정어원나있시해그들일전")
_NOT_SYMBOL = re.compile(r"[\w.…·・_-]")


def page_problem(text: str) -> tuple[str, str] | None:
    """Why a page's text cannot be trusted: (stable name, numbers in words without text); None where nothing is seen.

    Names: "cid", "numbers", "replacement", "private_use", "control", "rare_scripts", "rare_characters", "accents",
    "letters", "symbols", "no_spaces", "scattered".
    """
    dense = _SPACES.sub("", text)
    size = len(dense)
    if not size:
        return None
    cid = len(_CID.findall(dense))
    if cid >= 3:
        return "cid", f"{cid} character numbers without a Unicode form"
    lost = len(_IN_NUMBER.findall(text))
    if lost:
        return "numbers", f"{lost} numbers hold a character without a Unicode form"
    shares = (
        ("replacement", dense.count("\ufffd"), 0.01, 3, "replacement characters"),
        ("private_use", len(_PRIVATE.findall(dense)), 0.02, 3, "private-use characters"),
        ("private_use", len(_SYMBOL_FONT.findall(dense)), 0.2, 20, "characters of symbol fonts"),
        ("control", len(_CONTROL.findall(text)), 0.01, 3, "control characters"),
    )
    for name, number, share, least, words in shares:
        if number >= least and number > share * size:
            return name, f"{number} of {len(text)} are {words}"
    if size < 50:
        return None
    return _scripts(dense) or _latin(dense) or _shape(text, dense)


def _scripts(dense: str) -> tuple[str, str] | None:
    counts = Counter({name: len(pattern.findall(dense)) for name, pattern in _SCRIPT_PATTERNS})
    letters = counts.total()
    if letters < 50 and sum(char.isalpha() for char in dense) < 50:
        return None
    foreign = {name: number for name, number in counts.items() if name not in _AT_HOME and number}
    main = counts.most_common(1)[0][0]
    foreign.pop(main, None)
    unknown = sum(char.isalpha() for char in dense) - letters
    if unknown > 20 and unknown > 0.2 * letters:
        return "rare_scripts", f"{unknown} letters are of scripts that are hardly written"
    if sum(foreign.values()) > 0.1 * letters and len(foreign) >= 2:
        return "rare_scripts", f"letters of {len(foreign) + 1} scripts that are not written together"
    han = _HAN.findall(dense)
    frequent = sum(char in FREQUENT_HAN for char in han)
    if len(han) >= 100 and len(han) > 0.3 * letters and counts["kana"] < 0.05 * letters and frequent < 0.04 * len(han):
        return "rare_characters", f"{frequent} of {len(han)} Chinese characters are among the frequent ones"
    if counts["hangul"] >= 100 and counts["hangul"] > 0.3 * letters:
        known = sum(char in _FREQUENT_HANGUL for char in dense)
        if known < 0.06 * counts["hangul"]:
            return "rare_characters", f"{known} of {counts['hangul']} Korean syllables are among the frequent ones"
    return None


def _latin(dense: str) -> tuple[str, str] | None:
    plain, accented = len(_LATIN.findall(dense)), len(_ACCENTED.findall(dense))
    if accented > 40 and accented > 0.4 * (plain + accented):
        return "accents", f"{accented} of {plain + accented} letters have accents or are signs"
    if plain >= 200 and plain > 0.5 * len(dense):
        lower, common = len(_LOWER.findall(dense)), len(_COMMON_LOWER.findall(dense))
        if lower >= 150 and common < 0.52 * lower:
            return "letters", f"{common} of {lower} small letters are among the ten most frequent ones"
    return None


def _shape(text: str, dense: str) -> tuple[str, str] | None:
    size = len(dense)
    plain = len(_LATIN.findall(dense))
    if size >= 200:
        symbols = size - len(_NOT_SYMBOL.findall(dense))
        if symbols > 0.6 * size:
            return "symbols", f"{symbols} of {size} characters are neither letters nor digits"
        glued = sum(len(run) for run in _LATIN_RUN.findall(text))
        if plain > 0.6 * size and glued > 0.3 * plain:
            return "no_spaces", f"{glued} of {plain} letters stand in runs of more than 20"
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    single = sum(len(line) == 1 and line.isalpha() for line in lines)
    if len(lines) >= 60 and single > 0.6 * len(lines):
        return "scattered", f"{single} of {len(lines)} lines hold one letter"
    return None
