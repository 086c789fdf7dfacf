"""A run against its plan: what is refused, warned of, compared and kept; nothing of it on a CPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerControl, TrainerState

from medscroll.engine.plan_check import PlanCheck, RunPlan, breakdown, plan_run
from medscroll.errors import CapacityError
from medscroll.planning.calibration import Pair, calibrate, kind_of, ratios, read_pairs
from medscroll.planning.candidate import GIB, Candidate
from medscroll.planning.cluster import parse_cluster
from tests.planning.hand_made import candidate, setup

CLUSTER = parse_cluster("8x8xH100-80G")


def planned(total_gib: float) -> Candidate:
    """A candidate of that many GiB in all."""
    item = candidate()
    return candidate(activations=20.0 + total_gib - item.memory.total / GIB)


def plan_of(item: Candidate) -> RunPlan:
    return RunPlan(item, CLUSTER, lambda: "--per_device_train_batch_size 1", raw_seconds=item.time.step)


def test_what_cannot_fit_even_at_the_bound_is_refused() -> None:
    limit = CLUSTER.gpu.memory / GIB
    slack = candidate().memory.allocator_slack / GIB  # what a GPU can do without
    plan = plan_of(planned(limit / 0.95 + slack + 0.2))
    with pytest.raises(CapacityError) as error:
        plan.judge(ignore=False)
    said = str(error.value)
    for words in ("cannot fit", "activations", "--per_device_train_batch_size 1", "--ignore_plan", "GiB"):
        assert words in said
    assert error.value.exit_code == 2
    ignored = plan.judge(ignore=True)
    assert ignored[0].startswith("WARNING")
    within = plan_of(planned(limit * 0.99)).judge(ignore=False)
    assert "may not fit" in within[0]
    assert "--per_device_train_batch_size 1" in within[-1]
    fine = plan_of(planned(limit * 0.6)).judge(ignore=False)
    assert len(fine) == 1
    assert fine[0].startswith("Plan:")


def test_out_of_memory_ends_with_the_plan() -> None:
    text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB. If reserved but"
    with pytest.raises(CapacityError) as error, plan_of(planned(70)).explains_out_of_memory():
        raise torch.OutOfMemoryError(text)
    said = str(error.value)
    assert "Tried to allocate 2.00 GiB" in said
    assert "largest part: activations" in said
    assert "remedy: --per_device_train_batch_size 1" in said
    assert error.value.__cause__ is None
    with pytest.raises(CapacityError, match="medscroll plan"), RunPlan().explains_out_of_memory():
        raise torch.OutOfMemoryError(text)
    with pytest.raises(RuntimeError, match="other"), plan_of(planned(70)).explains_out_of_memory():
        raise RuntimeError("other")


def test_breakdown_adds_up() -> None:
    item = candidate()
    lines = breakdown(item, CLUSTER.gpu.memory).splitlines()
    sizes = [float(line.split(" GiB")[0].split()[-1]) for line in lines[1:]]
    assert sum(sizes) == pytest.approx(item.memory.total / GIB, abs=0.01 * len(sizes))
    assert sizes == sorted(sizes, reverse=True)


def test_on_a_cpu_there_is_no_plan() -> None:
    def never(cluster: Any) -> Any:
        raise AssertionError("a plan was made")

    plan = plan_run(never, torch.device("cpu"), 1, 1, None)
    assert plan.candidate is None
    assert plan.judge(ignore=False) == []


def test_on_a_gpu_the_plan_is_that_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a driver that says it is an H100: the real prediction of the real setup."""
    from tests.planning.test_search import setup as real_setup

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * GIB, 79 * GIB))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=2048 * GIB))
    device, pairs = torch.device("cuda", 0), str(tmp_path / "none.jsonl")
    plan = plan_run(lambda cluster: real_setup(nodes=cluster.nodes), device, 2, 8, pairs)
    assert plan.missing == ""
    assert plan.cluster is not None
    assert (plan.cluster.ranks, plan.cluster.gpu.memory) == (16, 79 * GIB)
    assert "Plan:" in plan.judge(ignore=False)[0]
    huge = plan_run(lambda cluster: real_setup(micro_batch=64), device, 1, 8, pairs)
    with pytest.raises(CapacityError, match="cannot fit") as error:
        huge.judge(ignore=False)
    assert "--per_device_train_batch_size 1" in str(error.value)

    def broken(cluster: Any) -> Any:
        raise RuntimeError("an odd model")

    missing = plan_run(broken, device, 1, 8, pairs)
    assert missing.judge(ignore=False) == ["NOTE: this run has no plan: RuntimeError: an odd model"]


