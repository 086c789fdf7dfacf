"""A training run held against its plan: before the first step, after steps 3 and 20, and when memory runs out.

    before     the plan of exactly this run on exactly these GPUs; what cannot fit even at the plan's error bound is
               refused (`--ignore_plan` goes on), what is within the bound is warned of
    step 3, 20 peak memory and step time against the plan, by the parts that can be told apart; the pair goes into the
               calibration file that later plans read
    no memory  the run ends with the plan's breakdown, the largest part and the smallest change (exit code 2)

On a CPU nothing of this happens. Where the plan of a model cannot be made, that is said and the run goes on: a plan
is help and never a condition. Cost: the plan takes seconds once, in every rank; the checks synchronise the device at
the ends of four steps, and at two of them all ranks reduce three numbers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medscroll.errors import CapacityError
from medscroll.planning.calibration import Pair, add_pair, calibrate, default_file, kind_of, read_pairs
from medscroll.planning.candidate import Candidate, TrainingSetup
from medscroll.planning.cluster import Cluster, cluster_here
from medscroll.planning.page import PARTS, setup_in_words

if TYPE_CHECKING:
    from medscroll.engine.step_record import StepRecord

GIB = 2**30
CHECKED = {3: 1, 20: 10}  # step -> first step of the window whose time counts is the one after
STATES = ("gradients", "optimizer_states")


def breakdown(candidate: Candidate, limit: int) -> str:
    """The plan's memory by part in plain lines, most bytes first, with what each consists of."""
    memory = candidate.memory
    head = f"planned: {memory.total / GIB:.1f} GiB (+-{candidate.error_bound:.0%}) of {limit / GIB:.1f} GiB a GPU"
    lines = [f"{head}, at the peak ({memory.moment}), for {setup_in_words(candidate)}"]
    for part, size in sorted(memory.parts.items(), key=lambda item: -item[1]):
        if size:
            why = memory.why.get(part, "")
            lines.append(f"  {PARTS[part][0]:<32}{size / GIB:8.2f} GiB  {why}".rstrip())
    return "\n".join(lines)


