"""A training of which one rank is slow in one phase: `medscroll` with hooks that sleep. Run it as a module.

SLOW_PHASE (data, forward, backward, optimizer) takes every rank 0.1 s a step and rank SLOW_RANK 30 % more
(SLOW_FACTOR); `crash` fails in the third step instead, `hang` has rank SLOW_RANK stay in the forward pass of its eighth
step for good, its other threads alive. The hooks are torch's own, and data come late by a collating function that
sleeps; the code under test is untouched.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from medscroll.cli.main import main
from medscroll.engine import trainer

SECONDS = 0.1
FACTOR = float(os.environ.get("SLOW_FACTOR", "1.3"))
STEPS: list[int] = []
COLLATE = trainer.collate_with_counts


def pause(*_: Any) -> None:
    slow = os.environ["RANK"] == os.environ.get("SLOW_RANK")
    time.sleep(SECONDS * (FACTOR if slow else 1.0))


def after_forward(module: torch.nn.Module, _: Any, output: Any) -> None:
    if isinstance(module, torch.nn.Embedding) and module.training:
        if os.environ["SLOW_PHASE"] == "forward":
            pause()
        elif output.requires_grad:
            output.register_hook(pause)  # runs near the end of the backward pass


def hang(module: torch.nn.Module, _: Any, output: Any) -> None:
    if isinstance(module, torch.nn.Embedding) and module.training and os.environ["RANK"] == os.environ["SLOW_RANK"]:
        STEPS.append(1)
        if len(STEPS) == 8:
            time.sleep(3600)


def collate(features: list[dict[str, Any]], **arguments: Any) -> dict[str, Any]:
    pause()
    return COLLATE(features, **arguments)


def crash(*_: Any) -> None:
    STEPS.append(1)
    if len(STEPS) == 3:
        raise RuntimeError("the third step fails\nand says more")


if __name__ == "__main__":
    if os.environ["SLOW_PHASE"] == "crash":
        register_optimizer_step_post_hook(crash)
    elif os.environ["SLOW_PHASE"] == "hang":
        register_module_forward_hook(hang)
    elif os.environ["SLOW_PHASE"] == "data":
        trainer.collate_with_counts = collate
    elif os.environ["SLOW_PHASE"] == "optimizer":
        register_optimizer_step_post_hook(pause)
    else:
        register_module_forward_hook(after_forward)
    sys.exit(main(sys.argv[1:]))
