"""Flags of transformers' `TrainingArguments`, former and present, that mean something else here or nothing.

The former ones (removed by transformers 5) still stand in people's scripts; the present ones would be read by nothing,
because the order of data, the evaluation and the sharding are medscroll's. Each is translated or refused by name.
"""

from __future__ import annotations

from medscroll.config.aliases import Alias, Aliases, Refused, to
from medscroll.config.fields import FALSE_WORDS, TRUE_WORDS


def boolean(text: str) -> str:
    """`true` or `false` for any spelling of a boolean; ValueError for anything else."""
    word = text.strip().lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError(f"expects true or false, not {text!r}")
    return "true" if word in TRUE_WORDS else "false"


def off(reason: str, instead: str) -> Refused:
    """A boolean that cannot be turned on here."""
    return Refused(reason, instead, FALSE_WORDS, boolean=True)


def always(reason: str, instead: str) -> Refused:
    """A boolean that cannot be turned off here."""
    return Refused(reason, instead, TRUE_WORDS, boolean=True)


_ORDER = "the order of blocks is the plan's, balanced over ranks and the same at any number of them"
_EVALUATION = "evaluation sums the losses of all tokens over all ranks and gathers nothing else"
_PADDING = "a row holds whole documents without padding, so lengths need no grouping"
_TENSORBOARD = "TensorBoard's files go where its environment variable says"
_SHARDING = "sharding is DeepSpeed's here"
_ADAM = "half-precision engines other than torch's own are gone from transformers"

HUGGING_FACE_ALIASES: Aliases = {
    # former names
    "evaluation_strategy": Alias(to("eval_strategy"), "transformers calls it --eval_strategy now"),
    "warmup_ratio": Alias(to("warmup_steps"), "transformers takes the share in --warmup_steps now"),
    "no_cuda": Alias(to("use_cpu", boolean), boolean=True),
    "per_gpu_train_batch_size": Alias(to("per_device_train_batch_size"), "now --per_device_train_batch_size"),
    "per_gpu_eval_batch_size": Alias(to("per_device_eval_batch_size"), "now --per_device_eval_batch_size"),
    "adafactor": Alias(
        lambda text: {"optim": "adafactor"} if boolean(text) == "true" else {}, "now --optim adafactor", boolean=True
    ),
    "activation_checkpointing": Alias(to("gradient_checkpointing", boolean), boolean=True),
    "activation_checkpointing_kwargs": Alias(to("gradient_checkpointing_kwargs")),
    "use_liger_kernel": Alias(to("use_liger", boolean), boolean=True),
    # former flags without a successor
    "logging_dir": Refused(_TENSORBOARD, "TENSORBOARD_LOGGING_DIR=DIR in the environment"),
    "overwrite_output_dir": Refused(
        "an output folder that holds another run is never overwritten, but refused",
        "an empty --output_dir, or --resume_from_checkpoint true",
        frozenset({"*"}),
        boolean=True,
    ),
    "save_safetensors": always("weights are always saved as safetensors", "leave it out"),
    "fp16_opt_level": Refused(_ADAM, "--fp16 or --bf16"),
    "fp16_backend": Refused(_ADAM, "--fp16 or --bf16", frozenset({"auto"})),
    "half_precision_backend": Refused(_ADAM, "--fp16 or --bf16", frozenset({"auto"})),
    "sharded_ddp": Refused(_SHARDING, "--deepspeed zero2 or zero3"),
    "include_tokens_per_second": always("tokens/s stand in every progress line", "leave it out"),
    # present flags that nothing would read
    "do_train": always("pretrain always trains", "leave the verb out of the script to skip training"),
    "do_predict": off("pretrain predicts nothing", "medscroll chat RUN"),
    "train_sampling_strategy": Refused(_ORDER, "leave it out; --seed changes the order"),
    "length_column_name": Refused(_PADDING, "leave it out"),
    "data_seed": Refused(_ORDER, "--seed"),
    "dataloader_drop_last": off("no block is dropped; the last step is filled up with empty rows", "leave it out"),
    "dataloader_persistent_workers": off("workers would keep the order of the first epoch", "leave it out"),
    "dataloader_multiprocessing_context": Refused("workers only read mapped files", "leave it out"),
    "dataloader_in_order": always(_ORDER, "leave it out"),
    "ignore_data_skip": off("a resumed run goes on exactly at the next block", "leave it out"),
    "auto_find_batch_size": off("the batch would change under the plan", "set the batch yourself"),
    "average_tokens_across_devices": always("the loss is normalised by the targets of all ranks", "leave it out"),
    "remove_unused_columns": off("a block carries only what the model takes", "leave it out"),
    "label_names": Refused("labels are made by packing", "leave it out"),
    "prediction_loss_only": always(_EVALUATION, "leave it out"),
    "eval_accumulation_steps": Refused(_EVALUATION, "leave it out"),
    "eval_do_concat_batches": always(_EVALUATION, "leave it out"),
    "eval_use_gather_object": off(_EVALUATION, "leave it out"),
    "include_for_metrics": Refused(_EVALUATION, "leave it out"),
    "batch_eval_metrics": off(_EVALUATION, "leave it out"),
    "fsdp": Refused(_SHARDING, "--deepspeed zero3", frozenset({""})),
    "fsdp_config": Refused(_SHARDING, "--deepspeed zero3"),
}
