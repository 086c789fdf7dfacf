"""GPUs, links between nodes and prices: three data files with their sources, and what a user's own file changes.

    medscroll/config/data/{gpus,links,prices}.json     what is known, each entry with its source
    --cluster_file mine.yaml (or .json)                 `gpus:`, `links:`, `prices:` lists; an entry of a known name
                                                        changes the fields it gives, a new name adds an entry

Names are compared without case, hyphens and blanks; an unknown one is answered with the nearest and with how to add
it. Price: three small files read, no heavy import.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from medscroll.errors import ConfigError

GIB = 2**30
GPU_NUMBERS = ("bf16_tflops", "memory_gib", "memory_gb_s", "nvlink_gb_s", "bus_gb_s", "pcie_gb_s")
LINK_NUMBERS = ("gbit", "efficiency", "latency_us")
KEYS = ("cluster", "gpus", "links", "prices", "currency", "host_memory_gib", "bus_gb_s", "node_gb_s", "disk_gb_s")


@dataclass(frozen=True)
class GpuSpec:
    """One kind of GPU.

    Attributes:
        name: as in a cluster string, such as H100-80G.
        memory: bytes that a process can allocate, context included.
        peak_flops: dense peak of half precision, FLOP/s.
        memory_bandwidth: bytes a second of the GPU's own memory.
        nvlink_bandwidth: bytes a second, one direction; 0 without NVLink.
        bus_bandwidth: bytes a second that NCCL's rings reach between the GPUs of one node.
        pcie_bandwidth: bytes a second to the host, one direction.
        architecture: hopper, ampere, ...
        has_bf16: whether it computes in bfloat16; otherwise the peak is that of float16.
        usual_link: the port a server of these GPUs usually has for each GPU.
        source: where the figures are from.
    """

    name: str
    memory: int
    peak_flops: float
    memory_bandwidth: float
    nvlink_bandwidth: float
    bus_bandwidth: float
    pcie_bandwidth: float
    architecture: str
    has_bf16: bool
    usual_link: str
    source: str


@dataclass(frozen=True)
class Link:
    """One kind of port that joins nodes.

    Attributes:
        name: as in a cluster string, such as NDR or 10GbE.
        kind: InfiniBand, RDMA or Ethernet with sockets.
        rate: bytes a second of the line, one direction.
        efficiency: share of it that collectives reach.
        latency: seconds of one hop.
    """

    name: str
    kind: str
    rate: float
    efficiency: float
    latency: float

    @property
    def bandwidth(self) -> float:
        """Bytes a second that collectives reach through one port, one direction."""
        return self.rate * self.efficiency


class Catalogue:
    """What is known of GPUs, links and prices, with a user's file over it.

    Args:
        extra: the content of the user's file: lists `gpus`, `links`, `prices` and other keys, already read.
        where: the file's name, for errors.
    """

    def __init__(self, extra: dict[str, Any] | None = None, where: str = "--cluster_file") -> None:
        extra = extra or {}
        self._gpus = _merge(_shipped("gpus")["gpus"], extra.get("gpus"), "gpus", where)
        self._links = _merge(_shipped("links")["links"], extra.get("links"), "links", where)
        prices = _shipped("prices")
        self.currency = str(extra.get("currency") or prices["currency"])
        self.price_source = str(prices["_source"])
        listed = [*prices["prices"], *_listed(extra.get("prices"), "prices", where)]
        self._prices: dict[str, float] = {}
        for entry in listed:
            if "gpu" not in entry or not _is_number(entry.get("per_hour")):
                raise ConfigError(
                    "a price needs the name of a GPU and per_hour", where, "prices: [{gpu: H100-80G, per_hour: 2.5}]"
                )
            self._prices[_key(entry["gpu"])] = float(entry["per_hour"])

    def gpu_names(self) -> list[str]:
        """The names of all GPUs, in the order of the file."""
        return [str(entry["name"]) for entry in self._gpus]

    def link_names(self) -> list[str]:
        """The names of all links."""
        return [str(entry["name"]) for entry in self._links]

    def gpu(self, name: str) -> GpuSpec:
        """The GPU of that name or alias.

        Raises:
            ConfigError: there is none; the nearest names and the form of an entry are given.
        """
        entry = _find(self._gpus, name)
        if entry is None:
            raise _unknown("GPU", name, self._gpus, self.gpu_names(), _gpu_example(name))
        return _gpu_spec(entry)

    def gpu_of_device(self, device_name: str, memory: int | None = None) -> GpuSpec | None:
        """The GPU that a driver calls `device_name` (`torch.cuda.get_device_name`); None where none is known.

        Of several memory sizes the one nearest to `memory` (bytes) is taken, and the device's own size goes into it.
        """
        found = [entry for entry in self._gpus if str(entry.get("match", entry["name"])).lower() in device_name.lower()]
        if not found:
            return None
        spec = _gpu_spec(found[0])
        if memory is None:
            return spec
        same = [_gpu_spec(entry) for entry in found]
        spec = min(same, key=lambda item: (abs(item.memory - memory) > 0.15 * memory, same.index(item)))
        return GpuSpec(**{**vars(spec), "memory": int(memory)})

    def link(self, name: str) -> Link:
        """The link of that name or alias.

        Raises:
            ConfigError: there is none; the nearest names and the form of an entry are given.
        """
        entry = _find(self._links, name)
        if entry is None:
            example = "links: [{name: " + name + ", gbit: 100, efficiency: 0.9}]"
            raise _unknown("link", name, self._links, self.link_names(), example)
        return Link(
            name=str(entry["name"]),
            kind=str(entry.get("kind", "your own")),
            rate=float(entry["gbit"]) * 1e9 / 8,
            efficiency=float(entry.get("efficiency", 0.9)),
            latency=float(entry.get("latency_us", 10)) * 1e-6,
        )

    def price(self, gpu: str) -> float | None:
        """What one GPU of that name costs an hour; None where no price is known."""
        return self._prices.get(_key(gpu))


def read_cluster_file(path: str | Path) -> dict[str, Any]:
    """The content of a user's YAML or JSON file of hardware, with its keys checked.

    Raises:
        ConfigError: not readable, no mapping, or a key that nothing reads (the nearest is given).
    """
    import yaml

    path = Path(path)
    try:
        value = yaml.safe_load(path.read_text("utf-8"))  # JSON is YAML
    except OSError as error:
        raise ConfigError(f"cannot read the file: {error.strerror}", f"--cluster_file {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid YAML or JSON: {str(error).splitlines()[0]}", f"--cluster_file {path}") from error
    if not isinstance(value, dict):
        raise ConfigError("expects a mapping", f"--cluster_file {path}", f"keys: {', '.join(KEYS)}")
    for key in value:
        if str(key) not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"unknown key {key!r}", f"--cluster_file {path}", f"{hint}keys: {', '.join(KEYS)}")
    return value


def _shipped(name: str) -> dict[str, Any]:
    text = resources.files("medscroll.config").joinpath(f"data/{name}.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def _key(name: Any) -> str:
    return re.sub(r"[\s_-]", "", str(name)).lower()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _listed(value: Any, kind: str, where: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigError(f"{kind} is a list of entries", where, f"{kind}: [{{name: ..., ...}}]")
    return value


def _merge(known: Iterable[dict[str, Any]], extra: Any, kind: str, where: str) -> list[dict[str, Any]]:
    """The known entries with the user's over them; new ones first, so that they also match a driver's name first."""
    entries = [dict(entry) for entry in known]
    added: list[dict[str, Any]] = []
    numbers, needed = (GPU_NUMBERS, GPU_NUMBERS[:3]) if kind == "gpus" else (LINK_NUMBERS, LINK_NUMBERS[:1])
    for entry in _listed(extra, kind, where):
        if "name" not in entry:
            raise ConfigError(f"an entry of {kind} has no name", where)
        wrong = [name for name in numbers if name in entry and not _is_number(entry[name])]
        present = _find(entries, str(entry["name"]))
        missing = [name for name in needed if name not in entry] if present is None else []
        if wrong or missing:
            what = f"{entry['name']}: " + "; ".join(
                [f"{name} is not a number" for name in wrong] + [f"{name} is missing" for name in missing]
            )
            example = _gpu_example(str(entry["name"])) if kind == "gpus" else "links: [{name: X, gbit: 100}]"
            raise ConfigError(what, where, example)
        if present is not None:
            present.update({**entry, "name": present["name"], "source": entry.get("source", f"{where}")})
        else:
            added.append({"source": where, **entry})
    return added + entries


def _find(entries: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    wanted = _key(name)
    for entry in entries:
        if wanted in (_key(entry["name"]), *map(_key, entry.get("aliases", ()))):
            return entry
    return None


def _gpu_spec(entry: dict[str, Any]) -> GpuSpec:
    nvlink, pcie = float(entry.get("nvlink_gb_s", 0)), float(entry.get("pcie_gb_s", 32))
    bus = entry.get("bus_gb_s", 0.8 * nvlink if nvlink else 0.4 * pcie)
    return GpuSpec(
        name=str(entry["name"]),
        memory=int(float(entry["memory_gib"]) * GIB),
        peak_flops=float(entry["bf16_tflops"]) * 1e12,
        memory_bandwidth=float(entry["memory_gb_s"]) * 1e9,
        nvlink_bandwidth=nvlink * 1e9,
        bus_bandwidth=float(bus) * 1e9,
        pcie_bandwidth=pcie * 1e9,
        architecture=str(entry.get("architecture", "unknown")),
        has_bf16=bool(entry.get("has_bf16", True)),
        usual_link=str(entry.get("usual_link", "1x100GbE")),
        source=str(entry.get("source", "")),
    )


def _gpu_example(name: str) -> str:
    return (
        "--cluster_file mine.yaml with  gpus: [{name: " + name + ", bf16_tflops: 400, memory_gib: 79, "
        "memory_gb_s: 2000, nvlink_gb_s: 300, bus_gb_s: 240, pcie_gb_s: 32}]"
    )


def _unknown(kind: str, name: str, entries: list[dict[str, Any]], names: list[str], example: str) -> ConfigError:
    spelt = {_key(word): word for entry in entries for word in (entry["name"], *entry.get("aliases", ()))}
    near = [spelt[key] for key in difflib.get_close_matches(_key(name), spelt, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ConfigError(
        f"unknown {kind} {name!r}", "--cluster", f"{hint}known: {', '.join(names)}; to add it: {example}"
    )
