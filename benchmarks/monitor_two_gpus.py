"""The monitor over NCCL on two GPUs: real trainings with DeepSpeed, one rank slowed, then frozen; at most 150 s.

    python3 benchmarks/monitor_two_gpus.py --data DATA --out OUT            two GPUs, no network
    python3 benchmarks/monitor_two_gpus.py --data DATA --out OUT --tiny     try the script itself on a CPU, over gloo

DATA is a folder of `medscroll prepare`. Two jobs of two processes each: `medscroll pretrain`, yi-6b cut to six layers:

    zero2   rank 1 is 30 % slower in its backward pass; then it is stopped (SIGSTOP) and continued, and the run ends
    zero3   rank 1 is 30 % slower in its forward pass; then it is stopped for good under `--stall_action abort`

Slower: every decoder layer of that rank is followed by a delay on its stream (`torch.cuda._sleep`) of 30 % of what the
pass has taken there before. The second job loads its libraries while the first trains, and waits for its turn.

Checked, each a JSON line on stdout and in OUT/monitor_two_gpus.jsonl: events of both ranks; total, exposed and
overlapped communication of every window against the window's own trace, by `communication_overhead` and by intervals
computed here; the difference of the ranks' waits; bytes counted against planned; rank and phase named; the frozen rank
named, after how long, with stacks and flight recorder, and how long NCCL would have waited. Comes back:
monitor_two_gpus.jsonl, evidence.tar.gz (events, stacks, windows, logs), run.html, and one trace of each rank.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SHAPE = {"yi-6b": 6}  # preset and its layers
JOBS = {"zero2": ("backward", "report"), "zero3": ("forward", "abort")}
COMMON = (
    "pretrain --from_scratch true --save_minutes 0 --max_eval_samples 2 --learning_rate 1e-5 --warmup_steps 2 "
    "--gradient_accumulation_steps 2 --monitor_window_every 20 --monitor_seconds 1 --logging_steps 2"
)
STEPS = 48
LOOKED_AT = 24  # steps before the rank is stopped
SHARE = 0.3
LARGEST_TRACE = 4 * 2**20


# The training process


class Slowness:
    """Makes this rank slower in one phase, by delays behind each decoder layer.

    The time of the pass without the delays is measured by CUDA events, read when they have passed (on a CPU by the
    clock); the first passes are not slowed.
    """

    def __init__(self, phase: str) -> None:
        import torch
        from torch.nn.modules import module as hooks
        from transformers.modeling_layers import GradientCheckpointingLayer

        self.torch, self.phase = torch, phase
        self.gpu = torch.cuda.is_available()
        self.layer, self.layers, self.inside, self.delayed = GradientCheckpointingLayer, 0, False, 0
        self.began: Any = None
        self.measured: list[tuple[Any, Any]] = []
        self.usual = 0.0  # seconds of a pass
        self.passes = 0
        self.cycles = self.calibrate() if self.gpu else 0.0
        hooks.register_module_forward_pre_hook(self.before)
        hooks.register_module_forward_hook(self.after)

    def calibrate(self) -> float:
        """Cycles of `torch.cuda._sleep` a second."""
        first, last = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        for cycles in (10**6, 10**8):
            first.record()
            self.torch.cuda._sleep(cycles)
            last.record()
            self.torch.cuda.synchronize()
        return 1e8 / (first.elapsed_time(last) / 1e3)

    def now(self) -> Any:
        if not self.gpu:
            return time.perf_counter()
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def delay(self, *_: Any) -> None:
        """30 % of a layer's share of the pass."""
        if self.passes < 4 or not self.usual:
            return
        self.delayed += 1
        seconds = SHARE * self.usual / max(1, self.layers)
        if self.gpu:
            self.torch.cuda._sleep(int(seconds * self.cycles))
        else:
            time.sleep(seconds)

    def finish(self, *_: Any) -> None:
        """The pass has ended: what it took without its delays is what the next one is slowed by."""
        self.measured.append((self.began, self.now(), self.delayed))
        self.passes, self.delayed = self.passes + 1, 0
        while self.measured and (not self.gpu or self.measured[0][1].query()):
            first, last, delayed = self.measured.pop(0)
            took = first.elapsed_time(last) / 1e3 if self.gpu else last - first
            # without delays for good: what is measured in the first passes stays, so that nothing feeds on itself
            if not delayed and self.passes > 2:
                self.usual = took if not self.usual else min(self.usual, took)

    def before(self, module: Any, _: Any) -> None:
        if type(module).__name__ == "DeepSpeedEngine" and module.training:  # not the small models of the proof
            self.inside, self.layers = True, sum(isinstance(each, self.layer) for each in module.modules())
            if self.phase == "forward":
                self.began = self.now()

    def after(self, module: Any, _: Any, output: Any) -> None:
        if not self.inside:  # evaluation, or a layer that is recomputed in the backward pass
            return
        if isinstance(module, self.layer):
            hidden = output[0] if isinstance(output, tuple) else output
            if self.phase == "forward":
                self.delay()
            elif hidden.requires_grad:
                hidden.register_hook(self.delay)
        elif isinstance(module, self.torch.nn.Embedding) and self.phase == "backward" and output.requires_grad:
            output.register_hook(self.finish)
        elif type(module).__name__ == "DeepSpeedEngine":
            self.inside = False
            if self.phase == "forward":
                self.finish()
            elif output.loss is not None and output.loss.requires_grad:
                output.loss.register_hook(self.start_backward)

    def start_backward(self, *_: Any) -> None:
        self.began = self.now()


