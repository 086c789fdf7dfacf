"""The time of one optimizer step: computation, optimizer, host transfers, and the communication that stays exposed.

    forward pass    max(computation, gathers)                      of every micro step
    backward pass   max(computation, gathers + reductions)         of every micro step
    tails           the first gather and the last bucket, which have nothing to hide behind
    end             the optimizer, the gather of new weights (ZeRO-1, 2), transfers to and from the host

DeepSpeed issues gathers ahead of the computation and reduces on a stream of its own, so inside a pass both run beside
each other; what is hidden still takes multiprocessors and memory from the computation (`interference`). Cost: some
milliseconds a setup.
"""

from __future__ import annotations

import dataclasses

from medscroll.model.activation_levels import parse_level
from medscroll.planning.candidate import NetworkBytes, TimeBreakdown, TrainingSetup
from medscroll.planning.cluster import Cluster
from medscroll.planning.compute import ModelFlops, model_flops
from medscroll.planning.compute_time import ComputeTime, compute_time, optimizer_time
from medscroll.planning.layer_work import ModelWork, model_work
from medscroll.planning.speeds import efficiencies, speeds_of
from medscroll.planning.traffic import Communication, communication, ring

HALF = 0.5  # share of the peak in the rule of thumb that `hiding_at_half_peak` states
HOST_COPIES = 0.7  # of the slot's rate that copies to pinned memory reach


def time_of(setup: TrainingSetup, cluster: Cluster, trained: int, config: str) -> tuple[TimeBreakdown, NetworkBytes]:
    """Seconds of an optimizer step, and its traffic with the tokens that hide it.

    Args:
        trained: parameters that have gradients.
        config: the model's configuration as text.
    """
    work = model_work(config)
    compute = compute_time(setup, work, cluster.gpu)
    sent = communication(setup, work, cluster, trained)
    steps = setup.accumulation
    exposed, total = exposure(compute, sent, steps)
    optimizer, copies = optimizer_time(setup, trained, cluster.gpu)
    host = _host_transfer(setup, trained, cluster, compute)
    forward, backward = _issuing(setup, work)
    waiting = max(0.0, forward - compute.forward.total)  # short rows: Python is slower than the GPU
    waiting += max(0.0, backward - compute.backward.total - compute.recompute.total)
    parts = {
        name: (getattr(compute.forward, name) + getattr(compute.backward, name)) * steps
        for name in ("matmul", "attention", "elementwise")
    }
    busy = (compute.total + copies) * steps
    breakdown = TimeBreakdown(
        matmul=parts["matmul"],
        attention=parts["attention"],
        elementwise=parts["elementwise"] + copies * steps,
        recompute=compute.recompute.total * steps,
        optimizer=optimizer,
        host_transfer=host,
        communication_total=total,
        communication_exposed=exposed,
        overhead=waiting * steps + float(efficiencies()["other"]["share"]) * busy,
        why=_why(setup, cluster),
    )
    flops: ModelFlops = model_flops(setup.config, setup.parameters)
    length = min(setup.document_length or setup.block_size, setup.block_size)
    tokens = float(setup.micro_tokens)
    useful = flops.of(tokens, tokens * length) * steps
    timed = dataclasses.replace(
        breakdown,
        tokens_per_second=setup.step_tokens / breakdown.step,
        mfu=useful / breakdown.step / cluster.gpu.peak_flops,
    )
    return timed, _hiding(setup, cluster, compute, sent, work=work, trained=trained)


def exposure(compute: ComputeTime, sent: Communication, steps: int) -> tuple[float, float]:
    """(exposed, total) seconds of communication in a step of `steps` micro steps."""
    interference = float(efficiencies()["network"]["interference"])
    behind = (compute.forward.total, compute.backward.total + compute.recompute.total)
    first = (sent.first_forward, sent.last_backward if steps == 1 else sent.backward, 1)
    micro_steps = [first, (sent.forward, sent.backward, max(steps - 2, 0))]
    if steps > 1:
        micro_steps.append((sent.forward, sent.last_backward, 1))
    exposed, total = sent.end + sent.tail * steps, sent.end
    for forward, backward, times in micro_steps:
        for links, hidden_by in zip((forward, backward), behind, strict=True):
            hidden = min(links, hidden_by)
            exposed += times * (links - hidden + interference * hidden)
            total += times * links
    return min(exposed, total), total