@dataclass
class RunPlan:
    """The plan of a run, or why there is none.

    Attributes:
        candidate: what was predicted; None on a CPU or where no plan can be made.
        cluster: the machines of the run.
        smallest_change: makes the smallest change that fits, in words, when it is needed.
        missing: why there is no plan.
        raw_seconds: of a step as predicted before earlier runs corrected it: what goes into the pair.
    """

    candidate: Candidate | None = None
    cluster: Cluster | None = None
    smallest_change: Callable[[], str] = field(default=lambda: "")
    missing: str = ""
    raw_seconds: float = 0.0

    def judge(self, *, ignore: bool) -> list[str]:
        """Sentences to print before the run.

        Raises:
            CapacityError: it cannot fit even at the error bound, and `ignore` is false.
        """
        if self.missing:
            return [f"NOTE: this run has no plan: {self.missing}"]
        if self.candidate is None or self.cluster is None:
            return []
        item, limit = self.candidate, self.cluster.gpu.memory
        least, most = item.memory.least(item.error_bound), item.memory.most(item.error_bound)
        page = breakdown(item, limit)
        if least > limit and not ignore:
            raise CapacityError(
                f"this run cannot fit into the GPUs: at least {least / GIB:.1f} of {limit / GIB:.1f} GiB\n{page}",
                where=f"largest part: {self._largest()}",
                remedy=f"{self._change()}; --ignore_plan starts it all the same",
            )
        if most > limit:
            word = "will not" if least > limit else "may not"
            change = f"If memory runs out: {self._change()}"
            return [f"WARNING: this run {word} fit into the GPUs.", page, change]
        rate = f"{item.time.tokens_per_second:,.0f} tokens/s, {item.time.step:.2f} s a full step"
        speed = f"; {rate}" if item.time.tokens_per_second else ""
        return [f"Plan: {item.memory.total / GIB:.1f} of {limit / GIB:.1f} GiB a GPU{speed}", *calibration_note(item)]

    def _largest(self) -> str:
        assert self.candidate is not None
        part = self.candidate.memory.largest
        return f"{PARTS[part][0]}, {self.candidate.memory.parts[part] / GIB:.1f} GiB"

    def _change(self) -> str:
        assert self.candidate is not None
        try:
            change = self.candidate.remedy or self.smallest_change()
        except Exception:  # the run has ended already: its reason must not be hidden by another
            change = ""
        return change or "more GPUs, or a smaller --block_size"

    @contextlib.contextmanager
    def explains_out_of_memory(self) -> Iterator[None]:
        """Turns torch's out-of-memory error into the plan's page.

        Raises:
            CapacityError: GPU memory ran out.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            said = str(error).strip().splitlines()[0].split(" If reserved")[0]
            if self.candidate is None or self.cluster is None:
                raise CapacityError(
                    f"GPU memory ran out: {said}",
                    remedy="--block_size or --per_device_train_batch_size down; `medscroll plan` says what fits",
                ) from None
            raise CapacityError(
                f"GPU memory ran out: {said}\n{breakdown(self.candidate, self.cluster.gpu.memory)}",
                where=f"largest part: {self._largest()}",
                remedy=self._change(),
            ) from None


def calibration_note(candidate: Candidate) -> list[str]:
    """The sentences of a candidate that name earlier runs."""
    return [f"  {note}" for note in candidate.notes if note.startswith("calibrated by")]


def plan_run(
    make_setup: Callable[[Cluster], TrainingSetup],
    device: torch.device,
    nodes: int,
    gpus_per_node: int,
    pairs_file: Any,
) -> RunPlan:
    """The plan of a run on the GPUs that it has; an empty one on a CPU.

    Args:
        make_setup: the setup of the run on these machines.
        pairs_file: of `--calibration_file`; None: the default file.
    """
    if device.type != "cuda":
        return RunPlan()
    try:
        from medscroll.planning.search import predict, smallest_change

        cluster = cluster_here(
            torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[1], nodes, gpus_per_node
        )
        setup = make_setup(cluster)
        pairs = read_pairs(pairs_file) if not pairs_file or Path(pairs_file).exists() else []
        raw = predict(setup, cluster)
        candidate = calibrate(raw, cluster, pairs, str(pairs_file or default_file()))
        return RunPlan(candidate, cluster, lambda: smallest_change(setup, cluster), raw_seconds=raw.time.step)
    except Exception as error:  # a plan is help, never a condition of training
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return RunPlan(missing=f"{type(error).__name__}: {first}")


@dataclass(frozen=True)
class Measured:
    """Of the run: bytes of the allocator at the peak, between steps, and of weights; seconds and tokens of a step."""

    step: int
    peak: int
    held: int
    weights: int
    seconds: float
    tokens: float


class Meter:
    """What is measured of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def start(self) -> None:
        """Forget the peak so far: building the model is not training."""
        torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """Most bytes that the allocator had given out."""
        return int(torch.cuda.max_memory_allocated(self.device))

    def held(self) -> int:
        """Bytes that are given out now."""
        return int(torch.cuda.memory_allocated(self.device))

    def now(self) -> float:
        """Seconds, after everything queued on the device has ended."""
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


