"""MedicalGPT's command: every flag of its script means the same, or is refused with what to use instead."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from medscroll.config.aliases import Alias, Refused, Same
from medscroll.config.arguments import AdapterArguments, DataArguments, ModelArguments, PackingArguments
from medscroll.config.fields import field_specs
from medscroll.config.medicalgpt import MEDICALGPT_ALIASES
from medscroll.config.parse import Parsed, parse_arguments
from medscroll.errors import ConfigError

# scripts/run_pt.sh of shibing624/MedicalGPT at 2f1008c, after `torchrun ... training/pretraining.py`.
RUN_PT = shlex.split("""
    --model_name_or_path Qwen/Qwen3.5-2B --train_file_dir ./data/pretrain --validation_file_dir ./data/pretrain
    --per_device_train_batch_size 4 --per_device_eval_batch_size 4 --do_train --do_eval --use_peft True --seed 42
    --max_train_samples 10000 --max_eval_samples 10 --num_train_epochs 0.5 --learning_rate 2e-4 --warmup_steps 5
    --weight_decay 0.01 --logging_strategy steps --logging_steps 10 --eval_steps 50 --eval_strategy steps
    --save_steps 500 --save_strategy steps --save_total_limit 13 --gradient_accumulation_steps 8
    --preprocessing_num_workers 10 --block_size 512 --packing True --output_dir outputs-pt-qwen-v1
    --ddp_timeout 30000 --logging_first_step True --target_modules all --lora_rank 8 --lora_alpha 16
    --lora_dropout 0.05 --torch_dtype bfloat16 --bf16 --report_to tensorboard --ddp_find_unused_parameters False
    --gradient_checkpointing True --cache_dir ./cache
""")

# The same script at 1e01330 (January 2024), the time of --group_by_text.
RUN_PT_2024 = shlex.split("""
    --model_type bloom --model_name_or_path bigscience/bloomz-560m --train_file_dir ./data/pretrain
    --validation_file_dir ./data/pretrain --per_device_train_batch_size 4 --per_device_eval_batch_size 4 --do_train
    --do_eval --use_peft True --seed 42 --fp16 --max_train_samples 10000 --max_eval_samples 10 --num_train_epochs 0.5
    --learning_rate 2e-4 --warmup_ratio 0.05 --weight_decay 0.01 --logging_strategy steps --logging_steps 10
    --eval_steps 50 --evaluation_strategy steps --save_steps 500 --save_strategy steps --save_total_limit 13
    --gradient_accumulation_steps 1 --preprocessing_num_workers 10 --block_size 1024 --group_by_text True
    --output_dir outputs-pt-bloom-v1 --overwrite_output_dir --ddp_timeout 30000 --logging_first_step True
    --target_modules all --lora_rank 8 --lora_alpha 16 --lora_dropout 0.05 --torch_dtype float16 --device_map auto
    --report_to tensorboard --ddp_find_unused_parameters False --gradient_checkpointing True --cache_dir ./cache
""")

# The dataclasses of its training/pretraining.py, present and former.
OWN_FLAGS = shlex.split("""
    model_name_or_path tokenizer_name_or_path load_in_8bit load_in_4bit cache_dir model_revision hf_hub_token
    use_fast_tokenizer torch_dtype device_map trust_remote_code dataset_name dataset_config_name train_file_dir
    validation_file_dir max_train_samples max_eval_samples streaming block_size overwrite_cache
    validation_split_percentage preprocessing_num_workers keep_linebreaks packing use_peft target_modules lora_rank
    lora_dropout lora_alpha modules_to_save peft_path qlora model_type load_in_kbits group_by_text group_by_length
