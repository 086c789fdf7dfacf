"""The GPU kernel of `medscroll.model.rounding`: one pass over weight, gradient and both moments, in Triton.

How: float32 arithmetic, one Philox number an element (`tl.randint`); its low, high and middle 16 bits round the weight,
the second and the first moment. Cost: 14 bytes of memory traffic an element. Imported on a GPU only.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 2048


@triton.jit
def _rounded(value, random):  # type: ignore[no-untyped-def]
    """float32 to bfloat16, up or down by 16 random bits; what is not finite stays as it is."""
    bits = value.to(tl.int32, bitcast=True)
    up = ((bits + (random & 0xFFFF).to(tl.int32)) & -65536).to(tl.float32, bitcast=True)
    finite = (bits & 0x7F800000) != 0x7F800000
    return tl.where(finite, up, value).to(tl.bfloat16)


@triton.jit(do_not_specialize=["seed", "numel"])
def _adamw(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    parameter, gradient, mean, square, numel, seed,
    lr, decay, first, second, correction_first, correction_second, epsilon,
    BLOCK: tl.constexpr,
):  # fmt: skip
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < numel
    grad = tl.load(gradient + offsets, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(parameter + offsets, mask=inside, other=0.0).to(tl.float32)
    average = tl.load(mean + offsets, mask=inside, other=0.0).to(tl.float32)
    spread = tl.load(square + offsets, mask=inside, other=0.0).to(tl.float32)
    average = average + (grad - average) * (1.0 - first)
    spread = spread * second + grad * grad * (1.0 - second)
    value = value * decay - lr * (average / correction_first) / (tl.sqrt(spread / correction_second) + epsilon)
    random = tl.randint(seed, offsets.to(tl.int32))
    tl.store(parameter + offsets, _rounded(value, random), mask=inside)
    tl.store(mean + offsets, _rounded(average, random >> 8), mask=inside)
    tl.store(square + offsets, _rounded(spread, random >> 16), mask=inside)


def launch(  # noqa: PLR0917
    parameter: torch.Tensor,
    gradient: torch.Tensor,
    mean: torch.Tensor,
    square: torch.Tensor,
    group: dict[str, Any],
    corrections: tuple[float, float],
    seed: int,
) -> None:
    """Update `parameter`, `mean` and `square` in place: contiguous bfloat16 tensors of one shape on one GPU."""
    numel = parameter.numel()
    with torch.cuda.device(parameter.device):
        _adamw[(triton.cdiv(numel, BLOCK),)](
            parameter, gradient, mean, square, numel, seed,
            float(group["lr"]), 1.0 - float(group["lr"]) * float(group["weight_decay"]),
            float(group["betas"][0]), float(group["betas"][1]), corrections[0], corrections[1], float(group["eps"]),
            BLOCK=BLOCK,
        )  # fmt: skip
