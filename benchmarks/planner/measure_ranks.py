"""Peak memory, step time and communication of real training runs on several GPUs of one machine, beside the plan.

    python benchmarks/planner/measure_ranks.py --output ranks.jsonl [--minutes 2.5] [--only NAME,NAME] [--tiny]

Runs are `RANKS` of `configurations.py`, each under a `torchrun` of its own (NCCL; gloo on a CPU). All launchers start
at once and import everything, then wait for their turn, so that a run costs no imports. Prints one JSON line a run (and
appends it to --output): the configuration; `predicted`: what the planner said before anything was built (written then
to OUTPUT.predicted.jsonl); `by_rank`: for each rank its peaks, reserved bytes, bytes outside the allocator, seconds of
the steps, and microseconds of communication, in all and exposed, of one profiled step.
The steps: one warms up, the last but one is profiled, the last is traced for what was live at its peak.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
from configurations import RANKS, TINY_RANKS, Run  # noqa: E402
from measure_gpu import LEAST_LEFT, append, finished, predictions_of  # noqa: E402

PORT = 29610
KEPT = ("step_seconds", "seconds", "reserved", "outside_allocator", "host_peak", "communication")


def main() -> None:
    """Measure under launchers of this script, or be one rank (--worker)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="planner_ranks.jsonl", help="JSON lines are appended to this file")
    parser.add_argument("--minutes", type=float, default=2.5, help="all is over by then")
    parser.add_argument("--seconds", type=float, default=45.0, help="longest that one run may take, imports aside")
    parser.add_argument("--only", default="", help="comma list of names of runs")
    parser.add_argument("--tiny", action="store_true", help="tiny models instead: a test of this script, on a CPU too")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    runs = {run.name: run for run in (TINY_RANKS if flags.tiny else RANKS)}
    if flags.worker:
        work(runs[flags.worker], Path(flags.output))
        return
    names = [name for name in flags.only.split(",") if name] or list(runs)
    supervise([runs[name] for name in names], flags)


def supervise(runs: list[Run], flags: argparse.Namespace) -> None:
    """Start every launcher, let them run one after the other, and end each by its own process group."""
    output, deadline = Path(flags.output), time.time() + 60 * flags.minutes
    output.parent.mkdir(parents=True, exist_ok=True)
    runs = [run for run in runs if run.name not in finished(output)]
    with tempfile.TemporaryDirectory(prefix="medscroll-ranks-") as folder:
        launchers = [launch(run, PORT + index, folder, flags) for index, run in enumerate(runs)]
        try:
            for run, launcher in zip(runs, launchers, strict=True):
                if deadline - time.time() < LEAST_LEFT:
                    record: dict[str, Any] = {"name": run.name, "error": "no time left"}
                else:
                    record = one_turn(run, launcher, Path(folder), min(deadline, time.time() + 60 + flags.seconds))
                append(output, record)
                print(json.dumps({k: v for k, v in record.items() if k != "trace"}), flush=True)
        finally:
            for launcher in launchers:
                end(launcher)


def launch(run: Run, port: int, folder: str, flags: argparse.Namespace) -> subprocess.Popen[bytes]:
    """A launcher whose ranks import everything and wait for `folder/NAME.go`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(run.ranks)]
    command += ["--master_port", str(port), __file__, "--worker", run.name, "--output", flags.output]
    command += ["--tiny"] if flags.tiny else []
    environment = {**os.environ, "MEDSCROLL_TURNS": folder, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "4")}
    return subprocess.Popen(command, stdout=sys.stderr, start_new_session=True, env=environment)


def one_turn(run: Run, launcher: subprocess.Popen[bytes], folder: Path, deadline: float) -> dict[str, Any]:
    """Let a launcher's ranks go, and wait for their record."""
    (folder / f"{run.name}.go").touch()
    found = folder / f"{run.name}.json"
    while not found.exists():
        if launcher.poll() is not None:
            return {"name": run.name, "error": f"launcher ended with {launcher.returncode}"}
        if time.time() > deadline:
            end(launcher)
            return {"name": run.name, "error": "took too long"}
        time.sleep(0.05)
    end(launcher)
    record: dict[str, Any] = json.loads(found.read_text("utf-8"))
    return record


def end(launcher: subprocess.Popen[bytes]) -> None:
    """End a launcher and its ranks, which are a process group of their own."""
    if launcher.poll() is None:
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
    time.sleep(0.3)  # the driver frees the memory of ended processes


def work(run: Run, output: Path) -> None:
    """One rank: import everything, wait for the turn, measure, and put the ranks' records together."""
    import importlib

    import one_run
    import torch

    for name in (
        "deepspeed",
        "peft",
        "transformers.models.llama.modeling_llama",
        "transformers.integrations.deepspeed",
    ):
        importlib.import_module(name)
    folder, rank = Path(os.environ["MEDSCROLL_TURNS"]), int(os.environ["RANK"])
    while not (folder / f"{run.name}.go").exists():
        time.sleep(0.05)
    record: dict[str, Any] = dataclasses.asdict(run)

    def announce(found: dict[str, Any]) -> None:
        record["predicted"] = found["predicted"]
        if rank == 0:
            append(predictions_of(output), {"name": run.name, **found})

    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        record |= one_run.measure(run, announce, meter_class=rank_meter())
    except Exception as error:
        traceback.print_exc()
        record["error"] = f"rank {rank}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
        write(folder / f"{run.name}.json", record)  # the other ranks would wait for this one
        os._exit(1)
    mine = {k: v for k, v in record.items() if k in KEPT or k.startswith(("peak", "allocated"))}
    gathered: list[Any] = [None] * run.ranks
    torch.distributed.all_gather_object(gathered, mine)
    if rank == 0:
        write(folder / f"{run.name}.json", record | {"by_rank": gathered})
    time.sleep(60)  # ended by the launcher's end; DeepSpeed's and NCCL's own ends take seconds


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record so that it appears whole."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(record), encoding="utf-8")
    partial.replace(path)


def rank_meter() -> Any:
    """The meter of `one_run`, which also profiles the last step but one."""
    import one_run
    from torch.profiler import ProfilerActivity, profile

    from medscroll.monitor import communication_overhead

    class RankMeter(one_run.Meter):
        profiler: Any = None
        communication: dict[str, Any] | None = None

        def step_begin(self) -> None:
            if len(self.steps) + 2 == self.last:
                self.profiler = profile(activities=[ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU])
                self.profiler.start()
            super().step_begin()

        def step_end(self) -> None:
            super().step_end()
            if self.profiler is None:
                return
            self.profiler.stop()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "trace.json"
                    self.profiler.export_chrome_trace(str(path))
                    found = communication_overhead(path)
                groups = {name: dataclasses.asdict(part) for name, part in found.operations.items()}
                times = {name: getattr(found, name) for name in ("total_us", "exposed_us", "compute_us", "basis")}
                self.communication = {**times, "operations": groups}
            except Exception as error:  # the other numbers stand without it
                self.communication = {"error": f"{type(error).__name__}: {error}"[:300]}
            self.profiler = None

        def result(self) -> dict[str, Any]:
            return super().result() | {"communication": self.communication}

    return RankMeter


if __name__ == "__main__":
    main()
