"""Every flag of MedicalGPT's pretraining script, present and former: the same here, spelt differently, or refused.

Read off shibing624/MedicalGPT (scripts/run_pt.sh and training/pretraining.py at 2f1008c, and run_pt.sh since 2023-06).
A user who moves takes the command along; what would silently mean something else is named.
"""

from __future__ import annotations

from medscroll.config.aliases import Alias, Aliases, Refused, Same, to
from medscroll.config.fields import FALSE_WORDS, TRUE_WORDS


def _boolean(text: str) -> str:
    word = text.strip().lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError(f"expects true or false, not {text!r}")
    return "true" if word in TRUE_WORDS else "false"


def _percentage(text: str) -> str:
    try:
        share = float(text) / 100
    except ValueError:
        raise ValueError(f"expects a number of percent, not {text!r}") from None
    return repr(share)


def _dtype(text: str) -> dict[str, str]:
    return {} if text.lower() in ("none", "auto") else {"dtype": text}


_EPOCHS = "an output folder that holds a run is never overwritten"
_HUB_DATA = "datasets of the hub are not downloaded by a training job"

MEDICALGPT_ALIASES: Aliases = {
    **{
        name: Same()
        for name in (
            "model_name_or_path tokenizer_name_or_path load_in_8bit load_in_4bit cache_dir model_revision "
            "train_file_dir validation_file_dir preprocessing_num_workers use_peft target_modules lora_rank "
            "lora_alpha modules_to_save peft_path qlora group_by_text deepspeed output_dir seed learning_rate "
            "weight_decay num_train_epochs max_steps per_device_train_batch_size per_device_eval_batch_size "
            "gradient_accumulation_steps logging_strategy logging_steps logging_first_step save_strategy save_steps "
            "save_total_limit eval_strategy eval_steps warmup_steps bf16 fp16 report_to ddp_timeout "
            "ddp_find_unused_parameters gradient_checkpointing do_train do_eval max_train_samples max_eval_samples"
        ).split()
    },
    "block_size": Same("there: documents are cut at it; here: the most tokens in a row, and nothing is lost"),
    "lora_dropout": Same("default there 0.05, here 0"),
    "trust_remote_code": Same("on there, off here: pass --trust_remote_code where the model needs its own code"),
    "packing": Alias(
        to("group_by_text", _boolean),
        "documents are packed whole (group_by_text); MedicalGPT joins them and cuts at block_size. "
        "That is --group_by_text false here",
        boolean=True,
    ),
    "group_by_length": Alias(
        to("group_by_text", _boolean),
        "taken as --group_by_text, which MedicalGPT's packing hung on: documents are packed whole here",
        boolean=True,
    ),
    "torch_dtype": Alias(_dtype),
    "evaluation_strategy": Alias(to("eval_strategy"), "transformers calls it --eval_strategy now"),
    "warmup_ratio": Alias(to("warmup_steps"), "transformers takes the share in --warmup_steps now"),
    "validation_split_percentage": Alias(to("validation_fraction", _percentage)),
    "no_cuda": Alias(to("use_cpu", _boolean), boolean=True),
    "model_type": Refused(
        "the model's configuration says its type", "leave it out", harmless=frozenset({"*"})
    ),
    "use_fast_tokenizer": Refused(
        "fast tokenizers are always used: cuts need their offsets", "leave it out", frozenset({"*"}), boolean=True
    ),
    "keep_linebreaks": Refused(
        "line breaks are always kept; a .txt file is one document, not one a line",
        "for one document a line write JSONL: {\"text\": ...}",
        frozenset({"true", "1", "yes"}),
        boolean=True,
    ),
    "device_map": Refused(
        "the model lies on this rank's device, or is sharded by DeepSpeed",
        "several GPUs: torchrun --nproc_per_node N with --deepspeed zero3",
        frozenset({"auto", "none"}),
    ),
    "streaming": Refused(
        "raw texts are tokenized once, in bounded memory, whatever their size",
        "medscroll prepare SRC --output_dir DATA ..., then --data_dir DATA",
        frozenset({"false", "0", "no"}),
        boolean=True,
    ),
    "overwrite_cache": Refused(
        "prepared data is found by the hash of its content, so it is never stale",
        "leave it out, or another --prepared_dir",
        frozenset({"false", "0", "no"}),
        boolean=True,
    ),
    "overwrite_output_dir": Refused(
        _EPOCHS, "leave it out; an empty --output_dir, or --resume_from_checkpoint true", frozenset({"*"}), boolean=True
    ),
    "dataset_name": Refused(_HUB_DATA, "save it as JSONL or Parquet and name it with --train_file_dir"),
    "dataset_config_name": Refused(_HUB_DATA, "save it as JSONL or Parquet and name it with --train_file_dir"),
    "hf_hub_token": Refused("a token on the command line is seen by every user of the machine", "hf auth login"),
    "use_flash_attention_2": Refused("the backend is named by one flag", "--attn_backend flash_attention_2"),
    "flash_attn": Refused("the backend is named by one flag", "--attn_backend auto"),
    "shift_attn": Refused("no shifted attention: documents of any length are divided with context", "leave it out"),
}
