"""Rows and micro batches: labels, positions, borders."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from medscroll.errors import DataError
from medscroll.packing.collate import collate_blocks
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.plan import pack
from tests.packing.memory_store import MemoryStore


def test_a_row_by_hand() -> None:
    store = MemoryStore([10, 4], bos=True)  # ids 1..10 and 11..14
    plan = pack(store.lengths, block_size=8, context_tokens=64, bos=True)  # at most 2 tokens of context
    rows = [PackedDataset(store, plan).arrays(i) for i in range(plan.num_blocks)]
    rows.sort(key=lambda row: row[0][0] + 100 * (row[0][-1] != 8))
    assert rows[0][0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert rows[0][1].tolist() == [-100, 2, 3, 4, 5, 6, 7, 8]
    pieces = [(ids.tolist(), labels.tolist(), at.tolist()) for ids, labels, at in rows[1:]]
    continuation = ([1, 7, 8, 9, 10], [-100, -100, -100, 9, 10], [0, 1, 2, 3, 4])  # BOS, context 7 8, the rest
    short = ([11, 12, 13, 14], [-100, 12, 13, 14], [0, 1, 2, 3])
    assert sorted(pieces) == sorted([continuation, short])  # 5 + 4 tokens do not fit in 8


def test_positions_run_on_without_a_document_mask() -> None:
    store = MemoryStore([3, 4])
    plan = pack(store.lengths, block_size=8)
    for mask, positions in [(True, [0, 1, 2, 0, 1, 2, 3]), (False, [0, 1, 2, 3, 4, 5, 6])]:
        item = PackedDataset(store, plan, document_mask=mask)[0]
        assert item["input_ids"].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert item["labels"].tolist() == [-100, 2, 3, -100, 5, 6, 7]
        assert item["position_ids"].tolist() == positions
        assert {tensor.dtype for tensor in item.values()} == {torch.int64}


def test_continuation_without_context_masks_its_first_token() -> None:
    store = MemoryStore([6])
    blocks = PackedDataset(store, pack(store.lengths, block_size=4, context_tokens=0))
    assert [row.tolist() for row in blocks.arrays(1)] == [[5, 6], [-100, 6], [0, 1]]


def test_collate() -> None:
    store = MemoryStore([3, 4, 8])
    blocks = PackedDataset(store, pack(store.lengths, block_size=8))
    batch = collate_blocks([blocks[0], blocks[1]])
    lengths = sorted(np.diff(batch["cu_seq_lens_q"].numpy()).tolist())
    assert lengths == [3, 4, 8]
    assert batch["cu_seq_lens_q"].dtype == torch.int32
    assert torch.equal(batch["cu_seq_lens_q"], batch["cu_seq_lens_k"])
    assert batch["max_length_q"] == batch["max_length_k"] == 8
    assert isinstance(batch["max_length_q"], int)
    assert batch["input_ids"].shape == batch["labels"].shape == batch["position_ids"].shape == (1, 15)
    assert "block_index" not in batch
    unmasked = PackedDataset(store, blocks.plan, document_mask=False)
    assert collate_blocks([unmasked[0], unmasked[1]])["cu_seq_lens_q"].tolist() in ([0, 8, 15], [0, 7, 15])


def test_foreign_plan_is_refused_and_the_dataset_pickles() -> None:
    store = MemoryStore([3, 4, 8])
    plan = pack(store.lengths, block_size=8)
    with pytest.raises(DataError, match="other documents"):
        PackedDataset(MemoryStore([3, 4, 9]), plan)
    copy = pickle.loads(pickle.dumps(PackedDataset(store, plan)))
    assert torch.equal(copy[1]["input_ids"], PackedDataset(store, plan)[1]["input_ids"])
    with pytest.raises(IndexError):
        copy[len(copy)]
