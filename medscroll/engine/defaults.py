"""What the engine chooses where the user said nothing; each choice carries its value, its reason and its flag.

The choices need the model's size, the devices and the data, so they are made after those are known and before the
process group exists. They depend on nothing that differs between ranks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from medscroll.config.training import TrainingArguments


@dataclass(frozen=True)
class Choice:
    """An automatic choice, printed as `flag = value: reason`."""

    flag: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"--{self.flag} {self.value}: {self.reason}"


@dataclass(frozen=True)
class Situation:
    """What the defaults depend on."""

    parameters: int
    on_gpu: bool
    gpu_has_bf16: bool
    from_scratch: bool
    adapter: bool
    has_validation: bool


def fill_defaults(args: TrainingArguments, situation: Situation) -> list[Choice]:
    """Fill every field of `args` that is None in place, and say what was chosen and why."""
    choices = [*_learning_rate(args, situation), *_precision(args, situation)]
    choices += _schedule(args)
    choices += _saving(args)
    if situation.has_validation and not args.eval_on_start:
        args.eval_on_start = True
        choices.append(Choice("eval_on_start", True, "perplexity before and after says what training changed"))
    return choices


def _learning_rate(args: TrainingArguments, situation: Situation) -> list[Choice]:
    if args.learning_rate is not None:
        return []
    billions = situation.parameters / 1e9
    if situation.adapter:
        value, reason = 1e-4, "adapters start at zero and take about ten times the rate of full training"
    elif situation.from_scratch:
        value = 3e-4 if billions < 20 else 1.5e-4
        reason = "random weights; a pretrained model would take 1e-5 to 2e-5"
        if billions < 0.1:
            value, reason = 2e-3, "a very small model with random weights"
    elif billions <= 10:
        value, reason = 2e-5, f"continued pretraining of {billions:.1f} B parameters (1e-5 to 2e-5 by size)"
    elif billions <= 40:
        value, reason = 1.5e-5, f"continued pretraining of {billions:.1f} B parameters (1e-5 to 2e-5 by size)"
    else:
        value, reason = 1e-5, f"continued pretraining of {billions:.1f} B parameters (1e-5 to 2e-5 by size)"
    args.learning_rate = value
    return [Choice("learning_rate", value, reason)]


def _precision(args: TrainingArguments, situation: Situation) -> list[Choice]:
    if args.bf16 is not None:
        return []
    args.bf16 = situation.gpu_has_bf16 and not args.fp16
    if args.fp16:
        return [Choice("bf16", False, "--fp16 is given")]
    if args.bf16:
        return [Choice("bf16", True, "this GPU computes in bfloat16; master weights stay float32")]
    reason = "this GPU has no bfloat16" if situation.on_gpu else "on a CPU float32 is faster and exact"
    return [Choice("bf16", False, reason)]


def _schedule(args: TrainingArguments) -> list[Choice]:
    if isinstance(args.lr_scheduler_kwargs, str):
        args.lr_scheduler_kwargs = json.loads(args.lr_scheduler_kwargs)
    if args.lr_scheduler_kwargs is None and args.lr_scheduler_type == "cosine_with_min_lr":
        args.lr_scheduler_kwargs = {"min_lr_rate": 0.1}
        return [Choice("lr_scheduler_type", "cosine_with_min_lr", "cosine to 10 % of the peak, after --warmup_steps")]
    return []


def _saving(args: TrainingArguments) -> list[Choice]:
    if args.save_steps is not None:
        if args.save_strategy == "no":
            args.save_strategy = "steps"
        args.save_minutes = 0.0
        return []
    args.save_steps = 500  # HF wants a number; read only with --save_strategy steps
    if args.save_strategy != "no":
        args.save_minutes = 0.0
        return []
    if args.save_minutes <= 0:
        return [Choice("save_minutes", 0, "no checkpoints are taken; a kill loses the run")]
    return [Choice("save_minutes", args.save_minutes, f"a checkpoint by time, the last {args.save_total_limit} kept")]
