"""Perplexity on the validation documents, per token and per byte, from sums over all ranks.

Each rank sums the negative log-likelihood (nats), the targets and the bytes of its blocks in float64; one all-reduce
adds them up. Means of means, which weigh short batches like long ones, never appear. All ranks take part, with
fillers where blocks do not divide, since under ZeRO-3 every forward is a collective.
"""

from __future__ import annotations

import math
from typing import Any

import torch


@torch.no_grad()
def evaluate_sums(model: torch.nn.Module, dataloader: Any, block_bytes: Any, takes_loss_kwargs: bool) -> torch.Tensor:
    """Local sums over one pass of the prepared `dataloader`.

    Args:
        model: the prepared model; its forward may be a collective.
        dataloader: yields micro batches with `blocks` (list of int) and `targets` (int) beside the model's inputs.
        block_bytes: float64 array [blocks], UTF-8 bytes of each block's tokens.
        takes_loss_kwargs: whether the model's loss takes `num_items_in_batch`.

    Returns:
        float64 tensor [3]: negative log-likelihood in nats, targets, bytes.
    """
    model.eval()
    sums: torch.Tensor | None = None
    for inputs in dataloader:
        blocks, targets = inputs.pop("blocks"), inputs.pop("targets")
        del inputs["row_targets"], inputs["tokens"]
        if sums is None:
            sums = torch.zeros(3, dtype=torch.float64, device=inputs["input_ids"].device)
        if takes_loss_kwargs:
            loss = model(**inputs, num_items_in_batch=1).loss  # a sum
        else:
            loss = model(**inputs).loss * targets
        if targets:
            sums[0] += loss.double()
        sums[1] += targets
        sums[2] += float(sum(block_bytes[block] for block in blocks if block >= 0))
    if sums is None:
        raise ValueError("evaluation over no blocks")
    return sums


def metrics_of(sums: torch.Tensor, prefix: str) -> dict[str, float]:
    """Loss per target, perplexity per token and per byte, and bits per byte, from the sums of all ranks."""
    nll, targets, size = (float(value) for value in sums)
    loss = nll / max(targets, 1.0)
    per_byte = nll / max(size, 1.0)
    return {
        f"{prefix}_loss": loss,
        f"{prefix}_perplexity": math.exp(min(loss, 700.0)),
        f"{prefix}_byte_perplexity": math.exp(min(per_byte, 700.0)),
        f"{prefix}_bits_per_byte": per_byte / math.log(2),
        f"{prefix}_targets": targets,
        f"{prefix}_bytes": size,
    }
