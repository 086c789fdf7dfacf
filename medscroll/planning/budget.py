"""From days and money to tokens: what a plan's speed affords of the sources of a prepared folder.

Sources are the first folder (or the file) in the documents' ids, as `medscroll prepare` names them; their tokens are
counted from the token store. Training reads all sources in proportion, so a budget below one pass is the same share of
each. Cost: one pass over the ids, about a second a million documents.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medscroll.errors import ConfigError
from medscroll.packing.sources import parse_sources, passes
from medscroll.packing.store import TokenStore
from medscroll.planning.candidate import Candidate

# Up to four passes over the same text are nearly as good as new text (Muennighoff et al. 2023, arXiv 2305.16264).
PASSES_WITHOUT_LOSS = 4


@dataclass(frozen=True)
class Source:
    """Tokens and documents of one source of the training data."""

    name: str
    documents: int
    tokens: int


@dataclass(frozen=True)
class Affordable:
    """What a budget affords.

    Attributes:
        tokens: in all.
        bound: "days" or "budget": which of them ends first.
        steps: optimizer steps.
        days, cost: that it takes; cost is None without a price.
        sources: of the data, most tokens first; empty without data.
    """

    tokens: int
    bound: str
    steps: int
    days: float
    cost: float | None
    sources: tuple[Source, ...] = ()

    @property
    def passes(self) -> float | None:
        """Passes over the data; None without data."""
        total = sum(source.tokens for source in self.sources)
        return self.tokens / total if total else None

    def of(self, source: Source) -> int:
        """Tokens of one source that are afforded, repetitions counted."""
        return round(source.tokens * (self.passes or 0.0))

    def advice(self) -> str:
        """What to do with it, in a sentence with the flag."""
        passes = self.passes
        if passes is None:
            return f"--max_steps {self.steps} ends the run there"
        if passes < 1:
            return (
                f"{passes:.1%} of one pass: --max_steps {self.steps} ends the run there, all sources in proportion; "
                "prepare a smaller choice of sources where that is not what you want"
            )
        epochs = math.floor(passes * 100) / 100
        if passes <= PASSES_WITHOUT_LOSS:
            return f"{passes:.2f} passes: --num_train_epochs {epochs:g}"
        share = PASSES_WITHOUT_LOSS / passes
        cost = f" and {self.cost * share:,.2g} of the money" if self.cost is not None else ""
        return (
            f"{passes:,.2f} passes, but beyond {PASSES_WITHOUT_LOSS} text wears out (arXiv 2305.16264): "
            f"--num_train_epochs {PASSES_WITHOUT_LOSS} takes {self.days * share:,.2g} days{cost}; "
            "fewer GPUs, a larger model, or more text would use the rest better"
        )


def read_sources(data_dir: str | Path | Mapping[str, Any]) -> tuple[Source, ...]:
    """The sources of one epoch of `--data_dir`, most tokens first; of several folders with the folder's name before.

    Raises:
        ConfigError: there is no prepared training data.
        DataError: the token store is damaged.
    """
    read = read_stores(data_dir)
    documents: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for name, store, times in read:
        before = f"{name}/" if len(read) > 1 else ""
        for document, length in zip(store.ids, store.lengths.tolist(), strict=True):
            source = before + document.partition("/")[0].partition("#")[0]
            documents[source] += 1
            tokens[source] += length * times
    return tuple(Source(name, documents[name], round(count)) for name, count in tokens.most_common())


def read_lengths(data_dir: str | Path | Mapping[str, Any]) -> np.ndarray:
    """Tokens of the training documents of one epoch of `--data_dir`, int64 [documents]; repeated as they are read.

    Raises:
        UserError: there are none.
    """
    parts = [np.resize(store.lengths, round(len(store) * times)) for _, store, times in read_stores(data_dir)]
    return np.concatenate(parts)


def read_stores(data_dir: str | Path | Mapping[str, Any]) -> list[tuple[str, TokenStore, float]]:
    """Name, training split and passes an epoch of each folder of `--data_dir`.

    Raises:
        ConfigError: there is no prepared training data.
        DataError: a token store is damaged.
    """
    folders = parse_sources(data_dir)
    for folder in folders:
        if not (folder.folder / "tokens" / "train.idx").exists():
            raise ConfigError(
                "there is no prepared training data",
                where=f"--data_dir {folder.folder}",
                remedy="make it: medscroll prepare TEXTS --output_dir DATA --tokenizer_name_or_path MODEL",
            )
    stores = [TokenStore.open(folder.folder / "tokens" / "train") for folder in folders]
    times = passes(folders, [max(1, store.num_tokens) for store in stores])
    return [(folder.name, store, count) for folder, store, count in zip(folders, stores, times, strict=True)]


def affordable(
    candidate: Candidate,
    *,
    days: float | None,
    budget: float | None,
    price: float | None,
    sources: tuple[Source, ...] = (),
) -> Affordable:
    """The tokens that `days` and `budget` afford at the candidate's speed.

    Raises:
        ConfigError: neither is given, a budget without a price, or a candidate without speed.
    """
    if days is None and budget is None:
        raise ConfigError("neither --days nor --budget is given")
    rate = candidate.time.tokens_per_second
    if rate <= 0:
        raise ConfigError("a setup that does not fit trains no tokens")
    limits: dict[str, float] = {}
    if days is not None:
        limits["days"] = days * 86400
    if budget is not None:
        if not price:
            raise ConfigError(
                "--budget needs the price of a GPU and hour", "--budget", "--price 2.5, or prices in --cluster_file"
            )
        limits["budget"] = budget / (price * candidate.setup.ranks) * 3600
    bound = min(limits, key=limits.__getitem__)
    seconds = limits[bound]
    steps = int(seconds * rate / candidate.setup.step_tokens)
    hours = seconds / 3600
    return Affordable(
        tokens=steps * candidate.setup.step_tokens,
        bound=bound,
        steps=steps,
        days=hours / 24,
        cost=hours * price * candidate.setup.ranks if price else None,
        sources=sources,
    )


def parse_tokens(text: str) -> int:
    """`10B`, `500M`, `2.5e9` as a number of tokens.

    Raises:
        ConfigError: it is none.
    """
    word = text.strip().replace("_", "").replace(",", "")
    scale = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}.get(word[-1:].lower(), 1.0)
    try:
        value = float(word[:-1] if scale != 1.0 else word) * scale
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e18:
        raise ConfigError(f"--tokens {text!r} is no number of tokens", "--tokens", "for example 10B, 500M or 2.5e9")
    return round(value)
