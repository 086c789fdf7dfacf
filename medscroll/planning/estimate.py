"""Time and traffic of one setup; its memory is in `memory`, its host and disk in `host_disk`.

Time: floating-point operations at the efficiencies in `EFFICIENCY`, bytes over the bandwidths of the cluster,
communication by the collectives that the stage really calls (ZeRO-1 and 2 all-reduce gradients; stage 3 gathers twice
and reduces once a micro step). What is assumed and not fitted to measured runs is said in the notes of every plan.
Cost: arithmetic.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from medscroll.planning.candidate import NetworkBytes, TimeBreakdown, TrainingSetup
from medscroll.planning.cluster import Cluster
from medscroll.planning.compute import ModelFlops, model_flops
from medscroll.planning.parameters import trained

GIB = 2**30
# Share of the peak that large matrix products and attention reach; assumed, by architecture.
EFFICIENCY = {"hopper": (0.62, 0.45), "ampere": (0.70, 0.45), "blackwell": (0.60, 0.40)}
OTHER_EFFICIENCY = (0.60, 0.35)
OVERLAPPED = 0.85  # share of a micro step's computation that communication can hide behind
NOTES = (
    "efficiencies of matrix products and attention, overlap, CUDA context and allocator slack are assumed, "
    "not fitted to measured runs; a run's own check (3 and 20 steps) corrects them",
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


def note_of(setup: TrainingSetup) -> tuple[Any, ...]:
    """What a reader should know about how a setup was predicted."""
    return NOTES
