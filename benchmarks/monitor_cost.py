"""What the monitor costs: the step time with and without it, in turn in one process.

    python benchmarks/monitor_cost.py                                           a small model on the CPU
    torchrun --nproc_per_node 2 benchmarks/monitor_cost.py                      the same, two ranks over gloo
    python benchmarks/monitor_cost.py --pairs 2000 --tokens 64                  the finest figure: step by step in turn
    python benchmarks/monitor_cost.py --model yi-6b --tokens 8192 --steps 8 --rounds 3 --seconds 70    one GPU, 80 GB

The loop does what a training step does (forward, backward, AdamW) on one row of random tokens. Segments of steps
alternate: monitor off, on, off, on, ...; "on" is `medscroll.engine.monitoring.RunMonitor` with its threads, heartbeat,
samples, counted traffic, marks and events, exactly as the Trainer drives it; one segment in four of those records
profiler windows at every other step. Reported: the median step of each kind over all segments, and their ratios to
"off"; a JSON line a round, the processor time of the monitor's threads, and a line at the end.
The first round's "off" comes before any profiler was started.

`--pairs N` measures instead N pairs of neighbouring steps, one off, one on, in changing order: a machine whose speed
drifts does so for both. Beside the clock it reads the processor time of the process, which other jobs on the machine
do not lengthen; of both ratios the median and its standard error (from the median deviation) are printed. What the
monitor does a step does not depend on the step, so short steps (`--tokens 64`) tell the added seconds most finely. What
its threads take runs on during "off" and is added from their own clocks; what its calls take in the training thread is
also given from that thread's clock, a figure without any noise of the training. Then N / 10 windows: three
steps (warming up, recorded, the one after) against three without, with the processor time of the analysing process.
A run with `--monitor_window_every K` pays (K - 1) times `on` and once `window`: `with_window` is that mean at K = 200.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medscroll.engine.monitoring import MonitorSettings, RunMonitor, watched
from medscroll.engine.run_folder import EventLog
from medscroll.engine.topology import topology
from medscroll.monitor.traffic import enable_recorder
from medscroll.planning.process_group import leave

SMALL = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4}
# Yi-6B's shape (config.json of 01-ai/Yi-6B)
YI_6B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
YI_6B |= {"num_key_value_heads": 4, "vocab_size": 64000}


def build(arguments: argparse.Namespace, device: torch.device) -> tuple[Any, Any]:
    """The model and its optimizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = dict(YI_6B) if arguments.model == "yi-6b" else {**SMALL, "num_key_value_heads": 4, "vocab_size": 4000}
    if arguments.layers:
        shape["num_hidden_layers"] = arguments.layers
    config = LlamaConfig(**shape, max_position_embeddings=max(4096, arguments.tokens), attn_implementation="sdpa")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with torch.device(device):
        previous = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(previous)
    if device.type == "cuda":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=device.type == "cuda")
    if dist.is_initialized():
        model = torch.nn.parallel.DistributedDataParallel(model)
    return model, optimizer


def training_step(bench: Any, monitor: RunMonitor | None, call: Any) -> None:
    """Step `bench.count` of `bench.model` over `bench.tokens`, which drives the monitor as the Trainer does.

    `call` makes every call of the monitor, so that it can take its time.
    """

    def mark(phase: str) -> None:
        if monitor is not None:
            call(monitor.clock.mark, phase)

    mark("data")
    mark("other")
    mark("forward")
    loss = bench.model(input_ids=bench.tokens, labels=bench.tokens, use_cache=False).loss
    mark("backward")
    loss.backward()
    mark("optimizer")
    bench.optimizer.step()
    bench.optimizer.zero_grad(set_to_none=True)
    timing = call(monitor.step_end, bench.count) if monitor is not None else None
    value = loss.item()
    if monitor is not None and timing is not None:
        size = bench.tokens.numel()
        event = {"type": "step", "step": bench.count, "blocks": [0], "fillers": 0, "tokens": size, "targets": size}
        call(monitor.emit, event | {"loss": value, "grad_norm": 1.0}, timing)


