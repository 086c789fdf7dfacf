"""Measuring a cluster from inside: every pair of nodes, each node by itself, clocks, versions, the shared folder.

Runs on all ranks that `torchrun` or `srun` started, over NCCL where there are GPUs, else gloo. The pairs are played as
a tournament, so that in each round every node is in one pair at most and n nodes need n - 1 rounds; all GPUs of the two
nodes take part, so that every adapter is used. Every rank walks through the same rounds and barriers.

Price: some seconds a round, most of them NCCL's new communicators; 2 x 256 MiB of memory a GPU, 2 x 16 MiB a CPU rank.
"""

from __future__ import annotations

import os
import platform
import secrets
import socket
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from medscroll.errors import EnvironmentError_
from medscroll.planning.nccl_log import ask_nccl, read_nccl_folder
from medscroll.planning.process_group import abandon

GPU_BYTES, CPU_BYTES = 256 * 2**20, 16 * 2**20
REPEATS, PINGS = 5, 50
SECONDS, SHARED_SECONDS = 180, 30.0
PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "medscroll", "nvidia-nccl-cu12", "nvidia-nccl-cu13")


@dataclass(frozen=True)
class Launch:
    """Who this process is among those that were started."""

    rank: int
    world_size: int
    local_rank: int
    launcher: str


