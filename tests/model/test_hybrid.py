"""Hybrids (linear attention and full attention) are fed what keeps their documents apart, or refused with the reason.

The packages that compute packed linear attention need a GPU. Here transformers' own reference functions, which know
one document, are called once a document in their place: what is tested is that the borders reach them.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from medscroll.engine.trainer import collate_with_counts
from medscroll.errors import EnvironmentError_
from medscroll.model import kernels
from medscroll.model.attention import choose_backend
from medscroll.model.borders import is_hybrid, sequence_index
from medscroll.model.proof import prove_backend
from tests.model.shapes import tiny_config


def hybrid() -> Any:
    return tiny_config(
        "qwen3_5_text", head_dim=32, num_hidden_layers=4, linear_num_key_heads=2, linear_num_value_heads=4,
        linear_key_head_dim=16, linear_value_head_dim=16,
    )  # fmt: skip


@pytest.fixture
def with_packages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand-ins for flash-linear-attention and causal-conv1d; returns the names of the arguments they were given."""
    module = pytest.importorskip("transformers.models.qwen3_5.modeling_qwen3_5")
    rule, convolve = module.torch_chunk_gated_delta_rule.__wrapped__, module.causal_conv1d_fn.__wrapped__
    given: list[str] = []

    def packed_rule(*tensors: torch.Tensor, cu_seqlens: Any = None, **options: Any) -> Any:
        if cu_seqlens is None:
            return rule(*tensors, **options)
        given.append("cu_seqlens")
        per_token = {key: options.pop(key) for key in ("g", "beta")}
        outputs = [
            rule(*(t[:, a:b] for t in tensors), **{k: v[:, a:b] for k, v in per_token.items()}, **options)[0]
            for a, b in itertools.pairwise(cu_seqlens.tolist())
        ]
        return torch.cat(outputs, dim=1), None

    def packed_convolution(x: torch.Tensor, *values: Any, seq_idx: Any = None, activation: Any = None, **_: Any) -> Any:
        if seq_idx is None:
            return convolve(x, *values, activation=activation)
        given.append("seq_idx")
        lengths = torch.unique_consecutive(seq_idx, return_counts=True)[1].tolist()
        pieces = x.split(lengths, dim=2)  # [1, channels, L]
        return torch.cat([convolve(piece.contiguous(), *values, activation=activation) for piece in pieces], dim=2)

    monkeypatch.setattr(module, "torch_chunk_gated_delta_rule", packed_rule)
    monkeypatch.setattr(module, "causal_conv1d_fn", packed_convolution)
    return given


def test_a_hybrid_with_its_packages_passes_in_forward_and_gradients(with_packages: list[str]) -> None:
    proof = prove_backend(hybrid(), kernels.PER_DOCUMENT)
    assert proof.passed, proof.reason
    assert set(with_packages) == {"cu_seqlens", "seq_idx"}


def test_without_the_sequence_index_the_convolution_leaks_and_is_caught(
    with_packages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medscroll.model import proof as module

    monkeypatch.setattr(module, "is_hybrid", lambda _: False)
    proof = prove_backend(hybrid(), kernels.PER_DOCUMENT)
    assert "cu_seqlens" in with_packages
    assert not proof.passed
    assert "see each other" in proof.reason


def test_without_packages_it_is_refused_and_the_reason_names_them() -> None:
    if torch.cuda.is_available():
        pytest.skip("with a GPU the hybrid's packages may be there")
    with pytest.raises(EnvironmentError_, match=r"(?s)qwen3_5_text.*flash-linear-attention"):
        choose_backend("auto", hybrid(), torch.float32, "cpu")


def test_a_state_space_hybrid_is_refused_as_what_it_is() -> None:
    config = tiny_config("jamba", num_hidden_layers=4, attn_layer_offset=1, attn_layer_period=2)
    with pytest.raises(EnvironmentError_, match=r"(?s)jamba.*see each other.*carry a state"):
        choose_backend("auto", config, torch.float32, "cpu")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("llama", False), ("mistral", False), ("qwen3", False), ("gemma3_text", False), ("mixtral", False),
     ("qwen3_5_text", True), ("bamba", True), ("falcon_h1", True)],
)  # fmt: skip
def test_which_classes_are_hybrids(kind: str, expected: bool) -> None:
    extra = {"head_dim": 16} if kind in ("gemma3_text", "qwen3_5_text") else {}
    assert is_hybrid(tiny_config(kind, **extra)) is expected


def test_the_trainer_gives_a_hybrid_the_number_of_each_tokens_document() -> None:
    block = {
        "input_ids": torch.arange(3, 9),
        "labels": torch.arange(3, 9),
        "position_ids": torch.tensor([0, 1, 2, 0, 1, 0]),
        "block_index": torch.tensor(0),
    }
    batch = collate_with_counts([dict(block), dict(block)], hybrid=True)
    assert batch["seq_idx"].tolist() == [[0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5]]
    assert batch["seq_idx"].dtype == torch.int32
    assert torch.equal(batch["seq_idx"], sequence_index(batch["cu_seq_lens_q"]))
    assert "seq_idx" not in collate_with_counts([dict(block)])
