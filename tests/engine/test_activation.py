"""The level of activation memory that `auto` takes, and what is said where none fits."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from medscroll.planning.activations import GIB, Step

from medscroll.config.training import TrainingArguments
from medscroll.engine.activation import Room, choose_level
from medscroll.errors import CapacityError, ConfigError
from tests.planning.test_activations import step

H200, H100 = (Room(int(size * 0.97 * GIB), int(124 * GIB)) for size in (139.8, 79.1))


def auto(found: Step, room: Room) -> str:
    args = TrainingArguments(output_dir="unused")
    level, choice = choose_level(args, found, room)
    assert args.activation_memory == level.name
    assert args.gradient_checkpointing is None  # HF's switch would replace what the engine sets
    assert "estimated" in choice.reason
    return level.name


@pytest.mark.parametrize(
    ("tokens", "room", "level"),
    [(8192, H200, "none"), (32768, H200, "linear"), (262144, H200, "attention_offload_tiled"),
     (65536, H100, "attention"), (131072, H100, "full_offload"), (262144, H100, "full_offload_tiled")],
)  # fmt: skip
def test_auto_takes_the_fastest_that_fits(tokens: int, room: Room, level: str) -> None:
    assert auto(step(tokens), room) == level


def test_layers_that_cannot_be_tiled_never_are() -> None:
    found = step(262144, can_tile=False)
    assert auto(found, H200) == "full_offload"
    with pytest.raises(CapacityError):
        auto(found, H100)


def test_where_nothing_fits_the_longest_row_that_would_is_named_and_fits() -> None:
    with pytest.raises(CapacityError, match=r"no level .* 1,048,576 tokens") as caught:
        auto(step(1 << 20), H100)
    longest = int(re.search(r"--block_size (\d+)", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert 262144 < longest < 1 << 20
    assert auto(step(longest), H100).endswith("_tiled")
    with pytest.raises(CapacityError):
        auto(step(longest + 512), H100)


def test_states_that_do_not_fit_alone_name_other_ways() -> None:
    with pytest.raises(CapacityError, match="zero3"):
        auto(replace(step(8192), parameters=10**11, trainable=10**11), H100)


def test_a_cpu_keeps_everything() -> None:
    args = TrainingArguments(output_dir="unused")
    assert choose_level(args, step(8192), Room(None, GIB))[0].name == "none"


def test_hf_flag_and_level_may_not_contradict() -> None:
    args = TrainingArguments(output_dir="unused", gradient_checkpointing=False, activation_memory="full")
    with pytest.raises(ConfigError, match="gradient_checkpointing"):
        choose_level(args, step(8192), H200)
    args = TrainingArguments(output_dir="unused", gradient_checkpointing=True)
    assert choose_level(args, step(8192), H200)[0].name == "full"
