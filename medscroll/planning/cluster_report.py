"""What the figures of `cluster_probe` mean: the slow link by name, differences between nodes, exports to paste.

A link is slow when it gives less than 70 % of the median of all pairs, or less than half of what its ports can carry.
`judge` is a pure function of the raw findings, so it can be tested without a cluster. The object "cluster" is what
`medscroll plan --cluster FILE.json` reads.
"""

from __future__ import annotations

import statistics
from typing import Any

SLOW_OF_MEDIAN, SLOW_OF_EXPECTED = 0.7, 0.5
CLOCK_SECONDS = 1.0
COMPARED = ("gpu", "gpus", "gpu_memory", "driver", "python", "kernel", "host_memory")


def judge(raw: dict[str, Any]) -> dict[str, Any]:
    """The report of all nodes.

    Returns:
        `ok`, `backend`, `launcher`, `ranks`, `nodes`, `pairs` (with `expected_bytes_per_s` and `slow`), `differences`
        {what: {value: [hosts]}}, `transport`, `exports` (lines of shell), `problems` and `notes` (sentences), `shared`,
        `cluster`. Keys are listed in docs/doctor-cluster.md.
    """
    nodes = raw["nodes"]
    problems: list[str] = []
    notes: list[str] = []
    names = node_names(nodes)
    pairs = _pairs(raw, names)
    for pair in pairs:
        if pair["slow"]:
            problems.append(f"slow link {pair['between'][0]} - {pair['between'][1]}: {pair['slow']}")
    differences = differing(nodes, names)
    for what, values in differences.items():
        listed = "; ".join(f"{value} on {', '.join(hosts)}" for value, hosts in values.items())
        serious = what in ("gpu", "gpus", "driver", "gpu_memory") or what.startswith(
            ("torch", "deepspeed", "nvidia-nccl")
        )
        (problems if serious else notes).append(f"{what} differs: {listed}")
    for node, name in zip(nodes, names, strict=True):
        offset = node.get("offset")
        if offset is not None and abs(offset) > CLOCK_SECONDS:
            notes.append(f"the clock of {name} is {offset:+.1f} s from {names[0]}'s: synchronise it (chrony, ntp)")
    transport = _transport(raw, names, problems, notes)
    shared = _shared(raw, nodes, names, problems)
    return {
        "ok": not problems,
        "backend": raw["backend"],
        "launcher": raw["launcher"],
        "ranks": raw["ranks"],
        "nodes": [{"name": name, **node} for name, node in zip(names, nodes, strict=True)],
        "pairs": pairs,
        "all_reduce_bytes_per_s": raw["all_reduce_bytes_per_s"],
        "differences": differences,
        "transport": transport,
        "exports": exports(raw),
        "shared": shared,
        "problems": problems,
        "notes": notes,
        "cluster": cluster(raw),
    }


def node_names(nodes: list[dict[str, Any]]) -> list[str]:
    """Host names; with the address where two nodes have one name."""
    hosts = [str(node["host"]) for node in nodes]
    return [
        f"{host} ({node['address']})" if hosts.count(host) > 1 else host
        for host, node in zip(hosts, nodes, strict=True)
    ]


def expected_rate(node: dict[str, Any], backend: str) -> float | None:
    """Bytes/s that the ports of a node carry: all InfiniBand or RoCE ports under NCCL, else the interface in use."""
    link = node.get("link_bytes_per_s") or {}
    ports = sum((link.get("ports") or {}).values())
    if backend == "nccl" and ports:
        return float(ports)
    rate = link.get("interface_bytes_per_s")
    return float(rate) if rate else None


