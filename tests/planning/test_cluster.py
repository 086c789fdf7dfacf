"""Cluster strings, a user's own hardware, measured clusters; and that a wrong one says what would be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medscroll.errors import ConfigError
from medscroll.planning.cluster import parse_cluster
from medscroll.planning.hardware import GIB, Catalogue


@pytest.mark.parametrize(
    ("text", "nodes", "gpus", "gpu", "gigabytes_a_second"),
    [
        ("8x8xH100-80G", 8, 8, "H100-80G", 380.0),
        ("8x8xA100-80G@1x200G", 8, 8, "A100-80G", 23.0),
        ("8x8xh100_80g @ 8 x ndr", 8, 8, "H100-80G", 380.0),
        ("2x8xL40S@10GbE", 2, 8, "L40S-48G", 1.125),
        ("4x8xA100@8xHDR", 4, 8, "A100-80G", 190.0),
        ("8 x H200", 1, 8, "H200-141G", float("inf")),
        ("4090", 1, 1, "RTX4090-24G", float("inf")),
    ],
)
def test_cluster_strings(text: str, nodes: int, gpus: int, gpu: str, gigabytes_a_second: float) -> None:
    cluster = parse_cluster(text)
    assert (cluster.nodes, cluster.gpus_per_node, cluster.gpu.name) == (nodes, gpus, gpu)
    assert cluster.node_bandwidth == pytest.approx(gigabytes_a_second * 1e9)
    again = parse_cluster(cluster.name)
    assert again == cluster, "the name of a cluster gives the cluster again"
    assert parse_cluster("8x8xH100-80G").with_nodes(2).ranks == 16


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8x8xH101-80G", "H100-80G"),
        ("8x8xA1OO-80G", "A100-80G"),
        ("8x8xH100@8xNDS", "did you mean NDR"),
        ("0x8xH100", "nodes x"),
        ("8x8", "nodes x"),
        ("axbxH100", "8x8xH100-80G"),
        ("eight of H100", "nodes x"),
        ("9x9x9xH100", "nodes x"),
        ("8x8xH100@0xNDR", "ports x"),
        ("", "nodes x"),
    ],
)
def test_a_wrong_string_says_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_cluster(text)
    assert says in str(error.value)


def test_every_shipped_gpu_and_link_is_sound_and_sourced() -> None:
    catalogue = Catalogue()
    assert len(catalogue.gpu_names()) > 12
    for name in catalogue.gpu_names():
        gpu = catalogue.gpu(name)
        assert gpu.source
        assert 10 * GIB < gpu.memory < 300 * GIB
        assert 1e14 < gpu.peak_flops < 3e15
        assert gpu.bus_bandwidth < (gpu.nvlink_bandwidth or gpu.pcie_bandwidth)
        box = int(name.rpartition("-")[2].removesuffix("G"))
        assert 0.9 * box < gpu.memory / GIB < box, "what a process sees is a little less than the number on the box"
        assert parse_cluster(f"2x8x{name}").node_bandwidth > 0
    for name in catalogue.link_names():
        link = catalogue.link(name)
        assert 0 < link.bandwidth < link.rate
    for name in (
        "A100-40G",
        "H20-96G",
        "H800-80G",
        "A800-80G",
        "B200-180G",
        "L40S-48G",
        "RTX4090-24G",
        "H100-PCIE-80G",
    ):
        assert name in catalogue.gpu_names()


def test_driver_names_find_their_gpu() -> None:
    catalogue = Catalogue()
    for driver, name in {
        "NVIDIA H100 80GB HBM3": "H100-80G",
        "NVIDIA H100 PCIe": "H100-PCIE-80G",
        "NVIDIA H200": "H200-141G",
        "NVIDIA H20": "H20-96G",
        "NVIDIA A100-SXM4-40GB": "A100-40G",
        "NVIDIA A100-SXM4-80GB": "A100-80G",
        "NVIDIA A100 80GB PCIe": "A100-PCIE-80G",
        "NVIDIA GeForce RTX 4090": "RTX4090-24G",
        "Tesla V100-SXM2-32GB": "V100-32G",
        "NVIDIA B200": "B200-180G",
    }.items():
        found = catalogue.gpu_of_device(driver)
        assert found is not None
        assert found.name == name, driver
    assert catalogue.gpu_of_device("Voodoo 2") is None
    exact = catalogue.gpu_of_device("NVIDIA H200", 140 * GIB)
    assert exact is not None
    assert exact.memory == 140 * GIB


def test_a_users_file_changes_and_adds(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        "cluster: 2x4xMyGPU-48G@2xMyNet\n"
        "gpus:\n"
        "  - {name: MyGPU-48G, bf16_tflops: 200, memory_gib: 47, memory_gb_s: 900, nvlink_gb_s: 100}\n"
        "  - {name: H100, memory_gib: 78}\n"
        "links:\n  - {name: MyNet, gbit: 56, efficiency: 0.5}\n"
        "prices:\n  - {gpu: MyGPU-48G, per_hour: 7}\n"
        "currency: CNY\nhost_memory_gib: 100\n",
        encoding="utf-8",
    )
    cluster = parse_cluster("", cluster_file=own)
    assert cluster.gpu.memory == 47 * GIB
    assert cluster.node_bandwidth == pytest.approx(2 * 56e9 / 8 * 0.5)
    assert (cluster.price, cluster.currency, cluster.host_memory) == (7.0, "CNY", 100 * GIB)
    changed = parse_cluster("8xH100-80G", cluster_file=own)
    assert changed.gpu.memory == 78 * GIB
    assert changed.gpu.peak_flops == 989e12
    assert parse_cluster("8xH100-80G", cluster_file=own, price=1.5).price == 1.5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("gpu: []\n", "did you mean gpus"),
        ("gpus: [{name: X1}]\n", "bf16_tflops is missing"),
        ("gpus: [{name: H100, memory_gib: much}]\n", "memory_gib is not a number"),
        ("gpus: H100\n", "a list of entries"),
        ("prices: [{gpu: H100}]\n", "per_hour"),
        ("[1]\n", "mapping"),
        ("a: [\n", "not valid YAML"),
        ("bus_gb_s: -1\n", "positive"),
    ],
)
def test_a_wrong_file_names_its_mistake(tmp_path: Path, content: str, says: str) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        parse_cluster("8xH100", cluster_file=own)
    assert says in str(error.value)


def test_a_measured_cluster(tmp_path: Path) -> None:
    found = tmp_path / "cluster.json"
    measured = {
        "nodes": 2,
        "gpus_per_node": 8,
        "gpu": "NVIDIA H100 80GB HBM3",
        "gpu_memory": 79 * GIB,
        "bus_bytes_per_second": 3.1e11,
        "node_bytes_per_second": 2.2e10,
        "latency_seconds": 8e-6,
        "host_memory": 1000 * GIB,
    }
    found.write_text(json.dumps({"ok": True, "cluster": measured}), encoding="utf-8")
    cluster = parse_cluster(str(found))
    assert (cluster.ranks, cluster.gpu.memory, cluster.node_bandwidth) == (16, 79 * GIB, 2.2e10)
    assert (cluster.latency, cluster.host_memory) == (8e-6, 1000 * GIB)
    assert any("measured" in note for note in cluster.notes)
    found.write_text(json.dumps({"cluster": {**measured, "node_bytes_per_second": None}}), encoding="utf-8")
    with pytest.raises(ConfigError, match="node_bytes_per_second"):
        parse_cluster(str(found))
    found.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="no object"):
        parse_cluster(str(found))


def test_what_doctor_writes_is_what_plan_reads(tmp_path: Path) -> None:
    """The object of `cluster_report`, from raw findings of GPU nodes; without GPUs it is refused."""
    from medscroll.planning.cluster_report import cluster as written

    node = {"gpu": "NVIDIA H100 80GB HBM3", "gpu_memory": 85 * 10**9, "host_memory": 2 * 10**12}
    pair = {"bytes_per_s": 180e9, "back_bytes_per_s": 170e9, "latency_us": 7.0}
    file = tmp_path / "cluster.json"

    def read(ranks: int, inside: float | None, gpu: str | None = None) -> Any:
        nodes = [{**node, "ranks": list(range(ranks)), "inside": inside} for _ in range(2)]
        if gpu is not None:
            nodes = [{**each, "gpu": gpu, "gpu_memory": None} for each in nodes]
        file.write_text(json.dumps({"cluster": written({"nodes": nodes, "pairs": [pair]})}), encoding="utf-8")
        return parse_cluster(str(file))

    cluster = read(8, 350e9)
    assert (cluster.nodes, cluster.gpus_per_node, cluster.gpu.name) == (2, 8, "H100-80G")
    assert (cluster.bus_bandwidth, cluster.node_bandwidth) == (350e9, 170e9)
    assert cluster.latency == pytest.approx(7e-6)
    assert any("measured" in note for note in cluster.notes)
    single = read(1, None)  # one GPU a node: there is nothing to measure inside
    assert single.node_bandwidth == 170e9
    assert single.bus_bandwidth >= 170e9
    with pytest.raises(ConfigError, match="without a GPU"):
        read(8, 350e9, gpu="")
