"""Analyses one profiler window in a process of its own: parsing a trace would hold up the training process.

    python -m medscroll.monitor.window_worker TRACE RUN_FOLDER FIRST_STEP RANK WORLD_SIZE

Writes the collectives to `windows/step-N/rank-R.json`, removes the trace, waits for the windows of the other ranks
(half a minute at most) to compute the skew, and prints the figures as one JSON object. Started by the monitor; runs at
low priority and imports no torch.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medscroll.monitor.overhead import communication_overhead
from medscroll.monitor.schema import window_path
from medscroll.monitor.skew import phase_lateness, window_skew

KEPT = 8  # windows whose collectives stay in the run folder
MOST_COLLECTIVES = 20_000
WAIT = 30.0  # seconds for the windows of the other ranks


def analyse(trace: Path, run_folder: Path, first_step: int, rank: int) -> dict[str, Any]:
    """The figures of `schema.CommWindowEvent` that come from the trace; writes the window file."""
    found = communication_overhead(trace)
    collectives = [
        {
            "group": each.group, "op": each.op, "start": each.start, "end": each.end, "bytes": each.bytes,
            "sequence": each.sequence, "phase": each.phase,
        }
        for each in found.collectives[:MOST_COLLECTIVES]
    ]  # fmt: skip
    path = window_path(run_folder, first_step, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    cut = len(found.collectives) - len(collectives)
    partial.write_text(json.dumps({"rank": rank, "left_out": cut, "collectives": collectives}), encoding="utf-8")
    os.replace(partial, path)
    if rank == 0:
        remove_old(path.parent.parent)
    groups = [
        {
            "group": name, "description": group.description, "ranks": group.ranks, "calls": group.calls,
            "bytes": group.bytes, "total_us": group.total_us, "exposed_us": group.exposed_us,
            "overlapped_us": group.overlapped_us,
        }
        for name, group in found.groups.items()
    ]  # fmt: skip
    return {
        "total_us": found.total_us,
        "exposed_us": found.exposed_us,
        "overlapped_us": found.overlapped_us,
        "compute_us": found.compute_us,
        "basis": found.basis,
        "groups": groups,
        "phases": phase_shares(found.collectives),
    }


def add_skew(figures: dict[str, Any], run_folder: Path, first_step: int, rank: int, world_size: int) -> None:
    """Add how long this rank waited for the last one, and on rank 0 who was late; null where a window is missing."""
    figures |= {"skew_us": None, "skew_groups": {}, "skew_step": first_step}
    deadline = time.monotonic() + WAIT
    found = window_skew(run_folder, first_step, world_size)
    while found is None and time.monotonic() < deadline:
        time.sleep(0.25)
        found = window_skew(run_folder, first_step, world_size)
    if found is None:
        return
    own = found[rank]
    figures |= {"skew_us": own.total_us, "skew_groups": own.groups, "skew_phases": own.phases}
    figures |= {"came_last": own.last, "compared": own.matched}
    if rank == 0:
        figures["lateness_us"] = {str(late): phases for late, phases in phase_lateness(found).items() if phases}


def phase_shares(collectives: Sequence[Any]) -> dict[str, float]:
    """Phase -> summed microseconds of the collectives that began in it; without those outside a named phase."""
    shares: dict[str, float] = {}
    for each in collectives:
        if each.phase is not None:
            shares[each.phase] = shares.get(each.phase, 0.0) + each.end - each.start
    return shares


def remove_old(folder: Path) -> None:
    """Keep the newest windows only."""
    for old in sorted(path for path in folder.glob("step-*") if path.is_dir())[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def main(words: list[str]) -> int:
    """Analyse and print."""
    trace, run_folder = Path(words[0]), Path(words[1])
    first_step, rank, world_size = map(int, words[2:5])
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        figures = analyse(trace, run_folder, first_step, rank)
    finally:
        trace.unlink(missing_ok=True)
    if world_size > 1:
        add_skew(figures, run_folder, first_step, rank, world_size)
    print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
