"""Chooses what the backward pass finds kept (`--activation_memory`), and how bfloat16 weights are updated.

How: `auto` walks from the fastest level to the smallest and takes the first that the plan of this very run
(`planning.memory`) fits into the device, and the host where layer inputs wait there. Everything it needs is known
before the model is built. Cost: on a GPU a few seconds, for the model's class is run on the meta device; none on a CPU.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from medscroll.config.training import TrainingArguments
from medscroll.engine.defaults import Choice
from medscroll.errors import CapacityError, ConfigError
from medscroll.model.activation_levels import TILE_TOKENS, Level, parse_level
from medscroll.model.tiled_mlp import can_tile
from medscroll.planning.candidate import GIB, TrainingSetup
from medscroll.planning.host_disk import stored_inputs
from medscroll.planning.machine import cgroup_memory_limit
from medscroll.planning.memory import error_bound, memory_of, num_layers

HOST_USABLE = 0.97  # of a host's memory
HOST_LEFT = 6 * GIB  # for the process itself
FREE = 0.03  # of the device is left to the allocator's gaps where moving another layer input to the host gives it
LONG_ROW = 1 << 16  # tokens from which attention costs more than everything else, if one document fills the row


@dataclass(frozen=True)
class Room:
    """Bytes that this rank may use: on its device (None: a CPU, where nothing is chosen), and in host memory."""

    device: int | None
    host: int


def room_here(device: object, local_ranks: int) -> Room:
    """What a rank may use: of totals, not of what is free now, so that all ranks choose the same level."""
    import torch

    total, limit = psutil.virtual_memory().total, cgroup_memory_limit()
    host = int((total if limit is None else min(total, limit)) * HOST_USABLE) // max(local_ranks, 1)
    place = torch.device(str(device))
    if place.type != "cuda":
        return Room(None, host)
    return Room(int(torch.cuda.get_device_properties(place).total_memory), host)


@dataclass(frozen=True)
class Estimate:
    """Planned bytes of a level: on the device by kind, and of layer inputs in host memory.

    `spare` are the bytes by which the plan may be too low: they must be free too. Weights are known to the byte and
    take no part in it, which decides where they nearly fill the device.
    """

    states: float
    kept: float
    working: float
    host: float
    spare: float = 0.0

    @property
    def device(self) -> float:
        """Bytes on the device at the peak of a step."""
        return self.states + self.kept + self.working


def estimate(setup: TrainingSetup, level: Level) -> Estimate:
    """The plan of a setup at a level."""
    asked = setup.replace(activation_memory=level.name)
    memory = memory_of(asked)
    states = memory.weights + memory.optimizer_states + memory.gradients + memory.cuda_context
    spare = error_bound(asked) * (memory.allocated - memory.weights)
    slack = 0 if grows_in_place() else memory.allocator_slack
    working = memory.allocated + memory.cuda_context + slack - states - memory.activations
    return Estimate(states, memory.activations, working, stored_inputs(asked), spare)


def grows_in_place() -> bool:
    """Whether torch's allocator has expandable segments, with which it can use nearly all of a full GPU."""
    settings = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "") + os.environ.get("PYTORCH_ALLOC_CONF", "")
    return "expandable_segments:True" in settings


def choose_level(args: TrainingArguments, setup: TrainingSetup, room: Room) -> tuple[Level, Choice]:
    """The level of this run and why; writes its name into `args` and switches HF's own recomputation off.

    Args:
        setup: the run with everything chosen but its level.

    Raises:
        ConfigError: contradicting flags.
        CapacityError: no level holds this block_size; names the longest one that would fit.
    """
    asked = _asked(args)
    if asked == "auto":
        level, reason = _automatic(setup, room)
    else:
        level, reason = parse_level(asked), "given"
        if room.device is not None:
            reason += _planned(setup, level, room)
    args.activation_memory = level.name
    # the engine recomputes by itself: HF's switch would replace the functions that it gives to the layers
    args.gradient_checkpointing = None
    if hasattr(args, "activation_checkpointing"):
        args.activation_checkpointing = None
    return level, Choice("activation_memory", level.name, reason)


