"""Blocks as training rows: input ids, labels and positions, read from the memory-mapped token store.

A row is the pieces of a block one after the other, without padding. What is a target is decided here and nowhere
else: every token of a piece, except a document's first token, context tokens, the BOS before them, and the first
token of a continuation that has no context. Cost: one copy of the row's tokens; the store's pages are shared between
processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medscroll.errors import DataError
from medscroll.packing.plan import PackPlan

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label that cross entropy leaves out


class TokenSource(Protocol):
    """What a dataset needs of a token store."""

    lengths: np.ndarray

    def __getitem__(self, index: int) -> np.ndarray:
        """The tokens of one document, int [length]."""


class PackedDataset:
    """The blocks of a plan, a map-style dataset of rows.

    Args:
        store: a `TokenStore`.
        plan: the pack plan of this store.
        document_mask: positions restart with each piece (attention stays inside it); otherwise they run on over the
            row. The labels are the same in both.

    Raises:
        DataError: the plan is not one of this store.
    """

    def __init__(self, store: TokenSource, plan: PackPlan, document_mask: bool = True) -> None:
        if not np.array_equal(np.asarray(store.lengths), plan.document_lengths):
            raise DataError(
                f"the pack plan was made for other documents ({len(plan.document_lengths)}) "
                f"than the token store has ({len(store.lengths)})",
                remedy="pack this store again, or give the folder that the plan belongs to",
            )
        self.store, self.plan, self.document_mask = store, plan, document_mask

    def __len__(self) -> int:
        return self.plan.num_blocks

    def _tokens(self, document: int, start: int, stop: int) -> np.ndarray:
        """Tokens of a document; a store that can reads (and compares with its hashes) no more than these."""
        read = getattr(self.store, "tokens", None)
        return read(document, start, stop) if callable(read) else self.store[document][start:stop]

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """input_ids, labels, position_ids of a block, int64 [T] each, 1 <= T <= block_size."""
        plan = self.plan
        index = range(plan.num_blocks)[index]
        first, last = int(plan.block_offsets[index]), int(plan.block_offsets[index + 1])
        sizes = plan.piece_lengths[first:last].tolist()
        total = sum(sizes)
        input_ids, positions = np.empty(total, np.int64), np.empty(total, np.int64)
        targets = np.ones(total, bool)
        at = 0
        for piece, size in zip(range(first, last), sizes, strict=True):
            document, context = int(plan.document[piece]), int(plan.context[piece])
            start, stop = int(plan.start[piece]), int(plan.stop[piece])
            lead = size - (stop - start)
            if lead > context:  # a BOS before the context: the one that this document begins with
                input_ids[at] = self._tokens(document, 0, 1)[0]
            input_ids[at + lead - context : at + size] = self._tokens(document, start - context, stop)
            targets[at : at + lead + (context == 0)] = False
            positions[at : at + size] = np.arange(size)
            at += size
        if not self.document_mask:
            positions = np.arange(total)
        return input_ids, np.where(targets, input_ids, IGNORED), positions

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """{"input_ids", "labels", "position_ids"} of a block: int64 tensors [T]; IndexError outside the plan."""
        import torch

        input_ids, labels, positions = self.arrays(index)
        return {
            "input_ids": torch.from_numpy(input_ids),
            "labels": torch.from_numpy(labels),
            "position_ids": torch.from_numpy(positions),
        }

    def describe(self, index: int) -> list[dict[str, Any]]:
        """The pieces of a block in order: document, start, stop, context, level of the cut at start, row tokens."""
        plan = self.plan
        index = range(plan.num_blocks)[index]
        names = ("document", "start", "stop", "context", "level")
        pieces = range(int(plan.block_offsets[index]), int(plan.block_offsets[index + 1]))
        return [
            {name: int(getattr(plan, name)[p]) for name in names} | {"tokens": int(plan.piece_lengths[p])}
            for p in pieces
        ]
