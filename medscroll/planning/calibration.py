"""Pairs of predicted and measured, kept on this machine, and what later plans make of them.

    ~/.cache/medscroll/calibration.jsonl ($XDG_CACHE_HOME, or --calibration_file): one JSON object a line, appended by
    training runs on a GPU (`medscroll.engine.plan_check`): the GPU, what matters of the setup, predicted and measured
    bytes of torch's allocator and seconds a step.

A later plan takes the pairs of the same GPU, engine, stage and kind of training (all parameters, LoRA, QLoRA). Memory:
predictions are raised by the largest ratio seen (a plan should never be under), and lowered by the median only once
three runs agree that it is too high. Time: the median ratio. Both are bounded, and every plan that uses pairs says so.
The file holds no paths, no data and no names of models; nothing leaves the machine.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medscroll.errors import ConfigError
from medscroll.planning.candidate import Candidate, TrainingSetup
from medscroll.planning.cluster import Cluster

LEAST, MOST = 0.7, 1.5  # ratios outside come from another cause than the model of the plan
AGREEING = 3


@dataclass(frozen=True)
class Pair:
    """One run: predicted and measured.

    Attributes:
        gpu: name in the catalogue of GPUs.
        kind: see `kind_of`.
        parameters: of the model.
        micro_tokens: tokens a GPU held in a micro step.
        predicted_bytes, measured_bytes: peak of torch's allocator.
        predicted_seconds, measured_seconds: of an optimizer step.
        parts: predicted bytes by part.
        step: the optimizer step that it was measured at.
    """

    gpu: str
    kind: str
    parameters: int
    micro_tokens: int
    predicted_bytes: int
    measured_bytes: int
    predicted_seconds: float
    measured_seconds: float
    parts: dict[str, int]
    step: int


def default_file() -> Path:
    """Where pairs are kept: `$XDG_CACHE_HOME/medscroll/calibration.jsonl`, else below ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "medscroll" / "calibration.jsonl"


def kind_of(setup: TrainingSetup) -> str:
    """What pairs must agree in to be compared: engine, stage, offload, what is trained, one node or several."""
    engine = f"zero{setup.zero_stage}" if setup.engine == "deepspeed" and setup.zero_stage else "trainer"
    offload = "+optimizer" * setup.offload_optimizer + "+weights" * setup.offload_parameters
    trained = "qlora" if setup.lora_rank and setup.quantized_bits else "lora" if setup.lora_rank else "full"
    return f"{engine}{offload}/{trained}/{setup.weight_dtype}/{'nodes' if setup.nodes > 1 else 'node'}"


def add_pair(pair: Pair, path: Path | None = None) -> Path:
    """Append a pair; a single write of one line. Returns the file.

    Raises:
        OSError: the file cannot be written; the caller says so and goes on.
    """
    path = path or default_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(dataclasses.asdict(pair)) + "\n")
    return path


def read_pairs(path: str | Path | None = None) -> list[Pair]:
    """The pairs of a file; none where the default file does not exist.

    Raises:
        ConfigError: a file that was named does not exist, or a line is none of ours.
    """
    file = Path(path) if path else default_file()
    if not file.is_file():
        if path:
            raise ConfigError("there is no such calibration file", f"--calibration_file {file}")
        return []
    pairs = []
    names = {field.name for field in dataclasses.fields(Pair)}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            content: dict[str, Any] = json.loads(line)
            pair = Pair(**{name: content[name] for name in names})
            if not (pair.predicted_bytes > 0 and pair.measured_bytes > 0):
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise ConfigError(
                "this line is no pair of a plan and a run", f"{file}:{number}", "remove the line, or the file"
            ) from None
        pairs.append(pair)
    return pairs


def last_of_each_run(pairs: Sequence[Pair]) -> list[Pair]:
    """Of consecutive pairs of one run (steps 3 and 20 of the same setup) only the later."""
    kept: list[Pair] = []
    for pair in pairs:
        same = kept and _identity(kept[-1]) == _identity(pair)
        if same and kept[-1].step < pair.step:
            kept.pop()
        kept.append(pair)
    return kept


def _identity(pair: Pair) -> Pair:
    return dataclasses.replace(pair, step=0, measured_bytes=1, measured_seconds=0.0, predicted_seconds=0.0)


def ratios(pairs: Sequence[Pair], setup: TrainingSetup, gpu: str) -> tuple[float, float, int]:
    """Factors of memory and time for a setup, and the number of runs behind them; (1, 1, 0) without any."""
    own = [pair for pair in last_of_each_run(pairs) if pair.gpu == gpu and pair.kind == kind_of(setup)]
    memory = [pair.measured_bytes / pair.predicted_bytes for pair in own]
    time = [pair.measured_seconds / pair.predicted_seconds for pair in own if pair.predicted_seconds > 0]
    memory = [ratio for ratio in memory if LEAST <= ratio <= MOST]
    time = [ratio for ratio in time if ratio > 0]
    if not memory:
        return 1.0, 1.0, 0
    highest = max(memory)
    factor = highest if highest > 1 else statistics.median(memory) if len(memory) >= AGREEING else 1.0
    speed = min(max(statistics.median(time), LEAST), MOST) if time else 1.0
    return factor, speed, len(memory)


def calibrate(candidate: Candidate, cluster: Cluster, pairs: Sequence[Pair], source: str) -> Candidate:
    """The candidate with memory and time as earlier runs on this GPU correct them; the same where there are none.

    Args:
        source: the file's name, for the note.
    """
    factor, speed, runs = ratios(pairs, candidate.setup, cluster.gpu.name)
    if not runs:
        return candidate
    memory, time = candidate.memory, candidate.time
    extra = round((factor - 1) * memory.allocated)
    slack = max(0, memory.allocator_slack + extra)
    why = {**memory.why, "allocator_slack": f"as fitted, {extra / 2**30:+.2f} GiB from {runs} earlier runs here"}
    memory = dataclasses.replace(memory, allocator_slack=slack, why=why)
    step = time.step
    time = dataclasses.replace(
        time,
        overhead=time.overhead + (speed - 1) * step,
        tokens_per_second=time.tokens_per_second / speed,
        mfu=time.mfu / speed,
    )
    fits = candidate.fits and memory.total <= cluster.gpu.memory
    reason = candidate.reason
    if candidate.fits and not fits:
        need, have = memory.total / 2**30, cluster.gpu.memory / 2**30
        reason = f"needs {need:.1f} GiB of {have:.1f}, as earlier runs here correct the plan"
    note = (
        f"calibrated by {runs} earlier runs on this kind of GPU ({source}): memory x {factor:.3f}, time x {speed:.3f}"
    )
    return dataclasses.replace(
        candidate,
        memory=memory,
        time=time,
        fits=fits,
        reason=reason,
        days=candidate.days * speed if candidate.days is not None else None,
        cost=candidate.cost * speed if candidate.cost is not None else None,
        notes=(*candidate.notes, note),
    )
