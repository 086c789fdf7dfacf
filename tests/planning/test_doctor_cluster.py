"""doctor --cluster: every pair once, the slow link and the node that differs are named, NCCL's log is read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medscroll.errors import EnvironmentError_
from medscroll.planning.cluster_probe import _first_host, find_launch, rounds
from medscroll.planning.cluster_report import in_words, judge
from medscroll.planning.nccl_log import read_nccl
from tests import launch
from tests.engine.test_two_hosts import HOSTS, two_hosts

__all__ = ["two_hosts"]  # the fixture

INFINIBAND = """\
gpu01:812:812 [0] NCCL INFO NCCL version 2.27.5+cuda12.9
gpu01:812:830 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_3:1/IB [RO]; OOB ib0:10.1.0.1<0>
gpu01:812:830 [0] NCCL INFO Using network IB
gpu01:812:830 [0] NCCL INFO NET/IB : GPU Direct RDMA Enabled for HCA 0 'mlx5_0'
gpu01:812:841 [0] NCCL INFO Channel 00/0 : 8[0] -> 0[0] [receive] via NET/IB/0/GDRDMA
gpu01:812:841 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM/read
"""
SOCKETS = """\
gpu02:1:1 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.2<0> [1]eth1:10.2.0.2<0>
gpu02:1:1 [0] NCCL INFO Using network Socket
gpu02:1:1 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [send] via NET/Socket/0
"""


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 7, 16])
def test_every_pair_plays_once_and_no_node_twice_a_round(nodes: int) -> None:
    played = rounds(nodes)
    pairs = Counter(pair for one in played for pair in one)
    assert set(pairs) == {(a, b) for a in range(nodes) for b in range(a + 1, nodes)}
    assert all(count == 1 for count in pairs.values())
    for one in played:
        members = [node for pair in one for node in pair]
        assert len(members) == len(set(members))
    assert len(played) <= nodes + 1


def node(host: str, ranks: list[int], **changes: Any) -> dict[str, Any]:
    return {
        "host": host,
        "address": f"10.0.0.{ranks[0] + 1}",
        "ranks": ranks,
        "gpus": 8,
        "gpu": "NVIDIA H100 80GB HBM3",
        "gpu_memory": 80 * 2**30,
        "driver": "580.1",
        "python": "3.12.3",
        "kernel": "6.8",
        "host_memory": 10**12,
        "versions": {"torch": "2.11.0", "deepspeed": "0.19.8"},
        "link_bytes_per_s": {"ports": {"mlx5_0:1": 50e9}, "interface": "eth0", "interface_bytes_per_s": 3e9},
        "log": read_nccl(INFINIBAND).to_json(),
        "offset": 0.001,
        "inside": 380e9,
        **changes,
    }


def raw(nodes: list[dict[str, Any]], rate: float = 46e9, slow: tuple[int, int] | None = None) -> dict[str, Any]:
    pairs = [
        {
            "nodes": [a, b],
            "bytes_per_s": rate * (0.3 if (a, b) == slow else 1),
            "back_bytes_per_s": rate,
            "latency_us": 7.0 + a,
            "all_reduce_bytes_per_s": rate / 8,
        }
        for a in range(len(nodes))
        for b in range(a + 1, len(nodes))
    ]
    ranks = sum(len(one["ranks"]) for one in nodes)
    shared = {"path": "runs", "ranks": [{"problem": "", "missing": [], "seconds": 0.1}] * ranks}
    return {
        "backend": "nccl",
        "launcher": "torchrun",
        "ranks": ranks,
        "nodes": nodes,
        "pairs": pairs,
        "all_reduce_bytes_per_s": 40e9,
        "shared": shared,
    }


def four(**changes: Any) -> list[dict[str, Any]]:
    nodes = [node(f"gpu{at:02d}", list(range(at * 2, at * 2 + 2))) for at in range(4)]
    nodes[2].update(changes)
    return nodes


def test_a_sound_cluster_has_no_problem_and_says_what_the_planner_reads() -> None:
    report = judge(raw(four()))
    assert report["ok"]
    assert report["problems"] == []
    assert report["cluster"]["nodes"] == 4
    assert report["cluster"]["node_bytes_per_second"] == 46e9
    assert report["cluster"]["latency_us"] == 9.0
    assert "export NCCL_IB_HCA=mlx5_0,mlx5_3" in report["exports"]
    json.dumps(report, allow_nan=False)


def test_the_slow_link_is_named_with_what_was_expected() -> None:
    report = judge(raw(four(), slow=(1, 3)))
    (problem,) = report["problems"]
    assert "gpu01 - gpu03" in problem
    assert "50.00" in problem
    assert "SLOW  gpu01 - gpu03" in in_words(report)
    assert not report["ok"]


def test_a_node_that_differs_is_named() -> None:
    report = judge(raw(four(driver="550.2", versions={"torch": "2.10.0", "deepspeed": "0.19.8"}, offset=-4.2)))
    assert report["differences"]["driver"] == {"580.1": ["gpu00", "gpu01", "gpu03"], "550.2": ["gpu02"]}
    assert any("torch" in problem for problem in report["problems"])
    assert any("clock of gpu02" in note for note in report["notes"])


def test_sockets_beside_infiniband_are_a_problem() -> None:
    report = judge(raw(four(log=read_nccl(SOCKETS).to_json())))
    assert any("gpu02" in problem and "mlx5_0:1" in problem for problem in report["problems"])
    assert any("same network" in problem for problem in report["problems"])


def test_a_folder_that_is_not_shared_is_a_problem() -> None:
    found = raw(four())
    found["shared"]["ranks"] = [
        {"problem": "", "missing": [4] if rank == 0 else [], "seconds": 30.0} for rank in range(8)
    ]
    (problem,) = judge(found)["problems"]
    assert "gpu02" in problem
    assert "gpu00" in problem


def test_nccl_output_is_read() -> None:
    log = read_nccl(INFINIBAND)
    assert (log.version, log.network, log.adapters) == ("2.27.5+cuda12.9", "InfiniBand", ["mlx5_0:1", "mlx5_3:1"])
    assert log.gpu_direct is True
    assert log.paths == {"NET/IB/GDRDMA": 1, "P2P": 1}
    roce = read_nccl(INFINIBAND.replace("/IB [", "/RoCE [").replace("/GDRDMA", ""))
    assert (roce.network, roce.gpu_direct) == ("RoCE", False)
    sockets = read_nccl(SOCKETS)
    assert (sockets.network, sockets.adapters, sockets.gpu_direct) == ("sockets", ["eth0", "eth1"], False)
    empty = read_nccl("nothing of interest\n")
    assert (empty.network, empty.gpu_direct, empty.paths) == (None, None, {})


def test_the_place_in_the_job_comes_from_either_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that what the call sets is taken back
        monkeypatch.delenv(name)
    with pytest.raises(EnvironmentError_, match="one process alone"):
        find_launch()
    for name, value in {
        "PROCID": "5",
        "NTASKS": "8",
        "LOCALID": "1",
        "JOB_ID": "77",
        "STEP_NODELIST": "gpu[03-06,9]",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    found = find_launch()
    assert (found.rank, found.world_size, found.local_rank, found.launcher) == (5, 8, 1, "srun")
    import os

    assert (os.environ["MASTER_ADDR"], os.environ["RANK"], os.environ["MASTER_PORT"]) == ("gpu03", "5", "20077")
    assert [_first_host(text) for text in ("a,b", "n7", "x[1,3]", "a,n[1-2]")] == ["a", "n7", "x1", "a"]


@pytest.mark.slow
@pytest.mark.distributed
def test_two_hosts_of_two_ranks_are_measured(two_hosts: dict[str, str], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    jobs = []
    for (host, address), device in zip(two_hosts.items(), ("veth-a", "veth-b"), strict=True):
        launcher = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"]
        launcher += ["--nnodes", "2", "--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_id", "cluster"]
        launcher += ["--rdzv_endpoint", f"{HOSTS['medscroll-a']}:29500", "--local_addr", address]
        launcher += ["--rdzv_conf", f"is_host={int(host == 'medscroll-a')}"]
        words = [*launcher, "-m", "medscroll", "doctor", "--cluster", "--json", "--shared_dir", str(shared)]
        with (tmp_path / f"{host}.out").open("w") as output, (tmp_path / f"{host}.err").open("w") as errors:
            variables = launch.environment(GLOO_SOCKET_IFNAME=device)
            jobs.append(subprocess.Popen(words, env=variables, stdout=output, stderr=errors))
    try:
        for job in jobs:
            job.wait(timeout=200)
    finally:
        for job in jobs:
            job.kill()
    printed = "".join((tmp_path / f"{host}.out").read_text() for host in two_hosts)
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    assert len(lines) == 1, "".join((tmp_path / f"{host}.err").read_text()[-3000:] for host in two_hosts)
    report = json.loads(lines[0])
    assert {one["address"] for one in report["nodes"]} == set(two_hosts.values())
    assert sorted(rank for one in report["nodes"] for rank in one["ranks"]) == [0, 1, 2, 3]
    (pair,) = report["pairs"]
    assert pair["bytes_per_s"] > 1e6
    assert pair["back_bytes_per_s"] > 1e6
    assert 1 < pair["latency_us"] < 1e6
    assert report["shared"]["seen_by_all"]
    assert list(shared.iterdir()) == []
    assert all(abs(one["offset"]) < 1 for one in report["nodes"])
    assert report["cluster"]["bus_bytes_per_second"] > 1e6
    assert report["cluster"]["node_bytes_per_second"] == min(pair["bytes_per_s"], pair["back_bytes_per_s"])
