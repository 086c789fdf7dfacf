"""The monitor's GPU paths on a real GPU: CUDA events, NVML, profiler windows, flight recorder, NCCL groups.

    python3 benchmarks/monitor_gpu.py --data DATA --out OUT         one or more GPUs, no network, at most 320 s

DATA is a folder of `medscroll prepare` (any tokenizer; it lies in DATA). Jobs, each a process of its own:

    single     yi-6b in bfloat16 without DeepSpeed, layers recomputed, blocks of 8,192
    zero2_one  small-2b with --deepspeed zero2 under torchrun, one process over NCCL
    probe      known collectives over NCCL, counted by the flight recorder and seen by the profiler
    zero2_two, zero3_two     with two GPUs: two processes each; in zero3_two rank 1 is slowed in its forward pass
    cost_two   with two GPUs and time left: benchmarks/monitor_cost.py over NCCL

Then `watch --once`, `watch --html` and `doctor`. Every result is a JSON line on stdout and in OUT/monitor_gpu.jsonl;
OUT/evidence.tar.gz holds events, heartbeats, windows and the ends of the logs, OUT/run.html the page. The last line
says for each path whether real values arrived. A job that fails or takes too long is said and the next one starts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

COMMON = "--from_scratch true --save_minutes 0 --max_eval_samples 2 --monitor_window_every 5 --monitor_seconds 1"
STEPS = 18  # three windows: after steps 4, 8 and 15
SINGLE = (
    f"pretrain --model_name_or_path yi-6b --block_size 8192 --max_position_embeddings 8192 --deepspeed none "
    f"--dtype bfloat16 --gradient_checkpointing true --gradient_accumulation_steps 1 --warmup_steps 5 "
    f"--max_steps {STEPS} {COMMON}"
)
SHARDED = (
    f"pretrain --model_name_or_path small-2b --block_size 4096 --gradient_accumulation_steps 2 --warmup_steps 5 "
    f"--max_steps {STEPS} {COMMON}"
)
COST = "--model yi-6b --layers 8 --tokens 4096 --steps 20 --rounds 3 --seconds 20"
ENOUGH = 40 * 2**30  # bytes of room that a folder in memory must have to take the runs
LARGEST_FILE, LARGEST_LOG = 2**20, 60_000  # bytes of one file of the evidence, and of the end of a log
LAST = 12.0  # seconds kept for watch, doctor and packing


@dataclass
class Job:
    """A process under way: its run folder, its log, when it must be over."""

    name: str
    run: Path
    log: Path
    process: subprocess.Popen[bytes]
    began: float
    until: float
    command: str


@dataclass
class Session:
    """Where things go and how long this may take."""

    data: Path
    out: Path
    work: Path
    deadline: float
    lines: TextIO
    patience: float = 1.0  # factor of the limits
    jobs: list[Job] = field(default_factory=list)

    def say(self, **line: Any) -> None:
        """Print a JSON line and keep it."""
        text = json.dumps(line, default=str)
        print(text, flush=True)
        self.lines.write(text + "\n")
        self.lines.flush()

    @property
    def left(self) -> float:
        """Seconds until the jobs must have ended."""
        return self.deadline - LAST - time.monotonic()

    def start(self, name: str, words: list[str], gpus: str, limit: float, **extra: str) -> Job | None:
        """Start a job on these GPUs; None where no time is left."""
        if self.left < 20:
            self.say(job=name, skipped="no time left")
            return None
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        variables = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": gpus, "HF_HUB_OFFLINE": "1", **extra}
        log = self.work / f"{name}.log"
        process = subprocess.Popen(
            words, cwd=ROOT, env=variables, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True
        )
        now = time.monotonic()
        until = now + min(limit * self.patience, self.left)
        job = Job(name, self.work / name, log, process, now, until, " ".join(words[1:]))
        self.jobs.append(job)
        return job

    def wait(self, job: Job | None) -> None:
        """Wait for a job, end it when it is over its time, say how it went."""
        if job is None:
            return
        try:
            code: int | str = job.process.wait(max(1.0, job.until - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(job.process.pid, 9)
            code = f"ended after {time.monotonic() - job.began:.0f} s"
            job.process.wait()
        took = round(time.monotonic() - job.began, 1)
        end = "" if code == 0 else job.log.read_text("utf-8", "replace")[-3000:]
        self.say(job=job.name, code=code, took_s=took, command=job.command, **({"log": end} if end else {}))
        for path in job.run.glob("*.safetensors"):  # weights are of no use here
            path.unlink()


def torchrun(processes: int, module: list[str]) -> list[str]:
    """The command of a job of several processes on this host."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *module]


