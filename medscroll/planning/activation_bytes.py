"""Live bytes of a micro step at any level of activation memory, from the real model class on the meta device.

How: `step_on_meta` runs the step for the five kinds of layers (nothing recomputed, linear, mlp, attention, full), with
or without tiled MLPs. The other levels are made of those: `linear_N` and `mlp_N` keep the more in N layers and
attention in the others; layer inputs that wait in host memory, or are computed again from every k-th one, leave the
sum. Both are exact in the number of layers, because what a layer keeps is the same for all of them.

Cost: two runs of 0.2 to 1 second a kind, remembered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from medscroll.model.activation_levels import TILE_TOKENS, Level
from medscroll.planning.live_bytes import RegionPeak
from medscroll.planning.step_on_meta import StepShape, live_regions

IN_FLIGHT = 2  # layer inputs on the device while they go out or come back (`medscroll.model.host_store`)


@dataclass(frozen=True)
class LevelBytes:
    """What a level takes in a micro step.

    Attributes:
        peaks: stretch of the step -> its highest point.
        host: bytes of layer inputs in host memory.
        notes: what was found out on the way.
    """

    peaks: dict[str, RegionPeak]
    host: int = 0
    notes: tuple[str, ...] = field(default=())


def level_bytes(shape: StepShape, layers: int, level: Level) -> LevelBytes:
    """The live bytes of a step whose layers keep what `level` says.

    Args:
        shape: of the step; its `keep` is set here.
        layers: of the model.
    """
    kind = "full" if level.kind in ("full", "every") else level.kind
    shape = dataclasses.replace(shape, tiled=level.tiled and shape.tokens > TILE_TOKENS)
    whole = live_regions(dataclasses.replace(shape, keep=kind), layers)
    peaks = whole.peaks
    if level.layers is not None and level.layers < layers:
        peaks = _thinned(shape, layers, layers - level.layers, kind, peaks)
    if not level.offload and level.every == 1:
        return LevelBytes(peaks, notes=whole.notes)
    size = whole.layer_input
    moved = {region: _shifted(peak, size * _gone(region, layers, level)) for region, peak in peaks.items()}
    return LevelBytes(moved, size * level.on_host(layers), whole.notes)


def _gone(region: str, layers: int, level: Level) -> int:
    """Layer inputs (negative: fewer) that a region holds beside those of plain recomputation, which holds them all."""
    stored = -(-layers // level.every)
    kept = stored - level.on_host(layers) + min(IN_FLIGHT, level.on_host(layers))
    again = 0
    if level.every > 1 and region.startswith("backward"):
        again = (layers - 1) % level.every if region == "backward last" else level.every - 1
        if region != "backward last" and not level.offload:
            kept = max(stored - 1, 1)
    if region in ("backward first", "backward end"):
        return min(level.every, layers) - 1 if region == "backward first" else 0  # one input was left there
    return kept + again - layers


def _shifted(peak: RegionPeak, extra: int) -> RegionPeak:
    """A peak with `extra` bytes more of activations; never below nothing."""

    def moved(live: dict[str, int]) -> dict[str, int]:
        return {**live, "activations": max(0, live.get("activations", 0) + extra)}

    return RegionPeak.of(moved(peak.live), moved(peak.kept_live), peak.kept_gradients)


def _thinned(
    shape: StepShape, layers: int, thin: int, kind: str, peaks: dict[str, RegionPeak]
) -> dict[str, RegionPeak]:
    """Peaks of a model of which `thin` layers keep their attention alone and the others, the last included, `kind`."""
    one_less = live_regions(dataclasses.replace(shape, keep=kind), layers - 1).peaks
    attention = dataclasses.replace(shape, keep="attention")
    lean, lean_less = live_regions(attention, layers).peaks, live_regions(attention, layers - 1).peaks

    def mixed(read: Callable[[RegionPeak], dict[str, int]], region: str) -> dict[str, int]:
        rich, fewer = read(peaks[region]), read(one_less[region])
        low, low_fewer = read(lean[region]), read(lean_less[region])
        out = {}
        for name in rich.keys() | low.keys():
            each = rich.get(name, 0) - fewer.get(name, 0)
            each_lean = low.get(name, 0) - low_fewer.get(name, 0)
            out[name] = max(0, rich.get(name, 0) - thin * (each - each_lean))
        return out

    return {
        region: RegionPeak.of(
            mixed(lambda found: found.live, region), mixed(lambda found: found.kept_live, region), peak.kept_gradients
        )
        for region, peak in peaks.items()
    }
