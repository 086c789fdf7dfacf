"""GPU memory of one rank at its peak, by part: the highest of all moments of a step.

    forward, loss, backward   weights, optimizer states, kept gradients, live bytes of that moment (`activation_bytes`),
                              communication buffers, under ZeRO-3 gathered parameters (`live_parameters`)
    optimizer                 the same without activations, with what the engine's step adds for a while (`shards`)

All of it is counted from the model's class and DeepSpeed's own arithmetic. Fitted to measured runs are only the
constants of `medscroll/config/data/memory_fit.json`, named there with the runs: what lies outside torch's allocator,
the allocator's slack, and workspaces of libraries. `error_bound` comes from the runs that were held out of the fit.

Cost: a second for every number of tokens of a row, remembered.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from medscroll.model.activation_levels import Level, parse_level
from medscroll.planning.candidate import MemoryBreakdown, TrainingSetup
from medscroll.planning.live_bytes import KINDS, RegionPeak
from medscroll.planning.live_parameters import LiveElements, live_elements
from medscroll.planning.parameters import config_text, parameters_of, quiet, trained
from medscroll.planning.shards import SIZES, Shards, adapter_size, shards_of

GIB = 2**30
MOMENTS = {"forward": "forward", "loss": "loss"}  # regions that are not of the backward pass


@dataclass(frozen=True)
class Fit:
    """Constants from measured runs.

    Attributes:
        context: bytes outside torch's allocator on one GPU (CUDA context, kernels, cuBLAS handles).
        communication: further bytes outside it under DeepSpeed, whose communicators NCCL opens also for one rank.
        workspace: bytes inside it that no operation shows (cuBLAS workspaces).
        slack: share of the allocated peak that the allocator reserves beyond it.
        error_bound: relative error of a plan for one GPU, from the runs that were held out.
        error_bound_ranks: the same for several, where gathered weights and buffers were not measured.
        source: which runs, in words.
    """

    context: float
    communication: float
    workspace: float
    slack: float
    error_bound: float
    error_bound_ranks: float
    source: str


@functools.cache
def memory_fit() -> Fit:
    """The shipped constants."""
    text = resources.files("medscroll.config").joinpath("data/memory_fit.json").read_text("utf-8")
    return Fit(**json.loads(text))


@dataclass(frozen=True)
class _Moment:
    """One moment of a step: what is there beside weights and states."""

    name: str
    kinds: dict[str, int]
    gradients: int
    buffers: int
    live: int
    update: int

    @property
    def total(self) -> int:
        return sum(self.kinds.values()) + self.gradients + self.buffers + self.live + self.update


def step_shape(setup: TrainingSetup) -> Any:
    """The micro step of a setup, as `activation_bytes` is asked about it."""
    import torch

    from medscroll.planning.stand_ins import ACCUMULATORS
    from medscroll.planning.step_on_meta import StepShape

    return StepShape(
        config_text(setup),
        setup.micro_tokens,
        weight_dtype=getattr(torch, setup.weight_dtype),
        compute_dtype=getattr(torch, setup.compute_dtype),
        lora_rank=setup.lora_rank,
        lora_targets=setup.lora_targets,
        lora_dtype=torch.float32 if adapter_size(setup) == 4 else getattr(torch, setup.weight_dtype),
        quantized=setup.quantized_bits > 0,
        liger=setup.liger,
        fused_loss=setup.fused_loss,
        portions=setup.fused_loss and setup.engine == "deepspeed" and setup.zero_stage == 3,
        accumulators=ACCUMULATORS.get(setup.attn_backend, "grouped"),
        autocast=setup.engine != "deepspeed",
    )


def loss_is_fused(config: Any, stage: int, *, liger: bool, trust_remote_code: bool = False) -> bool:
    """Whether a run makes no whole logits: by Liger's loss, under ZeRO-3 by `medscroll.model.loss_in_portions`."""
    if stage != 3:
        return liger
    from medscroll.model.loss_in_portions import why_not

    return not why_not(config, trust_remote_code=trust_remote_code)


def num_layers(setup: TrainingSetup) -> int:
    """Decoder layers of the setup's model."""
    return int(setup.config.get_text_config().num_hidden_layers)