def _planned(setup: TrainingSetup, level: Level, room: Room) -> str:
    try:
        return f"; planned {_words(estimate(setup, level), room)}"
    except Exception as error:  # a plan is help, never a condition of training
        return f"; no plan of this model: {type(error).__name__}"


def _automatic(setup: TrainingSetup, room: Room) -> tuple[Level, str]:
    """The first level that fits; `full` where this model cannot be planned."""
    if room.device is None:
        return Level("none"), "a CPU has memory to spare"
    try:
        return _first_that_fits(setup, room)
    except CapacityError:
        raise
    except Exception as error:
        return Level("full"), f"no plan of this model ({type(error).__name__}): the level that every model has"


def _asked(args: TrainingArguments) -> str:
    switch = args.gradient_checkpointing
    if getattr(args, "activation_checkpointing", None) is not None:  # the newer name of the same HF flag
        switch = args.activation_checkpointing
    if switch is None:
        return args.activation_memory
    same = "full" if switch else "none"
    if args.activation_memory in ("auto", same):
        return same
    if switch and parse_level(args.activation_memory).recomputes:
        return args.activation_memory
    raise ConfigError(
        f"--activation_memory {args.activation_memory} and --gradient_checkpointing {str(switch).lower()}",
        where="--activation_memory",
        remedy="leave --gradient_checkpointing out",
    )


def _levels(layers: int, tokens: int, *, tile: bool) -> Iterator[Level]:
    """From fastest to smallest. Kept attention saves what grows with the square of a document.

    Copies to the host run beside the computation; in a long row, where a layer takes a tenth of a second, they cost
    less than any recomputation, in a short one they come after it.
    A tiled MLP computes the MLP once more, which a long row hardly feels; so there it comes before attention is
    recomputed, and in a short row not at all.
    """
    tiled = tokens > TILE_TOKENS and tile
    yield Level("none")
    for count in range(layers, 0, -1):
        yield Level("linear", None if count == layers else count)
        if tokens >= LONG_ROW:
            yield Level("linear", None if count == layers else count, offload=True)
    yield Level("attention")
    yield Level("attention", offload=True)
    if tiled and tokens >= LONG_ROW:
        yield Level("attention", tiled=True)
        yield Level("attention", offload=True, tiled=True)
    yield from _smallest(tiled=tiled)


def _smallest(*, tiled: bool) -> Iterator[Level]:
    """The levels that keep layer inputs alone, or fewer."""
    yield Level("full")
    yield Level("full", offload=True)
    if tiled:
        yield Level("full", tiled=True)
        yield Level("full", offload=True, tiled=True)
    for offload in (True, False):
        for every in (2, 4, 8):
            yield Level("every", every=every, offload=offload)
            if tiled:
                yield Level("every", every=every, offload=offload, tiled=True)


def _first_that_fits(setup: TrainingSetup, room: Room) -> tuple[Level, str]:
    tiles, tokens = can_tile(setup.config), setup.micro_tokens
    for candidate in _levels(num_layers(setup), tokens, tile=tiles):
        held = _held(setup, candidate, room)
        if held is not None:
            chosen, found = held
            fastest = "" if chosen.kind == "none" else "; faster levels do not fit"
            return chosen, f"planned {_words(found, room)}{fastest}"
    longest = longest_block_that_fits(setup, room, tile=tiles)
    smallest = min(
        (estimate(setup, level) for level in _smallest(tiled=tiles and tokens > TILE_TOKENS)),
        key=lambda found: found.device,
    )
    if longest >= 256:
        remedy = f"--block_size {longest}, which fits; or more GPUs with --deepspeed zero3, or --use_peft"
    else:
        remedy = "the states alone do not fit: --deepspeed zero3 over more GPUs, zero3_offload, --use_peft or --qlora"
    raise CapacityError(
        f"no level of activation memory holds rows of {setup.micro_tokens:,} tokens: the smallest is planned at "
        f"{_words(smallest, room)}",
        where="--block_size x --per_device_train_batch_size",
        remedy=remedy,
    )


