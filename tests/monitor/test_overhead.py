"""Communication in traces: real ones against known figures and HTA, made-up ones against brute force."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medscroll.errors import DataError
from medscroll.monitor import communication_overhead

# file -> microseconds of communication, share of it under compute: as shared/corpora/README.md gives them
KNOWN = {"a100_8ranks_rank3": (163_535, 0.462), "a100_2ranks_rank0": (46_876, 0.156)}


@pytest.fixture(scope="session")
def traces(shared_dir: Path) -> dict[str, Path]:
    found = {name: shared_dir / "traces" / f"{name}.json.gz" for name in KNOWN}
    missing = [str(path.name) for path in found.values() if not path.is_file()]
    if missing:
        pytest.skip(f"no real traces: ../shared/traces lacks {missing}")
    return found


def kernel(name: str, start: float, duration: float, stream: int = 7, **args: Any) -> dict[str, Any]:
    args = {"device": 0, "stream": stream, **args}
    return {
        "ph": "X",
        "cat": "kernel",
        "name": name,
        "pid": 0,
        "tid": stream,
        "ts": start,
        "dur": duration,
        "args": args,
    }


def write(path: Path, events: list[dict[str, Any]], **more: Any) -> Path:
    path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events, **more}), encoding="utf-8")
    return path


@pytest.mark.corpora
@pytest.mark.parametrize("name", KNOWN)
def test_real_traces_give_the_known_figures(traces: dict[str, Path], name: str) -> None:
    found = communication_overhead(traces[name])
    total, share = KNOWN[name]
    assert found.total_us == pytest.approx(total, rel=1e-3)
    assert found.overlap == pytest.approx(share, abs=5e-4)
    assert found.exposed_us + found.overlapped_us == pytest.approx(found.total_us, rel=1e-12)
    assert found.world_size in (2, 8)
    assert found.devices == 1
    assert sum(group.calls for group in found.groups.values()) == len(found.collectives) > 20


@pytest.mark.corpora
def test_groups_and_bytes_come_from_the_trace(traces: dict[str, Path]) -> None:
    found = communication_overhead(traces["a100_2ranks_rank0"])
    assert set(found.groups) == {"0"}
    assert (found.groups["0"].description, found.groups["0"].ranks) == ("default_pg", 2)
    assert found.operations["all_reduce"].calls == 15
    assert found.operations["broadcast"].calls == 6
    raw = json.loads(gzip.decompress(traces["a100_2ranks_rank0"].read_bytes()))
    first = next(
        event for event in raw["traceEvents"] if "AllReduce" in event.get("name", "") and event["cat"] == "kernel"
    )
    assert found.collectives[0].bytes is not None
    assert any(each.bytes == first["args"]["In msg nelems"] * 4 for each in found.collectives)


HTA = """
import sys, json
from hta.trace_analysis import TraceAnalysis
out = {}
for path, rank in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    analysis = TraceAnalysis(trace_files={rank: path}, trace_dir="/", include_last_profiler_step=True)
    out[path] = float(analysis.get_comm_comp_overlap(visualize=False)["comp_comm_overlap_pctg"].iloc[0])
