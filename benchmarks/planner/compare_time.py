"""Step times measured by measure_gpu.py beside the planner's: which half was fitted on, the error of each.

    python benchmarks/planner/compare_time.py --measured measured.jsonl --keep h100     take in a new series
    python benchmarks/planner/compare_time.py                                           write results/step_time.md

A series is kept as results/step_time_NAME.jsonl with what a comparison needs. Of a run, the median of the steps after
the first counts; under ZeRO-3 after the second, in which DeepSpeed still records its order of modules. Cost: seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medscroll.config.arguments import ModelArguments
from medscroll.model.load import load_config
from medscroll.planning.candidate import TimeBreakdown, TrainingSetup
from medscroll.planning.cluster import cluster_here, parse_cluster
from medscroll.planning.parameters import config_text, trained
from medscroll.planning.step_time import time_of

RESULTS = Path(__file__).resolve().parent / "results"
KEPT = ("name", "model", "layers", "engine", "block_size", "document", "held_out", "step_seconds", "seconds", "setup")


@dataclass(frozen=True)
class Compared:
    """One run: measured and predicted seconds of an optimizer step."""

    series: str
    name: str
    held_out: bool
    measured: float
    time: TimeBreakdown

    @property
    def error(self) -> float:
        """Predicted against measured, relative."""
        return self.time.step / self.measured - 1


def steady(run: dict[str, Any]) -> float:
    """Seconds of a step once it is steady."""
    first = 2 if str(run["engine"]).startswith("zero3") else 1
    return float(statistics.median(run["step_seconds"][first:] or run["step_seconds"]))


def compare(run: dict[str, Any], series: str) -> Compared:
    """The comparison of one kept run."""
    positions = max(4096, int(run["document"]))
    arguments = ModelArguments(model_name_or_path=run["model"], from_scratch=True, max_position_embeddings=positions)
    config = load_config(arguments)
    config.num_hidden_layers = run["layers"]
    cluster = parse_cluster(run["gpu"])
    names = {field.name for field in dataclasses.fields(TrainingSetup)}
    setup = TrainingSetup(config=config, **{name: value for name, value in run["setup"].items() if name in names})
    time, _ = time_of(setup, cluster, trained(setup), config_text(setup))
    return Compared(series, run["name"], bool(run["held_out"]), steady(run), time)


def kept() -> Iterator[Compared]:
    """Every run of every kept series."""
    for path in sorted(RESULTS.glob("step_time_*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            yield compare(json.loads(line), path.stem.removeprefix("step_time_"))


def take_in(measured: Path, name: str) -> Path:
    """Keep the runs of a file of measure_gpu.py that ended, with the catalogue's name of their GPU."""
    lines = []
    for line in measured.read_text("utf-8").splitlines():
        run = json.loads(line) if line.startswith("{") else {}
        if not run.get("step_seconds") or not run.get("setup"):
            continue
        device = str(run["machine"]["gpu"])
        gpu = cluster_here(device, int(run.get("device_total") or 0) or 1, 1, 1).gpu.name
        lines.append(json.dumps({**{key: run[key] for key in KEPT}, "gpu": gpu}))
    path = RESULTS / f"step_time_{name}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def summary(found: list[Compared]) -> str:
    """Median and worst error in words."""
    errors = [abs(item.error) for item in found]
    if not errors:
        return "none"
    worst = max(found, key=lambda item: abs(item.error))
    return f"{len(errors)} runs, median {statistics.median(errors):.1%}, worst {max(errors):.1%} ({worst.name})"


def table(found: list[Compared]) -> str:
    """The results page, Markdown."""
    lines = [
        "# Step time: planned and measured",
        "",
        "Runs of benchmarks/planner/measure_gpu.py on one GPU: random weights and tokens through the Trainer and "
        "DeepSpeed of `medscroll pretrain`, torch 2.11, flash-attn-4, Liger. The rates in "
        "medscroll/config/data/efficiencies.json were fitted on an H200 (older series) and on the runs marked fitted; "
        "no constant was taken from those `held out`. The series `mixed`: runs of benchmarks/long_context with packed "
        "documents of many lengths (block_size: tokens of a mean row, attended length from the run's own FLOPs), on an "
        "H200 and an H100, all held out. Made by `python benchmarks/planner/compare_time.py`.",
        "",
        f"- fitted: {summary([item for item in found if not item.held_out])}",
        f"- held out: {summary([item for item in found if item.held_out])}",
        f"- all: {summary(found)}",
        "",
        "| series | run | | measured s | planned s | error | products | attention | elementwise | recomputed | "
        "optimizer | host | other |",
        "|---" * 13 + "|",
    ]
    for item in found:
        time = item.time
        parts = (time.matmul, time.attention, time.elementwise, time.recompute, time.optimizer, time.host_transfer)
        shown = " | ".join(f"{part:.3f}" for part in (*parts, time.overhead))
        kind = "held out" if item.held_out else "fitted"
        lines.append(
            f"| {item.series} | {item.name} | {kind} | {item.measured:.3f} | {time.step:.3f} | {item.error:+.1%} | "
            f"{shown} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Take in a series, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measured", type=Path, help="output of measure_gpu.py, to be kept")
    parser.add_argument("--keep", default="", help="name of the series")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if options.measured:
        print(take_in(options.measured, options.keep))
    found = list(kept())
    (RESULTS / "step_time.md").write_text(table(found), encoding="utf-8")
    for item in found:
        print(f"{item.series:8} {item.name:36} {item.measured:8.3f} {item.time.step:8.3f} {item.error:+7.1%}")
    print("all:", summary(found))


if __name__ == "__main__":
    main()