def _held(setup: TrainingSetup, level: Level, room: Room) -> tuple[Level, Estimate] | None:
    """The level and its plan where the room holds it; of layer inputs only as many go to the host as must."""
    found = estimate(setup, level)
    if not level.offload:
        return (level, found) if _fits(found, room) else None
    if not _fits(dataclasses.replace(found, host=0), room):
        return None
    for share in (1 - FREE, 1.0):
        part = _least_moved(setup, level, int(share * room.device) if room.device is not None else 0)
        found = estimate(setup, part)
        if _fits(found, room):
            return part, found
    return None


def _least_moved(setup: TrainingSetup, level: Level, device: int) -> Level:
    """The level with as few layer inputs in host memory as `device` bytes allow; with all of them, if need be."""
    low, high = 1, level.on_host(num_layers(setup))
    everything = high
    while low < high:
        middle = (low + high) // 2
        found = estimate(setup, dataclasses.replace(level, moved=middle))
        low, high = (low, middle) if found.device + found.spare <= device else (middle + 1, high)
    return level if high == everything else dataclasses.replace(level, moved=high)


def _fits(found: Estimate, room: Room) -> bool:
    on_host = found.host == 0 or found.host + HOST_LEFT <= room.host
    return room.device is not None and found.device + found.spare <= room.device and on_host


def longest_block_that_fits(setup: TrainingSetup, room: Room, *, tile: bool) -> int:
    """The most tokens a block may have at any level, in steps of 256; memory is close to linear in them."""

    def fits(tokens: int) -> bool:
        shorter = setup.replace(block_size=tokens)
        tiled = tile and shorter.micro_tokens > TILE_TOKENS
        return any(_held(shorter, level, room) is not None for level in _smallest(tiled=tiled))

    low, high = 0, setup.block_size // 256
    while low < high and high - low > max(1, low // 16):  # each question runs the model on the meta device
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(256 * middle) else (low, middle - 1)
    return 256 * low


def _words(found: Estimate, room: Room) -> str:
    free = "" if room.device is None else f" of {room.device / GIB:.1f}"
    parts = f"states {found.states / GIB:.1f}, kept {found.kept / GIB:.1f}, at work {found.working / GIB:.1f}"
    host = f", host {found.host / GIB:.1f} GiB" if found.host else ""
    return f"{found.device / GIB:.1f}{free} GiB ({parts}{host})"


def choose_rounding(args: TrainingArguments, *, weights_bf16: bool, deepspeed: bool, adapter: bool) -> Choice | None:
    """Decides `--weight_rounding` in place; None where there is nothing to choose.

    Raises:
        ConfigError: stochastic where weights are not bfloat16 or their owner is DeepSpeed, or with another optimizer.
    """
    applies = weights_bf16 and not deepspeed and not adapter
    adamw = str(getattr(args.optim, "value", args.optim)) in ("adamw_torch", "adamw_torch_fused")
    if args.weight_rounding == "stochastic" and not (applies and adamw):
        raise ConfigError(
            "stochastic rounding is AdamW's on bfloat16 weights without DeepSpeed",
            where="--weight_rounding stochastic",
            remedy="--dtype bfloat16 --deepspeed none without --use_peft; DeepSpeed keeps float32 masters itself",
        )
    if not applies:
        return None
    if args.weight_rounding == "auto":
        args.weight_rounding = "stochastic" if adamw else "nearest"
        reason = "bfloat16 weights without masters: rounding to nearest would lose updates below 1/512 of a weight"
        if not adamw:
            reason = f"--optim {args.optim} rounds by itself; small updates of bfloat16 weights may be lost"
        return Choice("weight_rounding", args.weight_rounding, reason)
    return None
