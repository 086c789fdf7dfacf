"""MinHash signatures of documents (rensa), from hashed n-grams: characters for Chinese, words for other scripts.

The n-grams of many documents are hashed at once with numpy and given to rensa as one buffer; a long document goes
through in blocks whose signatures are united by their minima, so memory does not grow with its length. The share of
equal values of two signatures estimates the Jaccard similarity of their sets of n-grams, with a standard deviation of
sqrt(J (1 - J) / permutations). Broder 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import xxhash

from medscroll.errors import EnvironmentError_

PERMUTATIONS = 128
SEED = 42
CHARACTERS_A_GRAM = 4  # of Chinese
WORDS_A_GRAM = 3  # of other scripts
BLOCK = 1 << 18  # n-grams hashed at once
_WORD = re.compile(r"\w+")
_PIECE = 1 << 20  # characters
_CACHE_ROOM = 1 << 18
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class _WordHashes(dict[str, int]):
    """Word -> 64-bit hash, each computed once while there is room."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHE_ROOM:
            self.clear()
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        return value


_word_hashes = _WordHashes()


def exact_hash(text: str) -> bytes:
    """16 bytes of xxh3_128 of a text without its blanks and line ends."""
    return xxhash.xxh3_128_digest("".join(text.split()).encode("utf-8", "surrogatepass"))


def _tokens(text: str, chinese: bool) -> Iterator[np.ndarray]:
    """Hashed tokens (uint64) in blocks that overlap by one gram less one token; none for a text without tokens."""
    if chinese:
        overlap = CHARACTERS_A_GRAM - 1
        step = BLOCK
        compact = "".join(text.split()).lower() if len(text) <= step else "".join(re.split(r"\s+", text)).lower()
        for start in range(0, max(1, len(compact) - overlap), step):
            yield hash_characters(compact[start : start + step + overlap])
        return
    overlap = WORDS_A_GRAM - 1
    kept = np.empty(0, np.uint64)
    found = False
    for words in _words(text.lower()):
        kept = np.concatenate([kept, hash_words(words)])
        if len(kept) > overlap:
            yield kept
            found = True
            kept = kept[-overlap:]
    if len(kept) and not found:
        yield kept


def _words(text: str) -> Iterator[list[str]]:
    """The words of a text, those of about `_PIECE` characters at a time."""
    start = 0
    while start < len(text):
        stop = min(len(text), start + _PIECE)
        rest = _WORD.match(text, stop) if _WORD.match(text, stop - 1) else None
        stop = rest.end() if rest else stop
        yield _WORD.findall(text, start, stop)
        start = stop


def gram_hashes(text: str, chinese: bool) -> Iterator[np.ndarray]:
    """Hashes (uint64) of all n-grams in blocks; a text of fewer tokens than one n-gram gives one hash of them all."""
    size = CHARACTERS_A_GRAM if chinese else WORDS_A_GRAM
    for tokens in _tokens(text, chinese):
        if len(tokens):
            yield hash_runs(tokens, min(size, len(tokens)))


def hash_runs(tokens: np.ndarray, size: int) -> np.ndarray:
    """uint64 [n - size + 1]: a hash of every run of `size` tokens (uint64 [n])."""
    count = len(tokens) - size + 1
    grams = np.full(count, size, np.uint64)
    for place in range(size):
        grams *= _MULTIPLIER
        grams += tokens[place : place + count]
        grams ^= grams >> np.uint64(29)
    grams *= np.uint64(0xBF58476D1CE4E5B9)
    grams ^= grams >> np.uint64(32)
    return grams


def hash_characters(text: str) -> np.ndarray:
    """uint64 [characters]: the code points."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def hash_words(words: list[str]) -> np.ndarray:
    """uint64 [words]: xxh3_64 of each."""
    return np.fromiter(map(_word_hashes.__getitem__, words), np.uint64, len(words))


def signatures(texts: Iterable[tuple[str, bool]]) -> Iterator[tuple[np.ndarray, int]]:
    """(signature uint32 [PERMUTATIONS], number of n-grams) of each (text, is Chinese), in order.

    A text without any letter or digit has no n-grams: its signature is all ones.
    """
    batch = _Batch()
    for text, chinese in texts:
        batch.open()
        for grams in gram_hashes(text, chinese):
            batch.add(grams)
        if batch.held >= BLOCK:
            yield from batch.close()
    yield from batch.close()


class _Batch:
    """Texts whose n-grams go to rensa together; of a long text only the minima so far are kept."""

    def __init__(self) -> None:
        self.held = 0  # n-grams since the last close
        self._counts: list[int] = []
        self._blocks: list[np.ndarray] = []
        self._owners: list[int] = []
        self._pending = 0
        self._minima: dict[int, np.ndarray] = {}

    def open(self) -> None:
        self._counts.append(0)

    def add(self, grams: np.ndarray) -> None:
        self._blocks.append(grams)
        self._owners.append(len(self._counts) - 1)
        self._counts[-1] += len(grams)
        self.held += len(grams)
        self._pending += len(grams)
        if self._pending >= 4 * BLOCK:
            self._fold()

    def _fold(self) -> None:
        first = self._owners[0] if self._owners else 0
        values = _digest(self._blocks, [owner - first for owner in self._owners], len(self._counts) - first)
        for place, row in enumerate(values):
            before = self._minima.get(first + place)
            self._minima[first + place] = row if before is None else np.minimum(before, row)
        self._blocks, self._owners, self._pending = [], [], 0

    def close(self) -> Iterator[tuple[np.ndarray, int]]:
        self._fold()
        empty = np.full(PERMUTATIONS, 0xFFFFFFFF, np.uint32)
        yield from [(self._minima.get(place, empty), count) for place, count in enumerate(self._counts)]
        self._counts, self._minima, self.held = [], {}, 0


def _digest(blocks: list[np.ndarray], owners: list[int], rows: int) -> np.ndarray:
    """uint32 [rows, PERMUTATIONS]: rensa's signature of each block, united by minima for blocks of one owner."""
    result = np.full((rows, PERMUTATIONS), 0xFFFFFFFF, np.uint32)
    if blocks:
        offsets = np.concatenate([[0], np.cumsum([len(block) for block in blocks])]).astype(np.uint64)
        matrix = _rensa().digest_matrix_from_flat_token_hashes(np.concatenate(blocks), offsets, PERMUTATIONS, SEED)
        values = np.array(matrix.to_rows(), np.uint32)
        np.minimum.at(result, np.array(owners), values)
    return result


def _rensa() -> Any:
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise EnvironmentError_(
            "finding near-duplicates needs the package 'rensa', which is not installed",
            remedy="pip install rensa   (or switch it off: deduplicate: {near: false} in --corpus_config)",
        ) from error
    return RMinHash


def choose_bands(threshold: float, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """(bands, rows): the most rows with which a pair just at the threshold still meets in a band 19 times of 20."""
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= 0.95:
            return bands, rows
    return permutations, 1


def band_keys(matrix: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """uint64 [documents, bands]: a hash of the values of each band of signatures [documents, PERMUTATIONS]."""
    keys = np.zeros((len(matrix), bands), np.uint64)
    for row in range(rows):
        keys *= _MULTIPLIER
        keys ^= keys >> np.uint64(31)
        keys += matrix[:, row : bands * rows : rows].astype(np.uint64)
    keys *= np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(33)
    return keys
