"""Counting collectives from the flight recorder: exact while its ring holds them, extrapolated and marked beyond."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from medscroll.monitor import traffic
from medscroll.monitor.numbers import numbers
from tests import launch

RING = 40
SCRIPT = """
import json
import torch
import torch.distributed as dist
from medscroll.monitor.traffic import TrafficCounter
from medscroll.planning.process_group import leave

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
counter, small, large = TrafficCounter(), torch.ones(10), torch.ones(1000, dtype=torch.bfloat16)
counter.read()
for rounds in (10, 100):
    for _ in range(rounds):
        dist.all_reduce(small)
        dist.broadcast(large, 0)
        dist.all_reduce(small)
    counted = counter.read()
    print(json.dumps({"new": counted.new, "coverage": counted.coverage, "traffic": counter.traffic(counted)}))
leave()
"""


def test_a_real_ring_that_holds_all_and_one_that_was_overrun() -> None:
    """Twice as many all-reduces of 40 bytes as broadcasts of 2,000; the second reading finds 40 of 300 calls."""
    job = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=launch.environment(TORCH_FR_BUFFER_SIZE=str(RING)),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    exact, overrun = map(json.loads, job.stdout.splitlines())
    assert (exact["new"], exact["coverage"]) == (30, 1.0)
    assert {each["op"]: (each["calls"], each["bytes"]) for each in exact["traffic"]} == {
        "all_reduce": (20, 20 * 40),
        "broadcast": (10, 10 * 2000),
    }
    assert overrun["new"] == 300  # of all operations together the number stays exact
    assert overrun["coverage"] == pytest.approx(RING / 300)
    assert sum(each["calls"] for each in overrun["traffic"]) == pytest.approx(300, abs=1)
    for each in overrun["traffic"]:
        calls, size = (200, 40) if each["op"] == "all_reduce" else (100, 2000)
        assert each["calls"] == pytest.approx(calls, rel=0.1)
        assert each["bytes"] == pytest.approx(calls * size, rel=0.1)


def entry(number: int, group: str, name: str, elements: int) -> dict[str, Any]:
    """An entry as NCCL's recorder has it."""
    side = {"input_sizes": [[elements]], "input_dtypes": ["BFloat16"]}
    out = {"output_sizes": [[8 * elements]], "output_dtypes": ["BFloat16"]}
    return {"record_id": number, "process_group": (group, "x"), "profiling_name": f"nccl:{name}", **side, **out}


def test_what_is_extrapolated_is_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the ring to the figures of a display: a quarter of the calls read, all of the bytes shown."""
    ring: list[dict[str, Any]] = []
    monkeypatch.setattr(traffic, "read_recorder", lambda entries=True: [{"entries": ring}])
    counter = traffic.TrafficCounter()
    ring += [entry(number, "3", "_all_gather_base", 100) for number in range(100, 110)]
    ring += [entry(110, "3", "coalesced", 0)]
    counter.read()
    ring[:] = [entry(number, "3", "_all_gather_base", 100) for number in range(141, 151)]
    counted = counter.read()
    assert counted.coverage == 0.25
    assert counted.totals == {("3", "all_gather"): [40, 40 * 1600]}
    step = {"communication": {"steps": 4, "coverage": counted.coverage, "traffic": counter.traffic(counted)}}
    found = numbers(step)
    assert found["communication/calls"] == 10
    assert found["communication/bytes"] == 10 * 1600
    assert found["communication/coverage"] == 0.25


def test_nothing_new_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "read_recorder", lambda entries=True: [{"entries": [entry(0, "0", "allreduce", 1)]}])
    counter = traffic.TrafficCounter()
    assert counter.read().totals
    counted = counter.read()
    assert (counted.totals, counted.new, counted.coverage) == ({}, 0, 1.0)
