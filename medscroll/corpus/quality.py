"""The step `quality`: scores of a document, kept in its metadata; a document goes only past a threshold with a name.

Scores look at lines, paragraphs and n-grams (characters of Chinese, words of other scripts) in windows spread over the
text, so that a book is judged like a note and costs little more; placeholders of de-identified text (`[** **]`, `___`,
`[NAME1]`) count as nothing. The measures are those of Gopher (Rae et al. 2021, arXiv 2112.11446) with thresholds of
their own for Chinese and for long documents: there is no greatest length, and stop words are not asked for. The
defaults drop only what is no text. Cost: about 2 million characters a second and core.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from medscroll.corpus.code_points import BLANKS, CharacterSet, code_points
from medscroll.corpus.document import Document, detect_language
from medscroll.corpus.minhash import hash_runs, hash_words
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError

WINDOW = 20_000  # characters of one window
WINDOWS = 10
# what stands for text that was taken out, or lost by print (□), is no rubbish
_PLACEHOLDERS = (  # each begins with a fixed character, which is found fast
    re.compile(r"\[(?:\*\*[^\n\]]{0,80}\*\*\]|[A-Z][A-Z_]{1,15}\d{0,5}\])"), re.compile("□□*"), re.compile("___+"),
)  # fmt: skip
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_BROKEN = re.compile(r"[\ufffd\ue000-\uf8ff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MOJIBAKE_SIGNS = ("锟斤拷", "烫烫烫", "屯屯屯", "â€", "Ã")
_MOJIBAKE = re.compile(r"锟斤拷|烫烫烫|屯屯屯|â€|Ã[\x80-\xbf©¨¢]")
# A line of rubbish ends in eight signs, or in a dozen single characters with a blank after each; or it holds a lost
# character, or one character many times on end.
_SIGNS, _SPACED = 8, re.compile(r"(?:\S\s){12}\S")
_LOST_OR_RUN = re.compile(r"[\ufffd\ue000-\uf8ff]|(.)\1{15,}")
_LOST = CharacterSet([(0xE000, 0xF8FF), (0xFFFD, 0xFFFD)])
_TAIL = 64  # characters of a line in which its last eight that are no blanks mostly stand
_RULER = re.compile(r"[\s\-=_*·.~|+:─━—…#]+$")
_RULER_STARTS = frozenset("-=_*·.~|+:─━—…#")
_FIRST_RULER = re.compile(r"[ \t|:+=\-]+(?=\n|\Z)")
_RULERS = re.compile(r"\n[ \t|:+=\-]+(?=\n|\Z)")
_WORD_CHARACTER = re.compile(r"\w")
_WORDS = re.compile(r"\w+")
SCORES = (
    "letter_share", "symbol_share", "broken_share", "garbage_line_share", "repeated_line_share",
    "repeated_paragraph_share", "top_gram_share", "repeated_gram_share", "mean_line", "script_share",
)  # fmt: skip


@dataclass
class QualityConfig:
    """Keys of the step `quality`. A threshold of None drops nothing; each names the reason under which it drops."""

    enabled: bool = field(default=True, metadata={"help": "Score documents and drop what is past a threshold."})
    least_characters: int = field(default=1, metadata={"help": "Fewer characters that are no blanks: too_short."})
    least_letter_share: float | None = field(
        default=0.2, metadata={"help": "Letters among what is no blank: few_letters."}
    )
    most_broken_share: float | None = field(default=0.1, metadata={"help": "Broken characters: broken_characters."})
    most_symbol_share: float | None = field(default=0.6, metadata={"help": "Signs among what is no blank: symbols."})
    most_garbage_line_share: float | None = field(default=0.7, metadata={"help": "Lines of rubbish: garbage_lines."})
    most_repeated_line_share: float | None = field(
        default=0.9, metadata={"help": "Characters in repeated lines: repeated_lines."}
    )
    most_repeated_paragraph_share: float | None = field(
        default=0.9, metadata={"help": "Characters in repeated paragraphs: repeated_paragraphs."}
    )
    most_top_gram_share: float | None = field(
        default=0.5, metadata={"help": "Characters in the most frequent n-gram: one_phrase."}
    )
    most_repeated_gram_share: float | None = field(
        default=0.95, metadata={"help": "Long n-grams that occur again: repeated_phrases."}
    )
    languages: list[str] = field(
        default_factory=list, metadata={"help": "Languages kept, such as [zh, en]; empty: all. Others: language."}
    )

    def build(self) -> Quality:
        """The step.

        Raises:
            ConfigError: a share out of 0..1, or a language that is not told apart.
        """
        problems = []
        for name, value in vars(self).items():
            if name.endswith("_share") and value is not None and not 0 <= value <= 1:
                problems.append(ConfigError(f"quality.{name} is {value}", remedy="give a share from 0 to 1, or null"))
        for language in self.languages:
            if language not in ("zh", "en", "other"):
                problems.append(
                    ConfigError(f"quality.languages names {language!r}", remedy="there are zh, en and other")
                )
        if problems:
            raise ConfigError.collect(problems)
        return Quality(self)


def _sample(text: str) -> list[str]:
    """Windows spread over a long text, each from a line start to a line end; a short text as a whole."""
    if len(text) <= WINDOW * WINDOWS:
        return [text]
    step = (len(text) - WINDOW) // (WINDOWS - 1)
    windows = []
    for number in range(WINDOWS):
        start = number * step
        line = text.find("\n", start, start + 2000) + 1 if number else 0
        start = line or start
        stop = text.rfind("\n", start + WINDOW // 2, start + WINDOW)
        windows.append(text[start : stop if stop > 0 else start + WINDOW])
    return windows


def quality_scores(text: str, language: str) -> dict[str, float]:
    """The scores of a text, names as in `SCORES`, plus "characters" (that are no blanks).

    Shares are of characters unless their name says lines; `repeated_*` counts second and later occurrences. A window
    is looked at alone: repetition across more than 20,000 characters of a long text is the business of deduplication.
    """
    windows = [_without_marks(window) for window in _sample(text)]
    points = [code_points(window) for window in windows]  # each uint32 [characters of the window]
    visible, letters, han, latin, broken = _count_kinds(points)
    for window in windows:
        if any(sign in window for sign in _MOJIBAKE_SIGNS):
            broken += sum(map(len, _MOJIBAKE.findall(window)))
    lines, garbage, repeated_lines, line_characters = _lines(windows, points)
    repeated_paragraphs = _repeated_paragraphs(windows)
    top, again = _grams(windows, points, language)
    script = han if language == "zh" else latin if language == "en" else letters
    return {
        "characters": len(text) - BLANKS.count(text),
        "letter_share": _share(letters, visible) if visible or not any(p.search(text) for p in _PLACEHOLDERS) else 1.0,
        "symbol_share": _share(visible - letters, visible),
        "broken_share": _share(broken, visible),
        "garbage_line_share": _share(garbage, lines),
        "repeated_line_share": _share(repeated_lines, line_characters),
        "repeated_paragraph_share": repeated_paragraphs,
        "top_gram_share": top,
        "repeated_gram_share": again,
        "mean_line": round(line_characters / max(1, lines), 1),
        "script_share": _share(script, letters),
    }


def _without_marks(window: str) -> str:
    """A window without placeholders and rulers."""
    for placeholder in _PLACEHOLDERS:
        window = placeholder.sub(" ", window)
    first = _FIRST_RULER.match(window)
    return _RULERS.sub("\n", window[first.end() :] if first else window)


_KIND_BITS = {"visible": 1, "letter": 2, "han": 4, "latin": 8, "broken": 16}
_UNKNOWN = 255
_kind_table = np.full(0x110000, _UNKNOWN, np.uint8)  # code point -> bits of its kinds, filled in as they turn up


def _count_kinds(windows: list[np.ndarray]) -> list[int]:
    """How many characters of each kind there are in all windows, in the order of `_KIND_BITS`."""
    totals = [0] * len(_KIND_BITS)
    for window in windows:
        counts = np.bincount(window)
        present = np.flatnonzero(counts)
        counts, kinds = counts[present], _kind_table[present]
        if (new := present[kinds == _UNKNOWN]).size:
            _kind_table[new] = [sum(_KIND_BITS[kind] for kind in _kinds(chr(point))) for point in new.tolist()]
            kinds = _kind_table[present]
        for place, bit in enumerate(_KIND_BITS.values()):
            totals[place] += int(counts[(kinds & bit) > 0].sum())
    return totals


def _kinds(character: str) -> tuple[str, ...]:
    kinds = [] if character.isspace() else ["visible"]
    if character.isalnum():
        kinds.append("letter")
    for kind, pattern in (("han", _HAN), ("latin", _LATIN), ("broken", _BROKEN)):
        if pattern.match(character):
            kinds.append(kind)
    return tuple(kinds)


def _share(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0


def _lines(windows: list[str], points: list[np.ndarray]) -> tuple[int, int, int, int]:
    """(lines, of rubbish, characters in repeated lines, characters in lines); rulers and blank lines do not count."""
    lines = garbage = repeated = characters = 0
    for window, of_window in zip(windows, points, strict=True):
        stripped = [line for raw in window.split("\n") if (line := raw.strip())]
        kept = [line for line in stripped if line[0] not in _RULER_STARTS or not _RULER.match(line)]
        length = sum(map(len, kept))
        lines += len(kept)
        characters += length
        repeated += length - sum(map(len, set(kept)))
        closely = _may_hold_lost_or_run(of_window)
        garbage += sum(_ends_in_garbage(line) or (closely and bool(_LOST_OR_RUN.search(line))) for line in kept)
    return lines, garbage, repeated, characters


def _may_hold_lost_or_run(points: np.ndarray) -> bool:
    """Whether a window has a lost character, or eight equal ones on end at a place that eight divides, which every run
    of sixteen holds."""
    if bool(_LOST.contains(points).any()):
        return True
    blocks = points[: len(points) // 8 * 8].reshape(-1, 8)
    ends_alike = (blocks[:, 0] == blocks[:, 7]) & (blocks[:, 0] != ord("\n"))
    blocks = blocks[ends_alike]  # few
    return bool((blocks == blocks[:, :1]).all(axis=1).any())


def _ends_in_garbage(line: str) -> bool:
    """Whether a line without blanks at its ends ends in eight signs, or in single characters with blanks between."""
    before = line[-2:-1]
    if not before or before.isalnum() or before == "_":
        return False
    if before.isspace():
        if _SPACED.fullmatch(line[-25:]):
            return True
    elif line[-1].isalnum():
        return False
    compact = "".join(line[-_TAIL:].split())
    if len(compact) < _SIGNS:
        compact = "".join(line.split())
    return len(compact) >= _SIGNS and not _WORD_CHARACTER.search(compact, len(compact) - _SIGNS)


def _repeated_paragraphs(windows: list[str]) -> float:
    repeated = characters = 0
    for window in windows:
        paragraphs = [raw.strip() for raw in window.split("\n\n")]
        length = sum(map(len, paragraphs))
        characters += length
        repeated += length - sum(map(len, set(paragraphs)))
    return _share(repeated, characters)


def _grams(windows: list[str], points: list[np.ndarray], language: str) -> tuple[float, float]:
    """(share of the most frequent short n-gram, share of long n-grams that have occurred before)."""
    top = again = total = covered = 0
    for window, of_window in zip(windows, points, strict=True):
        words: list[str] = []
        if language == "zh":
            short, long = 4, 20
            tokens = of_window[~BLANKS.contains(of_window)].astype(np.uint64)
        else:
            short, long = 2, 10
            words = _WORDS.findall(window.lower())
            tokens = hash_words(words)
        if len(tokens) < 2 * long:
            continue
        runs = hash_runs(tokens, short)
        value, count = _most_frequent(runs)
        if count > 3:
            first = int(np.flatnonzero(runs == value)[0])
            top += count * (sum(map(len, words[first : first + short])) if words else short)
        covered += sum(map(len, words)) if words else len(tokens)
        runs = np.sort(hash_runs(tokens, long))
        again += int((runs[1:] == runs[:-1]).sum())
        total += len(runs)
    return min(1.0, _share(top, covered)), _share(again, total)


def _most_frequent(values: np.ndarray) -> tuple[int, int]:
    """(the value that occurs most often, the least of them where there are several; how often it does)."""
    ordered = np.sort(values)
    borders = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    counts = np.diff(borders)
    best = int(counts.argmax())
    return ordered[borders[best]], int(counts[best])


class Quality:
    """Scores documents; see the module."""

    name = "quality"
    version = 1

    def __init__(self, config: QualityConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """The thresholds."""
        return repr(self._config)

    def apply(self, document: Document, log: StepLog) -> Document | None:
        """The document with `metadata["quality"]`, or None with the first threshold that it is past as the reason."""
        language = document.lang if document.lang in ("zh", "en") else detect_language(document.text)
        scores = quality_scores(document.text, language)
        document.metadata["quality"] = scores
        for name in SCORES:
            if name.endswith("_share"):
                log.observe(name, f"{int(scores[name] * 20) / 20:.2f}")
        log.count(f"language_{language}")
        found = self._reason(scores, language)
        if found:
            log.reject(*found)
            return None
        return document

    def _reason(self, scores: dict[str, float], language: str) -> tuple[str, str] | None:
        config = self._config
        checks = (
            ("too_short", scores["characters"] < config.least_characters, "characters"),
            ("few_letters", _below(scores["letter_share"], config.least_letter_share), "letter_share"),
            ("broken_characters", _above(scores["broken_share"], config.most_broken_share), "broken_share"),
            ("symbols", _above(scores["symbol_share"], config.most_symbol_share), "symbol_share"),
            (
                "garbage_lines",
                _above(scores["garbage_line_share"], config.most_garbage_line_share),
                "garbage_line_share",
            ),
            (
                "repeated_lines",
                _above(scores["repeated_line_share"], config.most_repeated_line_share),
                "repeated_line_share",
            ),
            (
                "repeated_paragraphs",
                _above(scores["repeated_paragraph_share"], config.most_repeated_paragraph_share),
                "repeated_paragraph_share",
            ),
            ("one_phrase", _above(scores["top_gram_share"], config.most_top_gram_share), "top_gram_share"),
            (
                "repeated_phrases",
                _above(scores["repeated_gram_share"], config.most_repeated_gram_share),
                "repeated_gram_share",
            ),
        )
        for reason, holds, score in checks:
            if holds:
                return reason, f"{score} {scores[score]}"
        if config.languages and language not in config.languages:
            return "language", f"language {language}"
        return None


def _below(value: float, least: float | None) -> bool:
    return least is not None and value < least


def _above(value: float, most: float | None) -> bool:
    return most is not None and value > most
