"""`medscroll pretrain`: continued pretraining of any causal language model on whole documents."""

from __future__ import annotations

SUMMARY = "train a language model on whole documents, on one process or on many (torchrun)"


def main(argv: list[str]) -> int:
    """Parse the flags and train; exit code 0 when the model is saved."""
    from medscroll.config.arguments import AdapterArguments, DataArguments, ModelArguments, PackingArguments
    from medscroll.config.medicalgpt import MEDICALGPT_ALIASES
    from medscroll.config.parse import parse_arguments
    from medscroll.config.training import TrainingArguments

    classes = (ModelArguments, AdapterArguments, DataArguments, PackingArguments, TrainingArguments)
    parsed = parse_arguments(argv, classes, verb="pretrain", aliases=MEDICALGPT_ALIASES)
    model_args, adapters, data_args, packing, training = parsed

    from medscroll.planning.process_group import leave
    from medscroll.stages.pretrain import pretrain

    pretrain(model_args, adapters, data_args, packing, training, notes=list(parsed.notes))
    leave()
    return 0
