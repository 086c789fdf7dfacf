"""Packing plans of many lognormal documents, next to TRL's `pack_dataset(strategy="bfd_split")` on the same lengths.

    python benchmarks/packing/against_trl.py --documents 10000000 --trl_documents 200000 --runs 3

Every measurement is a process of its own, pinned to one core, so that its peak of memory is its own. TRL moves token
ids where a plan only says where they go; it is given ids of one byte, and two sizes of its `map` batch: its default of
1,000 rows and all rows at once. "plan and rows" adds to a plan the reading of every row as training does. TRL packs
the first `--trl_documents` lengths, as do the rows marked so: at all lengths its ids alone would take 11 GB.
Needs `pip install trl`. Prints one JSON object a measurement, and at the end the medians.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from typing import Any

import numpy as np

MEDIAN, SIGMA = 506, 1.28  # as measured corpora (`pack_documents.py`)


def lengths_of(documents: int) -> np.ndarray:
    """Lognormal lengths, int64 [documents]; the first n are the same at every number."""
    rng = np.random.default_rng(0)
    return np.clip(rng.lognormal(np.log(MEDIAN), SIGMA, documents), 2, 2_000_000).astype(np.int64)


class OneToken:
    """A store whose every token is the same, held once."""

    def __init__(self, lengths: np.ndarray) -> None:
        self.lengths = lengths
        self._tokens = np.full(int(lengths.max()), 7, np.uint16)

    def tokens(self, index: int, start: int, stop: int) -> np.ndarray:
        """Tokens of a document."""
        return self._tokens[start:stop]


def plan_only(lengths: np.ndarray, block_size: int) -> dict[str, Any]:
    """`pack`, whole documents, context of 64 tokens at continuations, without cuts."""
    from medscroll.packing.plan import pack

    began = time.perf_counter()
    plan = pack(lengths, block_size=block_size)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "rows": plan.num_blocks, "fill": plan.ledger()["fill"]}


def plan_and_rows(lengths: np.ndarray, block_size: int) -> dict[str, Any]:
    """`pack`, and then every row as arrays of ids, labels and positions."""
    from medscroll.packing.dataset import PackedDataset
    from medscroll.packing.plan import pack

    began = time.perf_counter()
    plan = pack(lengths, block_size=block_size)
    rows = PackedDataset(OneToken(lengths), plan)
    for index in range(len(rows)):
        rows.arrays(index)
    return {"seconds": time.perf_counter() - began, "rows": plan.num_blocks, "fill": plan.ledger()["fill"]}


def trl(lengths: np.ndarray, block_size: int, batch: int) -> dict[str, Any]:
    """TRL's packing of one column of one-byte ids."""
    import pyarrow as pa
    from datasets import Dataset, disable_progress_bars
    from trl import pack_dataset

    disable_progress_bars()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.full(int(offsets[-1]), 7, np.int8)))
    dataset = Dataset(pa.table({"input_ids": ids}))
    options = {"batch_size": batch, "keep_in_memory": True, "load_from_cache_file": False}
    began = time.perf_counter()
    packed = pack_dataset(dataset, block_size, strategy="bfd_split", map_kwargs=options)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "rows": len(packed), "fill": float(offsets[-1]) / (len(packed) * block_size)}


def measure(name: str, documents: int, block_size: int, queue: Any) -> None:
    """Runs one measurement in this process, pinned to one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    lengths = lengths_of(documents)
    ways = {
        "medscroll": lambda: plan_only(lengths, block_size),
        "medscroll, plan and rows": lambda: plan_and_rows(lengths, block_size),
        "TRL bfd_split, batches of 1,000": lambda: trl(lengths, block_size, 1000),
        "TRL bfd_split, one batch": lambda: trl(lengths, block_size, documents),
    }
    found = {
        "way": name,
        "documents": documents,
        "tokens": int(lengths.sum()),
        "block_size": block_size,
        **ways[name](),
    }
    found["documents_per_second"] = documents / found["seconds"]
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    queue.put(found)


def main() -> None:
    """Runs all ways in turn, `--runs` times, and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--trl_documents", type=int, default=200_000)
    parser.add_argument("--block_size", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    few = options.trl_documents
    ways = [("medscroll", options.documents), ("medscroll", few), ("medscroll, plan and rows", few)]
    ways += [("TRL bfd_split, batches of 1,000", few), ("TRL bfd_split, one batch", few)]
    context = multiprocessing.get_context("spawn")
    found: dict[tuple[str, int], list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(options.runs):
        for way in ways:
            queue = context.Queue()
            process = context.Process(target=measure, args=(*way, options.block_size, queue))
            process.start()
            found[way].append(queue.get(timeout=3600))
            process.join()
            print(json.dumps(found[way][-1]), flush=True)
    for (name, documents), runs in found.items():
        medians = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "fill", "peak_gib")}
        print(json.dumps({"median of": len(runs), "way": name, "documents": documents, **medians}))


if __name__ == "__main__":
    main()