def _pairs(raw: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    found, nodes = raw["pairs"], raw["nodes"]
    usual = statistics.median(min(p["bytes_per_s"], p["back_bytes_per_s"]) for p in found) if found else 0.0
    rows = []
    for pair in found:
        ends = [nodes[at] for at in pair["nodes"]]
        rates = [rate for node in ends if (rate := expected_rate(node, raw["backend"]))]
        expected = min(rates) if len(rates) == len(ends) else None
        worst = min(pair["bytes_per_s"], pair["back_bytes_per_s"])
        reasons = []
        if len(found) > 2 and worst < SLOW_OF_MEDIAN * usual:
            reasons.append(f"{worst / 1e9:.2f} GB/s, the median of the pairs is {usual / 1e9:.2f}")
        if expected is not None and worst < SLOW_OF_EXPECTED * expected:
            reasons.append(f"{worst / 1e9:.2f} GB/s of {expected / 1e9:.2f} that its ports carry")
        between = [names[at] for at in pair["nodes"]]
        rows.append({**pair, "between": between, "expected_bytes_per_s": expected, "slow": "; ".join(reasons)})
    return rows


def differing(nodes: list[dict[str, Any]], names: list[str]) -> dict[str, dict[str, list[str]]]:
    """What is not the same on all nodes: name -> value -> nodes."""
    packages = {name for node in nodes for name in node.get("versions", {})}
    looks = {what: [node.get(what) for node in nodes] for what in COMPARED}
    looks |= {name: [node.get("versions", {}).get(name) for node in nodes] for name in sorted(packages)}
    found: dict[str, dict[str, list[str]]] = {}
    for what, values in looks.items():
        if len({str(value) for value in values}) > 1:
            by_value: dict[str, list[str]] = {}
            for name, value in zip(names, values, strict=True):
                by_value.setdefault(str(value), []).append(name)
            found[what] = by_value
    if "host_memory" in found:  # a few MiB are the kernel's business
        sizes = [float(node.get("host_memory") or 0) for node in nodes]
        if max(sizes) < 1.02 * min(sizes):
            del found["host_memory"]
    return found


def _transport(raw: dict[str, Any], names: list[str], problems: list[str], notes: list[str]) -> list[dict[str, Any]]:
    """What NCCL took on each node, and what is wrong about it."""
    rows = []
    for node, name in zip(raw["nodes"], names, strict=True):
        log = node.get("log")
        if log is None:
            continue
        rows.append({"node": name, **log})
        ports = (node.get("link_bytes_per_s") or {}).get("ports") or {}
        if log["network"] == "sockets" and ports:
            problems.append(
                f"NCCL took sockets on {name} though it has {', '.join(ports)}: "
                "install libibverbs and rdma-core in the container, unset NCCL_IB_DISABLE"
            )
        elif log["network"] in ("InfiniBand", "RoCE") and log["gpu_direct"] is False and len(raw["nodes"]) > 1:
            notes.append(
                f"no GPUDirect RDMA on {name}: load nvidia-peermem (or a kernel with DMA-BUF); saves host copies"
            )
    networks = {row["network"] for row in rows}
    if len(networks) > 1:
        listed = "; ".join(f"{row['network']} on {row['node']}" for row in rows)
        problems.append(f"the nodes do not take the same network: {listed}")
    return rows


def exports(raw: dict[str, Any]) -> list[str]:
    """Lines of shell that fix what was found to work: interface, adapters."""
    found: dict[str, set[str]] = {"interface": set(), "adapters": set()}
    for node in raw["nodes"]:
        link = node.get("link_bytes_per_s") or {}
        if link.get("interface"):
            found["interface"].add(link["interface"])
        log = node.get("log") or {}
        if log.get("network") in ("InfiniBand", "RoCE") and log.get("adapters"):
            found["adapters"].add(",".join(adapter.partition(":")[0] for adapter in log["adapters"]))
    lines = []
    if len(raw["nodes"]) > 1 and len(found["interface"]) == 1:
        (interface,) = found["interface"]
        lines += [f"export GLOO_SOCKET_IFNAME={interface}"]
        if raw["backend"] == "nccl":
            lines += [f"export NCCL_SOCKET_IFNAME={interface}"]
    elif len(raw["nodes"]) > 1:
        for node in raw["nodes"]:
            own = (node.get("link_bytes_per_s") or {}).get("interface")
            if own:
                lines.append(f"export GLOO_SOCKET_IFNAME={own}   # on {node['host']} ({node['address']})")
    if len(found["adapters"]) == 1:
        lines.append(f"export NCCL_IB_HCA={next(iter(found['adapters']))}")
    return lines


def _shared(
    raw: dict[str, Any], nodes: list[dict[str, Any]], names: list[str], problems: list[str]
) -> dict[str, Any] | None:
    shared = raw["shared"]
    if shared is None:
        return None
    of_rank = {rank: name for node, name in zip(nodes, names, strict=True) for rank in node["ranks"]}
    blind: dict[str, list[str]] = {}
    for rank, found in enumerate(shared["ranks"]):
        if found["problem"]:
            problems.append(f"the shared folder {shared['path']} {found['problem']} on {of_rank[rank]}")
        for other in found["missing"]:
            blind.setdefault(of_rank[other], []).append(of_rank[rank])
    for writer, readers in blind.items():
        listed = ", ".join(dict.fromkeys(readers))
        problems.append(
            f"what {writer} writes into {shared['path']} is not seen by {listed}: it is not one shared folder"
        )
    seconds = max(found["seconds"] for found in shared["ranks"])
    return {"path": shared["path"], "seen_by_all": not blind, "seconds": seconds}


def cluster(raw: dict[str, Any]) -> dict[str, Any]:
    """The cluster as the planner reads it; bandwidths in bytes/s, the worst that was measured."""
    nodes, pairs = raw["nodes"], raw["pairs"]
    inside = [node["inside"] for node in nodes if node.get("inside")]
    out = [min(pair["bytes_per_s"], pair["back_bytes_per_s"]) for pair in pairs]
    latency = max((pair["latency_us"] for pair in pairs), default=None)
    first = nodes[0]
    return {
        "nodes": len(nodes),
        "gpus_per_node": min(len(node["ranks"]) for node in nodes),
        "gpu": first["gpu"] or "cpu",
        "gpu_memory": first["gpu_memory"],
        "host_memory": min(node["host_memory"] for node in nodes),
        "bus_bytes_per_second": min(inside, default=None),
        "node_bytes_per_second": min(out, default=None),
        "latency_seconds": None if latency is None else latency / 1e6,
        # The same under the names of docs/doctor-cluster.md's first table.
        "intra_bandwidth_bytes_per_s": min(inside, default=None),
        "uplink_bytes_per_s": min(out, default=None),
        "latency_us": latency,
    }


def in_words(report: dict[str, Any]) -> str:
    """The report for a terminal."""

    def gigabytes(value: float | None) -> str:
        return "-" if value is None else f"{value / 1e9:.2f} GB/s"

    lines = [f"{len(report['nodes'])} nodes, {report['ranks']} ranks ({report['launcher']}), {report['backend']}"]
    for node in report["nodes"]:
        gpus = f"{node['gpus']} x {node['gpu']}, driver {node['driver']}" if node["gpu"] else "no GPU"
        inside = gigabytes(node.get("inside"))
        lines.append(f"  {node['name']}: {len(node['ranks'])} ranks, {gpus}; all-reduce inside {inside} a rank")
    for row in report["transport"]:
        direct = {True: "with GPUDirect RDMA", False: "without GPUDirect RDMA", None: "GPUDirect unknown"}[
            row["gpu_direct"]
        ]
        adapters = ", ".join(row["adapters"])
        lines.append(f"  {row['node']}: NCCL {row['version']} took {row['network']} ({adapters}) {direct}")
    if report["pairs"]:
        lines.append(
            "pairs of nodes: there / back, expected at most; latency; all-reduce over both (bus bandwidth a rank)"
        )
    for pair in report["pairs"]:
        mark = "SLOW  " if pair["slow"] else "      "
        lines.append(
            f"{mark}{pair['between'][0]} - {pair['between'][1]}: {gigabytes(pair['bytes_per_s'])} / "
            f"{gigabytes(pair['back_bytes_per_s'])}, {gigabytes(pair['expected_bytes_per_s'])}; "
            f"{pair['latency_us']:.0f} us; {gigabytes(pair['all_reduce_bytes_per_s'])}"
        )
    lines.append(f"all-reduce over all ranks: {gigabytes(report['all_reduce_bytes_per_s'])} a rank (bus bandwidth)")
    shared = report["shared"]
    if shared is not None and shared["seen_by_all"]:
        lines.append(f"shared folder {shared['path']}: seen by all after {shared['seconds']:.1f} s")
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"PROBLEM: {problem}" for problem in report["problems"]]
    if report["exports"]:
        lines += ["to paste before training:", *[f"  {line}" for line in report["exports"]]]
    if not report["problems"]:
        lines.append("No problem found between the nodes.")
    return "\n".join(lines)
