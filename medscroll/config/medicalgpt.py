"""Every flag of MedicalGPT's pretraining script, present and former: the same here, spelt differently, or refused.

Read off shibing624/MedicalGPT (scripts/run_pt.sh and training/pretraining.py at 2f1008c, and run_pt.sh since 2023-06).
A user who moves takes the command along; what would silently mean something else is named.
"""

from __future__ import annotations

from medscroll.config.aliases import Alias, Aliases, Refused, Same, to
from medscroll.config.fields import FALSE_WORDS
from medscroll.config.hugging_face import HUGGING_FACE_ALIASES, always, boolean, off


def _percentage(text: str) -> str:
    try:
        share = float(text) / 100
    except ValueError:
        raise ValueError(f"expects a number of percent, not {text!r}") from None
    return repr(share)


def _dtype(text: str) -> dict[str, str]:
    return {} if text.lower() in ("none", "auto") else {"dtype": text}


def _packing(text: str) -> dict[str, str]:
    """Both values pack documents whole: with the document mask each is computed as though alone in its row."""
    boolean(text)
    return {"group_by_text": "true"}


def _kbits(text: str) -> dict[str, str]:
    names = {"4": {"load_in_4bit": "true"}, "8": {"load_in_8bit": "true"}, "16": {}, "32": {}}
    if text not in names:
        raise ValueError(f"expects 4, 8, 16 or 32, not {text!r}")
    return names[text]


_SAME = (
    "model_name_or_path",
    "tokenizer_name_or_path",
    "load_in_8bit",
    "load_in_4bit",
    "cache_dir",
    "model_revision",
    "train_file_dir",
    "validation_file_dir",
    "preprocessing_num_workers",
    "target_modules",
    "lora_alpha",
    "modules_to_save",
    "peft_path",
    "qlora",
    "group_by_text",
    "deepspeed",
    "output_dir",
    "seed",
    "learning_rate",
    "weight_decay",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "logging_strategy",
    "logging_steps",
    "logging_first_step",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "eval_strategy",
    "eval_steps",
    "warmup_steps",
    "bf16",
    "fp16",
    "report_to",
    "ddp_timeout",
    "ddp_find_unused_parameters",
    "gradient_checkpointing",
    "do_eval",
)
_HUB_DATA = "datasets of the hub are not downloaded by a training job"
_LOCAL_DATA = "save it as JSONL or Parquet and name its folder with --train_file_dir"
_GENERATION = "a flag of sequence-to-sequence training; pretrain generates nothing"
_KERNEL = "the attention backend is named by one flag"

MEDICALGPT_ALIASES: Aliases = {
    **HUGGING_FACE_ALIASES,
    **dict.fromkeys(_SAME, Same()),
    "max_train_samples": Same("a sample is a row of block_size tokens there and a block here"),
    "max_eval_samples": Same("a sample is a row of block_size tokens there and a block here"),
    "block_size": Same(
        "there: rows of exactly this length, default 1024; here: the most tokens in a row, default the "
        "model's number of positions, and nothing is lost"
    ),
    "use_peft": Same("on there, off here: run_pt.sh names it"),
    "lora_rank": Same("default there 8, here 16"),
    "lora_dropout": Same("default there 0.05, here 0"),
    "trust_remote_code": Same("on there, off here: pass --trust_remote_code where the model needs its own code"),
    "packing": Alias(
        _packing,
        "several documents share a row, each kept whole and attended to alone (--group_by_text true). There, true "
        "joins them and cuts every block_size tokens (here: --group_by_text false); false pads each to block_size and "
        "cuts off the rest (here: --overlong truncate)",
        boolean=True,
    ),
    "group_by_length": Alias(
        to("group_by_text", boolean),
        "read as --group_by_text, which it switched in MedicalGPT's pretraining of 2024",
        boolean=True,
    ),
    "torch_dtype": Alias(_dtype),
    "load_in_kbits": Alias(_kbits, "now --load_in_4bit or --load_in_8bit"),
    "validation_split_percentage": Alias(to("validation_fraction", _percentage)),
    "model_type": Refused("the model's own configuration says its type", "leave it out", frozenset({"*"})),
    "use_fast_tokenizer": always("the fast tokenizer is used: cuts need its offsets", "leave it out"),
    "keep_linebreaks": always(
        "line breaks are kept; a .txt file is one document, not one a line",
        'for one document a line write JSONL: {"text": ...}',
    ),
    "device_map": Refused(
        "the model lies on this rank's device, or is sharded by DeepSpeed",
        "several GPUs: torchrun --nproc_per_node N with --deepspeed zero3",
        frozenset({"auto", "none"}),
    ),
    "streaming": off(
        "raw texts are tokenized once, in bounded memory, whatever their size",
        "medscroll prepare SRC --output_dir DATA ..., then --data_dir DATA",
    ),
    "overwrite_cache": off(
        "prepared data is found by the hash of its content, so it is never stale",
        "leave it out, or another --prepared_dir",
    ),
    "dataset_name": Refused(_HUB_DATA, _LOCAL_DATA),
    "dataset_config_name": Refused(_HUB_DATA, _LOCAL_DATA),
    "hf_hub_token": Refused("a token on the command line is seen by every user of the machine", "hf auth login"),
    "deepspeed_plugin": Refused("DeepSpeed is named by one flag", "--deepspeed zero2, zero3 or a JSON file"),
    "use_flash_attention_2": Refused(_KERNEL, "--attn_backend flash_attention_2", FALSE_WORDS, boolean=True),
    "flash_attn": Refused(_KERNEL, "--attn_backend auto", FALSE_WORDS, boolean=True),
    "shift_attn": off("documents of any length are divided with context, attention is not shifted", "leave it out"),
    "sortish_sampler": off(_GENERATION, "leave it out"),
    "predict_with_generate": off(_GENERATION, "medscroll chat RUN"),
    "generation_max_length": Refused(_GENERATION, "medscroll chat RUN --max_new_tokens N"),
    "generation_num_beams": Refused(_GENERATION, "medscroll chat RUN"),
    "generation_config": Refused(_GENERATION, "medscroll chat RUN"),
}
