"""Short profiler windows: exact communication figures every K steps, without stopping the training.

All ranks record the same step (numbers decide, nothing is communicated): one step of warming up, one recorded. Two
windows come early in a run, so that a slow rank is known soon. The
recorded step begins on an idle device: the only synchronisation that the monitor ever makes. The
trace goes to a temporary file and is analysed by a process of its own (`medscroll.monitor.window_worker`), whose
figures come back seconds later. Price: one step in K is slower by the profiler
(measured by benchmarks/monitor_cost.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import medscroll
from medscroll.engine.phases import PhaseClock
from medscroll.engine.topology import Topology

EARLY = (4, 8)  # steps after which the first two windows begin, so that a slow rank is named within 20
PATIENCE = 90.0  # seconds for the analysis


class Windows:
    """Records and analyses windows.

    Args:
        every: steps from one window to the next; 0 records none.
        run_folder, place: where the collectives go.
        on_gpu: record kernels.
        clock: names the phases in the trace.
    """

    def __init__(self, every: int, run_folder: Path, place: Topology, *, on_gpu: bool, clock: PhaseClock) -> None:
        self.every, self.run_folder, self.rank, self.world_size = every, run_folder, place.rank, place.world_size
        self.on_gpu, self.clock = on_gpu, clock
        self.problem = ""
        self._profiler: Any = None
        self._first_step = 0
        warnings.filterwarnings("ignore", message=".*Profiler clears events")  # there is one cycle
        self._jobs: list[tuple[subprocess.Popen[str], dict[str, Any], float]] = []
        self._steps_here = 0

    @property
    def open(self) -> bool:
        """Whether a window, or its warming up, is under way: step times are not the usual ones."""
        return self._profiler is not None

    def step_end(self, step: int, seconds: float) -> None:
        """Called when step `step` has ended after `seconds`."""
        self._steps_here += 1
        try:
            if self._profiler is not None:
                self._advance(step, seconds)
            elif self._due(step):
                self._start(step)
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            self._abandon(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")

    def _due(self, step: int) -> bool:
        if self.every <= 0 or self.problem:
            return False
        return self._steps_here in EARLY or (step % self.every == 0 and self._steps_here > EARLY[-1] + 2)

    def _start(self, step: int) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.on_gpu:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._first_step = step + 2
        self._profiler = torch.profiler.profile(
            activities=activities, schedule=torch.profiler.schedule(wait=0, warmup=1, active=1, repeat=1)
        )
        self._profiler.start()

    def _advance(self, step: int, seconds: float) -> None:
        recorded = step >= self._first_step
        if recorded:
            self.clock.annotate_phases(False)
        elif self.on_gpu:
            torch.cuda.synchronize()  # what the step before still runs would be counted to the recorded one
        self._profiler.step()
        if not recorded:
            self.clock.annotate_phases(True)
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        handle, name = tempfile.mkstemp(prefix="medscroll-window-", suffix=".json")
        os.close(handle)
        profiler.export_chrome_trace(name)
        figures = {"step": step, "first_step": self._first_step, "steps": step - self._first_step + 1}
        place = [str(self.run_folder), str(self._first_step), str(self.rank), str(self.world_size)]
        path = os.pathsep.join(filter(None, (str(Path(medscroll.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        job = subprocess.Popen(
            [sys.executable, "-m", "medscroll.monitor.window_worker", name, *place],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self._jobs.append((job, {**figures, "seconds": seconds}, time.monotonic()))

    def _abandon(self, reason: str) -> None:
        self.problem, self._profiler = reason, None
        self.clock.annotate_phases(False)
        print(f"NOTE: rank {self.rank} takes no more communication windows ({reason})", file=sys.stderr, flush=True)

    def results(self, wait: float = 0.0) -> list[dict[str, Any]]:
        """`comm_window` events whose analysis is done; waits up to `wait` seconds for those that are not."""
        found, left = [], []
        deadline = time.monotonic() + wait
        for job, figures, began in self._jobs:
            while job.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            if job.poll() is None:
                if wait or time.monotonic() - began > PATIENCE:
                    job.kill()
                    job.communicate()
                else:
                    left.append((job, figures, began))
                continue
            output, errors = job.communicate()
            if job.returncode == 0:
                found.append({"type": "comm_window", **figures, **json.loads(output)})
            elif not self.problem:
                self.problem = (errors.strip().splitlines() or ["no output"])[-1]
                print(f"NOTE: a communication window was not analysed: {self.problem}", file=sys.stderr, flush=True)
        self._jobs = left
        return found

    def close(self) -> None:
        """Stop a window that is under way."""
        if self._profiler is not None:
            profiler, self._profiler = self._profiler, None
            self.clock.annotate_phases(False)
            profiler.stop()
