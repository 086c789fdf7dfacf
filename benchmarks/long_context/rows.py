"""The rows of the long-context table, most important first: model, engine, block, attention, what is kept.

`block_size` of a training row is exact; "longest" asks the estimate for the longest row that this GPU and its host
hold. `one_document` fills each block with one document (real texts joined end to end); otherwise the real documents
are packed. `peer` rows run transformers' own attention in place of medscroll's, on the same rows and engine; `trl`
rows run TRL's SFTTrainer with its own packing (`trl_peer.py`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table; `seconds` is what it is expected to take in all, `goal` the MFU it should reach."""

    name: str
    block_size: int
    model: str = "yi-6b"
    engine: str = "none"  # the value of --deepspeed
    dtype: str = "bfloat16"
    level: str = "auto"  # the value of --activation_memory
    attention: str = "auto"  # the value of --attn_backend
    peer: str = ""  # an attention implementation of transformers, put in place of ours
    trl: str = ""  # TRL instead of medscroll: "plain" or "best"
    one_document: bool = False
    document_mask: bool = True
    accumulation: int = 1
    batch: int = 1  # blocks of a micro step: --per_device_train_batch_size
    lora_rank: int = 0
    quantized: bool = False  # the frozen base in 4 bits (NF4), drawn at random
    longest: bool = False
    warm: int = 2
    steps: int = 4
    profile: bool = False
    seconds: int = 45
    goal: float = 0.0


@dataclass(frozen=True)
class ProofRow:
    """Equality with unpacked documents on this device: these classes (see `proof.CLASSES`), or the bare kernels."""

    name: str
    classes: tuple[str, ...] = ()
    kernels: bool = False
    seconds: int = 40


ROWS: tuple[Row | ProofRow, ...] = (
    ProofRow("proof-kernels", kernels=True),
    ProofRow("proof-yi", ("yi-6b", "mistral-window", "qwen3.5-hybrid")),
    Row("6b-8k", 8192, accumulation=4, profile=True, goal=0.58),
    Row("6b-8k-batch2", 8192, accumulation=2, batch=2, profile=True, goal=0.58),
    Row("6b-32k", 32768, profile=True, goal=0.55),
    Row("6b-8k-zero2", 8192, engine="zero2", dtype="auto", accumulation=4, profile=True, seconds=50, goal=0.52),
    Row("6b-32k-zero2", 32768, engine="zero2", dtype="auto", profile=True, seconds=60, goal=0.50),
    Row("6b-32k-varlen", 32768, attention="varlen", warm=1, steps=3),
    Row("6b-32k-per_document", 32768, attention="per_document", warm=1, steps=3),
    Row("6b-32k-no-mask", 32768, document_mask=False, warm=1, steps=3),
    Row("6b-64k-one", 65536, one_document=True, warm=1, steps=2, seconds=50, goal=0.52),
    Row("6b-longest", 393216, warm=1, steps=1, seconds=150),
    Row("6b-128k-one", 131072, one_document=True, warm=1, steps=1, seconds=110, goal=0.53),
    Row("6b-32k-peer-sdpa", 32768, peer="sdpa", level="full", warm=1, steps=1),
    Row("6b-32k-peer-fa4", 32768, peer="flash_attention_4", level="full", warm=1, steps=3),
    Row("6b-32k-trl-best", 32768, trl="best", warm=1, steps=3, seconds=50),
    Row("6b-32k-trl-plain", 32768, trl="plain", warm=1, steps=2, seconds=55),
    Row("6b-32k-trl-float32", 32768, trl="plain", dtype="float32", warm=1, steps=1, seconds=75),
    ProofRow("proof-classes", ("deepseek-67b", "qwen2.5-7b", "qwen3", "mixtral", "llama-3.1-70b"), seconds=60),
    Row("6b-8k-linear", 8192, level="linear", accumulation=4, warm=1, steps=3),
    Row("6b-8k-full", 8192, level="full", accumulation=4, warm=1, steps=3),
    Row("6b-32k-attention", 32768, level="attention", warm=1, steps=3),
    Row("6b-32k-attention_offload", 32768, level="attention_offload", warm=1, steps=3),
    Row("67b-lora-16k", 16384, model="deepseek-67b", dtype="auto", lora_rank=16, warm=1, steps=1, seconds=90),
    Row("67b-lora-32k", 32768, model="deepseek-67b", dtype="auto", lora_rank=16, warm=1, steps=1, seconds=120),
    Row(
        "67b-qlora-64k",
        65536,
        model="deepseek-67b",
        dtype="auto",
        lora_rank=16,
        quantized=True,
        warm=0,
        steps=1,
        seconds=130,
    ),
    Row("6b-32k-full_tiled", 32768, level="full_tiled", warm=1, steps=2, seconds=35),
    Row("6b-32k-every_4", 32768, level="every_4", warm=1, steps=2, seconds=35),
    Row("6b-32k-full_offload_16", 32768, level="full_offload_16", warm=1, steps=2, seconds=35),
    Row("6b-8k-per_document", 8192, attention="per_document", level="none", warm=1, steps=2, seconds=30),
    Row("6b-768k", 786432, warm=0, steps=1, seconds=190),
    Row("6b-longest-found", 1048576, longest=True, warm=0, steps=1, seconds=220),
    Row("6b-32k-flash_attention_2", 32768, attention="flash_attention_2", warm=1, steps=3),
    Row("6b-64k-packed", 65536, warm=1, steps=2, seconds=60),
    Row("6b-64k-full_offload", 65536, level="full_offload", warm=1, steps=2, seconds=60),
    Row("6b-64k-full_offload_tiled", 65536, level="full_offload_tiled", warm=1, steps=2, seconds=60),
)

# The same code paths with a tiny model and short rows, for a test of the scripts on a CPU.
TINY: tuple[Row | ProofRow, ...] = (
    ProofRow("tiny-kernels", kernels=True),
    ProofRow("tiny-proof", ("yi-6b", "mistral-window", "qwen3.5-hybrid")),
    Row("tiny", 512, model="tiny", dtype="auto", accumulation=2, profile=True),
    Row("tiny-bf16", 512, model="tiny", profile=True, level="linear_1"),
    Row("tiny-zero2", 512, model="tiny", engine="zero2", dtype="auto", level="attention_offload"),
    Row("tiny-absent", 512, model="tiny", attention="flash_attention_2"),
    Row("tiny-no-mask", 512, model="tiny", document_mask=False, warm=1, steps=1),
    Row("tiny-one", 1024, model="tiny", one_document=True, warm=1, steps=1),
    Row("tiny-longest", 2048, model="tiny", longest=True, level="full_offload", warm=0, steps=1),
    Row("tiny-peer", 512, model="tiny", peer="sdpa", level="full", warm=1, steps=1),
    Row("tiny-trl-best", 512, model="tiny", trl="best", warm=1, steps=3),
    Row("tiny-trl-plain", 512, model="tiny", trl="plain", dtype="float32", warm=1, steps=2),
    Row("tiny-lora", 512, model="tiny", dtype="auto", lora_rank=4, warm=1, steps=1),
    Row("tiny-qlora", 512, model="tiny", dtype="auto", lora_rank=4, quantized=True, level="full_offload_1", steps=1),
)


def as_json(row: Row | ProofRow) -> dict[str, object]:
    """The fields of a row that differ from their defaults, name and block first."""
    values = {field.name: (getattr(row, field.name), field.default) for field in dataclasses.fields(row)}
    return {name: value for name, (value, default) in values.items() if value != default and name != "seconds"}
