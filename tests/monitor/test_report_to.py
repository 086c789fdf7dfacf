"""`--report_to` gets the monitor's numbers under the names that the view and Prometheus use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import launch
from tests.engine.conftest import prepared, training

assert prepared  # the fixture of the engine's tests


@pytest.mark.slow
def test_tensorboard_gets_the_same_names(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    launch.run(1, training(prepared, tmp_path / "run", max_steps=4, logging_steps=1, report_to="tensorboard"))
    files = list(tmp_path.rglob("events.out.tfevents*"))
    assert files
    tags: set[str] = set()
    for path in files:
        board = EventAccumulator(str(path))
        board.Reload()
        tags.update(board.Tags()["scalars"])
    assert {"train/loss", "train/phase/forward", "train/tokens"} <= tags
