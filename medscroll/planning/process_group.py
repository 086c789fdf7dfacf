"""Leaving a process group so that no rank dies on the way out.

Two races end jobs that have succeeded. A rank that leaves early takes its connections with it and gloo aborts the ranks
that still write: so all meet first. And gloo's worker threads release the tensors of the last collective after it has
returned, for which they take Python's lock; Python 3.11 ends a thread that asks for it while the interpreter shuts
down, in the middle of a destructor, and the process aborts ("terminate called without an active exception"). Whoever
holds a reference to the group, as DeepSpeed does, keeps these threads alive beyond `destroy_process_group`. Measured
with torch 2.13 on two busy cores: 1 of 4 short jobs. So the main thread waits before it ends, the lock released.

Cost: one barrier and `SECONDS`.
"""

from __future__ import annotations

import time

SECONDS = 0.5


def leave() -> None:
    """Leave the process group after all ranks have arrived. All ranks take part; without a group it does nothing."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        abandon()


def abandon() -> None:
    """Leave the process group without meeting the others, as after an error that may have hit one rank alone."""
    import torch.distributed as dist

    dist.destroy_process_group()
    time.sleep(SECONDS)
