"""Who is slow, who only waits; skew over ranks whose clocks differ; who is missing at a stall."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from medscroll.monitor.heartbeat import Beat, HeartbeatFile, frozen, read_heartbeats
from medscroll.monitor.schema import heartbeat_path, window_path
from medscroll.monitor.skew import phase_lateness, skew, window_skew
from medscroll.monitor.stall import find_missing, reporter, stall_limit
from medscroll.monitor.stragglers import COMPARED, find_stragglers, mean_phases, phase_scatter, scores

USUAL = {"data": 0.1, "forward": 1.0, "backward": 2.0, "optimizer": 0.5}


def waiting(ranks: int, slow: int, phase: str, factor: float) -> dict[int, dict[str, float]]:
    """Phase times of ranks of which one is slow in a phase; the others wait for it at the end of the backward pass."""
    times = {rank: dict(USUAL) for rank in range(ranks)}
    times[slow][phase] *= factor
    late = USUAL[phase] * (factor - 1)
    meeting = "backward" if phase != "optimizer" else "data"
    for rank in set(times) - {slow}:
        times[rank][meeting] += late if phase not in ("backward", "optimizer") else 0.0
    return times


@pytest.mark.parametrize("ranks", [2, 4, 64])
@pytest.mark.parametrize("phase", ["forward", "backward", "optimizer"])
def test_the_slow_rank_is_named_and_no_waiting_one(ranks: int, phase: str) -> None:
    found = find_stragglers(waiting(ranks, ranks - 1, phase, 1.3))
    assert [(each.rank, each.phase) for each in found] == [(ranks - 1, phase)]
    assert found[0].ratio == pytest.approx(1.3)
    table = scores(waiting(ranks, ranks - 1, phase, 1.3))
    assert table[ranks - 1][phase] == pytest.approx(1 / 1.3)
    assert all(table[rank][each] == 1 for rank in range(ranks - 1) for each in COMPARED)


def test_jitter_names_nobody() -> None:
    draw = random.Random(1)
    for _ in range(50):
        times = {rank: {key: value * draw.uniform(0.97, 1.03) for key, value in USUAL.items()} for rank in range(8)}
        assert find_stragglers(times) == []
    assert find_stragglers({0: USUAL}) == []
    assert find_stragglers({}) == []


def test_an_outlier_is_no_straggler() -> None:
    steps: list[dict[str, Any]] = [{"phases": USUAL} for _ in range(9)]
    steps += [{"phases": {**USUAL, "data": 60.0}}, {"phases": None}, {}]
    assert mean_phases(steps) == USUAL


def test_what_lies_within_the_scatter_names_nobody() -> None:
    """The same 30 % are certain where steps are even, and chance where they scatter as widely."""
    times = waiting(4, 2, "forward", 1.3)
    for spread, named in ((0.01, [2]), (0.08, [2]), (0.6, [])):
        draw = random.Random(3)
        steps = {rank: [draw.gauss(0, spread) for _ in range(16)] for rank in times}
        scatter = {
            rank: phase_scatter([{"phases": {"forward": USUAL["forward"] + each}} for each in noise])
            for rank, noise in steps.items()
        }
        assert [each.rank for each in find_stragglers(times, scatter=scatter)] == named
    assert phase_scatter([{"phases": USUAL}] * 9) == dict.fromkeys(USUAL, 0.0)


def collectives(offset: float, late: dict[int, float], shift: float = 0.0) -> list[dict[str, Any]]:
    """Ten collectives as one rank sees them: ends together with the last rank, which is `late[number]` late."""
    found = []
    for number in range(10):
        start = 1000.0 * number + shift
        end = 1000.0 * number + late.get(number, 0.0) + 100
        times = {"start": start + offset, "end": end + offset}
        found.append({"group": "0", "op": "all_reduce", "phase": "backward" if number < 5 else "forward", **times})
    return found


def test_skew_with_clocks_that_are_seconds_apart() -> None:
    late = {2: 300.0, 7: 50.0}
    windows = {0: collectives(0.0, late), 1: collectives(3.2e6, late), 2: collectives(-7e6, late)}
    for number, seconds in late.items():
        windows[2][number]["start"] += seconds
    found = skew(windows)
    assert [found[rank].offset_us for rank in range(3)] == pytest.approx([0, 3.2e6, -7e6])
    assert [found[rank].total_us for rank in range(3)] == pytest.approx([350, 350, 0])
    assert found[0].phases == pytest.approx({"backward": 300, "forward": 50})
    assert found[2].last == 10  # equal ones included
    assert found[0].last == 8
    assert phase_lateness(found)[2] == pytest.approx({"backward": 300, "forward": 50})
    assert phase_lateness(found)[0] == {}


def test_a_wait_is_at_most_the_collective_itself() -> None:
    """Where a rank's collective is short, its start does not say that it waited since."""
    windows = {0: collectives(0, {}), 1: collectives(0, {})}
    windows[1][0] = {**windows[1][0], "start": 0.0, "end": 100.0}
    windows[0][0] = {**windows[0][0], "start": 90.0}
    assert skew(windows)[1].total_us == pytest.approx(90)


