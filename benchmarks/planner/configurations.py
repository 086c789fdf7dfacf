"""The training runs that the planner is held against: shapes, lengths, engines, levels of recomputation, precision.

Models are presets; `layers` cuts the number of layers, so that a run is built in seconds and fits a GPU of 80 GB (the
planner takes any number of layers, and what a layer costs does not depend on how many there are). Every width, head
count and vocabulary is the preset's own. `held_out` names the half that no constant of the planner was fitted on.
Order is order of importance: what has no time left at the end is the least needed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One configuration; `document` is the length of every document in a row, `level` of `--activation_memory`."""

    name: str
    model: str
    layers: int
    engine: str  # the value of --deepspeed
    block_size: int
    document: int
    level: str = "full"
    accumulation: int = 1
    micro_batch: int = 1
    dtype: str = "auto"
    lora_rank: int = 0
    qlora: bool = False
    liger: str = "auto"
    attention: str = "auto"
    held_out: bool = False
    steps: int = 3  # the first warms up, the last is traced, those between are timed
    ranks: int = 1  # GPUs of one machine (measure_ranks.py)

    @property
    def group(self) -> str:
        """Runs of one group may share a process: accelerate's and DeepSpeed's global state allows no other mix."""
        if self.engine.startswith("zero3"):
            return "zero3"
        return "zero12" if self.engine.startswith("zero") else "plain"


def _plain(*values: object, **more: object) -> Run:
    """Trainer alone, weights and Adam states in bfloat16."""
    name, model, layers, *rest = values
    return Run(name, model, layers, "none", *rest, dtype="bfloat16", **more)  # type: ignore[arg-type]


