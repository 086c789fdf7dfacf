"""Fit the planner's few constants on one half of the measured runs, and hold the plan against the other half.

    python benchmarks/planner/fit.py RESULTS.jsonl [RESULTS.jsonl ...] [--write] [--table TABLE.md]

Input: lines of `measure_gpu.py`. Which half a run belongs to is named in `configurations.py` (`held_out`). Fitted are
four constants (see `medscroll.planning.memory.Fit`); everything else of a plan is counted, so the other half mostly
tests the counting. The bound of error is half as much again as the worst error of the half that was held out.
--write puts the constants into medscroll/config/data/memory_fit.json. Cost: a second a run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
from configurations import all_runs  # noqa: E402
from measure_gpu import config_of_record  # noqa: E402

from medscroll.planning import memory  # noqa: E402
from medscroll.planning.candidate import MemoryBreakdown, TrainingSetup  # noqa: E402

GIB = 2**30
CONSTANTS = HERE.parents[1] / "medscroll" / "config" / "data" / "memory_fit.json"
LEAST_BOUND, SEVERAL_RANKS = 0.02, 0.05
# Share of the peak that the allocator keeps beyond it on a GPU that is nearly full. An emptier GPU reserves more (up to
# a tenth here), for nothing makes it give back; the long-context rows that filled an H100 kept 1.3, 2.9 and 1.6 %
# (flash-attn-4, SDPA) and 4.4 % (varlen_attn).
SLACK = 0.03


def main() -> None:
    """Fit, print the table, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="JSON lines of measure_gpu.py")
    parser.add_argument("--write", action="store_true", help="write the constants")
    parser.add_argument("--table", default="", help="write the table (Markdown) here")
    flags = parser.parse_args()
    runs = read(flags.results)
    names = {run.name for run in all_runs() if run.held_out}
    bare = memory.Fit(0.0, 0.0, 0.0, 0.0, LEAST_BOUND, SEVERAL_RANKS, "")
    plans = {run["name"]: plan(run, bare) for run in runs}
    fit = fitted([run for run in runs if run["name"] not in names], plans, runs[0]["machine"])
    plans = {run["name"]: plan(run, fit) for run in runs}
    worst = max(abs(error(run, plans)) for run in runs if run["name"] in names)
    fit = dataclasses.replace(fit, error_bound=max(LEAST_BOUND, math.ceil(1.5 * worst * 200) / 200))
    lines = table(runs, plans, names, fit)
    print("\n".join(lines))
    if flags.table:
        Path(flags.table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if flags.write:
        CONSTANTS.write_text(json.dumps(dataclasses.asdict(fit), indent=2) + "\n", encoding="utf-8")


def read(paths: list[str]) -> list[dict[str, Any]]:
    """The measured runs, each once, the last of equal names."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        for line in Path(path).read_text("utf-8").splitlines():
            record = json.loads(line)
            if "peak" in record:
                found[record["name"]] = record
    return list(found.values())


def setup_of(run: dict[str, Any]) -> TrainingSetup:
    """The setup that a run had."""
    values = {k: v for k, v in run["setup"].items() if k in {field.name for field in dataclasses.fields(TrainingSetup)}}
    # the first records say False for every run; under ZeRO-3 they are right, before the loss came in portions
    values["fused_loss"] = values.get("fused_loss", False) if values["zero_stage"] == 3 else values["liger"]
    return TrainingSetup(config=config_of_record(run), **values)


def plan(run: dict[str, Any], fit: memory.Fit) -> MemoryBreakdown:
    """The plan of a run with these constants."""
    memory.memory_fit.cache_clear()
    real, memory.memory_fit = memory.memory_fit, lambda: fit  # type: ignore[assignment]
    try:
        return memory.memory_of(setup_of(run))
    finally:
        memory.memory_fit = real


def error(run: dict[str, Any], plans: dict[str, MemoryBreakdown]) -> float:
    """Relative error of the allocated peak; negative: the plan is too low."""
    return plans[run["name"]].allocated / run["peak"] - 1


def fitted(runs: list[dict[str, Any]], plans: dict[str, MemoryBreakdown], machine: dict[str, str]) -> memory.Fit:
    """The constants from the half that is for fitting."""
    plain = [run for run in runs if run["engine"] == "none"]
    sharded = [run for run in runs if run["engine"] != "none"]
    context = max(run["outside_allocator"] for run in plain)
    return memory.Fit(
        context=context,
        communication=max(run["outside_allocator"] for run in sharded) - context if sharded else 0.0,
        workspace=max(0.0, statistics.median(run["peak"] - plans[run["name"]].allocated for run in runs)),
        slack=SLACK,
        error_bound=LEAST_BOUND,
        error_bound_ranks=SEVERAL_RANKS,
        source=f"fitted on {len(runs)} runs on one {machine['gpu'].removeprefix('NVIDIA ')} or H200 "
        f"(torch {machine['torch']}, DeepSpeed {machine['deepspeed']})",
    )


def table(
    runs: list[dict[str, Any]], plans: dict[str, MemoryBreakdown], held_out: set[str], fit: memory.Fit
) -> list[str]:
    """Markdown: every run with its measured and its planned peak."""
    rows = [
        "| run | half | rows x block | measured GiB | planned GiB | error | peak in | reserved and outside | planned |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        found = plans[run["name"]]
        whole = run["reserved"] + run["outside_allocator"]
        half = "held out" if run["name"] in held_out else "fitted"
        rows.append(
            f"| {run['name']} | {half} | {run['micro_batch']} x {run['block_size']:,} | {run['peak'] / GIB:.2f} | "
            f"{found.allocated / GIB:.2f} | {error(run, plans):+.1%} | {found.moment} | {whole / GIB:.2f} | "
            f"{found.total / GIB:.2f} |"
        )
    lines = [*rows, ""]
    for half, chosen in (("fitted", [r for r in runs if r["name"] not in held_out]),
                         ("held out", [r for r in runs if r["name"] in held_out])):  # fmt: skip
        errors = [error(run, plans) for run in chosen]
        sizes = [abs(value) for value in errors]
        lines.append(
            f"{half}: {len(chosen)} runs, median error {statistics.median(sizes):.2%}, worst {max(sizes):.2%}, "
            f"most under {min(errors):+.2%}"
        )
    machines = sorted({f"{run['machine']['gpu']}, torch {run['machine']['torch']}" for run in runs})
    lines += ["", f"Constants: {json.dumps(dataclasses.asdict(fit))}", f"Machines: {'; '.join(machines)}"]
    return lines


if __name__ == "__main__":
    main()
