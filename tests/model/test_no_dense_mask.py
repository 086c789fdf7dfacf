"""No attention function of ours ever builds a mask over the row, whatever the model class; transformers' SDPA does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medscroll.model import kernels
from tests.model.shapes import documents, pack_row, summed_loss, tiny_config
from tests.model.storages import Largest

LENGTHS = [700, 1, 300, 23]  # 1,024 tokens: a mask over the row would have 1,048,576 entries
CLASSES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "mistral": {"sliding_window": 64},
    "mixtral": {"sliding_window": None},
    "gemma3_text": {"sliding_window": 64, "head_dim": 16},
}


def largest(kind: str, attention: str) -> Largest:
    from transformers import AutoModelForCausalLM

    kernels.register()
    config = tiny_config(kind, **CLASSES[kind])
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention).train()
    batch = pack_row(documents(LENGTHS))
    with Largest() as seen:
        summed_loss(model, batch).backward()
    return seen


@pytest.mark.parametrize("kind", CLASSES)
def test_the_largest_tensor_is_linear_in_the_row(kind: str) -> None:
    tokens = sum(LENGTHS)
    widest = 4 * 96 if kind == "mixtral" else 128  # the vocabulary, or all experts' MLPs
    seen = largest(kind, kernels.PER_DOCUMENT)
    assert 0 < seen.elements <= tokens * widest, seen.operator
    assert seen.elements < tokens**2 // 2


def test_a_dense_mask_would_be_seen() -> None:
    assert largest("llama", "sdpa").elements >= sum(LENGTHS) ** 2