def worker(words: list[str]) -> int:
    """Load everything, wait for the turn, train."""
    import deepspeed  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    from medscroll.cli.main import main as command
    from medscroll.stages import pretrain  # noqa: F401

    turn = Path(os.environ["TURN"])
    while not turn.exists():
        time.sleep(0.02)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if os.environ["RANK"] == "1":
        Slowness(os.environ["SLOW_PHASE"])
    return command(words)


# The session


class Session:
    """Where things go, and how long this may take."""

    def __init__(self, out: Path, work: Path, seconds: float, lines: TextIO, tiny: bool) -> None:
        self.out, self.work, self.lines, self.tiny = out, work, lines, tiny
        self.deadline = time.monotonic() + seconds
        self.jobs: dict[str, subprocess.Popen[bytes]] = {}
        self.began: dict[str, float] = {}

    def say(self, **line: Any) -> None:
        """Print a JSON line and keep it."""
        text = json.dumps(line, default=str)
        print(text, flush=True)
        self.lines.write(text + "\n")
        self.lines.flush()

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def start(self, name: str, model: Path, data: Path) -> None:
        """Start a job; it waits for its turn."""
        phase, action = JOBS[name]
        words = [*COMMON.split(), "--model_name_or_path", str(model), "--data_dir", str(data), "--deepspeed", name]
        words += ["--output_dir", str(self.work / name), "--stall_action", action, "--max_steps", str(STEPS)]
        words += ["--calibration_file", str(self.work / f"{name}-pairs.jsonl")]
        block = 256 if self.tiny else 8192
        words += ["--block_size", str(block), "--max_position_embeddings", str(block)]
        words += ["--use_cpu", "true", "--max_train_samples", "200"] if self.tiny else ["--dtype", "bfloat16"]
        (self.work / f"{name}-tmp").mkdir()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        variables = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TMPDIR": str(self.work / f"{name}-tmp")}
        variables |= {"TURN": str(self.work / f"{name}.turn"), "SLOW_PHASE": phase}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command += [str(Path(__file__).resolve()), "--worker", *words]
        log = (self.work / f"{name}.log").open("wb")
        self.jobs[name] = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.say(job=name, command=" ".join(words))

    def wait_for(self, what: str, name: str, condition: Any, seconds: float) -> Any:
        """The first true value of a condition; None when it does not come."""
        until = time.monotonic() + min(seconds, self.left - 12)
        while not (found := condition()):
            if self.jobs[name].poll() is not None or time.monotonic() > until:
                self.say(job=name, not_seen=what, code=self.jobs[name].poll(), log=self.log(name)[-2500:])
                return None
            time.sleep(0.02)
        return found

    def log(self, name: str) -> str:
        """What a job has printed."""
        return (self.work / f"{name}.log").read_text("utf-8", "replace")

    def end(self, name: str) -> None:
        """End what is left of a job that this script has started: the launcher and the processes under it."""
        import psutil

        job = self.jobs[name]
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(job.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGKILL)
        if job.poll() is None:
            job.kill()
        job.wait()


