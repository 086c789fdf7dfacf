"""Speed, MFU and peak memory of training on long rows, and the proof of attention, on one GPU.

    python benchmarks/long_context/run_table.py --data_dir DATA --output table.jsonl
        [--minutes 8] [--only NAME,NAME] [--skip NAME,NAME] [--tiny] [--no_fork]

One process a row (`rows.py`, most important first), each with a time limit, so that running out of memory or a hang
costs one row. A row that would not end in time is skipped for a shorter one and said to be. Prints one JSON line a
result as it comes and appends it to --output. Training goes through what `medscroll pretrain` uses (`measure.py`);
only saving is left out.

Rows are forked from this process, which has imported everything but has never touched the GPU, as imports take longer
than many rows; where a fork cannot use the GPU (or with --no_fork), each row is a new Python. Kernels of flash-attn-4
are kept on disk between rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from rows import ROWS, TINY, ProofRow, Row, as_json  # noqa: E402

SMALLER = "full_offload"
GRACE = 1.6  # a row may take this much longer than expected


def main() -> None:
    """Run the rows, or be one of them (--row)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="folder made by `medscroll prepare`")
    parser.add_argument("--output", default="long_context.jsonl", help="JSON lines are appended to this file")
    parser.add_argument("--minutes", type=float, default=8.0, help="everything ends within this time")
    parser.add_argument("--only", default="", help="comma list of rows; their order counts")
    parser.add_argument("--skip", default="", help="comma list of rows")
    parser.add_argument("--tiny", action="store_true", help="tiny models instead: a test of the scripts, on a CPU too")
    parser.add_argument("--no_fork", action="store_true", help="a new Python for each row")
    parser.add_argument("--row", default="", help=argparse.SUPPRESS)
    parser.add_argument("--level", default="", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    settle_environment()
    if flags.row:
        row = find(flags, flags.row)
        run_row(smaller(row) if isinstance(row, Row) and flags.level else row, flags)
        return
    began = time.monotonic()
    runner = Runner(flags, began + 60 * flags.minutes)
    runner.start()
    for row in chosen(flags):
        runner.run(row)
    report(Path(flags.output), {"name": "end", "seconds": round(time.monotonic() - began, 1)})


def settle_environment() -> None:
    """Variables that must be set before the first import of torch."""
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking whether there is a GPU does not open it
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_DIR", str(Path(tempfile.gettempdir()) / "medscroll-fa4"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def chosen(flags: argparse.Namespace) -> list[Row | ProofRow]:
    """The rows that the flags name, in order."""
    rows = {row.name: row for row in (TINY if flags.tiny else ROWS)}
    names = [name for name in flags.only.split(",") if name] or list(rows)
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise SystemExit(f"no such rows: {', '.join(unknown)}; there are {', '.join(rows)}")
    return [rows[name] for name in names if name not in flags.skip.split(",")]


def find(flags: argparse.Namespace, name: str) -> Row | ProofRow:
    """The row of a name."""
    return next(row for row in (TINY if flags.tiny else ROWS) if row.name == name)


def smaller(row: Row) -> Row:
    """The same row with less kept, for where the automatic level ran out of memory."""
    return dataclasses.replace(row, name=f"{row.name}-{SMALLER}", level=SMALLER)


def report(output: Path, record: dict[str, Any]) -> None:
    """Print a line and append it, in one write."""
    line = json.dumps(record)
    print(line, flush=True)
    with output.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def run_row(row: Row | ProofRow, flags: argparse.Namespace) -> None:
    """Measure or prove one row in this process and report it; whatever happens, a line is written."""
    output, began = Path(flags.output), time.monotonic()
    record: dict[str, Any] = as_json(row)
    try:
        if isinstance(row, ProofRow):
            import proof

            for line in proof.prove(row):
                report(output, {**record, **line})
            record["done"] = True
        elif row.trl:
            import trl_peer

            record |= trl_peer.measure(row, flags.data_dir)
        else:
            import measure

            record |= measure.measure(row, flags.data_dir)
    except Exception as error:
        first = str(error).strip().splitlines() or [""]
        record["error"] = f"{type(error).__name__}: {first[0][:400]}"
        if "out of memory" not in record["error"] and os.environ.get("MEASURE_TRACE", "1") == "1":
            traceback.print_exc()
    record["wall_seconds"] = round(time.monotonic() - began, 1)
    report(output, record)


class Runner:
    """Starts rows one after the other, each in a process of its own, until the deadline."""

    def __init__(self, flags: argparse.Namespace, deadline: float) -> None:
        self.flags, self.deadline, self.fork = flags, deadline, not flags.no_fork
        self.output = Path(flags.output)

    def start(self) -> None:
        """Import everything once, and see whether a fork can use the GPU."""
        began = time.monotonic()
        if self.fork:
            import measure

            self.fork = measure.preload() and self._forked(_touch_device, 60) == 0
        import importlib.metadata

        names = ("torch", "transformers", "accelerate", "deepspeed", "liger-kernel", "flash-attn-4", "peft", "trl")
        versions = {}
        for name in names:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = ""
        took = round(time.monotonic() - began, 1)
        report(self.output, {"name": "start", "fork": self.fork, "import_seconds": took, "versions": versions})

    def run(self, row: Row | ProofRow) -> None:
        """One row, if there is time for it."""
        left = self.deadline - time.monotonic()
        if left < row.seconds:
            report(self.output, {**as_json(row), "skipped": f"{left:.0f} s left, about {row.seconds} s needed"})
            return
        limit = min(left, GRACE * row.seconds + 20)
        before = len(self._lines(row.name))
        if self.fork:
            code = self._forked(lambda: run_row(row, self.flags), limit)
        else:
            code = self._new_python(row, limit)
        if code < 0 and code != TIMED_OUT:
            os.environ["FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED"] = "0"  # a kernel read from disk may be the reason
        if code != 0:
            why = f"took longer than {limit:.0f} s" if code == TIMED_OUT else f"process ended with {code}"
            report(self.output, {**as_json(row), "error": why, "lines_before": len(self._lines(row.name)) - before})
            return
        last = self._lines(row.name)[-1:]
        full = bool(last) and "out of memory" in last[0].get("error", "")
        if full and isinstance(row, Row) and row.level == "auto" and not row.trl:
            self.run(smaller(row))

    def _lines(self, name: str) -> list[dict[str, Any]]:
        if not self.output.exists():
            return []
        lines = [json.loads(line) for line in self.output.read_text("utf-8").splitlines()]
        return [line for line in lines if line["name"] == name]

    def _forked(self, work: Any, limit: float) -> int:
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join(limit)
        if child.is_alive():
            child.kill()
            child.join()
            return TIMED_OUT
        return child.exitcode or 0

    def _new_python(self, row: Row | ProofRow, limit: float) -> int:
        name = row.name.removesuffix(f"-{SMALLER}")
        command = [sys.executable, __file__, "--row", name, "--data_dir", self.flags.data_dir]
        command += [] if name == row.name else ["--level", SMALLER]
        command += ["--output", str(self.output), *(["--tiny"] if self.flags.tiny else [])]
        try:
            return subprocess.run(command, check=False, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            return TIMED_OUT


TIMED_OUT = -1000


def _touch_device() -> None:
    """Open the GPU, where there is one; an exception is a code other than 0."""
    import torch

    if torch.cuda.is_available():
        torch.zeros(1, device="cuda").add_(1).item()


if __name__ == "__main__":
    main()
