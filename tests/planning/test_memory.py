"""The plan of memory: levels order as they should, agree with arithmetic, and the plan stands by its measured runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from medscroll.config.arguments import ModelArguments
from medscroll.engine.activation import Room, choose_level, estimate
from medscroll.errors import CapacityError
from medscroll.model.activation_levels import Level, parse_level
from medscroll.model.load import load_config
from medscroll.planning.activation_bytes import level_bytes
from medscroll.planning.candidate import GIB, TrainingSetup
from medscroll.planning.compute import count_parameters
from medscroll.planning.host_disk import stored_inputs
from medscroll.planning.layer_shape import LayerShape
from medscroll.planning.memory import loss_is_fused, memory_fit, memory_of, step_shape
from tests.model.shapes import tiny_config

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "planner"
TOKENS = 16_384


def setup(level: str = "full", **changes: Any) -> TrainingSetup:
    config = load_config(ModelArguments(model_name_or_path="yi-6b", from_scratch=True))
    values: dict[str, Any] = {
        "config": config, "model_name": "yi-6b", "parameters": count_parameters(config), "engine": "trainer",
        "zero_stage": 0, "block_size": TOKENS, "activation_memory": level, "fused_loss": True,
        "attn_backend": "flash_attention_4", "accumulation": 2,
    }  # fmt: skip
    return TrainingSetup(**{**values, **changes})


def kept(level: str) -> int:
    return memory_of(setup(level)).activations


def test_each_level_keeps_less_than_the_one_before() -> None:
    order = ("none", "linear", "mlp", "linear_16", "attention", "full", "every_4")
    sizes = [kept(level) for level in order]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    totals = {level: memory_of(setup(level)).total for level in ("full", "full_offload", "full_tiled")}
    assert totals["full_offload"] < totals["full"]
    assert totals["full_tiled"] < totals["full"]


def test_what_a_layer_keeps_is_what_its_tensors_take() -> None:
    """Bytes a token and layer, from the widths: layer input, attention's output and its log, outputs of products."""
    shape = LayerShape.of(setup().config)
    attention = 2 * shape.query + 4 * shape.heads
    by_hand = {
        "full": 2 * shape.hidden,
        "attention": 2 * shape.hidden + attention,
        "mlp": 2 * shape.hidden + attention + 4 * shape.mlp,
        "linear": 2 * shape.hidden + attention + 2 * (shape.query + 2 * shape.key_value + shape.hidden) + 4 * shape.mlp,
    }
    for level, size in by_hand.items():
        last = 2 * shape.hidden  # the last layer's output, which the final norm keeps
        assert kept(level) == pytest.approx((size * shape.layers + last) * TOKENS, rel=0.035), (
            level
        )  # a layer is being used up
    between = memory_of(setup("linear_8")).activations
    lean, rich = kept("attention"), kept("linear")
    assert between == pytest.approx(lean + (rich - lean) * 8 / shape.layers, rel=0.02)
    assert stored_inputs(setup("full_offload")) == by_hand["full"] * shape.layers * TOKENS
    assert stored_inputs(setup("every_4_offload")) == by_hand["full"] * shape.layers * TOKENS // 4
    assert stored_inputs(setup("full")) == 0
    assert stored_inputs(setup("full_offload_5")) == by_hand["full"] * 5 * TOKENS
    # of 32 inputs 12 in host memory: the device has the 20 others besides
    some, all_out = (
        level_bytes(step_shape(setup()), shape.layers, parse_level(name)).peaks["backward last"].live["activations"]
        for name in ("full_offload_12", "full_offload")
    )
    assert some - all_out == by_hand["full"] * (shape.layers - 12) * TOKENS


def test_memory_grows_with_the_row_and_parts_add_up() -> None:
    for level in ("none", "full", "every_2_offload"):
        short, long = (memory_of(setup(level, block_size=size)) for size in (8192, 65_536))
        assert short.total < long.total
        assert short.allocated + short.cuda_context + short.allocator_slack == short.total
        assert long.least(0.02) < long.total < long.most(0.02)


