"""Ranks and nodes as they are now: a row each, who is slow in which phase, the last steps as a timeline."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

from medscroll.monitor.arrivals import Waits
from medscroll.monitor.numbers import finite
from medscroll.monitor.rank_reader import RankReader
from medscroll.monitor.rank_state import RecentStep
from medscroll.monitor.run_reader import RunReader
from medscroll.monitor.schema import PHASES
from medscroll.monitor.status import rank_state
from medscroll.monitor.stragglers import COMPARED, lateness, work_lateness

SHOWN_STEPS = 10
LATEST = (
    "memory/allocated",
    "memory/reserved",
    "memory/peak",
    "memory/device_used",
    "memory/device_total",
    "memory/fragmentation",
    "memory/alloc_retries",
    "host/rss",
    "host/used",
    "host/total",
    "host/swap_used",
    "gpu/utilisation",
    "gpu/power",
    "gpu/temperature",
    "gpu/ecc_uncorrected",
    "io/nic_in",
    "io/nic_out",
    "io/disk_read",
    "io/disk_write",
    "communication/total_us",
    "communication/exposed_us",
    "communication/skew_us",
    "communication/bytes",
    "communication/sent_bytes",
    "communication/coverage",
)
# How the ranks of a node make the node's figure; the rest are means.
SUMS = ("communication/bytes", "communication/sent_bytes", "host/rss", "memory/alloc_retries", "gpu/power")
PEAKS = (
    "memory/allocated",
    "memory/reserved",
    "memory/peak",
    "memory/device_used",
    "memory/device_total",
    "memory/fragmentation",
    "host/used",
    "host/total",
    "host/swap_used",
    "gpu/temperature",
    "gpu/ecc_uncorrected",
    "io/nic_in",
    "io/nic_out",
    "io/disk_read",
    "io/disk_write",
)


def memory_name(readers: list[RankReader]) -> str:
    """Which memory is shown: the GPU's peak where any rank has it, else resident on the host."""
    on_gpu = any(reader.state.series.has("memory/peak") for reader in readers)
    return "memory/peak" if on_gpu else "host/rss"


def rank_view(run: RunReader, reader: RankReader) -> dict[str, Any]:
    """One rank now."""
    state, beat = reader.state, reader.beat
    step = int(beat.number("step") or 0)
    recent = list(state.recent)[-SHOWN_STEPS:]
    quiet = run.silence(reader)
    return {
        "rank": reader.rank,
        "host": reader.host,
        "node": finite(state.run.get("node")),
        "pid": finite(state.run.get("pid")),
        "state": rank_state(run, reader),
        "reason": (state.end or {}).get("reason"),
        "step": max(step, state.step) if recent else step,
        "phase": str(beat.content.get("phase") or ""),
        "silent_seconds": quiet,
        "last_seen": None if quiet is None else run.server_now() - quiet - (run.server_offset or 0.0),
        "seconds": median(one.seconds for one in recent) if recent else None,
        "throttle": state.throttle,
        **{name: state.latest.get(name) for name in LATEST},
    }


