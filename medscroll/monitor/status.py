"""The state of a rank and of a run, in words: running, dead since, stalled, finished, crashed with the reason.

A rank that wrote an `end` event has the state that this says. Otherwise its heartbeat decides: silent for `SILENT`
seconds is dead. A run is as well as its worst rank; the reason of a crash is that of the rank which fell first, because
the others only report that the connection was closed.
"""

from __future__ import annotations

import time
from typing import Any

from medscroll.monitor.numbers import finite
from medscroll.monitor.rank_reader import RankReader
from medscroll.monitor.run_reader import SILENT, RunReader

ENDED = ("finished", "crashed", "stopped")
_ECHOES = ("closed by peer", "connection reset", "connectionreset", "broken pipe", "nccl", "gloo", "timed out")


def rank_state(run: RunReader, reader: RankReader) -> str:
    """`finished`, `crashed`, `stopped`, `dead`, `running`, or `silent`: no heartbeat file and no end."""
    state, beat = reader.state, reader.beat
    if state.end is not None and state.end.get("status") in ENDED:
        return str(state.end["status"])
    quiet = run.silence(reader)
    newer = finite(state.run.get("started")) or 0.0
    if beat.content.get("status") in ENDED and (beat.number("time") or 0.0) >= newer:
        return str(beat.content["status"])
    if quiet is None:
        return "silent"
    return "dead" if quiet > SILENT else "running"


def run_status(run: RunReader) -> dict[str, Any]:
    """`state`, `reason`, `since` (Unix seconds or None) and `ranks` (those that are concerned) of a run.

    States: empty, starting, running, stalled, degraded (some ranks are dead), dead, crashed, stopped, finished, unknown
    (no heartbeats).
    """
    readers = run.current()
    if not readers:
        return {"state": "empty", "reason": "", "since": None, "ranks": []}
    states = {reader.rank: rank_state(run, reader) for reader in readers}

    def having(state: str) -> list[RankReader]:
        return [reader for reader in readers if states[reader.rank] == state]

    crashed, dead, alive = having("crashed"), having("dead"), having("running")
    if crashed:
        first = min(crashed, key=_fell)
        end = first.state.end or {}
        reason = str(end.get("reason") or "no reason was written")
        reason = f"rank {first.rank}: {reason}"
        if dead and _fell(first)[0]:  # all that is written is an echo of a death that could write nothing
            killed = min(dead, key=lambda reader: reader.beat.mtime or 0.0)
            reason = f"rank {killed.rank} ({killed.host}) ended without a word, killed or its node lost; {reason}"
        return _status("crashed", crashed + dead, reason=reason, since=finite(end.get("time")))
    if len(having("finished")) == len(readers):
        ended = [finite((reader.state.end or {}).get("time")) for reader in readers]
        return _status("finished", readers, since=max((at for at in ended if at is not None), default=None))
    if dead:
        times = [reader.beat.mtime for reader in dead if reader.beat.mtime is not None]
        return _status("degraded" if alive else "dead", dead, since=_local(run, min(times, default=None)))
    stopped = having("stopped")
    if stopped:
        end = stopped[0].state.end or {}
        return _status("stopped", stopped, reason=str(end.get("reason") or ""), since=finite(end.get("time")))
    return _going_on(run, readers) if alive else _status("unknown", having("silent"))


def _going_on(run: RunReader, readers: list[RankReader]) -> dict[str, Any]:
    """The status of a run whose ranks are alive: stalled, starting or running."""
    stall = current_stall(run)
    if stall is not None:
        named = {row.get("rank") for row in stall.get("missing", []) if isinstance(row, dict)}
        missing = [reader for reader in readers if reader.rank in named]
        return _status("stalled", missing, str(stall.get("message", "")), finite(stall.get("time")))
    started = any(reader.state.step or reader.beat.number("step") for reader in readers)
    return _status("running" if started else "starting", readers)


def current_stall(run: RunReader) -> dict[str, Any] | None:
    """The newest stall after which no rank has finished another step; None where there is none."""
    stalls = [event for reader in run.ranks.values() for event in reader.state.stalls]
    newest = max(stalls, key=lambda event: finite(event.get("time")) or 0.0, default=None)
    if newest is None:
        return None
    step, started = finite(newest.get("step")) or 0.0, finite(run.start().get("started")) or 0.0
    resumed = any(reader.state.step > step for reader in run.current()) or started > (finite(newest.get("time")) or 0.0)
    return None if resumed else newest


def _status(state: str, ranks: list[RankReader], reason: str = "", since: float | None = None) -> dict[str, Any]:
    return {"state": state, "reason": reason, "since": since, "ranks": [reader.rank for reader in ranks]}


def _fell(reader: RankReader) -> tuple[bool, float, int]:
    """Sorts crashed ranks: own reasons before echoes of another's, then by the file server's clock."""
    reason = str((reader.state.end or {}).get("reason") or "").lower()
    return any(word in reason for word in _ECHOES), reader.beat.mtime or time.time(), reader.rank


def _local(run: RunReader, server_time: float | None) -> float | None:
    """A time of the file server's clock in ours."""
    return None if server_time is None else server_time - (run.server_offset or 0.0)
