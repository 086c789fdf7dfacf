"""Attention functions for packed rows, registered with transformers: `per_document`, `varlen` and flash-attn-4's.

How: they get the borders of the documents in a row (`medscroll.model.borders`) and never build a mask over the row.
`per_document` calls torch's SDPA once a document, which is exact on every device; `varlen` calls torch's own
`varlen_attn` once a row (CUDA); flash-attn-4 is in `medscroll.model.flash`. The mask functions registered
under the same names return None and refuse padding: rows here have none.

Cost: memory linear in the row (SDPA's own kernels); `per_document` pays one kernel launch a document and layer, and one
device-to-host copy of the borders a row, not a layer. Measured on an H200: research notes in the design, section 6.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import Any

import torch

from medscroll.model.borders import (
    computing_dtype,
    document_borders,
    lay_rows_end_to_end,
    refuse_dropout_and_cache,
    refuse_unsupported,
    row_borders,
)
from medscroll.model.flash import PACKED_FLASH_4, packed_flash_attention

PER_DOCUMENT = "per_document"
VARLEN = "varlen"
OWN_BACKENDS = (PER_DOCUMENT, VARLEN, PACKED_FLASH_4)


def implementation_of(backend: str) -> str:
    """The `attn_implementation` that serves a backend's name: for flash_attention_4 it is medscroll's own operator."""
    return PACKED_FLASH_4 if backend == "flash_attention_4" else backend


def per_document_attention(  # noqa: PLR0917 - the signature of AttentionInterface
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
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each document, one SDPA call a document.

    Args:
        module: the attention module; only its name is used, in errors.
        query: [B, heads, T, head_dim].
        key, value: [B, kv_heads, T_kv, head_dim]; T_kv > T only for one new token on a cache.
        attention_mask: None (the registered mask function returns None).
        sliding_window: keys that a query sees, itself included; None for all of its document.
        position_ids, cu_seq_lens_q: the borders, see `document_borders`.

    Returns:
        [B, T, heads, head_dim], None.

    Raises:
        ValueError: something this kernel does not compute (soft cap, sinks, padding, bidirectional attention).
    """
    refuse_unsupported(PER_DOCUMENT, module, attention_mask, kwargs)
    rows, heads, tokens = query.shape[:3]
    attend = functools.partial(_causal_attention, dropout=dropout, scaling=scaling, window=sliding_window)
    if key.shape[2] != tokens:
        if tokens != 1:
            raise ValueError(f"{PER_DOCUMENT}: {tokens} new tokens on a cache of {key.shape[2]}; only 1 is supported")
        seen = key.shape[2] if sliding_window is None else min(sliding_window, key.shape[2])
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key[:, :, -seen:], value[:, :, -seen:], scale=scaling, enable_gqa=heads != key.shape[1]
        )
        return output.transpose(1, 2), None
    borders = document_borders(rows, tokens, position_ids=position_ids, cu_seq_lens=cu_seq_lens_q)
    if rows > 1 and borders == [row * tokens for row in range(rows + 1)]:
        return attend(query, key, value).transpose(1, 2), None  # one document a row: one batched call
    if rows > 1:
        query, key, value = (_lay_end_to_end(tensor) for tensor in (query, key, value))  # [1, heads, B * T, head_dim]
    pieces = [
        # [1, heads, L, head_dim] -> [1, L, heads, head_dim]
        attend(query[:, :, start:stop], key[:, :, start:stop], value[:, :, start:stop]).transpose(1, 2)
        for start, stop in itertools.pairwise(borders)
    ]
    output = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)  # [1, B * T, heads, head_dim]
    return output.reshape(rows, tokens, heads, value.shape[-1]), None


def _lay_end_to_end(tensor: torch.Tensor) -> torch.Tensor:
    """[B, heads, T, d] -> [1, heads, B * T, d]."""
    return tensor.transpose(0, 1).reshape(1, tensor.shape[1], -1, tensor.shape[3])


def _causal_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Causal SDPA over whole documents, [B, heads, L, d] in and out, within `window` keys where that is shorter."""
    length, grouped = query.shape[2], query.shape[1] != key.shape[1]
    sdpa = functools.partial(
        torch.nn.functional.scaled_dot_product_attention, dropout_p=dropout, scale=scaling, enable_gqa=grouped
    )
    if window is None or length <= window:
        return sdpa(query, key, value, is_causal=True)
    # A window's worth of queries at a time: the largest mask is window x 2 window, whatever the document's length.
    chunks = []
    for start in range(0, length, window):
        stop, first = min(start + window, length), max(start - window + 1, 0)
        behind = (
            torch.arange(start, stop, device=query.device)[:, None]
            - torch.arange(first, stop, device=query.device)[None, :]
        )  # [queries, keys]: how far a key lies behind its query
        seen = (behind >= 0) & (behind < window)
        chunks.append(
            sdpa(query[:, :, start:stop], key[:, :, first:stop], value[:, :, first:stop], attn_mask=seen[None, None])
        )
    return torch.cat(chunks, dim=2)


@functools.cache
def _varlen_parameters() -> frozenset[str]:
    """Which arguments this torch's `varlen_attn` takes: 2.10 has `is_causal`, later ones `window_size` and GQA."""
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)


def varlen_attention(  # noqa: PLR0917 - the signature of AttentionInterface
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
    """Causal attention inside each document by torch's `varlen_attn` (CUDA, bfloat16 or float16).

    Arguments and result as in `per_document_attention`; `max_length_q` is the longest document, computed when absent.

    Raises:
        ValueError: dropout, a cache, or something else that the kernel does not compute.
    """
    from torch.nn.attention.varlen import varlen_attn

    refuse_unsupported(VARLEN, module, attention_mask, kwargs)
    refuse_dropout_and_cache(VARLEN, dropout, query, key)
    rows, heads, tokens, head_dim = query.shape
    borders, longest = row_borders(query, position_ids=position_ids, cu_seq_lens=cu_seq_lens_q, max_length=max_length_q)
    dtype = computing_dtype(query)
    query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    known, options = _varlen_parameters(), dict[str, Any]()
    if "scale" in known:
        options["scale"] = scaling
    elif scaling is not None:
        query = query * (scaling * head_dim**0.5)
    if "window_size" in known:
        options["window_size"] = (-1 if sliding_window is None else sliding_window - 1, 0)
    elif sliding_window is not None and sliding_window < longest:
        raise ValueError(f"{VARLEN} of this torch has no sliding window; torch 2.11 or later has")
    else:
        options["is_causal"] = True
    if heads != key.shape[1]:
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        else:
            key, value = (t.repeat_interleave(heads // key.shape[1], dim=1) for t in (key, value))
    query, key, value = (lay_rows_end_to_end(tensor) for tensor in (query, key, value))  # [B * T, heads, d]
    output: Any = varlen_attn(query, key, value, borders, borders, longest, longest, **options)
    return output.view(rows, tokens, heads, -1), None


def no_dense_mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> None:
    """The mask function of both backends: None, whatever the row's length.

    Raises:
        ValueError: a 2D mask with padding: packed rows have none, and dropping it would be silent.
    """
    if attention_mask is not None and not bool(attention_mask.all()):
        raise ValueError("packed attention backends take rows without padding; pass documents without attention_mask")


def register() -> None:
    """Makes medscroll's attention functions known to transformers as `attn_implementation` names; may be repeated."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    own = {PER_DOCUMENT: per_document_attention, VARLEN: varlen_attention, PACKED_FLASH_4: packed_flash_attention}
    for name, function in own.items():
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, no_dense_mask)
