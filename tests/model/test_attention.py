"""Attention over packed rows equals documents alone, for each backend that runs on a CPU and several architectures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medscroll.errors import ConfigError
from medscroll.model import kernels
from medscroll.model.attention import LADDER, available_backends, choose_backend
from tests.model.shapes import documents, pack_row, summed_loss, tiny_config

LENGTHS = [37, 1, 64, 19]
SHAPES = {
    "llama": {},
    "llama-no-gqa": {"num_key_value_heads": 4},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "mistral": {"sliding_window": None},
    "mistral-window-of-64": {"sliding_window": 64},
    "mistral-window-of-16": {"sliding_window": 16},
    "gemma3_text": {"sliding_window": 16, "head_dim": 16},  # layers with and without a window
}


def build(name: str, attention: str) -> Any:
    from transformers import AutoModelForCausalLM

    config = tiny_config(name.partition("-")[0], **SHAPES[name])
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").train()
    model.set_attn_implementation(attention)
    return model


def loss_and_gradients(model: Any, batches: list[dict[str, Any]]) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    loss = torch.stack([summed_loss(model, batch) for batch in batches]).sum()
    loss.backward()
    return loss.item(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("name", SHAPES)
def test_packed_loss_and_gradients_equal_documents_alone(name: str) -> None:
    pieces = documents(LENGTHS)
    expected, gradients = loss_and_gradients(build(name, "eager"), [pack_row([piece]) for piece in pieces])
    packed, packed_gradients = loss_and_gradients(build(name, kernels.PER_DOCUMENT), [pack_row(pieces)])
    assert expected > 100  # the comparison is about something
    assert packed == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_borders_from_positions_equal_borders_given() -> None:
    pieces = documents(LENGTHS)
    model, batch = build("llama", kernels.PER_DOCUMENT), pack_row(pieces)
    with_borders = summed_loss(model, batch)
    without = summed_loss(model, {key: batch[key] for key in ("input_ids", "labels", "position_ids")})
    assert torch.equal(with_borders, without)


def test_borders_of_another_sharding_give_way_to_positions() -> None:
    """Under sequence parallelism the borders in the call are those of the local shard."""
    positions = pack_row(documents([5, 3]))["position_ids"]
    local = torch.tensor([0, 4], dtype=torch.int32)
    assert kernels.document_borders(1, 8, position_ids=positions, cu_seq_lens=local) == [0, 5, 8]


def test_no_borders_is_an_error_and_not_one_document() -> None:
    with pytest.raises(ValueError, match="no document borders"):
        kernels.document_borders(1, 8, position_ids=None, cu_seq_lens=None)


def test_rows_of_a_batch_are_kept_apart() -> None:
    model = build("llama", kernels.PER_DOCUMENT)
    first, second = documents([12, 12])
    positions = torch.tensor([[*range(12)], [*range(7), *range(5)]])
    together = model(input_ids=torch.cat([first, second]), position_ids=positions, use_cache=False).logits
    alone = model(input_ids=second[:, 7:], use_cache=False).logits
    torch.testing.assert_close(together[1, 7:], alone[0], rtol=1e-4, atol=1e-5)


def test_changed_borders_in_the_same_tensor_are_seen() -> None:
    borders = torch.tensor([0, 4, 8], dtype=torch.int32)
    assert kernels.document_borders(1, 8, position_ids=None, cu_seq_lens=borders) == [0, 4, 8]
    borders[1] = 5
    assert kernels.document_borders(1, 8, position_ids=None, cu_seq_lens=borders) == [0, 5, 8]


def test_generation_with_a_cache_equals_sdpa() -> None:
    prompt = documents([9])[0]
    outputs = [
        build("llama", name).eval().generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)
        for name in (kernels.PER_DOCUMENT, "sdpa")
    ]
    assert torch.equal(*outputs)


def test_padding_is_refused() -> None:
    mask = torch.ones(1, 12, dtype=torch.long)
    mask[0, :3] = 0
    with pytest.raises(ValueError, match="without padding"):
        build("llama", kernels.PER_DOCUMENT)(input_ids=documents([12])[0], attention_mask=mask)


@pytest.mark.parametrize("asked", [{"softcap": 30.0}, {"s_aux": torch.zeros(4)}, {"is_causal": False}])
def test_what_the_kernel_would_ignore_is_refused(asked: dict[str, Any]) -> None:
    query = torch.zeros(1, 4, 6, 8)
    with pytest.raises(ValueError, match="does not compute"):
        kernels.per_document_attention(
            torch.nn.Identity(), query, query, query, None, position_ids=torch.arange(6)[None], **asked
        )


def test_varlen_gives_its_kernel_the_right_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel itself needs a GPU; here it is replaced, with the signatures of torch 2.10 and of 2.13."""
    import torch.nn.attention.varlen as module

    calls: list[dict[str, Any]] = []

    def recent(  # noqa: PLR0917
        query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int,
        *, scale: Any = None, window_size: Any = (-1, -1), enable_gqa: bool = False,
    ) -> Any:  # fmt: skip
        calls.append(locals())
        return torch.zeros_like(query)

    def older(  # noqa: PLR0917
        query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, is_causal: bool = False
    ) -> Any:
        calls.append(locals())
        return torch.zeros_like(query)

    query, key = torch.randn(1, 4, 8, 16), torch.randn(1, 2, 8, 16)
    positions = pack_row(documents([5, 3]))["position_ids"]
    for function in (recent, older):
        monkeypatch.setattr(module, "varlen_attn", function)
        kernels._varlen_parameters.cache_clear()
        output, _ = kernels.varlen_attention(
            torch.nn.Identity(), query, key, key, None, scaling=0.5, position_ids=positions
        )
        assert output.shape == (1, 8, 4, 16)
    kernels._varlen_parameters.cache_clear()
    new, old = calls
    assert new["cu_q"].tolist() == [0, 5, 8]
    assert new["max_q"] == 5
    assert (new["window_size"], new["enable_gqa"], new["scale"]) == ((-1, 0), True, 0.5)
    assert old["is_causal"] is True
    assert old["key"].shape == (8, 4, 16)  # key heads repeated where the kernel has no GQA
    torch.testing.assert_close(old["query"], query[0].transpose(0, 1) * 0.5 * 16**0.5)


