"""The proof passes what is right and catches what leaks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from medscroll.config.presets import load_preset
from medscroll.errors import EnvironmentError_
from medscroll.model import kernels
from medscroll.model.attention import choose_backend
from medscroll.model.proof import prove_backend, shrink
from tests.model.shapes import tiny_config


def one_document_a_row(*args: Any, position_ids: Any = None, cu_seq_lens_q: Any = None, **kwargs: Any) -> Any:
    """A backend that ignores borders."""
    return kernels.per_document_attention(*args, position_ids=torch.arange(args[1].shape[2])[None], **kwargs)


def uncausal(module: Any, query: Any, key: Any, value: Any, *_: Any, scaling: float, **kwargs: Any) -> Any:
    """A backend that keeps documents apart and lets them see their future."""
    borders = kernels.document_borders(1, query.shape[2], position_ids=None, cu_seq_lens=kwargs["cu_seq_lens_q"])
    pieces = [
        torch.nn.functional.scaled_dot_product_attention(
            query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], scale=scaling, enable_gqa=True
        )
        for a, b in itertools.pairwise(borders)
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2), None


def no_gradient(*args: Any, **kwargs: Any) -> Any:
    """A backend whose forward is right and whose backward loses the gradient of the keys."""
    module, query, key, *rest = args
    return kernels.per_document_attention(module, query, key.detach(), *rest, **kwargs)


WRONG = {"leaks": one_document_a_row, "uncausal": uncausal, "no_gradient": no_gradient}


@pytest.fixture(params=WRONG)
def wrong_backend(request: pytest.FixtureRequest) -> Any:
    name = f"test_{request.param}"
    AttentionInterface.register(name, WRONG[request.param])
    AttentionMaskInterface.register(name, kernels.no_dense_mask)
    return name


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "mixtral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_per_document_passes(kind: str, dtype: torch.dtype) -> None:
    proof = prove_backend(tiny_config(kind), kernels.PER_DOCUMENT, dtype=dtype)
    assert proof.passed, proof.reason
    assert proof.leak < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wrong_backends_fail(wrong_backend: str, dtype: torch.dtype) -> None:
    proof = prove_backend(tiny_config("llama"), wrong_backend, dtype=dtype)
    assert not proof.passed
    if wrong_backend == "test_leaks":
        assert "see each other" in proof.reason
        assert proof.leak > 1e-2
    else:
        assert "differs from documents alone" in proof.reason


def hybrid() -> Any:
    return tiny_config(
        "qwen3_5_text", head_dim=32, num_hidden_layers=8, linear_num_key_heads=2, linear_num_value_heads=4,
        linear_key_head_dim=16, linear_value_head_dim=16,
    )  # fmt: skip


def test_a_hybrid_keeps_every_layer_type() -> None:
    config = hybrid()
    small = shrink(config)
    assert set(small.layer_types) == set(config.layer_types) == {"linear_attention", "full_attention"}
    assert small.num_hidden_layers == len(small.layer_types) < config.num_hidden_layers


def test_a_hybrid_fed_positions_alone_is_caught() -> None:
    proof = prove_backend(hybrid(), kernels.PER_DOCUMENT, borders="position_ids")
    assert not proof.passed


def test_a_hybrid_without_its_kernels_stops_the_run_with_the_remedy() -> None:
    if torch.cuda.is_available():
        pytest.skip("with a GPU the hybrid's kernels may be there")
    with pytest.raises(EnvironmentError_, match=r"(?s)qwen3_5_text.*flash-linear-attention"):
        choose_backend("auto", hybrid(), torch.float32, "cpu")


@pytest.mark.parametrize("name", ["yi-34b", "deepseek-67b", "qwen2.5-7b", "llama-3.1-70b"])
def test_the_small_model_keeps_head_size_and_ratio(name: str) -> None:
    from transformers import CONFIG_MAPPING

    values = dict(load_preset(name).config)
    config = CONFIG_MAPPING[values.pop("model_type")](**values)
    small = shrink(config)
    assert small.num_attention_heads / small.num_key_value_heads == (
        config.num_attention_heads / config.num_key_value_heads
    )
    assert small.hidden_size // small.num_attention_heads == config.hidden_size // config.num_attention_heads
    assert small.num_hidden_layers == 2
    assert config.num_hidden_layers > 2  # the original is untouched
    assert prove_backend(config, kernels.PER_DOCUMENT).passed


def test_the_global_random_state_is_left_as_it_was() -> None:
    torch.manual_seed(11)
    expected = torch.rand(4)
    torch.manual_seed(11)
    assert prove_backend(tiny_config("llama"), kernels.PER_DOCUMENT).passed
    assert torch.equal(torch.rand(4), expected)


def test_the_proof_model_is_not_sharded_under_zero3() -> None:
    from transformers.integrations import HfDeepSpeedConfig, unset_hf_deepspeed_config

    pytest.importorskip("deepspeed")
    alive = HfDeepSpeedConfig({"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}})
    try:
        assert alive.is_zero3()
        assert prove_backend(tiny_config("llama"), kernels.PER_DOCUMENT).passed  # no process group exists here
    finally:
        unset_hf_deepspeed_config()
