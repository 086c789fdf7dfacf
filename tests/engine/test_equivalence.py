"""One process, and two under every ZeRO stage, are the same training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import launch
from tests.engine.conftest import training

STEPS = 20


@pytest.fixture(scope="module")
def reference(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process without DeepSpeed, four micro steps a step."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    launch.run(1, training(prepared, folder, max_steps=STEPS, gradient_accumulation_steps=4))
    return folder


@pytest.mark.distributed
@pytest.mark.parametrize("stage", ["zero1", "zero2", "zero3"])
def test_two_ranks_under_zero_repeat_the_losses_of_one_process(
    stage: str, prepared: Path, reference: Path, tmp_path: Path
) -> None:
    """Same global batch, float32: equal blocks in every step, losses equal to 1e-3 over 20 steps."""
    run = tmp_path / "run"
    flags = {"max_steps": STEPS, "gradient_accumulation_steps": 2, "deepspeed": stage}
    launch.run(2, training(prepared, run, **flags))
    expected, found = launch.losses(reference), launch.losses(run)
    assert len(expected) == len(found) == STEPS
    assert launch.blocks(run) == launch.blocks(reference)
    assert all(launch.events(run)[rank][0]["blocks"] for rank in (0, 1)), "both ranks took blocks"
    np.testing.assert_allclose([found[s] for s in expected], list(expected.values()), rtol=1e-3)
    assert expected[STEPS] < expected[1] - 0.3, "the model learned, so equality is not that of a standstill"
    ours, theirs = (launch.events(folder, "evaluation")[0] for folder in (run, reference))
    assert len(ours) == len(theirs) == 2, "evaluated before and after training"
    for name in ("eval_loss", "eval_byte_perplexity"):
        np.testing.assert_allclose([event[name] for event in ours], [event[name] for event in theirs], rtol=1e-3)
    assert [event["eval_targets"] for event in ours] == [event["eval_targets"] for event in theirs]
