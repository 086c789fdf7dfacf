"""Peak memory and step time of real training runs on one GPU, beside what the planner says of them.

    python benchmarks/planner/measure_gpu.py --output measured.jsonl [--minutes 8] [--only NAME,NAME] [--tiny]

What a run is: `one_run.py`; which ones: `configurations.py`. A process measures one run after the other while they are
of one group and leave no memory behind; the next process has been started meanwhile and has imported everything, so
that a crash, an out-of-memory or a change of group costs no imports. A run that takes longer than --seconds is ended.
Prints one JSON line a run (and appends it to --output): the configuration; bytes allocated after building, when
training begins, after each phase and after the last step; peaks of the phases and of all; reserved bytes and what lies
outside the allocator; what was live at the peak; host memory; seconds of the phases (median of the middle steps);
`predicted`: what the planner said before anything was built (written then to OUTPUT.predicted.jsonl); `planned`: its
bytes by part for the same setup in a process of its own. Names that --output already holds are not measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
from configurations import TINY, Run, all_runs  # noqa: E402

LEAK = 256 * 2**20
IMPORTING = 90.0  # seconds that a process may take before its first run
LEAST_LEFT = 12.0  # no run begins with less time than this


def main() -> None:
    """Measure in processes of this script, or be one of them (--worker)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="planner_measured.jsonl", help="JSON lines are appended to this file")
    parser.add_argument("--minutes", type=float, default=8.0, help="all is over by then")
    parser.add_argument("--seconds", type=float, default=60.0, help="longest that one run may take")
    parser.add_argument("--only", default="", help="comma list of names of runs")
    parser.add_argument("--ordered", action="store_true", help="in the order of --only")
    parser.add_argument("--tiny", action="store_true", help="tiny models instead: a test of this script, on a CPU too")
    parser.add_argument("--worker", default="", metavar="PREDICTIONS", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        work(Path(flags.output), Path(flags.worker), flags.tiny)
    else:
        Supervisor(flags).run()


def finished(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> record of the lines of a file; none where it does not exist. A line still being written is left out."""
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text("utf-8").splitlines(keepends=True):
        if line.endswith("\n") and line.strip():
            record = json.loads(line)
            found[record["name"]] = record
    return found


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a line to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def predictions_of(output: Path) -> Path:
    """Where predictions are written, each before its measurement."""
    return output.with_suffix(".predicted.jsonl")


class Supervisor:
    """Deals runs to worker processes and puts the plan beside what they report."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.output, self.tiny, self.seconds = Path(flags.output), flags.tiny, flags.seconds
        self.predictions = predictions_of(self.output)
        self.folder = tempfile.TemporaryDirectory(prefix="medscroll-measure-")
        self.raw = Path(self.folder.name) / "raw.jsonl"
        self.raw.write_text("".join(json.dumps(line) + "\n" for line in finished(self.output).values()), "utf-8")
        self.deadline = time.time() + 60 * flags.minutes
        names = [name for name in flags.only.split(",") if name]
        self.runs = [run for run in (TINY if flags.tiny else all_runs()) if not names or run.name in names]
        if flags.ordered:
            self.runs.sort(key=lambda run: names.index(run.name))
        self.worker: Worker | None = None
        self.spare: Worker | None = None

    def run(self) -> None:
        """Measure every run that has no line yet."""
        began = time.time()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        for run in self.runs:
            if run.name in finished(self.raw):
                continue
            if self.deadline - time.time() < LEAST_LEFT:
                append(self.raw, {"name": run.name, "error": "no time left"})
                continue
            self.measure(run)
        for worker in (self.worker, self.spare):
            if worker is not None:
                worker.end()
        self.annotate()
        print(f"{time.time() - began:.0f} s", file=sys.stderr)

    def measure(self, run: Run) -> None:
        """Give a run to a process that may take it, and wait for its line."""
        if self.worker is not None and (self.worker.group != run.group or not self.worker.alive):
            self.worker.end()
            self.worker = None
        if self.worker is None:
            self.worker = self.spare or Worker(self.raw, self.predictions, self.tiny)
            self.worker.group = run.group
            self.spare = Worker(self.raw, self.predictions, self.tiny)
        limit = time.time() + self.seconds + (0.0 if self.worker.used else IMPORTING)
        self.worker.take(run)
        while run.name not in finished(self.raw):
            if not self.worker.alive:
                if run.name not in finished(self.raw):
                    append(self.raw, {"name": run.name, "error": f"process ended with {self.worker.code}"})
            elif time.time() > min(limit, self.deadline + 10):
                self.worker.kill()
                append(self.raw, {"name": run.name, "error": "took too long"})
            elif not self.annotate():
                time.sleep(0.1)
        record = finished(self.raw)[run.name]
        if "error" in record or record.get("left_behind", 0) > LEAK:  # it ends by itself
            self.worker.end()
            self.worker = None

    def annotate(self) -> bool:
        """Put the plan beside every measured run that lacks it; whether there was one."""
        known = finished(self.output)
        fresh = [record for name, record in finished(self.raw).items() if name not in known]
        for record in fresh:
            if "setup" in record:
                try:
                    record["planned"] = planned(record)
                except Exception as error:  # the measurement stands without it
                    record["planned"] = {"error": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps({k: v for k, v in record.items() if k not in ("trace", "choices")}), flush=True)
            append(self.output, record)
        return bool(fresh)


class Worker:
    """A process that measures the runs whose names it reads."""

    def __init__(self, raw: Path, predictions: Path, tiny: bool) -> None:
        command = [sys.executable, __file__, "--worker", str(predictions), "--output", str(raw)]
        command += ["--tiny"] if tiny else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr, text=True)
        self.group, self.used = "", False

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit status."""
        return self.process.poll()

    def take(self, run: Run) -> None:
        """Begin a run."""
        self.used = True
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(run.name + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return  # its end is seen by the caller

    def end(self) -> None:
        """Let it end and wait until its memory is free."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it now."""
        self.process.kill()
        self.process.wait()


def planned(record: dict[str, Any]) -> dict[str, Any]:
    """The planner's bytes by part for the setup of a record."""
    from medscroll.planning.candidate import TrainingSetup
    from medscroll.planning.memory import memory_of

    config = config_of_record(record)
    memory = memory_of(TrainingSetup(config=config, **record["setup"]))
    return {**memory.parts, "allocated": memory.allocated, "total": memory.total, "moment": memory.moment}


def config_of_record(record: dict[str, Any]) -> Any:
    """The model's configuration of a measured run."""
    from medscroll.config.arguments import ModelArguments
    from medscroll.model.load import load_config

    config = load_config(ModelArguments(model_name_or_path=record["model"], from_scratch=True))
    config.num_hidden_layers = record["layers"]
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[: record["layers"]]
    return config


def work(raw: Path, predictions: Path, tiny: bool) -> None:
    """Import everything, then measure the runs that are named on stdin, until one leaves memory behind."""
    import one_run
    import torch

    for name in (
        "deepspeed",
        "peft",
        "transformers.models.llama.modeling_llama",
        "transformers.integrations.deepspeed",
    ):
        importlib.import_module(name)
    runs = {run.name: run for run in (TINY if tiny else all_runs())}
    for line in sys.stdin:
        run, began = runs[line.strip()], time.perf_counter()
        record: dict[str, Any] = dataclasses.asdict(run)

        def announce(found: dict[str, Any], record: dict[str, Any] = record) -> None:
            record["predicted"] = found["predicted"]
            append(predictions, {"name": record["name"], **found})

        try:
            record |= one_run.measure(run, announce)
        except Exception as error:
            first = str(error).splitlines()[0][:300] if str(error) else ""
            record["error"] = f"{type(error).__name__}: {first}"
            traceback.print_exc()
            traceback.clear_frames(error.__traceback__)
        gc.collect()
        if torch.cuda.is_available():
            try:
                one_run.empty_what_is_left()
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
                record["left_behind"] = torch.cuda.memory_allocated()
            except Exception as error:  # a kernel has ended the CUDA context: the next run needs another process
                record.setdefault("error", f"after the run: {str(error).splitlines()[0][:200]}")
        record["seconds_in_all"] = round(time.perf_counter() - began, 1)
        record.setdefault("setup", {})
        if not record["setup"]:
            del record["setup"]
        append(raw, record)
        if record.get("left_behind", 0) > LEAK or "error" in record:
            os._exit(0)
    os._exit(0)  # DeepSpeed's and NCCL's own ends take seconds


if __name__ == "__main__":
    main()
