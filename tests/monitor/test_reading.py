"""Run folders as they really are: long, half-written, foreign, resumed, dead; what is shown is what was written."""

from __future__ import annotations

import json
import math
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medscroll.cli import plan, watch
from medscroll.errors import ConfigError
from medscroll.monitor import rank_reader, run_reader
from medscroll.monitor.numbers import NAMES, numbers
from medscroll.monitor.prometheus import exposition, metric_name
from medscroll.monitor.run_reader import RunReader
from medscroll.monitor.schema import events_path, heartbeat_path
from medscroll.monitor.series import Series
from medscroll.monitor.snapshot import snapshot
from medscroll.planning.report import candidate_json
from tests.monitor.simulated_run import Simulated
from tests.planning.hand_made import candidate


def view(folder: Path) -> dict[str, Any]:
    reader = RunReader(folder)
    reader.finish()
    found: dict[str, Any] = snapshot([reader])["runs"][0]
    json.dumps(found, allow_nan=False)
    return found


def append(folder: Path, rank: int, text: str) -> None:
    with events_path(folder, rank).open("a", encoding="utf-8") as handle:
        handle.write(text)


def test_series_keep_sums_and_extremes_whatever_the_width() -> None:
    chance = random.Random(3)
    values = {step: chance.uniform(-5, 5) for step in range(1, 5000)}
    series = Series(64)
    for step, value in values.items():
        series.add(step, {"loss": value, "no such name": 1.0, "mfu": math.nan})
    assert series.width == 128
    assert not series.has("mfu")
    for at, first in enumerate(series.steps()):
        held = [value for step, value in values.items() if first <= step < first + series.width]
        if held:
            found = [series.mean("loss")[at], series.least("loss")[at], series.greatest("loss")[at]]
            np.testing.assert_allclose(found, [sum(held) / len(held), min(held), max(held)])
        else:
            assert np.isnan(series.mean("loss")[at])
    assert series.total("loss", 4999)[0] == pytest.approx(sum(values.values()))
    assert series.total("loss", 4999)[1]


def test_of_a_step_that_is_repeated_the_last_counts(tmp_path: Path) -> None:
    simulated = Simulated(ranks=1, nodes=1, steps=40)
    run = simulated.write(tmp_path / "run")
    started = {**simulated.run_event(0), "first_step": 20, "started": time.time()}
    lines = [line.replace('"tokens": 8192', '"tokens": 1') for line in simulated.lines(0, 21, 30)]
    append(run, 0, json.dumps(started) + "\n" + "".join(lines))
    found = view(run)
    assert found["step"] == 30
    assert found["starts"] == 2
    assert found["data"]["counted"] == {"exact": True, "tokens": 20 * 8192 + 10, "targets": 30 * 8180, "fillers": 0}
    assert max(found["curves"]["step"]) == 30


def test_a_long_file_opens_coarsely_and_ends_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(ranks=3, nodes=1, steps=2500, logging_steps=5)
    run = simulated.write(tmp_path / "run")
    assert events_path(run, 0).stat().st_size > 3 * rank_reader.SMALL
    reader = RunReader(run)
    reader.refresh(budget=0.0)
    assert reader.share_read < 1
    coarse = snapshot([reader])["runs"][0]
    assert coarse["step"] == 2500
    assert coarse["loss"] is not None
    assert len(coarse["curves"]["step"]) > 30  # samples of the middle
    append(run, 0, "".join(simulated.lines(0, 2501, 2510)))
    for _ in range(1000):
        reader.refresh(budget=0.01)
        if reader.share_read >= 1:
            break
    exact = snapshot([reader])["runs"][0]
    assert exact["step"] == 2510
    assert exact["reading"]["share"] == 1
    assert not exact["reading"]["sampled"]
    assert exact["reading"]["lines"] == sum(len(path.read_text().splitlines()) for path in run.glob("events/*"))
    assert exact["data"]["counted"]["tokens"] == 8192 * (2510 + 2500 + 2500)
    assert len(exact["timeline"]["rows"][0]["steps"]) > 5
    monkeypatch.setattr(run_reader, "WHOLE", 0)  # as a run too large to be parsed line by line
    large = view(run)
    assert large["reading"]["sampled"]
    assert not large["data"]["counted"]["exact"]
    assert large["data"]["counted"]["tokens"] == exact["data"]["counted"]["tokens"]
    assert len(large["evaluations"]) == 5
    rows = np.array(large["memory"]["rows"], dtype=float)
    assert rows.shape[0] == 3
    assert np.isfinite(rows[:, 1:]).mean() > 0.9


