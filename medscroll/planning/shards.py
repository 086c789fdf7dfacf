"""What each rank holds of weights, gradients and optimizer states: bytes as transformers and DeepSpeed 0.19 allocate.

Read from deepspeed/runtime/zero/stage_1_and_2.py and stage3.py, and held against the tensors of real runs on two and
four ranks (tests/planning/test_shards_gloo.py):

    without DeepSpeed   weights, gradients and Adam's two moments, each in the weight's dtype, on every rank
    stages 1 and 2      a flat copy of each optimizer group, padded to 2 x ranks elements; float32 master and moments of
                        this rank's part; stage 1 keeps whole gradients while it accumulates, stage 2 its part
    stage 3             every parameter divided by itself and rounded up; float32 master and moments of the part; a
                        gradient buffer of the part for the whole run
    offload             master, moments and their gradients in host memory; stage 3 may put the weights there too

Gradients have the dtype of the weights unless `data_types.grad_accum_dtype` of the DeepSpeed configuration says
otherwise. Cost: arithmetic over the list of parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medscroll.planning.candidate import TrainingSetup
from medscroll.planning.parameters import ParameterShape, parameters_of

SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZED = 1.06  # 4-bit and 8-bit weights with their constants (double quantisation)
ALIGNMENT = 2  # elements a rank, stages 1 and 2


@dataclass(frozen=True)
class Shards:
    """Bytes on the GPU of the rank that holds most; `host_*` are bytes of the same rank in host memory.

    Attributes:
        weights: of the model as forward and backward read them.
        master, moments: of the optimizer.
        gradients: that stay between the micro steps of an optimizer step (and under stage 3 always).
        reduced: that a backward pass adds for reduced gradients before they join `gradients`.
        whole_gradients: of all trained parameters on one rank, in their dtype.
        update: most bytes that the optimizer's step adds for a while.
        buckets: communication buffers during the backward pass.
        held_buckets: those that stay for the whole run.
        elements: trained elements of this rank (what the optimizer updates).
    """

    weights: int
    master: int
    moments: int
    gradients: int
    reduced: int
    whole_gradients: int
    update: int
    buckets: int
    held_buckets: int
    elements: int
    host_states: int = 0
    host_weights: int = 0


def shards_of(setup: TrainingSetup) -> Shards:
    """The shards of a setup."""
    parameters = parameters_of(setup)
    if setup.engine != "deepspeed" or not setup.zero_stage:
        return _unsharded(setup, parameters)
    return _stage_3(setup, parameters) if setup.zero_stage == 3 else _stages_1_and_2(setup, parameters)


def _numel(items: Iterable[ParameterShape]) -> int:
    return sum(item.numel for item in items)


def adapter_size(setup: TrainingSetup) -> int:
    """Bytes of a trained weight: peft makes adapters float32, and only stages 1 and 2 cast them like all else."""
    if setup.lora_rank and not (setup.engine == "deepspeed" and setup.zero_stage in (1, 2)):
        return 4
    return SIZES[setup.weight_dtype]


def frozen_bytes(setup: TrainingSetup, parameters: Iterable[ParameterShape]) -> float:
    """Bytes of the weights that are not trained, of the whole model."""
    frozen = [item for item in parameters if not item.trained]
    if not setup.quantized_bits:
        return float(_numel(frozen) * SIZES[setup.weight_dtype])
    packed = [item for item in frozen if item.decays and "embed" not in item.name and "lm_head" not in item.name]
    whole = SIZES[setup.weight_dtype] * (_numel(frozen) - _numel(packed))
    return _numel(packed) * setup.quantized_bits / 8 * QUANTIZED + whole


def _unsharded(setup: TrainingSetup, parameters: tuple[ParameterShape, ...]) -> Shards:
    ours, size = _numel(item for item in parameters if item.trained), adapter_size(setup)
    whole = ours * size
    return Shards(
        weights=int(frozen_bytes(setup, parameters) + whole),
        master=0,
        moments=2 * whole,
        gradients=whole if setup.accumulation > 1 else 0,
        reduced=0,
        whole_gradients=whole,
        update=0,
        buckets=0,
        held_buckets=whole if setup.ranks > 1 else 0,  # DistributedDataParallel's buckets, beside the gradients
        elements=ours,
    )


def optimizer_groups(parameters: Iterable[ParameterShape]) -> list[list[ParameterShape]]:
    """The trained parameters in the Trainer's groups: with and without weight decay; empty groups left out."""
    ours = [item for item in parameters if item.trained]
    groups = [[item for item in ours if item.decays], [item for item in ours if not item.decays]]
    return [group for group in groups if group]