def keep_traces(session: Session, done: threading.Event) -> None:
    """Link every window's trace before the analysis removes it; a link costs nothing."""
    kept: set[str] = set()
    while not done.wait(0.02):
        for path in session.work.glob("*-tmp/medscroll-window-*.json"):
            with contextlib.suppress(OSError):
                if path.stat().st_size > 0 and path.name not in kept:
                    (session.work / "traces").mkdir(exist_ok=True)
                    os.link(path, session.work / "traces" / f"{path.parent.name}-{path.name}")
                    kept.add(path.name)


def events(run: Path, rank: int, kind: str | None = None) -> list[dict[str, Any]]:
    """The events of a rank."""
    path = run / "events" / f"rank-{rank:05d}.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.is_file() else []
    found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]
    return [each for each in found if kind is None or each["type"] == kind]


def run_job(session: Session, name: str) -> None:
    """Give a job its turn, look at it for some steps, stop rank 1, see it named."""
    from medscroll.monitor.heartbeat import read_heartbeats

    phase, action = JOBS[name]
    run, began = session.work / name, time.monotonic()
    (session.work / f"{name}.turn").touch()

    def steps() -> bool:
        done = [events(run, rank, "step") for rank in range(2)]
        return all(found and found[-1]["step"] >= LOOKED_AT for found in done)

    if not session.wait_for(f"{LOOKED_AT} steps", name, steps, 70 if not session.tiny else 150):
        return
    alerts = [each for each in events(run, 0, "alert") if each["kind"] == "straggler"]
    named = [(each["step"], each["rank"], each["phase"], round(each["value"], 4)) for each in alerts]
    right = any(each[1:3] == (1, phase) and each[0] <= 20 for each in named)
    session.say(job=name, slowed=[1, phase, SHARE], named=named, named_within_20=right, took_s=time.monotonic() - began)
    beats = read_heartbeats(run, range(2))
    pid, usual = beats[1].content["pid"], beats[0].content["median_step"]
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    stalls = session.wait_for("a stall", name, lambda: events(run, 0, "stall"), 3 * usual + 20)
    if stalls:
        took, stall = time.monotonic() - stopped, stalls[0]
        stacks = run / "stacks" / "rank-00000.txt"
        stacks = stacks if stacks.is_file() else next(iter(sorted(run.rglob("*stack*/*00000*"))), stacks)
        text = stacks.read_text("utf-8", "replace") if stacks.is_file() else ""
        line = {"took_s": took, "median_step": usual, "limit": stall["limit"], "allowed_s": 3 * usual + 10}
        line |= {"missing": stall["missing"], "message": stall["message"]}
        line |= {"stacks": text.count("File "), "recorder": text.partition("flight recorder")[2][:600]}
        session.say(job=name, frozen=1, within=took < 3 * usual + 10, before_nccl=took < 480, **line)
    if action == "report":
        os.kill(pid, signal.SIGCONT)
    until = time.monotonic() + max(5.0, min(40.0, session.left - 14))
    while session.jobs[name].poll() is None and time.monotonic() < until:
        if action == "abort" and events(run, 0, "end"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)  # so that the launcher can end it at once
            action = "left"
        time.sleep(0.05)
    code = session.jobs[name].poll()
    ends = [[each["status"], each["step"]] for rank in range(2) for each in events(run, rank, "end")]
    session.say(job=name, code=code, ends=ends, took_s=time.monotonic() - began)