class Job:
    """A loop that is monitored or not."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device, folder: Path) -> None:
        self.model, self.optimizer = build(arguments, device)
        self.device = device
        self.tokens = torch.randint(0, 4000, (1, arguments.tokens), device=device)
        self.place = topology()
        self.folder = folder
        self.on = self.monitor("on", 0)
        self.window = self.monitor("window", 4)
        self.count = 0
        self.called = 0.0  # seconds of the training thread's processor time in the monitor's calls

    def call(self, function: Any, *arguments: Any) -> Any:
        """A call of the monitor by the training thread, timed."""
        began = time.thread_time()
        result = function(*arguments)
        self.called += time.thread_time() - began
        return result

    def monitor(self, name: str, every: int) -> RunMonitor:
        """A monitor with windows at each `every` steps; 0: none."""
        settings = MonitorSettings(every, seconds=5.0, stall_factor=1e6, abort=False, exposed_limit=1.0)
        events = EventLog(self.folder / name, self.place.rank)
        monitor = RunMonitor(settings, self.folder / name, self.place, self.device, events)
        monitor.begin(0, 10**6, 10**6, None, {})
        return monitor

    def step(self, monitor: RunMonitor | None) -> float:
        """One step; its seconds, from the loss of the step before to this one's: the Trainer reads each logged loss."""
        began = time.perf_counter()
        self.count += 1
        training_step(self, monitor, self.call)
        return time.perf_counter() - began


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["small", "yi-6b"], default="small")
    parser.add_argument("--layers", type=int, default=0, help="layers of the model; 0: all")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=40, help="steps of a segment")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of one segment of each kind")
    parser.add_argument("--pairs", type=int, default=0, help="measure pairs of steps instead of segments")
    parser.add_argument("--seconds", type=float, default=600, help="stop after the round that passes this time")
    parser.add_argument("--cpu", action="store_true")
    return parser.parse_args()


def run_pairs(job: Job, pairs: int) -> dict[str, Any]:
    """Pairs of neighbouring steps, off and on: ratios by the clock and by processor time, with standard errors."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    processor: dict[bool, list[float]] = {False: [], True: []}
    job.called, threads, began = 0.0, threads_time(), time.perf_counter()
    for index in range(pairs):
        for measured in (False, True) if index % 2 else (True, False):
            if measured:
                job.on.clock.begin()  # the step before was not its own
            before = time.process_time()
            seconds[measured].append(job.step(job.on if measured else None))
            processor[measured].append(time.process_time() - before)
    in_threads = (threads_time() - threads) / 2 / (time.perf_counter() - began)  # of a core, one of two monitors
    by_clock, by_processor = ratio_of(seconds[False], seconds[True]), ratio_of(processor[False], processor[True])
    off, off_processor = median(seconds[False]), median(processor[False])
    added = sorted(with_it - without for with_it, without in zip(processor[True], processor[False], strict=True))
    middle = median(added)
    error = 1.858 * median(abs(each - middle) for each in added) / pairs**0.5
    calls, extra = job.called / pairs, in_threads
    return {
        "pairs": pairs,
        "off_s": round(off, 6),
        "off_processor_s": round(off_processor, 6),
        "by_clock": by_clock,
        "by_processor_time": by_processor,
        "added_s": round(middle, 7),
        "added_standard_error": round(error, 7),
        "threads_share_of_a_core": round(extra, 6),
        "calls_s": round(calls, 7),
        "calls_over_step": round(calls / off_processor, 6),
        "between_windows": round(by_processor["ratio"] - 1 + extra, 6),
        "between_windows_at_most": round(by_processor["ratio"] - 1 + 2 * by_processor["standard_error"] + extra, 6),
        "between_windows_by_own_clocks": round(calls / off_processor + extra, 6),
    }


def ratio_of(off: list[float], on: list[float]) -> dict[str, float]:
    """The median ratio of pairs, its standard error, and the quarters."""
    ratios = sorted(with_it / without for with_it, without in zip(on, off, strict=True))
    middle = median(ratios)
    error = 1.858 * median(abs(ratio - middle) for ratio in ratios) / len(ratios) ** 0.5
    found = {"ratio": middle, "standard_error": error}
    found |= {"quarter": ratios[len(ratios) // 4], "three_quarters": ratios[3 * len(ratios) // 4]}
    return {key: round(value, 6) for key, value in found.items()}


def threads_time() -> float:
    """Processor seconds of the monitors' threads so far."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("medscroll-")]
    clocks = [time.pthread_getcpuclockid(thread.ident) for thread in threads if thread.ident is not None]
    return sum(map(time.clock_gettime, clocks))


def run_windows(job: Job, groups: int, pairs: dict[str, Any]) -> dict[str, Any]:
    """Three steps with a window against three without, and what the analysis takes in a process of its own."""
    monitor = job.monitor("windows", 1)
    monitor.windows._steps_here = 100  # past the early windows
    extra: list[float] = []
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    for index in range(groups + 1):
        spent: dict[bool, float] = {}
        for measured in (False, True) if index % 2 else (True, False):
            if measured:
                monitor.clock.begin()
            before = time.process_time()
            for _ in range(3):
                job.step(monitor if measured else None)
            spent[measured] = time.process_time() - before
        if index:  # the first window pays for loading the profiler's library
            extra.append(spent[True] - spent[False])
    with watched(monitor):
        pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    analysis = (after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime) / (groups + 1)
    middle = median(extra)
    error = 1.858 * median(abs(each - middle) for each in extra) / len(extra) ** 0.5
    share = (middle + analysis) / (200 * pairs["off_processor_s"])
    found = {"window_processor_s": middle, "standard_error": error, "analysis_processor_s": analysis}
    found |= {"windows_at_200": share, "with_windows": share + pairs["between_windows"]}
    found |= {"with_windows_at_most": share + 2 * error / (200 * pairs["off_processor_s"])}
    found["with_windows_at_most"] += pairs["between_windows_at_most"]
    return {"windows": groups, **{key: round(value, 6) for key, value in found.items()}}