def test_groups_that_share_no_rank_do_not_matter() -> None:
    one, other = collectives(0, {}), [{**each, "group": "1"} for each in collectives(5e6, {})]
    found = skew({0: one, 1: one, 2: other, 3: other})
    assert found[3].total_us == 0
    assert skew({0: one})[0].matched == 0


def test_a_window_counts_when_all_ranks_have_written_it(tmp_path: Path) -> None:
    for rank in (0, 1):
        assert window_skew(tmp_path, 10, 2) is None
        path = window_path(tmp_path, 10, rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"collectives": collectives(0, {})}), encoding="utf-8")
    assert set(window_skew(tmp_path, 10, 2) or {}) == {0, 1}
    window_path(tmp_path, 10, 1).write_text("{", encoding="utf-8")
    assert window_skew(tmp_path, 10, 2) is None


def beat(rank: int, step: int = 7, phase: str = "backward", mtime: float = 100.0, **more: Any) -> Beat:
    content = {"status": "running", "host": f"host-{rank}", "step": step, "phase": phase}
    return Beat(rank, {**content, "time": 50.0, "progress": 20.0, **more}, mtime)


def test_a_frozen_rank_is_missing_whatever_it_said_last() -> None:
    beats = {0: beat(0), 1: beat(1, mtime=90.0, step=9, phase="optimizer"), 2: beat(2)}
    (found,) = find_missing(beats, 3)
    assert (found.rank, found.host, found.phase, found.step, found.frozen) == (1, "host-1", "optimizer", 9, True)
    assert reporter(beats) == 0
    assert reporter({0: beat(0, mtime=90.0), 1: beat(1), 2: beat(2)}) == 1


def test_a_rank_that_is_behind_is_missing() -> None:
    beats = {0: beat(0), 1: beat(1), 2: beat(2, phase="forward")}
    assert [(each.rank, each.phase, each.frozen, each.since) for each in find_missing(beats, 3)] == [
        (2, "forward", False, 30.0)
    ]
    counted = {rank: beat(rank, collectives={"0": 40 - (rank == 1)}) for rank in range(3)}
    assert [each.rank for each in find_missing(counted, 3)] == [1]


def test_nobody_is_missing_where_all_stand_alike() -> None:
    assert find_missing({rank: beat(rank) for rank in range(3)}, 3) == []
    assert [each.rank for each in find_missing({0: beat(0)}, 2)] == [1]  # never wrote a heartbeat
    ended = {0: beat(0), 1: beat(1, mtime=10.0, status="finished")}
    assert find_missing(ended, 2) == []


def test_limits() -> None:
    assert stall_limit(None, "forward", 2.0) is None
    assert stall_limit(10.0, "forward", 2.0) == 25.0  # within 3 median steps and 10 s
    assert stall_limit(10.0, "checkpoint", 2.0) == 900.0
    for phase in ("forward", "checkpoint"):
        assert stall_limit(500.0, phase, 2.0, timeout=600.0) == 450.0  # named before collectives give up
    assert stall_limit(10.0, "forward", 2.0, timeout=600.0) == 25.0
    assert stall_limit(None, "forward", 2.0, timeout=600.0) is None


def test_heartbeats_are_one_fixed_record(tmp_path: Path) -> None:
    files = [HeartbeatFile(tmp_path, rank) for rank in (0, 1)]
    for step in (1, 10_000_000, 3):
        for rank, file in enumerate(files):
            file.write({"rank": rank, "status": "running", "step": step, "phase": "forward"})
            assert file.path.stat().st_size == 1024
    os.utime(heartbeat_path(tmp_path, 1), (1.0, 1.0))
    beats = read_heartbeats(tmp_path, range(3))
    assert set(beats) == {0, 1}
    assert beats[0].content["step"] == 3
    assert frozen(beats) == {1}
    files[0].write({"collectives": {str(number): 1 for number in range(1000)}, "step": 4})
    assert read_heartbeats(tmp_path, [0])[0].content == {"collectives": {}, "step": 4}
    heartbeat_path(tmp_path, 0).write_text("{", encoding="utf-8")
    assert set(read_heartbeats(tmp_path, range(3))) == {1}