def test_unreadable_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    simulated = Simulated(ranks=2, nodes=1, steps=10)
    run = simulated.write(tmp_path / "run")
    good = simulated.lines(0, 11, 11)[0]
    bad = ["{half\n", "[1, 2]\n", '"text"\n', '{"no": "type"}\n', '{"type": "step", "step": "x"}\n', "\x00\x00\n", "\n"]
    odd = [
        '{"type": "unheard_of", "time": 1}\n',
        '{"type": "__init__"}\n',
        '{"type": "step", "step": 12, "phases": 7}\n',
    ]
    append(run, 0, "".join(bad + odd) + good.replace('"step": 11', '"step": 13') + good[:-30])
    found = view(run)
    assert found["reading"]["bad_lines"] == 6
    assert found["reading"]["unfinished_lines"] == 1
    assert found["step"] == 13
    heartbeat_path(run, 1).write_text("{half", encoding="ascii")
    assert len(view(run)["ranks"]) == 2


def test_half_a_line_counts_once_it_is_whole(tmp_path: Path) -> None:
    simulated = Simulated(ranks=1, nodes=1, steps=5)
    run = simulated.write(tmp_path / "run")
    reader = RunReader(run)
    reader.refresh()
    line = simulated.lines(0, 6, 6)[0]
    append(run, 0, line[:100])
    reader.refresh()
    assert reader.ranks[0].state.step == 5
    append(run, 0, line[100:])
    reader.refresh()
    assert (reader.ranks[0].state.step, reader.ranks[0].state.bad) == (6, 0)


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    simulated = Simulated(ranks=1, nodes=1, steps=50)
    run = simulated.write(tmp_path / "run")
    reader = RunReader(run)
    reader.refresh()
    path = events_path(run, 0)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    thinned = json.dumps({"type": "thinned", "time": 1.0, "every": 2, "removed": 20, "before_step": 40}) + "\n"
    path.with_suffix(".new").write_text("".join([lines[0], *lines[2:40:2], *lines[40:], thinned]), encoding="utf-8")
    os.replace(path.with_suffix(".new"), path)
    reader.refresh()
    found = snapshot([reader])["runs"][0]
    assert found["reading"]["thinned"]
    assert found["step"] == 50
    assert found["data"]["counted"]["tokens"] < 50 * 8192


@pytest.mark.parametrize("apart", [0.0, 90.0, -90.0])
def test_a_silent_rank_is_dead_though_clocks_are_apart(tmp_path: Path, apart: float) -> None:
    simulated = Simulated(ranks=4, nodes=2, steps=30, silent={3: 120.0}, clock={1: apart})
    found = view(simulated.write(tmp_path / "run"))
    assert [rank["state"] for rank in found["ranks"]] == ["running", "running", "running", "dead"]
    assert found["status"]["state"] == "degraded"
    assert found["status"]["ranks"] == [3]
    kinds = [note["kind"] for note in found["reading"]["notes"]]
    assert ("clocks_apart" in kinds) == (apart != 0)


def test_ends_have_their_reason(tmp_path: Path) -> None:
    crashed = {"status": "crashed", "reason": "OutOfMemoryError: CUDA out of memory"}
    echo = {"status": "crashed", "reason": "RuntimeError: Connection closed by peer"}
    found = view(Simulated(ranks=2, nodes=1, end={0: echo, 1: crashed}).write(tmp_path / "a"))
    assert found["status"]["state"] == "crashed"
    assert found["status"]["reason"] == "rank 1: OutOfMemoryError: CUDA out of memory"
    done = {rank: {"status": "finished", "reason": None} for rank in range(2)}
    assert view(Simulated(ranks=2, nodes=1, end=done).write(tmp_path / "b"))["status"]["state"] == "finished"
    stall = {
        "type": "stall",
        "step": 100,
        "waited": 60.0,
        "limit": 50.0,
        "message": "rank 1 in forward",
        "action": "report",
    }
    stall["missing"] = [{"rank": 1, "host": "node-00", "phase": "forward", "step": 100, "since": 60.0, "frozen": False}]
    found = view(Simulated(ranks=2, nodes=1, steps=100, extra={0: [stall]}).write(tmp_path / "c"))
    assert (found["status"]["state"], found["status"]["ranks"]) == ("stalled", [1])
    assert found["alerts"][0]["kind"] == "stall"


def test_a_death_without_a_word_is_named_before_its_echo(tmp_path: Path) -> None:
    echo = {"status": "crashed", "reason": "RuntimeError: Connection closed by peer"}
    run = Simulated(ranks=2, nodes=1, end={0: echo}, silent={1: 60.0}).write(tmp_path / "run")
    assert view(run)["status"]["reason"].startswith("rank 1 (node-00) ended without a word")


def test_a_slow_rank_is_named_with_its_phase(tmp_path: Path) -> None:
    found = view(Simulated(ranks=8, nodes=2, steps=20, slow_rank=6).write(tmp_path / "run"))
    assert (found["slowest"][0]["rank"], found["slowest"][0]["phase"]) == (6, "forward")
    assert found["slowest"][0]["excess"] > 3 * max(row["excess"] for row in found["slowest"][1:])


