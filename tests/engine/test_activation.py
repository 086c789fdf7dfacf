"""The level of activation memory that `auto` takes, and what is said where none fits."""

from __future__ import annotations

import re

import pytest

from medscroll.config.arguments import ModelArguments
from medscroll.config.training import TrainingArguments
from medscroll.engine.activation import Room, choose_level, estimate
from medscroll.errors import CapacityError, ConfigError
from medscroll.model.activation_levels import parse_level
from medscroll.model.load import load_config
from medscroll.planning.candidate import GIB, TrainingSetup

H200, H100 = (Room(int(size * GIB), int(124 * GIB)) for size in (139.8, 79.1))
CONFIG = load_config(ModelArguments(model_name_or_path="yi-6b", from_scratch=True))
ORDER = ("none", "linear", "attention", "full", "every")  # from the fastest to the smallest


def setup(tokens: int, parameters: int = 6_061_035_520) -> TrainingSetup:
    """yi-6b on one GPU without DeepSpeed, weights and states in bfloat16, one packed row of documents."""
    return TrainingSetup(
        CONFIG, "yi-6b", parameters, engine="trainer", zero_stage=0, block_size=tokens, document_length=8192.0,
        attn_backend="flash_attention_4", fused_loss=True,
    )  # fmt: skip


def auto(tokens: int, room: Room) -> str:
    args = TrainingArguments(output_dir="unused")
    level, choice = choose_level(args, setup(tokens), room)
    assert args.activation_memory == level.name
    assert args.gradient_checkpointing is None  # HF's switch would replace what the engine sets
    assert "planned" in choice.reason
    found = estimate(setup(tokens), level)
    assert room.device is not None
    assert found.device + found.spare <= room.device
    assert found.host <= room.host
    return level.name


def test_auto_takes_the_fastest_that_fits() -> None:
    """What was measured to fit on an H200 is taken there: nothing recomputed at 8,192 tokens (74.5 GiB)."""
    assert auto(8192, H200) == "none"
    kinds = [ORDER.index(parse_level(auto(tokens, H200)).kind) for tokens in (8192, 32768, 131072)]
    assert kinds == sorted(kinds)
    assert kinds[0] < kinds[-1]
    smaller = [ORDER.index(parse_level(auto(tokens, H100)).kind) for tokens in (8192, 32768)]
    assert all(small >= large for small, large in zip(smaller, kinds, strict=False))


def test_where_nothing_fits_the_longest_row_that_would_is_named_and_fits() -> None:
    with pytest.raises(CapacityError, match=r"no level .* 1,048,576 tokens") as caught:
        auto(1 << 20, H100)
    longest = int(re.search(r"--block_size (\d+)", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert 65536 < longest < 1 << 20
    auto(longest, H100)


def test_a_row_of_393216_fits_and_puts_no_more_into_the_host_than_it_must() -> None:
    """Yi-6B, all parameters, one H200: the layer inputs alone are 96 GiB."""
    level = parse_level(auto(393_216, H200))
    assert level.offload
    assert 1 < (level.moved or 32) < 32
    assert parse_level(auto(393_216, Room(H200.device, int(70 * GIB)))).offload  # the host need not hold them all


def test_weights_that_nearly_fill_the_gpu_leave_room_for_a_long_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSeek-67B with LoRA: 126 GiB of weights, which no error of the plan touches."""
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    config = load_config(ModelArguments(model_name_or_path="deepseek-67b", from_scratch=True))
    lora = setup(32_768, 67_425_000_000).replace(config=config, model_name="deepseek-67b", lora_rank=16)
    level, _ = choose_level(TrainingArguments(output_dir="unused"), lora, H200)
    found = estimate(lora, level)
    assert level.offload
    assert level.tiled
    assert found.states > 126 * GIB
    assert found.spare < 0.5 * GIB


def test_states_that_do_not_fit_alone_name_other_ways() -> None:
    small = Room(12 * GIB, 124 * GIB)  # weights and their gradients are 23 GiB
    with pytest.raises(CapacityError, match="zero3"):
        auto(8192, small)


def test_a_cpu_keeps_everything() -> None:
    args = TrainingArguments(output_dir="unused")
    assert choose_level(args, setup(8192), Room(None, GIB))[0].name == "none"


def test_hf_flag_and_level_may_not_contradict() -> None:
    args = TrainingArguments(output_dir="unused", gradient_checkpointing=False, activation_memory="full")
    with pytest.raises(ConfigError, match="gradient_checkpointing"):
        choose_level(args, setup(8192), H200)
    args = TrainingArguments(output_dir="unused", gradient_checkpointing=True)
    assert choose_level(args, setup(8192), H200)[0].name == "full"
