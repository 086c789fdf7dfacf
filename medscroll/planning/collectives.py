"""A self test of communication: a sum over all ranks, checked and timed.

Alone, it starts two processes of its own over gloo, and one a GPU over NCCL where there are several GPUs. Under
`torchrun` it takes the ranks that are there, so the same command tests the path between nodes. Every rank takes part
in every collective; rank 0 reports.

Price: some 10 seconds, most of them the import of torch in the processes.
"""

from __future__ import annotations

import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from medscroll.planning.environment import Finding
from medscroll.planning.process_group import leave

ELEMENTS = 4 * 2**20  # float32: 16 MiB
REPEATS = 5
SECONDS = 120


def check_collectives() -> list[Finding]:
    """The findings of the self test; under `torchrun`, findings on rank 0 and an empty list elsewhere."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _with_launcher("nccl" if gpus else "gloo")
    findings = [_alone("gloo", 2)]
    if gpus > 1:
        findings.append(_alone("nccl", gpus))
    return findings


def _alone(backend: str, world: int) -> Finding:
    """Spawn `world` processes of this machine and let them sum."""
    import torch.multiprocessing as processes

    with tempfile.TemporaryDirectory(prefix="medscroll-collectives-") as folder:
        try:
            context = processes.spawn(_worker, args=(world, backend, folder), nprocs=world, join=False)
            deadline = time.monotonic() + SECONDS
            while not context.join(timeout=1):
                if time.monotonic() > deadline:
                    for process in context.processes:
                        process.kill()
                    return _failure(backend, world, f"no answer within {SECONDS} s")
        except Exception as error:
            return _failure(backend, world, str(error).strip().splitlines()[-1])
        seconds = float(Path(folder, "seconds").read_text("ascii"))
    return _success(backend, world, seconds)


def _worker(rank: int, world: int, backend: str, folder: str) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    wait = timedelta(seconds=SECONDS)
    if backend == "nccl":
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=rank, world_size=world, timeout=wait)
    seconds = _sum(world, "cuda" if backend == "nccl" else "cpu")
    if rank == 0:
        Path(folder, "seconds").write_text(repr(seconds), encoding="ascii")
    leave()


def _with_launcher(backend: str) -> list[Finding]:
    """Sum over the ranks that `torchrun` started; all of them take part."""
    import torch
    import torch.distributed as dist

    world = int(os.environ["WORLD_SIZE"])
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=SECONDS))
        seconds = _sum(world, "cuda" if backend == "nccl" else "cpu")
        hosts: list[Any] = [None] * world
        dist.all_gather_object(hosts, os.uname().nodename)
        leave()
    except Exception as error:
        return [_failure(backend, world, str(error).strip().splitlines()[0])]
    if os.environ.get("RANK", "0") != "0":
        return []
    nodes = Finding("collectives", "nodes", ", ".join(dict.fromkeys(hosts)))
    return [nodes, _success(backend, world, seconds)]


def _sum(world: int, device: str) -> float:
    """Seconds of one all-reduce of `ELEMENTS` float32, the median of `REPEATS`; checks the sum. All ranks take part."""
    import torch
    import torch.distributed as dist

    times = []
    for _ in range(REPEATS):
        tensor = torch.full((ELEMENTS,), float(dist.get_rank() + 1), device=device)  # [elements]
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(tensor)
        right = bool((tensor == world * (world + 1) / 2).all())  # also waits for the device
        times.append(time.perf_counter() - began)
        if not right:
            raise RuntimeError("the sum over the ranks is wrong")
    return sorted(times)[len(times) // 2]


def _success(backend: str, world: int, seconds: float) -> Finding:
    volume = ELEMENTS * 4 * 2 * (world - 1) / world  # bytes a rank sends in a ring
    rate = f"{volume / seconds / 1e9:.1f} GB/s a rank"
    value = f"{world} ranks: sum of {ELEMENTS * 4 / 2**20:.0f} MiB right, {seconds * 1e3:.1f} ms, {rate}"
    return Finding("collectives", backend, value)


def _failure(backend: str, world: int, reason: str) -> Finding:
    remedy = (
        "set GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME to the interface that joins the ranks; NCCL_DEBUG=INFO says more"
    )
    return Finding("collectives", backend, f"{world} ranks: {reason}", "problem", remedy)
