"""Which kernels a training step consists of, and when the device has nothing to do.

How: torch's profiler of the device's activities alone (recording every operator of the host would slow the host, which
is what the gaps are about). A gap is the time between the end of all kernels so far and the begin of the next; it is
named by the kernels on both sides and the longest call of the CUDA runtime that ran meanwhile.
"""

from __future__ import annotations

import bisect
from typing import Any

KINDS = (
    ("attention", ("flash", "attn", "attention", "sdpa", "fmha")),
    ("matrix products", ("gemm", "nvjet", "cutlass", "cublas", "xmma", "splitk", "mm")),
    ("copies", ("memcpy", "memset", "copy")),
    ("optimizer", ("multi_tensor", "adam", "_round", "stochastic")),
    ("norms, SwiGLU, rotation, loss", ("rms", "swiglu", "silu", "cross_entropy", "softmax", "rope")),
)
GAP = 50e-6  # seconds from which on a gap is named


def start_profiler() -> Any:
    """torch's profiler of this device's kernels, running."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    gpu = torch.cuda.is_available()
    profiler = profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU])
    profiler.start()
    return profiler


def summary(profiler: Any, seconds: float) -> dict[str, Any]:
    """Share of a step by kind of kernel, the dearest kernels, and the time in which the device did nothing."""
    profiler.stop()
    import torch

    total: dict[str, float] = {}
    for item in profiler.key_averages():
        own = item.self_device_time_total if torch.cuda.is_available() else item.self_cpu_time_total
        total[item.key] = total.get(item.key, 0.0) + own / 1e6
    kinds = dict.fromkeys([kind for kind, _ in KINDS] + ["other"], 0.0)
    for name, time_of in total.items():
        low = name.lower()
        kinds[next((kind for kind, words in KINDS if any(word in low for word in words)), "other")] += time_of
    dearest = sorted(total.items(), key=lambda item: -item[1])[:24]
    busy = sum(total.values())
    return {
        "step_seconds": round(seconds, 3),
        "busy_share": round(busy / seconds, 3),
        "share_of_step": {kind: round(value / seconds, 3) for kind, value in kinds.items()},
        "dearest_ms": {name[:110]: round(value * 1e3, 1) for name, value in dearest},
        "gaps": gaps(profiler),
    }


def gaps(profiler: Any, listed: int = 16) -> dict[str, Any]:
    """Idle time of the device: seconds in all, number of gaps, and the dearest places by summed milliseconds."""
    on_device, calls = [], []
    for event in profiler.profiler.kineto_results.events():
        begin, end = event.start_ns() / 1e9, (event.start_ns() + event.duration_ns()) / 1e9
        if str(event.device_type()).endswith("CUDA"):
            on_device.append((begin, end, event.name()))
        elif event.name().startswith("cu"):
            calls.append((begin, end, event.name()))
    on_device.sort()
    calls.sort()
    starts = [call[0] for call in calls]
    places: dict[str, list[float]] = {}
    idle, reached, before = 0.0, None, ""
    for begin, end, name in on_device:
        if reached is not None and begin > reached:
            idle += begin - reached
            if begin - reached >= GAP:
                place = f"{before[:50]} -> {name[:50]} | {_longest_call(calls, starts, reached, begin)}"
                places.setdefault(place, []).append(begin - reached)
        if reached is None or end > reached:
            reached, before = end, name
    dearest = sorted(places.items(), key=lambda item: -sum(item[1]))[:listed]
    return {
        "idle_seconds": round(idle, 4),
        "named": sum(map(len, places.values())),
        "dearest_ms": {place: [round(sum(found) * 1e3, 2), len(found)] for place, found in dearest},
    }


def _longest_call(calls: list[tuple[float, float, str]], starts: list[float], begin: float, end: float) -> str:
    """The call of the CUDA runtime that lasted longest between two moments."""
    best, name = 0.0, "no call"
    for index in range(max(bisect.bisect_left(starts, begin) - 8, 0), bisect.bisect_right(starts, end)):
        shared = min(calls[index][1], end) - max(calls[index][0], begin)
        if shared > best:
            best, name = shared, calls[index][2]
    return f"{name} {best * 1e3:.2f} ms"
