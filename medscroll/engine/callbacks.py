"""Callbacks: the progress line, the event of each step, and checkpoints by time.

    on_step_end   every rank notes the step; with --save_minutes, rank 0's clock decides for all (one broadcast of a
                  flag at logged steps, where the Trainer synchronises anyway)
    on_log        every rank appends its event; rank 0 prints the line

Nothing here adds a device synchronisation to a step that is not logged.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medscroll.engine.evaluation import positions_in_words
from medscroll.engine.monitoring import RunMonitor, piece_summary
from medscroll.engine.phases import StepTime
from medscroll.engine.run_folder import EventLog, environment
from medscroll.engine.step_record import StepRecord
from medscroll.engine.timeouts import use_timeout

if TYPE_CHECKING:
    from medscroll.planning.compute import ModelFlops


def duration(seconds: float) -> str:
    """`seconds` as 1d02h, 2h05m, 3m07s or 4s."""
    seconds = int(seconds)
    if seconds >= 86400:
        return f"{seconds // 86400}d{seconds % 86400 // 3600:02d}h"
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


def peak_memory_gib(device: torch.device) -> tuple[float, str]:
    """Peak memory of this process in GiB, and where: allocated on the GPU, or resident on the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30, "GPU"
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "host"


class Progress(TrainerCallback):
    """One line a logged step on rank 0, one event a step on every rank.

    Args:
        record: what this rank and all ranks have consumed, filled by the Trainer.
        flops: model FLOPs per token and squared token.
        recomputed: FLOPs that the backward pass repeats besides; HFU counts them.
        peak: the GPU's peak in FLOP/s; None shows MFU as n/a.
        events: this rank's event log.
        world_size: number of ranks.
        monitor: this rank's monitor; None with `--monitor_run false`.
    """

    def __init__(
        self,
        record: StepRecord,
        flops: ModelFlops,
        peak: float | None,
        events: EventLog,
        world_size: int,
        *,
        recomputed: ModelFlops,
        monitor: RunMonitor | None = None,
    ) -> None:
        self.monitor, self.recomputed = monitor, recomputed
        self.timing: StepTime | None = None
        self.record, self.flops, self.peak = record, flops, peak
        self.events, self.world_size = events, world_size
        self.last_time = 0.0
        self.seconds_per_step: float | None = None
        self.last_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.last_time, self.last_step = time.perf_counter(), state.global_step
        self.record.start_window()
        use_timeout(args.ddp_timeout)  # also of the groups that DeepSpeed has opened by now
        if self.monitor is not None:
            per_epoch = self.record.schedule.steps_per_epoch
            versions = environment()["packages"]
            self.monitor.begin(state.global_step, state.max_steps, per_epoch, self.peak, versions)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What follows is saving: not a slow step."""
        if self.monitor is not None:
            self.monitor.clock.mark("checkpoint")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the event of a step that is not logged; logged ones are written with their loss."""
        self.record.finish_step()
        self.timing = self.monitor.step_end(state.global_step) if self.monitor is not None else None
        if not control.should_log:
            self._write({"type": "step", "step": state.global_step, **self.record.last_step}, state)

    def _write(self, event: dict[str, Any], state: TrainerState) -> None:
        """Write the event of a step, through the monitor where there is one."""
        event["epoch"] = state.epoch
        if self.monitor is None or self.timing is None:
            self.events.write(event)
            return
        event["pieces"] = piece_summary(self.record.schedule.dataset.plan, event["blocks"])
        self.monitor.emit(event, self.timing)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Print and write a training log or an evaluation (`logs` in `kwargs`)."""
        logs: dict[str, float] = kwargs.get("logs") or {}
        if "eval_loss" in logs:
            self._evaluation(state, logs)
        elif "loss" in logs:
            self._training(args, state, logs)

    def _evaluation(self, state: TrainerState, logs: dict[str, float]) -> None:
        ranges = self.record.loss_by_position
        self.events.write({"type": "evaluation", "step": state.global_step, **logs, "loss_by_position": ranges})
        if state.is_world_process_zero:
            print(
                f"validation at step {state.global_step}: loss {logs['eval_loss']:.4f}  "
                f"perplexity {logs['eval_perplexity']:.2f} per token, {logs['eval_byte_perplexity']:.3f} per byte  "
                f"({logs['eval_targets']:,.0f} targets, {logs['eval_bytes']:,.0f} bytes)\n"
                f"  {positions_in_words(ranges)}",
                flush=True,
            )
        self.last_time = time.perf_counter()  # evaluation is not training time
        self.record.start_window()

    def _training(self, args: TrainingArguments, state: TrainerState, logs: dict[str, float]) -> None:
        now = time.perf_counter()
        seconds = max(now - self.last_time, 1e-9)
        steps = max(state.global_step - self.last_step, 1)
        tokens, squares = self.record.window_global
        rate = tokens / seconds
        available = seconds * self.peak * self.world_size if self.peak else None
        needed, again = self.flops.of(tokens, squares), self.recomputed.of(tokens, squares)
        mfu = needed / available if available else None
        step_time = seconds / steps
        smooth = step_time if self.seconds_per_step is None else 0.7 * self.seconds_per_step + 0.3 * step_time
        self.seconds_per_step = smooth
        memory, where = peak_memory_gib(args.device)
        event = {
            "type": "step",
            "step": state.global_step,
            **self.record.last_step,
            "loss": logs["loss"],
            "grad_norm": logs.get("grad_norm"),
            "learning_rate": logs.get("learning_rate"),
            "seconds": seconds / steps,
            "tokens_per_second": rate,
            "mfu": mfu,
            "hfu": (needed + again) / available if available else None,
            "peak_memory_gib": memory,
        }
        self._write(event, state)
        if state.is_world_process_zero:
            share = f"{mfu:.1%}" if mfu is not None else "n/a"
            norm = logs.get("grad_norm")
            print(
                f"step {state.global_step}/{state.max_steps}  epoch {state.epoch or 0:.2f}  loss {logs['loss']:.4f}  "
                f"lr {logs.get('learning_rate', 0):.2e}  grad_norm {'n/a' if norm is None else f'{norm:.3f}'}  "
                f"{rate:,.0f} tokens/s  MFU {share}  peak {memory:.1f} GiB {where}  "
                f"ETA {duration(smooth * (state.max_steps - state.global_step))}",
                flush=True,
            )
            if logs["loss"] != logs["loss"] or abs(logs["loss"]) == float("inf"):
                print(f"WARNING: the loss of step {state.global_step} is not finite", flush=True)
        self.last_time, self.last_step = now, state.global_step
        self.record.start_window()


class TimedCheckpoint(TrainerCallback):
    """A checkpoint at the first logged step after every `minutes`; all ranks follow rank 0's clock."""

    def __init__(self, minutes: float, world_size: int) -> None:
        self.seconds, self.world_size = minutes * 60, world_size
        self.since = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for a checkpoint where it is time; every rank enters the broadcast."""
        if self.seconds <= 0 or not control.should_log or state.global_step >= state.max_steps:
            return control
        due = torch.tensor([float(time.monotonic() - self.since >= self.seconds)], device=args.device)
        if self.world_size > 1:
            torch.distributed.broadcast(due, src=0)
        if due.item() > 0:
            control.should_save = True
            self.since = time.monotonic()
        return control
