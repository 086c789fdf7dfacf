"""Rules that turn events of one rank into alerts, each said once while its condition lasts.

    loss_not_finite, loss_zero     at a logged step
    loss_spike        above the median of the last 50 logged losses by 6 times their median deviation and by 10 %
    no_progress       the median of the last 100 logged losses is not below that of the 100 before, twice in a row
    memory_full       more than 95 % of the device is used
    memory_growing    memory allocated at the end of the step grew in each of 12 samples in a row, by 5 % in all
    throughput_drop   the median of 10 steps takes 1.5 times as long as the fastest median so far
    communication_exposed   compute leaves more than the limit of a window uncovered
    gpu_hot, gpu_throttled, gpu_ecc   from NVML: within 3 degrees of its limit; thermal or hardware slow-down; new
                      uncorrected errors

Pure arithmetic on events; a few microseconds a step.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

MEMORY_SHARE = 0.95
SPIKE_WINDOW, SPIKE_LEAST = 50, 20
PLATEAU = 100
GROWING_SAMPLES, GROWING_SHARE = 12, 1.05
SPEED_STEPS, SLOWER = 10, 1.5
DEGREES = 3.0
BAD_THROTTLE = {"thermal", "hardware", "power_brake"}
CRITICAL = {"loss_not_finite", "memory_full", "gpu_ecc"}


class AlertRules:
    """The rules of one rank's event stream.

    Args:
        rank, host: whom the alerts name.
        exposed_limit: share of a window that exposed communication may take.
        whole_run: also judge loss and throughput, which are the same on all ranks; rank 0 does.
    """

    def __init__(self, rank: int, host: str, exposed_limit: float = 0.25, whole_run: bool = True) -> None:
        self.rank, self.host, self.exposed_limit, self.whole_run = rank, host, exposed_limit, whole_run
        self._standing: set[str] = set()
        self._losses: deque[float] = deque(maxlen=2 * PLATEAU)
        self._since_plateau = 0
        self._plateaus = 0
        self._seconds: deque[float] = deque(maxlen=SPEED_STEPS)
        self._best: float | None = None
        self._allocated: deque[float] = deque(maxlen=GROWING_SAMPLES)
        self._ecc: float | None = None

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Judge one event; returns the alerts that begin with it, as `schema.AlertEvent` without time."""
        found: list[dict[str, Any]] = []
        if event.get("type") == "step":
            checks = [*self._memory(event), *self._gpu(event)]
            if self.whole_run:
                checks += [*self._loss(event), *self._speed(event)]
        elif event.get("type") == "comm_window":
            checks = list(self._window(event))
        else:
            return found
        for kind, holds, value, limit, message in checks:
            if not holds:
                self._standing.discard(kind)
            elif kind not in self._standing:
                self._standing.add(kind)
                found.append(self._alert(event, kind, value, limit, message))
        return found

    def _alert(
        self, event: Mapping[str, Any], kind: str, value: float | None, limit: float | None, message: str
    ) -> dict[str, Any]:
        severity = "critical" if kind in CRITICAL else "warning"
        place = {"step": event.get("step", 0), "rank": self.rank, "host": self.host}
        return {
            "type": "alert", "kind": kind, "severity": severity, **place, "message": message,
            "value": value, "limit": limit,
        }  # fmt: skip

    def _loss(self, event: Mapping[str, Any]) -> Iterator[tuple[str, bool, float | None, float | None, str]]:
        if event.get("loss") is None:
            return
        loss, step = _number(event["loss"]), event.get("step")
        finite = math.isfinite(loss)
        yield "loss_not_finite", not finite, None, None, f"the loss of step {step} is not finite"
        if not finite:
            return
        message = f"the loss of step {step} is exactly 0: no targets, or a broken label mask"
        yield "loss_zero", loss == 0, loss, 0.0, message
        recent = list(self._losses)[-SPIKE_WINDOW:]
        if len(recent) >= SPIKE_LEAST:
            middle = median(recent)
            spread = median(abs(value - middle) for value in recent)
            limit = middle + max(6 * spread, 0.1 * abs(middle))
            message = f"loss {loss:.4f} at step {step}, the median was {middle:.4f}"
            yield "loss_spike", loss > limit, loss, limit, message
        self._losses.append(loss)
        self._since_plateau += 1
        if len(self._losses) == 2 * PLATEAU and self._since_plateau >= PLATEAU:
            self._since_plateau = 0
            older, newer = list(self._losses)[:PLATEAU], list(self._losses)[PLATEAU:]
            self._plateaus = self._plateaus + 1 if median(newer) >= median(older) else 0
            message = f"the loss has not fallen in the last {2 * PLATEAU} logged steps (median {median(newer):.4f})"
            yield "no_progress", self._plateaus > 1, median(newer), median(older), message

    def _speed(self, event: Mapping[str, Any]) -> Iterator[tuple[str, bool, float | None, float | None, str]]:
        phases = event.get("phases") or {}
        seconds = event.get("seconds")
        if not isinstance(seconds, int | float):
            return
        # A checkpoint or an evaluation between two steps is not slowness.
        aside = sum(float(phases.get(name) or 0) for name in ("checkpoint", "evaluation"))
        self._seconds.append(float(seconds) - aside)
        if len(self._seconds) < SPEED_STEPS:
            return
        now = median(self._seconds)
        if self._best is not None and self._best > 0:
            message = f"a step takes {now:.3g} s, it took {self._best:.3g} s: throughput is down by a third or more"
            yield "throughput_drop", now >= SLOWER * self._best, now, SLOWER * self._best, message
        self._best = now if self._best is None else min(self._best, now)

    def _memory(self, event: Mapping[str, Any]) -> Iterator[tuple[str, bool, float | None, float | None, str]]:
        memory = event.get("memory")
        if not isinstance(memory, Mapping):
            return
        used, total = memory.get("device_used"), memory.get("device_total")
        if used is not None and total:
            share = used / total
            message = f"GPU memory is {share:.1%} full ({used / 2**30:.1f} of {total / 2**30:.1f} GiB)"
            yield "memory_full", share > MEMORY_SHARE, share, MEMORY_SHARE, message
        if memory.get("allocated") is not None:
            self._allocated.append(float(memory["allocated"]))
            values = list(self._allocated)
            full = len(values) == GROWING_SAMPLES
            grew = full and all(a < b for a, b in itertools.pairwise(values))
            grew = grew and values[-1] > GROWING_SHARE * values[0]
            message = f"memory grew in each of {GROWING_SAMPLES} samples, to {values[-1] / 2**30:.2f} GiB"
            yield "memory_growing", grew, values[-1], values[0], message

    def _gpu(self, event: Mapping[str, Any]) -> Iterator[tuple[str, bool, float | None, float | None, str]]:
        gpu = event.get("gpu")
        if not isinstance(gpu, Mapping):
            return
        heat, limit = gpu.get("temperature"), gpu.get("temperature_limit")
        if heat is not None and limit is not None:
            message = f"the GPU is at {heat:.0f} degrees Celsius, it slows down at {limit:.0f}"
            yield "gpu_hot", heat >= limit - DEGREES, heat, limit - DEGREES, message
        bad = sorted(BAD_THROTTLE.intersection(gpu.get("throttle") or []))
        yield "gpu_throttled", bool(bad), None, None, f"the GPU is slowed down: {', '.join(bad)}"
        errors = gpu.get("ecc_uncorrected")
        if errors is not None:
            before, self._ecc = self._ecc, float(errors)
            more = before is not None and errors > before
            yield "gpu_ecc", more, float(errors), before, f"the GPU has had {errors} uncorrected memory errors"

    def _window(self, event: Mapping[str, Any]) -> Iterator[tuple[str, bool, float | None, float | None, str]]:
        seconds, exposed = float(event.get("seconds") or 0), float(event.get("exposed_us") or 0) / 1e6
        if seconds > 0:
            share = exposed / seconds
            message = f"communication that compute does not cover takes {share:.0%} of the step"
            yield "communication_exposed", share > self.exposed_limit, share, self.exposed_limit, message


def _number(value: Any) -> float:
    """A number, or what stands for one that is not finite ("nan", "inf") in an event file."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
