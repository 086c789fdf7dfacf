"""Every token is a target exactly once, counted from the rows themselves and not from the packer's bookkeeping.

The stand-in store gives every token of the corpus another id, so a label says which token it is.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medscroll.errors import DataError
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.plan import PackPlan, pack
from tests.packing.memory_store import MemoryStore, lognormal, random_cuts


def targets_of(blocks: PackedDataset) -> np.ndarray:
    """The ids of all targets of all rows, after checking what holds in every row."""
    found = [np.empty(0, np.int64)]
    for index in range(len(blocks)):
        ids, labels, positions = blocks.arrays(index)
        assert 1 <= len(ids) <= blocks.plan.block_size
        assert len(ids) == blocks.plan.block_lengths[index]
        assert (labels[positions == 0] == -100).all()
        at = np.flatnonzero(labels != -100)
        assert (labels[at] == ids[at]).all()
        assert (ids[at - 1] == ids[at] - 1).all()  # predicted from the token before it in its document
        if blocks.document_mask:
            assert (positions[at] == positions[at - 1] + 1).all()
        assert len(at) == blocks.plan.block_targets[index]
        found.append(labels[at])
    return np.concatenate(found)


def check_blocks(store: MemoryStore, plan: PackPlan) -> None:
    """No two pieces of one document in a block; documents that fit are never cut when grouped by text."""
    block_of = np.repeat(np.arange(plan.num_blocks), np.diff(plan.block_offsets))
    pairs = np.stack([block_of, plan.document])  # [2, pieces]
    assert np.unique(pairs, axis=1).shape == pairs.shape
    if plan.policy.group_by_text:
        short = store.lengths[plan.document] <= plan.block_size
        assert ((plan.start == 0) & (plan.stop == store.lengths[plan.document]))[short].all()


def all_but_first(store: MemoryStore, kept: np.ndarray) -> np.ndarray:
    """Ids of the tokens 1..kept-1 of each document."""
    return np.concatenate(
        [np.empty(0, np.int64)]
        + [np.arange(b + 2, b + 1 + k) for b, k in zip(store.begins.tolist(), kept.tolist(), strict=True)]
    )


CASES = list(itertools.product([1, 2, 3, 5, 9, 10, 11, 17, 20, 31, 40, 128, 1000], [False, True], [0, 1, 3, 64]))


@pytest.mark.parametrize("group_by_text", [True, False])
def test_every_token_but_the_first_is_a_target_once(group_by_text: bool) -> None:
    rng = np.random.default_rng(7)
    divided = 0
    for block, bos, context in CASES:
        if (bos and block == 1) or block <= context != 64:  # the latter are refused
            continue
        lengths = rng.integers(0, int(rng.choice([2, 3, 12])) * block + 2, size=40)
        cuts = random_cuts(lengths, rng) if rng.random() < 0.7 else None
        store = MemoryStore(lengths, bos=bos, cuts=cuts)
        plan = pack(lengths, block_size=block, group_by_text=group_by_text, context_tokens=context, bos=bos, cuts=cuts)
        ledger = plan.ledger()
        check_blocks(store, plan)
        found = targets_of(PackedDataset(store, plan))
        wanted = all_but_first(store, lengths)
        if min(context, block // 4) >= 1:
            assert ledger["continuations_without_context"] == 0
            assert np.array_equal(np.sort(found), wanted), (block, bos, context)
        else:
            assert len(np.unique(found)) == len(found)
            assert np.isin(found, wanted).all()
            assert len(wanted) - len(found) == ledger["continuations_without_context"] == ledger["continuations"]
        divided += ledger["divided"]
        again = targets_of(PackedDataset(store, plan, document_mask=False))
        assert np.array_equal(again, found)
    assert divided > 500


@pytest.mark.parametrize("block", [512, 4096, 32768])
def test_lognormal_corpus(block: int) -> None:
    rng = np.random.default_rng(block)
    lengths = lognormal(3000, rng)
    store = MemoryStore(lengths, cuts=random_cuts(lengths, rng, 0.02))
    plan = pack(lengths, block_size=block, cuts=store.cuts)
    check_blocks(store, plan)
    assert np.array_equal(np.sort(targets_of(PackedDataset(store, plan))), all_but_first(store, lengths))
    # At 512 a piece that ends early at a cut leaves less room than a context of 64 and a token: nothing can fill it.
    fewest = -(-int(plan.piece_lengths.sum()) // block)
    assert plan.num_blocks <= fewest * (1.03 if block == 512 else 1.01) + 1


def test_truncate_drop_and_error_are_counted() -> None:
    rng = np.random.default_rng(3)
    lengths = np.append(lognormal(400, rng), [0, 1, 512, 513])
    store = MemoryStore(lengths)
    over = np.flatnonzero(lengths > 512)
    for overlong, kept in [("truncate", np.minimum(lengths, 512)), ("drop", np.where(lengths > 512, 0, lengths))]:
        plan = pack(lengths, block_size=512, overlong=overlong)
        ledger = plan.ledger()
        check_blocks(store, plan)
        assert np.array_equal(np.sort(targets_of(PackedDataset(store, plan))), all_but_first(store, kept))
        lost = ledger["truncated" if overlong == "truncate" else "dropped"]
        assert lost["document_indices"] == over.tolist()
        assert lost["tokens"] == int((lengths - kept).sum()) > 0
        assert ledger["empty"] == 1
    with pytest.raises(DataError, match=f"{len(over)} of {len(lengths)} documents") as caught:
        pack(lengths, block_size=512, overlong="error")
    assert str(int(lengths.max())) in str(caught.value)
    assert pack(lengths[lengths <= 512], block_size=512, overlong="error").num_blocks > 0
    assert "no effect" in pack(lengths, block_size=512, overlong="error", group_by_text=False).ledger()["overlong"]


def test_last_piece_never_joins_its_own_document() -> None:
    # Last pieces that fit exactly beside an earlier piece of their document, ended early at a cut.
    rng = np.random.default_rng(5)
    for block in range(1, 41):
        lengths = np.concatenate([rng.integers(block, 3 * block + 1, size=30), np.full(5, block + 1)])
        cuts = random_cuts(lengths, rng, 0.5)
        for context in (0, 1) if block > 1 else (0,):
            plan = pack(lengths, block_size=block, context_tokens=context, cuts=cuts)
            check_blocks(MemoryStore(lengths), plan)
