"""A rank's own work, told apart from its waits by when ranks come to collectives."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medscroll.monitor.arrivals import ArrivalLog, clock_offsets, read_arrivals, waits, work
from medscroll.monitor.run_reader import RunReader
from medscroll.monitor.schema import arrivals_path
from medscroll.monitor.snapshot import snapshot
from medscroll.monitor.stragglers import COMPARED, find_stragglers, mean_phases, slow_in_work
from tests.monitor.simulated_run import Simulated

USUAL = {"data": 0.05, "forward": 0.3, "backward": 0.6, "optimizer": 0.1}
MEETINGS = {"backward": 3, "optimizer": 1}  # collectives at the ends of equal parts of the phase


def simulate(
    ranks: int,
    steps: int,
    factor: Callable[[int, str], float],
    *,
    blocking: bool = True,
    jitter: float = 0.02,
    **clock: Any,
) -> dict[int, dict[str, Any]]:
    """What ranks write whose phases take `factor` times the usual; in a blocking collective all leave with the last."""
    draw, offsets = random.Random(5), clock.get("offsets", {})
    now = {rank: 1.7e9 + draw.uniform(0, 0.05) for rank in range(ranks)}
    found: dict[int, dict[str, Any]] = {
        rank: {"rank": rank, "host": f"host-{rank if rank in offsets else 'x'}", "steps": []} for rank in range(ranks)
    }
    number = 0
    for step in range(1, steps + 1):
        marks: dict[int, list[Any]] = {rank: [] for rank in range(ranks)}
        calls: dict[int, list[Any]] = {rank: [] for rank in range(ranks)}
        for phase, usual in USUAL.items():
            for rank in range(ranks):
                marks[rank].append([phase, now[rank] + offsets.get(rank, 0.0)])
            parts = MEETINGS.get(phase, 0)
            for part in range(max(parts, 1)):
                for rank in range(ranks):
                    now[rank] += usual / max(parts, 1) * factor(rank, phase) * draw.uniform(1 - jitter, 1 + jitter)
                if part < parts:
                    number += 1
                    for rank in range(ranks):
                        calls[rank].append(["0", number, now[rank] + offsets.get(rank, 0.0)])
                    if blocking:
                        now = dict.fromkeys(now, max(now.values()) + 1e-3)
        if not blocking:
            now = dict.fromkeys(now, max(now.values()))
        for rank in range(ranks):
            marks[rank].append(["other", now[rank] + offsets.get(rank, 0.0)])
            found[rank]["steps"].append({"step": step, "marks": marks[rank], "calls": calls[rank]})
    return found


def one_slow(slow: int, phase: str, factor: float = 1.3) -> Callable[[int, str], float]:
    return lambda rank, name: factor if (rank, name) == (slow, phase) else 1.0


@pytest.mark.parametrize("ranks", [2, 4, 16])
@pytest.mark.parametrize("phase", list(USUAL))
def test_the_slow_rank_is_named_in_every_phase(ranks: int, phase: str) -> None:
    found = slow_in_work(work(simulate(ranks, 12, one_slow(ranks - 1, phase))), 1.1, least_share=0.01)
    assert [(each.rank, each.phase) for each in found] == [(ranks - 1, phase)]
    assert found[0].ratio == pytest.approx(1.3, abs=0.05)


def test_phase_times_alone_do_not_tell_who_was_slow_inside_a_phase() -> None:
    """The reason for all of this: in the backward pass all ranks take as long as the slow one."""
    arrivals = simulate(4, 12, one_slow(2, "backward"))
    times = {}
    for rank, content in arrivals.items():
        marks = [each["marks"] for each in content["steps"]]
        taken = [{"phases": {a[0]: b[1] - a[1] for a, b in itertools.pairwise(each)}} for each in marks]
        times[rank] = mean_phases(taken)
    assert find_stragglers(times) == []
    waited = waits(arrivals)
    assert all(sum(waited[rank][7].values()) > 0.15 for rank in (0, 1, 3))
    assert sum(waited[2][7].values()) < 0.05


def test_noise_names_nobody() -> None:
    for jitter in (0.02, 0.3):
        assert slow_in_work(work(simulate(4, 16, lambda *_: 1.0, jitter=jitter)), 1.1) == []
    assert slow_in_work({}, 1.0) == []
    assert slow_in_work(work(simulate(4, 4, one_slow(1, "forward", 3.0))), 1.1) == []  # too few steps


def test_calls_that_do_not_block_are_no_waits() -> None:
    """Nobody waits where a rank was seen elsewhere before the last one came; the slow rank is still named."""
    arrivals = simulate(4, 12, one_slow(1, "forward", 2.0), blocking=False)
    assert sum(sum(phases.values()) for steps in waits(arrivals).values() for phases in steps.values()) < 12 * 4 * 0.4
    found = slow_in_work(work(arrivals), 1.4)
    assert (found[0].rank, found[0].phase) == (1, "forward")


def test_clocks_of_hosts_may_be_apart() -> None:
    arrivals = simulate(4, 12, one_slow(3, "backward"), offsets={2: 7.5, 3: -3.25})
    by_step = {rank: {each["step"]: each for each in content["steps"]} for rank, content in arrivals.items()}
    offsets = clock_offsets(arrivals, by_step, list(range(1, 13)))
    assert offsets == pytest.approx({0: 0.0, 1: 0.0, 2: 7.5, 3: -3.25}, abs=0.02)
    assert [(each.rank, each.phase) for each in slow_in_work(work(arrivals), 1.1)] == [(3, "backward")]


def test_a_log_keeps_the_newest_steps_whose_collectives_are_known(tmp_path: Path) -> None:
    logs = [ArrivalLog(tmp_path, rank, "a") for rank in range(2)]
    for log in logs:
        for step in range(1, 41):
            log.step(step, [("forward", 10.0 * step), ("backward", 10.0 * step + 4), ("other", 10.0 * step + 9)])
        log.arrive(("0", step, 10.0 * step + 5 + log.rank) for step in range(1, 41))
        log.write(38)
    found = read_arrivals(tmp_path, range(3))
    assert set(found) == {0, 1}
    assert [each["step"] for each in found[0]["steps"]] == list(range(17, 39))
    assert found[1]["steps"][0]["calls"] == [["0", 17, 176.0]]
    assert waits(found)[0][20] == {"backward": 1.0}
    assert waits(found)[1][20] == {}
    assert work(found)[0][20] == {"forward": 4.0, "backward": 4.0}
    logs[0].arrive(("1", number, 1000.0 + number) for number in range(5000))
    logs[0].write(40)
    assert read_arrivals(tmp_path, [0])[0]["steps"] == []  # its collectives were let go
    for text in ("{", '{"steps": 3}', '{"steps": [{"step": 1}]}', "[]"):
        arrivals_path(tmp_path, 1).write_text(text, encoding="utf-8")
        assert set(read_arrivals(tmp_path, range(2))) == {0}


@pytest.mark.parametrize("phase", ["forward", "backward", "optimizer"])
def test_the_view_names_rank_and_phase(tmp_path: Path, phase: str) -> None:
    """Events and arrivals of the same steps, as files: the view subtracts the waits and draws them."""
    run = Simulated(ranks=4, nodes=1, steps=12, gpu=False, seconds=1.1).write(tmp_path / "run")
    arrivals = simulate(4, 12, one_slow(2, phase))
    for rank, content in arrivals.items():
        content["host"] = "node-00"
        path = arrivals_path(run, rank)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        events = (run / "events" / f"rank-{rank:05d}.jsonl").read_text("utf-8").splitlines()
        lines = []
        for line in events:
            event = json.loads(line)
            if event["type"] == "step":
                marks = content["steps"][event["step"] - 1]["marks"]
                taken = {one[0]: two[1] - one[1] for one, two in itertools.pairwise(marks)}
                event["phases"] = dict.fromkeys(event["phases"], 0.0) | taken
            lines.append(json.dumps(event))
        (run / "events" / f"rank-{rank:05d}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    reader = RunReader(run)
    reader.finish()
    (view,) = snapshot([reader])["runs"]
    worst = view["slowest"][0]
    assert (worst["rank"], worst["phase"]) == (2, phase)
    assert worst["seconds"] / worst["usual"] == pytest.approx(1.3, abs=0.06)
    arrivals_path(run, 1).write_text('{"host": 3, "steps": [{"step": "a", "marks": [1, 2], "calls": 4}]}', "utf-8")
    assert snapshot([reader])["runs"][0]["slowest"]  # what cannot be read is as if it were not there
    waited = {row["rank"]: sum(sum(step["waits"]) for step in row["steps"]) for row in view["timeline"]["rows"]}
    assert min(waited, key=lambda rank: waited[rank]) == 2
    assert tuple(USUAL) == COMPARED
