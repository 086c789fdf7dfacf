"""A token store in memory whose tokens are all different: token t of the corpus has id t + 1."""

from __future__ import annotations

import numpy as np

from medscroll.packing.cuts import PARAGRAPH, SECTION, SENTENCE, Cuts


class MemoryStore:
    """Stands in for a TokenStore; every token is unique, so a test can tell where each one went."""

    def __init__(self, lengths: np.ndarray | list[int], *, bos: bool = False, cuts: Cuts | None = None) -> None:
        self.lengths = np.asarray(lengths, np.int64)
        self.begins = np.cumsum(self.lengths) - self.lengths
        self.adds_bos, self.cuts = bos, cuts

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        begin = int(self.begins[index])
        return np.arange(begin + 1, begin + 1 + int(self.lengths[index]), dtype=np.int32)


def random_cuts(lengths: np.ndarray, rng: np.random.Generator, share: float = 0.05) -> Cuts:
    """Cuts at random places with random levels."""
    positions, levels, offsets = [], [], [0]
    for length in lengths.tolist():
        number = int(share * length)
        at = np.sort(rng.choice(np.arange(1, length), min(number, max(0, length - 1)), replace=False))
        positions.append(at.astype(np.int32))
        levels.append(rng.choice([SECTION, PARAGRAPH, SENTENCE], len(at), p=[0.05, 0.25, 0.7]).astype(np.uint8))
        offsets.append(offsets[-1] + len(at))
    empty: list[np.ndarray] = [np.empty(0, np.int32)]
    return Cuts(
        np.asarray(offsets, np.int64),
        np.concatenate(empty + positions).astype(np.int32),
        np.concatenate([np.empty(0, np.uint8), *levels]).astype(np.uint8),
    )


def lognormal(documents: int, rng: np.random.Generator, median: float = 506.0, sigma: float = 1.28) -> np.ndarray:
    """Document lengths as of real corpora, at least 2 tokens."""
    return np.maximum(2, rng.lognormal(np.log(median), sigma, documents)).astype(np.int64)