def find_launch() -> Launch:
    """This process's place, from torchrun's variables or Slurm's; sets what torch's `env://` needs.

    Raises:
        EnvironmentError_: started by neither, or Slurm does not say where rank 0 is.
    """
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        return Launch(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", "0")), "torchrun")
    remedy = (
        "torchrun --nnodes N --nproc_per_node G ... -m medscroll doctor --cluster, or srun medscroll doctor --cluster"
    )
    if "SLURM_PROCID" not in env or "SLURM_NTASKS" not in env:
        raise EnvironmentError_("--cluster needs the ranks of all nodes, and this is one process alone", remedy=remedy)
    launch = Launch(int(env["SLURM_PROCID"]), int(env["SLURM_NTASKS"]), int(env.get("SLURM_LOCALID", "0")), "srun")
    if "MASTER_ADDR" not in env:
        env["MASTER_ADDR"] = _first_host(env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or "")
    env.setdefault("MASTER_PORT", str(20000 + int(env.get("SLURM_JOB_ID", "0")) % 20000))
    env.update(RANK=str(launch.rank), WORLD_SIZE=str(launch.world_size), LOCAL_RANK=str(launch.local_rank))
    return launch


def _first_host(nodes: str) -> str:
    """The first host of a Slurm node list such as `node[03-06,9],login`."""
    head, bracket, rest = nodes.partition("[")
    if not bracket or "," in head:
        first = head.split(",")[0]
    else:
        first = head + rest.split("]")[0].split(",")[0].split("-")[0]
    if not first:
        raise EnvironmentError_("Slurm does not say which nodes the job has", remedy="export MASTER_ADDR=<first node>")
    return first


def rounds(nodes: int) -> list[list[tuple[int, int]]]:
    """A tournament: every pair of `nodes` once, each node at most once a round."""
    players = list(range(nodes + nodes % 2))
    found = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = zip(players[:half], reversed(players[half:]), strict=True)
        found.append([(min(a, b), max(a, b)) for a, b in pairs if max(a, b) < nodes])
        players = [players[0], players[-1], *players[1:-1]]
    return found


class Probe:
    """The measurement on one rank; `run` is entered by all.

    Args:
        launch: this process's place.
        shared_dir: a folder that all nodes should see; None leaves that out.
    """

    def __init__(self, launch: Launch, shared_dir: Path | None) -> None:
        import torch

        self.torch, self.launch, self.shared_dir = torch, launch, shared_dir
        self.on_gpu = torch.cuda.is_available() and torch.cuda.device_count() > 0
        index = launch.local_rank % max(torch.cuda.device_count(), 1) if self.on_gpu else 0
        self.device = torch.device("cuda", index) if self.on_gpu else torch.device("cpu")
        self.bytes = GPU_BYTES if self.on_gpu else CPU_BYTES
        self.control: Any = None

    def run(self) -> dict[str, Any]:
        """Measure; every rank returns the same raw findings (see `cluster_report.judge`).

        Raises:
            EnvironmentError_: the ranks cannot reach each other.
        """
        import torch.distributed as dist

        self.dist = dist
        backend = "nccl" if self.on_gpu else "gloo"
        with tempfile.TemporaryDirectory(prefix="medscroll-nccl-") as folder:
            if self.on_gpu:
                ask_nccl(Path(folder))
                self.torch.cuda.set_device(self.device)
            try:
                dist.init_process_group(backend, timeout=timedelta(seconds=SECONDS))
                self.control = dist.new_group(backend="gloo", timeout=timedelta(seconds=SECONDS))
            except Exception as error:
                what = f"the ranks cannot reach each other: {str(error).strip().splitlines()[0]}"
                remedy = "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the interface that joins the nodes; open ports"
                raise EnvironmentError_(what, f"MASTER_ADDR={os.environ.get('MASTER_ADDR')}", remedy) from error
            try:
                return self._measure(backend, Path(folder))
            finally:
                abandon()

    def _measure(self, backend: str, folder: Path) -> dict[str, Any]:
        everyone = self._gather({**facts(self.on_gpu), "rank": self.launch.rank, "local_rank": self.launch.local_rank})
        hosts = list(dict.fromkeys(one["node_key"] for one in everyone))
        members = [[one["rank"] for one in everyone if one["node_key"] == host] for host in hosts]
        mine = hosts.index(everyone[self.launch.rank]["node_key"])
        intra = self._inside(members, mine)
        pairs = [found for paired in rounds(len(hosts)) for found in self._round(paired, members, mine)]
        whole = self._all_reduce(self.dist.group.WORLD, self.launch.world_size)
        offsets = self._clocks([ranks[0] for ranks in members])
        log = read_nccl_folder(folder) if self.on_gpu else None
        leader = self.launch.rank == members[mine][0]
        own = {"log": log.to_json() if log else None, "offset": offsets.get(self.launch.rank), "inside": intra}
        reports = self._gather(own if leader else None)
        return {
            "backend": backend,
            "launcher": self.launch.launcher,
            "ranks": self.launch.world_size,
            "nodes": [{**everyone[ranks[0]], "ranks": ranks, **(reports[ranks[0]] or {})} for ranks in members],
            "pairs": pairs,
            "all_reduce_bytes_per_s": whole,
            "shared": self._shared(members),
        }

    def _gather(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.launch.world_size
        self.dist.all_gather_object(found, value, group=self.control)
        return found

    def _wait(self) -> None:
        if self.on_gpu:
            self.torch.cuda.synchronize(self.device)

    def _barrier(self) -> None:
        self.dist.barrier(group=self.control)

    def _inside(self, members: list[list[int]], mine: int) -> float | None:
        """Bus bandwidth of an all-reduce inside each node, all nodes at once; None for nodes of one rank."""
        groups = [self.dist.new_group(ranks) for ranks in members]  # all ranks make all groups
        self._barrier()
        rate = self._all_reduce(groups[mine], len(members[mine]))
        self._barrier()
        return rate

    def _all_reduce(self, group: Any, size: int) -> float | None:
        """Bus bandwidth in bytes/s: what each rank sends a second in a ring (nccl-tests' busbw); members enter it."""
        if size < 2:
            return None
        tensor = self.torch.zeros(self.bytes // 4, device=self.device)  # float32 [bytes / 4]
        times = []
        for _ in range(REPEATS + 1):
            self._wait()
            began = time.perf_counter()
            self.dist.all_reduce(tensor, group=group)
            self._wait()
            times.append(time.perf_counter() - began)
        return self.bytes * 2 * (size - 1) / size / statistics.median(times[1:])

    def _round(self, paired: list[tuple[int, int]], members: list[list[int]], mine: int) -> list[dict[str, Any]]:
        """Measure the pairs of one round at the same time; every rank returns all of them."""
        groups = {pair: self.dist.new_group(members[pair[0]] + members[pair[1]]) for pair in paired}
        own = next((pair for pair in paired if mine in pair), None)
        self._barrier()
        found: dict[str, Any] | None = None
        if own is not None:
            found = self._pair(own, members, mine, groups[own])
        self._barrier()
        gathered = self._gather(found)
        if own is not None:
            self.dist.destroy_process_group(groups[own])  # NCCL keeps buffers on the GPU for each
        rows = []
        for first, second in paired:
            results = [gathered[rank] for rank in members[first] if gathered[rank] is not None]
            rows.append(
                {
                    "nodes": [first, second],
                    "bytes_per_s": sum(result["bytes_per_s"] for result in results),
                    "back_bytes_per_s": sum(result["back_bytes_per_s"] for result in results),
                    "latency_us": min(result["latency_us"] for result in results),
                    "all_reduce_bytes_per_s": statistics.median(r["all_reduce_bytes_per_s"] for r in results),
                }
            )
        return rows

    def _pair(self, pair: tuple[int, int], members: list[list[int]], mine: int, group: Any) -> dict[str, Any] | None:
        """Rank i of one node with rank i of the other; None for ranks without a partner."""
        first, second = members[pair[0]], members[pair[1]]
        width = min(len(first), len(second))
        at = members[mine].index(self.launch.rank)
        rate = self._all_reduce(group, len(first) + len(second))
        if at >= width:
            return None
        peer = (second if mine == pair[0] else first)[at]
        sends = mine == pair[0]
        small = self.torch.zeros(2, device=self.device)
        big = self.torch.zeros(self.bytes // 4, device=self.device)
        latency = self._ping(small, peer, sends)
        forth, back = self._stream(big, peer, sends), self._stream(big, peer, not sends)
        return {
            "bytes_per_s": forth,
            "back_bytes_per_s": back,
            "latency_us": latency * 1e6,
            "all_reduce_bytes_per_s": rate or 0.0,
        }

    def _ping(self, tensor: Any, peer: int, sends: bool) -> float:
        """Seconds of one way: half of a median round trip."""
        times = []
        for _ in range(PINGS):
            began = time.perf_counter()
            for out in (sends, not sends):
                (self.dist.send if out else self.dist.recv)(tensor, peer)
            self._wait()
            times.append(time.perf_counter() - began)
        return statistics.median(times) / 2

    def _stream(self, tensor: Any, peer: int, sends: bool) -> float:
        """Bytes per second of one direction, an acknowledgement included."""
        acknowledge = self.torch.zeros(1, device=self.device)
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            (self.dist.send if sends else self.dist.recv)(tensor, peer)
            (self.dist.recv if sends else self.dist.send)(acknowledge, peer)
            self._wait()
            times.append(time.perf_counter() - began)
        return float(self.bytes) / statistics.median(times)

    def _clocks(self, leaders: list[int]) -> dict[int, float]:
        """Rank -> its clock minus rank 0's in seconds, for the leaders of the nodes, by the shortest of ten trips."""
        offsets: dict[int, float] = {leaders[0]: 0.0}
        word = self.torch.zeros(1, dtype=self.torch.float64)
        for leader in leaders[1:]:
            best = (float("inf"), 0.0)
            for _ in range(10):
                if self.launch.rank == leader:
                    began = time.time()
                    self.dist.send(word, leaders[0], group=self.control)
                    self.dist.recv(word, leaders[0], group=self.control)
                    ended = time.time()
                    best = min(best, (ended - began, (began + ended) / 2 - float(word.item())))
                elif self.launch.rank == leaders[0]:
                    self.dist.recv(word, leader, group=self.control)
                    word[0] = time.time()
                    self.dist.send(word, leader, group=self.control)
            if self.launch.rank == leader:
                offsets[leader] = best[1]
            self._barrier()
        return offsets

    def _shared(self, members: list[list[int]]) -> dict[str, Any] | None:
        """Whether what each node writes into `shared_dir` is seen by all: seconds until then, or who misses what."""
        if self.shared_dir is None:
            return None
        nonce: list[Any] = [secrets.token_hex(8)]
        self.dist.broadcast_object_list(nonce, src=0, group=self.control)
        names = {ranks[0]: self.shared_dir / f".medscroll-doctor-{nonce[0]}-{at}" for at, ranks in enumerate(members)}
        problem = ""
        own = names.get(self.launch.rank)
        if own is not None:
            try:
                own.write_text(nonce[0], encoding="ascii")
            except OSError as error:
                problem = f"cannot be written: {error.strerror or error}"
        self._barrier()
        began = time.monotonic()
        missing = set(names)
        while missing and time.monotonic() - began < SHARED_SECONDS:
            missing = {rank for rank in missing if not names[rank].is_file()}
            if missing:
                time.sleep(0.2)
        mine = {"problem": problem, "missing": sorted(missing), "seconds": time.monotonic() - began}
        found = self._gather(mine)
        if own is not None:
            own.unlink(missing_ok=True)
        return {"path": str(self.shared_dir), "ranks": found}


def facts(on_gpu: bool) -> dict[str, Any]:
    """What this process's node is: host, versions, GPUs, links and their line rates."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    host = socket.gethostname()
    # Containers and network namespaces of one machine may share a name: the address tells them apart.
    address = _address()
    found: dict[str, Any] = {
        "host": host,
        "address": address,
        "node_key": f"{host}/{address}",
        "python": platform.python_version(),
        "kernel": platform.release(),
        "versions": versions,
        "host_memory": psutil.virtual_memory().total,
        "link_bytes_per_s": _line_rate(address),
        "gpus": 0,
        "gpu": None,
        "gpu_memory": None,
        "driver": None,
    }
    if on_gpu:
        import torch

        found["gpus"], found["gpu"] = torch.cuda.device_count(), torch.cuda.get_device_name(0)
        found["gpu_memory"] = torch.cuda.get_device_properties(0).total_memory
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            listed = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
            found["driver"] = listed.splitlines()[0].strip()
        except (OSError, subprocess.SubprocessError, IndexError):
            found["driver"] = None
    return found


def _address() -> str:
    """The address by which this node reaches rank 0's; no packet is sent."""
    named = os.environ.get("GLOO_SOCKET_IFNAME") or os.environ.get("NCCL_SOCKET_IFNAME") or ""
    for address in psutil.net_if_addrs().get(named, []):
        if address.family == socket.AF_INET and not address.address.startswith("127."):
            return str(address.address)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((os.environ.get("MASTER_ADDR", "127.0.0.1"), 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _line_rate(address: str) -> dict[str, Any]:
    """Line rates of this node in bytes/s: all active InfiniBand or RoCE ports, and the interface of `address`."""
    ports = {}
    for port in Path("/sys/class/infiniband").glob("*/ports/*"):
        try:
            active = "ACTIVE" in (port / "state").read_text("ascii")
            gbit = float((port / "rate").read_text("ascii").split()[0])
        except (OSError, ValueError, IndexError):
            continue
        if active:
            ports[f"{port.parents[1].name}:{port.name}"] = gbit * 1e9 / 8
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            stats = psutil.net_if_stats().get(name)
            speed = stats.speed * 1e6 / 8 if stats is not None and stats.speed > 0 else None
            return {"ports": ports, "interface": name, "interface_bytes_per_s": speed}
    return {"ports": ports, "interface": None, "interface_bytes_per_s": None}
