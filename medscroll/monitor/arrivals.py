"""When each rank came to each collective: what a rank works by itself, told apart from what it waits for others.

Ranks that meet inside a phase all take equally long there, so the phase times of a slow rank are those of all. But
torch notes when a rank enters a collective (the flight recorder), and a collective that blocks lets nobody go before
the last rank has come: a rank's wait is the time from its own arrival to the last one, and its work is what is left.

    arrivals/rank-00000.json   the newest steps of a rank: marks of the phases, arrivals at collectives; rewritten

Only where the host runs the collectives itself (gloo): with NCCL a call returns at once, and profiler windows tell
(`medscroll.monitor.skew`). A collective that some rank has left before the last one came did not block and says
nothing. Clocks of several hosts are aligned by the same rule. Price: one file of some 10 kB a rank and reading;
arrivals come from the reading that counts traffic.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medscroll.monitor.schema import arrivals_path

KEPT_STEPS = 24
MOST_CALLS = 4000  # of all kept steps together
SLACK = 5e-4  # seconds by which clocks and notes of one host may be wrong

Waits = dict[int, dict[int, dict[str, float]]]  # rank -> step -> phase -> seconds


class ArrivalLog:
    """Marks and arrivals of this rank; `step` is called by the training thread, the rest by the monitor's."""

    def __init__(self, run_folder: Path, rank: int, host: str) -> None:
        self.path, self.rank, self.host = arrivals_path(run_folder, rank), rank, host
        self._steps: deque[tuple[int, list[tuple[str, float]]]] = deque(maxlen=KEPT_STEPS)
        self._calls: deque[tuple[str, int, float]] = deque(maxlen=MOST_CALLS)

    def step(self, step: int, marks: list[tuple[str, float]]) -> None:
        """Note a step that has ended: its phases and when each began, Unix seconds; the last mark closes it."""
        self._steps.append((step, marks))

    def arrive(self, calls: Iterable[tuple[str, int, float]]) -> None:
        """Note collectives: group, number within it, Unix seconds."""
        self._calls.extend(calls)

    def write(self, step: int) -> None:
        """Write the steps up to `step`, whose collectives have been noted. A file system that fails costs the file."""
        calls, found = sorted(self._calls, key=lambda call: call[2]), []
        oldest = calls[0][2] if len(calls) == MOST_CALLS else 0.0
        at = 0
        for number, marks in list(self._steps):
            began, ended = marks[0][1], marks[-1][1]
            if began < oldest or number > step:  # its calls were let go, or are not read yet
                continue
            while at < len(calls) and calls[at][2] < began:
                at += 1
            own = []
            while at < len(calls) and calls[at][2] < ended:
                own.append([calls[at][0], calls[at][1], round(calls[at][2], 6)])
                at += 1
            found.append({"step": number, "marks": [[name, round(when, 6)] for name, when in marks], "calls": own})
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
            partial.write_text(json.dumps({"rank": self.rank, "host": self.host, "steps": found}), encoding="utf-8")
            os.replace(partial, self.path)


def read_arrivals(run_folder: Path, ranks: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Rank -> content of its file; ranks whose file is absent or unreadable are left out."""
    found = {}
    for rank in ranks:
        try:
            content = json.loads(arrivals_path(run_folder, rank).read_text("utf-8"))
            content["steps"] = [each for each in content["steps"] if len(each["marks"]) > 1]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        found[rank] = content
    return found


def waits(arrivals: Mapping[int, Mapping[str, Any]]) -> Waits:
    """Seconds that every rank waited for others, by step and phase; steps that not all ranks have are left out.

    Args:
        arrivals: what `read_arrivals` gave, of all ranks of the run.
    """
    if len(arrivals) < 2:
        return {}
    by_step = {rank: {int(each["step"]): each for each in content["steps"]} for rank, content in arrivals.items()}
    common = sorted(set.intersection(*(set(steps) for steps in by_step.values())))
    offsets = clock_offsets(arrivals, by_step, common)
    found: Waits = {rank: {step: {} for step in common} for rank in arrivals}
    for step in common:
        meetings = _meetings({rank: by_step[rank][step] for rank in arrivals}, offsets)
        for met in meetings.values():
            last = max(arrived for arrived, _, _ in met.values())
            if len(met) < 2 or min(left for _, left, _ in met.values()) < last - SLACK:
                continue
            for rank, (arrived, left, phase) in met.items():
                waited = min(last, left) - arrived
                if waited > 0:
                    phases = found[rank][step]
                    phases[phase] = phases.get(phase, 0.0) + waited
    return found


Meeting = dict[int, tuple[float, float, str]]  # rank -> arrived, at something else, in phase


def _meetings(steps: Mapping[int, Mapping[str, Any]], offsets: Mapping[int, float]) -> dict[tuple[str, int], Meeting]:
    """Collective -> who came when, and when that rank was seen at something else, at the latest right after it."""
    found: dict[tuple[str, int], Meeting] = {}
    for rank, step in steps.items():
        offset, marks, calls = offsets.get(rank, 0.0), step["marks"], step["calls"]
        at = 0
        for index, (group, number, arrived) in enumerate(calls):
            while at + 1 < len(marks) and marks[at + 1][1] <= arrived:
                at += 1
            after = [marks[at + 1][1]] if at + 1 < len(marks) else []
            after += [calls[index + 1][2]] if index + 1 < len(calls) else []
            left = min(after, default=arrived)
            found.setdefault((str(group), int(number)), {})[rank] = (arrived - offset, left - offset, str(marks[at][0]))
    return found


def clock_offsets(
    arrivals: Mapping[int, Mapping[str, Any]], by_step: Mapping[int, Mapping[int, Mapping[str, Any]]], common: list[int]
) -> dict[int, float]:
    """Rank -> its clock minus that of the lowest rank, in seconds; ranks of one host share their clock.

    Nobody leaves before the last one has come: each meeting bounds the difference of two clocks from both sides, and
    the middle between the tightest bounds is taken.
    """
    reference = min(arrivals)
    hosts = {rank: str(content.get("host")) for rank, content in arrivals.items()}
    known = {hosts[reference]: 0.0}
    if len(set(hosts.values())) == 1:
        return dict.fromkeys(arrivals, 0.0)
    for rank, host in hosts.items():
        if host in known:
            continue
        least, most = float("-inf"), float("inf")
        for step in common:
            pair = {each: by_step[each][step] for each in (reference, rank)}
            for met in _meetings(pair, {}).values():
                if len(met) == 2:
                    (came, left, _), (other_came, other_left, _) = met[reference], met[rank]
                    least, most = max(least, other_came - left), min(most, other_left - came)
        known[host] = (least + most) / 2 if float("-inf") < least and most < float("inf") else 0.0
    return {rank: known[host] for rank, host in hosts.items()}


def work(arrivals: Mapping[int, Mapping[str, Any]]) -> Waits:
    """The same keys as `waits`: seconds of every phase less what the rank waited for others in it."""
    waited = waits(arrivals)
    found: Waits = {}
    for rank, steps in waited.items():
        taken = {int(each["step"]): phase_seconds(each["marks"]) for each in arrivals[rank]["steps"]}
        found[rank] = {
            step: {phase: max(0.0, seconds - gone.get(phase, 0.0)) for phase, seconds in taken[step].items()}
            for step, gone in steps.items()
        }
    return found


def phase_seconds(marks: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Phase -> seconds between marks; the last mark closes."""
    found: dict[str, float] = {}
    before: tuple[str, float] | None = None
    for name, when in marks:
        if before is not None:
            found[before[0]] = found.get(before[0], 0.0) + when - before[1]
        before = (name, when)
    return found
