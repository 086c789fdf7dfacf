"""Waiting for the last rank: the same collective, as all ranks of its group saw it.

A collective ends on all ranks at nearly the same time and begins on each when that rank gets there. Collectives are
matched by group and sequence number, else by their order within the window; clocks, which may be seconds apart, are
aligned by the ends of the matched collectives. A rank's wait is then the begin of the last rank minus its own, at most
as long as its own collective took. The straggler is who waits least.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from medscroll.monitor.schema import window_folder

# Collectives that end together; a broadcast's root or the ends of a send do not.
ALIGNING = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier")


@dataclass
class RankSkew:
    """Waiting of one rank in a window, microseconds.

    Attributes:
        total_us: summed waits for the last rank.
        groups, phases: the same by process group, and by phase where the window names phases.
        last: collectives in which this rank came last.
        matched: collectives that were compared.
        offset_us: its clock minus that of the reference rank.
    """

    total_us: float = 0.0
    groups: dict[str, float] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    last: int = 0
    matched: int = 0
    offset_us: float = 0.0


def skew(windows: Mapping[int, Sequence[Mapping[str, Any]]]) -> dict[int, RankSkew]:
    """Waits of every rank.

    Args:
        windows: rank -> its collectives in order of start, each with `group`, `op`, `start`, `end` (microseconds of
            that rank's clock) and, where known, `sequence` and `phase`.
    """
    keyed = {rank: _keyed(collectives) for rank, collectives in windows.items()}
    found = {rank: RankSkew() for rank in windows}
    if len(keyed) < 2:
        return found
    offsets = _offsets(keyed)
    for rank, offset in offsets.items():
        found[rank].offset_us = offset
    keys = {key for collectives in keyed.values() for key in collectives}
    for key in sorted(keys, key=str):
        seen = {rank: keyed[rank][key] for rank in offsets if key in keyed[rank]}
        if len(seen) < 2 or key[1] not in ALIGNING:
            continue
        starts = {rank: float(each["start"]) - offsets[rank] for rank, each in seen.items()}
        latest = max(starts.values())
        for rank, each in seen.items():
            wait = min(latest - starts[rank], float(each["end"]) - float(each["start"]))
            own = found[rank]
            own.matched += 1
            own.total_us += wait
            own.groups[key[0]] = own.groups.get(key[0], 0.0) + wait
            if each.get("phase"):
                own.phases[each["phase"]] = own.phases.get(each["phase"], 0.0) + wait
            own.last += starts[rank] == latest
    return found


def _keyed(collectives: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    """(group, op, number) -> collective; the number is the sequence number, else the order within group and op."""
    counts: dict[tuple[str, str], int] = {}
    found = {}
    for each in collectives:
        name = (str(each["group"]), str(each["op"]))
        counts[name] = counts.get(name, 0) + 1
        sequence = each.get("sequence")
        found[(*name, counts[name] if sequence is None else int(sequence))] = each
    return found


def _offsets(keyed: Mapping[int, Mapping[tuple[str, str, int], Mapping[str, Any]]]) -> dict[int, float]:
    """Rank -> its clock minus that of the lowest rank, over ranks that share collectives with others already known."""
    ranks = sorted(keyed)
    offsets = {ranks[0]: 0.0}
    waiting = ranks[1:]
    progress = True
    while waiting and progress:
        progress = False
        for rank in list(waiting):
            shifts = [
                float(each["end"]) - (float(keyed[known][key]["end"]) - offset)
                for known, offset in offsets.items()
                for key, each in keyed[rank].items()
                if key in keyed[known] and key[1] in ALIGNING
            ]
            if shifts:
                offsets[rank] = median(shifts)
                waiting.remove(rank)
                progress = True
    return offsets


def window_skew(run_folder: Path, step: int, world_size: int) -> dict[int, RankSkew] | None:
    """Skew of the window that began at `step`, once all ranks have written theirs; None before."""
    windows = {}
    for path in sorted(window_folder(run_folder, step).glob("rank-*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
            windows[int(path.stem.rpartition("-")[2])] = content["collectives"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return skew(windows) if len(windows) >= world_size else None


def phase_lateness(found: Mapping[int, RankSkew]) -> dict[int, dict[str, float]]:
    """Rank -> phase -> microseconds that it came later than the (lower) median rank, by what the others waited more."""
    late: dict[int, dict[str, float]] = {rank: {} for rank in found}
    for phase in sorted({phase for each in found.values() for phase in each.phases}):
        waits = {rank: each.phases.get(phase, 0.0) for rank, each in found.items()}
        ordered = sorted(waits.values())
        reference = ordered[len(ordered) // 2]  # of two ranks, the one that waits longer
        for rank, wait in waits.items():
            if wait < reference:
                late[rank][phase] = reference - wait
    return late
