"""The ledger of what was consumed: the identity holds at every moment, and what is wrong is said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xxhash

from medscroll.errors import CheckpointError
from medscroll.packing.cursor import Cursor
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.ledger import ConservationError, ConsumptionLedger
from medscroll.packing.order import ORDER_VERSION
from medscroll.packing.plan import PackPlan, pack
from medscroll.packing.schedule import ScheduledBlocks
from tests.packing.memory_store import MemoryStore, lognormal

LENGTHS = lognormal(120, np.random.default_rng(0), median=60)
STORE = MemoryStore(LENGTHS)
PLANS = {
    "split": pack(LENGTHS, block_size=128),
    "no context": pack(LENGTHS, block_size=128, context_tokens=0),
    "truncate": pack(LENGTHS, block_size=128, overlong="truncate"),
    "drop": pack(LENGTHS, block_size=128, overlong="drop"),
    "chunk": pack(LENGTHS, block_size=128, group_by_text=False),
}
IDENTITY = ("targets", "first_tokens", "continuations_without_context", "truncated", "dropped", "not_reached")


def micro_batches(plan: PackPlan, ranks: int, rank: int, epoch: int) -> list[tuple[list[int], int]]:
    """(block indices, targets in the labels) of each micro batch of one rank."""
    blocks = PackedDataset(STORE, plan)
    data = ScheduledBlocks(blocks, ranks=ranks, per_device_batch=2, accumulation=6 // ranks, linear_cost=1.0)
    out = []
    for step in range(data.steps_per_epoch):
        for micro in data.dealt(epoch, step):
            rows = micro[rank].tolist()
            labels = [blocks.arrays(row)[1] for row in rows if row >= 0]
            out.append((rows, sum(int((one != -100).sum()) for one in labels)))
    return out


def check_identity(ledger: ConsumptionLedger) -> None:
    for entry in ledger.report()["passes"]:
        assert sum(entry[name] for name in IDENTITY) == entry["tokens"] == int(LENGTHS.sum())
        assert entry["problems"] == []


@pytest.mark.parametrize("policy", PLANS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_identity_at_every_moment_and_after_a_resume(policy: str, ranks: int) -> None:
    plan = PLANS[policy]
    one = [ConsumptionLedger(plan) for _ in range(ranks)]
    state = None
    for epoch in range(2):
        steps = [micro_batches(plan, ranks, rank, epoch) for rank in range(ranks)]
        for at in range(len(steps[0])):
            for rank, ledger in enumerate(one):
                ledger.set_epoch(epoch)
                ledger.record(*steps[rank][at])
                check_identity(ledger)
            if at == 3:  # a checkpoint, and the run begins again from it
                state = json.loads(json.dumps(one[0].merge([ledger.state_dict() for ledger in one])))
                one = [ConsumptionLedger(plan) for _ in range(ranks)]
                for ledger in one:
                    ledger.load_state_dict(state)
                    assert ledger.epoch == epoch
    whole = ConsumptionLedger(plan)
    whole.load_state_dict(one[0].merge([ledger.state_dict() for ledger in one]))
    report = whole.check()
    assert len(report["passes"]) == 2
    for entry in report["passes"]:
        assert entry["not_reached"] == entry["blocks_not_reached"] == 0
        assert entry["blocks"] == plan.num_blocks
        assert entry["targets"] == entry["targets_by_plan"] == plan.ledger()["targets"]
        assert entry["documents_complete"] == entry["documents_touched"] == plan.ledger()["placed"]
        if policy in ("split", "chunk"):
            assert entry["targets"] == entry["tokens"] - len(LENGTHS)


def test_max_steps_leaves_the_rest_as_not_reached() -> None:
    plan = PLANS["split"]
    ledger = ConsumptionLedger(plan)
    ledger.record([0, 1, -1], int(plan.block_targets[:2].sum()))
    entry, never = ledger.check(epochs=2)["passes"]
    own = plan.block_sums(plan.stop - plan.start)
    assert entry["not_reached"] == int(own[2:].sum()) > 0
    assert entry["fillers"] == 1
    assert 0 < entry["documents_touched"] < len(LENGTHS)
    assert never["not_reached"] == int(LENGTHS.sum())
    assert never["blocks"] == 0


def test_wrong_labels_and_repeated_blocks_are_loud() -> None:
    plan = PLANS["split"]
    targets = int(plan.block_targets[0])
    ledger = ConsumptionLedger(plan)
    ledger.record([0], targets - 1)
    report = ledger.report()
    assert not report["conserved"]
    assert report["error"] == "ConservationError"
    assert report["passes"][0]["unaccounted"] == 1
    with pytest.raises(ConservationError, match="1 of 1 micro batches held other targets"):
        ledger.check()
    ledger = ConsumptionLedger(plan)
    ledger.record([0, 0], 2 * targets)
    ledger.record([0], targets)
    entry = ledger.report()["passes"][0]
    assert entry["repeated"] == {"blocks": 2, "targets": 2 * targets}
    assert entry["unaccounted"] == 0
    with pytest.raises(ConservationError, match="more than once"):
        ledger.check()
    # The same block on two ranks is only seen when they are merged.
    ranks = [ConsumptionLedger(plan) for _ in range(2)]
    for rank in ranks:
        rank.record([0], targets)
        assert rank.report()["conserved"]
    merged = ConsumptionLedger(plan)
    merged.load_state_dict(ranks[0].merge([rank.state_dict() for rank in ranks]))
    assert merged.report()["passes"][0]["repeated"] == {"blocks": 1, "targets": targets}
    with pytest.raises(ValueError, match="block index"):
        ledger.record([plan.num_blocks], 0)


def test_foreign_and_broken_states_are_refused() -> None:
    ledger = ConsumptionLedger(PLANS["split"])
    state = ledger.state_dict()
    with pytest.raises(CheckpointError, match="another pack plan"):
        ConsumptionLedger(PLANS["drop"]).load_state_dict(state)
    with pytest.raises(CheckpointError, match="cannot be read"):
        ledger.load_state_dict(state | {"history": {"0": {"consumed": "??"}}})
    other = ConsumptionLedger(PLANS["split"])
    other.record([0], int(PLANS["split"].block_targets[0]))
    history = ledger.merge([other.state_dict()])
    with pytest.raises(ConservationError, match="different ledgers"):
        ledger.merge([state, history])


def test_a_state_is_small() -> None:
    plan = pack(np.full(200_000, 100), block_size=100)
    ledger = ConsumptionLedger(plan)
    ledger.record(np.arange(plan.num_blocks), int(plan.block_targets.sum()))
    ledger.record(np.arange(0, plan.num_blocks, 3), int(plan.block_targets[::3].sum()), epoch=1)
    assert len(json.dumps(ledger.state_dict())) < 2_000


ORDER = {"order_version": 2, "data_digest": "d", "plan_digest": "a", "document_mask": True, "seed": 1}


def test_cursor_names_what_differs() -> None:
    cursor = Cursor.at_step(6, num_blocks=25, global_batch=8, **ORDER)
    assert (cursor.epoch, cursor.blocks_consumed) == (1, 16)
    start = Cursor.at_step(4, num_blocks=25, global_batch=8, **ORDER)
    assert (start.epoch, start.blocks_consumed) == (1, 0)
    assert Cursor.from_json(json.loads(json.dumps(cursor.to_json()))) == cursor
    cursor.verify(Cursor.at_step(6, num_blocks=25, global_batch=8, **ORDER))
    other: dict[str, Any] = {**ORDER, "plan_digest": "b"}
    with pytest.raises(CheckpointError) as caught:
        cursor.verify(Cursor.at_step(5, num_blocks=25, global_batch=8, **other), where="checkpoint-6")
    assert all(text in str(caught.value) for text in ("checkpoint-6", "block_size", "16 in the checkpoint, 8 now"))
    assert "the seed" not in caught.value.what
    for name, value in {"order_version": 1, "data_digest": "e", "document_mask": False, "seed": 2}.items():
        with pytest.raises(CheckpointError) as caught:
            cursor.verify(Cursor.at_step(6, num_blocks=25, global_batch=8, **{**ORDER, name: value}))
        assert caught.value.what.count(" in the checkpoint, ") == 1
    with pytest.raises(CheckpointError, match="max_train_samples"):  # the same place, in another choice of blocks
        start.verify(Cursor.at_step(4, num_blocks=26, global_batch=8, **ORDER))


def test_cursors_of_other_rules_and_broken_ones_are_refused() -> None:
    with pytest.raises(CheckpointError, match="other rules"):
        Cursor.from_json({"plan_digest": "a", "seed": 1, "epoch": 0, "blocks_consumed": 8})
    whole = Cursor.at_step(6, num_blocks=25, global_batch=8, **ORDER).to_json()
    for name in whole:
        for broken in ({**whole, name: None}, {k: v for k, v in whole.items() if k != name}):
            with pytest.raises(CheckpointError):
                Cursor.from_json(broken)
    for broken in ({}, [], None):
        with pytest.raises(CheckpointError, match="cannot be read"):
            Cursor.from_json(broken)  # type: ignore[arg-type]


def test_the_order_of_data_is_the_one_its_version_names() -> None:
    """A change of the rules must raise ORDER_VERSION: a checkpoint of the old rules cannot go on under the new."""
    blocks = PackedDataset(STORE, PLANS["split"])
    data = ScheduledBlocks(blocks, ranks=2, per_device_batch=1, accumulation=4, seed=3, linear_cost=100.0)
    found = np.concatenate([data.order(epoch) for epoch in range(3)]).astype("<i8")
    assert len(found) > 200
    assert xxhash.xxh3_64_hexdigest(found.tobytes()) == {2: "cf4fb0fe6807614b"}[ORDER_VERSION]
