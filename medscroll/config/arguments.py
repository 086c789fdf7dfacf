"""What a user says about model, adapters, data and packing: plain dataclasses, one flag a field.

`medscroll.config.parse` makes the command line and the YAML keys of them. Importing this module costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ModelArguments:
    """Which model, in which precision and with which attention."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A folder in Hugging Face layout, a hub id, or a preset (--from_scratch)."}
    )
    tokenizer_name_or_path: str | None = field(
        default=None, metadata={"help": "Tokenizer; default: the one that the data was prepared with, or the model's."}
    )
    from_scratch: bool = field(default=False, metadata={"help": "Random weights in the model's shape."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that the model's repository brings."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads from the hub are kept."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit on the hub."})
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Precision of the weights; auto: float32 master weights, half precision under DeepSpeed or LoRA.",
            "choices": ["auto", "bfloat16", "float16", "float32"],
        },
    )
    attn_backend: str = field(
        default="auto",
        metadata={
            "help": "Attention; auto takes the fastest that is present and passes the proof.",
            "choices": [
                "auto",
                "flash_attention_4",
                "flash_attention_3",
                "flash_attention_2",
                "varlen",
                "per_document",
            ],
            "aliases": ["--attn_implementation"],
        },
    )
    use_liger: str = field(
        default="auto", metadata={"help": "Liger kernels on a GPU.", "choices": ["auto", "true", "false"]}
    )
    rope_scaling: str | None = field(
        default=None, metadata={"help": "Extend the positions by scaling.", "choices": ["linear", "dynamic", "yarn"]}
    )
    rope_factor: float | None = field(default=None, metadata={"help": "Factor of --rope_scaling.", "least": 1})
    rope_theta: float | None = field(default=None, metadata={"help": "Base of the rotary embedding.", "least": 1})
    max_position_embeddings: int | None = field(
        default=None, metadata={"help": "Number of positions of the model.", "least": 1}
    )


@dataclass
class AdapterArguments:
    """LoRA and QLoRA."""

    use_peft: bool = field(default=False, metadata={"help": "Train a LoRA adapter instead of all parameters."})
    lora_rank: int = field(default=16, metadata={"help": "Rank of LoRA.", "least": 1})
    lora_alpha: float = field(default=32.0, metadata={"help": "Scale of LoRA."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout of LoRA.", "least": 0, "most": 1})
    target_modules: str = field(default="all", metadata={"help": "Comma list of modules; all: every linear layer."})
    modules_to_save: str | None = field(
        default=None, metadata={"help": "Comma list of modules trained in full and saved with the adapter."}
    )
    qlora: bool = field(default=False, metadata={"help": "LoRA on a base in 4 bits (NF4)."})
    load_in_4bit: bool = field(default=False, metadata={"help": "Base in 4 bits."})
    load_in_8bit: bool = field(default=False, metadata={"help": "Base in 8 bits."})
    peft_path: str | None = field(default=None, metadata={"help": "An adapter to go on with."})


@dataclass
class DataArguments:
    """Which data: prepared (`--data_dir`), or raw texts that are prepared first (`--train_file_dir`)."""

    data_dir: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Folder made by `medscroll prepare`; several: MEDICAL,GENERAL=0.15 (15 % of the tokens) or "
            "MEDICAL*2,BOOKS (read twice, once)."
        },
    )
    train_file_dir: str | None = field(default=None, metadata={"help": "Raw texts; prepared once and found again."})
    validation_file_dir: str | None = field(default=None, metadata={"help": "Raw texts for validation only."})
    text_field: str | None = field(default=None, metadata={"help": "Field of JSON, CSV or Parquet with the text."})
    validation_fraction: float = field(
        default=0.01,
        metadata={"help": "Share of documents held out by their hash (--train_file_dir).", "least": 0, "most": 0.99},
    )
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Processes that prepare --train_file_dir; default: all cores.", "least": 1}
    )
    prepared_dir: str | None = field(
        default=None, metadata={"help": "Where prepared --train_file_dir is kept; default: ~/.cache/medscroll."}
    )
    max_train_samples: int | None = field(
        default=None,
        metadata={"help": "Train on only this many blocks (rows), a seeded choice; default: all.", "least": 1},
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata={"help": "Evaluate only this many blocks (rows), a seeded choice; default: all.", "least": 1},
    )
    replay_share: float | None = field(
        default=None,
        metadata={
            "help": "Share of general-domain text in the data, as you mixed it; recorded, silences the note.",
            "least": 0,
            "most": 1,
        },
    )


@dataclass
class PackingArguments:
    """How documents become blocks."""

    block_size: int | None = field(
        default=None, metadata={"help": "Most tokens in a row; default: the model's number of positions.", "least": 2}
    )
    group_by_text: bool = field(default=True, metadata={"help": "Keep documents whole; false: concatenate and chunk."})
    long_text_threshold: int = field(
        default=1024, metadata={"help": "Tokens above which reports call a text long.", "least": 1}
    )
    overlong: str = field(
        default="split",
        metadata={
            "help": "What happens to documents longer than a block.",
            "choices": ["split", "truncate", "drop", "error"],
        },
    )
    context_tokens: int = field(
        default=64,
        metadata={"help": "Tokens before a continuation that are repeated as context, without loss.", "least": 0},
    )
    document_mask: bool = field(default=True, metadata={"help": "Attention stays inside a document."})
    packing_seed: int = field(default=0, metadata={"help": "Seed of the windows of best-fit packing.", "least": 0})


@dataclass
class PrepareArguments:
    """Raw files to documents to tokens."""

    sources: list[str] = field(metadata={"help": "Files and folders of raw texts."})
    output_dir: str = field(metadata={"help": "Folder for the prepared data."})
    tokenizer_name_or_path: str = field(metadata={"help": "Tokenizer of the model to be trained."})
    text_field: str | None = field(default=None, metadata={"help": "Field of JSON, CSV or Parquet with the text."})
    corpus_config: str | None = field(
        default=None,
        metadata={"help": "Steps that clean documents: papers, books, clinical, web, default, or a YAML file."},
    )
    deidentify: str | None = field(
        default=None,
        metadata={
            "help": "Personal data: off, audit (only report where it is), replace (or true) by typed placeholders; "
            "default: --corpus_config's (clinical: replace, others: off).",
            "choices": ["off", "audit", "replace", "true", "false"],
        },
    )
    text_template: str | None = field(
        default=None, metadata={"help": "Text of a record from several fields, such as '{title}: {note}'."}
    )
    group_by: list[str] | None = field(
        default=None, metadata={"help": "Fields whose equal values make rows one document: patient_id,admission_id."}
    )
    order_by: list[str] | None = field(
        default=None, metadata={"help": "Fields that order the rows of a document, such as time."}
    )
    split_by: list[str] | None = field(
        default=None, metadata={"help": "Fields whose equal values stay on one side of the split: patient_id."}
    )
    shard: str | None = field(
        default=None, metadata={"help": "Do only portion i of N, as 3/7: one for each job of a cluster's array."}
    )
    merge: bool = field(default=False, metadata={"help": "All portions are done: put them together."})
    strict: bool = field(
        default=False, metadata={"help": "End with code 2 where a file or record cannot be read, after naming all."}
    )
    validation_fraction: float = field(
        default=0.01, metadata={"help": "Share of documents held out by their hash.", "least": 0, "most": 0.99}
    )
    num_workers: int | None = field(default=None, metadata={"help": "Processes; default: all cores.", "least": 1})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that the tokenizer brings."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads from the hub are kept."})
    json: bool = field(default=False, metadata={"help": "Print the result as JSON."})
