"""The order of data: all blocks once an epoch, the same global batches at any number of ranks, exact after a resume.

The ranks run here in one process, each with the data loader that accelerate would prepare for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader, SequentialSampler

from medscroll.packing.collate import collate_blocks
from medscroll.packing.compare import balance
from medscroll.packing.cost import linear_cost, speed_ratio
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.order import BATCHES_TOGETHER, even_batches, seeded_permutation
from medscroll.packing.plan import pack
from medscroll.packing.schedule import ScheduledBlocks, deal
from tests.packing.memory_store import MemoryStore, lognormal

STORE = MemoryStore(lognormal(150, np.random.default_rng(0), median=60))
BLOCKS = PackedDataset(STORE, pack(STORE.lengths, block_size=128))
GLOBAL = 12
LAYOUTS = [(1, 2, 6), (1, 1, 12), (2, 2, 3), (2, 1, 6), (4, 3, 1), (4, 1, 3), (12, 1, 1)]  # ranks, rows, micro steps


def scheduled(ranks: int, rows: int, micro: int, **settings: Any) -> ScheduledBlocks:
    return ScheduledBlocks(BLOCKS, ranks=ranks, per_device_batch=rows, accumulation=micro, linear_cost=50.0, **settings)


def loaders(ranks: int, rows: int, micro: int, workers: int = 0) -> list[Any]:
    """What each rank's Trainer would iterate over."""
    out = []
    for rank in range(ranks):
        data = scheduled(ranks, rows, micro)
        loader: DataLoader[Any] = DataLoader(
            data,  # type: ignore[arg-type]
            batch_size=rows,
            sampler=SequentialSampler(data),
            collate_fn=collate_blocks,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        out.append(prepare_data_loader(loader, num_processes=ranks, process_index=rank, put_on_device=False))
    return out


def read_epoch(parts: list[Any], micro: int) -> list[list[int]]:
    """The blocks of each global batch, fillers as -1, ascending, in the order of steps."""
    seen = [[batch["block_index"].tolist() for batch in part] for part in parts]
    assert len({len(one) for one in seen}) == 1  # as many micro steps on every rank
    return [
        sorted(block for one in seen for row in one[at : at + micro] for block in row)
        for at in range(0, len(seen[0]), micro)
    ]


def test_the_number_of_blocks_does_not_divide() -> None:
    assert BLOCKS.plan.num_blocks % GLOBAL not in (0, GLOBAL - 1)
    assert scheduled(1, 1, GLOBAL).steps_per_epoch >= 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_global_batches_at_every_number_of_ranks(layout: tuple[int, int, int]) -> None:
    reference = scheduled(1, 1, GLOBAL)
    parts = loaders(*layout)
    epochs = [read_epoch(parts, layout[2]) for _ in range(3)]
    for epoch, steps in enumerate(epochs):
        data = scheduled(*layout)
        assert len(steps) == reference.steps_per_epoch
        for step, content in enumerate(steps):
            real = [block for block in content if block >= 0]
            assert real == reference.blocks_of_step(epoch, step).tolist() == data.blocks_of_step(epoch, step).tolist()
        everything = [block for content in steps for block in content]
        assert sorted(everything) == [-1] * data.num_fillers + list(range(BLOCKS.plan.num_blocks))
        assert all(-1 not in content for content in steps[:-1])
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("layout", [(1, 2, 6), (2, 2, 3), (4, 1, 3)])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_resumed_in_the_middle_of_an_epoch(layout: tuple[int, int, int], epoch: int) -> None:
    parts, micro = loaders(*layout), layout[2]
    whole = [read_epoch(parts, micro) for _ in range(4)]
    # As transformers' Trainer does: skip within the epoch, then the full loader for those after it.
    resumed = loaders(*layout)
    skipped = [skip_first_batches(part, 2 * micro) for part in resumed]
    for part in skipped:
        part.set_epoch(epoch)
    assert read_epoch(skipped, micro) == whole[epoch][2:]
    for later in range(epoch + 1, 4):
        for part in resumed:
            part.set_epoch(later)
        assert read_epoch(resumed, micro) == whole[later]


def test_set_epoch_acts_on_the_very_next_item() -> None:
    data = scheduled(2, 2, 3)
    before = [data.block_at(i) for i in range(GLOBAL)]
    data.set_epoch(1)
    assert sorted(data.block_at(i) for i in range(GLOBAL)) == data.blocks_of_step(1, 0).tolist() != sorted(before)
    data.set_epoch(0)
    assert [data.block_at(i) for i in range(GLOBAL)] == before


def test_worker_processes_read_the_same() -> None:
    with_workers, without = loaders(2, 2, 3, workers=2), loaders(2, 2, 3)
    for _ in range(2):
        assert read_epoch(with_workers, 3) == read_epoch(without, 3)


def test_evaluation_keeps_the_plans_order_and_choice() -> None:
    natural = scheduled(2, 2, 3, shuffle=False)
    for epoch in (0, 5):
        assert np.concatenate(
            [natural.blocks_of_step(epoch, step) for step in range(natural.steps_per_epoch)]
        ).tolist() == list(range(BLOCKS.plan.num_blocks))
    few, other = scheduled(2, 2, 3, max_blocks=7), scheduled(1, 1, 5, max_blocks=7)
    chosen = {few.block_at(i) for i in range(len(few))} - {-1}
    assert len(chosen) == 7
    assert chosen == {other.block_at(i) for i in range(len(other))} - {-1}
    assert len(few) == 12
    assert few.num_fillers == 5


def test_a_filler_is_the_shortest_legal_row() -> None:
    data = scheduled(4, 3, 1, filler_token=7)
    row = next(data[i] for i in range(len(data)) if data.block_at(i) == -1)
    assert {name: tensor.tolist() for name, tensor in row.items()} == {
        "input_ids": [7],
        "labels": [-100],
        "position_ids": [0],
        "block_index": -1,
    }
    batch = collate_blocks([row, data[0]])
    assert batch["block_index"].tolist() == [-1, data.block_at(0)]
    assert batch["cu_seq_lens_q"].tolist()[:2] == [0, 1]


def test_dealing_is_even() -> None:
    rng = np.random.default_rng(0)
    for ranks, rows, micro in [(8, 1, 16), (8, 4, 4), (64, 2, 2)]:
        costs = rng.lognormal(0, 1, ranks * rows * micro)
        dealt = deal(costs, ranks=ranks, per_device_batch=rows, accumulation=micro)
        assert sorted(dealt.reshape(-1).tolist()) == list(range(len(costs)))
        waits = {}
        for name, places in [("dealt", dealt), ("as drawn", np.arange(len(costs)).reshape(dealt.shape))]:
            loads = costs[places].sum(axis=2)  # [micro, ranks]
            waits[name] = loads.max(axis=1).sum() / loads.mean(axis=1).sum()
        assert waits["dealt"] < 1 + (waits["as drawn"] - 1) * 0.6


@pytest.mark.parametrize(("items", "batch"), [(1000, 12), (12, 12), (11, 12), (5, 1), (97, 3), (4096, 64)])
def test_even_batches_exchange_items_with_their_neighbours_only(items: int, batch: int) -> None:
    drawn = seeded_permutation(items, "x")
    keys = np.random.default_rng(0).lognormal(0, 1, items)
    found = even_batches(drawn, keys[drawn], batch, "lot", 0)
    whole = items // batch * batch
    assert np.array_equal(found[whole:], drawn[whole:])
    for first in range(0, whole, BATCHES_TOGETHER * batch):
        window = slice(first, min(first + BATCHES_TOGETHER * batch, whole))
        assert np.array_equal(np.sort(found[window]), np.sort(drawn[window]))
    if batch >= 12 and whole >= BATCHES_TOGETHER * batch:  # each batch spans the quarters of its window
        window = found[: BATCHES_TOGETHER * batch]
        quarter = np.argsort(np.argsort(keys[window])) // (len(window) // 4)
        for one in quarter.reshape(BATCHES_TOGETHER, batch):
            assert np.bincount(one, minlength=4).tolist() == [batch // 4] * 4


def test_ranks_wait_little_for_long_rows() -> None:
    """Lengths with a heavy tail, 64 ranks, 4 micro steps, 20 global batches: at least 95 % of the time is work."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(lognormal(30_000, rng, median=6000, sigma=0.9), 300_000)
    plan = pack(lengths, block_size=32_768)
    assert plan.num_blocks >= 20 * 256
    cost = linear_cost(6 * 5.8e9, 6 * 131_072)
    assert 0.7 < speed_ratio() < 1
    found = balance(plan, ranks=64, linear_cost=cost, micro_steps=4, steps=20)
    assert found is not None
    assert found["dealt"] >= 0.95 > found["undealt"] + 0.05


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", [0, 3])
def test_the_worst_case_comes_first(layout: tuple[int, int, int], seed: int) -> None:
    """The heaviest block is in the last micro step of the run's first global batch, at any number of ranks."""
    plan = BLOCKS.plan
    data = scheduled(*layout, seed=seed)
    most = plan.block_lengths.max()
    assert plan.block_lengths[data.heaviest] == most
    assert plan.block_squares[data.heaviest] == plan.block_squares[plan.block_lengths == most].max()
    first = data.dealt(0, 0)
    assert data.heaviest in first[-1]
    if layout[2] > 1:
        assert data.heaviest not in first[:-1]
        loads = data._costs[first].sum(axis=(1, 2))
        assert (np.diff(loads) >= 0).all(), "what stands in the last micro step is the heaviest of the batch"
    # One pair of blocks has changed places, in the first epoch alone.
    length = plan.num_blocks
    for epoch in (0, 1):
        drawn = seeded_permutation(length, "blocks", seed, epoch)
        as_drawn = even_batches(drawn, plan.block_squares[drawn], data.global_batch, "lot", seed, epoch)
        moved = np.flatnonzero(data.order(epoch) != as_drawn)
        assert sorted(data.order(epoch).tolist()) == list(range(length))
        if epoch == 0 and as_drawn[0] != data.heaviest:
            assert sorted(data.order(epoch)[moved].tolist()) == sorted({data.heaviest, int(as_drawn[0])})
        else:
            assert len(moved) == 0


def test_evaluation_is_dealt_as_before() -> None:
    natural = scheduled(2, 2, 3, shuffle=False)
    loads = natural._costs[natural.dealt(0, 0)].sum(axis=(1, 2))
    assert (np.diff(loads) <= 0).all()


def test_fewer_blocks_than_a_global_batch() -> None:
    store = MemoryStore([3, 4])
    data = ScheduledBlocks(
        PackedDataset(store, pack(store.lengths, block_size=8)),
        ranks=2,
        per_device_batch=1,
        accumulation=2,
        linear_cost=1.0,
    )
    assert len(data) == 4
    assert sorted(data.block_at(i) for i in range(4)) == [-1, -1, -1, 0]
    with pytest.raises(IndexError):
        data[4]
