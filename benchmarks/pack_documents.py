"""Time, memory and fill of packing many documents with lognormal lengths (median 506 tokens, as measured corpora).

    python benchmarks/pack_documents.py --documents 10000000 --block_size 4096
    python benchmarks/pack_documents.py --documents 2000000 --block_size 4096 --cuts

`--cuts` puts a cut about every 40 tokens, a fifth of them at paragraphs, the others at sentences.

Measured on 2 shared cores of a cloud machine (one process, numpy 2.4), seconds and peak memory with the input:
    10,000,000 documents, 11.46e9 tokens, block 4096              8-13 s   1.05 GiB   fill 99.996 %
    the same, block 512 (30 million pieces)                         26 s   2.73 GiB   fill 99.88 %
    the same, block 131072                                          17 s   0.96 GiB   fill 99.91 %
    the same, block 4096, --no_group_by_text                        31 s   1.73 GiB   fill 100.00 %
    2,000,000 documents, block 4096, --cuts                        2.2 s   0.93 GiB   fill 99.99 %
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np

from medscroll.packing.cuts import PARAGRAPH, SENTENCE, Cuts
from medscroll.packing.plan import pack


def invented_cuts(lengths: np.ndarray, rng: np.random.Generator) -> Cuts:
    """Cuts about every 40 tokens of every document."""
    counts = (lengths - 1) // 40
    offsets = np.concatenate([[0], np.cumsum(counts)])
    positions = np.arange(offsets[-1], dtype=np.int32)
    positions -= np.repeat(offsets[:-1], counts).astype(np.int32)
    positions *= 40
    positions += rng.integers(1, 40, len(positions), dtype=np.int32)
    levels = np.where(rng.random(len(positions), np.float32) < 0.2, PARAGRAPH, SENTENCE).astype(np.uint8)
    return Cuts(offsets, positions, levels)


def main() -> None:
    """Runs the benchmark and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--block_size", type=int, default=4096)
    parser.add_argument("--cuts", action="store_true")
    parser.add_argument("--no_group_by_text", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(506), 1.28, options.documents), 2, 2_000_000).astype(np.int64)
    cuts = invented_cuts(lengths, rng) if options.cuts else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    plan = pack(lengths, block_size=options.block_size, cuts=cuts, group_by_text=not options.no_group_by_text)
    seconds = time.perf_counter() - start
    ledger = plan.ledger()
    chosen = {name: ledger[name] for name in ("documents", "tokens", "blocks", "fill", "divided", "pieces", "cuts")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(chosen | {"seconds": seconds, "peak_gib": peak / 2**20, "input_gib": before / 2**20}))


if __name__ == "__main__":
    main()
