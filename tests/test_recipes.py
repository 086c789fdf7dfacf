"""The recipes: each parses with the real parser, gives a reason for every value, and, shrunk, trains."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from medscroll.config.arguments import AdapterArguments, DataArguments, ModelArguments, PackingArguments
from medscroll.config.medicalgpt import MEDICALGPT_ALIASES
from medscroll.config.parse import Parsed, parse_arguments
from tests import launch

RECIPES = sorted((launch.ROOT / "recipes").glob("*.yaml"))
PARAMETERS = {"yi-6b": 6.06e9, "yi-34b": 34.39e9, "deepseek-67b": 67.43e9}


def parse(words: list[str]) -> Parsed:
    from medscroll.config.training import TrainingArguments

    classes = (ModelArguments, AdapterArguments, DataArguments, PackingArguments, TrainingArguments)
    return parse_arguments(words, classes, verb="pretrain", aliases=MEDICALGPT_ALIASES)


def test_there_is_one_for_each_model_and_size() -> None:
    expected = {f"{model}-{size}" for model in PARAMETERS for size in ("1gpu", "8gpu", "8x8gpu")}
    expected |= {f"{model}-32k-{size}" for model in ("yi-34b", "deepseek-67b") for size in ("8gpu", "8x8gpu")}
    assert {path.stem for path in RECIPES} == expected


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_parses_and_its_arithmetic_holds(path: Path) -> None:
    from medscroll.config.presets import load_preset
    from medscroll.engine.deepspeed import load_deepspeed
    from medscroll.model.load import load_config

    model_args, adapters, _, packing, training = parse([str(path)])
    load_deepspeed(training.deepspeed)
    model, _, size = path.stem.rpartition("-")
    extended = model.endswith("-32k")
    model = model.removesuffix("-32k")
    preset = load_preset(model)
    assert model_args.model_name_or_path == preset.checkpoint
    shape = dataclasses.replace(model_args, model_name_or_path=model, from_scratch=True)
    assert packing.block_size == load_config(shape).max_position_embeddings
    assert packing.block_size == (32768 if extended else preset.config["max_position_embeddings"])
    ranks = {"1gpu": 1, "8gpu": 8, "8x8gpu": 64}[size]
    tokens = (
        training.per_device_train_batch_size * training.gradient_accumulation_steps * ranks * int(packing.block_size)
    )
    text = path.read_text("utf-8")
    assert f"= {tokens:,} tokens a step" in text
    # What the comment claims of memory: the weights, or all states where all are trained, fit 80 GB.
    states = PARAMETERS[model] * (2 if adapters.use_peft else 18)
    if adapters.qlora:
        states = PARAMETERS[model] * 0.55
    if training.deepspeed == "zero3":
        states /= ranks
    elif training.deepspeed == "zero2":
        states = PARAMETERS[model] * (2 + 14 / ranks)
    elif training.deepspeed == "zero1":
        states = PARAMETERS[model] * (4 + 12 / ranks)
    elif training.deepspeed == "zero2_offload":
        states = PARAMETERS[model] * 4
    assert states < 60e9, f"{states / 1e9:.0f} GB leave no room for activations"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_value_has_its_reason_and_the_command_is_there(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    values = [line for line in lines if re.match(r"\w+:", line)]
    assert len(values) >= 8
    assert not [line for line in values if "  # " not in line]
    head = "\n".join(line for line in lines if line.startswith("#"))
    assert f"pretrain recipes/{path.name}" in head
    assert max(map(len, lines)) <= 125


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A saved tiny model and prepared made-up data."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from medscroll.config.presets import load_preset

    folder = tmp_path_factory.mktemp("recipes")
    launch.run(1, ["sample", str(folder / "raw"), "--documents", "20", "--max_characters", "4000"])
    raw, tokenizer = str(folder / "raw"), str(folder / "model")
    launch.run(1, [raw, tokenizer, "--vocab_size", "600"], module="medscroll.model.tokenizer_training")
    LlamaForCausalLM(LlamaConfig(**load_preset("tiny").config)).save_pretrained(folder / "model")
    words = ["prepare", raw, "--output_dir", str(folder / "data"), "--tokenizer_name_or_path", tokenizer]
    launch.run(1, [*words, "--num_workers", "1", "--validation_fraction", "0"])
    return folder / "model", folder / "data"


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shrunk_recipe_trains(path: Path, tiny_checkpoint: tuple[Path, Path], tmp_path: Path) -> None:
    """The recipe itself, on a tiny model, two CPU processes for many GPUs, float32 and no 4-bit base."""
    model, data = tiny_checkpoint
    shrunk: dict[str, object] = {
        "data_dir": data,
        "output_dir": tmp_path / "run",
        "model_name_or_path": model,
        "block_size": 256,
        "max_steps": 3,
        "bf16": "false",
        "use_cpu": "true",
        "save_minutes": 0,
        "replay_share": 0,
    }
    if "qlora" in path.read_text("utf-8"):
        shrunk["qlora"] = "false"  # bitsandbytes needs a GPU
    words = [word for name, value in shrunk.items() for word in (f"--{name}", str(value))]
    processes = 1 if path.stem.endswith("-1gpu") else 2
    launch.run(processes, ["pretrain", str(path), *words])
    losses = launch.losses(tmp_path / "run")
    assert len(losses) == 3
    assert all(0 < loss < 20 for loss in losses.values())
