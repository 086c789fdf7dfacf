"""Losses of 20 steps in float32 (one process) and in bfloat16 (two processes, ZeRO-1, 2 and 3), side by side.

    python benchmarks/bf16_curve.py --data_dir DATA --work_dir WORK

The same blocks in the same global batches; nothing is asserted. Prints a Markdown table; each run folder stays in WORK.
Cost: four runs of the `demo` preset, minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

STEPS = 20
COMMON = ["--model_name_or_path", "demo", "--from_scratch", "--block_size", "512", "--max_steps", str(STEPS)]
COMMON += ["--warmup_steps", "3", "--learning_rate", "1e-3", "--save_minutes", "0", "--use_cpu", "true"]
RUNS = {
    "float32, 1 process": (1, ["--bf16", "false", "--gradient_accumulation_steps", "4"]),
    **{
        f"bfloat16, {stage}, 2 ranks": (
            2,
            ["--bf16", "true", "--deepspeed", stage, "--gradient_accumulation_steps", "2"],
        )
        for stage in ("zero1", "zero2", "zero3")
    },
}


def losses(name: str, ranks: int, flags: list[str], data_dir: str, work_dir: Path) -> list[float]:
    """Train once and read the losses of all steps from rank 0's events."""
    run = work_dir / name.replace(",", "").replace(" ", "-")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command = [*launcher, "-m", "medscroll", "pretrain", *COMMON, *flags, "--data_dir", data_dir]
    subprocess.run([*command, "--output_dir", str(run)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    lines = (run / "events" / "rank-00000.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return [event["loss"] for event in events if event["type"] == "step" and "loss" in event]


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--work_dir", type=Path, required=True)
    options = parser.parse_args()
    curves = {
        name: losses(name, ranks, flags, options.data_dir, options.work_dir) for name, (ranks, flags) in RUNS.items()
    }
    print("| step | " + " | ".join(curves) + " |")
    print("|---" * (len(curves) + 1) + "|")
    for step in range(STEPS):
        print(f"| {step + 1} | " + " | ".join(f"{curve[step]:.4f}" for curve in curves.values()) + " |")
    reference, *others = curves.items()
    for name, curve in others:
        worst = max(abs(a - b) / b for a, b in zip(curve, reference[1], strict=True))
        print(f"\n{name}: largest relative difference from {reference[0]}: {worst:.2%}")


if __name__ == "__main__":
    main()
