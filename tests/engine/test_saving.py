"""What a run saves is the trained model, in Hugging Face layout, from every engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests import launch
from tests.engine.conftest import training


def load_plain(folder: Path) -> torch.nn.Module:
    """The saved model in plain transformers, as any user loads it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()


@pytest.mark.distributed
def test_zero3_by_two_ranks_saves_bitwise_the_trained_model(prepared: Path, tmp_path: Path) -> None:
    """Logits in plain transformers equal those of the sharded model that was trained, bit for bit."""
    run, target = tmp_path / "run", tmp_path / "logits.pt"
    flags = training(prepared, run, max_steps=3, deepspeed="zero3")
    launch.run(2, [str(target), *flags[1:]], module="tests.engine.logits_worker")
    trained = torch.load(target)
    with torch.no_grad():
        loaded = load_plain(run)(torch.arange(5, 105)[None]).logits
    assert trained.abs().max() > 0
    assert torch.equal(trained, loaded)


@pytest.mark.distributed
def test_95_layers_under_zero3_on_four_ranks(prepared: Path, tmp_path: Path) -> None:
    """The depth of a 67B model at a small width builds, trains, saves and loads."""
    run = tmp_path / "run"
    flags = {"model_name_or_path": "tiny-95-layers", "max_steps": 2, "deepspeed": "zero3", "block_size": 64}
    launch.run(4, training(prepared, run, **flags))
    assert len(launch.losses(run)) == 2
    model = load_plain(run)
    assert model.config.num_hidden_layers == 95
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.distributed
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_lora_saves_an_adapter_from_every_stage(stage: str, prepared: Path, tmp_path: Path) -> None:
    """LoRA on a saved model: an adapter folder that peft loads, base weights untouched."""
    pytest.importorskip("peft")
    from peft import AutoPeftModelForCausalLM

    base, run = tmp_path / "base", tmp_path / "run"
    launch.run(1, training(prepared, base, max_steps=1))
    flags = {"model_name_or_path": base, "from_scratch": "false", "use_peft": "true", "lora_rank": 4, "max_steps": 3}
    launch.run(2, training(prepared, run, deepspeed=stage, **flags))
    adapter = json.loads((run / "adapter_config.json").read_text())
    assert adapter["r"] == 4
    model = AutoPeftModelForCausalLM.from_pretrained(run)
    moved = [value.abs().max() for name, value in model.named_parameters() if "lora_B" in name]
    assert moved
    assert max(moved) > 0, "training moved the adapter"
