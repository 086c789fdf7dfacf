"""What the lines of one rank's event file add up to: curves, last values, recent steps, alerts, its start and its end.

Lines are fed in the order of the file. Bad ones are counted; unknown types and fields are skipped, as the schema says.
Cost: about 15 us a line that is parsed, under 1 MB a rank.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from medscroll.monitor.numbers import finite, number, numbers, window_numbers
from medscroll.monitor.schema import PHASES, SCHEMA_VERSION
from medscroll.monitor.series import Series

RECENT, LISTED = 48, 200
STEP_LINE = b'{"type": "step"'
MEASURED = b'"memory"'


class RecentStep(NamedTuple):
    """A step as the timeline draws it: `phases` and `waits` in seconds, in the order of `PHASES`."""

    step: int
    time: float
    seconds: float
    phases: tuple[float, ...]
    waits: tuple[float, ...]


class RankState:
    """The sum of a rank's events; see the attributes.

    Attributes:
        series: curves.
        latest: name -> last number.
        run, end: the last start, and the end that followed it, if any.
        recent: the newest steps.
        alerts, stalls, checkpoints, evaluations: the newest of each.
        window: the last profiler window; throttle: why the GPU was slowed down at the last sample.
        bad: lines that are no event; sampled: whether lines were left out of the curves.
        thinned: what the last `thinned` event said.
    """

    def __init__(self, buckets: int = 256) -> None:
        self.series = Series(buckets)
        self.latest: dict[str, float] = {}
        self.run: dict[str, Any] = {}
        self.end: dict[str, Any] | None = None
        self.recent: deque[RecentStep] = deque(maxlen=RECENT)
        self.alerts: deque[dict[str, Any]] = deque(maxlen=LISTED)
        self.stalls: deque[dict[str, Any]] = deque(maxlen=LISTED)
        self.checkpoints: deque[dict[str, Any]] = deque(maxlen=LISTED)
        self.evaluations: deque[dict[str, Any]] = deque(maxlen=LISTED)
        self.window: dict[str, Any] | None = None
        self.throttle: list[str] = []
        self.thinned: dict[str, Any] | None = None
        self.starts = self.bad = self.lines = self.step = 0
        self.time = 0.0
        self.sampled = False

    def feed(self, line: bytes) -> None:
        """Take one line."""
        if not line.strip():
            return
        self.lines += 1
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            self.bad += 1
            return
        kind = event.get("type") if isinstance(event, dict) else None
        if not isinstance(kind, str):
            self.bad += 1
            return
        self.time = finite(event.get("time")) or self.time
        take = getattr(self, f"_take_{kind}", None) if kind.isidentifier() else None
        if take is not None:
            take(event)

    def feed_some(self, lines: Sequence[bytes], samples: int = 4) -> None:
        """Take every event that is no step, and about `samples` steps, of them as many with memory as there are."""
        wanted: set[int] = set()
        if len(lines) > 2 * samples:
            for at in range(0, len(lines), -(-len(lines) // samples)):
                wanted.add(at)
                found = (other for other in range(at, min(at + 300, len(lines))) if MEASURED in lines[other])
                wanted.add(next(found, at))
        else:
            wanted.update(range(len(lines)))
        for at, line in enumerate(lines):
            if at in wanted or not line.startswith(STEP_LINE):
                self.feed(line)
            else:
                self.lines, self.sampled = self.lines + 1, True

    def _take_step(self, event: dict[str, Any]) -> None:
        step = event.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            self.bad += 1
            return
        found = numbers(event)
        self.series.add(step, found)
        self.latest.update(found)
        self.step = step
        phases, waits = event.get("phases"), event.get("waits")
        if isinstance(phases, dict) and "seconds" in found:
            while self.recent and self.recent[-1].step >= step:
                self.recent.pop()
            times = tuple(finite(phases.get(phase)) or 0.0 for phase in PHASES)
            waited = waits if isinstance(waits, dict) else {}
            rest = tuple(finite(waited.get(phase)) or 0.0 for phase in PHASES)
            self.recent.append(RecentStep(step, self.time, found["seconds"], times, rest))
        gpu = event.get("gpu")
        if isinstance(gpu, dict):
            reasons = gpu.get("throttle")
            self.throttle = [str(reason) for reason in reasons] if isinstance(reasons, list) else []

    def _take_run(self, event: dict[str, Any]) -> None:
        self.run, self.end = event, None
        self.starts += 1
        first = event.get("first_step")
        if isinstance(first, int) and first < self.series.last_step:
            self.series.forget(first + 1)
            self.recent.clear()
            self.step = first

    def _take_end(self, event: dict[str, Any]) -> None:
        self.end = event

    def _take_alert(self, event: dict[str, Any]) -> None:
        self.alerts.append(event)

    def _take_stall(self, event: dict[str, Any]) -> None:
        self.stalls.append(event)

    def _take_checkpoint(self, event: dict[str, Any]) -> None:
        self.checkpoints.append(event)

    def _take_evaluation(self, event: dict[str, Any]) -> None:
        self.evaluations.append(event)

    def _take_thinned(self, event: dict[str, Any]) -> None:
        self.thinned = event

    def _take_comm_window(self, event: dict[str, Any]) -> None:
        self.window = event
        found = window_numbers(event)
        self.latest.update(found)
        step = event.get("step")
        if isinstance(step, int):
            self.series.merge_in(step, found)

    @property
    def foreign_schema(self) -> int | None:
        """The version of the schema that the run was written with, where it is not ours."""
        version = number(self.run.get("schema"))
        return int(version) if version is not None and int(version) != SCHEMA_VERSION else None
