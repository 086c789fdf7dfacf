"""Where the time of a step goes: data, forward, backward, optimizer, checkpoint, evaluation, other.

The Trainer marks the borders; each mark closes the phase before it. On a CPU a mark is a reading of the clock. On a
GPU it is a CUDA event on the current stream besides, read when the device has passed it, one or more steps later: no
synchronisation is added, and a phase that the GPU does not notice (data that arrive in time) takes no time. Under
DeepSpeed the backward call also steps; the border is torch's own hook before the inner optimizer's first step.

Price: some 10 marks a micro step, under 10 us each.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from medscroll.monitor.schema import PHASES
from medscroll.monitor.trace import PHASE_ANNOTATION


@dataclass
class StepTime:
    """The marks of one step: phase begun, host time, CUDA event or None; the last closes the step."""

    marks: list[tuple[str, float, Any]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether the device has passed the last mark."""
        event = self.marks[-1][2]
        return event is None or bool(event.query())

    @property
    def seconds(self) -> float:
        """Wall time on the host."""
        return self.marks[-1][1] - self.marks[0][1]

    def phases(self, on_host: bool = False) -> dict[str, float]:
        """Seconds a phase; only where `ready`, or `on_host`."""
        found = dict.fromkeys(PHASES, 0.0)
        for (phase, began, first), (_, ended, last) in zip(self.marks, self.marks[1:], strict=False):
            by_host = on_host or first is None or last is None
            found[phase] += ended - began if by_host else first.elapsed_time(last) / 1e3
        return found


class PhaseClock:
    """Marks of the step under way.

    Args:
        on_gpu: take CUDA events as well.
    """

    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu = on_gpu
        self.phase, self.changed = "start", time.monotonic()
        self.slack = 0.0  # seconds that the step under way may take longer than steps do
        self.steps: deque[float] = deque(maxlen=64)  # seconds of the last steps
        self._annotate = False
        self._annotation: Any = None
        self._current = StepTime()
        self._hook = register_optimizer_step_pre_hook(self._before_optimizer)

    def _before_optimizer(self, *_: Any) -> None:
        if self.phase == "backward":
            self.mark("optimizer")

    def mark(self, phase: str) -> str:
        """Begin a phase; returns the one that it ended."""
        before = self.phase
        event = None
        if self.on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        self._current.marks.append((phase, time.perf_counter(), event))
        self.phase, self.changed = phase, time.monotonic()
        if self._annotate:
            self._name(phase)
        return before

    def annotate_phases(self, on: bool) -> None:
        """Also name the phases in a profiler's trace, or no more."""
        self._annotate = on
        self._name(self.phase)

    def _name(self, phase: str) -> None:
        if self._annotation is not None:
            self._annotation.__exit__(None, None, None)
            self._annotation = None
        if self._annotate:
            self._annotation = torch.profiler.record_function(f"{PHASE_ANNOTATION}{phase}")
            self._annotation.__enter__()

    def close_step(self) -> StepTime:
        """End the step and begin the next in phase `other`; the result's phases are read later."""
        self.mark("other")
        closed = self._current
        self._current = StepTime([closed.marks[-1]])
        self.steps.append(closed.seconds)
        return closed

    def begin(self) -> None:
        """Forget what was before the first step."""
        self._current = StepTime()
        self.mark("other")

    @property
    def median_step(self) -> float | None:
        """Median seconds of the last steps; None before the third."""
        steps = sorted(self.steps)
        return steps[len(steps) // 2] if len(steps) > 2 else None

    def close(self) -> None:
        """Remove the hook."""
        self._hook.remove()
        self.annotate_phases(False)
