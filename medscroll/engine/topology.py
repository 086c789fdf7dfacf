"""Which process this is among all of them, read from what `torchrun` set, before any process group exists.

Costs nothing and communicates nothing. A plain `python -m medscroll` is a world of one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Topology:
    """Place of this process: global rank, rank on its node, and both sizes."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int

    @property
    def nodes(self) -> int:
        """Number of nodes, where all run as many processes."""
        return max(1, self.world_size // max(1, self.local_world_size))

    @property
    def gpus_per_node(self) -> int:
        """Processes of one node, each of which has a GPU of its own where there are GPUs."""
        return self.local_world_size

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prints and writes what belongs to the whole run."""
        return self.rank == 0


def topology() -> Topology:
    """The `Topology` that the launcher's environment variables describe."""

    def read(name: str, default: int) -> int:
        return int(os.environ.get(name, default))

    return Topology(
        rank=read("RANK", 0),
        local_rank=read("LOCAL_RANK", 0),
        world_size=read("WORLD_SIZE", 1),
        local_world_size=read("LOCAL_WORLD_SIZE", 1),
    )


def training_device(place: Topology, use_cpu: bool) -> torch.device:
    """The device of this rank: GPU `local_rank` where CUDA works, else the CPU. Selects it for this process."""
    if use_cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when CUDA starts; DeepSpeed and HF then see no GPU either
    import torch

    if use_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", place.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