# What was measured


def intervals(trace: Path) -> dict[str, float]:
    """Total, exposed and overlapped communication of a trace, by a sweep over its kernels; microseconds."""
    content = json.loads(trace.read_text("utf-8"))
    borders: list[tuple[float, int, int]] = []
    for each in content["traceEvents"]:
        if each.get("ph") == "X" and each.get("cat") == "kernel":
            kind = 0 if str(each["name"]).startswith("nccl") else 1
            borders += [(each["ts"], 1, kind), (each["ts"] + each["dur"], -1, kind)]
    running, total, exposed, before = [0, 0], 0.0, 0.0, 0.0
    for at, change, kind in sorted(borders):
        if running[0]:
            total += at - before
            exposed += (at - before) * (not running[1])
        running[kind] += change
        before = at
    return {"total_us": total, "exposed_us": exposed, "overlapped_us": total - exposed}


def check_windows(session: Session) -> None:
    """Every window against its own trace; keeps one trace of each rank."""
    from medscroll.monitor.overhead import communication_overhead

    traces = sorted((session.work / "traces").glob("*.json"), key=lambda path: path.stat().st_mtime)
    for name in JOBS:
        windows = [(rank, each) for rank in range(2) for each in events(session.work / name, rank, "comm_window")]
        found: dict[int, list[tuple[Path, Any]]] = {0: [], 1: []}
        for path in traces:
            if path.name.startswith(f"{name}-tmp"):
                with contextlib.suppress(Exception):
                    read = communication_overhead(path)
                    found[read.rank or 0].append((path, read))
        for rank, window in windows:
            index = [step["step"] for own, step in windows if own == rank].index(window["step"])
            line: dict[str, Any] = {
                key: window.get(key) for key in ("step", "seconds", "basis", "compute_us", "phases")
            }
            line |= {key: window.get(key) for key in ("total_us", "exposed_us", "overlapped_us", "skew_us")}
            line |= {"skew_phases": window.get("skew_phases"), "groups": window["groups"][:3]}
            if index < len(found[rank]):
                path, read = found[rank][index]
                again = {key: getattr(read, key) for key in ("total_us", "exposed_us", "overlapped_us")}
                own = intervals(path)
                line |= {"by_trace": again, "by_sweep": own}
                worst = max(
                    abs(window[key] - each[key]) / max(each["total_us"], 1.0) for each in (again, own) for key in again
                )
                line["worst_difference"] = worst
                if name == "zero3" and index == 0:
                    packed = gzip.compress(path.read_bytes(), 6)
                    if len(packed) <= LARGEST_TRACE:
                        (session.out / f"trace-rank-{rank}.json.gz").write_bytes(packed)
            session.say(window=name, rank=rank, **line)
        totals = {rank: [each["total_us"] for own, each in windows if own == rank] for rank in range(2)}
        if all(totals.values()):
            # a collective ends together on both: what rank 0 communicates longer is its wait for rank 1
            longer = [first - second for first, second in zip(totals[0], totals[1], strict=False)]
            session.say(window=name, rank_0_longer_us=longer, skew_us=[
                [each["skew_us"] for own, each in windows if own == rank] for rank in range(2)
            ])  # fmt: skip


