"""Context extension, loss against position before and after, on real long documents with a small model on a CPU.

    python benchmarks/long_context/extend_context.py TEXTS --output_dir OUT [--files 60] [--steps 150] [--more 60]

All through the command line: train a tokenizer, `medscroll prepare`, `medscroll pretrain` of a small random model that
has 512 positions, then for each way of extending to 2,048 a run that evaluates held-out documents before its first
step and after its last one. Prints a table in Markdown and writes it to OUT/extend_context.md. A small model shows that
the machinery works; how well a large model extends is another question.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHORT, LONG, TOKENS = 512, 2048, 8192
WAYS = {
    "more positions alone": ["--max_position_embeddings", str(LONG)],
    "`--rope_theta 80000`": ["--rope_theta", "80000", "--max_position_embeddings", str(LONG)],
    "`--rope_scaling linear --rope_factor 4`": ["--rope_scaling", "linear", "--rope_factor", "4"],
    "`--rope_scaling yarn --rope_factor 4`": ["--rope_scaling", "yarn", "--rope_factor", "4"],
}


def run(*words: str, module: str = "medscroll") -> None:
    """One command; its output is shown when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", module, *words], check=False, capture_output=True, text=True, env=environment
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    print(f"{words[0]}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def pretrain(data: Path, folder: Path, block_size: int, steps: int, *flags: str) -> list[dict[str, Any]]:
    """A run of `steps` steps of 8,192 tokens; its evaluations."""
    words = ["pretrain", "--data_dir", str(data), "--output_dir", str(folder), "--block_size", str(block_size)]
    words += ["--gradient_accumulation_steps", str(TOKENS // block_size), "--max_steps", str(steps)]
    words += ["--learning_rate", "2e-3", "--num_train_epochs", "100", "--replay_share", "0", "--use_cpu", "true"]
    run(*words, "--save_minutes", "0", *flags)
    lines = [json.loads(line) for line in (folder / "events" / "rank-00000.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if line["type"] == "evaluation"]


def main() -> None:
    """Train, extend, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", help="folder of raw long documents")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--files", type=int, default=60, help="how many of them")
    parser.add_argument("--steps", type=int, default=150, help="steps at 512 positions")
    parser.add_argument("--more", type=int, default=60, help="steps at 2,048 positions")
    flags = parser.parse_args()
    out, raw = Path(flags.output_dir), Path(flags.output_dir) / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(flags.texts).iterdir())[: flags.files]:
        shutil.copy(path, raw / path.name)
    run(str(raw), str(out / "tokenizer"), "--vocab_size", "2000", module="medscroll.model.tokenizer_training")
    words = ["--output_dir", str(out / "data"), "--tokenizer_name_or_path", str(out / "tokenizer")]
    run("prepare", str(raw), *words, "--validation_fraction", "0.08", "--num_workers", "1")
    scratch = ["--model_name_or_path", "tiny", "--from_scratch", "true", "--max_position_embeddings", str(SHORT)]
    short = out / "short"
    first = pretrain(out / "data", short, SHORT, flags.steps, *scratch)
    rows = [("512 positions, block 512", "after", first[-1])]
    for number, (name, extra) in enumerate(WAYS.items()):
        folder = out / f"long-{number}"
        found = pretrain(out / "data", folder, LONG, flags.more, "--model_name_or_path", str(short), *extra)
        rows += [(name, "before", found[0]), (name, f"after {flags.more} steps", found[-1])]
    starts = sorted({item["from"] for _, _, event in rows for item in event["loss_by_position"]})
    lines = ["| way | when | all | " + " | ".join(f"{start:,}-" for start in starts) + " |"]
    lines.append("|---" * (3 + len(starts)) + "|")
    for name, when, event in rows:
        by = {item["from"]: f"{item['loss']:.3f}" for item in event["loss_by_position"]}
        cells = [by.get(start, "") for start in starts]
        lines.append(f"| {name} | {when} | {event['eval_loss']:.3f} | " + " | ".join(cells) + " |")
    table = "\n".join(lines)
    (out / "extend_context.md").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
