"""What a run saves is the trained model, in Hugging Face layout, from every engine."""

from __future__ import annotations

import json
import zlib
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
    flags["max_eval_samples"] = 4  # a block a rank: every layer is gathered for each
    launch.run(4, training(prepared, run, **flags), timeout=480)  # minutes on two cores
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


@pytest.mark.distributed
def test_checkpoints_by_time_keep_the_last_and_say_what_they_hold(prepared: Path, tmp_path: Path) -> None:
    """Every step is due; two ranks take each checkpoint together, the older go, the manifest names every file."""
    run = tmp_path / "run"
    flags = {"max_steps": 4, "save_minutes": 0.00001, "save_total_limit": 2, "deepspeed": "zero2"}
    launch.run(2, training(prepared, run, **flags))
    kept = sorted(path.name for path in run.glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-3"], "the end saves the model, not one more checkpoint"
    folder = run / kept[-1]
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = manifest["files"]
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(listed) == present
    assert manifest["sharded_over"] == 2
    for name, entry in listed.items():
        content = (folder / name).read_bytes()
        assert (len(content), zlib.crc32(content)) == (entry["bytes"], entry["crc32"])
    damaged = max(listed, key=lambda name: listed[name]["bytes"])
    (folder / damaged).write_bytes((folder / damaged).read_bytes()[:-1])
    again = launch.run(2, training(prepared, run, **flags, resume_from_checkpoint="true"), check=False)
    assert again.returncode != 0
    assert damaged in again.stderr
    assert "Traceback" not in again.stderr.split("ChildFailedError")[0].split("torch/distributed")[0]


@pytest.mark.distributed
def test_raw_texts_are_prepared_first_and_found_again(prepared: Path, tmp_path: Path) -> None:
    """`--train_file_dir` under torchrun: prepared once, before any process group, and not again by the next run."""
    flags = training(prepared, tmp_path / "run", max_steps=2, validation_fraction=0.05)
    at = flags.index("--data_dir")
    flags[at : at + 2] = ["--train_file_dir", str(prepared.parent / "raw"), "--prepared_dir", str(tmp_path / "cache")]
    flags += ["--tokenizer_name_or_path", str(prepared.parent / "tokenizer")]
    launch.run(2, flags)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("manifest.json")}
    assert len(first) == 1
    flags[flags.index("--output_dir") + 1] = str(tmp_path / "second")
    launch.run(1, flags)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("manifest.json")} == first
    assert launch.losses(tmp_path / "run")[1] > 0
    assert (tmp_path / "second" / "loss.png").stat().st_size > 1000
