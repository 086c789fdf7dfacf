"""The estimate of memory against peaks measured on an H200, and what tiles and offload change in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from medscroll.planning.activations import GIB, LayerShape, Step, estimate

from medscroll.config.presets import load_preset
from medscroll.model.activation_levels import parse_level

PARAMETERS = 6_061_035_520


def step(tokens: int, **changes: Any) -> Step:
    """A step of yi-6b with bfloat16 weights and states, Liger and flash-attn-4."""
    from transformers import CONFIG_MAPPING

    values = dict(load_preset("yi-6b").config)
    shape = LayerShape.of(CONFIG_MAPPING[values.pop("model_type")](**values))
    plain = Step(shape, tokens, PARAMETERS, PARAMETERS, weight_bytes=2, trained_bytes=2)
    return replace(plain, **changes)


# Peak GiB allocated, one H200, 2026-11-23 and 24: bare loops, and the Trainer where gradients are held or sharded
MEASURED = [
    ("none", 8192, {}, 63.4),
    ("mlp", 8192, {}, 50.0),
    ("full", 32768, {}, 49.1),
    ("attention", 32768, {}, 54.8),
    ("mlp", 32768, {}, 96.3),
    ("full", 65536, {}, 59.2),
    ("attention", 65536, {}, 74.9),
    ("attention", 131072, {}, 115.2),
    ("none", 8192, {"accumulates": True}, 74.6),
    ("none", 8192, {"zero_stage": 2, "accumulates": True}, 131.6),
]


@pytest.mark.parametrize(("level", "tokens", "changes", "peak"), MEASURED)
def test_estimate_is_near_what_was_measured(level: str, tokens: int, changes: dict[str, Any], peak: float) -> None:
    found = estimate(step(tokens, **changes), parse_level(level)).device / GIB
    assert found == pytest.approx(peak, rel=0.08)


def test_offload_moves_layer_inputs_to_the_host() -> None:
    plain, offload = (estimate(step(65536), parse_level(level)) for level in ("full", "full_offload"))
    inputs = 2 * 65536 * 4096 * 32
    assert offload.host == inputs
    assert plain.kept - offload.kept == pytest.approx(inputs * (1 - 3 / 32))


def test_tiles_take_the_mlp_out_of_what_grows_with_the_row() -> None:
    whole, tiled = (estimate(step(262144), parse_level(level)) for level in ("full", "full_tiled"))
    longer = estimate(step(2 * 262144), parse_level("full_tiled"))
    assert tiled.kept == whole.kept
    assert tiled.working < 0.6 * whole.working
    assert longer.working < 2 * tiled.working  # a tile stays as large as it is
    short = [estimate(step(4096), parse_level(level)).working for level in ("full", "full_tiled")]
    assert short[0] == short[1]  # one tile: nothing changes