def tell_nodes_apart(ranks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nodes of one host name (containers, network namespaces) get their number into the name of the host."""
    numbers: dict[str, set[float | None]] = {}
    for rank in ranks:
        numbers.setdefault(rank["host"], set()).add(rank["node"])
    for rank in ranks:
        if len(numbers[rank["host"]]) > 1 and rank["node"] is not None:
            rank["host"] = f"{rank['host']} (node {rank['node']:.0f})"
    return ranks


def node_view(ranks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each node, in the order of its lowest rank."""
    hosts: dict[str, list[dict[str, Any]]] = {}
    for rank in ranks:
        hosts.setdefault(rank["host"], []).append(rank)
    rows = []
    for host, members in hosts.items():
        row: dict[str, Any] = {"host": host, "ranks": [member["rank"] for member in members]}
        row["alive"] = sum(member["state"] == "running" for member in members)
        row["bad"] = sum(member["state"] in ("dead", "crashed") for member in members)
        for name in LATEST:
            values = [member[name] for member in members if member[name] is not None]
            join = sum if name in SUMS else max if name in PEAKS else fmean
            row[name] = join(values) if values else None
        rows.append(row)
    return rows


def waited(one: RecentStep, waits: dict[int, dict[str, float]]) -> tuple[float, ...]:
    """Seconds a phase that a rank waited in a step: as its event says, else by the arrivals at collectives."""
    known = waits.get(one.step)
    return one.waits if known is None or any(one.waits) else tuple(known.get(phase, 0.0) for phase in PHASES)


def slowest(
    readers: list[RankReader], ranks: list[dict[str, Any]], waits: Waits | None = None, listed: int = 8
) -> list[dict[str, Any]]:
    """The ranks that are latest by their own work, waits aside; the worst first.

    Where all ranks wrote when they came to collectives, steps are compared one by one (`stragglers.work_lateness`);
    else medians over the recent steps are walked through (`stragglers.lateness`). `excess` is the share of the median
    step by which the rank's phase makes it later.
    """
    work: Waits = {}
    steps: list[float] = []
    for reader in readers:
        own = (waits or {}).get(reader.rank, {})
        recent = [one for one in list(reader.state.recent)[-SHOWN_STEPS * 2 :] if not own or one.step in own]
        if len(recent) >= 3:
            steps += [one.seconds for one in recent]
            work[reader.rank] = {
                one.step: {
                    phase: max(one.phases[at] - gone, 0.0)
                    for at, (phase, gone) in enumerate(zip(PHASES, waited(one, own), strict=True))
                }
                for one in recent
            }
    if len(work) < 2:
        return []
    step, rows = max(median(steps), 1e-9), []
    times = {
        rank: {phase: median(each[phase] for each in found.values()) for phase in PHASES}
        for rank, found in work.items()
    }
    paired = work_lateness(work) if waits else {}
    if paired and all(len(late) >= 3 for phases in paired.values() for late in phases.values()):
        added = {rank: {name: max(0.0, median(late)) for name, late in each.items()} for rank, each in paired.items()}
    else:
        added = lateness(times)
    by_rank = {rank["rank"]: rank for rank in ranks}
    for rank, own_times in times.items():
        phase = max(COMPARED, key=lambda name: added[rank][name])
        late = added[rank][phase]
        rows.append(
            {
                "rank": rank,
                "host": by_rank[rank]["host"],
                "phase": phase,
                "seconds": own_times[phase],
                "usual": own_times[phase] - late,
                "excess": late / step,
                "work": sum(own_times.values()),
            }
        )
    rows.sort(key=lambda row: -row["excess"])
    return rows[:listed]


def timeline(readers: list[RankReader], waits: Waits | None = None) -> dict[str, Any]:
    """The last steps of every rank with their phases in seconds, from the first step that all have.

    Each rank's `start` counts from its own start of that step, so clocks of hosts need not agree.
    """
    shown = {reader.rank: list(reader.state.recent)[-SHOWN_STEPS:] for reader in readers if reader.state.recent}
    if not shown:
        return {"from_step": None, "rows": []}
    first = max(recent[0].step for recent in shown.values())
    rows = []
    for rank, recent in shown.items():
        steps = [one for one in recent if one.step >= first]
        if not steps:
            rows.append({"rank": rank, "steps": []})
            continue
        origin = steps[0].time - steps[0].seconds
        drawn = [
            {
                "step": one.step,
                "start": round(max(one.time - one.seconds - origin, 0.0), 5),
                "seconds": round(one.seconds, 5),
                "phases": [round(value, 5) for value in one.phases],
                "waits": [round(value, 5) for value in waited(one, (waits or {}).get(rank, {}))],
            }
            for one in steps
        ]
        rows.append({"rank": rank, "steps": drawn})
    return {"from_step": first, "rows": rows}
