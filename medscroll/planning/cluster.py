"""The machines that a plan is made for: `8x8xH100-80G@8xNDR`, a user's file, or what `doctor --cluster` measured.

    nodes x gpus x GPU[-memory][@uplink]        uplink: [count x] link, of one node
    8x8xH100-80G          8 nodes of 8 H100 with the usual network of such servers (stated in the plan)
    8x8xH100-80G@1x200G   one 200 Gbit/s RDMA port a node
    4x8xA100-80G@8xHDR    eight HDR ports a node;  @10GbE: one port of Ethernet with sockets
    8xH200, H200          one node of eight, one GPU

Bandwidth between nodes counts for a whole node: the rings of ZeRO enter and leave each node once, so the uplinks of a
node add up and are not divided by its GPUs. Price: milliseconds; no heavy import.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medscroll.errors import ConfigError
from medscroll.planning.hardware import GIB, Catalogue, GpuSpec, Link, read_cluster_file

MOST_NODES, MOST_GPUS = 4096, 64  # beyond any cluster there is; a plan walks through its ranks
GRAMMAR = (
    "[nodes x] [gpus x] GPU[-memory] [@ [ports x] link], for example 8x8xH100-80G (8 nodes of 8 GPUs), "
    "8x8xA100-80G@1x200G, 4x8xH100-80G@8xNDR, 2x8xL40S@10GbE, 8xH200"
)
HOST_MEMORY_PER_GPU = 256 * GIB  # 2 TiB in a server of eight, as in DGX A100 80G and DGX H100
# Mean GPU-hours to a failure that ends a run: 7.9 h at 1,024 GPUs (Kokolis et al. 2024, arXiv 2410.21680, fig. 7).
GPU_HOURS_TO_FAILURE = 7.9 * 1024
_CLUSTER = re.compile(r"^(?:(?P<first>[^x@]*)x)?(?:(?P<second>[^x@]*)x)?(?P<gpu>[^@]+?)(?:@(?P<uplink>.+))?$")
_UPLINK = re.compile(r"^(?:(?P<count>\d+)x)?(?P<link>[^x]+)$")


@dataclass(frozen=True)
class Cluster:
    """Machines of one kind.

    Attributes:
        nodes, gpus_per_node: how many.
        gpu: what a node is filled with.
        uplink: the port that joins nodes; None where there is one node.
        uplinks: ports of one node.
        bus_bandwidth: bytes a second of NCCL's rings inside a node.
        node_bandwidth: bytes a second out of one node that collectives reach, all ports together; infinite on one node.
        host_memory: bytes of one node.
        price: of one GPU an hour; None where unknown.
        currency: of the price.
        disk_bandwidth: bytes a second at which one node writes checkpoints.
        notes: what was assumed or measured, in sentences.
    """

    nodes: int
    gpus_per_node: int
    gpu: GpuSpec
    uplink: Link | None
    uplinks: int
    bus_bandwidth: float
    node_bandwidth: float
    host_memory: int
    price: float | None = None
    currency: str = "USD"
    disk_bandwidth: float = 2e9
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def ranks(self) -> int:
        """All GPUs."""
        return self.nodes * self.gpus_per_node

    @property
    def latency(self) -> float:
        """Seconds of one hop between nodes; inside a node, of one step of a ring over NVLink or PCIe."""
        return self.uplink.latency if self.uplink is not None else 3e-6

    @property
    def seconds_to_failure(self) -> float:
        """Mean time between failures of the whole cluster, by the number of its GPUs."""
        return GPU_HOURS_TO_FAILURE * 3600 / self.ranks

    @property
    def name(self) -> str:
        """The cluster string that gives this cluster again."""
        link = f"@{self.uplinks}x{self.uplink.name}" if self.uplink is not None and self.nodes > 1 else ""
        return f"{self.nodes}x{self.gpus_per_node}x{self.gpu.name}{link}"

    def with_nodes(self, nodes: int) -> Cluster:
        """The same machines, another number of them.

        Raises:
            ConfigError: several nodes of a cluster that names no uplink.
        """
        if nodes > 1 and self.uplink is None:
            raise ConfigError("several nodes need an uplink", "--cluster", f"for example {self.name}@8xNDR")
        one = nodes == 1
        return dataclasses.replace(self, nodes=nodes, node_bandwidth=float("inf") if one else self._ports())

    def _ports(self) -> float:
        if self.nodes > 1:
            return self.node_bandwidth  # keeps a measured figure
        assert self.uplink is not None
        return self.uplink.bandwidth * self.uplinks

    def describe(self) -> str:
        """One sentence for people."""
        gpus = f"{self.nodes} node{'s' if self.nodes > 1 else ''} of {self.gpus_per_node} x {self.gpu.name}"
        inside = f"{self.bus_bandwidth / 1e9:.0f} GB/s inside a node"
        if self.nodes == 1 or self.uplink is None:
            return f"{gpus}, {inside}"
        kind = f"{self.uplinks} x {self.uplink.name} ({self.uplink.kind})"
        return f"{gpus}, {inside}, {self.node_bandwidth / 1e9:.1f} GB/s out of each through {kind}"


def parse_cluster(
    text: str,
    *,
    cluster_file: str | Path | None = None,
    price: float | None = None,
    host_memory: int | None = None,
) -> Cluster:
    """The cluster that `text` names: a cluster string, or the path of a JSON file that `doctor --cluster --json` wrote.

    Args:
        text: see the module's first lines; empty where the cluster file names one itself (`cluster:`).
        cluster_file: a user's YAML or JSON over the shipped figures.
        price: of one GPU an hour, over the one that is known.
        host_memory: bytes of one node.

    Raises:
        ConfigError: it does not parse, or the GPU or link is unknown.
    """
    extra = read_cluster_file(cluster_file) if cluster_file else {}
    catalogue = Catalogue(extra, f"--cluster_file {cluster_file}")
    text = (text or str(extra.get("cluster", ""))).strip()
    if not text:
        raise ConfigError("no cluster given", "--cluster", GRAMMAR)
    if text.endswith(".json"):
        cluster = read_measured(text, catalogue)
    else:
        cluster = _from_string(text, catalogue)
    changes: dict[str, Any] = {"currency": catalogue.currency}
    notes = list(cluster.notes)
    measured = [name for name in ("bus_gb_s", "node_gb_s", "disk_gb_s", "host_memory_gib") if name in extra]
    for name in measured:
        if not isinstance(extra[name], (int, float)) or extra[name] <= 0:
            raise ConfigError(f"{name} is not a positive number", f"--cluster_file {cluster_file}")
    if "bus_gb_s" in extra:
        changes["bus_bandwidth"] = float(extra["bus_gb_s"]) * 1e9
    if "node_gb_s" in extra and cluster.nodes > 1:
        changes["node_bandwidth"] = float(extra["node_gb_s"]) * 1e9
    if "disk_gb_s" in extra:
        changes["disk_bandwidth"] = float(extra["disk_gb_s"]) * 1e9
    if measured:
        notes.append(f"{', '.join(measured)} as {cluster_file} says")
    if host_memory is None and "host_memory_gib" in extra:
        host_memory = int(extra["host_memory_gib"] * GIB)
    if host_memory is not None:
        changes["host_memory"] = host_memory
        notes = [note for note in notes if not note.startswith("host memory is assumed")]
    changes["price"] = price if price is not None else catalogue.price(cluster.gpu.name)
    if price is None and changes["price"] is not None:
        shown = f"{changes['price']:g} {catalogue.currency} a GPU and hour"
        notes.append(f"price: {shown}, a list price (--price overrides): {catalogue.price_source}")
    return dataclasses.replace(cluster, notes=tuple(notes), **changes)


def _from_string(text: str, catalogue: Catalogue) -> Cluster:
    joined = re.sub(r"\s*([x×@])\s*", lambda found: found[1].replace("×", "x"), text)
    match = _CLUSTER.match(joined.replace(" ", ""))
    if match is None or re.search(r"[A-Za-z]\s+[A-Za-z]", joined):  # two words are no GPU
        raise ConfigError(f"the cluster {text!r} does not parse", "--cluster", GRAMMAR)
    counts = [part for part in (match["first"], match["second"]) if part is not None]
    numbers = [int(part) if part.isdecimal() else 0 for part in counts]
    if any(number < 1 for number in numbers):
        raise ConfigError(
            f"the cluster {text!r} does not parse: nodes and gpus are whole numbers", "--cluster", GRAMMAR
        )
    nodes, gpus = [1, 1, *numbers][-2:]
    if nodes > MOST_NODES or gpus > MOST_GPUS:
        raise ConfigError(
            f"the cluster {text!r}: at most {MOST_NODES:,} nodes of {MOST_GPUS} GPUs can be planned",
            "--cluster",
            GRAMMAR,
        )
    name = match["gpu"]
    if re.match(r"\d+x", name) or (not re.search(r"[A-Za-z]{2}|\w*[A-Za-z]\d|\d{4}", name)):
        raise ConfigError(f"the cluster {text!r} does not parse: {name!r} names no GPU", "--cluster", GRAMMAR)
    gpu = catalogue.gpu(name)
    notes = []
    if match["uplink"]:
        link, ports = _uplink(match["uplink"], text, catalogue)
    else:
        link, ports = _usual_uplink(gpu, gpus, catalogue)
        if nodes > 1:
            notes.append(f"no uplink is named: {ports} x {link.name} a node is assumed (for example {text}@1x200G)")
    host = HOST_MEMORY_PER_GPU * gpus
    notes.append(f"host memory is assumed: {host / GIB:,.0f} GiB a node (--host_memory_gib)")
    return _by_specification((nodes, gpus), gpu, (link, ports), host, notes)


def _by_specification(
    size: tuple[int, int], gpu: GpuSpec, uplink: tuple[Link, int], host_memory: int, notes: list[str]
) -> Cluster:
    """A cluster with the bandwidths of the data files; `size`: nodes and GPUs a node, `uplink`: link and ports."""
    (nodes, gpus), (link, ports) = size, uplink
    return Cluster(
        nodes=nodes,
        gpus_per_node=gpus,
        gpu=gpu,
        uplink=link,
        uplinks=ports,
        bus_bandwidth=gpu.bus_bandwidth,
        node_bandwidth=link.bandwidth * ports if nodes > 1 else float("inf"),
        host_memory=host_memory,
        notes=tuple(notes),
    )


def _usual_uplink(gpu: GpuSpec, gpus: int, catalogue: Catalogue) -> tuple[Link, int]:
    """The network that servers with this GPU usually have, and its ports; one a GPU where none are counted."""
    match = _UPLINK.match(gpu.usual_link)
    assert match is not None
    return catalogue.link(match["link"]), int(match["count"] or gpus)


def _uplink(uplink: str, text: str, catalogue: Catalogue) -> tuple[Link, int]:
    match = _UPLINK.match(uplink)
    if match is None or (match["count"] is not None and int(match["count"]) < 1):
        raise ConfigError(f"the uplink {uplink!r} of the cluster {text!r} does not parse", "--cluster", GRAMMAR)
    return catalogue.link(match["link"]), int(match["count"] or 1)


def read_measured(path: str | Path, catalogue: Catalogue | None = None) -> Cluster:
    """The cluster that `medscroll doctor --cluster --json` found, with the bandwidths that it measured.

    Its object "cluster" is read: nodes, gpus_per_node, gpu (the driver's name), gpu_memory, host_memory [bytes],
    bus_bytes_per_second (a ring inside one node), node_bytes_per_second (out of one node), latency_seconds; optionally
    link (a name of links.json) and disk_bytes_per_second.

    Raises:
        ConfigError: no such file, no such object, an unknown GPU, or a figure that is missing.
    """
    catalogue = catalogue or Catalogue()
    where = f"--cluster {path}"
    remedy = "torchrun ... -m medscroll doctor --cluster --json > cluster.json, or a cluster string: " + GRAMMAR
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the measured cluster: {error.strerror}", where, remedy) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid JSON: {error}", where, remedy) from error
    found = content.get("cluster") if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise ConfigError('the file has no object "cluster"', where, remedy)
    if found.get("gpu") == "cpu":
        raise ConfigError(
            "this was measured on ranks without a GPU (gloo over CPUs), it says nothing about GPUs and their links",
            where,
            "run doctor --cluster on the nodes that will train; " + remedy,
        )
    alone = found.get("gpus_per_node") == 1  # one GPU a node has no links inside
    needed = ("nodes", "gpus_per_node", "gpu") if alone else ("nodes", "gpus_per_node", "gpu", "bus_bytes_per_second")
    missing = [name for name in needed if not found.get(name)]
    nodes = int(found.get("nodes") or 1)
    if nodes > 1 and not found.get("node_bytes_per_second"):
        missing.append("node_bytes_per_second")
    if missing:
        raise ConfigError(f"the measured cluster lacks {', '.join(missing)}", where, remedy)
    memory = int(found["gpu_memory"]) if found.get("gpu_memory") else None
    gpu = catalogue.gpu_of_device(str(found["gpu"]), memory) or catalogue.gpu(str(found["gpu"]))
    gpus = int(found["gpus_per_node"])
    node_bandwidth = float(found.get("node_bytes_per_second") or 0)
    link = Link(
        name=str(found.get("link") or "measured"),
        kind="measured",
        rate=node_bandwidth,
        efficiency=1.0,
        latency=float(found.get("latency_seconds") or 1e-5),
    )
    bus = float(found.get("bus_bytes_per_second") or max(gpu.bus_bandwidth, node_bandwidth))
    inside = "one GPU a node" if alone else f"{bus / 1e9:.1f} GB/s inside a node"
    notes = [f"measured ({path}): {inside}"]
    if nodes > 1:
        notes[0] += f", {node_bandwidth / 1e9:.1f} GB/s out of each"
    host = int(found.get("host_memory") or 0)
    if not host:
        host = HOST_MEMORY_PER_GPU * gpus
        notes.append(f"host memory is assumed: {host / GIB:,.0f} GiB a node (--host_memory_gib)")
    return Cluster(
        nodes=nodes,
        gpus_per_node=gpus,
        gpu=gpu,
        uplink=link if nodes > 1 else None,
        uplinks=1,
        bus_bandwidth=bus,
        node_bandwidth=node_bandwidth if nodes > 1 else float("inf"),
        host_memory=host,
        disk_bandwidth=float(found.get("disk_bytes_per_second") or 2e9),
        notes=tuple(notes),
    )


def cluster_here(device_name: str, memory: int, nodes: int, gpus_per_node: int) -> Cluster:
    """The cluster that a run finds itself on, as its driver names it; an unknown GPU has its memory and no speed.

    Args:
        device_name: of `torch.cuda.get_device_name`.
        memory: bytes of one GPU, of `torch.cuda.mem_get_info`.
    """
    import psutil

    catalogue = Catalogue()
    gpu = catalogue.gpu_of_device(device_name, memory)
    notes = []
    if gpu is None:
        notes.append(f"the GPU {device_name!r} is not in the list: its speed is taken to be that of an A100")
        usual = catalogue.gpu("A100-80G")
        gpu = dataclasses.replace(usual, name=device_name, memory=memory, source="the driver")
    uplink = _usual_uplink(gpu, gpus_per_node, catalogue)
    host = int(psutil.virtual_memory().total)
    return _by_specification((nodes, gpus_per_node), gpu, uplink, host, notes)
