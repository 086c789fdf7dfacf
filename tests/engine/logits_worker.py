"""Run under `torchrun`: trains as `medscroll pretrain` does, then saves the trained model's logits."""

from __future__ import annotations

import sys

import torch

from medscroll.config.arguments import AdapterArguments, DataArguments, ModelArguments, PackingArguments
from medscroll.config.parse import parse_arguments
from medscroll.config.training import TrainingArguments
from medscroll.planning.process_group import leave
from medscroll.stages.pretrain import pretrain


def main() -> None:
    """`logits_worker LOGITS_FILE [pretrain flags]`."""
    target, *argv = sys.argv[1:]
    classes = (ModelArguments, AdapterArguments, DataArguments, PackingArguments, TrainingArguments)
    trainer = pretrain(*parse_arguments(argv, classes, verb="pretrain"), notes=[])
    row = torch.arange(5, 105)[None]
    positions = torch.arange(100)[None]
    trainer.model_wrapped.eval()
    with torch.no_grad():
        logits = trainer.model_wrapped(input_ids=row, position_ids=positions).logits
    if trainer.args.process_index == 0:
        torch.save(logits, target)
    leave()


if __name__ == "__main__":
    main()