def test_folders_that_are_empty_or_foreign(tmp_path: Path) -> None:
    found = view(tmp_path)
    assert found["status"]["state"] == "empty"
    assert {"kind": "no_run"} in found["reading"]["notes"]
    simulated = Simulated(ranks=1, nodes=1, steps=5)
    run = simulated.write(tmp_path / "new")
    path = events_path(run, 0)
    text = path.read_text("utf-8")
    path.write_text(text.replace('"schema": 1', '"schema": 99'), encoding="utf-8")
    assert view(run)["reading"]["notes"][0]["versions"] == [99]
    path.write_text("".join(text.splitlines(keepends=True)[1:]), encoding="utf-8")
    heartbeat_path(run, 0).unlink()
    found = view(run)
    assert {"kind": "no_start"} in found["reading"]["notes"]
    assert found["step"] == 5
    assert found["status"]["state"] == "unknown"


def test_prometheus_has_every_number_of_the_node_under_its_name(tmp_path: Path) -> None:
    simulated = Simulated(ranks=4, nodes=2, steps=10)
    run = RunReader(simulated.write(tmp_path / 'ru"n'))
    run.finish()
    text = exposition([run], "node-01")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert {rank for rank in range(4) if f'rank="{rank}"' in text} == {2, 3}
    event = json.loads(simulated.lines(2, 10, 10)[0])
    assert len(numbers(event)) > 30
    for name, value in numbers(event).items():
        row = f'{metric_name(name)}{{run="ru\\"n",host="node-01",rank="2"}} {value!r}'
        assert row in lines
    assert set(numbers(event)) <= set(NAMES)


def test_the_command_prints_json_file_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = {rank: {"status": "finished"} for rank in range(2)}
    run = str(Simulated(ranks=2, nodes=1, steps=30, end=done).write(tmp_path / "run"))
    assert watch.main([run, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1
    assert found["runs"][0]["step"] == 30
    assert watch.main([run, "--once", "--lang", "zh"]) == 0
    assert "已完成" in capsys.readouterr().out
    assert watch.main([run]) == 0  # no terminal
    assert "node-00" in capsys.readouterr().out
    assert watch.main([run, "--html", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!doctype html>")
    crashed = {0: {"status": "crashed", "reason": "x"}}
    broken = str(Simulated(ranks=1, nodes=1, steps=3, end=crashed).write(tmp_path / "broken"))
    assert watch.main([run, broken, "--json"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no run folder"),
        (["nowhere"], "no such run folder"),
        ([".", "--once", "--web"], "exclude each other"),
        ([".", "--port", "1"], "does nothing without --web"),
        ([".", "--node", "a", "--token", "b"], "2 mistakes"),
        ([".", "--html", "no/such/folder/page.html"], "cannot write the page"),
    ],
)
def test_mistakes(words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        watch.main(words)


def planned(folder: Path, content: Any) -> float | None:
    """The plan's line in the memory picture, with this plan.json in the run folder."""
    (folder / "plan.json").write_text(json.dumps(content, default=str), encoding="utf-8")
    found: float | None = view(folder)["memory"]["planned"]
    return found


def test_the_plan_is_the_line_of_the_memory_picture(tmp_path: Path) -> None:
    """From the run event, or from the planner's candidate in the run folder; never a foreign number."""
    run = Simulated(ranks=1, nodes=1, steps=20).write(tmp_path / "planned")
    assert view(run)["memory"]["planned"] == 70 * 2**30
    run = Simulated(ranks=1, nodes=1, steps=20, planned_memory=None).write(tmp_path / "run")
    assert view(run)["memory"]["planned"] is None
    made = candidate()
    assert planned(run, candidate_json(made)) == made.memory.allocated > 2**30
    assert planned(run, {"candidates": [candidate_json(made)]}) == made.memory.allocated
    foreign: list[Any] = [[], {"candidates": []}, {"candidates": [3]}, {"memory": {"allocated": "much"}}, {"memory": 7}]
    for content in foreign:
        assert planned(run, content) is None


@pytest.mark.slow
def test_the_plan_that_the_command_prints_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Simulated(ranks=1, nodes=1, steps=20, planned_memory=None).write(tmp_path / "run")
    flags = ["--model_name_or_path", "tiny", "--cluster", "1x1xH100-80G", "--block_size", "512", "--json"]
    assert plan.main(flags) == 0
    answer = json.loads(capsys.readouterr().out)
    assert planned(run, answer) == answer["candidates"][0]["memory"]["allocated"] > 2**20


def test_a_stall_limit_is_shown(tmp_path: Path) -> None:
    run = Simulated(ranks=2, nodes=1, steps=20, seconds=1.5).write(tmp_path / "run")
    assert view(run)["stall_after"] == 8
