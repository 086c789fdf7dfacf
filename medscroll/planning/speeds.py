"""How fast a GPU does the parts of a step: `config/data/efficiencies.json` for one GPU.

Every figure of the file has its source; what is assumed says so, and a plan names it. Cost: one small file, read once.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from medscroll.planning.hardware import GpuSpec

PEAK = 1e15  # the GPU that `matmul.half` is stated for


@functools.lru_cache(maxsize=1)
def efficiencies() -> dict[str, Any]:
    """The data file."""
    text = resources.files("medscroll.config").joinpath("data/efficiencies.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@dataclass(frozen=True)
class Speeds:
    """Rates of one GPU.

    Attributes:
        matmul: FLOP/s of large products in a training step.
        half: tokens x width at which a product reaches half of it.
        memory: bytes a second.
        attention: FLOP/s on long documents, forward and backward together.
        attention_half: tokens of a document at which half of it is reached.
        assumed: what has no measurement behind it, in words.
    """

    matmul: float
    half: float
    memory: float
    attention: float
    attention_half: float
    assumed: tuple[str, ...]

    def product(self, tokens: float, inputs: int, outputs: int) -> float:
        """Seconds of one product of [tokens, inputs] with [inputs, outputs]."""
        size = tokens * (inputs * outputs) ** 0.5
        share = size / (size + self.half)
        return 2.0 * tokens * inputs * outputs / (self.matmul * share)

    def attend(self, flops: float, length: float) -> float:
        """Seconds of attention over documents of `length` tokens."""
        return flops / (self.attention * length / (length + self.attention_half))


def speeds_of(gpu: GpuSpec, backend: str) -> Speeds:
    """The rates of a GPU with an attention backend; the nearest known kernel where that pair is not in the file."""
    table = efficiencies()
    matmul, kernels = table["matmul"], table["attention"]
    largest = matmul["by_gpu"].get(gpu.name) or matmul["largest"].get(gpu.architecture) or matmul["largest"]["other"]
    assumed = []
    if largest["source"].startswith("assumed"):
        assumed.append(f"matrix products of {gpu.name} at {largest['share']:.0%} of the peak")
    known = kernels.get(gpu.architecture) or kernels["other"]
    kernel = known.get(backend) or next(iter(known.values()))
    if kernel["source"].startswith("assumed"):
        assumed.append(f"attention of {gpu.name} at {kernel['of_peak']:.0%} of the peak")
    return Speeds(
        matmul=gpu.peak_flops * largest["share"] * matmul["in_training"],
        half=matmul["half"] * gpu.peak_flops / PEAK,
        memory=gpu.memory_bandwidth * table["memory"]["share"],
        attention=gpu.peak_flops * kernel["of_peak"],
        attention_half=float(kernel["half"]),
        assumed=tuple(assumed),
    )
