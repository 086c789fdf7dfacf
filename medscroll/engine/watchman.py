"""The monitor's thread on each rank: heartbeat, samples, counted traffic, stalls, and on rank 0 the stragglers.

It wakes once a second. Nothing here is a collective: ranks see each other through the run folder, so it works while
training hangs. When the others wait too long, every rank writes its Python stacks and last collectives, and the lowest
rank that is alive names who is missing; with `--stall_action abort` the waiting ranks then leave with exit code 75.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from medscroll.engine.phases import PhaseClock
from medscroll.engine.topology import Topology
from medscroll.monitor.arrivals import read_arrivals, work
from medscroll.monitor.heartbeat import HeartbeatFile, read_heartbeats
from medscroll.monitor.log import EventWriter
from medscroll.monitor.schema import stacks_path
from medscroll.monitor.stall import find_missing, reporter, stall_limit
from medscroll.monitor.stragglers import FEWEST, Straggler, find_stragglers, slow_in_work
from medscroll.monitor.traffic import describe_last, last_collectives

TICK, EARLY_TICK = 1.0, 0.25  # seconds; the shorter one while slow ranks are looked for in the first steps
EARLY_STEPS = 40
COMPARED_SHARE = 0.002  # of rank 0's time goes into comparing arrivals, five times that in the first steps
IN_A_ROW = 2  # comparisons, each with new steps of all ranks, that name a slow one
EXIT_STALLED = 75  # EX_TEMPFAIL: starting again may help


class Watchman(threading.Thread):
    """See the module.

    Args:
        run_folder, place, host: where and who.
        clock: what the rank is doing.
        events: its event log.
        factor: a stall is `factor` median steps and a few seconds without progress.
        timeout: seconds after which collectives give up; None: there are none.
        abort: leave when a stall lasts twice as long.
        each_tick: called once a second, for samples and the like.
        phases: gives the rank's phase times over its last steps, their standard errors, and the number of steps.
        by_arrivals: ranks write when they come to collectives, and are compared by that.
        settled: the last step that says nothing yet.
    """

    def __init__(
        self,
        run_folder: Path,
        place: Topology,
        host: str,
        clock: PhaseClock,
        events: EventWriter,
        *,
        factor: float,
        timeout: float | None,
        abort: bool,
        each_tick: Callable[[], None],
        phases: Callable[[], tuple[dict[str, float], dict[str, float], int]],
        by_arrivals: bool = False,
        settled: int = 0,
    ) -> None:
        super().__init__(name="medscroll-monitor", daemon=True)
        self.run_folder, self.rank, self.world_size, self.host = run_folder, place.rank, place.world_size, host
        self.clock, self.events, self.factor, self.timeout, self.abort = clock, events, factor, timeout, abort
        self.each_tick, self.phases, self.by_arrivals, self.settled = each_tick, phases, by_arrivals, settled
        self.step, self.status = 0, "running"
        self._file = HeartbeatFile(run_folder, place.rank)
        self._done = threading.Event()
        self._stalled_since: float | None = None
        self._reported = False
        self._compared = 0  # the least step of all ranks at the last comparison
        self._next_comparison = 0.0
        self._slow: dict[tuple[int, str], int] = {}
        self._said: set[tuple[int, str]] = set()
        self._said_of_windows: set[tuple[int, str]] = set()
        self._failed = False

    def run(self) -> None:
        """Tick until `finish`."""
        self.beat()
        while not self._done.wait(EARLY_TICK if self.by_arrivals and self.early else TICK):
            try:
                for action in (self.beat, self.each_tick, self.look_for_stall, self.compare):
                    if not self._done.is_set():
                        action()
            except Exception as error:
                if not self._failed:  # the monitor never ends a run
                    self._failed = True
                    print(f"NOTE: the monitor of rank {self.rank} met {type(error).__name__}: {error}", file=sys.stderr)

    @property
    def early(self) -> bool:
        """Whether the run, or this start of it, is young."""
        return self.step - self.settled < EARLY_STEPS

    def finish(self, status: str) -> None:
        """Say farewell and end the thread: at the interpreter's end it must not be inside torch."""
        self.status = status
        self._done.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(TICK * 10)
        self.beat()
        self._file.close()

    def beat(self) -> None:
        """Write one heartbeat."""
        idle = time.monotonic() - self.clock.changed
        stalled = self._stalled_since is not None or idle > 3.0
        now = time.time()
        phases, scatter, measured = self.phases()
        self._file.write(
            {
                "rank": self.rank,
                "host": self.host,
                "pid": os.getpid(),
                "time": now,
                "step": self.step,
                "phase": self.clock.phase,
                "progress": now - idle,
                "median_step": self.clock.median_step,
                "stall_after": self.limit,
                "status": self.status,
                "phases": {name: round(value, 6) for name, value in phases.items()},
                "scatter": {name: round(value, 6) for name, value in scatter.items() if value},
                "measured": measured,
                "collectives": last_collectives() if stalled else {},
            }
        )

    # Stalls

    @property
    def limit(self) -> float | None:
        """Seconds without progress that count as a stall now; None where no step time is known yet."""
        limit = stall_limit(self.clock.median_step, self.clock.phase, self.factor, self.timeout)
        return None if limit is None else limit + self.clock.slack

    def look_for_stall(self) -> None:
        """Write stacks, name the missing, leave: whatever this rank's waiting time calls for."""
        idle = time.monotonic() - self.clock.changed
        limit = self.limit
        if limit is None or idle <= limit or self.status != "running":
            if self._stalled_since is not None:
                print(f"rank {self.rank} goes on after a stall", file=sys.stderr, flush=True)
            self._stalled_since, self._reported = None, False
            return
        if self._stalled_since is None:
            self._stalled_since = time.monotonic()
            self.write_stacks(idle)
            self.beat()
        if not self._reported:
            self._report(idle, limit)
        if self.abort and idle > 2 * limit:
            self._leave(idle)

    def write_stacks(self, idle: float) -> None:
        """The stacks of all threads of this process, and its last collectives."""
        with contextlib.suppress(OSError):
            path = stacks_path(self.run_folder, self.rank)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as handle:
                handle.write(
                    f"rank {self.rank} on {self.host}: {idle:.0f} s in {self.clock.phase} of step {self.step + 1}\n\n"
                )
                handle.flush()
                faulthandler.dump_traceback(file=handle, all_threads=True)
                handle.write("\nlast collectives issued by this rank (flight recorder):\n")
                handle.writelines(f"  {line}\n" for line in describe_last() or ["none recorded"])

    def _report(self, idle: float, limit: float) -> None:
        beats = read_heartbeats(self.run_folder, range(self.world_size))
        if reporter(beats) != self.rank:
            return
        missing = find_missing(beats, self.world_size)
        own = next((each for each in missing if each.rank == self.rank), None)
        if missing:
            who = "; ".join(each.in_words() for each in missing[:8])
            message = f"no progress for {idle:.0f} s: the ranks wait for {who}"
            if own is not None and len(missing) == 1 and self.world_size == 1:
                message = f"no progress for {idle:.0f} s in {self.clock.phase} of step {self.step + 1}"
        else:
            message = (
                f"no progress for {idle:.0f} s and all ranks stand in {self.clock.phase} of step {self.step + 1}: "
                "they wait for each other, look at the network"
            )
        action = "abort" if self.abort else "report"
        self.events.write(
            {
                "type": "stall",
                "step": self.step,
                "waited": idle,
                "limit": limit,
                "missing": [vars(each) for each in missing],
                "action": action,
                "message": message,
            }
        )
        print(f"STALL: {message}. Stacks: {stacks_path(self.run_folder, 0).parent}", file=sys.stderr, flush=True)
        self._reported = True

    def _leave(self, idle: float) -> None:
        reason = f"stalled for {idle:.0f} s in {self.clock.phase} of step {self.step + 1} (--stall_action abort)"
        print(f"rank {self.rank} leaves: {reason}", file=sys.stderr, flush=True)
        self.status = "stopped"
        self.events.write({"type": "end", "step": self.step, "status": "stopped", "reason": reason})
        self.events.flush()
        self.beat()
        os._exit(EXIT_STALLED)  # the main thread hangs inside a collective and cannot be asked

    # Stragglers

    def compare(self) -> None:
        """Name ranks that were slow in two comparisons in a row, once while they are; rank 0 does so for all."""
        if self.rank > 0 or self.world_size == 1 or time.monotonic() < self._next_comparison:
            return
        compared = self._by_arrivals() if self.by_arrivals else self._by_phases()
        if compared is None:
            return
        found = {(each.rank, each.phase): each for each in compared}
        self._slow = {key: self._slow.get(key, 0) + 1 for key in found}
        self._said &= set(found)
        for key, each in found.items():
            if self._slow[key] >= IN_A_ROW and key not in self._said:
                self._said.add(key)
                beat = read_heartbeats(self.run_folder, [each.rank]).get(each.rank)
                host = str(beat.content.get("host")) if beat is not None else self.host
                message = f"rank {each.rank} on {host} is {each.ratio - 1:.0%} slower in {each.phase}"
                self.straggler(
                    each.rank, host, each.phase, each.share, f"{message}: {each.seconds:.3g} s a step, {each.share:.0%}"
                )

    def _by_phases(self) -> list[Straggler] | None:
        """Ranks that are slow by the phase times in the heartbeats; None where there is nothing new."""
        beats = read_heartbeats(self.run_folder, range(self.world_size))
        contents = {rank: beat.content for rank, beat in beats.items()}
        ready = [content for content in contents.values() if (content.get("measured") or 0) >= FEWEST]
        least = min((content.get("step") or 0 for content in ready), default=0)
        if len(ready) < self.world_size or least <= self._compared:
            return None
        self._compared = least
        times = {rank: content["phases"] for rank, content in contents.items()}
        scatter = {rank: content.get("scatter") or {} for rank, content in contents.items()}
        return find_stragglers(times, scatter=scatter)

    def _by_arrivals(self) -> list[Straggler] | None:
        """Ranks that are slow by their own work; None where there is nothing new."""
        began = time.monotonic()
        arrivals = read_arrivals(self.run_folder, range(self.world_size))
        for content in arrivals.values():
            content["steps"] = [each for each in content["steps"] if each["step"] > self.settled]
        newest = min((max((each["step"] for each in c["steps"]), default=0) for c in arrivals.values()), default=0)
        if len(arrivals) < self.world_size or newest <= self._compared:
            return None
        own = work(arrivals)
        if min((len(steps) for steps in own.values()), default=0) < FEWEST:
            return None
        self._compared = newest
        share = COMPARED_SHARE * (5 if self.early else 1)
        self._next_comparison = time.monotonic() + (time.monotonic() - began) / share
        return slow_in_work(own, self.clock.median_step or 0.0)

    def window_straggler(self, rank: int, phase: str, share: float, message: str) -> None:
        """A rank that a profiler window found late, named unless the comparison of phases has just named it."""
        if (rank, phase) not in self._said | self._said_of_windows:
            self._said_of_windows.add((rank, phase))
            beats = read_heartbeats(self.run_folder, [rank])
            host = str(beats[rank].content.get("host")) if rank in beats else self.host
            self.straggler(rank, host, phase, share, message)

    def straggler(self, rank: int, host: str, phase: str, share: float, message: str) -> None:
        """Write and say that a rank is slow."""
        print(f"ALERT straggler: {message}", file=sys.stderr, flush=True)
        place = {"step": self.step, "rank": rank, "host": host, "phase": phase}
        alert = {"type": "alert", "kind": "straggler", "severity": "warning", **place}
        self.events.write({**alert, "message": message, "value": share, "limit": None})
