"""How documents are packed: the settings, checked, and the digest that names the plan they lead to."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import xxhash

from medscroll.errors import ConfigError, UserError
from medscroll.packing.divide import CutsLike

FORMAT_VERSION = 2  # of plan files and of the packing rules; raise it when equal input may give another plan
OVERLONG = ("split", "truncate", "drop", "error")
DEFAULT_CONTEXT = 64  # tokens; clipped to a quarter of the block, so that every block size can be packed with it
_BYTES_AT_ONCE = 1 << 26


@dataclasses.dataclass(frozen=True)
class PackPolicy:
    """Settings of `pack`.

    Attributes:
        block_size: most tokens in a row.
        group_by_text: documents that fit stay whole (best fit); otherwise concatenate-and-chunk.
        overlong: what happens to a document longer than a block: split, truncate, drop or error.
        context_tokens: tokens repeated (label -100) in front of a continuation; at most a quarter of the block. The
            default fits every block; another value that leaves no room in the block is refused.
        seed: of the order in which documents are taken.
        bos: the tokenizer puts a BOS before each document, so a continuation gets one too.
        long_text_threshold: what reports call long, in tokens; changes nothing in the plan.

    Raises:
        ConfigError: values that cannot be packed with, all of them at once.
    """

    block_size: int
    group_by_text: bool = True
    overlong: str = "split"
    context_tokens: int = DEFAULT_CONTEXT
    seed: int = 0
    bos: bool = False
    long_text_threshold: int = 1024

    def __post_init__(self) -> None:
        problems: list[UserError] = []
        smallest = 2 if self.bos else 1
        if self.block_size < smallest:
            note = " (a BOS and one token)" if self.bos else ""
            problems.append(
                ConfigError(f"block_size is {self.block_size}, the smallest is {smallest}{note}", where="--block_size")
            )
        if self.overlong not in OVERLONG:
            problems.append(
                ConfigError(
                    f"overlong is {self.overlong!r}", where="--overlong", remedy=f"use one of: {', '.join(OVERLONG)}"
                )
            )
        if self.context_tokens < 0:
            problems.append(ConfigError(f"context_tokens is {self.context_tokens}, below 0", where="--context_tokens"))
        elif self.context_tokens >= self.block_size and self.context_tokens != DEFAULT_CONTEXT:
            problems.append(
                ConfigError(
                    f"context_tokens is {self.context_tokens}, which leaves no room in a block of {self.block_size}",
                    where="--context_tokens",
                    remedy=f"at most a quarter of the block is used: --context_tokens {max(0, self.block_size // 4)}",
                )
            )
        if problems:
            raise ConfigError.collect(problems)

    @property
    def context(self) -> int:
        """Context tokens of a continuation: `context_tokens`, at most a quarter of the block."""
        return min(self.context_tokens, self.block_size // 4)

    def digest(self, lengths: np.ndarray, cuts: CutsLike | None) -> str:
        """xxh3_128 (32 hexadecimal digits) of everything that the plan is a function of.

        Cost: one read of lengths and cuts, several GB a second.
        """
        settings = dataclasses.asdict(self)
        del settings["long_text_threshold"]
        state = xxhash.xxh3_128(json.dumps([FORMAT_VERSION, settings, cuts is not None], sort_keys=True).encode())
        arrays = [(lengths, "<i8")]
        if cuts is not None:
            arrays += [(cuts.offsets, "<i8"), (cuts.positions, "<i4"), (cuts.levels, "u1")]
        for array, dtype in arrays:
            step = _BYTES_AT_ONCE // np.dtype(dtype).itemsize
            state.update(len(array).to_bytes(8, "little"))
            for at in range(0, len(array), step):
                state.update(np.ascontiguousarray(array[at : at + step], dtype=dtype).tobytes())
        return state.hexdigest()