def run_jobs(session: Session, gpus: int, *, small: bool) -> None:
    """All jobs; with two GPUs the two small ones run beside each other. `small`: tiny models, no probe, no cost."""
    tiny = " --model_name_or_path tiny --block_size 256 --max_train_samples 200 --dtype float32" if small else ""

    def words(flags: str, name: str, *more: str) -> list[str]:
        places = ["--data_dir", str(session.data), "--output_dir", str(session.work / name)]
        pairs = ["--calibration_file", str(session.work / f"{name}-pairs.jsonl")]
        return [*(flags + tiny).split(), *places, *pairs, *more]

    single = [sys.executable, "-m", "medscroll", *words(SINGLE, "single")]
    one = torchrun(1, ["-m", "medscroll", *words(SHARDED, "zero2_one", "--deepspeed", "zero2")])
    first = session.start("single", single, "0", 120)
    if gpus < 2:
        session.wait(first)
    second = session.start("zero2_one", one, "1" if gpus > 1 else "0", 100)
    if gpus > 1:
        session.wait(first)
    session.wait(second)
    several = min(gpus, 2)
    both = ",".join(map(str, range(several)))
    probe = torchrun(several, [str(Path(__file__).resolve()), "--probe", "--out", str(session.work / "probe")])
    if not small:
        session.wait(session.start("probe", probe, both, 40))
    if gpus < 2:
        return
    two = torchrun(2, ["-m", "medscroll", *words(SHARDED, "zero2_two", "--deepspeed", "zero2")])
    session.wait(session.start("zero2_two", two, both, 90))
    slow = torchrun(2, ["-m", "tests.monitor.slow_worker", *words(SHARDED, "zero3_two", "--deepspeed", "zero3")])
    variables = {"SLOW_PHASE": "forward", "SLOW_RANK": "1", "SLOW_FACTOR": "2"}
    session.wait(session.start("zero3_two", slow, both, 90, **variables))
    if session.left > 45 and not small:
        cost = torchrun(2, [str(ROOT / "benchmarks" / "monitor_cost.py"), *COST.split()])
        session.wait(session.start("cost_two", cost, both, 60))


# What arrived


