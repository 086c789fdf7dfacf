"""What each rank holds: the plan's bytes are those of real DeepSpeed on two and four ranks, part by part, exactly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medscroll.config.arguments import ModelArguments
from medscroll.model.load import load_config
from medscroll.planning.candidate import TrainingSetup
from medscroll.planning.compute import count_parameters
from medscroll.planning.live_parameters import live_elements
from medscroll.planning.parameters import parameters_of, trained
from medscroll.planning.search import zero_options
from medscroll.planning.shards import shards_of
from tests.launch import run
from tests.planning.shards_worker import TASK

PARTS = ("weights", "master", "moments", "gradients")
CPU = {"device": "cpu", "pin_memory": False}


def config_of(**changes: Any) -> Any:
    config = load_config(ModelArguments(model_name_or_path="tiny", from_scratch=True))
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def task_of(stage: int, **changes: Any) -> dict[str, Any]:
    """A task whose buckets and sub-groups are small beside the model, so that several are in use."""
    small = {"reduce_bucket_size": 5000, "stage3_param_persistence_threshold": 100, "sub_group_size": 60_000}
    options = {**zero_options(stage, 64), **small, "round_robin_gradients": stage == 2}
    if changes.get("offload"):
        options["offload_optimizer"] = CPU
        if stage == 3:
            options["offload_param"] = CPU
    return {**TASK, "stage": stage, **changes, "options": {**options, **changes.get("options", {})}}


def setup_of(task: dict[str, Any], ranks: int) -> TrainingSetup:
    config = config_of(num_hidden_layers=task["layers"], vocab_size=task["vocabulary"])
    return TrainingSetup(
        config=config,
        model_name="tiny",
        parameters=count_parameters(config),
        gpus_per_node=ranks,
        zero_stage=task["stage"],
        zero_options=task["options"],
        accumulation=task["accumulation"],
        lora_rank=task["lora"],
        offload_optimizer=task["offload"],
        offload_parameters=task["offload"] and task["stage"] == 3,
        weight_dtype="bfloat16" if task["half"] else "float32",
    )


def check(ranks: int, tasks: list[dict[str, Any]]) -> None:
    """Run the tasks on `ranks` processes and hold every part against the plan; the plan is that of the fullest rank."""
    output = run(ranks, [json.dumps(tasks)], module="tests.planning.shards_worker", timeout=560).stdout
    held = [json.loads(line[5:]) for line in output.splitlines() if line.startswith("HELD ")]
    assert len(held) == len(tasks)
    for task, each in zip(tasks, held, strict=True):
        setup = setup_of(task, ranks)
        plan = shards_of(setup)
        most = {name: max(found[name] for found in each) for name in each[0]}
        if task["offload"]:
            gradients = most["gradients"] if task["stage"] == 3 else 0
            assert most["master"] + most["moments"] + most["host_extra"] + gradients == plan.host_states, task
            assert plan.master == plan.moments == plan.gradients == 0
            on_host = plan.host_weights if task["stage"] == 3 else 0
            assert most["weights"] == plan.weights + on_host, task
            continue
        for part in PARTS:
            assert most[part] == getattr(plan, part), (task, part)
        assert most["bucket"] == plan.held_buckets, task
        known = sum(most[part] for part in PARTS[:3]) + (most["gradients"] if task["stage"] == 3 else 0)
        assert most["alive"] - most["bucket"] == pytest.approx(known, rel=0.02), task  # nothing large was overlooked
        if task["stage"] == 3:
            live = live_elements(parameters_of(setup), task["options"], recompute=task["recompute"])
            forward, backward = max(live.forward, live.loss), max(live.loss, live.backward_last, live.backward)
            if task["lora"]:  # frozen modules at the model's beginning have no backward pass and are let go of earlier
                assert 0.7 * forward < most["live_forward"] <= forward, task
                assert 0.7 * backward < most["live_backward"] <= backward, task
                continue
            assert (most["live_forward"], most["live_backward"]) == (forward, backward), task


def test_two_ranks_hold_what_the_plan_says() -> None:
    check(2, [task_of(1, accumulation=2), task_of(2, accumulation=2), task_of(3)])


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_every_stage_holds_what_the_plan_says(ranks: int) -> None:
    """Stages 1 to 3, with and without adapters, accumulation, offload and float32 weights."""
    tasks = [task_of(s, accumulation=a, lora=r) for s in (1, 2, 3) for a in (1, 3) for r in (0, 4)]
    tasks += [task_of(s, accumulation=a, offload=True) for s in (2, 3) for a in (1, 3)]
    tasks += [task_of(s, accumulation=2, half=False) for s in (2, 3)]
    limits = [(60_000, 20_000, 60_000), (0, 0, 0), (120_000, 9000, 10**9)]
    names = ("stage3_max_reuse_distance", "stage3_prefetch_bucket_size", "stage3_max_live_parameters")
    tasks += [
        task_of(3, recompute=again, options=dict(zip(names, values, strict=True)))
        for again in (False, True)
        for values in limits
    ]
    check(ranks, tasks)


def test_parameters_follow_from_three_layers() -> None:
    """The list for any number of layers is that of the whole model."""
    import torch
    from transformers import AutoModelForCausalLM

    config = config_of(num_hidden_layers=7)
    found = parameters_of(TrainingSetup(config=config, model_name="tiny", parameters=count_parameters(config)))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert [(item.name, item.numel) for item in found] == [(n, p.numel()) for n, p in model.named_parameters()]
    assert all(item.decays == ("norm" not in item.name) for item in found)


def test_adapters_are_counted() -> None:
    config = config_of(num_hidden_layers=6)
    setup = TrainingSetup(
        config=config, model_name="tiny", parameters=count_parameters(config), engine="trainer", zero_stage=0,
        lora_rank=4, accumulation=2,
    )  # fmt: skip
    hidden, width, key_value = config.hidden_size, config.intermediate_size, config.hidden_size // 2
    pairs = [(hidden, hidden)] * 2 + [(hidden, key_value)] * 2 + [(hidden, width)] * 2 + [(width, hidden)]
    ours = 6 * sum(4 * (a + b) for a, b in pairs)
    assert trained(setup) == ours
    plan = shards_of(setup)
    assert plan.weights == 2 * setup.parameters + 4 * ours
    assert plan.moments == 8 * ours
    assert plan.gradients == 4 * ours


def test_more_ranks_hold_less_of_each_part() -> None:
    for stage in (1, 2, 3):
        few, many = (shards_of(setup_of(task_of(stage, accumulation=2, layers=4), ranks)) for ranks in (2, 16))
        assert many.moments * 7 < few.moments
        assert (many.weights * 3 < few.weights) == (stage == 3)
        assert (many.gradients < few.gradients) == (stage >= 2)
