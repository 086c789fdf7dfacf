"""The event file: whole lines, bounded, a torn line closed, a full disk said once and counted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medscroll.monitor.log import EventWriter


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_events_are_written_in_order_with_their_time(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "events" / "rank-00000.jsonl")
    for step in range(500):
        writer.write({"type": "step", "step": step, "loss": math.nan if step == 3 else 1.5})
    assert writer.flush()
    events = read(writer.path)
    assert [event["step"] for event in events] == list(range(500))
    assert all(event["time"] > 1e9 for event in events)
    assert events[3]["loss"] == "nan"  # strict JSON for every reader
    writer.close()


def test_a_torn_line_of_a_killed_run_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "rank.jsonl"
    path.write_text('{"type": "step", "step": 1}\n{"type": "st', encoding="utf-8")
    writer = EventWriter(path)
    writer.write({"type": "step", "step": 2})
    writer.close()
    lines = path.read_text("utf-8").splitlines()
    assert lines[1] == '{"type": "st'
    assert json.loads(lines[2])["step"] == 2


def test_the_file_is_bounded_and_says_what_it_left_out(tmp_path: Path) -> None:
    path, limit, keep = tmp_path / "rank.jsonl", 60_000, 50
    writer = EventWriter(path, limit=limit, keep=keep)
    padding = "x" * 60
    for step in range(1, 5001):
        if step % 500 == 0:
            writer.write({"type": "evaluation", "step": step})
        writer.write({"type": "step", "step": step, "padding": padding})
        if step % 200 == 0:
            writer.flush()
    writer.close()
    assert path.stat().st_size < 1.3 * limit
    events = read(path)
    steps = [event["step"] for event in events if event["type"] == "step"]
    thinned = [event for event in events if event["type"] == "thinned"]
    assert len(thinned) > 2
    assert [event["step"] for event in events if event["type"] == "evaluation"] == list(range(500, 5001, 500))
    assert steps == sorted(set(steps))
    assert steps[-keep:] == list(range(5001 - keep, 5001))
    assert len(steps) + sum(event["removed"] for event in thinned) == 5000
    every = max(event["every"] for event in thinned)
    old = [step for step in steps if step < thinned[-1]["before_step"]]
    assert len(old) > 50
    assert all(step % every == 0 for step in old)
    assert not list(tmp_path.glob(".*partial"))


def test_thinning_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "rank.jsonl"
    for _ in range(3):
        writer = EventWriter(path, limit=20_000, keep=20)
        for step in range(1, 1001):
            writer.write({"type": "step", "step": step, "padding": "x" * 40})
            if step % 100 == 0:
                writer.flush()
        writer.close()
    assert path.stat().st_size < 30_000


def test_a_full_disk_is_said_once_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "events"
    folder.write_text("a file where the folder should be", encoding="utf-8")
    writer = EventWriter(folder / "rank.jsonl")
    for step in range(20):
        writer.write({"type": "step", "step": step})
    assert writer.flush()
    assert writer.lost == 20
    assert capsys.readouterr().err.count("WARNING: events are lost") == 1
    folder.unlink()
    writer.write({"type": "step", "step": 20})
    writer.close()
    alert, step = read(writer.path)
    assert (alert["kind"], alert["value"], step["step"]) == ("telemetry_lost", 20, 20)
    assert writer.lost == 0


FULL = """
import resource, signal, sys
from pathlib import Path
from medscroll.monitor.log import EventWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
writer = EventWriter(Path(sys.argv[1]))
for step in range(100):
    writer.write({"type": "step", "step": step})
writer.flush()
print(writer.lost)
"""


def test_where_no_byte_more_fits_lines_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "rank.jsonl"
    job = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    events = read(path)
    assert 5 < len(events) < 100
    assert int(job.stdout) + len(events) == 100
    assert job.stderr.count("WARNING: events are lost") == 1


def test_what_is_no_json_costs_that_event_only(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "rank.jsonl")
    loop: dict[str, Any] = {}
    loop["self"] = loop
    writer.write(loop)
    writer.write({"type": "step", "path": Path("a") / os.sep})
    writer.close()
    assert [event["type"] for event in read(writer.path)] == ["alert", "step"]
