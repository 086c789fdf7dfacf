"""Gathered parameters under ZeRO-3: how many elements a rank holds whole at each point of a micro step.

How: DeepSpeed's coordinator (runtime/zero/partitioned_param_coordinator.py, 0.19) fetches a module's parameters before
its forward and its backward pass and prefetches those of the modules behind, up to `stage3_prefetch_bucket_size`
elements. After a module it lets go of its parameters unless they come again within `stage3_max_reuse_distance`
elements of the trace, which covers one forward and backward pass; `stage3_max_live_parameters` bounds prefetching
alone. This walks the same trace. Parameters below the persistence threshold are always there and counted elsewhere.

Cost: milliseconds a model, remembered.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any

from medscroll.planning.parameters import ParameterShape

_LAYER = re.compile(r"(.*?\.)(\d+)\.")


@dataclass(frozen=True)
class LiveElements:
    """Most elements that are gathered in each stretch of a micro step.

    Attributes:
        forward: until the last decoder layer has ended.
        loss: while the loss is computed and its backward pass begins.
        backward_last: in the backward pass of the last layer, where all activations are still kept.
        backward: in any later layer.
        joined: elements of the largest prefetch, which is gathered into one buffer and then copied apart.
    """

    forward: int
    loss: int
    backward_last: int
    backward: int
    joined: int


@dataclass(frozen=True)
class _Visit:
    module: int
    stretch: str


def live_elements(parameters: tuple[ParameterShape, ...], options: dict[str, Any], *, recompute: bool) -> LiveElements:
    """The elements for a model.

    Args:
        parameters: as `parameters_of` lists them.
        options: `zero_optimization` with "auto" values filled in.
        recompute: whether a layer's forward pass runs again before its backward pass.
    """
    limits = (
        int(options.get("stage3_param_persistence_threshold", 100_000)),
        int(options.get("stage3_prefetch_bucket_size", 5e7)),
        int(options.get("stage3_max_reuse_distance", 1e9)),
        int(options.get("stage3_max_live_parameters", 1e9)),
    )
    return _walk(parameters, limits, recompute)


@functools.lru_cache(maxsize=64)
def _walk(parameters: tuple[ParameterShape, ...], limits: tuple[int, int, int, int], recompute: bool) -> LiveElements:
    threshold, prefetch, reuse, most = limits
    sizes, order = _trace(parameters, threshold, recompute)
    distances = _distances(order, sizes)
    live: set[int] = set()
    fetched_for: dict[int, int] = {}  # module -> last visit that a prefetch was made for
    amount, ahead, joined = 0, 0, 0
    peaks: dict[str, int] = {}
    for step, visit in enumerate(order):
        if visit.module not in live:
            live.add(visit.module)
            amount += sizes[visit.module]
        ahead = max(ahead, step + 1)
        room, taken, fresh = min(most - amount, prefetch), 0, 0
        while ahead < len(order) and taken < room:
            module = order[ahead].module
            fetched_for[module] = ahead
            if module not in live:
                live.add(module)
                taken += sizes[module]
                fresh += 1
            ahead += 1
        amount += taken
        joined = max(joined, taken if fresh > 1 else 0)
        peaks[visit.stretch] = max(peaks.get(visit.stretch, 0), amount)
        if fetched_for.get(visit.module, -1) <= step and distances[step] >= reuse:
            live.discard(visit.module)
            amount -= sizes[visit.module]
    return LiveElements(
        forward=peaks.get("forward", 0),
        loss=peaks.get("loss", 0),
        backward_last=peaks.get("backward last", 0),
        backward=peaks.get("backward", 0),
        joined=joined,
    )


def _distances(order: list[_Visit], sizes: list[int]) -> list[float]:
    """Elements of the modules between each visit and the next one to the same module; infinity for the last."""
    sums = [0]
    for visit in order:
        sums.append(sums[-1] + sizes[visit.module])
    following: dict[int, int] = {}
    found = [math.inf] * len(order)
    for step in range(len(order) - 1, -1, -1):
        again = following.get(order[step].module)
        if again is not None:
            found[step] = sums[again] - sums[step + 1]
        following[order[step].module] = step
    return found


def _trace(parameters: tuple[ParameterShape, ...], threshold: int, recompute: bool) -> tuple[list[int], list[_Visit]]:
    """Elements of each module, and the modules in the order of a forward and a backward pass."""
    names = list(dict.fromkeys(item.module for item in parameters))
    index = {name: number for number, name in enumerate(names)}
    sizes = [0] * len(names)
    for item in parameters:
        if item.numel > threshold:
            sizes[index[item.module]] += item.numel
    layers: dict[int, list[int]] = {}
    before: list[int] = []
    after: list[int] = []
    for number, name in enumerate(names):
        match = _LAYER.match(name + ".")
        if match:
            layers.setdefault(int(match[2]), []).append(number)
        else:
            (after if layers else before).append(number)
    order = [_Visit(number, "forward") for number in before]
    order += [_Visit(number, "forward") for layer in sorted(layers) for number in layers[layer]]
    order += [_Visit(number, "loss") for number in after]
    order += [_Visit(number, "loss") for number in reversed(after)]
    last = max(layers, default=0)
    for layer in sorted(layers, reverse=True):
        stretch = "backward last" if layer == last else "backward"
        if recompute:
            order += [_Visit(number, stretch) for number in layers[layer]]
        order += [_Visit(number, stretch) for number in reversed(layers[layer])]
    order += [_Visit(number, "backward") for number in reversed(before)]
    # modules whose parameters are all persistent take no part
    return sizes, [visit for visit in order if sizes[visit.module]]
