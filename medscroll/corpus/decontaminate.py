"""The step `decontaminate`: what a text shares with the questions of benchmarks is taken out, or the document dropped.

A text and the fields of the benchmark records are read as a sequence of tokens: each Chinese character, each word or
number of other scripts, after NFKC and without case, blanks or punctuation. A run of 13 tokens that also stands in a
benchmark is a match (GPT-3, Brown et al. 2020, appendix C); a question shorter than that is looked for as a whole where
it has `least_tokens`. NFKC serves the matching alone: every token keeps its place in the original, and outside of what
is taken out no character changes. Cost: about 1 million characters a second and core; memory: 8 bytes a benchmark
token.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from medscroll.corpus.document import Document
from medscroll.corpus.minhash import hash_runs, hash_words
from medscroll.corpus.step import StepLog, edit_text
from medscroll.errors import ConfigError, DataError, UserError

_HAN = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_HAN}]|(?:(?![{_HAN}])[^\W_])+")
_BLOCK = 1 << 20  # characters of a text looked at in one go
_TEXT_KEYS = ("question", "stem", "query", "instruction", "input", "context", "prompt", "text", "problem", "passage")
_NOT_TEXT_KEYS = frozenset(("id", "answer", "answer_idx", "label", "meta_info", "source", "url", "pubid", "split"))


@dataclass
class DecontaminateConfig:
    """Keys of the step `decontaminate`."""

    enabled: bool = field(default=False, metadata={"help": "Look for the questions of benchmarks."})
    benchmarks: list[str] = field(default_factory=list, metadata={"help": "JSONL files, one question a line."})
    fields: list[str] = field(
        default_factory=list, metadata={"help": "Fields of the records; empty: question, context and the like."}
    )
    tokens: int = field(
        default=13, metadata={"help": "Tokens (characters of Chinese, words) that a match has at least."}
    )
    least_tokens: int = field(
        default=8, metadata={"help": "Shorter fields are looked for as a whole if they have this many."}
    )
    action: str = field(default="window", metadata={"help": "window: take matches out; drop: drop the document."})
    margin: int = field(default=0, metadata={"help": "Characters taken out on either side of a match too."})
    most_windows: int = field(
        default=0, metadata={"help": "Matches beyond which the document is dropped; 0: no limit."}
    )

    def build(self) -> Decontaminate:
        """The step, with the benchmarks read.

        Raises:
            ConfigError: a value out of its range, or no benchmark named. DataError: a file that is not there, is no
                JSONL, or has none of the fields.
        """
        problems: list[UserError] = []
        if self.action not in ("window", "drop"):
            problems.append(ConfigError(f"decontaminate.action is {self.action!r}", remedy="give window or drop"))
        if not 4 <= self.least_tokens <= self.tokens:
            problems.append(
                ConfigError(
                    f"decontaminate.least_tokens is {self.least_tokens} and tokens {self.tokens}",
                    remedy="give 4 <= least_tokens <= tokens",
                )
            )
        if self.margin < 0 or self.most_windows < 0:
            problems.append(ConfigError("decontaminate.margin or most_windows is below 0", remedy="give 0 or more"))
        if not self.benchmarks:
            problems.append(
                ConfigError(
                    "decontaminate is on and names no benchmark", "decontaminate.benchmarks", "give JSONL files"
                )
            )
        names = [Path(name).name for name in self.benchmarks]
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.append(
                ConfigError(f"two benchmark files are called {name}", remedy="rename one of them: reports name them")
            )
        for name in self.benchmarks:
            if not Path(name).is_file():
                problems.append(DataError("the benchmark file is not there", name, "give the path of a JSONL file"))
        if problems:
            raise ConfigError.collect(problems)
        return Decontaminate(self, [Benchmark.read(Path(name), self) for name in self.benchmarks])


def tokenise(text: str) -> tuple[list[str], np.ndarray]:
    """(tokens, place int64 [n, 2] of each in the original). NFKC and casefold go character by character, so that a
    place is that of the characters from which the token came."""
    if text.isascii():
        lower = text.lower()
        matches = list(_TOKEN.finditer(lower))
        return [match[0] for match in matches], np.array([match.span() for match in matches], np.int64).reshape(-1, 2)
    if unicodedata.is_normalized("NFKC", text):
        folded = text.lower()
        if len(folded) == len(text):
            matches = list(_TOKEN.finditer(folded))
            return [match[0] for match in matches], np.array([match.span() for match in matches], np.int64).reshape(
                -1, 2
            )
    parts = [_folded(character) for character in text]
    folded = "".join(parts)
    origin = np.repeat(np.arange(len(text)), [len(part) for part in parts])
    matches = list(_TOKEN.finditer(folded))
    places = np.array([(origin[match.start()], origin[match.end() - 1] + 1) for match in matches], np.int64).reshape(
        -1, 2
    )
    return [match[0] for match in matches], places


_FOLDED: dict[str, str] = {}


def _folded(character: str) -> str:
    known = _FOLDED.get(character)
    if known is None:
        known = unicodedata.normalize("NFKC", character).lower()
        if len(_FOLDED) < 1 << 17:
            _FOLDED[character] = known
    return known


@dataclass(frozen=True)
class Benchmark:
    """Runs of tokens of one benchmark file.

    Attributes:
        name: of the file. digest: of its content. records: read.
        runs: length of a run -> sorted hashes uint64 of all runs of that length that are looked for.
    """

    name: str
    digest: str
    records: int
    runs: dict[int, np.ndarray]

    @classmethod
    def read(cls, path: Path, config: DecontaminateConfig) -> Benchmark:
        """Reads a JSONL file.

        Raises:
            DataError: a line is no JSON object, or no record has a field that is looked for.
        """
        runs: dict[int, list[np.ndarray]] = {}
        records = 0
        hasher = xxhash.xxh3_128()
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                hasher.update(line)
                if not line.strip():
                    continue
                records += 1
                for text in _texts(_record(line, path, number), config.fields):
                    tokens, _ = tokenise(text)
                    length = min(config.tokens, len(tokens))
                    if length >= config.least_tokens:
                        runs.setdefault(length, []).append(hash_runs(hash_words(tokens), length))
        if not runs:
            wanted = ", ".join(config.fields or _TEXT_KEYS)
            raise DataError(
                f"no record of the benchmark has {config.least_tokens} tokens in one of the fields {wanted}",
                str(path),
                "name its fields with decontaminate.fields",
            )
        joined = {length: np.unique(np.concatenate(hashes)) for length, hashes in runs.items()}
        return cls(path.name, hasher.hexdigest(), records, joined)


def _record(line: bytes, path: Path, number: int) -> Any:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError("the line is no JSON", f"{path}:{number}", "give one JSON object a line") from error
    if not isinstance(record, dict | str):
        raise DataError("the line is no JSON object", f"{path}:{number}", "give one JSON object a line")
    return record


def _texts(record: Any, fields: Sequence[str]) -> Iterator[str]:
    """The texts of a record: of the fields named, else of those that benchmarks use for questions and contexts."""
    if isinstance(record, str):
        yield record
        return
    keys = {key.lower(): key for key in record}
    names = (
        [name for name in fields if name in record] if fields else [keys[name] for name in _TEXT_KEYS if name in keys]
    )
    if not names and not fields:
        names = [key for key in record if key.lower() not in _NOT_TEXT_KEYS and isinstance(record[key], str)]
    for name in names:
        yield from _strings(record[name])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)


class Decontaminate:
    """Takes matches with benchmarks out; see the module."""

    name = "decontaminate"
    version = 1

    def __init__(self, config: DecontaminateConfig, benchmarks: Sequence[Benchmark]) -> None:
        self._config = config
        self._benchmarks = list(benchmarks)

    def fingerprint(self) -> str:
        """The configuration but for the paths, and the content of the benchmarks."""
        values = {name: value for name, value in vars(self._config).items() if name != "benchmarks"}
        return repr((sorted(values.items()), [(each.name, each.digest) for each in self._benchmarks]))

    def find(self, text: str) -> list[tuple[int, int, int]]:
        """(start, stop, number of the benchmark) of every match, ascending; matches of one benchmark that overlap or
        touch are one."""
        found: list[tuple[int, int, int]] = []
        start = 0
        overlap = 64 * self._config.tokens
        while True:
            stop = min(len(text), start + _BLOCK)
            found += self._find_in(text[start:stop], start)
            if stop == len(text):
                break
            start = stop - overlap
        return _merged(found)

    def _find_in(self, text: str, offset: int) -> Iterator[tuple[int, int, int]]:
        tokens, places = tokenise(text)
        if not tokens:
            return
        hashes = hash_words(tokens)
        lengths = sorted({length for benchmark in self._benchmarks for length in benchmark.runs})
        for length in lengths:
            if length > len(hashes):
                continue
            runs = hash_runs(hashes, length)
            for number, benchmark in enumerate(self._benchmarks):
                wanted = benchmark.runs.get(length)
                if wanted is None:
                    continue
                at = np.searchsorted(wanted, runs)
                hits = np.flatnonzero(wanted[np.minimum(at, len(wanted) - 1)] == runs)
                for hit in hits.tolist():
                    yield int(places[hit, 0]) + offset, int(places[hit + length - 1, 1]) + offset, number

    def apply(self, document: Document, log: StepLog) -> Document | None:
        """The document without the matches, or None where it is to be dropped."""
        found = self.find(document.text)
        while found:
            kept = self._without(document, found, log)
            if kept is None:
                return None
            found = self.find(document.text)  # what was taken out may have brought a match together
        return document

    def _without(self, document: Document, found: Sequence[tuple[int, int, int]], log: StepLog) -> Document | None:
        for number in sorted({number for _, _, number in found}):
            name = self._benchmarks[number].name
            log.observe("documents_with_matches", name)
            for _ in range(sum(each == number for _, _, each in found)):
                log.observe("matches", name)
        windows = self._windows(document.text, found)
        config = self._config
        if config.action == "drop" or (config.most_windows and len(windows) > config.most_windows):
            names = ", ".join(sorted({self._benchmarks[number].name for _, _, number in found}))
            log.reject("benchmark_match", f"{len(windows)} matches with {names}")
            return None
        log.count("windows", len(windows))
        log.count("windows_characters", sum(stop - start for start, stop in windows))
        edit_text(document, [(start, stop, "") for start, stop in windows])
        if not document.text.strip():
            log.reject("benchmark_match", f"{len(windows)} matches, nothing else in it")
            return None
        return document

    def _windows(self, text: str, found: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
        margin = self._config.margin
        wide = [(max(0, start - margin), min(len(text), stop + margin), 0) for start, stop, _ in found]
        return [(start, stop) for start, stop, _ in _merged(wide)]


def _merged(found: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    last: dict[int, int] = {}
    merged: list[tuple[int, int, int]] = []
    for start, stop, number in sorted(found):
        at = last.get(number)
        if at is not None and start <= merged[at][1]:
            merged[at] = (merged[at][0], max(stop, merged[at][1]), number)
        else:
            last[number] = len(merged)
            merged.append((start, stop, number))
    return merged
