"""What the engine sends in a step: the collectives that DeepSpeed 0.19 calls, their bytes and their seconds.

    stage 1   all-reduce of the gradients in the last micro step, behind its backward pass; all-gather of the weights
    stage 2   all-reduce in every micro step (not reduce-scatter: `use_multi_rank_bucket_allreduce` is on); all-gather
    stage 3   a micro step: all-gathers as `gathers` walks them, reduce-scatter of the gradients; a step: all-gather of
              what is persistent. With hpZ a weight crosses nodes once a step, in the first micro step's forward pass;
              all other gathers stay inside the group (the second copy is dropped only by the optimizer's step)
    trainer   DistributedDataParallel: all-reduce of the gradients in the last micro step

Rings move (n - 1) / n of a tensor through every rank, twice for an all-reduce, and enter and leave each node once: the
bandwidth of several nodes is that of a node's ports together, or of the links inside, whichever is less. Each call
costs the latency of its ring. Cost: milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from medscroll.planning.candidate import NetworkBytes, TrainingSetup
from medscroll.planning.cluster import Cluster
from medscroll.planning.gathers import Gathers, Limits, gathers
from medscroll.planning.layer_work import ModelWork
from medscroll.planning.speeds import efficiencies


@dataclass(frozen=True)
class Ring:
    """The ring of a group of ranks.

    Attributes:
        ranks: of the group.
        bandwidth: bytes a second through each rank.
        latency: seconds of one collective of no bytes.
    """

    ranks: int
    bandwidth: float
    latency: float

    def seconds(self, size: float, calls: float = 1.0, passes: int = 1) -> float:
        """Seconds to gather or reduce-scatter `size` bytes in `calls` collectives; an all-reduce makes two passes."""
        if self.ranks < 2 or not size:
            return 0.0
        return passes * (size * (self.ranks - 1) / self.ranks / self.bandwidth + calls * self.latency)


@dataclass(frozen=True)
class Communication:
    """Seconds on the links, and the bytes.

    Attributes:
        forward, backward: of one micro step, behind the forward and the backward pass.
        first_forward: of the first micro step of a step (with hpZ it gathers over all nodes).
        last_backward: of the last micro step (ZeRO-1 and DDP reduce in it).
        tail: of a micro step: what nothing can hide, the first gather and the last bucket.
        end: at the end of the step, with nothing beside it.
        network: the bytes.
    """

    forward: float
    backward: float
    first_forward: float
    last_backward: float
    tail: float
    end: float
    network: NetworkBytes


def ring(cluster: Cluster, ranks: int, nodes: int) -> Ring:
    """The ring of `ranks` ranks on `nodes` nodes."""
    inside = float(efficiencies()["network"]["ring_step_us"]) * 1e-6
    if nodes <= 1:
        return Ring(ranks, cluster.bus_bandwidth, max(ranks - 1, 0) * inside)
    width = min(cluster.bus_bandwidth, cluster.node_bandwidth)
    return Ring(ranks, width, (ranks - nodes) * inside + nodes * cluster.latency)


def limits_of(options: dict[str, object]) -> Limits:
    """The limits of a `zero_optimization` object, with DeepSpeed's defaults."""

    def value(name: str, default: int) -> int:
        found = options.get(name, default)
        return int(found) if isinstance(found, (int, float)) else default

    return Limits(
        reuse=value("stage3_max_reuse_distance", 1_000_000_000),
        live=value("stage3_max_live_parameters", 1_000_000_000),
        prefetch=value("stage3_prefetch_bucket_size", 50_000_000),
        persistence=value("stage3_param_persistence_threshold", 100_000),
    )


def communication(setup: TrainingSetup, work: ModelWork, cluster: Cluster, trained: int) -> Communication:
    """The communication of a setup.

    Args:
        trained: parameters that have gradients.
    """
    if setup.ranks == 1:
        return Communication(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, NetworkBytes(0.0, 0.0, 0.0))
    sharded = setup.engine == "deepspeed" and setup.zero_stage > 0
    if sharded and setup.zero_stage == 3:
        return _stage_3(setup, work, cluster, trained)
    outer, micro_steps = ring(cluster, setup.ranks, setup.nodes), setup.accumulation
    gradients = _bytes_a_gradient(setup) * float(trained)
    bucket = min(gradients, 2.0 * _bucket(setup) if sharded else 25e6)
    reduce = outer.seconds(gradients, max(1.0, gradients / bucket), passes=2)
    tail = outer.seconds(bucket, passes=2)
    every = sharded and setup.zero_stage == 2
    gather = outer.seconds(gradients) if sharded else 0.0
    reduced = gradients * (micro_steps if every else 1)
    share = (setup.ranks - 1) / setup.ranks
    crosses = setup.nodes > 1
    per_micro = 2 * share * gradients if every else 0.0
    per_step = share * (2 * reduced + (gradients if sharded else 0.0))
    network = NetworkBytes(
        per_micro_step=per_micro if crosses else 0.0,
        per_step=per_step if crosses else 0.0,
        per_rank_step=per_step,
        collectives={"all_reduce": reduced} | ({"all_gather": gradients} if sharded else {}),
    )
    backward = reduce if every else 0.0
    return Communication(0.0, backward, 0.0, reduce, tail if every else tail / micro_steps, gather, network)


