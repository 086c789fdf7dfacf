"""The monitor of one rank, as the Trainer sees it: marks of phases, events of steps, everything else beside it.

    training thread   marks phases, hands over the event of each step; some 80 us a step on a CPU
    monitor thread    once a second: heartbeat, samples, counted traffic, stalls (engine.watchman)
    event thread      writes lines (monitor.log)
    window worker     a process every K steps (engine.windows)

A step's event is written when the device has passed the step's last mark, so reading phases never waits; order is kept.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medscroll.engine.phases import PhaseClock, StepTime
from medscroll.engine.timeouts import least_timeout
from medscroll.engine.topology import Topology
from medscroll.engine.watchman import Watchman
from medscroll.engine.windows import Windows
from medscroll.errors import UserError
from medscroll.monitor.alerts import AlertRules
from medscroll.monitor.arrivals import ArrivalLog
from medscroll.monitor.log import EventWriter
from medscroll.monitor.numbers import numbers
from medscroll.monitor.probes import Probes
from medscroll.monitor.schema import SCHEMA_VERSION, stacks_path
from medscroll.monitor.stragglers import THRESHOLD, mean_phases, phase_scatter
from medscroll.monitor.traffic import TrafficCounter

SLOW_BY = 0.08  # lateness in two windows in a row, as a share of the step, that names a straggler
# The same where a GPU's kernels were seen: they scatter less; it must also be `THRESHOLD` of the phase.
SLOW_KERNELS = 0.02
EARLY_STEPS = 40  # steps after the start in which slow ranks are looked for more often
SETTLING = 3  # steps after the start that say nothing: kernels are compiled, memory is taken
WINDOW_SLACK = 60.0  # seconds that starting a profiler may take


@dataclass(frozen=True)
class MonitorSettings:
    """The flags of the monitor: `--monitor_window_every` and the rest."""

    window_every: int
    seconds: float
    stall_factor: float
    abort: bool
    exposed_limit: float
    timeout: float = 1800.0  # seconds, of collectives: --ddp_timeout
    overlapped: tuple[str, ...] = ()  # phases in which a CPU's collectives do not block: DDP's backward pass


class RunMonitor:
    """See the module.

    Args:
        settings: the flags.
        run_folder: the run's folder.
        place: this rank.
        device: what it computes on.
        events: its event log.
    """

    def __init__(
        self, settings: MonitorSettings, run_folder: Path, place: Topology, device: torch.device, events: EventWriter
    ) -> None:
        self.settings, self.run_folder, self.place = settings, run_folder.absolute(), place
        self.device, self.events = device, events
        self.on_gpu = device.type == "cuda"
        self.host = socket.gethostname()
        self.clock = PhaseClock(self.on_gpu)
        self.planned_memory: int | None = None  # bytes of a GPU's allocator by the plan; set before `begin`
        self.planned_traffic: dict[str, float] | None = None  # collective -> bytes of its tensors a step, by the plan
        uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", "")) if self.on_gpu else None
        self.probes = Probes(uuid or None)
        self.traffic = TrafficCounter()
        self.rules = AlertRules(place.rank, self.host, settings.exposed_limit, whole_run=place.is_main)
        self.windows = Windows(settings.window_every, self.run_folder, place, on_gpu=self.on_gpu, clock=self.clock)
        several = place.world_size > 1 and not self.on_gpu  # where the host itself waits in collectives
        self.arrivals = ArrivalLog(self.run_folder, place.rank, self.host, settings.overlapped) if several else None
        self._pending: deque[tuple[dict[str, Any], StepTime]] = deque()
        self._recent: deque[dict[str, Any]] = deque(maxlen=16)
        self._lock = threading.Lock()
        self._sample: dict[str, Any] = {}
        self._sampled = 0.0
        self._counted_step = self._settled = 0
        self._window: dict[str, Any] | None = None
        self._usual_at_window = 0.0
        self._late: set[tuple[int, str]] = set()
        self._watchman: Watchman | None = None
        self._ended = False

    def begin(self, step: int, max_steps: int, steps_per_epoch: int, peak: float | None, versions: Any) -> None:
        """Write the `run` event and start watching; `step` steps are done."""
        place, started = self.place, time.time()
        name = torch.cuda.get_device_name(self.device) if self.on_gpu else "CPU"
        memory = torch.cuda.get_device_properties(self.device).total_memory if self.on_gpu else None
        run = {
            "type": "run",
            "schema": SCHEMA_VERSION,
            "host": self.host,
            "rank": place.rank,
            "local_rank": place.local_rank,
            "world_size": place.world_size,
            "local_world_size": place.local_world_size,
            "node": node_index(place),
            "pid": os.getpid(),
            "versions": versions,
            "device": {"type": self.device.type, "index": self.device.index, "name": name, "memory": memory},
            "started": started,
            "first_step": step,
            "max_steps": max_steps,
            "steps_per_epoch": steps_per_epoch,
            "planned_memory": self.planned_memory,
            "planned_traffic": self.planned_traffic,
            "peak_flops": peak,
            "stall_factor": self.settings.stall_factor,
            "window_every": self.settings.window_every,
        }
        self.events.write(run)
        for note in self.probes.notes if place.local_rank == 0 else []:
            print(f"NOTE: {note}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            stacks_path(self.run_folder, place.rank).unlink(missing_ok=True)
        self._counted_step, self._settled = step, step + SETTLING
        self.traffic.read()  # what was communicated before belongs to no step
        if self.arrivals is not None:
            with contextlib.suppress(OSError):  # of a start before this one
                self.arrivals.path.unlink(missing_ok=True)
            self.traffic.hurry(True)
        self._watchman = Watchman(
            self.run_folder,
            place,
            self.host,
            self.clock,
            self.events,
            factor=self.settings.stall_factor,
            timeout=least_timeout(self.settings.timeout),
            abort=self.settings.abort,
            each_tick=self._tick,
            phases=self._phases,
            by_arrivals=self.arrivals is not None,
            settled=self._settled,
        )
        self._watchman.step = step
        self.clock.begin()
        self._watchman.start()

    # Training thread

    def step_end(self, step: int) -> StepTime:
        """Close the step that has just ended."""
        timing = self.clock.close_step()
        if self._watchman is not None:
            self._watchman.step = step
        if self.arrivals is not None:
            unix = time.time() - time.perf_counter()
            self.arrivals.step(step, [(phase, when + unix) for phase, when, _ in timing.marks])
        self.windows.step_end(step, timing.seconds)
        self.clock.slack = WINDOW_SLACK if self.windows.open else 0.0
        self.drain()
        return timing

    def emit(self, event: dict[str, Any], timing: StepTime) -> None:
        """Hand over the event of a step; it is written once its phases can be read."""
        event["time"], event["seconds"] = time.time(), timing.seconds
        with self._lock:
            event |= self._sample
            self._sample = {}
        device_memory = event.pop("device_memory", None)
        if device_memory is not None:
            event["memory"] = {**gpu_memory(self.device), **device_memory}
        self._pending.append((event, timing))
        self.drain()

    def drain(self, finish: bool = False) -> None:
        """Write the events whose marks the device has passed; with `finish` all of them, by the host's clock."""
        while self._pending:
            event, timing = self._pending[0]
            ready = timing.ready
            if not ready and not finish:
                return
            self._pending.popleft()
            phases = timing.phases(on_host=not ready)
            event["phases"] = {name: round(value, 6) for name, value in phases.items()}
            self.events.write(event)
            self._recent.append(event)
            self._alert(event)

    def reported(self) -> dict[str, float]:
        """This rank's newest numbers under the names of `medscroll.monitor.numbers`, for `--report_to`."""
        return {name: value for event in self._recent for name, value in numbers(event).items()}

    def checkpoint(self, step: int, seconds: float, path: str) -> None:
        """Note a checkpoint that this rank has finished."""
        self.events.write({"type": "checkpoint", "step": step, "seconds": seconds, "path": path})

    def _alert(self, event: dict[str, Any]) -> None:
        for alert in self.rules.feed(event):
            self.events.write(alert)
            print(f"ALERT {alert['kind']} (rank {self.place.rank}): {alert['message']}", file=sys.stderr, flush=True)

    # Monitor thread

    def _phases(self) -> tuple[dict[str, float], dict[str, float], int]:
        """Median seconds a phase over the last steps (not the first ones), their standard errors, how many steps."""
        recent = [event for event in list(self._recent) if event["step"] > self._settled]
        return mean_phases(recent), phase_scatter(recent), len(recent)

    def _tick(self) -> None:
        now = time.monotonic()
        for window in self.windows.results():
            self._take_window(window)
        found: dict[str, Any] = {}
        if now - self._sampled >= self.settings.seconds:
            self._sampled = now
            found |= self.probes.sample()
            if self.on_gpu:
                free, total = torch.cuda.mem_get_info(self.device)
                found["device_memory"] = {"device_used": total - free, "device_total": total}
        with self._lock:
            taken = "communication" not in self._sample  # what is not written yet must not be replaced
        if taken and self.traffic.due and self.place.world_size > 1:
            counted = self._communication()
            if counted is not None:
                found["communication"] = counted
        if found:
            with self._lock:
                self._sample |= found

    def _communication(self) -> dict[str, Any] | None:
        step = self._watchman.step if self._watchman is not None else 0
        if step <= self._counted_step:
            return None
        counted = self.traffic.read()
        if self.arrivals is not None:
            self.arrivals.arrive(counted.arrivals)
            self.arrivals.write(step)
            self.traffic.hurry(step - self._settled < EARLY_STEPS)
        steps, self._counted_step = step - self._counted_step, step
        entry = {"steps": steps, "coverage": round(counted.coverage, 4), "traffic": self.traffic.traffic(counted)}
        return {**entry, "estimate": True, **self._estimate()}

    def _estimate(self) -> dict[str, float | None]:
        """Communication per step now: the window's, and what steps have become longer by since is taken as exposed."""
        if self._window is None:
            return {"total_us": None, "exposed_us": None}
        steps = max(1, int(self._window["steps"]))
        total, exposed = self._window["total_us"] / steps, self._window["exposed_us"] / steps
        usual = self.clock.median_step or 0.0
        exposed = max(0.0, exposed + (usual - self._usual_at_window) * 1e6)
        return {"total_us": round(max(total, exposed), 1), "exposed_us": round(exposed, 1)}

    def _take_window(self, window: dict[str, Any]) -> None:
        late = window.pop("lateness_us", {})
        self.events.write(window)
        self._window, self._usual_at_window = window, self.clock.median_step or 0.0
        self._alert(window)
        before, self._late = self._late, set()
        if self.arrivals is not None:  # they tell the same of every step, and a single one says little on a busy CPU
            return
        kernels = window.get("basis") == "gpu"
        own: dict[str, float] = next(
            (event["phases"] for event in list(self._recent) if event["step"] == window["step"]), {}
        )
        for rank, phases in late.items():
            for phase, late_us in phases.items():
                share = late_us / 1e6 / max(window["seconds"], 1e-9)
                work = own.get(phase, 0.0) * 1e6 - (window.get("skew_phases") or {}).get(phase, 0.0)
                if share <= (SLOW_KERNELS if kernels else SLOW_BY) or (kernels and late_us <= THRESHOLD * work):
                    continue
                self._late.add((int(rank), phase))
                if (int(rank), phase) in before and self._watchman is not None:
                    message = f"rank {rank} came to the collectives of {phase} {late_us / 1e3:.1f} ms late"
                    self._watchman.window_straggler(int(rank), phase, share, f"{message}, {share:.0%} of the step")

    # The end

    def end(self, status: str, reason: str | None = None) -> None:
        """Write what is left and the `end` event; once."""
        if self._ended:
            return
        self._ended = True
        finished = status == "finished"
        with contextlib.suppress(RuntimeError):
            if self.on_gpu and finished:
                torch.cuda.synchronize(self.device)
            self.windows.close()
            self.drain(finish=True)
        watchman = self._watchman
        if watchman is not None:
            watchman.finish(status)
        for window in self.windows.results(wait=20.0 if finished else 0.01):
            self._take_window(window)
        event: dict[str, Any] = {"type": "end", "step": watchman.step if watchman else 0}
        with self._lock:
            left = self._sample.pop("communication", None)
        if left is not None:  # counted, but no step came to carry it
            event["communication"] = left
        elif finished and self.place.world_size > 1:
            event["communication"] = self._communication()
        self.events.write({**event, "status": status, "reason": reason})
        self.clock.close()
        self.events.flush()


