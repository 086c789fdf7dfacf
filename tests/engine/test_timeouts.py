"""`--ddp_timeout` reaches every process group, also those that others open without one."""

from __future__ import annotations

from pathlib import Path

import torch

from medscroll.engine.timeouts import least_timeout, use_timeout


def test_all_groups_get_the_timeout(tmp_path: Path) -> None:
    assert least_timeout(77.0) is None
    assert use_timeout(77.0) == 0
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        torch.distributed.new_group([0])  # as DeepSpeed does: without a timeout
        assert least_timeout(7200.0) == 1800.0  # torch's default
        assert use_timeout(7200.0) >= 2
        assert least_timeout(7200.0) == 7200.0
        assert use_timeout(60.0) >= 2
        assert least_timeout(7200.0) == 60.0
    finally:
        torch.distributed.destroy_process_group()
