"""A run as one JSON object: what the page draws, the terminal prints, `--json` gives. docs/monitor.md lists the keys.

Built from a `RunReader`; sizes are bounded whatever the length of the run (some 300 kB at 64 ranks). Numbers have five
significant digits; what was not measured is null. Nothing here is corpus text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from statistics import median
from typing import Any

import numpy as np

from medscroll.monitor.numbers import finite
from medscroll.monitor.rank_reader import RankReader
from medscroll.monitor.ranks_view import memory_name, node_view, rank_view, slowest, tell_nodes_apart, timeline
from medscroll.monitor.run_reader import SILENT, RunReader
from medscroll.monitor.schema import PHASES, SCHEMA_VERSION
from medscroll.monitor.series import Series, resample
from medscroll.monitor.status import run_status

SNAPSHOT_VERSION = 1
COLUMNS = 128
CURVES = ("loss", "tokens_per_second", "mfu", "hfu", "grad_norm", "learning_rate", "seconds")
CLOCKS_APART = 2.0


def snapshot(runs: Iterable[RunReader]) -> dict[str, Any]:
    """All runs as plain JSON values: no NaN, no infinity."""
    found = [run_view(run) for run in runs]
    view = {"version": SNAPSHOT_VERSION, "generated": time.time(), "phases": list(PHASES), "runs": found}
    cleaned: dict[str, Any] = clean(view)
    return cleaned


def clean(value: Any) -> Any:
    """`value` with numbers that JSON has, at most nine digits (times aside, which keep their milliseconds)."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return round(value, 3) if abs(value) > 1e8 else float(f"{value:.9g}")
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def short(values: np.ndarray) -> list[float | None]:
    """An array as JSON numbers of five significant digits, null for NaN and infinity."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]


def run_view(run: RunReader) -> dict[str, Any]:
    """One run; see docs/monitor.md."""
    readers, reference, start = run.current(), run.reference(), run.start()
    latest = reference.state.latest if reference is not None else {}
    ranks = tell_nodes_apart([rank_view(run, reader) for reader in readers])
    step = max((reader.state.step for reader in readers), default=0)
    view: dict[str, Any] = {
        "name": run.name,
        "path": str(run.folder),
        "status": run_status(run),
        "step": step,
        "max_steps": _whole(start.get("max_steps")),
        "steps_per_epoch": _whole(start.get("steps_per_epoch")),
        "started": finite(start.get("started")),
        "starts": reference.state.starts if reference is not None else 0,
        "world_size": _whole(start.get("world_size")) or len(ranks),
        "device": (start.get("device") or {}).get("name") if isinstance(start.get("device"), dict) else None,
        "versions": start.get("versions") if isinstance(start.get("versions"), dict) else {},
        **{name: finite(latest.get(name)) for name in (*CURVES, "epoch")},
        "stall_after": reference.beat.number("stall_after") if reference is not None else None,
        **projection(reference, step, _whole(start.get("max_steps"))),
        "ranks": ranks,
        "nodes": node_view(ranks),
        "slowest": slowest(readers, ranks, run.waits()),
        "curves": curves(reference),
        "phases": phase_curves(readers),
        "memory": memory(run, readers),
        "communication": communication(readers, ranks),
        "timeline": timeline(readers, run.waits()),
        "data": data(run, readers, step),
        "alerts": alerts(run),
        "evaluations": [_scalars(event) for event in (reference.state.evaluations if reference else [])][-50:],
        "checkpoints": [_scalars(event) for event in (reference.state.checkpoints if reference else [])][-50:],
        "reading": reading(run, readers),
    }
    return view


def _whole(value: Any) -> int | None:
    found = finite(value)
    return int(found) if found is not None and found >= 0 else None


def _scalars(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if isinstance(value, str | int | float)}


def projection(reference: RankReader | None, step: int, max_steps: int | None) -> dict[str, float | None]:
    """Seconds a step over the recent steps, checkpoints included, what remains, and when the run will end."""
    recent = list(reference.state.recent) if reference is not None else []
    if len(recent) < 2 or recent[-1].step <= recent[0].step:
        seconds = recent[-1].seconds if recent else None
    else:
        wall = (recent[-1].time - recent[0].time) / (recent[-1].step - recent[0].step)
        seconds = max(wall, median(one.seconds for one in recent)) if wall > 0 else recent[-1].seconds
    if seconds is None or not max_steps:
        return {"seconds_per_step": seconds, "remaining_seconds": None, "ends_at": None}
    remaining = seconds * max(max_steps - step, 0)
    return {"seconds_per_step": seconds, "remaining_seconds": remaining, "ends_at": time.time() + remaining}


def curves(reference: RankReader | None) -> dict[str, Any]:
    """Loss, throughput and the like by step, of the lowest rank; the loss with least and greatest of each bucket."""
    if reference is None:
        return {"step": [], "width": 1}
    series = reference.state.series
    held = [name for name in CURVES if series.has(name)]
    seen = np.zeros(series.buckets, bool)
    for name in held:
        seen |= ~np.isnan(series.mean(name))
    found: dict[str, Any] = {"width": series.width, "step": np.maximum(series.steps()[seen], 1).tolist()}
    found |= {name: short(series.mean(name)[seen]) for name in held}
    if series.width > 1 and "loss" in held:
        found |= {
            "loss_least": short(series.least("loss")[seen]),
            "loss_greatest": short(series.greatest("loss")[seen]),
        }
    return found


def phase_curves(readers: list[RankReader]) -> dict[str, Any]:
    """Seconds a step in each phase over the run, mean over the ranks."""
    series = [reader.state.series for reader in readers]
    steps, rows = _mean_rows(series, "seconds")
    found: dict[str, Any] = {"step": steps, "seconds": short(rows)}
    for phase in PHASES:
        if any(one.has(f"phase/{phase}") for one in series):
            found[phase] = short(_mean_rows(series, f"phase/{phase}")[1])
    return found


def _mean_rows(series: list[Series], name: str) -> tuple[list[int], np.ndarray]:
    steps, rows = resample(series, name, COLUMNS, peak=False)
    return steps.tolist(), _nanmean(rows)


def _nanmean(rows: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN; [ranks, columns] -> [columns]."""
    count = (~np.isnan(rows)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, np.nansum(rows, axis=0) / count, np.nan)