FIRST = (
    _plain("6b-28L-bf16-8k-none", "yi-6b", 28, 8192, 2048, "none", accumulation=2),
    _plain("6b-16L-bf16-16k-full", "yi-6b", 16, 16384, 16384, held_out=True),
    _plain("67b-4L-bf16-16k-full", "deepseek-67b", 4, 16384, 16384),
    _plain("34b-8L-bf16-8k-none", "yi-34b", 8, 8192, 4096, "none", held_out=True),
    _plain("6b-16L-bf16-2k-none", "yi-6b", 16, 2048, 2048, "none"),
    _plain("6b-8L-bf16-64k-full", "yi-6b", 8, 65536, 65536),
    _plain("34b-8L-bf16-16k-attention", "yi-34b", 8, 16384, 8192, "attention", held_out=True),
    _plain("6b-8L-bf16-32k-linear", "yi-6b", 8, 32768, 16384, "linear"),
    _plain("67b-4L-bf16-32k-full_offload", "deepseek-67b", 4, 32768, 32768, "full_offload", held_out=True),
    Run("34b-32L-lora-8k-full", "yi-34b", 32, "none", 8192, 8192, lora_rank=16),
    Run("6b-lora-8k-none", "yi-6b", 32, "none", 8192, 4096, "none", lora_rank=16, held_out=True),
    Run("6b-8L-amp-8k-none", "yi-6b", 8, "none", 8192, 4096, "none", accumulation=2),
)
# DeepSpeed, one process, float32 master weights
SHARDED = (
    Run("6b-12L-zero2-8k-none", "yi-6b", 12, "zero2", 8192, 2048, "none", accumulation=2),
    Run("67b-2L-zero1-4k-full", "deepseek-67b", 2, "zero1", 4096, 4096, accumulation=2, held_out=True),
    Run("34b-4L-zero2-16k-full", "yi-34b", 4, "zero2", 16384, 16384, held_out=True),
    Run("6b-12L-zero1-8k-mlp", "yi-6b", 12, "zero1", 8192, 4096, "mlp"),
    Run("34b-16L-zero2-lora-8k-full", "yi-34b", 16, "zero2", 8192, 8192, lora_rank=16),
    Run("6b-4L-zero2_offload-8k-full", "yi-6b", 4, "zero2_offload", 8192, 8192, held_out=True),
)
ZERO3 = (
    Run("6b-12L-zero3-8k-none", "yi-6b", 12, "zero3", 8192, 4096, "none"),
    Run("34b-4L-zero3-8k-full", "yi-34b", 4, "zero3", 8192, 8192, held_out=True),
    Run("67b-2L-zero3-4k-full", "deepseek-67b", 2, "zero3", 4096, 4096, accumulation=2),
    Run("9b-8L-zero3-32k-attention", "yi-9b", 8, "zero3", 32768, 32768, "attention", held_out=True),
    Run("34b-24L-zero3-lora-4k-full", "yi-34b", 24, "zero3", 4096, 4096, lora_rank=16),
    Run("6b-4L-zero3_offload-4k-full", "yi-6b", 4, "zero3_offload", 4096, 4096, held_out=True),
)
REST = (
    _plain("6b-12L-bf16-4k-none-noliger", "yi-6b", 12, 4096, 4096, "none", liger="false"),
    _plain("67b-3L-bf16-8k-full-noliger", "deepseek-67b", 3, 8192, 8192, liger="false", held_out=True),
    _plain("6b-8L-bf16-2x8k-full-perdoc", "yi-6b", 8, 8192, 4096, micro_batch=2, attention="per_document"),
    _plain("6b-8L-bf16-4x4k-none-varlen", "yi-6b", 8, 4096, 4096, "none", micro_batch=4, attention="varlen"),
    Run("34b-4L-amp-8k-full", "yi-34b", 4, "none", 8192, 8192, held_out=True),
    _plain("6b-16L-bf16-32k-every_4", "yi-6b", 16, 32768, 16384, "every_4", held_out=True),
    _plain("qwen7b-8L-bf16-8k-linear_4", "qwen2.5-7b", 8, 8192, 8192, "linear_4"),
    _plain("llama8b-8L-bf16-16k-attention_offload", "llama-3.1-8b", 8, 16384, 8192, "attention_offload", held_out=True),
    Run("67b-20L-lora-4k-full", "deepseek-67b", 20, "none", 4096, 4096, lora_rank=64, accumulation=2),
    Run("9b-8L-lora-64k-full", "yi-9b", 8, "none", 65536, 32768, lora_rank=16, held_out=True),
    _plain("2b-bf16-8k-none", "small-2b", 24, 8192, 2048, "none"),
    _plain("6b-8L-bf16-32k-every_4_offload", "yi-6b", 8, 32768, 32768, "every_4_offload", held_out=True),
    _plain("34b-4L-bf16-64k-attention_tiled", "yi-34b", 4, 65536, 32768, "attention_tiled"),
    _plain("34b-6L-bf16-32k-full_offload_tiled", "yi-34b", 6, 32768, 32768, "full_offload_tiled", held_out=True),
    Run("6b-8L-lora-16k-linear", "yi-6b", 8, "none", 16384, 8192, "linear", lora_rank=16, held_out=True),
    _plain("6b-4L-bf16-128k-full", "yi-6b", 4, 131072, 131072),
    Run("6b-8L-qlora-8k-full", "yi-6b", 8, "none", 8192, 8192, lora_rank=16, qlora=True),
    Run("34b-4L-qlora-16k-full", "yi-34b", 4, "none", 16384, 16384, lora_rank=16, qlora=True, held_out=True),
)
# Several GPUs of one machine: measured by measure_ranks.py, all held out (no constant was fitted on several ranks)
_TWO = {"ranks": 2, "held_out": True, "steps": 6, "attention": "varlen"}  # varlen: its proof compiles nothing
RANKS = (
    Run("2gpu-6b-12L-zero3-8k-none", "yi-6b", 12, "zero3", 8192, 4096, "none", **_TWO),
    Run("2gpu-6b-12L-zero2-8k-full-acc2", "yi-6b", 12, "zero2", 8192, 4096, accumulation=2, **_TWO),
    Run("2gpu-6b-12L-zero1-8k-none", "yi-6b", 12, "zero1", 8192, 4096, "none", **_TWO),
    Run("2gpu-34b-20L-zero3-lora-4k-full", "yi-34b", 20, "zero3", 4096, 4096, lora_rank=16, **_TWO),
    Run("2gpu-67b-3L-zero3-8k-full-acc2", "deepseek-67b", 3, "zero3", 8192, 8192, accumulation=2, **_TWO),
    Run("2gpu-34b-16L-zero2-lora-8k-full", "yi-34b", 16, "zero2", 8192, 8192, lora_rank=16, **_TWO),
    Run("2gpu-6b-16L-ddp-lora-8k-full", "yi-6b", 16, "none", 8192, 8192, lora_rank=16, **_TWO),
)
TINY_RANKS = (
    Run("2gpu-tiny-zero2", "tiny", 2, "zero2", 256, 128, ranks=2, steps=6, accumulation=2),
    Run("2gpu-tiny-zero3", "tiny", 4, "zero3", 256, 128, ranks=2, steps=6),
    Run("2gpu-tiny-ddp-lora", "tiny", 2, "none", 256, 128, ranks=2, steps=6, lora_rank=4),
)
# A tiny run of each group, for a test of this script on a machine without a GPU
TINY = (
    Run("tiny-plain", "tiny", 2, "none", 256, 128, "none", accumulation=2),
    Run("tiny-lora-attention", "tiny", 2, "none", 256, 256, "attention", lora_rank=4),
    Run("tiny-zero2", "tiny", 2, "zero2", 256, 128),
    Run("tiny-zero3-every", "tiny", 4, "zero3", 256, 128, "every_2", accumulation=2),
)


def all_runs() -> tuple[Run, ...]:
    """Every run on one GPU but the tiny ones, in the order in which they are measured."""
    return FIRST + SHARDED + ZERO3 + REST
