"""Packing of prepared data: where documents are cut, how even ranks are, how fast rows are read.

    python benchmarks/packing/prepared_data.py DATA --block_size 4096
    python benchmarks/packing/prepared_data.py DATA --block_size 32768 --ranks 64 --accumulation 4 --steps 20

Balance: lengths are drawn with replacement from those of DATA (seeded) until `--steps` global batches are full, packed,
and dealt; the figure is mean over maximum cost of the ranks in a micro step, averaged over micro steps weighted by
their time, in attention and linear cost of a model with `--hidden_size` and the measured speeds. "undealt" are the same
rows in a plain seeded permutation. Reading: every row of the plan in random order, as tensors with their hashes
compared on first touch, in passes; the first pass maps and compares everything.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import torch

from medscroll.packing.collate import collate_blocks
from medscroll.packing.compare import balance
from medscroll.packing.cost import speed_ratio
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.mixture import PreparedSources
from medscroll.packing.plan import pack
from medscroll.packing.schedule import ScheduledBlocks
from medscroll.packing.sources import parse_sources


def cuts(plan: Any) -> dict[str, Any]:
    """Shares of cuts by level."""
    ledger = plan.ledger()
    number = sum(ledger["cuts"].values())
    shares = {level: count / number for level, count in ledger["cuts"].items()}
    return {
        "cuts": number,
        "shares": shares,
        "section_paragraph_sentence": sum(shares[level] for level in ("section", "paragraph", "sentence")),
        "fill": ledger["fill"],
        "blocks": ledger["blocks"],
    }


def resampled_balance(lengths: np.ndarray, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Balance over full global batches of lengths drawn from these."""
    rng, size = np.random.default_rng(seed), options.ranks * options.accumulation
    wanted = size * options.steps * options.block_size
    drawn = rng.choice(lengths, int(1.05 * wanted / lengths.mean()) + 1000)
    drawn = drawn[: int(np.searchsorted(np.cumsum(drawn), 1.02 * wanted)) + 1]
    plan = pack(drawn, block_size=options.block_size, seed=seed)
    linear = 12.0 * options.hidden_size * speed_ratio()
    found = balance(
        plan, ranks=options.ranks, linear_cost=linear, micro_steps=options.accumulation, steps=options.steps
    )
    return {"seed": seed, "blocks": plan.num_blocks, "full_batches": plan.num_blocks // size, **(found or {})}


def reading(blocks: PackedDataset, passes: int) -> dict[str, Any]:
    """Tokens a second of rows as tensors, and of micro batches of 4 rows through the schedule and the collator."""
    order = np.random.default_rng(0).permutation(len(blocks)).tolist()
    tokens = int(blocks.plan.block_lengths.sum())
    rows = []
    for _ in range(passes):
        began = time.perf_counter()
        for index in order:
            blocks[index]
        rows.append(tokens / (time.perf_counter() - began))
    data = ScheduledBlocks(blocks, ranks=1, per_device_batch=4, accumulation=2, linear_cost=5e4)
    batches = []
    for epoch in range(passes):
        data.set_epoch(epoch)
        began = time.perf_counter()
        for at in range(0, len(data), 4):
            collate_blocks([data[position] for position in range(at, at + 4)])
        batches.append(tokens / (time.perf_counter() - began))
    return {
        "rows_first_pass_tokens_per_second": rows[0],
        "rows_tokens_per_second": statistics.median(rows[1:]),
        "micro_batches_tokens_per_second": statistics.median(batches),
    }


def main() -> None:
    """Prints one JSON object a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir")
    parser.add_argument("--block_size", type=int, default=4096)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--hidden_size", type=int, default=4096)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    mixture = PreparedSources(parse_sources(options.data_dir)).training(block_size=options.block_size)
    print(json.dumps({"what": "cuts", "block_size": options.block_size, **cuts(mixture.plan)}), flush=True)
    for seed in range(options.seeds):
        print(json.dumps({"what": "balance", **resampled_balance(mixture.view.lengths, options, seed)}), flush=True)
    blocks = PackedDataset(mixture.view, mixture.plan)
    print(json.dumps({"what": "reading", "block_size": options.block_size, **reading(blocks, options.passes)}))


if __name__ == "__main__":
    main()
