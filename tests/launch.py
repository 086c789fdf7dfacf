"""Starting real jobs in tests: plain processes, `torchrun`, and what a run wrote about itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Full-precision, tiny, one thread a process: two cores run four ranks.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    "GLOO_SOCKET_IFNAME": "lo",
}


def command(processes: int, arguments: Sequence[str], module: str = "medscroll") -> list[str]:
    """The command line of a job: plain Python for one process, `torchrun` for several."""
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*launcher, "-m", module, *arguments]


def environment(**extra: str) -> dict[str, str]:
    """The environment of a job: this one without a launcher's variables, plus `ENVIRONMENT` and `extra`."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, **ENVIRONMENT, **extra}


def run(
    processes: int, arguments: Sequence[str], *, module: str = "medscroll", check: bool = True, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a job to its end; with `check` a failure shows its output."""
    finished = subprocess.run(
        command(processes, arguments, module),
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if check and finished.returncode != 0:
        raise AssertionError(f"exit code {finished.returncode}\n{finished.stdout[-6000:]}\n{finished.stderr[-6000:]}")
    return finished


def run_until(processes: int, arguments: Sequence[str], sign: Path, *, timeout: float = 200) -> None:
    """Start a job and kill it (SIGKILL, all processes) as soon as the file `sign` exists."""
    with tempfile.TemporaryFile("w+") as output:  # a pipe that nobody reads would stop the job when it is full
        job = subprocess.Popen(
            command(processes, arguments),
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + timeout
        try:
            while not sign.exists():
                if job.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise AssertionError(f"{sign.name} did not appear before the job ended:\n{output.read()[-6000:]}")
                time.sleep(0.02)
        finally:
            _kill_session(job)


def _kill_session(job: subprocess.Popen[str]) -> None:
    import psutil

    try:
        children = psutil.Process(job.pid).children(recursive=True)  # torchrun's ranks lead sessions of their own
    except psutil.NoSuchProcess:
        children = []
    for process in children:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    if job.poll() is None:
        job.send_signal(signal.SIGKILL)
    psutil.wait_procs(children, timeout=10)
    job.wait(timeout=10)


def events(run_folder: Path, kind: str = "step") -> dict[int, list[dict[str, Any]]]:
    """rank -> its events of a type ("step", "evaluation") in the order written."""
    found = {}
    for path in sorted((run_folder / "events").glob("rank-*.jsonl")):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        found[int(path.stem.rpartition("-")[2])] = [line for line in lines if line["type"] == kind]
    return found


def losses(run_folder: Path) -> dict[int, float]:
    """step -> logged loss; of a step that was repeated after a resume, the last."""
    return {event["step"]: event["loss"] for event in events(run_folder)[0]}


def blocks(run_folder: Path) -> dict[int, list[int]]:
    """step -> sorted blocks that all ranks consumed; of a step repeated after a resume, the last."""
    merged: dict[int, list[int]] = {}
    for rank_events in events(run_folder).values():
        for step, found in {event["step"]: event["blocks"] for event in rank_events}.items():
            merged.setdefault(step, []).extend(found)
    return {step: sorted(found) for step, found in merged.items()}
