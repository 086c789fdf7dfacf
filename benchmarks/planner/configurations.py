"""The training runs that the planner is held against: shapes, lengths, engines, recomputation, precision.

Models are presets; `layers` cuts the number of layers, so that a run is built in seconds (the planner takes any
number of layers, and what a layer costs does not depend on how many there are). Every width, head count, vocabulary
is the preset's own. `held_out` names the half that no constant of the planner was fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One configuration; `document` is the length of every document in a row."""

    name: str
    model: str
    layers: int
    engine: str  # the value of --deepspeed
    block_size: int
    document: int
    recompute: bool = True
    level: str = ""  # the value of --activation_memory, where it says more than recompute
    accumulation: int = 1
    micro_batch: int = 1
    dtype: str = "auto"
    lora_rank: int = 0
    qlora: bool = False
    liger: str = "auto"
    attention: str = "auto"
    held_out: bool = False
    steps: int = 3

    @property
    def group(self) -> str:
        """Runs of one group share a process."""
        if self.engine.startswith("zero3"):
            return "zero3"
        return "zero12" if self.engine.startswith("zero") else "plain"


# Trainer alone, weights and Adam states in bfloat16
PLAIN = (
    Run("6b-bf16-8k", "yi-6b", 32, "none", 8192, 2048, recompute=False, accumulation=2, dtype="bfloat16"),
    Run("6b-bf16-16k-full", "yi-6b", 32, "none", 16384, 16384, dtype="bfloat16", held_out=True),
    Run("6b-bf16-2k", "yi-6b", 32, "none", 2048, 2048, recompute=False, dtype="bfloat16"),
    Run("9b-bf16-4k-full", "yi-9b", 48, "none", 4096, 4096, accumulation=2, dtype="bfloat16", held_out=True),
    Run("34b-16L-bf16-8k", "yi-34b", 16, "none", 8192, 4096, recompute=False, dtype="bfloat16"),
    Run("67b-8L-bf16-16k-full", "deepseek-67b", 8, "none", 16384, 16384, dtype="bfloat16", held_out=True),
    Run("6b-8L-bf16-64k-full", "yi-6b", 8, "none", 65536, 65536, dtype="bfloat16"),
    Run("6b-4L-bf16-128k-full", "yi-6b", 4, "none", 131072, 131072, dtype="bfloat16", held_out=True),
    Run("67b-4L-bf16-16k", "deepseek-67b", 4, "none", 16384, 4096, recompute=False, dtype="bfloat16"),
    Run("6b-16L-bf16-4k-noliger", "yi-6b", 16, "none", 4096, 4096, False, dtype="bfloat16", liger="false"),
    Run(
        "67b-4L-bf16-8k-noliger-full",
        "deepseek-67b",
        4,
        "none",
        8192,
        8192,
        dtype="bfloat16",
        liger="false",
        held_out=True,
    ),
    Run(
        "6b-8L-bf16-2x8k-perdoc-full",
        "yi-6b",
        8,
        "none",
        8192,
        4096,
        micro_batch=2,
        dtype="bfloat16",
        attention="per_document",
    ),
    # float32 master weights, products under autocast
    Run("6b-16L-amp-8k", "yi-6b", 16, "none", 8192, 4096, recompute=False, accumulation=2),
    Run("34b-6L-amp-8k-full", "yi-34b", 6, "none", 8192, 8192, held_out=True),
    # LoRA of rank 16 on every linear layer, base in bfloat16
    Run("34b-lora-8k-full", "yi-34b", 60, "none", 8192, 8192, lora_rank=16, held_out=True),
    Run("6b-lora-8k", "yi-6b", 32, "none", 8192, 4096, recompute=False, lora_rank=16),
    Run("9b-16L-lora-64k-full", "yi-9b", 16, "none", 65536, 32768, lora_rank=16, held_out=True),
    Run("67b-24L-lora-4k-full", "deepseek-67b", 24, "none", 4096, 4096, lora_rank=64, accumulation=2),
    Run("6b-8L-qlora-8k-full", "yi-6b", 8, "none", 8192, 8192, lora_rank=16, qlora=True),
    Run("34b-4L-qlora-16k-full", "yi-34b", 4, "none", 16384, 16384, lora_rank=16, qlora=True, held_out=True),
)
# DeepSpeed, one process, float32 master weights
SHARDED = (
    Run("6b-24L-zero2-8k", "yi-6b", 24, "zero2", 8192, 2048, recompute=False, accumulation=2),
    Run("67b-4L-zero1-4k-full", "deepseek-67b", 4, "zero1", 4096, 4096, accumulation=2, held_out=True),
    Run("34b-8L-zero2-16k-full", "yi-34b", 8, "zero2", 16384, 16384, held_out=True),
    Run("6b-16L-zero1-8k", "yi-6b", 16, "zero1", 8192, 4096, recompute=False),
    Run("34b-16L-zero2-lora-8k-full", "yi-34b", 16, "zero2", 8192, 8192, lora_rank=16),
    Run("6b-8L-zero2_offload-8k-full", "yi-6b", 8, "zero2_offload", 8192, 8192, held_out=True),
)
ZERO3 = (
    Run("6b-24L-zero3-8k", "yi-6b", 24, "zero3", 8192, 4096, recompute=False),
    Run("34b-8L-zero3-8k-full", "yi-34b", 8, "zero3", 8192, 8192, held_out=True),
    Run("67b-4L-zero3-4k-full", "deepseek-67b", 4, "zero3", 4096, 4096, accumulation=2),
    Run("9b-16L-zero3-32k-full", "yi-9b", 16, "zero3", 32768, 32768, held_out=True),
    Run("34b-24L-zero3-lora-4k-full", "yi-34b", 24, "zero3", 4096, 4096, lora_rank=16),
    Run("6b-8L-zero3_offload-4k-full", "yi-6b", 8, "zero3_offload", 4096, 4096, held_out=True),
)
# Selective recomputation, where this build has --activation_memory
LEVELS = (
    Run("6b-8L-bf16-32k-attention", "yi-6b", 8, "none", 32768, 8192, level="attention", dtype="bfloat16"),
    Run("34b-8L-bf16-8k-mlp", "yi-34b", 8, "none", 8192, 8192, level="mlp", dtype="bfloat16", held_out=True),
    Run("67b-4L-bf16-32k-offload", "deepseek-67b", 4, "none", 32768, 32768, level="full_offload", dtype="bfloat16"),
)
# A tiny run of each group, for a test of this script on a machine without a GPU
TINY = (
    Run("tiny-plain", "tiny", 2, "none", 256, 128, recompute=False, accumulation=2),
    Run("tiny-lora-full", "tiny", 2, "none", 256, 256, lora_rank=4),
    Run("tiny-zero2", "tiny", 2, "zero2", 256, 128),
    Run("tiny-zero3-full", "tiny", 2, "zero3", 256, 128, accumulation=2),
)


def all_runs() -> tuple[Run, ...]:
    """Every run but the tiny ones, in the order in which they are measured."""
    return PLAIN + SHARDED + ZERO3 + LEVELS
