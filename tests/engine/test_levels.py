"""Activation memory under ZeRO: every level trains as level none does, and keeps less, at every stage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import launch

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.distributed

# from what keeps most to what keeps least
FEW = ["none", "full_offload_tiled"]
ALL = [
    "none", "linear", "mlp_2", "attention", "full", "every_2", "linear_offload", "attention_offload", "full_offload",
    "every_2_offload", "every_3", "attention_tiled", "full_tiled", "every_2_offload_tiled",
]  # fmt: skip


def results(stages: str, levels: list[str]) -> dict[str, dict[str, Any]]:
    finished = launch.run(2, [stages, ",".join(levels)], module="tests.engine.levels_worker", timeout=500)
    line = next(line for line in finished.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def check(found: dict[str, dict[str, Any]], levels: list[str]) -> None:
    plain = found["2"]["none"] if "2" in found else next(iter(found.values()))["none"]
    assert plain["losses"][-1] < plain["losses"][0] - 0.3, "the model learned, so equality is not that of a standstill"
    for stage, by_level in found.items():
        assert list(by_level) == levels
        for level, result in by_level.items():
            assert result["losses"] == pytest.approx(plain["losses"], rel=1e-4), (stage, level)
            assert result["norms"] == pytest.approx(plain["norms"], rel=1e-3), (stage, level)


def test_levels_train_alike_under_every_zero_stage() -> None:
    found = results("1,2,3", FEW)
    check(found, FEW)
    for stage, by_level in found.items():
        kept = [result["kept"] for result in by_level.values()]
        assert kept == sorted(kept, reverse=True), (stage, kept)
        assert kept[0] > 1.5 * kept[-1], (stage, kept)


@pytest.mark.slow
def test_all_levels_train_alike_under_every_zero_stage() -> None:
    found = results("1,2,3", ALL)
    check(found, ALL)
    for stage, by_level in found.items():
        kept = {level: result["kept"] for level, result in by_level.items()}
        assert kept["none"] > kept["linear"] > kept["mlp_2"] > kept["attention"] > kept["full"], stage
        assert kept["full"] > kept["every_2"], stage