def test_auto_takes_the_first_level_that_fits() -> None:
    """Less room, a smaller level; what was chosen fits and the one before does not."""
    from medscroll.config.training import TrainingArguments

    chosen = []
    for room in (140, 90, 72, 66):
        args = TrainingArguments(output_dir="run")
        level, choice = choose_level(args, setup(), Room(int(room * GIB), 500 * GIB))
        found = estimate(setup(), level)
        assert found.device + found.spare <= room * GIB
        assert args.activation_memory == level.name
        assert choice.reason.startswith("planned")
        chosen.append(level)
    assert chosen[0] == Level("none")
    sizes = [estimate(setup(), level).device for level in chosen]
    assert sizes == sorted(sizes, reverse=True)
    assert len({level.name for level in chosen}) >= 3
    with pytest.raises(CapacityError, match="--block_size"):
        choose_level(TrainingArguments(output_dir="run"), setup(), Room(45 * GIB, 500 * GIB))


def test_a_long_block_under_stage_3_fits_with_the_smaller_levels() -> None:
    from medscroll.planning.cluster import parse_cluster
    from medscroll.planning.search import predict, zero_options

    cluster = parse_cluster("8x8xH100-80G")
    three = {
        "engine": "deepspeed", "zero_stage": 3, "zero_options": zero_options(3, 4096), "nodes": 8, "gpus_per_node": 8,
        "fused_loss": False, "block_size": 131_072,
    }  # fmt: skip
    assert not predict(setup("attention", **three), cluster).fits
    assert predict(setup("full_offload", **three), cluster).fits


def test_stage_3_holds_no_whole_logits() -> None:
    """Logits of a few thousand positions, whatever the row's length; a model that caps its logits has them whole."""
    three = {"engine": "deepspeed", "zero_stage": 3, "zero_options": {"stage": 3}, "gpus_per_node": 8}
    assert loss_is_fused(setup().config, 3, liger=False)
    found = {}
    for fused, tokens in ((True, TOKENS), (True, 4 * TOKENS), (False, 4 * TOKENS)):
        shape = step_shape(setup("full", **three, fused_loss=fused, block_size=tokens))
        found[fused, tokens] = level_bytes(shape, 32, parse_level("full")).peaks["loss"].live["logits"]
    assert 2048 * 64_000 * 4 < found[True, TOKENS] == found[True, 4 * TOKENS]
    assert found[True, 4 * TOKENS] < found[False, 4 * TOKENS] / 8
    capped = tiny_config("cohere2", sliding_window=16)
    assert not loss_is_fused(capped, 3, liger=True)
    assert loss_is_fused(capped, 2, liger=True)


@pytest.mark.slow
def test_the_plan_stands_by_its_measured_runs() -> None:
    """Every run in benchmarks/planner/results: never under by more than 1 %, off by at most 3 %."""
    sys.path[:0] = [str(RESULTS)]
    from fit import plan, read  # type: ignore[import-not-found]

    files = sorted((RESULTS / "results").glob("memory_*.jsonl"))
    runs = read([str(file) for file in files])
    assert len(runs) >= 21
    for run in runs:
        error = plan(run, memory_fit()).allocated / run["peak"] - 1
        assert -0.01 < error < 0.03, (run["name"], error)


def test_the_constants_are_those_of_measured_runs() -> None:
    fit = memory_fit()
    assert "runs on one" in fit.source
    assert 0 < fit.error_bound <= fit.error_bound_ranks <= 0.1
    assert 0 < fit.slack < 0.1
    lines = [json.loads(line) for line in (RESULTS / "results" / "memory_h100.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) >= 21
    assert {parse_level(line["level"]).kind for line in lines} >= {"none", "linear", "mlp", "attention", "full"}


def test_liger_in_the_process_does_not_reach_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liger patches transformers' modules for good; a plan made afterwards is the same and launches none of it."""
    import torch
    from transformers.models.llama import modeling_llama

    from medscroll.planning import step_on_meta

    def fake(name: str, original: type) -> type:
        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("a kernel was launched on a tensor without memory")

        return type(name, (original,), {"__module__": "liger_kernel.transformers", "forward": forward})

    def cross_entropy(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a kernel was launched on a tensor without memory")

    cross_entropy.__module__ = "liger_kernel.transformers.functional"
    plans = [setup("full", liger=liger, fused_loss=liger) for liger in (True, False)]
    before = [memory_of(plan).allocated for plan in plans]
    monkeypatch.setattr(modeling_llama, "LlamaRMSNorm", fake("LigerRMSNorm", modeling_llama.LlamaRMSNorm))
    monkeypatch.setattr(modeling_llama, "LlamaMLP", fake("LigerSwiGLUMLP", modeling_llama.LlamaMLP))
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", cross_entropy)
    step_on_meta.live_regions.cache_clear()
    try:
        assert [memory_of(plan).allocated for plan in plans] == pytest.approx(before, rel=1e-3)
    finally:
        step_on_meta.live_regions.cache_clear()