print("RESULT " + json.dumps(out))
"""


def hta_python() -> str | None:
    """A Python that has HolisticTraceAnalysis: this one, or the one that the environment variable names."""
    named = os.environ.get("HTA_PYTHON")
    return named or (sys.executable if importlib.util.find_spec("hta") else None)


@pytest.mark.corpora
def test_as_holistic_trace_analysis(traces: dict[str, Path]) -> None:
    """HTA leaves out the last profiler step and rounds times down to microseconds unless told otherwise."""
    python = hta_python()
    if python is None:
        pytest.skip("HolisticTraceAnalysis is not installed here; HTA_PYTHON may name a Python that has it")
    ranks = {"a100_8ranks_rank3": 3, "a100_2ranks_rank0": 0}
    words = [word for name, path in traces.items() for word in (str(path), str(ranks[name]))]
    exact = {**os.environ, "HTA_DISABLE_NS_ROUNDING": "1"}
    job = subprocess.run([python, "-c", HTA, *words], capture_output=True, text=True, check=False, env=exact)
    assert job.returncode == 0, job.stderr[-2000:]
    theirs = json.loads(next(line for line in job.stdout.splitlines() if line.startswith("RESULT ")).split(" ", 1)[1])
    assert len(theirs) == 2
    for path, percent in theirs.items():
        assert communication_overhead(path).overlap * 100 == pytest.approx(percent, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_as_brute_force_on_random_streams(tmp_path: Path, seed: int) -> None:
    """Nested, equal, touching and parallel intervals on several streams and devices, counted by the microsecond."""
    draw = random.Random(seed)
    events, busy = [], {(device, what): set() for device in (0, 1) for what in ("nccl", "compute")}
    for _ in range(120):
        what, device = draw.choice(["nccl", "compute"]), draw.choice([0, 1])
        start, duration = draw.randrange(300), draw.randrange(0, 12)
        name = {"nccl": draw.choice(["ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)", "ncclKernel_SendRecv_x"])}.get(
            what, "gemm"
        )
        events.append(kernel(name, start, duration, stream=draw.randrange(4), device=device))
        busy[device, what].update(range(start, start + duration))
    found = communication_overhead(write(tmp_path / "t.json", events))
    total = sum(len(busy[device, "nccl"]) for device in (0, 1))
    both = sum(len(busy[device, "nccl"] & busy[device, "compute"]) for device in (0, 1))
    assert 0 < both < total
    assert (found.total_us, found.overlapped_us, found.exposed_us) == (total, both, total - both)
    assert found.compute_us == sum(len(busy[device, "compute"]) for device in (0, 1))


def test_copies_annotations_and_runtime_calls_are_neither(tmp_path: Path) -> None:
    events = [kernel("ncclDevKernel_AllGather_RING_LL(x)", 0, 100, stream=20)]
    for category, name in (
        ("gpu_memcpy", "Memcpy DtoD"), ("gpu_memset", "Memset"), ("gpu_user_annotation", "nccl:all_gather"),
        ("cuda_runtime", "cudaLaunchKernel"), ("cpu_op", "aten::mm"), ("overhead", "Buffer Flush"),
    ):  # fmt: skip
        events.append({**kernel(name, 10, 80), "cat": category})
    found = communication_overhead(write(tmp_path / "t.json", events))
    assert (found.total_us, found.overlapped_us, found.compute_us) == (100, 0, 0)
    assert found.rank is None


def test_kernels_of_amd_and_of_several_groups(tmp_path: Path) -> None:
    meta = {"Collective name": "_allgather_base", "In msg nelems": 10, "Out msg nelems": 40, "dtype": "BFloat16"}
    events = [
        kernel("rcclGenericKernel(x)", 0, 10, stream=2, **meta, **{"Process Group Name": "1", "Group size": 4}),
        kernel("ncclDevKernel_Generic_4(x)", 5, 10, stream=3, **{"Process Group Name": "2"}),
        kernel("Cijk_Ailk_Bljk", 2, 4),
    ]
    config = [{"pg_name": "1", "pg_desc": "dp", "pg_size": 4, "ranks": [0, 1, 2, 3]}]
    found = communication_overhead(write(tmp_path / "t.json", events, distributedInfo={"rank": 2, "pg_config": config}))
    assert (found.total_us, found.overlapped_us, found.rank) == (15, 4, 2)
    assert found.groups["1"].bytes == 80
    assert (found.groups["1"].description, found.groups["1"].ranks) == ("dp", 4)
    assert found.groups["2"].bytes is None
    assert sum(group.total_us for group in found.groups.values()) == 20  # groups at the same time each count it


def test_ranks_merged_into_one_file_do_not_cover_each_other(tmp_path: Path) -> None:
    events = [kernel("ncclKernel_AllReduce(x)", 0, 10), {**kernel("gemm", 0, 10), "pid": 1}]
    found = communication_overhead(write(tmp_path / "t.json", events))
    assert (found.total_us, found.overlapped_us, found.devices) == (10, 0, 2)


def test_without_communication(tmp_path: Path) -> None:
    found = communication_overhead(write(tmp_path / "t.json", [kernel("gemm", 0, 10)]))
    assert (found.total_us, found.exposed_us, found.overlap, found.groups, found.compute_us) == (0, 0, 0, {}, 10)
    assert communication_overhead(write(tmp_path / "e.json", [])).total_us == 0


def test_a_trace_of_a_cpu(tmp_path: Path) -> None:
    def host(category: str, name: str, start: float, duration: float) -> dict[str, Any]:
        return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": 1, "ts": start, "dur": duration}

    events = [
        host("cpu_op", "autograd::engine::evaluate_function: AddBackward0", 0, 200),  # holds the waiting
        host("cpu_op", "c10d::allreduce_", 0, 5),
        host("user_annotation", "gloo:all_reduce", 0, 100),
        host("cpu_op", "aten::mm", 20, 30),
        host("cpu_op", "aten::addmm", 30, 40),  # nested
    ]
    found = communication_overhead(write(tmp_path / "t.json", events))
    assert (found.basis, found.total_us, found.overlapped_us) == ("host", 100, 50)
    assert set(found.operations) == {"all_reduce"}
    without = communication_overhead(
        write(tmp_path / "o.json", [event for event in events if "gloo" not in event["name"]])
    )
    assert (without.basis, without.total_us) == ("host", 5)


def test_events_without_time_are_counted(tmp_path: Path) -> None:
    bad = [{"ph": "X", "cat": "kernel", "name": "x", "ts": 1}, {"ph": "X", "cat": "kernel", "ts": "a", "dur": 1}]
    bad += [kernel("x", 1, -5), {"ph": "X", "ts": 1, "dur": float("nan")}]
    found = communication_overhead(write(tmp_path / "t.json", [*bad, 3, kernel("ncclKernel_x", 0, 4)]))  # type: ignore[list-item]
    assert (found.skipped, found.total_us) == (4, 4)


def test_forms_of_a_file(tmp_path: Path) -> None:
    events = [kernel("ncclKernel_AllReduce(x)", 0, 10)]
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps(events), encoding="utf-8")
    packed = tmp_path / "packed.json"  # compressed in spite of its name
    packed.write_bytes(gzip.compress(write(tmp_path / "t.json", events).read_bytes()))
    control = tmp_path / "control.json"
    control.write_bytes(write(tmp_path / "t.json", events).read_bytes().replace(b"(x)", b"(\t\xff)"))
    for path in (listed, packed, control, str(packed)):
        assert communication_overhead(path).total_us == 10


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"), (b'{"traceEvents": [{"ph"', "truncated"), (b"hello", "no JSON"),
        (b'{"a": 1}', "no Kineto trace"),
        (gzip.compress(b'{"traceEvents": []}' * 50, mtime=0)[:-12], "truncated"), (b"3", "no Kineto trace"),
    ],
)  # fmt: skip
def test_files_that_are_no_trace(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=what) as caught:
        communication_overhead(path)
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            communication_overhead(path)
