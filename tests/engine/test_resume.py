"""A killed run goes on exactly: the same blocks and the same losses, in the first and in the second epoch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import launch
from tests.engine.conftest import training

BLOCKS = 45  # of 8 a step: 6 steps an epoch, the last with fillers


@pytest.mark.distributed
@pytest.mark.parametrize(("ranks", "stage"), [(1, None), (1, "zero3"), (2, "zero3")])
def test_killed_twice_and_resumed_equals_uninterrupted(
    ranks: int, stage: str | None, prepared: Path, tmp_path: Path
) -> None:
    """SIGKILL after a checkpoint in epoch 1 and again in epoch 2; a number of blocks that does not divide."""
    flags = {"num_train_epochs": 2, "save_total_limit": 9, "gradient_accumulation_steps": 8 // ranks}
    flags["max_train_samples"] = BLOCKS
    if stage:
        flags["deepspeed"] = stage
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    launch.run(ranks, training(prepared, whole, **flags))
    expected = launch.losses(whole)
    steps = len(expected) // 2
    counted = json.loads((whole / "ledger.json").read_text())["total"]
    assert counted["blocks"] == 2 * BLOCKS
    assert counted["fillers"] > 0, "the last global batch must hold fillers"

    first, second = steps // 2, steps + steps // 2
    launch.run_until(
        ranks, training(prepared, broken, save_steps=first, **flags), broken / f"checkpoint-{first}" / "manifest.json"
    )
    again = {**flags, "resume_from_checkpoint": "true", "save_steps": second}
    launch.run_until(ranks, training(prepared, broken, **again), broken / f"checkpoint-{second}" / "manifest.json")
    launch.run(ranks, training(prepared, broken, **{**again, "save_steps": 10000}))

    found = launch.losses(broken)
    assert list(found) != [], "events were written"
    assert launch.blocks(broken) == launch.blocks(whole)
    np.testing.assert_allclose([found[step] for step in expected], list(expected.values()), rtol=1e-6)
    counts = [json.loads((folder / "ledger.json").read_text())["total"] for folder in (whole, broken)]
    assert counts[0] == counts[1], "the ledger counts over resumes what the uninterrupted run counts"
