"""Rows to one micro batch: concatenated without padding, with the borders that attention kernels ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def collate_blocks(features: Sequence[dict[str, torch.Tensor]]) -> dict[str, Any]:
    """Concatenates rows into a micro batch of one line.

    Args:
        features: items of `PackedDataset` or `ScheduledBlocks`: input_ids, labels, position_ids int64 [T_i];
            block_index int64 [] where the dataset gives it.

    Returns:
        input_ids, labels, position_ids: int64 [1, sum of T_i]; cu_seq_lens_q and cu_seq_lens_k: int32 [pieces + 1],
        a border wherever position_ids is 0; max_length_q and max_length_k: int, the longest piece; block_index:
        int64 [rows], only where the features carry it.
    """
    import torch

    batch: dict[str, Any] = {
        name: torch.cat([feature[name] for feature in features]).unsqueeze(0)  # [1, T]
        for name in ("input_ids", "labels", "position_ids")
    }
    positions = batch["position_ids"][0]  # [T]
    starts = torch.nonzero(positions == 0).flatten()  # [pieces]
    borders = torch.cat([starts, starts.new_tensor([len(positions)])]).to(torch.int32)  # [pieces + 1]
    longest = int(borders.diff().max())
    batch |= {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest}
    if "block_index" in features[0]:
        batch["block_index"] = torch.stack([feature["block_index"] for feature in features])  # [rows]
    return batch
