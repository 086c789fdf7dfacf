"""What the monitor costs on one GPU, told apart from the clock's drift: steps with and without it in alternation.

    python3 benchmarks/monitor_cost_gpu.py --seconds 110              yi-6b's shape, 8,192 tokens, one 80 GB GPU
    python3 benchmarks/monitor_cost_gpu.py --tiny --seconds 40        try the script itself on a CPU

One process, one model, one loop (forward, backward, AdamW; layers recomputed). Steps come in pairs, one without and one
with the monitor, in random order (seeded), so drift of temperature and clock cancels within a pair; each step begins
and ends on an idle device, so nothing of one step is counted to the other. Two monitors take turns being "on":

    between   threads, heartbeat, samples, counted traffic, phases, events; no window: the pairs' ratio is the cost
    window    a pair has three steps: warming up, recorded, and the one after, which pays for writing the trace; the sum
              of three steps with a window less three without is the price of a window in seconds

With a window every 200 steps (the default) a run pays `between + seconds of a window / (200 x step)`. The median of the
ratios is given with its standard error from a bootstrap, the mean of the middle 80 % as well, and what the monitor took
in the training thread (calls of `mark`, `step_end`, `emit` timed one by one): a figure without that noise.
A JSON line for each part and one at the end; the whole takes `--seconds` at most.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.monitor_cost import build, machine, training_step
from medscroll.engine.monitoring import MonitorSettings, RunMonitor, watched
from medscroll.engine.run_folder import EventLog
from medscroll.engine.topology import topology
from medscroll.monitor.traffic import enable_recorder

DEFAULT_EVERY = 200
RESERVE = 6.0  # seconds for the end
FEWEST = 3  # pairs, whatever the time


class Timed:
    """Calls of the monitor in the training thread, and what they took."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, call: Any, *arguments: Any) -> Any:
        began = time.perf_counter()
        result = call(*arguments)
        self.seconds += time.perf_counter() - began
        return result


class Loop:
    """A training loop that is monitored or not."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.model, self.optimizer = build(arguments, device)
        self.tokens = torch.randint(0, 4000, (1, arguments.tokens), device=device)
        self.count = 0
        self.calls = Timed()

    def monitor(self, name: str, every: int) -> RunMonitor:
        """A monitor under way."""
        settings = MonitorSettings(every, seconds=5.0, stall_factor=1e6, abort=False, exposed_limit=1.0)
        events = EventLog(self.folder / name, topology().rank)
        monitor = RunMonitor(settings, self.folder / name, topology(), self.device, events)
        monitor.begin(0, 10**6, 10**6, None, {})
        return monitor

    def wait(self) -> None:
        """Until the device is idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def steps(self, monitor: RunMonitor | None, number: int = 1) -> float:
        """Seconds of some steps from idle to idle."""
        if monitor is not None:
            monitor.clock.begin()  # the steps before were not its own
        self.wait()
        began = time.perf_counter()
        for _ in range(number):
            self.step(monitor)
        self.wait()
        return time.perf_counter() - began

    def step(self, monitor: RunMonitor | None) -> None:
        """One step, as the Trainer drives the monitor."""
        self.count += 1
        training_step(self, monitor, self.calls)


def summary(values: list[float]) -> dict[str, float]:
    """Median, its standard error by bootstrap, and the mean of the middle 80 %."""
    draw = random.Random(7)
    medians = [median(draw.choices(values, k=len(values))) for _ in range(400)]
    middle = fmean(medians)
    error = (sum((each - middle) ** 2 for each in medians) / len(medians)) ** 0.5
    cut = len(values) // 10
    inner = sorted(values)[cut : len(values) - cut]
    return {"median": median(values), "standard_error": error, "trimmed_mean": fmean(inner), "pairs": len(values)}


def pairs(loop: Loop, monitor: RunMonitor, number: int, until: float, seed: int) -> tuple[list[float], list[float]]:
    """Seconds without and with the monitor, `number` steps at a time, until the time is reached."""
    order = random.Random(seed)
    without: list[float] = []
    with_it: list[float] = []
    while time.perf_counter() < until or len(with_it) < FEWEST:
        measured_first = order.random() < 0.5
        for measured in (measured_first, not measured_first):
            (with_it if measured else without).append(loop.steps(monitor if measured else None, number))
    return without, with_it


def between(loop: Loop, began: float, until: float) -> tuple[float, dict[str, float]]:
    """Median seconds of a step without the monitor, and the ratio of the pairs."""
    monitor = loop.monitor("between", 0)
    loop.steps(monitor, 2)
    loop.calls.seconds = 0.0
    without, with_it = pairs(loop, monitor, 1, until, 1)
    in_thread = loop.calls.seconds / max(1, len(with_it))
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("medscroll-")]
    clocks = [time.pthread_getcpuclockid(thread.ident) for thread in threads if thread.ident is not None]
    share = sum(map(time.clock_gettime, clocks)) / (time.perf_counter() - began)
    usual = median(without)
    ratios = summary([second / first for first, second in zip(without, with_it, strict=True)])
    found = {"part": "between", "off_s": usual, "on_s": median(with_it), "ratio": ratios}
    found |= {"training_thread_s": in_thread, "training_thread_share": in_thread / usual}
    print(json.dumps({**found, "threads_share_of_a_core": share}), flush=True)
    with watched(monitor):
        pass
    return usual, ratios


def window(loop: Loop, until: float) -> dict[str, float]:
    """Seconds that a window costs: in each group of three steps one begins, is recorded, is written."""
    monitor = loop.monitor("window", 1)
    monitor.windows._steps_here = 100  # past the early windows
    first = loop.steps(monitor, 3)
    without, with_it = pairs(loop, monitor, 3, until, 2)
    price = summary([second - first for first, second in zip(without, with_it, strict=True)])
    line = {"part": "window", "first_s": first, "seconds_a_window": price, "problem": monitor.windows.problem}
    print(json.dumps(line), flush=True)
    with watched(monitor):
        pass
    return price


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["small", "yi-6b"], default="yi-6b")
    parser.add_argument("--layers", type=int, default=0, help="layers of the model; 0: all")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=110)
    parser.add_argument("--tiny", action="store_true", help="a small model")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.model, arguments.tokens = "small", 128
    began = time.perf_counter()
    enable_recorder()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory(prefix="medscroll-cost-") as name:
        loop = Loop(arguments, device, Path(name))
        loop.steps(None, 3)
        head = {**machine(device), "model": arguments.model, "tokens": arguments.tokens}
        ready = time.perf_counter()
        print(json.dumps({**head, "ready_s": round(ready - began, 1)}), flush=True)
        until = began + arguments.seconds - RESERVE
        usual, ratios = between(loop, ready, ready + 0.68 * (until - ready))
        price = window(loop, until)
    amortised = ratios["median"] - 1 + max(0.0, price["median"]) / (DEFAULT_EVERY * usual)
    error = (ratios["standard_error"] ** 2 + (price["standard_error"] / (DEFAULT_EVERY * usual)) ** 2) ** 0.5
    last = {**head, "between": ratios["median"] - 1, "between_error": ratios["standard_error"]}
    last |= {"with_window_at_200": amortised, "error": error, "took_s": round(time.perf_counter() - began, 1)}
    print(json.dumps(last), flush=True)


if __name__ == "__main__":
    main()