def memory(run: RunReader, readers: list[RankReader]) -> dict[str, Any]:
    """Peak memory of each rank over the run, the size of the device and what the plan says."""
    series = [reader.state.series for reader in readers]
    name = memory_name(readers)
    steps, rows = resample(series, name, COLUMNS)
    sizes = [size for reader in readers if (size := reader.state.latest.get("memory/device_total"))]
    if name == "host/rss":
        sizes = [size for reader in readers if (size := reader.state.latest.get("host/total"))]
    return {
        "of": name,
        "step": steps.tolist(),
        "rank": [reader.rank for reader in readers],
        "rows": [short(row) for row in rows],
        "limit": min(sizes, default=None),
        "planned": planned_memory(run) if name != "host/rss" else None,
    }


def planned_memory(run: RunReader) -> float | None:
    """Bytes of a GPU's allocator at the peak by the plan of the run; None where none was made.

    From the run event, else from RUN/plan.json: what `medscroll plan --json` prints (the best candidate counts), or one
    of its candidates alone.
    """
    planned = finite(run.start().get("planned_memory"))
    if planned is None:
        plan = run.file("plan.json")
        best = plan.get("candidates")
        chosen = best[0] if isinstance(best, list) and best else plan
        memory = chosen.get("memory") if isinstance(chosen, dict) else None
        planned = finite(memory.get("allocated")) if isinstance(memory, dict) else None
    return planned


