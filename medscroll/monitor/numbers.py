"""An event as flat numbers under stable names: one vocabulary for curves, Prometheus, TensorBoard, W&B and SwanLab.

`numbers({"type": "step", "phases": {"forward": 0.2}, "memory": {"peak": 7}})` is `{"phase/forward": 0.2,
"memory/peak": 7.0}`. Units are those of the schema; communication is per step. What is no number is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medscroll.monitor.schema import PHASES

PHASE_NAMES = tuple(f"phase/{phase}" for phase in PHASES)
WAIT_NAMES = tuple(f"wait/{phase}" for phase in PHASES)
TOP = (
    "seconds",
    "tokens",
    "targets",
    "fillers",
    "loss",
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
    "mfu",
    "hfu",
    "peak_memory_gib",
    "epoch",
)
GROUPS = {
    "memory": (
        "allocated",
        "reserved",
        "peak",
        "device_used",
        "device_total",
        "fragmentation",
        "alloc_retries",
        "ooms",
    ),
    "host": ("rss", "used", "total", "swap_used", "cpu_percent"),
    "gpu": (
        "utilisation",
        "power",
        "power_limit",
        "temperature",
        "temperature_limit",
        "clock",
        "ecc_uncorrected",
        "ecc_corrected",
    ),
    "io": ("nic_in", "nic_out", "disk_read", "disk_write"),
}
COMMUNICATION = (
    "communication/total_us",
    "communication/exposed_us",
    "communication/skew_us",
    "communication/bytes",
    "communication/sent_bytes",
    "communication/calls",
    "communication/coverage",
)
NAMES: tuple[str, ...] = (
    *TOP,
    *PHASE_NAMES,
    *WAIT_NAMES,
    *(f"{group}/{name}" for group, names in GROUPS.items() for name in names),
    *COMMUNICATION,
)
_PHASES, _WAITS = dict(zip(PHASES, PHASE_NAMES, strict=True)), dict(zip(PHASES, WAIT_NAMES, strict=True))
_GROUP_NAMES = {group: {name: f"{group}/{name}" for name in names} for group, names in GROUPS.items()}


def number(value: Any) -> float | None:
    """`value` as a float; None where it is no number. NaN and infinity pass."""
    kind = type(value)
    if kind is float:
        found: float = value
        return found
    if kind is int:
        return float(value)
    return float(value) if isinstance(value, int | float) and kind is not bool else None


def finite(value: Any) -> float | None:
    """`value` as a float; None where it is no finite number."""
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def numbers(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a `step` event under `NAMES`; those that the event lacks are absent."""
    found: dict[str, float] = {}
    for name in TOP:
        value = event.get(name)
        if value is not None and (held := number(value)) is not None:
            found[name] = held
    _take(event.get("phases"), _PHASES, found)
    _take(event.get("waits"), _WAITS, found)
    for group, names in _GROUP_NAMES.items():
        _take(event.get(group), names, found)
    communication = event.get("communication")
    if isinstance(communication, Mapping):
        found.update(communication_numbers(communication))
    return found


def _take(values: Any, names: Mapping[str, str], found: dict[str, float]) -> None:
    if isinstance(values, dict):
        for key, value in values.items():
            name = names.get(key)
            if name is not None and (held := number(value)) is not None:
                found[name] = held


def communication_numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """A step event's `communication` per step; where `coverage` is below 1, the run has extrapolated it."""
    found = {}
    for name in ("total_us", "exposed_us"):
        if (held := number(entry.get(name))) is not None:
            found[f"communication/{name}"] = held
    traffic = entry.get("traffic")
    steps = number(entry.get("steps")) or 1.0
    if isinstance(traffic, list):
        rows = [row for row in traffic if isinstance(row, Mapping)]
        for name in ("calls", "bytes", "sent_bytes"):
            found[f"communication/{name}"] = sum(number(row.get(name)) or 0.0 for row in rows) / max(steps, 1.0)
        if (held := number(entry.get("coverage"))) is not None:
            found["communication/coverage"] = held
    return found


def window_numbers(event: Mapping[str, Any]) -> dict[str, float]:
    """A `comm_window` event per step: total, exposed and, where it carries one, skew in microseconds."""
    steps = max(number(event.get("steps")) or 1.0, 1.0)
    found = {}
    for name in ("total_us", "exposed_us", "skew_us"):
        if (held := number(event.get(name))) is not None:
            found[f"communication/{name}"] = held / steps
    return found
