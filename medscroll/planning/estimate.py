"""Memory, time and traffic of one setup, from the live bytes of the real model and DeepSpeed's own partitions.

Memory: activations, logits and workspace come from a step of the model's class on the meta device (`step_on_meta`);
weights, gradients and optimizer states from what DeepSpeed 0.19 allocates by stage. Time: floating-point operations at
the efficiencies in `EFFICIENCY`, bytes over the bandwidths of the cluster, communication by the collectives that the
stage really calls (ZeRO-1 and 2 all-reduce gradients; stage 3 gathers twice and reduces once a micro step). What is
assumed and not fitted to measured runs is said in the notes of every plan. Cost: about a second a setup, remembered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import math
import warnings
from collections.abc import Iterator
from typing import Any

from medscroll.errors import missing_package
from medscroll.planning.candidate import Disk, HostMemory, MemoryBreakdown, NetworkBytes, TimeBreakdown, TrainingSetup
from medscroll.planning.cluster import Cluster
from medscroll.planning.compute import ModelFlops, model_flops

GIB = 2**30
# Share of the peak that large matrix products and attention reach; assumed, by architecture.
EFFICIENCY = {"hopper": (0.62, 0.45), "ampere": (0.70, 0.45), "blackwell": (0.60, 0.40)}
OTHER_EFFICIENCY = (0.60, 0.35)
OVERLAPPED = 0.85  # share of a micro step's computation that communication can hide behind
ERROR_BOUND = 0.10
NOTES = (
    "efficiencies of matrix products and attention, overlap, CUDA context and allocator slack are assumed, "
    "not fitted to measured runs; a run's own check (3 and 20 steps) corrects them",
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


def traffic(setup: TrainingSetup, cluster: Cluster) -> tuple[NetworkBytes, float, float]:
    """Bytes of a step, and seconds of communication in one micro step and at the end of a step."""
    ranks, ours = setup.ranks, trained(setup)
    if ranks == 1:
        return NetworkBytes(0.0, 0.0, 0.0), 0.0, 0.0
    size = 4 if setup.weight_dtype == "float32" else 2
    stage = setup.zero_stage if setup.engine == "deepspeed" else 0
    whole, mine, micro_steps = size * float(setup.parameters), size * float(ours), setup.accumulation
    if stage == 3:
        collectives = {"all_gather": 2 * whole * micro_steps, "reduce_scatter": mine * micro_steps}
        micro, end, inside = 2 * whole + mine, 0.0, whole if setup.hpz_group > 1 else 0.0
    elif stage == 2:
        collectives = {"all_reduce": mine * micro_steps, "all_gather": mine}
        micro, end, inside = 2 * mine, mine, 0.0
    else:
        collectives = {"all_reduce": mine} | ({"all_gather": mine} if stage else {})
        micro, end, inside = 0.0, 2 * mine + (mine if stage else 0.0), 0.0
    share = (ranks - 1) / ranks
    outer = min(cluster.bus_bandwidth, cluster.node_bandwidth) if setup.nodes > 1 else cluster.bus_bandwidth
    seconds = share * ((micro - inside) / outer + inside / cluster.bus_bandwidth)
    crossing = share * (micro - inside) if setup.nodes > 1 else 0.0
    last = share * end if setup.nodes > 1 else 0.0
    total = NetworkBytes(
        per_micro_step=crossing,
        per_step=crossing * micro_steps + last,
        per_rank_step=share * (micro * micro_steps + end),
        collectives=collectives,
    )
    return total, seconds, share * end / outer


def time_of(setup: TrainingSetup, cluster: Cluster) -> tuple[TimeBreakdown, NetworkBytes]:
    """Seconds of an optimizer step, and its traffic with the tokens that hide it."""
    flops: ModelFlops = model_flops(setup.config, setup.parameters)
    gpu, tokens, micro_steps = cluster.gpu, setup.micro_tokens, setup.accumulation
    products, attending = EFFICIENCY.get(gpu.architecture, OTHER_EFFICIENCY)
    products *= tokens / (tokens + 256)
    length = min(setup.document_length or setup.block_size, setup.block_size)
    kept = 2 / 3 if setup.lora_rank else 1.0  # no gradients of frozen weights
    matmul = kept * flops.linear * tokens / (gpu.peak_flops * products)
    attention = flops.quadratic * length * tokens / (gpu.peak_flops * attending)
    text = setup.config.get_text_config()
    elementwise = 60.0 * tokens * text.hidden_size * text.num_hidden_layers / gpu.memory_bandwidth
    recomputes = setup.activation_memory not in ("none", "linear", "mlp", "attention")
    again = (flops.linear * tokens / (gpu.peak_flops * products) + attention) / 3 if recomputes else 0.0
    micro = matmul + attention + elementwise + again
    network, micro_seconds, end_seconds = traffic(setup, cluster)
    exposed = max(0.05 * micro_seconds, micro_seconds - OVERLAPPED * micro)
    ours = trained(setup) / (setup.ranks if setup.engine == "deepspeed" and setup.zero_stage else 1)
    host, optimizer = 0.0, 28.0 * ours / gpu.memory_bandwidth
    if setup.offload_optimizer:
        host = (micro_steps + 1) * 2.0 * ours / (0.7 * gpu.pcie_bandwidth)  # gradients out, new weights back
        optimizer = 28.0 * ours * setup.gpus_per_node / 100e9  # CPU Adam at 100 GB/s a node, assumed
    if setup.offload_parameters:
        host += micro_steps * 4.0 * setup.parameters / setup.ranks / (0.7 * gpu.pcie_bandwidth)
    breakdown = TimeBreakdown(
        matmul=matmul * micro_steps,
        attention=attention * micro_steps,
        elementwise=elementwise * micro_steps,
        recompute=again * micro_steps,
        optimizer=optimizer,
        host_transfer=host,
        communication_total=micro_seconds * micro_steps + end_seconds,
        communication_exposed=exposed * micro_steps + end_seconds,
        overhead=0.02 * micro * micro_steps,
    )
    step = breakdown.step
    model = flops.of(float(tokens), float(tokens) * length) * micro_steps
    hiding = micro_seconds / OVERLAPPED / (micro / tokens) if micro_seconds and setup.nodes > 1 else None
    timed = dataclasses.replace(
        breakdown, tokens_per_second=setup.step_tokens / step, mfu=model / step / gpu.peak_flops
    )
    return timed, dataclasses.replace(network, hiding_tokens=hiding)


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
