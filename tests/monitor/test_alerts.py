"""Each rule fires when its condition begins, once while it lasts, and not without it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from medscroll.monitor.alerts import AlertRules


def kinds(events: list[dict[str, Any]], **options: Any) -> list[tuple[str, int]]:
    rules = AlertRules(3, "host", **options)
    return [(alert["kind"], alert["step"]) for event in events for alert in rules.feed(event)]


def steps(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"type": "step", "step": step, "seconds": 1.0, **fields} for step in range(1, count + 1)]


def falling(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    events = steps(count)
    for number, event in enumerate(events):
        event["loss"] = 3 + 5 / (1 + number / 50) + draw.gauss(0, 0.03)
    return events


def test_a_run_that_goes_well_says_nothing() -> None:
    events = falling(1000)
    for event in events:
        event |= {"memory": {"allocated": 5, "device_used": 90, "device_total": 100}}
        gpu = {"temperature": 60.0, "temperature_limit": 87.0, "throttle": ["power_cap"], "ecc_uncorrected": 2}
        event["gpu"] = gpu
    assert kinds(events) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "-inf"])
def test_a_loss_that_is_not_finite_is_said_once_while_it_lasts(value: Any) -> None:
    events = falling(60)
    for step in (30, 31, 32, 50):
        events[step - 1]["loss"] = value
    assert kinds(events) == [("loss_not_finite", 30), ("loss_not_finite", 50)]
    assert kinds(events, whole_run=False) == []


def test_loss_of_zero_and_spike() -> None:
    events = falling(100)
    events[39]["loss"] = 0.0
    events[79]["loss"] *= 1.6
    assert kinds(events) == [("loss_zero", 40), ("loss_spike", 80)]


def test_no_progress() -> None:
    events = steps(700)
    for number, event in enumerate(events):
        event["loss"] = max(4.0, 8 - number / 20) + (number % 7) / 100
    found = kinds(events)
    assert [kind for kind, _ in found] == ["no_progress"]
    assert 300 <= found[0][1] <= 500


def test_throughput_that_falls_by_a_third() -> None:
    events = steps(60)
    for event in events[30:]:
        event["seconds"] = 1.6
    events[10] |= {"seconds": 100.0, "phases": {"checkpoint": 99.0}}
    assert [kind for kind, _ in kinds(events)] == ["throughput_drop"]
    for event in events[30:]:
        event["seconds"] = 1.4
    assert kinds(events) == []


def test_memory() -> None:
    full = steps(3, memory={"device_used": 96, "device_total": 100})
    rules = AlertRules(3, "host")
    (alert,) = rules.feed(full[0])
    assert (alert["kind"], alert["severity"], alert["rank"], alert["host"]) == ("memory_full", "critical", 3, "host")
    assert rules.feed(full[1]) == []
    growing = steps(40)
    for number, event in enumerate(growing):
        event["memory"] = {"allocated": 2**30 * (1 + number / 100)}
    assert [kind for kind, _ in kinds(growing)] == ["memory_growing"]
    for number, event in enumerate(growing):
        event["memory"] = {"allocated": 2**30 * (1 + number % 10)}
    assert kinds(growing) == []


def test_the_gpu() -> None:
    hot = steps(3, gpu={"temperature": 85.0, "temperature_limit": 87.0, "throttle": [], "ecc_uncorrected": None})
    assert kinds(hot) == [("gpu_hot", 1)]
    assert kinds(steps(2, gpu={"throttle": ["hardware", "power_cap"]})) == [("gpu_throttled", 1)]
    errors = steps(4)
    for event, count in zip(errors, (5, 5, 6, 6), strict=True):
        event["gpu"] = {"ecc_uncorrected": count}
    assert kinds(errors) == [("gpu_ecc", 3)]


def test_exposed_communication() -> None:
    window = {"type": "comm_window", "step": 10, "seconds": 2.0, "exposed_us": 0.6e6}
    assert kinds([window, window, {**window, "exposed_us": 1e5}, window]) == [("communication_exposed", 10)] * 2
    assert kinds([window], exposed_limit=0.35) == []
    assert kinds([{"type": "evaluation", "step": 1, "eval_loss": float("nan")}]) == []