def memory_of(setup: TrainingSetup) -> MemoryBreakdown:
    """The peak of one rank, by part."""
    from medscroll.planning.activation_bytes import level_bytes

    fit, shards, level = memory_fit(), shards_of(setup), parse_level(setup.activation_memory)
    with quiet():
        peaks = level_bytes(step_shape(setup), num_layers(setup), level).peaks
    moments = [_of_region(setup, shards, level, name, peak) for name, peak in peaks.items()]
    moments.append(_of_update(setup, shards))
    top = max(moments, key=lambda item: item.total)
    workspace = int(fit.workspace)
    states = shards.master + shards.moments
    allocated = shards.weights + states + shards.held_buckets + top.total + workspace
    return MemoryBreakdown(
        weights=shards.weights,
        gradients=top.gradients,
        optimizer_states=states,
        **{kind: top.kinds.get(kind, 0) for kind in KINDS},
        communication_buffers=shards.held_buckets + top.buffers,
        live_parameters=top.live,
        optimizer_workspace=top.update + workspace,
        cuda_context=int(fit.context + (fit.communication if setup.ranks > 1 or setup.engine == "deepspeed" else 0)),
        allocator_slack=int(fit.slack * allocated),
        moment=top.name,
        why=_reasons(setup, fit),
    )


def error_bound(setup: TrainingSetup) -> float:
    """Relative error up to which the plan of a setup is trusted."""
    fit = memory_fit()
    return fit.error_bound if setup.ranks == 1 else fit.error_bound_ranks


def note_of(setup: TrainingSetup) -> tuple[str, ...]:
    """What a reader should know about how memory was predicted."""
    fit = memory_fit()
    return (f"GPU memory: CUDA context, cuBLAS and the allocator's slack are {fit.source}; the rest is counted",)


def _of_region(setup: TrainingSetup, shards: Shards, level: Level, region: str, peak: RegionPeak) -> _Moment:
    """A stretch of forward or backward pass."""
    stage = setup.zero_stage if setup.engine == "deepspeed" else 0
    in_backward = region.startswith("backward")
    kinds, gradients = peak.live, shards.gradients
    if stage == 0 and setup.accumulation == 1:
        kinds, gradients = peak.kept_live, peak.kept_gradients  # they appear as the backward pass goes
    live = 0
    if stage == 3 and (setup.ranks > 1 or setup.offload_parameters):
        found = live_elements(parameters_of(setup), setup.zero_options, recompute=level.recomputes)
        live = SIZES[setup.weight_dtype] * (_live_in(found, region) + (found.joined if setup.ranks > 1 else 0))
    return _Moment(
        MOMENTS.get(region, "backward"),
        kinds,
        gradients + (shards.reduced if in_backward else 0),
        shards.buckets if in_backward else 0,
        live,
        0,
    )


def _live_in(found: LiveElements, region: str) -> int:
    if region in ("forward", "loss"):
        return max(found.forward, found.loss) if region == "loss" else found.forward
    return found.backward_last if region == "backward last" else found.backward


def _of_update(setup: TrainingSetup, shards: Shards) -> _Moment:
    """The optimizer's step, with all gradients there."""
    stage = setup.zero_stage if setup.engine == "deepspeed" else 0
    gradients = {0: shards.whole_gradients, 3: shards.gradients}.get(stage, shards.reduced)
    return _Moment("optimizer", {}, gradients, 0, 0, shards.update)


def _reasons(setup: TrainingSetup, fit: Fit) -> dict[str, str]:
    """What each part consists of, in words."""
    ranks, ours = setup.ranks, trained(setup)
    stage = setup.zero_stage if setup.engine == "deepspeed" else 0
    shared = f" / {ranks} ranks" if ranks > 1 else ""
    size = f"{setup.quantized_bits} bits" if setup.quantized_bits else setup.weight_dtype
    second = f"; second copy over {setup.hpz_group} ranks" if setup.hpz_group > 1 else ""
    return {
        "weights": f"{setup.parameters / 1e9:.2f} B in {size}{shared if stage == 3 else ''}{second}",
        "optimizer_states": f"{ours / 1e9:.3f} B trained{shared if stage else ''}",
        "gradients": f"{ours / 1e9:.3f} B trained{shared if stage >= 2 else ''}",
        "activations": f"{setup.micro_tokens:,} tokens, level {setup.activation_memory}",
        "recompute_workspace": "one layer at work in the backward pass",
        "live_parameters": "weights that ZeRO-3 has gathered",
        "optimizer_workspace": "the engine's copies of gradients during its step, and cuBLAS",
        "allocator_slack": f"{fit.slack:.1%} of the allocated bytes, fitted",
        "cuda_context": "and NCCL, fitted" if setup.ranks > 1 else "fitted",
    }
