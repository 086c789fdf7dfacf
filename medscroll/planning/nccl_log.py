"""What NCCL says that it did: the network it took, GPUDirect, the paths between GPUs; from NCCL_DEBUG=INFO output.

`ask_nccl(folder)` sets the variables before the process group opens, each process writing a file of its own;
`read_nccl(text)` reads one. Line forms as of NCCL 2.18 to 2.28; what is not found is None, never guessed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_NETWORK = re.compile(r"NCCL INFO Using network (\S+)")
_ADAPTERS = re.compile(r"NET/IB : Using (.*?)(?:; OOB|$)", re.MULTILINE)
_ADAPTER = re.compile(r"\[\d+\](\w+:\d+)/(IB|RoCE)")
_SOCKETS = re.compile(r"NET/Socket : Using (.*)$", re.MULTILINE)
_INTERFACE = re.compile(r"\[\d+\]([\w.-]+):")
_CHANNEL = re.compile(r"Channel \d+(?:/\d+)? : .*? via ([\w/]+)")
_GDR = re.compile(r"GPU ?Direct RDMA (?:\([^)]*\) )?(enabled|disabled)", re.IGNORECASE)
_VERSION = re.compile(r"NCCL version (\S+)")


@dataclass
class NcclLog:
    """One process's report.

    Attributes:
        version: of NCCL; "" where it is not named.
        network: InfiniBand, RoCE, sockets, or the plugin's name; None where no network was opened.
        adapters: `mlx5_0:1`, or interface names for sockets.
        gpu_direct: whether GPU memory is read by the adapters directly; None where the log does not say.
        paths: kinds of connections between GPUs and how often: P2P, SHM, NET/IB, NET/IB/GDRDMA, NET/Socket.
    """

    version: str = ""
    network: str | None = None
    adapters: list[str] = field(default_factory=list)
    gpu_direct: bool | None = None
    paths: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def ask_nccl(folder: Path) -> None:
    """Make NCCL of this process write what it does into `folder`; before the first communicator."""
    os.environ["NCCL_DEBUG"] = "INFO"
    os.environ["NCCL_DEBUG_SUBSYS"] = "INIT,NET,GRAPH,P2P,SHM"
    os.environ["NCCL_DEBUG_FILE"] = str(folder / "nccl.%h.%p")


def read_nccl(text: str) -> NcclLog:
    """The report in a process's NCCL_DEBUG=INFO output."""
    found = NcclLog()
    version, network = _VERSION.search(text), _NETWORK.search(text)
    found.version = version.group(1) if version else ""
    adapters = [pair for line in _ADAPTERS.findall(text) for pair in _ADAPTER.findall(line)]
    interfaces = [name for line in _SOCKETS.findall(text) for name in _INTERFACE.findall(line)]
    name = network.group(1) if network else ""
    if name == "IB" or (not name and adapters):
        found.network = "RoCE" if any(kind == "RoCE" for _, kind in adapters) else "InfiniBand"
        found.adapters = list(dict.fromkeys(adapter for adapter, _ in adapters))
    elif name == "Socket" or (not name and interfaces):
        found.network, found.adapters = "sockets", list(dict.fromkeys(interfaces))
    elif name:
        found.network = name
    paths: Counter[str] = Counter()
    for via in _CHANNEL.findall(text):
        parts = via.split("/")
        kind = "/".join(parts[:2]) if parts[0] == "NET" else parts[0]
        paths[kind + ("/GDRDMA" if "GDRDMA" in parts else "")] += 1
    found.paths = dict(paths)
    said = [word.lower() == "enabled" for word in _GDR.findall(text)]
    if any("GDRDMA" in kind for kind in paths):
        found.gpu_direct = True
    elif any(kind.startswith("NET/") for kind in paths):
        found.gpu_direct = False
    elif said:
        found.gpu_direct = any(said)
    return found


def read_nccl_folder(folder: Path) -> NcclLog | None:
    """The report of the processes that wrote into `folder`, joined; None where NCCL wrote nothing."""
    texts = [path.read_text("utf-8", "replace") for path in sorted(folder.glob("nccl.*")) if path.is_file()]
    return read_nccl("\n".join(texts)) if texts else None
