"""Who the others wait for, when a step takes much longer than steps take.

A rank notices that it has got nowhere for `limit` seconds, reads the heartbeats of all, and concludes:

    frozen    its heartbeat has stopped while others beat: the process was stopped or killed, or its node is gone
    behind    it beats, but its main thread is in an earlier step or phase than the rest, or issued fewer collectives

Nobody behind: the ranks wait for each other, which points at the network. All of this is read from files; no
collective is needed, so it works while the collectives hang.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medscroll.monitor.heartbeat import Beat, frozen

GRACE = 5.0  # seconds
# Phases that have their own length: a checkpoint or an evaluation is not a slow step.
LONG_PHASES = ("start", "checkpoint", "evaluation")
LONG_GRACE = 900.0


@dataclass(frozen=True)
class Missing:
    """A rank that the others wait for; fields of `schema.Missing`."""

    rank: int
    host: str
    phase: str
    step: int
    since: float
    frozen: bool

    def in_words(self) -> str:
        """`rank 3 on host a, in backward of step 12, process frozen`."""
        state = "its process is stopped, killed or unreachable" if self.frozen else "its process is alive"
        return f"rank {self.rank} on {self.host}, in {self.phase} of step {self.step + 1} ({state})"


def stall_limit(median_step: float | None, phase: str, factor: float, timeout: float | None = None) -> float | None:
    """Seconds without progress that count as a stall; None where no step time is known yet.

    Args:
        median_step: seconds; None before the third step.
        phase: what is under way.
        factor: median steps that a step may take.
        timeout: after how many seconds collectives give up; the limit is at most three quarters of it, so that a stall
            is named while all processes live.
    """
    if phase in LONG_PHASES:
        limit = max(LONG_GRACE, factor * (median_step or 0.0))
    elif median_step is None:
        return None
    else:
        limit = factor * median_step + GRACE
    return limit if timeout is None else min(limit, 0.75 * timeout)


def find_missing(beats: dict[int, Beat], world_size: int) -> list[Missing]:
    """The ranks that the others wait for; empty where all stand at the same place."""
    stopped = frozen(beats)
    running = {rank: beat for rank, beat in beats.items() if beat.content.get("status") == "running"}
    absent = [rank for rank in range(world_size) if rank not in beats]
    found = set(stopped)
    if not stopped and len(running) > 1:
        places = {rank: beat.place for rank, beat in running.items()}
        furthest = max(places.values())
        found = {rank for rank, place in places.items() if place < furthest}
        if not found:
            issued = {rank: _issued(beat) for rank, beat in running.items()}
            found = {rank for rank, count in issued.items() if count < max(issued.values())}
    missing = [_missing(beats[rank], rank in stopped) for rank in sorted(found)]
    return missing + [Missing(rank, "an unknown host", "start", 0, 0.0, True) for rank in absent]


def reporter(beats: dict[int, Beat]) -> int | None:
    """The rank that reports: the lowest whose process beats."""
    stopped = frozen(beats)
    alive = [rank for rank, beat in beats.items() if rank not in stopped and beat.content.get("status") == "running"]
    return min(alive, default=None)


def _issued(beat: Beat) -> int:
    counts = beat.content.get("collectives")
    return sum(count for count in counts.values() if isinstance(count, int)) if isinstance(counts, dict) else 0


def _missing(beat: Beat, is_frozen: bool) -> Missing:
    content: dict[str, Any] = beat.content
    now, progress = content.get("time"), content.get("progress")
    since = float(now) - float(progress) if isinstance(now, float) and isinstance(progress, float) else 0.0
    return Missing(
        rank=beat.rank,
        host=str(content.get("host", "an unknown host")),
        phase=str(content.get("phase", "unknown")),
        step=int(content.get("step") or 0),
        since=max(0.0, since),
        frozen=is_frozen,
    )
