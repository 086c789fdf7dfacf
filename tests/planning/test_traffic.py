"""The collectives of a plan are those that real DeepSpeed calls on 2 and 4 ranks, element for element."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medscroll.config.arguments import ModelArguments
from medscroll.model.load import load_config
from medscroll.planning.candidate import TrainingSetup
from medscroll.planning.cluster import parse_cluster
from medscroll.planning.compute import count_parameters
from medscroll.planning.gathers import Limits, gathers
from medscroll.planning.layer_work import model_work
from medscroll.planning.parameters import config_text, trained
from medscroll.planning.search import zero_options
from medscroll.planning.traffic import communication
from tests.launch import run
from tests.planning.collectives_worker import TASK

# As large against a layer of `tiny` as DeepSpeed's defaults are against one of a 67B model.
LIKE_67B = {"stage3_max_reuse_distance": 60_000, "stage3_max_live_parameters": 60_000}
NOTHING_KEPT = {"stage3_max_reuse_distance": 0, "stage3_max_live_parameters": 0, "stage3_prefetch_bucket_size": 0}


def planned(task: dict[str, Any], ranks: int) -> dict[str, float]:
    """Elements of each kind of collective in one step."""
    config = load_config(ModelArguments(model_name_or_path="tiny", from_scratch=True))
    config.num_hidden_layers, config.vocab_size = task["layers"], task["vocabulary"]
    setup = TrainingSetup(
        config=config,
        model_name="tiny",
        parameters=count_parameters(config),
        gpus_per_node=ranks,
        zero_stage=task["stage"],
        zero_options={**zero_options(task["stage"], config.hidden_size), **task["options"]},
        accumulation=task["accumulation"],
        block_size=32,
        activation_memory="full" if task["recompute"] else "none",
        lora_rank=task["lora"],
        hpz_group=task["hpz"],
    )
    found = communication(setup, model_work(config_text(setup)), parse_cluster(f"{ranks}xH100"), trained(setup))
    return {name: size / 2 for name, size in found.network.collectives.items()}


def check(ranks: int, tasks: list[dict[str, Any]]) -> None:
    """Run the tasks on `ranks` ranks and compare."""
    whole = [{**TASK, **task} for task in tasks]
    output = run(ranks, [json.dumps(whole)], module="tests.planning.collectives_worker", timeout=400).stdout
    counted = [json.loads(line[8:]) for line in output.splitlines() if line.startswith("COUNTED ")]
    assert len(counted) == len(whole)
    for task, found in zip(whole, counted, strict=True):
        plan = planned(task, ranks)
        assert found.keys() == plan.keys(), task
        for name, size in found.items():
            assert size > 1000
            assert plan[name] == pytest.approx(size, rel=0.02), (task, name)


def test_two_ranks_send_what_the_plan_says() -> None:
    check(2, [{"stage": 2, "accumulation": 4}, {"stage": 3, "accumulation": 4, "options": LIKE_67B}])


@pytest.mark.slow
def test_every_stage_with_and_without_adapters_sends_what_the_plan_says() -> None:
    each: list[dict[str, Any]] = [
        {"stage": stage, "accumulation": steps, "lora": lora} for stage in (1, 2) for steps in (1, 4) for lora in (0, 4)
    ]
    each += [
        {"options": LIKE_67B, "recompute": recompute, "lora": lora} for recompute in (False, True) for lora in (0, 4)
    ]
    each += [{"options": NOTHING_KEPT}, {"options": NOTHING_KEPT, "recompute": False}, {}]
    check(2, each)


@pytest.mark.slow
def test_hpz_on_four_ranks_sends_what_the_plan_says() -> None:
    check(4, [{"options": LIKE_67B, "hpz": 2, "accumulation": 3}, {"options": LIKE_67B, "accumulation": 4}])


def test_a_model_that_stays_live_is_gathered_once() -> None:
    once = gathers((1000, 2000), 8, 500, 500, True, limits=Limits(persistence=0))
    assert once.forward == 8 * 3000 + 1000
    assert once.backward == 0
    never = gathers((1000, 2000), 8, 500, 500, False, limits=Limits(reuse=0, live=0, prefetch=0, persistence=0))
    assert never.forward == never.backward == once.forward
    assert gathers((10, 2000), 8, 500, 500, False, limits=Limits(persistence=100)).persistent == 80


def test_many_layers_follow_from_few() -> None:
    limits = Limits(reuse=9000, live=9000, prefetch=900, persistence=0)
    few = [gathers((1000, 2000, 3000), layers, 4000, 4000, True, limits=limits) for layers in (20, 22, 24)]
    assert few[2].backward - few[1].backward == few[1].backward - few[0].backward > 0
    far = gathers((1000, 2000, 3000), 95, 4000, 4000, True, limits=limits)
    assert far.backward == pytest.approx(few[2].backward + 71 * (few[2].backward - few[1].backward) / 2)
