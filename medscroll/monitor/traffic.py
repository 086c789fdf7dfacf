"""Bytes and calls of every collective, counted from c10d's flight recorder, which records them anyway.

torch keeps the last `TORCH_FR_BUFFER_SIZE` collectives of NCCL and gloo in a ring buffer in C++ (name, group, sizes,
time). Reading it from a thread now and then counts them without touching the calls, so overlap is preserved. Price:
some 15 us a collective that is read, on a thread beside the training; readings are spaced so that they take at most
0.2 % of the time. Where the ring was overrun between two readings, the entries' numbers still say how many calls there
were in all, but which ones and how large is known only of those that were read: calls and bytes of each operation are
then extrapolated, and `coverage` is the share that was read.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from medscroll.monitor.trace import ELEMENT_BYTES, operation

BUFFER = 4000
SHARE = 0.002
SOONEST = 2.0
EARLY_SHARE, EARLY_SOONEST = 0.01, 0.4  # while a run is young, where slow ranks are found by what is read
BLOCKING = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "barrier",
)  # nobody leaves before the last comes


def enable_recorder() -> None:
    """Give the ring room for several steps, unless the user chose a size; before the process group is opened.

    Also keeps the profiler's library from announcing every window on stderr.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    for name in ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"):
        if name in os.environ:
            return
    os.environ["TORCH_FR_BUFFER_SIZE"] = str(BUFFER)


def sent_bytes(op: str, size: int, ranks: int) -> int:
    """What one rank sends for a message of `size` bytes in a ring of `ranks` (nccl-tests' bus factors)."""
    if ranks <= 1 or op in ("recv", "barrier"):
        return 0
    share = (ranks - 1) / ranks
    if op == "all_reduce":
        return round(2 * share * size)
    return round(share * size) if op in ("all_gather", "reduce_scatter", "all_to_all") else size


def read_recorder(entries: bool = True) -> list[dict[str, Any]]:
    """What the recorders of NCCL and gloo hold, as torch's dictionaries; empty where this build has none."""
    try:
        from torch._C import _distributed_c10d as c10d
    except ImportError:
        return []
    found = []
    for name in ("_dump_nccl_trace", "_dump_fr_trace"):
        dump = getattr(c10d, name, None)
        if dump is not None:
            try:
                found.append(pickle.loads(dump(entries, False, False)))
            except (RuntimeError, TypeError, pickle.UnpicklingError):
                continue
    return [each for each in found if isinstance(each, dict)]


def last_collectives() -> dict[str, int]:
    """Group -> number of the last collective that this rank issued; cheap."""
    issued: dict[str, int] = {}
    for record in read_recorder(entries=False):
        for group, status in (record.get("pg_status") or {}).items():
            issued[str(group)] = max(issued.get(str(group), -1), int(status.get("last_enqueued_collective", -1)))
    return issued


def describe_last(count: int = 10) -> list[str]:
    """The last collectives of this rank in words: number, group, name, sizes, state."""
    entries = [entry for record in read_recorder() for entry in record.get("entries", [])]
    entries.sort(key=lambda entry: entry.get("time_created_ns") or 0)
    return [
        f"#{entry.get('collective_seq_id')} group {entry.get('process_group')} {entry.get('profiling_name')} "
        f"{entry.get('input_sizes')} -> {entry.get('output_sizes')} {entry.get('state')}"
        for entry in entries[-count:]
    ]


def message_bytes(entry: dict[str, Any]) -> int:
    """Bytes of an entry's full message: the larger of input and output."""

    def total(side: str) -> int:
        bytes_ = 0
        for shape, kind in zip(entry.get(f"{side}_sizes") or [], entry.get(f"{side}_dtypes") or [], strict=False):
            elements = 1
            for extent in shape:
                elements *= int(extent)
            bytes_ += elements * ELEMENT_BYTES.get(str(kind).lower(), 4)
        return bytes_

    return max(total("input"), total("output"))


@dataclass
class Counted:
    """Calls and bytes since the last reading: (group, op) -> [calls, bytes], extrapolated from the calls read.

    `read` of the `new` calls were read; `new` is exact as long as torch numbers them.
    """

    totals: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    read: int = 0
    new: int = 0
    arrivals: list[tuple[str, int, float]] = field(default_factory=list)  # group, number, Unix seconds; BLOCKING alone

    @property
    def coverage(self) -> float:
        """Share of the new calls that were read; 1: nothing is extrapolated."""
        return self.read / self.new if self.new else 1.0


class TrafficCounter:
    """Counts collectives between readings.

    Args:
        share: the largest share of time that reading may take.
    """

    def __init__(self, share: float = SHARE) -> None:
        self.share, self.soonest = share, SOONEST
        self._seen: dict[int, int] = {}  # recorder -> number after the last entry counted
        self._next = 0.0
        self._sizes: dict[str, int | None] = {}

    def hurry(self, early: bool) -> None:
        """Read more often, for five times the price, or as usual again."""
        self.share, self.soonest = (EARLY_SHARE, EARLY_SOONEST) if early else (SHARE, SOONEST)

    @property
    def due(self) -> bool:
        """Whether a reading keeps within the budget."""
        return time.monotonic() >= self._next

    def read(self) -> Counted:
        """Count what is new since the last call."""
        began = time.perf_counter()
        counted = Counted()
        sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for index, record in enumerate(read_recorder()):
            entries = record.get("entries") or []
            numbers = [int(entry["record_id"]) for entry in entries]
            if not numbers:
                continue
            seen, ahead = self._seen.get(index, 0), max(numbers) + 1
            fresh = [entry for entry, number in zip(entries, numbers, strict=True) if number >= seen]
            self._seen[index] = ahead
            missed = (ahead - seen) / len(fresh) if fresh else 1.0
            counted.read += len(fresh)
            counted.new += ahead - seen
            for entry in fresh:
                group = str((entry.get("process_group") or ["unknown"])[0])
                name = str(entry.get("profiling_name", "")).rpartition(":")[2]
                if name == "coalesced":  # closes a bundle whose parts stand on their own
                    continue
                op = operation(name)
                if op in BLOCKING and not entry.get("is_p2p") and entry.get("time_created_ns"):
                    number = int(entry.get("collective_seq_id") or 0)
                    counted.arrivals.append((group, number, float(entry["time_created_ns"]) / 1e9))
                slot = sums[group, op]
                slot[0] += missed
                slot[1] += missed * message_bytes(entry)
        counted.totals = dict(sums)
        took = time.perf_counter() - began
        self._next = time.monotonic() + max(self.soonest, took / self.share)
        return counted

    def group_size(self, name: str) -> int | None:
        """Number of ranks of a group; None where torch does not say."""
        if name not in self._sizes:
            try:
                from torch.distributed import distributed_c10d

                size_of: Any = distributed_c10d._get_group_size_by_name
                self._sizes[name] = int(size_of(name))
            except (AttributeError, KeyError, ValueError, RuntimeError, TypeError):
                self._sizes[name] = None
        return self._sizes[name]

    def traffic(self, counted: Counted) -> list[dict[str, Any]]:
        """`schema.Traffic` entries, by group and operation."""
        found = []
        for (group, op), (calls, size) in sorted(counted.totals.items()):
            ranks = self.group_size(group) or 1
            entry = {"group": group, "ranks": ranks, "op": op, "calls": round(calls), "bytes": round(size)}
            found.append({**entry, "sent_bytes": sent_bytes(op, round(size), ranks)})
        return found