def node_index(place: Topology) -> int:
    """Index of this rank's node, as the launcher numbers nodes."""
    for name in ("GROUP_RANK", "SLURM_NODEID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return place.rank // max(1, place.local_world_size)


def gpu_memory(device: torch.device) -> dict[str, Any]:
    """`schema.Memory` but for the device-wide figures: the allocator's counters, about 0.1 ms."""
    stats = torch.cuda.memory_stats(device)
    reserved = stats.get("reserved_bytes.all.current", 0)
    return {
        "allocated": stats.get("allocated_bytes.all.current", 0),
        "reserved": reserved,
        "peak": stats.get("allocated_bytes.all.peak", 0),
        "fragmentation": round(stats.get("inactive_split_bytes.all.current", 0) / reserved, 4) if reserved else 0.0,
        "alloc_retries": stats.get("num_alloc_retries", 0),
        "ooms": stats.get("num_ooms", 0),
    }


def piece_summary(plan: Any, blocks: list[int]) -> dict[str, Any] | None:
    """Number, least, median and greatest length of the pieces in some blocks of a plan; None without pieces."""
    offsets, lengths = plan.block_offsets, plan.piece_lengths
    parts = [lengths[offsets[block] : offsets[block + 1]] for block in blocks]
    found = np.concatenate(parts) if parts else np.empty(0)
    if not len(found):
        return None
    least, middle, greatest = np.percentile(found, [0, 50, 100])
    return {"count": len(found), "min": int(least), "median": float(middle), "max": int(greatest)}


@contextlib.contextmanager
def watched(monitor: RunMonitor | None) -> Iterator[None]:
    """Say in the run folder how the run ended: finished, stopped or crashed, with the reason."""
    try:
        yield
    except BaseException as error:
        if monitor is not None:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            monitor.end("stopped" if stopped else "crashed", reason_of(error))
        raise
    if monitor is not None:
        monitor.end("finished")


def reason_of(error: BaseException) -> str:
    """Type and first line of an error, at most 300 characters."""
    text = error.what if isinstance(error, UserError) else str(error)
    first = text.strip().splitlines()[0] if text.strip() else ""
    return f"{type(error).__name__}: {first}"[:300] if first else type(error).__name__