def run_round(job: Job, index: int, steps: int, times: dict[str, list[float]]) -> dict[str, float]:
    """One segment of each kind; appends to `times` and returns the medians."""
    # A kind's place in the round changes, so that drift of the clock does not favour one.
    kinds = ["off", "on", "window"] if index % 2 == 0 else ["on", "off", "window"]
    medians = {}
    for kind in kinds:
        monitor = {"off": None, "on": job.on, "window": job.window}[kind]
        if monitor is not None:
            monitor.clock.begin()
        job.step(monitor)  # the change of kind is not measured
        count = steps if kind != "window" else max(8, steps // 4)
        found = [job.step(monitor) for _ in range(count)]
        times[kind] += found
        medians[kind] = median(found)
        if kind == "window":  # of four steps one warms up and one is recorded
            medians["window_mean"] = sum(found) / len(found)
    return medians


def run_rounds(job: Job, arguments: argparse.Namespace, times: dict[str, list[float]], began: float) -> list[Any]:
    """Rounds until their number or the time is reached; all ranks stop together. Appends to `times`."""
    rounds = []
    for index in range(arguments.rounds):
        rounds.append(run_round(job, index, arguments.steps, times))
        if job.place.is_main:
            rounded = {key: round(value, 6) for key, value in rounds[-1].items()}
            print(json.dumps({"round": index, **rounded}), flush=True)
        stop = torch.tensor([float(time.perf_counter() - began > arguments.seconds)], device=job.device)
        if dist.is_initialized():
            dist.broadcast(stop, src=0)
        if stop.item():
            break
    return rounds


def main() -> None:
    """Run the rounds and print."""
    arguments = parsed()
    began = time.perf_counter()
    enable_recorder()
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        device = torch.device("cuda", topology().local_rank) if device.type == "cuda" else device
    rank = topology().rank
    times: dict[str, list[float]] = {"off": [], "on": [], "window": []}
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="medscroll-cost-") as name:
        folders: list[Any] = [name]
        if dist.is_initialized():
            dist.broadcast_object_list(folders, src=0)
        job = Job(arguments, device, Path(folders[0]))
        looped = time.perf_counter()
        for _ in range(5):
            job.step(None)
        if arguments.pairs:
            found = run_pairs(job, arguments.pairs)
            if rank == 0:
                print(json.dumps({**machine(device), "tokens": arguments.tokens, **found}), flush=True)
            priced = run_windows(job, max(3, arguments.pairs // 10), found)
            if rank == 0:
                print(json.dumps(priced), flush=True)
        else:
            rounds = run_rounds(job, arguments, times, began)
        # The threads also run during "off" segments, so their processor time is reported by itself.
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("medscroll-")]
        clocks = [time.pthread_getcpuclockid(thread.ident) for thread in threads if thread.ident is not None]
        share = sum(map(time.clock_gettime, clocks)) / 2 / (time.perf_counter() - looped)  # of two monitors
        for monitor in (job.on, job.window):
            with watched(monitor):
                pass
        if dist.is_initialized():
            dist.barrier()
    if rank == 0:
        print(json.dumps({"threads_cpu_share_of_a_core": round(share, 5)}), flush=True)
        if rounds:
            report(times, rounds, device, arguments, time.perf_counter() - began)
    leave()


def machine(device: torch.device) -> dict[str, str]:
    """The device and torch's version."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU {platform.processor()}"
    return {"device": name, "torch": torch.__version__}


def report(
    times: dict[str, list[float]], rounds: list[dict[str, float]], device: torch.device, arguments: Any, took: float
) -> None:
    """Medians, ratios and the machine, as one JSON line."""
    off, on = median(times["off"]), median(times["on"])
    ratios = sorted(each["on"] / each["off"] for each in rounds)
    extra = median(each["window_mean"] for each in rounds) - on  # a step, where one in four begins a window
    line = {
        **machine(device),
        "model": arguments.model,
        "layers": arguments.layers,
        "tokens": arguments.tokens,
        "steps": {kind: len(found) for kind, found in times.items()},
        "off_s": round(off, 6),
        "on_s": round(on, 6),
        "window_s": round(median(times["window"]), 6),
        "on_over_off": round(on / off, 5),
        "on_over_off_rounds": [round(ratio, 5) for ratio in ratios],
        "seconds_a_window": round(4 * extra, 6),
        "with_window_over_off_at_200": round((on + 4 * extra / 200) / off, 5),
        "took_s": round(took, 1),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