class PlanCheck(TrainerCallback):
    """Compares peak memory and step time with the plan after steps 3 and 20; every rank has one.

    Args:
        plan: of this run, with a candidate.
        record: what each step consumes, of all ranks.
        calibration_file: where the pair goes; None: the default file.
        meter: of this rank's GPU.
        world_size: ranks; the largest peak and the longest time of all of them count.
    """

    def __init__(
        self, plan: RunPlan, record: StepRecord, calibration_file: str | None, meter: Any, world_size: int
    ) -> None:
        assert plan.candidate is not None
        assert plan.cluster is not None
        self.candidate, self.cluster, self.record = plan.candidate, plan.cluster, record
        self.raw_seconds = plan.raw_seconds
        self.file = Path(calibration_file) if calibration_file else None
        self.meter, self.world_size = meter, world_size
        self.first, self.peak, self.tokens, self.began, self.disturbed = 0, 0, 0.0, 0.0, False
        self.lines: list[str] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Steps are counted from here, also after a resume."""
        self.first, self.peak = state.global_step, 0
        self.meter.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note the peak; at the ends of the windows measure and compare. Every rank enters the reduction."""
        step = state.global_step - self.first
        if step > max(CHECKED):
            return
        self.peak = max(self.peak, self.meter.peak())
        schedule = self.record.schedule
        epoch, inside = divmod(state.global_step - 1, max(1, schedule.steps_per_epoch))
        self.tokens += float(self.record.block_tokens[schedule.blocks_of_step(epoch, inside)].sum())
        if step in CHECKED.values():
            self.began, self.tokens, self.disturbed = self.meter.now(), 0.0, False
        if step in CHECKED:
            seconds = (self.meter.now() - self.began) / (step - CHECKED[step])
            values = torch.tensor([float(self.peak), seconds, float(self.meter.held())], dtype=torch.float64)
            if self.world_size > 1:
                values = values.to(args.device)
                torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MAX)
            peak, seconds, held = values.tolist()
            tokens = self.tokens / (step - CHECKED[step])
            weights = held_weights(kwargs.get("model"))
            if state.is_world_process_zero:
                self._compare(Measured(step, int(peak), int(held), weights, seconds, tokens))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """An evaluation inside a window makes its time useless."""
        self.disturbed = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """So does a checkpoint."""
        self.disturbed = True

    def _compare(self, found: Measured) -> None:
        memory, setup = self.candidate.memory, self.candidate.setup
        planned_states = memory.gradients + memory.optimizer_states
        planned_rest = memory.allocated - memory.weights - planned_states
        parts = (
            ("in all", found.peak, memory.allocated),
            ("weights", found.weights, memory.weights),
            ("gradients, optimizer states", max(0, found.held - found.weights), planned_states),
            ("activations and all else of the peak", max(0, found.peak - found.held), planned_rest),
        )
        self.lines = [
            f"Plan and run after {found.step} steps, GiB of torch's allocator (largest of {self.world_size} ranks):"
        ]
        for name, measured, planned in parts:
            off = f"{measured / planned - 1:+.1%}" if planned else "-"
            self.lines.append(f"  {name:<38}planned {planned / GIB:8.2f}  measured {measured / GIB:8.2f}  {off}")
        # rows are seldom full: what the plan says of full ones is scaled by the tokens that were there
        share = found.tokens / setup.step_tokens if setup.step_tokens else 1.0
        planned_seconds = self.candidate.time.step * share
        timed = planned_seconds > 0 and not self.disturbed
        if timed:
            self.lines.append(
                f"  {'seconds a step':<38}planned {planned_seconds:8.2f}  measured {found.seconds:8.2f}  "
                f"{found.seconds / planned_seconds - 1:+.1%}   ({share:.0%} of the tokens of full rows)"
            )
        pair = Pair(
            gpu=self.cluster.gpu.name,
            kind=kind_of(setup),
            parameters=setup.parameters,
            micro_tokens=setup.micro_tokens,
            predicted_bytes=memory.allocated,
            measured_bytes=found.peak,
            predicted_seconds=self.raw_seconds * share if timed else 0.0,
            measured_seconds=found.seconds if timed else 0.0,
            parts=memory.parts,
            step=found.step,
        )
        try:
            self.lines.append(f"  kept for later plans: {add_pair(pair, self.file)}")
        except OSError as error:
            self.lines.append(f"  not kept for later plans: {error.filename or self.file}: {error.strerror}")
        print("\n".join(self.lines), flush=True)


def held_weights(model: Any) -> int:
    """Bytes of parameters that this rank holds on a GPU; under ZeRO-3 its partition and the persistent ones."""
    total = 0
    for parameter in model.parameters() if model is not None else ():
        part = getattr(parameter, "ds_tensor", None)
        tensors = [parameter.data] if part is None else [part, parameter.data]
        total += sum(item.numel() * item.element_size() for item in tensors if item.device.type == "cuda")
    return total