def _issuing(setup: TrainingSetup, work: ModelWork) -> tuple[float, float]:
    """Seconds in which the host issues the kernels of a micro step, forward and backward."""
    table = efficiencies()["host"]
    again = 0.0 if setup.activation_memory == "none" else 1.0
    adapters = 1.5 if setup.lora_rank else 1.0
    forward = float(table["forward_us"]) * 1e-6 * adapters
    backward = float(table["backward_us"]) * 1e-6 * adapters + again * forward
    if setup.zero_stage == 3:
        modules = len(work.modules) + 2 * len(work.products) * (setup.lora_rank > 0)
        hooks = float(table["zero3_module_us"]) * 1e-6 * modules
        forward, backward = forward + hooks, backward + (1 + again) * hooks
    return forward * work.layers, backward * work.layers


def _host_transfer(setup: TrainingSetup, trained: int, cluster: Cluster, compute: ComputeTime) -> float:
    """Seconds of copies between GPU and host in a step, the part that is not beside the computation."""
    rate, steps = HOST_COPIES * cluster.gpu.pcie_bandwidth, setup.accumulation
    own = trained / (setup.ranks if setup.zero_stage else 1)
    seconds = 0.0
    if setup.offload_optimizer:
        # gradients out; while they accumulate, in and out again; new weights back
        seconds += (2.0 * (2 * steps - 1) + 2.0) * own / rate
    if setup.offload_parameters:
        seconds += steps * 4.0 * setup.parameters / setup.ranks / rate
    level = parse_level(setup.activation_memory)
    if level.offload:
        text = setup.config.get_text_config()
        rows = 2.0 * setup.micro_tokens * text.hidden_size * -(-text.num_hidden_layers // level.every)
        late = max(0.0, rows / rate - compute.forward.total)
        late += max(0.0, rows / rate - compute.backward.total - compute.recompute.total)
        seconds += steps * late
    return seconds


def _hiding(
    setup: TrainingSetup,
    cluster: Cluster,
    compute: ComputeTime,
    sent: Communication,
    *,
    work: ModelWork,
    trained: int,
) -> NetworkBytes:
    """The bytes with the least tokens a GPU and micro step that hide them.

    Two figures: at the speed of this plan, by the pass that is harder to hide; and the rule of thumb, all bytes at the
    line rate behind all model FLOPs (recomputation counted as a third) at half of the peak.
    """
    network = sent.network
    if setup.nodes == 1 or not network.per_micro_step:
        return network
    tokens = setup.micro_tokens
    forward = sent.forward / compute.forward.total
    backward = sent.backward / (compute.backward.total + compute.recompute.total)
    passes = 4 / 3 if parse_level(setup.activation_memory).recomputes else 1.0
    line = cluster.uplink.rate * cluster.uplinks if cluster.uplink is not None else cluster.node_bandwidth
    flops = model_flops(setup.config, setup.parameters)
    each = passes * flops.of(1.0, 4096.0) / (HALF * cluster.gpu.peak_flops)  # seconds a token
    each *= min(line, cluster.bus_bandwidth)
    plain = None
    if setup.hpz_group > 1:
        plain = communication(setup.replace(hpz_group=1), work, cluster, trained).network.per_micro_step / each
    return dataclasses.replace(
        network,
        hiding_tokens=tokens * max(forward, backward),
        hiding_at_half_peak=network.per_micro_step / each,
        hiding_without_hpz=plain,
    )


def _why(setup: TrainingSetup, cluster: Cluster) -> dict[str, str]:
    speeds = speeds_of(cluster.gpu, setup.attn_backend)
    why = {
        "products": f"{speeds.matmul / 1e12:,.0f} TFLOP/s of {cluster.gpu.peak_flops / 1e12:,.0f}",
        "attention": f"{setup.attn_backend}, up to {speeds.attention / 1e12:,.0f} TFLOP/s",
        "memory": f"{speeds.memory / 1e12:.1f} TB/s",
    }
    if setup.ranks > 1:
        outer = ring(cluster, setup.ranks, setup.nodes)
        why["links"] = f"{outer.bandwidth / 1e9:,.0f} GB/s a ring, {outer.latency * 1e6:,.0f} us a collective"
    return why


def assumptions(setup: TrainingSetup, cluster: Cluster) -> tuple[str, ...]:
    """What of the predicted time has no measurement behind it, in sentences."""
    found = list(speeds_of(cluster.gpu, setup.attn_backend).assumed)
    if setup.ranks > 1:
        found.append("a tenth of hidden communication slows the computation beside it")
    if setup.offload_optimizer:
        found.append("CPU Adam at 100 GB/s a node")
    return (f"assumed for the time: {'; '.join(found)}",) if found else ()