def _stage_3(setup: TrainingSetup, work: ModelWork, cluster: Cluster, trained: int) -> Communication:
    outer = ring(cluster, setup.ranks, setup.nodes)
    grouped = setup.hpz_group > 1
    group_nodes = -(-setup.hpz_group // setup.gpus_per_node) if grouped else setup.nodes
    group = ring(cluster, setup.hpz_group, group_nodes) if grouped else outer
    found = gathered(setup, work, trained)
    size, grads = _bytes_a_gradient(setup), _bytes_a_gradient(setup) * float(trained)
    bucket = min(grads, size * max(_bucket(setup), float(max(work.modules))))
    reduce = outer.seconds(grads, max(1.0, grads / bucket))
    forward, backward = size * found.forward, size * found.backward
    first = outer.seconds(forward, found.forward_calls)
    later = group.seconds(forward, found.forward_calls)
    again = group.seconds(backward, found.backward_calls)
    end = outer.seconds(size * found.persistent) if found.persistent else 0.0
    steps, share = setup.accumulation, (setup.ranks - 1) / setup.ranks
    inside = (setup.hpz_group - 1) / setup.hpz_group if grouped else share
    every = (forward + backward) * steps
    # with hpZ each weight is gathered over all ranks the first time in a step, then from the second copy
    once = size * (setup.parameters - found.persistent) if grouped else every
    over_all, in_group = once + size * found.persistent, max(0.0, every - once)
    crossing = share * (over_all + grads * steps) + (inside * in_group if group_nodes > 1 else 0.0)
    micro = (share * (grads + once / steps)) if grouped and group_nodes == 1 else crossing / steps
    crosses = setup.nodes > 1
    network = NetworkBytes(
        per_micro_step=micro if crosses else 0.0,
        per_step=crossing if crosses else 0.0,
        per_rank_step=share * (over_all + grads * steps) + inside * in_group,
        collectives={"all_gather": over_all, "reduce_scatter": grads * steps}
        | ({"all_gather_in_group": in_group} if grouped else {}),
    )
    tail = outer.seconds(min(size * float(max(work.modules)), forward)) + outer.seconds(bucket)
    return Communication(later, again + reduce, first, again + reduce, tail, end, network)


def gathered(setup: TrainingSetup, work: ModelWork, trained: int) -> Gathers:
    """What ZeRO-3 gathers in a micro step of this setup.

    Frozen weights that a recomputation has gathered are let go by the module whose backward pass asked for it
    (`ds_recompute_parameters`), so with adapters every layer is gathered once more, whatever the reuse distance.
    """
    limits = limits_of(setup.zero_options)
    recomputes = setup.activation_memory != "none"
    modules = tuple(size for size in work.modules if size > limits.persistence)
    found = gathers(modules, work.layers, work.embedding, work.head, recomputes, limits=limits)
    kept = found.persistent + (sum(work.modules) - sum(modules)) * work.layers
    forward, backward = found.forward, found.backward
    calls, back_calls = found.forward_calls, found.backward_calls
    if setup.lora_rank:
        if recomputes:
            backward += sum(modules) * work.layers
            back_calls += len(modules) * work.layers
        if setup.lora_rank * work.hidden > limits.persistence:
            forward, backward = forward + trained, backward + trained
            calls, back_calls = calls + len(modules) * work.layers, back_calls + len(modules) * work.layers
        else:
            kept += trained
    return Gathers(forward, backward, calls, back_calls, kept)


def _bucket(setup: TrainingSetup) -> float:
    found = setup.zero_options.get("reduce_bucket_size", 5e8)
    return float(found) if isinstance(found, (int, float)) else 5e8


def _bytes_a_gradient(setup: TrainingSetup) -> int:
    return 4 if setup.weight_dtype == "float32" else 2