def communication(readers: list[RankReader], ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """Total and exposed communication a step over the run, a row for each node (mean over its ranks)."""
    hosts = list(dict.fromkeys(str(rank["host"]) for rank in ranks))
    members = {
        host: [r.state.series for r, rank in zip(readers, ranks, strict=True) if rank["host"] == host] for host in hosts
    }
    everyone = [reader.state.series for reader in readers]
    steps = resample(everyone, "communication/total_us", COLUMNS)[0] if readers else np.zeros(0, np.int64)
    found: dict[str, Any] = {"step": steps.tolist(), "host": hosts, "total_us": [], "exposed_us": []}
    at = {id(one): row for row, one in enumerate(everyone)}
    for name in ("total_us", "exposed_us"):
        if not everyone:
            break
        rows = resample(everyone, f"communication/{name}", COLUMNS, peak=False)[1]
        found[name] = [short(_nanmean(rows[[at[id(one)] for one in members[host]]])) for host in hosts]
    windows = [reader.state.window for reader in readers if reader.state.window is not None]
    found["window_step"] = max((_whole(window.get("step")) or 0 for window in windows), default=None)
    found["groups"] = _groups(windows)
    return found


def _groups(windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Communication by process group in the newest window, per step, mean over the ranks."""
    newest = max((_whole(window.get("step")) or 0 for window in windows), default=0)
    rows: dict[str, list[dict[str, Any]]] = {}
    for window in windows:
        if _whole(window.get("step")) != newest:
            continue
        steps = max(_whole(window.get("steps")) or 1, 1)
        for group in window.get("groups") or []:
            if isinstance(group, dict):
                label = str(group.get("description") or group.get("group"))
                values = {
                    n: (finite(group.get(n)) or 0.0) / steps for n in ("calls", "bytes", "total_us", "exposed_us")
                }
                rows.setdefault(label, []).append(values)
    return [
        {"group": label, **{name: sum(one[name] for one in found) / len(found) for name in found[0]}}
        for label, found in rows.items()
    ]


def data(run: RunReader, readers: list[RankReader], step: int) -> dict[str, Any]:
    """What all ranks have consumed, from their events, and the run's ledger.json where it is written."""
    counted: dict[str, Any] = {"exact": True}
    for name in ("tokens", "targets", "fillers"):
        series = [reader.state.series for reader in readers]
        totals = [one.total(name, min(step, one.last_step)) for one in series]
        counted[name] = round(sum(total for total, _ in totals))
        counted["exact"] = counted["exact"] and all(exact for _, exact in totals)
    return {"counted": counted, "ledger": run.file("ledger.json")}


def alerts(run: RunReader) -> list[dict[str, Any]]:
    """Alerts and stalls of all ranks, the newest first."""
    found: list[dict[str, Any]] = []
    for reader in run.ranks.values():
        found += [_scalars(event) for event in reader.state.alerts]
        for event in reader.state.stalls:
            found.append({**_scalars(event), "kind": "stall", "severity": "critical", "rank": reader.rank})
    found.sort(key=lambda event: finite(event.get("time")) or 0.0, reverse=True)
    return found[:200]


def reading(run: RunReader, readers: list[RankReader]) -> dict[str, Any]:
    """How far the files were read, what could not be, and what to know about it."""
    states = [reader.state for reader in run.ranks.values()]
    foreign = sorted({version for state in states if (version := state.foreign_schema) is not None})
    offsets = run.clock_offsets()
    apart = max(offsets.values(), default=0.0) - min(offsets.values(), default=0.0)
    notes: list[dict[str, Any]] = []
    if foreign:
        notes.append({"kind": "foreign_schema", "versions": foreign, "ours": SCHEMA_VERSION})
    if states and any(state.lines and not state.run for state in states):
        notes.append({"kind": "no_start"})
    if apart > CLOCKS_APART:
        notes.append({"kind": "clocks_apart", "seconds": apart, "offsets": offsets})
    if not run.has_signs:
        notes.append({"kind": "no_run"})
    problems = {reader.tail.path.name: reader.tail.problem for reader in run.ranks.values() if reader.tail.problem}
    missing = [rank for rank in range(_whole(run.start().get("world_size")) or 0) if rank not in run.ranks]
    if missing:
        notes.append({"kind": "ranks_missing", "ranks": missing[:64], "count": len(missing)})
    return {
        "share": run.share_read,
        "lines": sum(state.lines for state in states),
        "bad_lines": sum(
            state.bad + reader.tail.skipped for state, reader in zip(states, run.ranks.values(), strict=True)
        ),
        "unfinished_lines": sum(reader.unfinished for reader in run.ranks.values()),
        "sampled": any(state.sampled for state in states),
        "thinned": any(state.thinned is not None for state in states),
        "unreadable": problems,
        "silent_after": SILENT,
        "notes": notes,
    }
