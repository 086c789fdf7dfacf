"""Tiny models and packed batches for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch

COMMON: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
    "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def tiny_config(kind: str, **changes: Any) -> Any:
    """A tiny configuration of a model type that transformers knows."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[kind](**{**COMMON, **changes})


def documents(lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    """Random documents, int64 [1, L] each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, COMMON["vocab_size"], (1, length), generator=generator) for length in lengths]


def pack_row(pieces: list[torch.Tensor]) -> dict[str, Any]:
    """What the collator gives for pieces in one row: ids, labels, positions [1, T], borders int32 [pieces + 1]."""
    lengths = [piece.shape[1] for piece in pieces]
    ids = torch.cat(pieces, dim=1)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    borders = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    return {
        "input_ids": ids, "labels": ids.masked_fill(positions == 0, -100), "position_ids": positions,
        "cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": max(lengths), "max_length_k": max(lengths),
    }  # fmt: skip


def summed_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Cross entropy summed over the targets of a batch, float32."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    logits = model(**inputs, use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(logits[0, :-1], batch["labels"][0, 1:], ignore_index=-100, reduction="sum")
