"""The order of data: which block each rank sees in which micro step of which epoch.

`ScheduledBlocks` is a map-style dataset that owns the order, to be read with a sequential sampler. Its epoch is a
seeded permutation of the blocks, in which neighbouring global batches exchange blocks so that each holds groups of
like attention cost (`order.even_batches`); each run of G consecutive blocks is a global batch, the last completed
with fillers, so its content depends on plan, G, seed and epoch, not on the number of ranks, the model or the machine.
Inside a global batch the blocks are dealt: ranks wait for each other in every micro step, so blocks of like cost
share a micro step, and among the ranks of a micro step the next heaviest block goes to the lightest rank with a free
place (ties: to the rank that had least in the micro steps before).
The heaviest block (most tokens, of those the largest sum of squared pieces) changes places with the first block of
epoch 0, and its global batch, the first of the run, is dealt with the heaviest rows in the last micro step: whatever
memory the run needs it needs there, when gradients of the batch are already held, and not hours later.
Position i of the epoch is global batch i // G, micro step, rank and slot as accelerate's `BatchSamplerShard` reads a
sequential sampler: batches of `per_device_batch` go to the ranks in turn.

Why the dataset and not the sampler: accelerate's skipping sampler hides a sampler from `set_epoch` after a resume,
and the next epoch silently replays the order of the first; `dataset.set_epoch` is reached always.
Cost: the permutation (8 bytes a block), and dealing one global batch at a time, microseconds a block.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from medscroll.packing.cursor import Cursor
from medscroll.packing.dataset import IGNORED, PackedDataset
from medscroll.packing.order import ORDER_VERSION, even_batches, seeded_permutation

if TYPE_CHECKING:
    import torch

FILLER = -1


def deal(costs: np.ndarray, *, ranks: int, per_device_batch: int, accumulation: int) -> np.ndarray:
    """Deals the rows of one global batch evenly.

    Args:
        costs: [G] with G = ranks * per_device_batch * accumulation.

    Returns:
        int64 [accumulation, ranks, per_device_batch]: which of the G rows is where.
    """
    order = np.argsort(-costs, kind="stable").reshape(accumulation, ranks * per_device_batch)
    dealt = np.empty((accumulation, ranks, per_device_batch), np.int64)
    before = [0.0] * ranks
    for micro in range(accumulation):
        lightest = [(0.0, before[rank], rank, 0) for rank in range(ranks)]  # load, load before, rank, rows
        heapq.heapify(lightest)
        for row in order[micro].tolist():
            load, earlier, rank, slot = heapq.heappop(lightest)
            dealt[micro, rank, slot] = row
            load += float(costs[row])
            before[rank] += float(costs[row])
            if slot + 1 < per_device_batch:
                heapq.heappush(lightest, (load, earlier, rank, slot + 1))
    return dealt


class ScheduledBlocks:
    """The rows of a run in their order, padded with fillers to whole global batches.

    Args:
        dataset: the blocks.
        ranks: data-parallel ranks.
        per_device_batch: rows of a micro batch.
        accumulation: micro steps of a global batch.
        seed: of the order.
        shuffle: a permutation per epoch; otherwise the plan's own order in every epoch (evaluation).
        linear_cost: cost of one token outside attention, in units of one squared token of attention; decides how
            rows are balanced and nothing else.
        max_blocks: use only this many blocks, a seeded choice that is the same in all epochs and at all numbers of
            ranks; None: all.
        filler_token: id in a filler row, e.g. the EOS.

    Attributes:
        num_fillers: fillers at the end of every epoch.
        global_batch: G.
        heaviest: the block that needs most memory; -1 where there is none.
    """

    def __init__(
        self,
        dataset: PackedDataset,
        *,
        ranks: int,
        per_device_batch: int,
        accumulation: int,
        seed: int = 0,
        shuffle: bool = True,
        linear_cost: float,
        max_blocks: int | None = None,
        filler_token: int = 0,
    ) -> None:
        self.dataset, self.seed, self.shuffle, self.filler_token = dataset, seed, shuffle, filler_token
        self.ranks, self.per_device_batch, self.accumulation = ranks, per_device_batch, accumulation
        self.global_batch = ranks * per_device_batch * accumulation
        if self.global_batch < 1:
            raise ValueError("ranks, per_device_batch and accumulation are at least 1")
        plan = dataset.plan
        self._blocks = np.arange(plan.num_blocks)
        if max_blocks is not None and max_blocks < plan.num_blocks:
            self._blocks = np.sort(seeded_permutation(plan.num_blocks, "choice", seed)[:max_blocks])
        squares = plan.block_squares if dataset.document_mask else plan.block_lengths**2
        self._costs = squares + linear_cost * plan.block_lengths  # [blocks]
        self.heaviest = FILLER
        if len(self._blocks):
            self.heaviest = int(
                self._blocks[np.lexsort((-squares[self._blocks], -plan.block_lengths[self._blocks]))[0]]
            )
        self._order_of: tuple[int, np.ndarray] | None = None
        self._dealt: tuple[int, int, np.ndarray] | None = None
        self.epoch = 0

    @property
    def num_blocks(self) -> int:
        """Blocks of an epoch, fillers not counted."""
        return len(self._blocks)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""
        return -(-self.num_blocks // self.global_batch)

    @property
    def num_fillers(self) -> int:
        """Fillers of an epoch."""
        return len(self) - self.num_blocks

    def __len__(self) -> int:
        return self.steps_per_epoch * self.global_batch

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order items are read in; accelerate's data loaders call this."""
        self.epoch = int(epoch)

    def cursor(self, step: int) -> Cursor:
        """Where a run of this schedule stands after `step` optimizer steps."""
        return Cursor.at_step(
            step,
            num_blocks=self.num_blocks,
            global_batch=self.global_batch,
            order_version=ORDER_VERSION,
            data_digest=str(getattr(self.dataset.store, "digest", "")),
            plan_digest=self.dataset.plan.digest,
            document_mask=bool(self.dataset.document_mask),
            seed=int(self.seed),
        )

    def order(self, epoch: int) -> np.ndarray:
        """The blocks of an epoch in order, int64 [num_blocks]; consecutive runs of G are its global batches."""
        if not self.shuffle:
            return self._blocks
        if self._order_of is None or self._order_of[0] != epoch:
            drawn = self._blocks[seeded_permutation(len(self._blocks), "blocks", self.seed, epoch)]
            squares = self.dataset.plan.block_squares[drawn]
            order = even_batches(drawn, squares, self.global_batch, "lot", self.seed, epoch)
            if epoch == 0 and len(order):
                place = int(np.flatnonzero(order == self.heaviest)[0])
                order[[0, place]] = order[[place, 0]]
            self._order_of = (epoch, order)
        return self._order_of[1]

    def blocks_of_step(self, epoch: int, step: int) -> np.ndarray:
        """The blocks of a global batch, ascending, int64 [at most G]; the same at every number of ranks."""
        return np.sort(self.order(epoch)[step * self.global_batch : (step + 1) * self.global_batch])

    def dealt(self, epoch: int, step: int) -> np.ndarray:
        """The global batch as it is dealt: block or -1 for a filler, int64 [accumulation, ranks, per_device_batch]."""
        if self._dealt is None or self._dealt[:2] != (epoch, step):
            content = self.blocks_of_step(epoch, step)
            rows = np.full(self.global_batch, FILLER, np.int64)
            rows[: len(content)] = content
            costs = np.zeros(self.global_batch)
            costs[: len(content)] = self._costs[content]
            worst_case = self.shuffle and epoch == step == 0 and len(content) > 0
            if worst_case:  # the heaviest block goes with the costliest rows, whatever its own cost
                costs[: len(content)][content == self.heaviest] = costs.max() + 1
            places = deal(
                costs,
                ranks=self.ranks,
                per_device_batch=self.per_device_batch,
                accumulation=self.accumulation,
            )
            self._dealt = (epoch, step, rows[places[::-1]] if worst_case else rows[places])
        return self._dealt[2]

    def block_at(self, position: int) -> int:
        """The block at a position of the current epoch, -1 for a filler; IndexError past the end."""
        step, place = divmod(range(len(self))[position], self.global_batch)
        return int(self.dealt(self.epoch, step).reshape(-1)[place])

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        """A row: as of `PackedDataset`, and "block_index" int64 [] (-1: a filler, one token without a target)."""
        import torch

        block = self.block_at(position)
        if block == FILLER:
            row = {
                "input_ids": torch.tensor([self.filler_token]),
                "labels": torch.tensor([IGNORED]),
                "position_ids": torch.tensor([0]),
            }
        else:
            row = self.dataset[block]
        return row | {"block_index": torch.tensor(block)}