def _stages_1_and_2(setup: TrainingSetup, parameters: tuple[ParameterShape, ...]) -> Shards:
    ranks, size = setup.ranks, SIZES[setup.weight_dtype]
    groups = optimizer_groups(parameters)
    unit = ALIGNMENT * ranks
    flat = [-(-_numel(group) // unit) * unit for group in groups]
    parts = [elements // ranks for elements in flat]
    part, largest = sum(parts), max(parts)
    robin = setup.zero_stage == 2 and bool(setup.zero_options.get("round_robin_gradients", False))
    reaching = most_reaching(parameters, ranks, robin=robin)
    biggest = max((item.numel for group in groups for item in group), default=0)
    bucket = int(setup.zero_options.get("reduce_bucket_size", 5e8))
    copies = 2 if setup.zero_options.get("overlap_comm", True) else 1
    filled = min(bucket, _numel(item for group in groups for item in group))
    held = setup.zero_stage == 2 and setup.accumulation > 1
    weights = int(frozen_bytes(setup, parameters) + size * sum(flat))
    common = {
        "weights": weights,
        "whole_gradients": size * _numel(item for group in groups for item in group),
        "buckets": size * (copies * bucket + filled),
        "elements": part,
    }
    if setup.offload_optimizer:
        extra = size * reaching if setup.accumulation > 1 else 0
        common["buckets"] += 4 * biggest  # a float32 copy of one gradient at a time, for its norm
        states = (4 + 4 + 8) * part + size * part + size * biggest + extra
        return Shards(
            **common,
            master=0,
            moments=0,
            gradients=size * _numel(p for g in groups for p in g) if _piles_up(setup) else 0,
            reduced=0,
            update=0,
            held_buckets=size * biggest,
            host_states=states,
        )
    if setup.zero_stage == 1:
        held_bytes = common["whole_gradients"] if _piles_up(setup) else 0
    else:
        held_bytes = size * reaching if held else 0
    return Shards(
        **common,
        master=4 * part,
        moments=8 * part,
        gradients=held_bytes,
        reduced=size * reaching,
        # beside the gradients their flat copy and its float32 copy, group after group
        update=(size + 4) * largest,
        held_buckets=0,
    )


def _piles_up(setup: TrainingSetup) -> bool:
    """Whether whole gradients stay on each rank between micro steps: stage 1 reduces at the last one only."""
    return setup.zero_stage == 1 and setup.accumulation > 1


@functools.lru_cache(maxsize=256)
def most_reaching(parameters: tuple[ParameterShape, ...], ranks: int, *, robin: bool) -> int:
    """Elements of the parameters that reach into the part of the rank where they are most.

    DeepSpeed keeps their gradients whole.
    """
    total = np.zeros(ranks, dtype=np.int64)
    unit = ALIGNMENT * ranks
    for group in optimizer_groups(parameters):
        part = -(-_numel(group) // unit) * unit // ranks
        dealt = [item for first in range(ranks) for item in group[first::ranks]] if robin else group
        sizes = np.array([item.numel for item in dealt], dtype=np.int64)
        ends = np.cumsum(sizes)
        low = np.arange(ranks, dtype=np.int64) * part
        first = np.searchsorted(ends, low, side="right")  # of those that end behind the part's begin
        last = np.searchsorted(ends - sizes, low + part, side="left")  # of those that begin at the part's end or later
        before = np.concatenate([np.zeros(1, dtype=np.int64), ends])
        total += np.maximum(before[last] - before[first], 0)
    return int(total.max())


def _stage_3(setup: TrainingSetup, parameters: tuple[ParameterShape, ...]) -> Shards:
    ranks, size = setup.ranks, SIZES[setup.weight_dtype]
    ours = [item for item in parameters if item.trained]
    threshold = int(setup.zero_options.get("stage3_param_persistence_threshold", 100_000))
    part = sum(-(-item.numel // ranks) for item in ours)
    frozen = sum(-(-item.numel // ranks) for item in parameters if not item.trained)
    # persistent parameters stay gathered, beside their part; on one rank they are the part
    persistent = _numel(item for item in parameters if item.numel <= threshold) if ranks > 1 else 0
    groups = [sub for group in optimizer_groups(parameters) for sub in sub_groups(group, setup)]
    largest = max(groups, default=0)
    bucket = int(setup.zero_options.get("reduce_bucket_size", 5e8))
    biggest = max((item.numel for item in ours), default=0)
    secondary = 0
    if setup.hpz_group > 1:
        secondary = sum(-(-item.numel // setup.hpz_group) for item in parameters)
    there = 0 if setup.offload_parameters else size * frozen + adapter_size(setup) * part
    weights = size * (persistent + secondary) + there
    common = {
        "weights": weights,
        "whole_gradients": size * _numel(ours),
        "reduced": 0,
        # a bucket's gradients are joined for the reduce-scatter; one larger than the bucket is its own buffer, where
        # the ranks divide it evenly
        "buckets": size * max(min(bucket, _numel(ours)), biggest if biggest % ranks == 0 else 2 * biggest),
        "held_buckets": size * bucket,
        "elements": part,
    }
    if setup.offload_optimizer:
        states = (4 + 4 + 8) * part + size * part
        host_weights = size * (part + frozen) if setup.offload_parameters else 0
        return Shards(
            **common, master=0, moments=0, gradients=0, update=0, host_states=states, host_weights=host_weights
        )
    return Shards(
        **common,
        master=4 * part,
        moments=8 * part,
        gradients=size * part,
        update=(size + 4) * largest,
        host_weights=size * (part + frozen) if setup.offload_parameters else 0,
    )


def sub_groups(group: list[ParameterShape], setup: TrainingSetup) -> list[int]:
    """Elements of this rank in each sub-group of an optimizer group, which stage 3 updates one after the other."""
    limit = int(setup.zero_options.get("sub_group_size", 1e9))
    found, current = [], 0
    for item in group:
        current += -(-item.numel // setup.ranks)
        if current >= limit:
            found.append(current)
            current = 0
    return [*found, current] if current else found