def check_events(session: Session) -> None:
    """Phases, memory, GPU figures and bytes of both ranks."""
    for name in JOBS:
        for rank in range(2):
            found = events(session.work / name, rank)
            steps = [each for each in found if each["type"] == "step" and each["step"] > 3]
            if not steps:
                continue
            seconds = [each["seconds"] for each in steps]
            phases = {key: median(each["phases"][key] for each in steps) for key in steps[0]["phases"]}
            gaps = [abs(sum(each["phases"].values()) / each["seconds"] - 1) for each in steps]
            traffic = [each["communication"] for each in found if each.get("communication")]
            counted = max(1, sum(each["steps"] for each in traffic))
            totals: dict[str, float] = {}
            for entry in traffic:
                for each in entry["traffic"]:
                    if each["ranks"] > 1:
                        totals[each["op"]] = totals.get(each["op"], 0.0) + each["bytes"] / counted
            start = next((each for each in found if each["type"] == "run"), {})
            line = {"steps": len(steps), "seconds": median(seconds), "phases": phases, "phases_off": median(gaps)}
            line |= {"bytes_a_step": totals, "planned_bytes": start.get("planned_traffic")}
            line |= {"coverage": sorted({each["coverage"] for each in traffic})}
            line |= {"memory": next((each["memory"] for each in reversed(steps) if each.get("memory")), None)}
            line |= {"planned_memory": start.get("planned_memory")}
            line |= {"gpu": next((each["gpu"] for each in reversed(steps) if each.get("gpu")), None)}
            line |= {"io": next((each["io"] for each in reversed(steps) if each.get("io")), None)}
            line |= {"alerts": [each["message"] for each in found if each["type"] == "alert"][:12]}
            notes = [text for text in session.log(name).splitlines() if text.startswith(("NOTE", "Plan:"))]
            session.say(events=name, rank=rank, notes=notes[:6] if rank == 0 else None, **line)


def machine() -> dict[str, Any]:
    """What this runs on."""
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if names else None
    return {"gpus": names, "torch": torch.__version__, "nccl": nccl, "python": sys.version.split()[0]}


def pack(session: Session) -> None:
    """The page and the evidence."""
    runs = [str(session.work / name) for name in JOBS if (session.work / name / "events").is_dir()]
    command = [sys.executable, "-m", "medscroll", "watch", *runs, "--html", str(session.out / "run.html")]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=20)
    with tarfile.open(session.out / "evidence.tar.gz", "w:gz") as archive:
        for each in sorted(session.work.rglob("*")):
            inner = each.relative_to(session.work)
            wanted = {"events", "heartbeat", "windows", "stacks", "arrivals"} & set(inner.parts)
            if each.is_file() and (wanted or each.suffix == ".log") and each.stat().st_size < 2**21:
                archive.add(each, str(inner))


def main() -> None:
    """Run both jobs and check."""
    if "--worker" in sys.argv[1:2]:
        sys.exit(worker(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=145)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 24 * 2**30
    with (
        tempfile.TemporaryDirectory(prefix="monitor-two-", dir=memory if roomy else None) as folder,
        (arguments.out / "monitor_two_gpus.jsonl").open("w", encoding="utf-8") as lines,
    ):
        work = Path(folder)
        seconds = arguments.seconds * (3 if arguments.tiny else 1)
        session = Session(arguments.out.absolute(), work, seconds, lines, arguments.tiny)
        from medscroll.config.presets import load_preset

        ((preset, layers),) = ({"tiny": 2} if arguments.tiny else SHAPE).items()
        model, data = work / "model", work / "DATA"
        model.mkdir()
        config = {**load_preset(preset).config, "num_hidden_layers": layers}
        config["max_position_embeddings"] = 8192
        if arguments.tiny:  # DATA's tokenizer may be a large one
            config |= {"vocab_size": 64_000, "hidden_size": 32, "num_key_value_heads": 4}
        (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
        shutil.copytree(arguments.data, data)  # packing writes beside the tokens
        done = threading.Event()
        keeper = threading.Thread(target=keep_traces, args=(session, done), daemon=True)
        keeper.start()
        try:
            for name in JOBS:
                session.start(name, model, data)
            session.say(machine=machine(), layers=layers, seconds=seconds)
            for name in JOBS:
                run_job(session, name)
                session.end(name)
            done.set()
            keeper.join()
            check_events(session)
            check_windows(session)
        finally:
            for name in session.jobs:
                session.end(name)
            pack(session)
            session.say(took_s=seconds - session.left)


if __name__ == "__main__":
    main()
