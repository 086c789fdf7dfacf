"""Host memory of a node and disk of checkpoints, from the same shards as GPU memory.

Cost: arithmetic.
"""

from __future__ import annotations

import math

from medscroll.model.activation_levels import parse_level
from medscroll.planning.candidate import Disk, HostMemory, TrainingSetup
from medscroll.planning.cluster import Cluster
from medscroll.planning.parameters import quiet, trained
from medscroll.planning.shards import shards_of

GIB = 2**30
PROCESS = 4 * GIB  # resident bytes of one rank beside its tensors: torch, CUDA, DeepSpeed, data workers


def stored_inputs(setup: TrainingSetup) -> int:
    """Bytes of layer inputs that one rank keeps in host memory."""
    level = parse_level(setup.activation_memory)
    if not level.offload:
        return 0
    from medscroll.planning.activation_bytes import level_bytes
    from medscroll.planning.memory import num_layers, step_shape

    with quiet():
        return level_bytes(step_shape(setup), num_layers(setup), level).host


def host_of(setup: TrainingSetup) -> HostMemory:
    """Host memory of one node: processes, offloaded states and inputs, and the checkpoint file being read."""
    shards, ranks = shards_of(setup), setup.gpus_per_node
    inputs = stored_inputs(setup)
    steady = ranks * (PROCESS + shards.host_states + shards.host_weights + inputs)
    shard = min(2.0 * setup.parameters, 10e9) * ranks
    why = {"at_load": "every process reads a checkpoint file of 10 GB"}
    if shards.host_states:
        why["steady"] = f"{shards.host_states / GIB:.1f} GiB of optimizer states a rank"
    if inputs:
        why["inputs"] = f"{inputs / GIB:.1f} GiB of layer inputs a rank"
    return HostMemory(int(steady + shard), int(steady), why)


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
