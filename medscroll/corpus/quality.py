"""The step `quality`: scores of a document, kept in its metadata; a document goes only past a threshold with a name.

Scores look at lines, paragraphs and n-grams (characters of Chinese, words of other scripts) in windows spread over the
text, so that a book is judged like a note and costs little more; placeholders of de-identified text (`[** **]`, `___`,
`[NAME1]`) count as nothing. The measures are those of Gopher (Rae et al. 2021, arXiv 2112.11446) with thresholds of
their own for Chinese and for long documents: there is no greatest length, and stop words are not asked for. The
defaults drop only what is no text. Cost: about 2 million characters a second and core.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from medscroll.corpus.document import Document, detect_language
from medscroll.corpus.minhash import hash_characters, hash_runs, hash_words
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError

WINDOW = 20_000  # characters of one window
WINDOWS = 10
# what stands for text that was taken out, or lost by print (□), is no rubbish
_PLACEHOLDER = re.compile(r"□+|\[\*\*[^\n\]]{0,80}\*\*\]|\[[A-Z][A-Z_]{1,15}\d{0,5}\]|_{3,}")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_BROKEN = re.compile(r"[\ufffd\ue000-\uf8ff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MOJIBAKE = re.compile(r"锟斤拷|烫烫烫|屯屯屯|â€|Ã[\x80-\xbf©¨¢]")
_GARBAGE_LINE = re.compile(r"[^\w\s]*[\ufffd\ue000-\uf8ff]|(?:[^\w\s]\s*){8,}$|(?:\S\s){12,}\S?$|(.)\1{15,}")
_RULER = re.compile(r"[\s\-=_*·.~|+:─━—…#]+$")
_RULER_LINE = re.compile(r"^[ \t|:+=\-]+$", re.MULTILINE)
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
    windows = [_RULER_LINE.sub("", _PLACEHOLDER.sub(" ", window)) for window in _sample(text)]
    kinds: Counter[str] = Counter()
    for window in windows:
        for character, number in Counter(window).items():
            kinds.update(dict.fromkeys(_kinds(character), number))
    visible, letters, han, latin = (kinds[kind] for kind in ("visible", "letter", "han", "latin"))
    broken = kinds["broken"] + sum(len(match) for window in windows for match in _MOJIBAKE.findall(window))
    lines, garbage, repeated_lines, line_characters = _lines(windows)
    repeated_paragraphs = _repeated_paragraphs(windows)
    top, again = _grams(windows, language)
    script = han if language == "zh" else latin if language == "en" else letters
    return {
        "characters": sum(map(len, text.split())),
        "letter_share": _share(letters, visible) if visible or not _PLACEHOLDER.search(text) else 1.0,
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


@lru_cache(maxsize=65_536)
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


def _lines(windows: list[str]) -> tuple[int, int, int, int]:
    """(lines, of rubbish, characters in repeated lines, characters in lines); rulers and blank lines do not count."""
    lines = garbage = repeated = characters = 0
    for window in windows:
        seen: set[str] = set()
        for raw in window.split("\n"):
            line = raw.strip()
            if not line or _RULER.match(line):
                continue
            lines += 1
            characters += len(line)
            garbage += _GARBAGE_LINE.search(line) is not None
            if line in seen:
                repeated += len(line)
            seen.add(line)
    return lines, garbage, repeated, characters


def _repeated_paragraphs(windows: list[str]) -> float:
    repeated = characters = 0
    for window in windows:
        seen: set[str] = set()
        for raw in window.split("\n\n"):
            paragraph = raw.strip()
            characters += len(paragraph)
            if paragraph in seen:
                repeated += len(paragraph)
            seen.add(paragraph)
    return _share(repeated, characters)


def _grams(windows: list[str], language: str) -> tuple[float, float]:
    """(share of the most frequent short n-gram, share of long n-grams that have occurred before)."""
    top = again = total = covered = 0
    for window in windows:
        if language == "zh":
            short, long = 4, 20
            tokens = hash_characters("".join(window.split()))
            lengths = np.ones(len(tokens), np.int64)
        else:
            short, long = 2, 10
            words = _WORDS.findall(window.lower())
            tokens = hash_words(words)
            lengths = np.fromiter(map(len, words), np.int64, len(words))
        if len(tokens) < 2 * long:
            continue
        _, firsts, counts = np.unique(hash_runs(tokens, short), return_index=True, return_counts=True)
        best = int(counts.argmax())
        if counts[best] > 3:
            top += int(counts[best]) * int(lengths[firsts[best] : firsts[best] + short].sum())
        covered += int(lengths.sum())
        runs = hash_runs(tokens, long)
        again += len(runs) - len(np.unique(runs))
        total += len(runs)
    return min(1.0, _share(top, covered)), _share(again, total)


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
