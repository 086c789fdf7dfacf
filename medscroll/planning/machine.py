"""The host around a run: memory, cores, disk, limits, network and the variables that steer it, as findings.

Price: milliseconds; nothing is written, no address is contacted.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import psutil

from medscroll.planning.environment import Finding

GIB = 2**30
SMALL_DISK = 20 * GIB
SMALL_SHARED_MEMORY = GIB // 2
FEW_FILES = 4096
PREFIXES = (
    "NCCL_",
    "GLOO_",
    "TORCH_NCCL_",
    "FI_",
    "UCX_",
    "MASTER_",
    "OMP_",
    "CUDA_VISIBLE_DEVICES",
    "HF_HUB_",
    "HF_HOME",
)
SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD")


def host() -> list[Finding]:
    """Cores and memory that this process may use (affinity and cgroup limits count), shared memory, open files."""
    import resource

    group, memory = "host", psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup_memory_limit()
    bounded = limit is not None and limit < memory.total
    shown = f"{memory.available / GIB:.0f} GiB free of {memory.total / GIB:.0f}"
    findings = [
        Finding(group, "cores", f"{cores} of {os.cpu_count()}"),
        Finding(group, "memory", f"{shown}; this container may use {limit / GIB:.0f}" if bounded and limit else shown),
    ]
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        small = size < SMALL_SHARED_MEMORY
        remedy = "docker run --ipc=host or --shm-size=8g: NCCL and data workers use it" if small else ""
        findings.append(Finding(group, "/dev/shm", f"{size / GIB:.1f} GiB", "note" if small else "ok", remedy))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < FEW_FILES
    remedy = f"ulimit -n {FEW_FILES if hard < 0 else min(hard, 65536)}" if few else ""
    findings.append(Finding(group, "open files", f"{soft} (at most {hard})", "note" if few else "ok", remedy))
    return findings


def cgroup_memory_limit() -> int | None:
    """Bytes that the control group of this process may use; None where unlimited or unknown."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text("ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def disk() -> list[Finding]:
    """Free space where a run writes: the current folder, the caches of Hugging Face and of medscroll."""
    home = Path.home()
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or home / ".cache/huggingface") / "hub")
    places = {"here": Path.cwd(), "downloads": hub, "prepared data": home / ".cache" / "medscroll"}
    return [_space(name, path) for name, path in places.items()]


def _space(name: str, path: Path) -> Finding:
    existing = next((parent for parent in (path, *path.parents) if parent.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return Finding("disk", name, f"{path}: cannot be written", "problem" if name == "here" else "note")
    small = free < SMALL_DISK
    remedy = "a checkpoint of a 7B model with its optimizer takes about 100 GB" if small else ""
    return Finding("disk", name, f"{path}: {free / GIB:.0f} GiB free", "note" if small else "ok", remedy)


def network() -> list[Finding]:
    """Host name, interfaces, InfiniBand, whether the hub may be asked, and the variables that steer communication."""
    group, name = "network", socket.gethostname()
    findings = [_host_name(name)]
    for interface, addresses in sorted(psutil.net_if_addrs().items()):
        found = [address.address for address in addresses if address.family == socket.AF_INET]
        up = psutil.net_if_stats().get(interface)
        if found and up is not None and up.isup:
            speed = f", {up.speed / 1000:g} Gbit/s" if up.speed else ""
            findings.append(Finding(group, interface, f"{', '.join(found)}{speed}"))
    devices = sorted(path.name for path in Path("/sys/class/infiniband").glob("*"))
    findings.append(Finding(group, "InfiniBand", ", ".join(devices) or "none", "ok" if devices else "absent"))
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    hub = "offline (HF_HUB_OFFLINE): local files only" if offline else "asked where a model's name is no folder"
    findings.append(Finding(group, "hub", hub))
    for variable, value in sorted(os.environ.items()):
        if variable.startswith(PREFIXES) and not any(word in variable for word in SECRETS):
            findings.append(Finding(group, variable, value))
    return findings


def _host_name(name: str) -> Finding:
    try:
        address = socket.gethostbyname(name)
    except OSError:
        remedy = "a line in /etc/hosts; other nodes cannot use this name as --rdzv_endpoint"
        return Finding("network", "host", f"{name}, which has no address", "note", remedy)
    if address.startswith("127."):
        remedy = "give other nodes an address of an interface below as --rdzv_endpoint"
        return Finding("network", "host", f"{name} is {address} here, which other nodes cannot reach", "note", remedy)
    return Finding("network", "host", f"{name} ({address})")
