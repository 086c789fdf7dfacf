"""Who is slow, and in which phase, from the phase times of all ranks.

Ranks wait for each other, so a slow rank makes the others' later phases long: whoever waits must not be taken for
slow. Phases are therefore walked in the order of the step. The lateness of a rank after a phase is its time since the
step began minus that of the reference rank (the lower median, so with two ranks the faster one); a phase is charged
with the lateness that it adds. A rank that waits only catches up: its lateness stays zero.

Where ranks wait inside a phase (a collective in every layer), all of them take equally long there and phase times
cannot tell. What tells then is each rank's own work: without GPUs from its arrivals at collectives
(`medscroll.monitor.arrivals`), compared step by step by `slow_in_work`; on GPUs from profiler windows
(`medscroll.monitor.skew`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from medscroll.monitor.schema import PHASES

COMPARED = tuple(phase for phase in PHASES if phase not in ("checkpoint", "evaluation", "other"))
THRESHOLD = 0.1
LEAST_SHARE = 0.02
LEAST_SECONDS = 2e-3
CERTAIN = 2.0  # standard errors by which a lateness must exceed the scatter of the steps
FEWEST, OFTEN = 5, 0.75  # steps that a comparison needs, and the share of them in which a slow rank is late


@dataclass(frozen=True)
class Straggler:
    """A slow rank.

    Attributes:
        rank, phase: who, and where.
        seconds: lateness that it adds a step in this phase.
        ratio: its time in the phase relative to that of the reference; 1.3 is 30 % slower.
        share: `seconds` as a share of the step.
    """

    rank: int
    phase: str
    seconds: float
    ratio: float
    share: float


def lateness(times: Mapping[int, Mapping[str, float]]) -> dict[int, dict[str, float]]:
    """rank -> phase -> seconds of lateness that the phase adds; `times` are seconds a phase of the same steps."""
    reached = dict.fromkeys(times, 0.0)
    before = dict.fromkeys(times, 0.0)
    added: dict[int, dict[str, float]] = {rank: {} for rank in times}
    for phase in COMPARED:
        for rank, phases in times.items():
            reached[rank] += float(phases.get(phase) or 0.0)
        reference = _lower_median(reached.values())
        for rank in times:
            late = max(0.0, reached[rank] - reference)
            added[rank][phase] = max(0.0, late - before[rank])
            before[rank] = late
    return added


def scores(times: Mapping[int, Mapping[str, float]]) -> dict[int, dict[str, float]]:
    """rank -> phase -> speed relative to the reference, 1 as fast as it, 0.77 for 30 % slower; waiting is not slow."""
    added = lateness(times)
    found: dict[int, dict[str, float]] = {}
    for rank, phases in times.items():
        found[rank] = {}
        for phase in COMPARED:
            own = float(phases.get(phase) or 0.0)
            found[rank][phase] = 1.0 if own <= 0 else max(0.0, min(1.0, (own - added[rank][phase]) / own))
    return found


def find_stragglers(
    times: Mapping[int, Mapping[str, float]],
    threshold: float = THRESHOLD,
    least_share: float = LEAST_SHARE,
    scatter: Mapping[int, Mapping[str, float]] | None = None,
) -> list[Straggler]:
    """Ranks that are at least `threshold` slower than the reference in a phase, and cost `least_share` of the step.

    Args:
        times: rank -> phase -> mean seconds over the same steps, some ten of them; see `mean_phases`.
        threshold: 0.1 is 10 %.
        least_share: the least share of the step that the lateness must make up.
        scatter: rank -> phase -> standard error of those seconds; what lies within it names nobody.

    Returns:
        The slowest first.
    """
    if len(times) < 2:
        return []
    step = _lower_median(sum(float(phases.get(phase) or 0.0) for phase in COMPARED) for phases in times.values())
    found = []
    errors = scatter or {}
    usual = {phase: _lower_median([each.get(phase) or 0.0 for each in errors.values()] or [0.0]) for phase in COMPARED}
    for rank, phases in lateness(times).items():
        for phase, seconds in phases.items():
            error = math.hypot(errors.get(rank, {}).get(phase) or 0.0, usual[phase])
            own = float(times[rank].get(phase) or 0.0)
            base = own - seconds
            ratio = own / base if base > 0 else float("inf")
            sure = seconds > max(LEAST_SECONDS, CERTAIN * error)
            slow = sure and seconds > least_share * step and ratio > 1 + threshold
            if slow:
                found.append(Straggler(rank, phase, seconds, ratio, seconds / step if step > 0 else 0.0))
    return sorted(found, key=lambda straggler: -straggler.seconds)


def work_lateness(work: Mapping[int, Mapping[int, Mapping[str, float]]]) -> dict[int, dict[str, list[float]]]:
    """rank -> phase -> for each step that all ranks have, the rank's seconds less those of the lower median rank.

    Pairing over ranks within a step removes what all steps of all ranks share: long documents, a busy machine.
    """
    common = sorted(set.intersection(*(set(steps) for steps in work.values()))) if work else []
    found: dict[int, dict[str, list[float]]] = {rank: {phase: [] for phase in COMPARED} for rank in work}
    for step in common:
        for phase in COMPARED:
            taken = {rank: float(steps[step].get(phase) or 0.0) for rank, steps in work.items()}
            reference = _lower_median(taken.values())
            for rank, seconds in taken.items():
                found[rank][phase].append(seconds - reference)
    return found


def slow_in_work(
    work: Mapping[int, Mapping[int, Mapping[str, float]]],
    step_seconds: float,
    threshold: float = THRESHOLD,
    least_share: float = LEAST_SHARE,
) -> list[Straggler]:
    """Ranks whose own work in a phase is at least `threshold` more than the reference's; the slowest first.

    Args:
        work: rank -> step -> phase -> seconds without waits (`medscroll.monitor.arrivals.work`).
        step_seconds: a usual step, of which the lateness must make up `least_share`.
        threshold, least_share: as for `find_stragglers`.

    The median over the steps counts, it must exceed its scatter, and the rank must be later in three steps of four.
    """
    found = []
    for rank, phases in work_lateness(work).items():
        for phase, late in phases.items():
            if len(late) < FEWEST:
                continue
            middle = median(late)
            error = 1.858 * median(abs(each - middle) for each in late) / math.sqrt(len(late))
            own = median(float(steps.get(phase) or 0.0) for steps in list(work[rank].values())[-len(late) :])
            base = max(own - middle, 1e-9)
            often = sum(each > 0.5 * threshold * base for each in late) / len(late)
            sure = middle > max(LEAST_SECONDS, CERTAIN * error) and often >= OFTEN
            if sure and middle > threshold * base and middle > least_share * step_seconds:
                found.append(Straggler(rank, phase, middle, own / base, middle / max(step_seconds, 1e-9)))
    return sorted(found, key=lambda straggler: -straggler.seconds)


def mean_phases(steps: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Median seconds a phase over step events of one rank: an outlier does not make a straggler."""
    return {phase: median(values) for phase, values in _seconds(steps).items()}


def phase_scatter(steps: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Standard error of `mean_phases`, from the median deviation: 1.2533 x 1.4826 x MAD / sqrt(steps)."""
    found = {}
    for phase, values in _seconds(steps).items():
        middle = median(values)
        found[phase] = 1.858 * median(abs(value - middle) for value in values) / math.sqrt(len(values))
    return found


def _seconds(steps: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for event in steps:
        phases = event.get("phases")
        for phase, seconds in phases.items() if isinstance(phases, dict) else ():
            if isinstance(seconds, int | float):
                found.setdefault(phase, []).append(float(seconds))
    return found


def _lower_median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]