class FakeMeter:
    """A GPU whose clock and memory are set by the test."""

    def __init__(self) -> None:
        self.clock, self.most, self.started = 0.0, 0, False

    def start(self) -> None:
        self.started = True

    def peak(self) -> int:
        return self.most

    def held(self) -> int:
        return 18 * GIB

    def now(self) -> float:
        return self.clock


def run_check(file: Path, seconds: float, peak: float, steps: int = 25, evaluate_at: int = 0) -> list[str]:
    """Steps of `seconds` each at a peak of `peak` GiB, with half-full rows; the lines of the last comparison."""
    item = candidate()
    tokens = item.setup.step_tokens // 2
    schedule = SimpleNamespace(steps_per_epoch=100, blocks_of_step=lambda epoch, step: np.array([0]))
    record: Any = SimpleNamespace(schedule=schedule, block_tokens=np.array([tokens]))
    meter = FakeMeter()
    check = PlanCheck(plan_of(item), record, str(file), meter, 1)
    state, control = TrainerState(), TrainerControl()
    args: Any = SimpleNamespace(device=torch.device("cpu"))
    state.global_step = 7  # a resumed run
    check.on_train_begin(args, state, control)
    assert meter.started
    for step in range(1, steps + 1):
        meter.clock += seconds if step > 1 else 100.0  # the first step warms up
        meter.most = round(peak * GIB)
        state.global_step += 1
        check.on_step_end(args, state, control, model=torch.nn.Linear(2, 2))
        if step == evaluate_at:
            check.on_evaluate(args, state, control)
    return check.lines


def test_pairs_are_kept_and_correct_later_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deep" / "calibration.jsonl"
    item = candidate()
    allocated = item.memory.allocated / GIB
    lines = run_check(file, seconds=item.time.step / 2 * 1.2, peak=allocated * 1.1)
    assert "+10.0%" in lines[1]
    assert "+20.0%" in lines[5]
    assert "50% of the tokens" in lines[5]
    assert str(file) in lines[-1]
    assert capsys.readouterr().out.count("Plan and run after") == 2
    pairs = read_pairs(file)
    assert [pair.step for pair in pairs] == [3, 20]
    assert "deepseek" not in file.read_text("utf-8")
    memory, time, runs = ratios(pairs, item.setup, "H100-80G")
    assert (memory, time, runs) == (pytest.approx(1.1), pytest.approx(1.2), 1)
    later = calibrate(item, CLUSTER, pairs, str(file))
    assert later.memory.total == pytest.approx(item.memory.total + 0.1 * item.memory.allocated, rel=1e-6)
    assert later.time.step == pytest.approx(1.2 * item.time.step)
    assert later.time.tokens_per_second == pytest.approx(item.time.tokens_per_second / 1.2)
    assert any(str(file) in note and "1 earlier run" in note for note in later.notes)
    assert later.memory.allocated == item.memory.allocated, "what pairs are compared with is never corrected itself"
    others = (setup(zero_stage=2), setup(lora_rank=8), setup(nodes=1))
    assert all(
        calibrate(dataclasses.replace(item, setup=other), CLUSTER, pairs, "").notes == item.notes for other in others
    )
    assert ratios(pairs, item.setup, "A100-80G") == (1.0, 1.0, 0)


def test_a_plan_that_an_earlier_run_corrects_may_no_longer_fit(tmp_path: Path) -> None:
    tight = planned(CLUSTER.gpu.memory / GIB - 1)
    pair = Pair("H100-80G", kind_of(tight.setup), 1, 1, 100, 110, 1.0, 1.0, {}, 20)
    later = calibrate(tight, CLUSTER, [pair], "file")
    assert tight.fits
    assert not later.fits
    assert "earlier runs" in later.reason
    lower = dataclasses.replace(pair, measured_bytes=90)
    assert calibrate(tight, CLUSTER, [lower], "file").memory.total == tight.memory.total, "one run lowers no plan"


def test_an_evaluation_in_the_window_leaves_the_time_out(tmp_path: Path) -> None:
    lines = run_check(tmp_path / "c.jsonl", seconds=1.0, peak=40.0, evaluate_at=15)
    assert not [line for line in lines if "seconds a step" in line]
    assert read_pairs(tmp_path / "c.jsonl")[-1].measured_seconds == 0


def test_a_file_that_cannot_be_written_is_said_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    lines = run_check(tmp_path / "file" / "c.jsonl", seconds=1.0, peak=40.0)
    assert "not kept" in lines[-1]