def test_the_ladder_is_in_order_and_the_last_rung_is_always_there() -> None:
    backends = available_backends()
    assert [backend.name for backend in backends] == list(LADDER)
    assert backends[-1].present
    assert all(backend.reason for backend in backends)


def test_auto_says_why_better_ones_were_not_taken() -> None:
    choice = choose_backend("auto", tiny_config("llama"), torch.float32, "cpu")
    assert choice.name == kernels.PER_DOCUMENT
    for name in LADDER[:-1]:
        assert f"not {name}: " in choice.reason


def test_auto_walks_down_past_a_backend_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from medscroll.model import attention, proof

    monkeypatch.setattr(attention, "_unfit", lambda backend, *_: None)  # pretend that everything is present
    proved: list[str] = []

    def prove(config: Any, name: str, **_: Any) -> Any:
        proved.append(name)
        return SimpleNamespace(passed=name == "flash_attention_2", reason=f"{name} was tried")

    monkeypatch.setattr(proof, "prove_backend", prove)
    choice = choose_backend("auto", tiny_config("llama"), torch.bfloat16, "cpu")
    assert choice.name == "flash_attention_2"
    assert proved == list(LADDER[:3])
    assert "failed the proof: flash_attention_4 was tried" in choice.reason


@pytest.mark.parametrize("name", ["flash_attention_2", "varlen", "sdpa", "flash"])
def test_a_named_backend_that_cannot_run_stops_with_its_name(name: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, where the backend may be present")
    with pytest.raises(ConfigError, match=name):
        choose_backend(name, tiny_config("llama"), torch.float32, "cpu")


def test_a_proof_that_fails_names_class_backend_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from medscroll.model import proof

    monkeypatch.setattr(proof, "_differences", lambda *_: (0.4, 0.2, 0.3))
    with pytest.raises(ConfigError, match=r"qwen3 model .* per_document: failed the proof: .*leak 2\.0e-01"):
        choose_backend(kernels.PER_DOCUMENT, tiny_config("qwen3", head_dim=32), torch.float32, "cpu")
