"""Memory of one setup, from the live bytes of the real model and DeepSpeed's own partitions.

Memory: activations, logits and workspace come from a step of the model's class on the meta device (`step_on_meta`);
weights, gradients and optimizer states from what DeepSpeed 0.19 allocates by stage. Time is `step_time`'s. What is
assumed and not fitted to measured runs is said in the notes of every plan. Cost: about a second a setup, remembered.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import warnings
from collections.abc import Iterator
from typing import Any

from medscroll.errors import missing_package
from medscroll.planning.candidate import Disk, HostMemory, MemoryBreakdown, TrainingSetup
from medscroll.planning.cluster import Cluster

GIB = 2**30
ERROR_BOUND = 0.10
NOTES = (
    "CUDA context and allocator slack are assumed, not fitted to measured runs; a run's own check (3 and 20 steps) "
    "corrects them",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the notices of transformers and peft about a model that is only looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@functools.lru_cache(maxsize=64)
def trainable_parameters(config: str, rank: int, targets: str) -> int:
    """Parameters of LoRA adapters on a model, counted on the meta device at two and three layers."""
    from medscroll.planning.step_on_meta import StepShape, build_on_meta, config_from_json

    def count(layers: int) -> int:
        shape = StepShape(config, 8, False, lora_rank=rank, lora_targets=targets, liger=False, fused_loss=False)
        model = build_on_meta(shape, layers)
        return sum(item.numel() for item in model.parameters() if item.requires_grad)

    if importlib.util.find_spec("peft") is None:
        raise missing_package("peft", "lora", "a plan with --use_peft")
    with quiet():
        low, high = count(2), count(3)
    layers = int(config_from_json(config).get_text_config().num_hidden_layers)
    return low + (layers - 2) * (high - low)


def config_text(setup: TrainingSetup) -> str:
    """The configuration of the model as text that caches can hold."""
    from medscroll.planning.step_on_meta import config_to_json

    return config_to_json(setup.config)


def trained(setup: TrainingSetup) -> int:
    """Parameters that have gradients."""
    if not setup.lora_rank:
        return setup.parameters
    return trainable_parameters(config_text(setup), setup.lora_rank, setup.lora_targets)


def memory_of(setup: TrainingSetup) -> MemoryBreakdown:
    """The peak of one rank, by part: the highest of all moments of a step."""
    import torch

    from medscroll.planning.step_on_meta import StepShape, live_regions

    sharded, ranks = setup.engine == "deepspeed" and setup.zero_stage > 0, setup.ranks
    stage = setup.zero_stage if sharded else 0
    wide, size = setup.weight_dtype == "float32", 4 if setup.weight_dtype == "float32" else 2
    weights = setup.parameters * setup.quantized_bits * 1.06 / 8 if setup.quantized_bits else setup.parameters * size
    ours = trained(setup)
    adapters = 4 * ours if setup.lora_rank and not sharded else 0
    held = weights / (ranks if stage == 3 else 1) + adapters
    if stage == 3 and setup.offload_parameters:
        held = 0.0
    part = ours / ranks if stage else ours
    if stage:
        states = 0.0 if setup.offload_optimizer else (8.0 if wide else 12.0) * part
    else:
        states = 8.0 * ours if wide or setup.lora_rank else 4.0 * ours
    gradient = ours * (4 if wide or adapters else 2)
    whole = {0: gradient, 1: gradient, 2: gradient / ranks, 3: gradient / ranks}[stage]
    if stage >= 2 and setup.offload_optimizer:
        whole = 0.0
    options = setup.zero_options
    bucket = float(options.get("reduce_bucket_size", 5e8)) if stage else 0.0
    buffers = 2 * 2 * min(bucket, ours) if ranks > 1 and stage else gradient if ranks > 1 and not stage else 0.0
    live = 2 * min(float(options.get("stage3_max_live_parameters", 1e9)), setup.parameters) if stage == 3 else 0.0
    hpz = 2 * setup.parameters / setup.hpz_group if setup.hpz_group > 1 else 0.0
    workspace = 4 * min(part, float(options.get("sub_group_size", 1e9))) if stage and not setup.offload_optimizer else 0
    shape = StepShape(
        config_text(setup),
        setup.micro_tokens,
        setup.activation_memory not in ("none", "linear", "mlp", "attention"),
        weight_dtype=getattr(torch, setup.weight_dtype),
        compute_dtype=getattr(torch, setup.compute_dtype),
        lora_rank=setup.lora_rank,
        lora_targets=setup.lora_targets,
        lora_dtype=torch.float32 if not sharded else getattr(torch, setup.weight_dtype),
        quantized=setup.quantized_bits > 0,
        liger=setup.liger,
        fused_loss=setup.fused_loss,
    )
    layers = int(setup.config.get_text_config().num_hidden_layers)
    with quiet():
        regions = live_regions(shape, layers).peaks
    keeps = stage <= 1 and setup.accumulation == 1 and not wide
    if keeps:
        name = max(regions, key=lambda item: regions[item].kept_total)
        kinds, gradients = regions[name].kept_live, float(regions[name].kept_gradients)
    else:
        name = max(regions, key=lambda item: regions[item].total)
        kinds, gradients = regions[name].live, float(whole)
    moment = "loss" if name in ("loss", "forward") else "backward"
    if workspace + whole > sum(kinds.values()) + gradients + live:
        kinds, gradients, live, moment = {}, float(whole), 0.0, "optimizer"
    else:
        workspace = 0
    allocated = held + states + gradients + buffers + live + hpz + workspace + sum(kinds.values())
    divided = f" / {ranks} ranks" if stage == 3 else ""
    return MemoryBreakdown(
        weights=int(held + hpz),
        gradients=int(gradients),
        optimizer_states=int(states),
        activations=kinds.get("activations", 0),
        logits=kinds.get("logits", 0),
        recompute_workspace=kinds.get("recompute_workspace", 0),
        attention_workspace=kinds.get("attention_workspace", 0),
        communication_buffers=int(buffers),
        live_parameters=int(live),
        optimizer_workspace=int(workspace),
        cuda_context=int((1.6 if ranks > 1 else 0.6) * GIB),
        allocator_slack=int(0.03 * allocated),
        moment=moment,
        why={
            "weights": f"{setup.parameters / 1e9:.2f} B x {weights / setup.parameters:.3g} bytes{divided}"
            + (f"; second copy over {setup.hpz_group} ranks" if hpz else ""),
            "optimizer_states": f"{ours / 1e9:.3f} B trained" + (f" / {ranks} ranks" if stage else ""),
            "gradients": f"{ours / 1e9:.3f} B trained" + (f" / {ranks} ranks" if stage >= 2 else ""),
            "activations": f"{setup.micro_tokens:,} tokens, level {setup.activation_memory}",
            "live_parameters": "weights that ZeRO-3 has gathered",
            "allocator_slack": "3 % of the allocated bytes, assumed",
        },
    )


def host_of(setup: TrainingSetup) -> HostMemory:
    """Host memory of one node: processes, offloaded states, and the shard of the checkpoint being read."""
    processes = 4 * GIB * setup.gpus_per_node
    states = 16.0 * trained(setup) / setup.nodes if setup.offload_optimizer else 0.0
    weights = 2.0 * setup.parameters / setup.nodes if setup.offload_parameters else 0.0
    steady = processes + states + weights
    shard = min(2.0 * setup.parameters, 10e9) * setup.gpus_per_node
    return HostMemory(int(steady + shard), int(steady), {"at_load": "every process reads a checkpoint file of 10 GB"})


def disk_of(setup: TrainingSetup) -> Disk:
    """Disk: float32 weights and two moments of what is trained, and the weights; two checkpoints are kept."""
    ours = trained(setup)
    weights = 2 * (ours if setup.lora_rank else setup.parameters)
    checkpoint = 12 * ours + weights
    return Disk(checkpoint, weights, 2 * checkpoint + weights)


def checkpoint_interval(setup: TrainingSetup, cluster: Cluster, bandwidth: float) -> float:
    """Seconds between checkpoints: sqrt(2 x time to failure x time to save) (Young 1974)."""
    save = disk_of(setup).checkpoint / (bandwidth * setup.nodes)
    return math.sqrt(2 * save * cluster.seconds_to_failure * cluster.ranks / setup.ranks)


def note_of(setup: TrainingSetup) -> tuple[Any, ...]:
    """What a reader should know about how a setup was predicted."""
    if setup.activation_memory in ("linear", "mlp", "attention"):
        return (*NOTES, f"level {setup.activation_memory} is counted as none: an upper bound of memory")
    return NOTES
