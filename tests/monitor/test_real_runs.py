"""Real jobs of several processes: a slow rank is named with its phase, a frozen one before anything times out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from medscroll.monitor.heartbeat import read_heartbeats
from medscroll.monitor.run_reader import RunReader
from medscroll.monitor.schema import PHASES, events_path, stacks_path
from medscroll.monitor.snapshot import snapshot
from medscroll.monitor.stragglers import find_stragglers, mean_phases
from tests import launch
from tests.engine.conftest import prepared, training

assert prepared  # the fixture of the engine's tests
SLOW = "tests.monitor.slow_worker"
Job = tuple[subprocess.Popen[str], Callable[[], str]]


def events(run: Path, rank: int, kind: str) -> list[dict[str, Any]]:
    path = events_path(run, rank)
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.is_file() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event for event in found if event["type"] == kind]


@contextlib.contextmanager
def job(processes: int, arguments: list[str], **extra: str) -> Iterator[Job]:
    """A job under way, and a function that gives what it has printed."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            launch.command(processes, arguments, SLOW),
            env=launch.environment(**extra),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

        def said() -> str:
            output.seek(0)
            return output.read()

        try:
            yield process, said
        finally:
            launch._kill_session(process)


def wait_for(
    condition: Callable[[], Any], process: subprocess.Popen[str], said: Callable[[], str], seconds: float
) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, f"the job has ended\n{said()[-6000:]}"
        assert time.monotonic() < deadline, f"not seen within {seconds} s\n{said()[-6000:]}"
        time.sleep(0.05)
    return found


def named(run: Path, ranks: int, until: int) -> tuple[int, str]:
    """Whom the events of the steps up to `until` show as slow, as any display computes it."""
    times = {
        rank: mean_phases(event for event in events(run, rank, "step") if 3 < event["step"] <= until)
        for rank in range(ranks)
    }
    found = find_stragglers(times)
    return (found[0].rank, found[0].phase) if found else (-1, "")


def test_a_slow_rank_and_a_frozen_one(prepared: Path, tmp_path: Path) -> None:
    """Two ranks, one 30 % slower in its forward pass, then stopped, then continued: the run reaches its end."""
    run = tmp_path / "run"
    flags = training(prepared, run, max_steps=60, deepspeed="zero2")
    with job(2, flags, SLOW_PHASE="forward", SLOW_RANK="1") as (process, said):
        wait_for(lambda: len(events(run, 1, "step")) >= 20 <= len(events(run, 0, "step")), process, said, 120)
        assert named(run, 2, 20) == (1, "forward")
        reader = RunReader(run)
        reader.finish()
        assert [snapshot([reader])["runs"][0]["slowest"][0][key] for key in ("rank", "phase")] == [1, "forward"]
        beats = read_heartbeats(run, range(2))
        pid, median_step = beats[1].content["pid"], beats[0].content["median_step"]
        assert 0.1 < median_step < 2
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        (stall, *_) = wait_for(lambda: events(run, 0, "stall"), process, said, 60)
        took = time.monotonic() - stopped
        psutil.Process(pid).send_signal(signal.SIGCONT)
        assert process.wait(90) == 0, said()[-6000:]
    assert [(each["rank"], each["frozen"]) for each in stall["missing"]] == [(1, True)]
    assert stall["missing"][0]["phase"] in PHASES
    assert stall["missing"][0]["host"] == beats[1].content["host"]
    assert took < 3 * median_step + 10
    stacks = stacks_path(run, 0).read_text("utf-8")
    assert "Thread 0x" in stacks
    assert "_inner_training_loop" in stacks  # of the main thread, whichever phase it waits in
    assert "last collectives issued" in stacks
    assert "gloo:" in stacks
    alerts = [event for event in events(run, 0, "alert") if event["kind"] == "straggler"]
    assert ("forward", 1) in {(event["phase"], event["rank"]) for event in alerts}
    assert not [event for event in alerts if event["rank"] == 0]
    for rank in range(2):
        check_events(run, rank)


