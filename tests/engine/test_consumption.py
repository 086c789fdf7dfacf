"""What the trainer consumes is what the plan holds, at any number of ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import launch
from tests.engine.conftest import training


@pytest.mark.distributed
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_an_epoch_consumes_every_block_once(ranks: int, prepared: Path, tmp_path: Path) -> None:
    """Every block exactly once; targets counted from labels equal tokens minus documents; fillers counted."""
    run = tmp_path / "run"
    launch.run(ranks, training(prepared, run, num_train_epochs=1, gradient_accumulation_steps=4 // min(ranks, 4)))
    ledger = json.loads((run / "ledger.json").read_text())
    plan = ledger["plan"]
    consumed = [block for found in launch.blocks(run).values() for block in found]
    assert sorted(consumed) == list(range(plan["blocks"]))
    assert len(launch.events(run)) == ranks
    counted = sum(event["targets"] for found in launch.events(run).values() for event in found)
    assert counted == plan["tokens"] - plan["documents"] == ledger["total"]["targets"]
    fillers = sum(event["fillers"] for found in launch.events(run).values() for event in found)
    assert (plan["blocks"] + fillers) % 4 == 0
