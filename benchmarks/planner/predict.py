"""What the planner says of a measured run, asked before anything of it is built. Cost: a second or two."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch

from medscroll.planning.candidate import TrainingSetup
from medscroll.planning.cluster import cluster_here, parse_cluster
from medscroll.planning.memory import memory_of
from medscroll.planning.parameters import config_text, trained
from medscroll.planning.step_time import time_of


def predicted(config: Any, values: dict[str, Any]) -> dict[str, Any]:
    """What the planner says of a setup on this machine's GPUs (an H100 where there is none), in bytes and seconds.

    Where no plan can be made the error stands in its place: the measurement is of use without it.
    """
    try:
        return _predicted(config, values)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300], "at": time.time()}


def _predicted(config: Any, values: dict[str, Any]) -> dict[str, Any]:
    found = TrainingSetup(config=config, **values)
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        cluster = cluster_here(torch.cuda.get_device_name(), total, found.nodes, found.gpus_per_node)
    else:
        cluster = parse_cluster(f"{found.gpus_per_node}xH100-80G")
    memory, (step, network) = memory_of(found), time_of(found, cluster, trained(found), config_text(found))
    seconds = {field.name: getattr(step, field.name) for field in dataclasses.fields(step) if field.name != "why"}
    return {
        "memory": {**memory.parts, "allocated": memory.allocated, "total": memory.total, "moment": memory.moment},
        "seconds": {**seconds, "step": step.step},
        "collectives": network.collectives,
        "cluster": cluster.name,
        "at": time.time(),
    }