def events(run: Path, rank: int) -> list[dict[str, Any]]:
    """The events of a rank."""
    path = run / "events" / f"rank-{rank:05d}.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.startswith("{")]


def middle(values: list[float]) -> float | None:
    """The median, rounded; None of nothing."""
    return round(median(values), 6) if values else None


def given(entries: list[dict[str, Any]], name: str) -> list[float]:
    """The values of a field, sorted, without null."""
    return sorted(each[name] for each in entries if each[name] is not None)


def check_run(run: Path, rank: int, log: str) -> dict[str, Any]:
    """What a rank's events hold, and whether they are what a GPU must give."""
    found = events(run, rank)
    steps = [each for each in found if each["type"] == "step" and each["step"] > 3]
    windows = [each for each in found if each["type"] == "comm_window"]
    start: dict[str, Any] = next((each for each in found if each["type"] == "run"), {})
    phases = {name: middle([each["phases"][name] for each in steps]) for name in (steps[0]["phases"] if steps else ())}
    gaps = [abs(sum(each["phases"].values()) / each["seconds"] - 1) for each in steps if each["seconds"] > 0]
    gpus = [each["gpu"] for each in steps if each.get("gpu")]
    fields = [name for name, value in (gpus[-1] if gpus else {}).items() if not isinstance(value, list)]
    gpu = {name: [values[0], median(values), values[-1]] for name in fields if (values := given(gpus, name))}
    memory = next((each["memory"] for each in reversed(steps) if each.get("memory")), None)
    traffic = [each["communication"] for each in found if each.get("communication")]
    totals: dict[str, list[float]] = {}
    for entry in traffic:
        for each in entry["traffic"]:
            slot = totals.setdefault(f"{each['op']} group {each['group']} of {each['ranks']}", [0, 0])
            slot[0] += each["calls"]
            slot[1] += each["bytes"]
    counted = max(1, sum(entry["steps"] for entry in traffic))
    window_keys = ("step", "seconds", "basis", "total_us", "exposed_us", "compute_us", "skew_us", "compared")
    return {
        "steps": len(steps),
        "seconds": middle([each["seconds"] for each in steps]),
        "phases": phases,
        "phases_against_wall": middle(gaps),
        "tokens_per_second": middle([each["tokens_per_second"] for each in steps if "tokens_per_second" in each]),
        "mfu": middle([each["mfu"] for each in steps if each.get("mfu")]),
        "device": start.get("device"),
        "planned_memory": start.get("planned_memory"),
        "memory": memory,
        "gpu": gpu,
        "windows": [
            {**{key: each.get(key) for key in window_keys}, "groups": each["groups"][:4], "phases": each["phases"]}
            for each in windows
        ],
        "traffic_a_step": {name: [round(each / counted, 2) for each in pair] for name, pair in totals.items()},
        "coverage": [entry["coverage"] for entry in traffic],
        "alerts": [each["message"] for each in found if each["type"] in ("alert", "stall")],
        "end": next((each["status"] for each in found if each["type"] == "end"), None),
        "notes": [line for line in log.splitlines() if line.startswith("NOTE")][:8],
    }


def verdict(found: dict[str, dict[str, Any]], probe: list[dict[str, Any]]) -> dict[str, str]:
    """For each path whether real values arrived, in words."""
    ranks = list(found.values())
    answer = {}

    def judge(path: str, checks: dict[str, bool]) -> None:
        wrong = [name for name, passed in checks.items() if not passed]
        answer[path] = "ok" if checks and not wrong else f"NOT: {', '.join(wrong) or 'nothing ran'}"

    names = ("forward", "backward", "optimizer")
    checks = {f"{key} phases": all((each["phases"].get(n) or 0) > 1e-4 for n in names) for key, each in found.items()}
    sums = {f"{key} sum": bool(each["steps"]) and each["phases_against_wall"] < 0.05 for key, each in found.items()}
    judge("cuda_event_phases", checks | sums)
    fields = ("utilisation", "power", "power_limit", "temperature", "clock")
    judge("nvml", {f"{key} {n}": (each["gpu"].get(n) or [0])[-1] > 0 for key, each in found.items() for n in fields})
    sizes = ("allocated", "reserved", "peak", "device_used", "device_total")
    judge("memory", {f"{key} {n}": bool((each["memory"] or {}).get(n)) for key, each in found.items() for n in sizes})
    checks = {f"{key} windows": len(each["windows"]) >= 2 for key, each in found.items()}
    kernels = all(each["basis"] == "gpu" and each["compute_us"] for rank in ranks for each in rank["windows"])
    judge("windows", checks | {"kernels": kernels})
    several = {key: each for key, each in found.items() if "_two" in key}
    checks = {f"{key} traffic": bool(each["traffic_a_step"]) for key, each in several.items()}
    judge("flight_recorder", checks | {"probe": bool(probe) and all(each["counted_right"] for each in probe)})
    checks = {f"{key} total": all(w["total_us"] for w in each["windows"]) for key, each in several.items()}
    skews = {f"{key} skew": all(w["skew_us"] is not None for w in each["windows"]) for key, each in several.items()}
    bytes_ = {
        f"{key} bytes": all(group["bytes"] for window in each["windows"] for group in window["groups"])
        for key, each in several.items()
    }
    judge("nccl_windows", checks | skews | bytes_ if several else {"probe": bool(probe) and probe[0]["seen"] > 0})
    if "zero3_two rank 0" in found:
        judge("slow_rank", {"rank 1 named": any("rank 1" in line for line in found["zero3_two rank 0"]["alerts"])})
    judge("ends", {key: each["end"] == "finished" for key, each in found.items()})
    return answer


def conclude(session: Session) -> None:
    """Check all runs, write the page, ask the doctor, pack the evidence."""
    found = {}
    for job in session.jobs:
        for path in sorted((job.run / "events").glob("rank-*.jsonl")):
            rank = int(path.stem.rpartition("-")[2])
            found[f"{job.name} rank {rank}"] = check_run(job.run, rank, job.log.read_text("utf-8", "replace"))
            session.say(run=job.name, rank=rank, **found[f"{job.name} rank {rank}"])
    runs = [str(job.run) for job in session.jobs if (job.run / "events").is_dir()]
    for words in (["watch", *runs, "--once"], ["watch", *runs, "--html", str(session.out / "run.html")], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-m", "medscroll", *words],
            check=False,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "140"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        (session.work / f"{words[0]}{words[-1].split('/')[-1]}.log").write_text(done.stdout + done.stderr, "utf-8")
        session.say(command=words[0], code=done.returncode, lines=len(done.stdout.splitlines()))
    probe_file = session.work / "probe.log"
    lines = probe_file.read_text("utf-8", "replace").splitlines() if probe_file.is_file() else []
    probe = [json.loads(line) for line in lines if line.startswith('{"probe"')]
    for each in probe:
        session.say(**each)
    for line in (session.work / "cost_two.log").read_text().splitlines() if "cost_two" in names(session) else ():
        if line.startswith("{"):
            session.say(cost_two=json.loads(line))
    session.say(verdict=verdict(found, probe))


def names(session: Session) -> list[str]:
    """The jobs that were started."""
    return [job.name for job in session.jobs]


def pack(session: Session) -> None:
    """Events, heartbeats, windows and the ends of the logs as one archive."""
    with tarfile.open(session.out / "evidence.tar.gz", "w:gz") as archive:
        for path in sorted(session.work.rglob("*")):
            inner = path.relative_to(session.work)
            kept = {"events", "heartbeat", "windows", "stacks"} & set(inner.parts)
            if path.suffix == ".log":
                path.write_bytes(path.read_bytes()[-LARGEST_LOG:])
                kept = {"log"}
            if path.name in ("config.yaml", "environment.json") or path.name.endswith("-pairs.jsonl"):
                kept = {"file"}
            if kept and path.is_file() and path.stat().st_size <= LARGEST_FILE:
                archive.add(path, str(inner))


# The probe: what was sent is known


def probe() -> None:
    """Known collectives over NCCL; says whether the recorder counted exactly them and the profiler saw them."""
    import torch
    import torch.distributed as dist

    from medscroll.monitor.overhead import communication_overhead
    from medscroll.monitor.traffic import TrafficCounter, describe_last, enable_recorder, last_collectives

    enable_recorder()
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl")
    ranks, counter = dist.get_world_size(), TrafficCounter()
    half = dist.new_group(list(range(ranks)), group_desc="probe")
    whole = torch.ones(2**22, device="cuda", dtype=torch.bfloat16)
    part = torch.ones(2**22 // ranks, device="cuda", dtype=torch.bfloat16)
    dist.all_reduce(whole, group=half)
    torch.cuda.synchronize()
    counter.read()
    profiler = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    )
    with profiler:
        for _ in range(5):
            dist.all_reduce(whole, group=half)
        for _ in range(3):
            dist.all_gather_into_tensor(whole, part)
        for _ in range(2):
            dist.reduce_scatter_tensor(part, whole)
        torch.cuda.synchronize()
    began = time.perf_counter()
    counted = counter.traffic(counter.read())
    took = time.perf_counter() - began
    calls = {(each["op"], each["calls"], each["bytes"], each["ranks"]) for each in counted}
    size = 2**23  # bytes of the whole tensor
    expected = {
        ("all_reduce", 5, 5 * size, ranks),
        ("all_gather", 3, 3 * size, ranks),
        ("reduce_scatter", 2, 2 * size, ranks),
    }
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        seen = communication_overhead(trace)
    line = {
        "rank": rank,
        "counted": counted,
        "counted_right": calls == expected,
        "read_us": round(took * 1e6),
        "last": last_collectives(),
        "described": describe_last(3),
        "seen": len(seen.collectives),
        "groups": {name: vars(group) for name, group in seen.groups.items()},
        "operations": {name: vars(group) for name, group in seen.operations.items()},
        "basis": seen.basis,
        "world_size": seen.world_size,
    }
    print(json.dumps({"probe": True, **line}), flush=True)
    dist.barrier()
    dist.destroy_process_group()


def machine() -> dict[str, Any]:
    """What this runs on."""
    from importlib import metadata

    import torch

    wanted = ("torch", "transformers", "accelerate", "deepspeed", "nvidia-ml-py", "liger-kernel", "flash-attn-4")
    versions = {}
    for name in wanted:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent: no NVML figures" if name == "nvidia-ml-py" else "absent"
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    smi = subprocess.run(asked, capture_output=True, text=True, check=False) if shutil.which("nvidia-smi") else None
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else None
    gpus = smi.stdout.strip().splitlines() if smi else []
    return {"gpus": gpus, "visible": torch.cuda.device_count(), "nccl": nccl, "versions": versions}


def main() -> None:
    """Run, or be the probe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=320)
    parser.add_argument("--probe", action="store_true", help="be the probe; started by the script itself")
    parser.add_argument("--small", action="store_true", help="try the script itself on a CPU, with tiny models")
    arguments = parser.parse_args()
    if arguments.probe:
        return probe()
    deadline = time.monotonic() + arguments.seconds
    arguments.out.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH
    with (
        tempfile.TemporaryDirectory(prefix="monitor-gpu-", dir=memory if roomy else None) as work,
        (arguments.out / "monitor_gpu.jsonl").open("w", encoding="utf-8") as lines,
    ):
        data = Path(work) / "DATA"  # packing writes its plan beside the tokens
        shutil.copytree(arguments.data, data)
        patience = 4.0 if arguments.small else 1.0
        session = Session(data, arguments.out.absolute(), Path(work), deadline, lines, patience)
        found = machine()
        session.say(machine=found, work=work, deadline_s=arguments.seconds)
        try:
            run_jobs(session, 2 if arguments.small else found["visible"], small=arguments.small)
            conclude(session)
        finally:
            pack(session)
            session.say(took_s=round(time.monotonic() - deadline + arguments.seconds, 1))


if __name__ == "__main__":
    main()
