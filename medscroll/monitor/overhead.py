"""Communication in a trace: how long it took, and how much of that no compute covered.

    total       union of the times in which a device runs at least one communication kernel
    overlapped  the part of it in which the device also runs at least one other kernel
    exposed     total - overlapped: what communication adds to the step

This is HolisticTraceAnalysis' definition (hta/analyzers/communication_analysis.py): memory copies and sets count as
neither. Durations are unions, so kernels on parallel streams are counted once; those of several devices are added up.
A kernel that waits for the last rank counts as communication: `medscroll.monitor.skew` tells that part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medscroll.monitor.intervals import length, shared, union
from medscroll.monitor.trace import Collective, Trace, read_trace


@dataclass(frozen=True)
class GroupOverhead:
    """Communication of one process group (or of one kind of collective).

    `total_us`, `exposed_us`, `overlapped_us` are unions within the group: groups that communicate at the same time
    each count it. `calls` are kernels; `bytes` are full messages, None where the trace does not say.
    """

    total_us: float
    exposed_us: float
    overlapped_us: float
    calls: int
    bytes: int | None
    description: str = ""
    ranks: int | None = None


@dataclass(frozen=True)
class CommunicationOverhead:
    """Communication of a trace, in microseconds.

    Attributes:
        total_us, exposed_us, overlapped_us: see the module; `total = exposed + overlapped`.
        compute_us: union of the kernels that are no communication.
        groups: process group -> its share; "unknown" where the trace names none.
        operations: all_reduce, all_gather, ... -> its share.
        collectives: each one, in order of start.
        basis: "gpu", or "host" for a trace without GPU events.
        devices: number of devices with kernels.
        rank, world_size: of the trace; None if it does not say.
        skipped: events without usable times.
    """

    total_us: float
    exposed_us: float
    overlapped_us: float
    compute_us: float
    groups: dict[str, GroupOverhead]
    operations: dict[str, GroupOverhead]
    collectives: list[Collective]
    basis: str
    devices: int
    rank: int | None
    world_size: int | None
    skipped: int

    @property
    def overlap(self) -> float:
        """Share of the communication that compute covers; 0 where there is none."""
        return self.overlapped_us / self.total_us if self.total_us > 0 else 0.0


def communication_overhead(trace: str | Path) -> CommunicationOverhead:
    """Total, exposed and overlapped communication of a Kineto trace (.json or .json.gz).

    Raises:
        DataError: the file is missing, empty, truncated, or no Kineto trace.
    """
    return overhead_of(read_trace(Path(trace)))


def overhead_of(trace: Trace) -> CommunicationOverhead:
    """The same, of a trace that has been read."""
    compute = {device: union(spans) for device, spans in trace.compute.items()}
    total, overlapped = _durations(trace.collectives, compute)
    by_group: dict[str, list[Collective]] = {}
    by_operation: dict[str, list[Collective]] = {}
    for collective in trace.collectives:
        by_group.setdefault(collective.group, []).append(collective)
        by_operation.setdefault(collective.op, []).append(collective)
    return CommunicationOverhead(
        total_us=total,
        exposed_us=total - overlapped,
        overlapped_us=overlapped,
        compute_us=sum(length(spans) for spans in compute.values()),
        groups={
            name: _group(found, compute, trace.descriptions.get(name, ""), trace.sizes.get(name))
            for name, found in sorted(by_group.items())
        },
        operations={name: _group(found, compute) for name, found in sorted(by_operation.items())},
        collectives=trace.collectives,
        basis=trace.basis,
        devices=len({*trace.compute, *(collective.device for collective in trace.collectives)}),
        rank=trace.rank,
        world_size=trace.world_size,
        skipped=trace.skipped,
    )


def _durations(collectives: Iterable[Collective], compute: dict[str, np.ndarray]) -> tuple[float, float]:
    """Total and overlapped microseconds, added up over devices."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for collective in collectives:
        spans.setdefault(collective.device, []).append((collective.start, collective.end))
    total = overlapped = 0.0
    for device, found in spans.items():
        merged = union(found)
        total += length(merged)
        overlapped += shared(merged, compute.get(device, np.empty((0, 2))))
    return total, min(overlapped, total)


def _group(
    collectives: list[Collective], compute: dict[str, np.ndarray], description: str = "", ranks: int | None = None
) -> GroupOverhead:
    total, overlapped = _durations(collectives, compute)
    sizes = [collective.bytes for collective in collectives]
    known = [size for size in sizes if size is not None]
    return GroupOverhead(
        total_us=total,
        exposed_us=total - overlapped,
        overlapped_us=overlapped,
        calls=len(collectives),
        bytes=sum(known) if known and len(known) == len(sizes) else None,
        description=description,
        ranks=ranks,
    )
