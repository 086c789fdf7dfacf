"""FlashAttention 4 over packed rows as an operator of torch's own, so that checkpoint policies can see and keep it.

How: `medscroll::flash_attention` (`torch.library.custom_op`) calls the forward kernel of the package flash-attn-4, and
`medscroll::flash_attention_backward`, registered as its gradient, the backward kernel. The package's own autograd
Function is invisible to `torch.utils.checkpoint.create_selective_checkpoint_contexts`; an operator is not, so its
output can be kept while the rest of a layer is recomputed. transformers knows it as `PACKED_FLASH_4`, registered with
`AttentionInterface`; the mask function under that name returns None.

Cost: memory linear in the row; the kernels compile at first use (seconds); an H200 makes 490 to 610 TFLOP/s forward
and backward, where FlashAttention 2 makes 260 to 330.
"""

from __future__ import annotations

from typing import Any

import torch

from medscroll.model.borders import (
    computing_dtype,
    lay_rows_end_to_end,
    refuse_dropout_and_cache,
    refuse_unsupported,
    row_borders,
)

PACKED_FLASH_4 = "packed_fa4"  # without the word "flash", at which transformers looks for packages of its own

_FORWARD = (
    "(Tensor query, Tensor key, Tensor value, Tensor borders, int longest, float scale, int window) -> (Tensor, Tensor)"
)
_BACKWARD = (
    "(Tensor query, Tensor key, Tensor value, Tensor output, Tensor lse, Tensor gradient, Tensor borders, int longest, "
    "float scale, int window) -> (Tensor, Tensor, Tensor)"
)


def _forward(  # noqa: PLR0917 - the operator's schema
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    scale: float,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [T, heads, d] and log-sum-exp [heads, T] (float32) of causal attention inside each document.

    query [T, heads, d], key and value [T, kv_heads, d], bfloat16 or float16; borders int32 [documents + 1]; `window`
    is the number of keys that a query sees, itself included, or 0 for all of its document.
    """
    from flash_attn.cute.interface import _flash_attn_fwd

    found = _flash_attn_fwd(
        query,
        key,
        value,
        cu_seqlens_q=borders,
        cu_seqlens_k=borders,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        softmax_scale=scale,
        causal=True,
        window_size_left=window - 1 if window else None,
        window_size_right=0 if window else None,
        return_lse=True,
    )
    return found[0], found[1]  # some versions return more


def _backward(  # noqa: PLR0917 - the operator's schema
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    gradient: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    scale: float,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, in their shapes; `gradient` is that of the output, [T, heads, d]."""
    from flash_attn.cute.interface import _flash_attn_bwd

    found = _flash_attn_bwd(
        query,
        key,
        value,
        output,
        gradient,
        lse,
        scale,
        True,
        0.0,
        window_size_left=window - 1 if window else None,
        window_size_right=0 if window else None,
        cu_seqlens_q=borders,
        cu_seqlens_k=borders,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return found[0], found[1], found[2]


flash_attention: Any = torch.library.custom_op(
    "medscroll::flash_attention", _forward, mutates_args=(), device_types="cuda", schema=_FORWARD
)
flash_attention_backward: Any = torch.library.custom_op(
    "medscroll::flash_attention_backward", _backward, mutates_args=(), device_types="cuda", schema=_BACKWARD
)


def _forward_shapes(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> tuple[torch.Tensor, ...]:
    tokens, heads, _d = query.shape
    return (
        query.new_empty((tokens, heads, value.shape[2])),
        query.new_empty((heads, tokens), dtype=torch.float32),
    )


def _backward_shapes(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (query, key, value))


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    query, key, value, borders, ctx.longest, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(query, key, value, *output, borders)
    ctx.set_materialize_grads(False)  # the log-sum-exp has no gradient


def _differentiate(ctx: Any, gradient: torch.Tensor | None, _: torch.Tensor | None) -> tuple[Any, ...]:
    query, key, value, output, lse, borders = ctx.saved_tensors
    gradient = torch.zeros_like(output) if gradient is None else gradient.contiguous()
    found = flash_attention_backward(
        query, key, value, output, lse, gradient, borders, ctx.longest, ctx.scale, ctx.window
    )
    return (*found, None, None, None, None)


flash_attention.register_fake(_forward_shapes)
flash_attention_backward.register_fake(_backward_shapes)
flash_attention.register_autograd(_differentiate, setup_context=_keep_for_backward)


def packed_flash_attention(  # noqa: PLR0917 - the signature of AttentionInterface
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    position_ids: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each document by flash-attn-4; arguments and result as in `per_document_attention`.

    Raises:
        ValueError: dropout, a cache, or something else that the kernel does not compute.
    """
    refuse_unsupported(PACKED_FLASH_4, module, attention_mask, kwargs)
    refuse_dropout_and_cache("flash_attention_4", dropout, query, key)
    rows, heads, tokens, head_dim = query.shape
    borders, longest = row_borders(query, position_ids=position_ids, cu_seq_lens=cu_seq_lens_q, max_length=max_length_q)
    dtype = computing_dtype(query)
    query, key, value = (lay_rows_end_to_end(tensor.to(dtype)) for tensor in (query, key, value))  # [B * T, heads, d]
    scale = head_dim**-0.5 if scaling is None else float(scaling)
    output, _ = flash_attention(query, key, value, borders, longest, scale, int(sliding_window or 0))
    return output.view(rows, tokens, heads, -1), None
