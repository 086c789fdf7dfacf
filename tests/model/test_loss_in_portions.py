"""The loss through the output layer is the plain loss, with the same gradients, and makes no whole logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medscroll.model import kernels, loss_in_portions
from medscroll.model.loss_in_portions import LossInPortions, why_not
from tests import launch
from tests.model.shapes import documents, pack_row, tiny_config
from tests.model.storages import Largest

LENGTHS = [37, 1, 200, 19, 70]
PORTION = 50  # does not divide the row


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_in_portions, "PORTION", PORTION)


def build(kind: str, **changes: Any) -> Any:
    from transformers import AutoModelForCausalLM

    kernels.register()
    torch.manual_seed(5)
    config = tiny_config(kind, **changes)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="per_document").train()


def batch_with_masked_answers() -> dict[str, Any]:
    """A packed row in which a stretch longer than a portion, and single tokens, are no targets."""
    batch = pack_row(documents(LENGTHS))
    batch["labels"][0, 60:140] = -100
    batch["labels"][0, ::7] = -100
    return batch


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def step(model: Any, batch: dict[str, Any], items: torch.Tensor | None, *, portions: bool) -> torch.Tensor:
    """Loss and gradients of one row, plain or through the output layer."""
    model.zero_grad()
    more = {} if items is None else {"num_items_in_batch": items}
    if portions:
        loss_of = LossInPortions(model)
        rest = {name: value for name, value in batch.items() if name != "labels"}
        with loss_of.of(batch["labels"]):
            outputs = model(**rest, use_cache=False)
        loss = loss_of.loss(outputs, batch["labels"], **more)
    else:
        loss = model(**batch, use_cache=False, **more).loss
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("items", [None, torch.tensor(1234)])
@pytest.mark.parametrize(
    ("kind", "changes"), [("llama", {}), ("llama", {"tie_word_embeddings": True}), ("mixtral", {})]
)
def test_loss_and_gradients_are_those_of_whole_logits(
    kind: str, changes: dict[str, Any], items: torch.Tensor | None
) -> None:
    model, batch = build(kind, **changes), batch_with_masked_answers()
    plain = step(model, batch, items, portions=False)
    expected = gradients(model)
    found = step(model, batch, items, portions=True)
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-6)
    assert gradients(model).keys() == expected.keys()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)
    assert expected["model.layers.0.self_attn.q_proj.weight"].abs().max() > 1e-5


def test_adapters_get_the_gradients_of_whole_logits() -> None:
    """A frozen output layer, and one that is trained in full beside the adapter."""
    import peft

    for saved in (None, ["lm_head"]):
        base, batch = build("llama"), batch_with_masked_answers()
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", modules_to_save=saved)
        model = peft.get_peft_model(base, config)
        plain = step(model, batch, None, portions=False)
        expected = gradients(model)
        found = step(model, batch, None, portions=True)
        torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-6)
        assert len(expected) > 10
        assert any("lm_head" in name for name in expected) is bool(saved)
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)


def test_a_row_without_targets_gives_zeros() -> None:
    model, batch = build("llama"), pack_row(documents([40]))
    batch["labels"][:] = -100
    assert step(model, batch, torch.tensor(1), portions=True) == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


def test_whole_logits_are_never_made_and_the_layer_goes_back() -> None:
    model, batch = build("llama", vocab_size=1000), batch_with_masked_answers()
    with Largest() as seen:
        step(model, batch, None, portions=True)
    assert PORTION * 1000 <= seen.elements < sum(LENGTHS) * 1000 // 4
    rest = {name: value for name, value in batch.items() if name != "labels"}
    assert model(**rest, use_cache=False).logits.shape == (1, sum(LENGTHS), 1000)


def test_models_that_change_their_logits_are_found_out() -> None:
    assert [why_not(tiny_config(kind)) for kind in ("llama", "qwen3")] == ["", ""]
    assert "between" in why_not(tiny_config("cohere2", sliding_window=16))
    assert "between" in why_not(tiny_config("granite", logits_scaling=8.0))
    assert "routers" in why_not(tiny_config("mixtral", output_router_logits=True))


@pytest.mark.distributed
def test_under_zero3_gradients_are_those_of_one_process_with_one_gather_each_way(tmp_path: Path) -> None:
    """Two ranks, float32, real DeepSpeed: each takes half of the rows; 8 portions a row."""
    finished = launch.run(2, [str(tmp_path / "found.pt")], module="tests.model.loss_worker")
    found = torch.load(tmp_path / "found.pt")
    assert "gathers of lm_head: 2" in finished.stdout, finished.stdout[-2000:]
    assert len(found["expected"]) > 10
    torch.testing.assert_close(found["loss"], found["plain"], rtol=1e-6, atol=1e-6)
    for name, gradient in found["expected"].items():
        torch.testing.assert_close(found["gradients"][name], gradient, rtol=0, atol=1e-6)
        assert gradient.abs().max() > 1e-5, name


def test_the_question_is_answered_where_zero3_is_armed() -> None:
    """A model that ZeRO-3 would shard while it is built answers as before: the small copy stays whole."""
    pytest.importorskip("deepspeed", reason="needs deepspeed: pip install deepspeed")
    program = (
        "import os\n"
        "os.environ |= {'RANK': '0', 'LOCAL_RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1',"
        " 'MASTER_PORT': '0', 'DS_ACCELERATOR': 'cpu'}\n"
        "from transformers import LlamaConfig\n"
        "from transformers.integrations import HfDeepSpeedConfig, is_deepspeed_zero3_enabled\n"
        "armed = HfDeepSpeedConfig({'zero_optimization': {'stage': 3}, 'train_micro_batch_size_per_gpu': 1})\n"
        "assert is_deepspeed_zero3_enabled()\n"
        "from medscroll.model.loss_in_portions import why_not\n"
        "sizes = dict(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2)\n"
        "print('answer', repr(why_not(LlamaConfig(**sizes))))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "answer ''" in ran.stdout, ran.stderr[-2000:]