def check_events(run: Path, rank: int) -> None:
    """What every finished run of two ranks must have written."""
    (start,) = events(run, rank, "run")
    assert (start["schema"], start["rank"], start["world_size"], start["node"]) == (1, rank, 2, 0)
    steps = events(run, rank, "step")
    assert [event["step"] for event in steps] == list(range(1, 61))
    for event in steps:
        phases = event["phases"]
        assert set(phases) == set(PHASES)
        assert sum(phases.values()) == pytest.approx(event["seconds"], rel=0.02, abs=1e-3)
        assert phases["forward"] > 0.1
        assert min(phases["data"], phases["backward"], phases["optimizer"]) > 0
        assert event["pieces"]["count"] >= 1
        assert event["pieces"]["max"] <= event["tokens"] <= 256
    assert any("host" in event for event in steps)
    window = events(run, rank, "comm_window")[0]
    assert (window["steps"], window["first_step"]) == (1, window["step"])
    assert window["total_us"] > 0
    assert window["exposed_us"] + window["overlapped_us"] == pytest.approx(window["total_us"])
    assert window["skew_us"] is not None
    (end,) = events(run, rank, "end")
    assert (end["status"], end["step"]) == ("finished", 60)


def test_counted_bytes_are_those_of_zero_2(prepared: Path, tmp_path: Path) -> None:
    """Each step ZeRO-2 reduces every gradient once and gathers every parameter once, padded to the ranks."""
    run, steps = tmp_path / "run", 12
    flags = training(prepared, run, max_steps=steps, deepspeed="zero2", monitor_window_every=0, logging_steps=4)
    launch.run(2, flags)
    from safetensors import safe_open

    with safe_open(run / "model.safetensors", "pt") as weights:
        elements = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    for rank in range(2):
        entries = [event["communication"] for event in events(run, rank, "step") if "communication" in event]
        entries += [event["communication"] for event in events(run, rank, "end") if event.get("communication")]
        assert sum(entry["steps"] for entry in entries) == steps
        assert {entry["coverage"] for entry in entries} == {1.0}
        totals: dict[str, int] = {}
        for entry in entries:
            for each in entry["traffic"]:
                assert each["ranks"] == 2
                totals[each["op"]] = totals.get(each["op"], 0) + each["bytes"]
        for op in ("all_reduce", "all_gather"):
            assert totals[op] / steps == pytest.approx(4 * elements, rel=2e-3), totals


