"""Where the documents of a row begin and end, and what every attention function over packed rows shares.

How: the borders come from `cu_seq_lens_q` or, where that is absent or belongs to another sharding of the row, from
restarts of `position_ids`. Cost: one device-to-host copy of the borders a row, not a layer.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

# Borders already copied to the host: one tensor object reaches every layer of a forward, and a copy waits for the GPU.
_HOST_BORDERS: WeakIdKeyDictionary = WeakIdKeyDictionary()


def document_borders(
    rows: int, tokens: int, *, position_ids: torch.Tensor | None, cu_seq_lens: torch.Tensor | None
) -> list[int]:
    """Offsets of the documents in `rows` rows of `tokens` tokens laid end to end: [0, ..., rows * tokens].

    Args:
        rows: batch size B.
        tokens: row length T.
        position_ids: int64 [B, T], [1, T] or [3, B, T]; a document begins where a position is not its predecessor + 1.
        cu_seq_lens: int32 [documents + 1] over the B * T tokens; used when its last entry is B * T.

    Raises:
        ValueError: neither argument describes these rows; guessing "one document" would leak silently.
    """
    total = rows * tokens
    if cu_seq_lens is not None:
        borders = _to_host(cu_seq_lens)
        if borders[-1] == total:
            # lengths of 0 (padding of a border tensor) carry no tokens
            return [0] + [b for a, b in itertools.pairwise(borders) if b > a]
    if position_ids is not None:
        positions = position_ids[0] if position_ids.dim() == 3 else position_ids  # [3, B, T] -> [B, T]
        if positions.shape[-1] == tokens and positions.shape[0] in (1, rows):
            return _borders_from_positions(positions, rows, tokens)
    raise ValueError(
        f"no document borders for {rows} x {tokens} tokens: pass cu_seq_lens_q or position_ids of that size"
    )


def _to_host(tensor: torch.Tensor) -> list[int]:
    if tensor.is_inference():  # carries no version to tell a changed tensor by
        return tensor.tolist()
    known = _HOST_BORDERS.get(tensor)
    if known is None or known[0] != tensor._version:
        known = (tensor._version, tensor.tolist())
        _HOST_BORDERS[tensor] = known
    return known[1]


def _borders_from_positions(positions: torch.Tensor, rows: int, tokens: int) -> list[int]:
    version = None if positions.is_inference() else (positions._version, rows)
    known = _HOST_BORDERS.get(positions) if version else None
    if known is not None and known[0] == version:
        return known[1]
    starts = torch.ones_like(positions, dtype=torch.bool)  # [B or 1, T]
    starts[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
    flat = starts.expand(rows, tokens).reshape(-1)  # [B * T]
    borders = [*flat.nonzero().flatten().tolist(), rows * tokens]
    if version:
        _HOST_BORDERS[positions] = (version, borders)
    return borders


def row_borders(
    query: torch.Tensor,
    *,
    position_ids: torch.Tensor | None,
    cu_seq_lens: torch.Tensor | None,
    max_length: int | None,
) -> tuple[torch.Tensor, int]:
    """Borders of the documents of rows laid end to end, int32 [documents + 1] on the device, and the longest document.

    Those that the call carries where they describe these rows, else from `position_ids`; see `document_borders`.
    """
    rows, _, tokens, _ = query.shape  # [B, heads, T, d]
    if cu_seq_lens is not None and max_length is not None and _to_host(cu_seq_lens)[-1] == rows * tokens:
        return cu_seq_lens, int(max_length)
    borders = document_borders(rows, tokens, position_ids=position_ids, cu_seq_lens=cu_seq_lens)
    longest = max(stop - start for start, stop in itertools.pairwise(borders))
    return torch.tensor(borders, dtype=torch.int32, device=query.device), longest


def is_hybrid(config: Any) -> bool:
    """Whether layers other than attention carry a state along the row: linear attention, state spaces, convolutions."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or []) | set(getattr(text, "layers_block_type", None) or [])
    return any("attention" not in kind or "linear" in kind for kind in kinds) or hasattr(text, "mamba_d_state")


def sequence_index(cu_seq_lens: torch.Tensor) -> torch.Tensor:
    """The number of each token's document, int32 [1, T], which hybrids' convolutions ask for as `seq_idx`."""
    lengths = cu_seq_lens.diff()  # [documents]
    return torch.arange(len(lengths), dtype=torch.int32, device=lengths.device).repeat_interleave(lengths)[None]


def lay_rows_end_to_end(tensor: torch.Tensor) -> torch.Tensor:
    """[B, heads, T, d] -> [B * T, heads, d]; a view where B is 1."""
    return tensor.transpose(1, 2).reshape(-1, tensor.shape[1], tensor.shape[3])


def computing_dtype(query: torch.Tensor) -> torch.dtype:
    """The dtype of attention: autocast's where it is on and float32 arrives (float32 residuals), else its own."""
    kind = query.device.type
    if query.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return query.dtype


def refuse_unsupported(
    name: str, module: torch.nn.Module, attention_mask: torch.Tensor | None, kwargs: dict[str, Any]
) -> None:
    """Raises ValueError for what the kernels would otherwise ignore."""
    refused = [key for key in ("softcap", "s_aux", "position_bias", "head_mask") if kwargs.get(key) is not None]
    if attention_mask is not None:
        refused.append("attention_mask")
    causal = kwargs.get("is_causal")
    if (causal if causal is not None else getattr(module, "is_causal", True)) is False:
        refused.append("bidirectional attention")
    if refused:
        raise ValueError(f"{name} does not compute {', '.join(refused)}, which {type(module).__name__} asks for")


def refuse_dropout_and_cache(name: str, dropout: float, query: torch.Tensor, key: torch.Tensor) -> None:
    """Raises ValueError where a kernel over whole rows [B, heads, T, d] would need dropout or keys of a cache."""
    if dropout:
        raise ValueError(f"{name} has no dropout: set attention_dropout to 0")
    if key.shape[2] != query.shape[2]:
        raise ValueError(f"{name} does not read a cache: generate with sdpa")
