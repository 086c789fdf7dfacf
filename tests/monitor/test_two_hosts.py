"""Two hosts as network namespaces, two ranks each: both nodes appear, and the bytes on the cable are those counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medscroll.monitor.run_reader import RunReader
from medscroll.monitor.snapshot import snapshot
from tests import launch
from tests.engine.conftest import prepared, training
from tests.engine.test_two_hosts import HOSTS, two_hosts
from tests.monitor.test_real_runs import events

assert prepared
assert two_hosts  # fixtures


def sent(host: str, device: str) -> int:
    """Bytes that a host's end of the cable has sent."""
    shown = subprocess.run(["ip", "-n", host, "-s", "-j", "link", "show", device], check=True, capture_output=True)
    return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"])


@pytest.mark.slow
@pytest.mark.distributed
def test_both_nodes_appear_with_their_bytes(two_hosts: dict[str, str], prepared: Path, tmp_path: Path) -> None:
    run, steps, jobs = tmp_path / "run", 30, []
    for (host, address), device in zip(two_hosts.items(), ("veth-a", "veth-b"), strict=True):
        launcher = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"]
        launcher += ["--nnodes", "2", "--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_id", "monitor"]
        launcher += ["--rdzv_endpoint", f"{HOSTS['medscroll-a']}:29501", "--local_addr", address]
        launcher += ["--rdzv_conf", f"is_host={int(host == 'medscroll-a')}"]
        arguments = [*launcher, "-m", "medscroll", *training(prepared, run, max_steps=steps, deepspeed="zero2")]
        with (tmp_path / f"{host}.log").open("w") as output:
            variables = launch.environment(GLOO_SOCKET_IFNAME=device)
            jobs.append(subprocess.Popen(arguments, env=variables, stdout=output, stderr=subprocess.STDOUT))
    try:
        codes = [job.wait(timeout=240) for job in jobs]
        cable = [sent(host, device) for host, device in zip(HOSTS, ("veth-a", "veth-b"), strict=True)]
    finally:
        for job in jobs:
            job.kill()
    assert codes == [0, 0], "\n".join((tmp_path / f"{host}.log").read_text()[-4000:] for host in two_hosts)
    assert [events(run, rank, "run")[0]["node"] for rank in range(4)] == [0, 0, 1, 1]
    counted = []
    for rank in range(4):
        entries = [event["communication"] for event in events(run, rank, "step") if "communication" in event]
        entries += [event["communication"] for event in events(run, rank, "end") if event.get("communication")]
        assert sum(entry["steps"] for entry in entries) == steps
        counted.append(sum(each["sent_bytes"] for entry in entries for each in entry["traffic"]))
    assert max(counted) == min(counted) > 10**7
    for node in range(2):
        # In a ring over four ranks one of a node's two ranks sends over the cable, the other one to its neighbour.
        assert 0.9 * counted[0] < cable[node] < 1.3 * counted[0]
    reader = RunReader(run)
    reader.finish()
    (view,) = snapshot([reader])["runs"]
    assert len(view["nodes"]) == 2