def test_a_crash_is_written_with_its_reason(prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with job(1, training(prepared, run, max_steps=5), SLOW_PHASE="crash") as (process, said):
        assert process.wait(100) == 1, said()[-3000:]
    (end,) = events(run, 0, "end")
    assert (end["status"], end["step"]) == ("crashed", 2)
    assert end["reason"] == "RuntimeError: the third step fails"
    (beat,) = read_heartbeats(run, range(1)).values()
    assert beat.content["status"] == "crashed"


def test_without_the_monitor_there_are_the_plain_events(prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launch.run(1, training(prepared, run, max_steps=3, monitor_run="false"))
    steps = events(run, 0, "step")
    assert [event["step"] for event in steps] == [1, 2, 3]
    assert all("loss" in event and "phases" not in event for event in steps)
    assert not (run / "heartbeat").exists()
    assert not events(run, 0, "run")


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["data", "forward", "backward", "optimizer"])
def test_one_of_four_slowed_by_30_percent_is_named_within_20_steps(prepared: Path, tmp_path: Path, phase: str) -> None:
    """In the log, in rank 0's events, and so in the view: rank and phase, above all others.

    Four ranks on two cores take turns, so others may really be late in a window of one step: by less.
    """
    run = tmp_path / "run"
    flags = training(prepared, run, max_steps=500, deepspeed="zero2")
    with job(4, flags, SLOW_PHASE=phase, SLOW_RANK="2") as (process, said):
        wait_for(lambda: all(len(events(run, rank, "step")) >= 21 for rank in range(4)), process, said, 200)
        reader = RunReader(run)
        reader.finish()
        (view,) = snapshot([reader])["runs"]
        printed = said()
    alerts = [event for event in events(run, 0, "alert") if event["kind"] == "straggler" and event["step"] <= 20]
    assert (2, phase) in {(event["rank"], event["phase"]) for event in alerts}, alerts
    worst = max(alerts, key=lambda event: event["value"])
    assert (worst["rank"], worst["phase"]) == (2, phase), alerts
    assert any(each["kind"] == "straggler" and "rank 2" in each["message"] for each in view["alerts"])
    assert "ALERT straggler: rank 2" in printed
    assert [view["slowest"][0][key] for key in ("rank", "phase")] == [2, phase]
    assert view["slowest"][0]["seconds"] > 1.1 * view["slowest"][0]["usual"]


@pytest.mark.slow
def test_a_rank_that_hangs_is_named_while_the_others_wait(prepared: Path, tmp_path: Path) -> None:
    """Its process lives and beats, its main thread sleeps; no collective has given up yet, every rank writes stacks."""
    run = tmp_path / "run"
    flags = training(prepared, run, max_steps=500, deepspeed="zero2")
    with job(4, flags, SLOW_PHASE="hang", SLOW_RANK="2") as (process, said):
        (stall, *_) = wait_for(lambda: events(run, 0, "stall"), process, said, 200)
        wait_for(lambda: all(stacks_path(run, rank).is_file() for rank in range(4)), process, said, 30)
        assert not [end for rank in range(4) for end in events(run, rank, "end")]
        beats = read_heartbeats(run, range(4))
        printed = said()
    step = beats[2].content["step"]
    assert [(each["rank"], each["phase"], each["step"], each["frozen"]) for each in stall["missing"]] == [
        (2, "forward", step, False)
    ]
    assert stall["waited"] < 3 * beats[0].content["median_step"] + 10
    assert stall["limit"] < collectives_timeout_of_torch()
    assert f"the ranks wait for rank 2 on {beats[2].content['host']}, in forward of step {step + 1}" in printed
    assert "in hang" in stacks_path(run, 2).read_text("utf-8")
    assert "in hang" not in stacks_path(run, 0).read_text("utf-8")


def collectives_timeout_of_torch() -> float:
    """Seconds after which gloo's collectives give up."""
    from torch.distributed.constants import default_pg_timeout

    return default_pg_timeout.total_seconds()


@pytest.mark.slow
@pytest.mark.parametrize(("action", "rank"), [("abort", 0), ("report", 3)])
def test_one_of_four_frozen_is_named_and_the_run_ends_or_goes_on(
    prepared: Path, tmp_path: Path, action: str, rank: int
) -> None:
    """Named within 3 median steps and 10 s, with stacks of all who wait; where it is rank 0, another one reports."""
    run, others = tmp_path / "run", [other for other in range(4) if other != rank]
    flags = training(prepared, run, max_steps=2000 if action == "abort" else 40, deepspeed="zero2", stall_action=action)
    with job(4, flags, SLOW_PHASE="forward") as (process, said):
        wait_for(lambda: len(events(run, 0, "step")) >= 10, process, said, 200)
        beat = read_heartbeats(run, [rank])[rank].content
        os.kill(beat["pid"], signal.SIGSTOP)
        stopped = time.monotonic()
        (stall, *_) = wait_for(lambda: events(run, others[0], "stall"), process, said, 60)
        took = time.monotonic() - stopped
        wait_for(lambda: all(stacks_path(run, other).is_file() for other in others), process, said, 10)
        if action == "report":
            psutil.Process(beat["pid"]).send_signal(signal.SIGCONT)
        code = process.wait(200)
    print(f"{action}: named after {took:.1f} s, median step {beat['median_step']:.2f} s")
    assert took < 3 * beat["median_step"] + 10
    assert took < collectives_timeout_of_torch()
    assert [(each["rank"], each["frozen"]) for each in stall["missing"]] == [(rank, True)]
    assert not stacks_path(run, rank).is_file() or action == "report"
    for other in others:
        assert "last collectives issued" in stacks_path(run, other).read_text("utf-8")
    ends = [event["status"] for other in others for event in events(run, other, "end")]
    if action == "abort":
        assert code != 0
        assert "stopped" in ends
    else:
        assert (code, ends, len(events(run, rank, "step"))) == (0, ["finished"] * 3, 40), said()[-3000:]
