"""Two hosts: network namespaces joined by a cable (veth), one rank each, the README's commands with other numbers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import launch
from tests.engine.conftest import training

HOSTS = {"medscroll-a": "10.77.0.1", "medscroll-b": "10.77.0.2"}


def ip(*arguments: str) -> None:
    """Run `ip`; its message is the failure's."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def two_hosts() -> Iterator[dict[str, str]]:
    """Two network namespaces with addresses of their own; removed afterwards."""
    if os.geteuid() != 0:
        pytest.skip("two network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("the command `ip` (iproute2) is not installed")
    first, second = HOSTS
    try:
        for host in HOSTS:
            ip("netns", "add", host)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    try:
        ip("link", "add", "veth-a", "netns", first, "type", "veth", "peer", "name", "veth-b", "netns", second)
        for (host, address), device in zip(HOSTS.items(), ("veth-a", "veth-b"), strict=True):
            ip("-n", host, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", host, "link", "set", device, "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield HOSTS
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)


@pytest.mark.distributed
def test_two_hosts_train_as_two_ranks_on_one(two_hosts: dict[str, str], prepared: Path, tmp_path: Path) -> None:
    """ZeRO-3 over a c10d rendezvous between two addresses: the losses of two ranks on one host."""
    flags = {"max_steps": 6, "deepspeed": "zero3", "gradient_accumulation_steps": 2}
    one, two = tmp_path / "one-host", tmp_path / "two-hosts"
    launch.run(2, training(prepared, one, **flags))
    jobs = []
    for (host, address), device in zip(two_hosts.items(), ("veth-a", "veth-b"), strict=True):
        launcher = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"]
        launcher += ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_id", "two-hosts"]
        launcher += ["--rdzv_endpoint", f"{HOSTS['medscroll-a']}:29500", "--local_addr", address]
        launcher += ["--rdzv_conf", f"is_host={int(host == 'medscroll-a')}"]
        with (tmp_path / f"{host}.log").open("w") as output:
            arguments = [*launcher, "-m", "medscroll", *training(prepared, two, **flags)]
            variables = launch.environment(GLOO_SOCKET_IFNAME=device)
            jobs.append(subprocess.Popen(arguments, env=variables, stdout=output, stderr=subprocess.STDOUT))
    try:
        codes = [job.wait(timeout=200) for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    assert codes == [0, 0], "\n".join((tmp_path / f"{host}.log").read_text()[-4000:] for host in two_hosts)
    assert set(launch.events(two)) == {0, 1}
    assert launch.blocks(two) == launch.blocks(one)
    expected, found = launch.losses(one), launch.losses(two)
    assert len(expected) == 6
    np.testing.assert_allclose([found[step] for step in expected], list(expected.values()), rtol=1e-5)
