"""The GPU kernel of `medscroll.model.rounding`: one pass over weight, gradient and both moments, in Triton.

How: float32 arithmetic. A program updates four groups of elements, as one Philox call (`tl.randint4x`) gives four
numbers: with a call an element the generator, not the memory, set the speed (79 ms for 6.06 B weights on an H200). The
low, high and middle 16 bits of a number round the weight, the second and the first moment. Cost: 14 bytes of memory
traffic an element. Imported on a GPU only.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 1024  # elements of a group; a program has four


@triton.jit
def _rounded(value, random):  # type: ignore[no-untyped-def]
    """float32 to bfloat16, up or down by 16 random bits; what is not finite stays as it is."""
    bits = value.to(tl.int32, bitcast=True)
    up = ((bits + (random & 0xFFFF).to(tl.int32)) & -65536).to(tl.float32, bitcast=True)
    finite = (bits & 0x7F800000) != 0x7F800000
    return tl.where(finite, up, value).to(tl.bfloat16)


@triton.jit
def _group(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    parameter, gradient, mean, square, offsets, numel, random,
    lr, decay, first, second, inverse_first, inverse_second, epsilon,
):  # fmt: skip
    inside = offsets < numel
    grad = tl.load(gradient + offsets, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(parameter + offsets, mask=inside, other=0.0).to(tl.float32)
    average = tl.load(mean + offsets, mask=inside, other=0.0).to(tl.float32)
    spread = tl.load(square + offsets, mask=inside, other=0.0).to(tl.float32)
    average = average + (grad - average) * (1.0 - first)
    spread = spread * second + grad * grad * (1.0 - second)
    value = value * decay - lr * (average * inverse_first) / (tl.sqrt(spread * inverse_second) + epsilon)
    tl.store(parameter + offsets, _rounded(value, random), mask=inside)
    tl.store(mean + offsets, _rounded(average, random >> 8), mask=inside)
    tl.store(square + offsets, _rounded(spread, random >> 16), mask=inside)


@triton.jit(do_not_specialize=["seed"])  # that numel is a multiple of 16 lets masked loads take 16 bytes at once
def _adamw(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    parameter, gradient, mean, square, numel, seed,
    lr, decay, first, second, inverse_first, inverse_second, epsilon,
    BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    start = program * (4 * BLOCK) + lane
    one, two, three, four = tl.randint4x(seed, (program * BLOCK + lane).to(tl.int32))
    _group(parameter, gradient, mean, square, start, numel, one,
           lr, decay, first, second, inverse_first, inverse_second, epsilon)  # fmt: skip
    _group(parameter, gradient, mean, square, start + BLOCK, numel, two,
           lr, decay, first, second, inverse_first, inverse_second, epsilon)  # fmt: skip
    _group(parameter, gradient, mean, square, start + 2 * BLOCK, numel, three,
           lr, decay, first, second, inverse_first, inverse_second, epsilon)  # fmt: skip
    _group(parameter, gradient, mean, square, start + 3 * BLOCK, numel, four,
           lr, decay, first, second, inverse_first, inverse_second, epsilon)  # fmt: skip


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
        _adamw[(triton.cdiv(numel, 4 * BLOCK),)](
            parameter, gradient, mean, square, numel, seed,
            float(group["lr"]), 1.0 - float(group["lr"]) * float(group["weight_decay"]),
            float(group["betas"][0]), float(group["betas"][1]), 1.0 / corrections[0], 1.0 / corrections[1],
            float(group["eps"]),
            BLOCK=BLOCK,
        )  # fmt: skip
