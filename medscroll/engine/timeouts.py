"""How long collectives wait for a rank that does not come: `--ddp_timeout` for every process group, not only the first.

transformers and accelerate give the timeout to the default group. DeepSpeed opens groups of its own without one, so
they have torch's default (10 minutes with NCCL, 30 with gloo), and it has no argument for it. torch can set the
timeout of a group that exists; where a build of torch cannot, groups keep theirs, as `least_timeout` says. Cost: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch


def use_timeout(seconds: float) -> int:
    """Give every group of this rank the timeout; no communication. Returns how many groups have it now."""
    from torch.distributed import distributed_c10d

    give = getattr(distributed_c10d, "_set_pg_timeout", None)
    if give is None:
        return 0
    count = 0
    for group, backend in _backends():
        try:
            if _timeout(backend) != seconds:
                give(timedelta(seconds=seconds), group)
        except (RuntimeError, ValueError, AttributeError):
            continue
        count += 1
    return count


def least_timeout(given: float) -> float | None:
    """Seconds after which the first collectives of this job give up; None without a process group.

    Args:
        given: `--ddp_timeout`, counted as that of groups that do not tell theirs.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    return min((_timeout(backend) or given for _, backend in _backends()), default=given)


def _backends() -> Iterator[tuple[Any, Any]]:
    """The groups that this rank is in, with what runs their collectives."""
    from torch.distributed import distributed_c10d

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    world: Any = getattr(distributed_c10d, "_world", None)
    for group in list(getattr(world, "pg_map", {})):
        if not isinstance(group, torch.distributed.ProcessGroup):
            continue
        for device in group._device_types:
            yield group, group._get_backend(device)


def _timeout(backend: Any) -> float | None:
    found = getattr(getattr(backend, "options", None), "_timeout", None)
    return found.total_seconds() if isinstance(found, timedelta) else None
