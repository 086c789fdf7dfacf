"""Rotary embedding by Liger's Triton kernel, made safe for recomputation, in Liger's own registry of implementations.

How: liger-kernel 0.8 looks up an operator's implementation by name; `register_rotary` adds one for "rope" and selects
it by the variable that Liger reads. Liger's kernel rotates in place, in the memory that the query and key projections
wrote; a level of activation memory that keeps those projections (`linear`) would rotate them a second time when the
layer is computed again, and give wrong gradients without a word. Here the kernel rotates a copy.

Why not Liger's first choice: its CuTe kernel is compiled anew for every row length (0.5 s each on an H200), and packed
rows have many. Why not transformers' function: it takes some ten passes over query and key where the kernel takes one.

Cost: one copy of query and key a layer, 0.05 ms for 8,192 tokens of 32 + 4 heads on an H200.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IMPLEMENTATION = "medscroll-triton"
SELECTS = "LIGER_KERNEL_IMPL_ROPE"  # the variable by which Liger selects an implementation of "rope"


def register_rotary() -> bool:
    """Make Liger rotate by `rotate`; may be repeated. False where this liger-kernel has no registry (before 0.8)."""
    if importlib.util.find_spec("liger_kernel") is None or importlib.util.find_spec("liger_kernel.backends") is None:
        return False
    from liger_kernel.backends import capability, registry

    if registry.get_registered("rope", IMPLEMENTATION) is None:
        needs = capability.Capability(modules=["triton"])
        registry.register_impl("rope", impl_name=IMPLEMENTATION, capability=needs)(rotate)
    os.environ[SELECTS] = IMPLEMENTATION
    return True


def selected() -> bool:
    """Whether Liger rotates by `rotate` in this process."""
    return os.environ.get(SELECTS) == IMPLEMENTATION


def rotate(  # noqa: PLR0917 - the signature of Liger's implementations
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    position_ids: torch.Tensor | None = None,
    unsqueeze_dim: int = 1,
    rotary_dim: int | None = None,
) -> Any:
    """Rotated query [B, heads, T, d] and key [B, kv_heads, T, d]; `cos`, `sin` [1 or B, T, rotary_dim].

    On the meta device, where the planner counts bytes, the copies alone.
    """
    if query.is_meta:
        return query.clone(), key.clone()
    from liger_kernel.ops.rope import LigerRopeFunction

    return LigerRopeFunction.apply(query.clone(), key.clone(), cos, sin, position_ids, unsqueeze_dim, rotary_dim)
