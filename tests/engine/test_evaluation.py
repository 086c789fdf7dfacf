"""Evaluation: the loss of every token without whole logits, and what is summed of it by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medscroll.engine import token_losses
from medscroll.engine.evaluation import by_position, evaluate_sums, metrics_of, positions_in_words, range_of
from medscroll.engine.token_losses import TokenLosses
from medscroll.model import kernels
from tests.model.shapes import documents, pack_row, tiny_config
from tests.model.storages import Largest

LENGTHS = [37, 1, 200, 19, 70]


def build(kind: str, **changes: Any) -> Any:
    from transformers import AutoModelForCausalLM

    kernels.register()
    torch.manual_seed(5)
    config = tiny_config(kind, **changes)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="per_document").eval()


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_losses, "PORTION", 50)


def expected(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Loss of each target from whole logits, [T]."""
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}, use_cache=False).logits[0]
    shifted = torch.cat([logits[:1], logits[:-1]]).float()
    losses = torch.nn.functional.cross_entropy(shifted, batch["labels"][0], ignore_index=-100, reduction="none")
    return losses.detach()


# the loss of llama comes in portions; that of the others from logits that the model scales after its output layer
@pytest.mark.parametrize(
    ("kind", "changes", "portions"),
    [("llama", {}, True), ("llama", {"tie_word_embeddings": True}, True), ("qwen3", {"head_dim": 32}, True),
     ("cohere2", {"sliding_window": 16}, False), ("granite", {"logits_scaling": 8.0}, False)],
)  # fmt: skip
def test_token_losses_equal_those_of_whole_logits(kind: str, changes: dict[str, Any], portions: bool) -> None:
    model, batch = build(kind, **changes), pack_row(documents(LENGTHS))
    losses_of = TokenLosses(model, model.get_output_embeddings())
    found = losses_of(batch)
    assert (losses_of.head is not None) is portions
    torch.testing.assert_close(found, expected(model, batch), rtol=1e-5, atol=1e-5)
    assert (found == 0).sum() == len(LENGTHS)  # the first token of each document is no target
    torch.testing.assert_close(losses_of(batch), found)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_whole_logits_are_never_made() -> None:
    model, batch = build("llama", vocab_size=1000), pack_row(documents(LENGTHS))
    with Largest() as seen:
        TokenLosses(model, model.get_output_embeddings())(batch)
    assert 50 * 1000 <= seen.elements < sum(LENGTHS) * 1000 // 4


def test_positions_fall_into_ranges_that_double() -> None:
    positions = torch.tensor([0, 63, 64, 127, 128, 255, 256, 1 << 30])
    assert range_of(positions).tolist() == [0, 0, 1, 1, 2, 2, 3, 19]


def test_sums_by_position_add_up_to_the_whole() -> None:
    model = build("llama")
    rows = [pack_row(documents(LENGTHS)), pack_row(documents([150, 2], seed=1))]
    batches = []
    for number, row in enumerate(rows):
        counted = int((row["labels"] != -100).sum())
        tokens = row["input_ids"].numel()
        batches.append({**row, "blocks": [number], "targets": counted, "row_targets": [counted], "tokens": tokens})
    sums = evaluate_sums(model, [dict(batch) for batch in batches], np.array([1000.0, 500.0]), model.lm_head)
    every = torch.cat([expected(model, row) for row in rows]).double()
    targets = sum(batch["targets"] for batch in batches)
    metrics, ranges = metrics_of(sums, "eval"), by_position(sums)
    assert metrics["eval_loss"] == pytest.approx(float(every.sum()) / targets, rel=1e-5)
    assert (metrics["eval_targets"], metrics["eval_bytes"]) == (targets, 1500.0)
    assert [(item["from"], item["to"]) for item in ranges] == [(0, 64), (64, 128), (128, 256)]
    assert sum(item["targets"] for item in ranges) == targets
    assert sum(item["loss"] * item["targets"] for item in ranges) == pytest.approx(float(every.sum()), rel=1e-5)
    positions = torch.cat([row["position_ids"][0] for row in rows])
    late = every[positions >= 128]
    assert ranges[-1]["targets"] == len(late) == 72 + 22
    assert ranges[-1]["loss"] == pytest.approx(float(late.mean()), rel=1e-5)
    assert "128 to 255" in positions_in_words(ranges)
