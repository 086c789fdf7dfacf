"""Time, memory and disk of deduplicating short clinical notes (about 300 characters of Chinese), one process.

    python benchmarks/corpus/deduplicate.py --documents 1000000 --shards 16
    python benchmarks/corpus/deduplicate.py --book 2000000

A tenth of the notes are copies of an earlier one with one sentence of ten changed, a twentieth are exact copies; every
note is made of sentences of random characters, so that those and no others are duplicates: found and wrong are counted.
`--book N` measures one document of N characters instead. Results: benchmarks/results/corpus_deduplicate.md.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medscroll.corpus.document import Document
from medscroll.corpus.near_duplicates import DeduplicateConfig

SENTENCES, A_NOTE = 200_000, 10


def notes(first: int, last: int, sentences: list[str]) -> Iterator[Document]:
    """Notes `first` to `last` - 1: number i is a function of i alone."""
    for number in range(first, last):
        kind = number % 20
        origin = number - 10 if kind >= 17 else number  # 17, 18: near; 19: exact
        rng = np.random.default_rng(origin)
        chosen = rng.integers(0, SENTENCES, A_NOTE)
        if kind in (17, 18):
            chosen[3] = (chosen[3] + 1) % SENTENCES
        text = "".join([sentences[place] for place in chosen])
        yield Document(f"notes.jsonl#{number:09d}", text, "notes.jsonl", "zh")


def peak_mib() -> float:
    """Most memory that the process has held so far, MiB (file-backed pages included)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Runs the benchmark and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--book", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(0)
    characters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    sentences = ["".join(rng.choices(characters, k=rng.randint(20, 40))) + "。" for _ in range(SENTENCES)]
    step = DeduplicateConfig().build()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        before = peak_mib()
        if options.book:
            text = "".join(rng.choices(sentences, k=options.book // 30))[: options.book]
            start = time.perf_counter()
            step.prepare_shard(iter([Document("book", text, "book", "zh")]), root)
            seconds = time.perf_counter() - start
            print(json.dumps({"book": len(text), "seconds": seconds, "peak_mib": peak_mib(), "before_mib": before}))
            return
        prepare = 0.0
        folders = []
        borders = np.linspace(0, options.documents, options.shards + 1).astype(int)
        for shard in range(options.shards):
            folders.append(root / f"{shard:06d}")
            folders[-1].mkdir()
            made = list(notes(borders[shard], borders[shard + 1], sentences))
            start = time.perf_counter()
            step.prepare_shard(iter(made), folders[-1])
            prepare += time.perf_counter() - start
            del made
        disk = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        prepared = peak_mib()
        start = time.perf_counter()
        decisions = step.decide(folders, root)
        decide = time.perf_counter() - start
    planted = {number for number in range(options.documents) if number % 20 >= 17}
    dropped = set()
    for identifier, (_, detail) in decisions.drops.items():
        number, origin = int(identifier[-9:]), int(detail.split()[2][-9:])
        dropped.add(max(number, origin) if abs(number - origin) == 10 else -1 - number)
    found = len(planted & dropped)
    print(json.dumps({
        "documents": options.documents, "prepare_seconds": prepare, "decide_seconds": decide,
        "peak_mib": peak_mib(), "peak_mib_after_prepare": prepared, "before_mib": before, "disk_mib": disk / 2**20,
        "planted": len(planted), "found": found, "wrong": len(dropped - planted),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
