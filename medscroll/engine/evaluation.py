"""Perplexity on the validation documents, per token and per byte, and the loss by position in a document.

Each rank sums the negative log-likelihood (nats), the targets and the bytes of its blocks in float64; one all-reduce
adds them up. Means of means, which weigh short batches like long ones, never appear. All ranks take part, with
fillers where blocks do not divide, since under ZeRO-3 every forward is a collective. Positions are counted from the
beginning of a document's piece, in ranges that double; where a model's positions end, the loss shows it.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from medscroll.engine.token_losses import IGNORED, TokenLosses

FIRST_RANGE = 64  # positions 0 to 63 are one range, then 64 to 127, 128 to 255, ...
RANGES = 20
SUMS = 3  # negative log-likelihood, targets, bytes; then RANGES of the first and RANGES of the second


@torch.no_grad()
def evaluate_sums(
    model: torch.nn.Module, dataloader: Any, block_bytes: Any, head: torch.nn.Module | None
) -> torch.Tensor:
    """Local sums over one pass of the prepared `dataloader`.

    Args:
        model: the prepared model; its forward may be a collective.
        dataloader: yields what `trainer.collate_with_counts` makes: `blocks` (list of int), `targets` (int) and other
            counts beside the model's inputs.
        block_bytes: float64 array [blocks], UTF-8 bytes of each block's tokens.
        head: the model's output layer, see `TokenLosses`.

    Returns:
        float64 tensor [3 + 2 x RANGES]: negative log-likelihood in nats, targets, bytes; the first two by position.
    """
    model.eval()
    losses_of, sums = TokenLosses(model, head), None
    for inputs in dataloader:
        blocks, targets = inputs.pop("blocks"), inputs.pop("targets")
        del inputs["row_targets"], inputs["tokens"]
        losses = losses_of(inputs).double()  # [T]
        if sums is None:
            sums = torch.zeros(SUMS + 2 * RANGES, dtype=torch.float64, device=losses.device)
        counted = inputs["labels"][0] != IGNORED  # [T]
        ranges = range_of(inputs["position_ids"][0][counted])
        sums[0] += losses[counted].sum()
        sums[1] += targets
        sums[2] += float(sum(block_bytes[block] for block in blocks if block >= 0))
        sums[SUMS : SUMS + RANGES].index_add_(0, ranges, losses[counted])
        sums[SUMS + RANGES :].index_add_(0, ranges, torch.ones_like(losses[counted]))
    if sums is None:
        raise ValueError("evaluation over no blocks")
    return sums


def range_of(positions: torch.Tensor) -> torch.Tensor:
    """The range that each position int64 [N] falls into, int64 [N]."""
    edges = FIRST_RANGE * 2 ** torch.arange(RANGES - 1, device=positions.device)
    return torch.bucketize(positions, edges, right=True)


def metrics_of(sums: torch.Tensor, prefix: str) -> dict[str, float]:
    """Loss per target, perplexity per token and per byte, and bits per byte, from the sums of all ranks."""
    nll, targets, size = (float(value) for value in sums[:SUMS])
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


def by_position(sums: torch.Tensor) -> list[dict[str, float]]:
    """The ranges of positions that hold targets: first position, first beyond, loss per target, targets."""
    found = []
    for number in range(RANGES):
        nll, targets = float(sums[SUMS + number]), float(sums[SUMS + RANGES + number])
        if targets:
            start = FIRST_RANGE * 2 ** (number - 1) if number else 0
            found.append({"from": start, "to": FIRST_RANGE * 2**number, "loss": nll / targets, "targets": targets})
    return found


def positions_in_words(ranges: list[dict[str, float]]) -> str:
    """`loss by position: 0 to 63 7.12, 64 to 127 6.98, ...`"""
    parts = [f"{item['from']:,} to {item['to'] - 1:,} {item['loss']:.3f}" for item in ranges]
    return "loss by position: " + ", ".join(parts)