""")


def classes() -> tuple[type, ...]:
    from medscroll.config.training import TrainingArguments

    return (ModelArguments, AdapterArguments, DataArguments, PackingArguments, TrainingArguments)


def parse(words: list[str]) -> Parsed:
    return parse_arguments(words, classes(), verb="pretrain", aliases=MEDICALGPT_ALIASES)


def refusal(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(list(words))
    return str(caught.value)


def test_the_present_command_means_the_same() -> None:
    parsed = parse(RUN_PT)
    model, adapters, data, packing, training = parsed
    assert (model.model_name_or_path, model.dtype, model.cache_dir) == ("Qwen/Qwen3.5-2B", "bfloat16", "./cache")
    assert (adapters.use_peft, adapters.lora_rank, adapters.lora_alpha, adapters.lora_dropout) == (True, 8, 16.0, 0.05)
    assert (adapters.target_modules, adapters.qlora) == ("all", False)
    assert (data.train_file_dir, data.validation_file_dir) == ("./data/pretrain", "./data/pretrain")
    assert (data.max_train_samples, data.max_eval_samples, data.preprocessing_num_workers) == (10000, 10, 10)
    assert (packing.block_size, packing.group_by_text) == (512, True)
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (4, 8)
    assert (training.num_train_epochs, training.learning_rate, training.warmup_steps) == (0.5, 2e-4, 5.0)
    assert (training.eval_strategy, training.eval_steps, training.save_steps) == ("steps", 50, 500)
    assert (training.bf16, training.gradient_checkpointing, training.report_to) == (True, True, "tensorboard")
    assert (training.ddp_timeout, training.do_eval, training.save_total_limit) == (30000, True, 13)
    notes = "\n".join(parsed.notes)
    assert "--packing True: " in notes
    assert "--group_by_text false" in notes
    assert "--do_train true: pretrain always trains" in notes


def test_the_command_of_2024_means_the_same_and_what_lost_its_meaning_is_named() -> None:
    parsed = parse(RUN_PT_2024)
    model, _, _, packing, training = parsed
    assert (model.dtype, packing.group_by_text, packing.block_size) == ("float16", True, 1024)
    assert (training.warmup_steps, training.eval_strategy, training.fp16) == (0.05, "steps", True)
    notes = "\n".join(parsed.notes)
    for name in ("model_type", "overwrite_output_dir", "device_map", "warmup_ratio", "evaluation_strategy"):
        assert f"--{name}" in notes


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--packing"], "group_by_text", True),
        (["--packing", "False"], "group_by_text", True),
        (["--group_by_text", "False"], "group_by_text", False),
        (["--group_by_length", "True"], "group_by_text", True),
        (["--torch_dtype", "auto"], "dtype", "auto"),
        (["--validation_split_percentage", "5"], "validation_fraction", 0.05),
        (["--validation_split_percentage", "0.001"], "validation_fraction", 0.00001),
        (["--load_in_kbits", "4"], "load_in_4bit", True),
        (["--load_in_kbits", "16"], "load_in_4bit", False),
        (["--no_cuda"], "use_cpu", True),
        (["--activation_checkpointing", "true"], "gradient_checkpointing", True),
        (["--attn_implementation", "flash_attention_2"], "attn_backend", "flash_attention_2"),
    ],
)
def test_a_flag_that_is_spelt_differently_sets_the_field_here(words: list[str], field: str, value: Any) -> None:
    parsed = parse(words)
    (given,) = [getattr(instance, field) for instance in parsed if hasattr(instance, field)]
    assert given == value


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--streaming", "True"], ["--streaming True has no meaning here", "medscroll prepare"]),
        (["--dataset_name", "x"], ["--dataset_name has no meaning", "--train_file_dir"]),
        (["--hf_hub_token", "secret"], ["hf auth login"]),
        (["--device_map", "cuda:0"], ["--device_map cuda:0 has no meaning", "torchrun"]),
        (["--keep_linebreaks", "False"], ["JSONL"]),
        (["--overwrite_cache"], ["--overwrite_cache true has no meaning", "--prepared_dir"]),
        (["--use_fast_tokenizer", "False"], ["offsets"]),
        (["--logging_dir", "x"], ["TENSORBOARD_LOGGING_DIR"]),
        (["--do_train", "False"], ["always trains"]),
        (["--do_predict"], ["predicts nothing"]),
        (["--dataloader_drop_last", "True"], ["no block is dropped"]),
        (["--fsdp", "full_shard"], ["--deepspeed zero3"]),
        (["--predict_with_generate", "True"], ["medscroll chat"]),
        (["--packing", "maybe"], ["unexpected word 'maybe'"]),
        (["--validation_split_percentage", "few"], ["expects a number of percent"]),
        (["--torch_dtype"], ["--torch_dtype needs a value"]),
        (["--group_by_txt", "True"], ["did you mean --group_by_text?"]),
        (["--packing", "True", "--group_by_text", "False"], ["say different things about group_by_text"]),
    ],
)
def test_a_flag_without_meaning_is_refused_with_what_to_use_instead(words: list[str], parts: list[str]) -> None:
    text = refusal(*words)
    assert "secret" not in text
    for part in parts:
        assert part in text


def test_the_table_knows_every_flag_of_its_script_and_every_entry_is_true() -> None:
    here = {spec.name for cls in classes() for spec in field_specs(cls)}
    given = {word.removeprefix("--") for word in RUN_PT + RUN_PT_2024 if word.startswith("--")}
    assert len(given | set(OWN_FLAGS)) > 60
    assert not (given | set(OWN_FLAGS)) - set(MEDICALGPT_ALIASES)
    for name, entry in MEDICALGPT_ALIASES.items():
        if isinstance(entry, Same):
            assert name in here, f"{name} is said to be the same here, and is no flag"
        elif isinstance(entry, Alias):
            values = ("true", "1", "4", "adafactor")
            targets: set[str] = set()
            for value in values:
                try:
                    targets |= set(entry.apply(value))
                except ValueError:
                    continue
            assert targets <= here
            assert targets, f"{name} becomes nothing"
        else:
            assert isinstance(entry, Refused)
            assert entry.reason
            assert entry.instead
