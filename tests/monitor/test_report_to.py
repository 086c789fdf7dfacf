"""`--report_to` gives other displays the monitor's numbers under the same names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import launch
from tests.engine.conftest import prepared, training

assert prepared  # the fixture of the engine's tests
NAMES = ("train/loss", "train/phase/forward", "train/tokens", "train/host/rss")


@pytest.mark.slow
def test_tensorboard_gets_the_same_names(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    launch.run(1, training(prepared, tmp_path / "run", max_steps=60, monitor_seconds=0.5, report_to="tensorboard"))
    files = list(tmp_path.rglob("events.out.tfevents*"))
    assert files
    tags: set[str] = set()
    for path in files:
        board = EventAccumulator(str(path))
        board.Reload()
        tags.update(board.Tags()["scalars"])
    assert set(NAMES) <= tags


@pytest.mark.slow
def test_wandb_offline_gets_the_same_names(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves the machine; the names stand in the file that `wandb sync` would send."""
    pytest.importorskip("wandb", reason="wandb is not installed")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    launch.run(1, training(prepared, tmp_path / "run", max_steps=60, monitor_seconds=0.5, report_to="wandb"))
    (history,) = tmp_path.rglob("run-*.wandb")
    content = history.read_bytes()
    missing = [name for name in NAMES if name.encode() not in content]
    assert not missing
