"""Real torchrun with ZeRO-3: the same weights as one process, and no rank with a full copy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from medscroll.config.arguments import AdapterArguments, ModelArguments
from medscroll.model.load import build_model, load_config
from tests import launch
from tests.model.shapes import tiny_config

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.distributed


def alone(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    args = ModelArguments(model_name_or_path=name, from_scratch=True)
    model = build_model(
        args, AdapterArguments(), load_config(args), dtype=dtype, device="cpu", attn_backend="per_document", seed=7,
        gradient_checkpointing=False,
    )  # fmt: skip
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def sharded(ranks: int, name: str, mode: str, dtype: str, output: str) -> tuple[int, list[int]]:
    finished = launch.run(ranks, [name, mode, dtype, output], module="tests.model.zero3_worker")
    found = re.search(r"RESULT sharded=(\w+) model_bytes=(\d+) peaks=\[(.*)\]", finished.stdout)
    assert found, finished.stdout[-3000:]
    assert found[1] == "True"
    return int(found[2]), [int(peak) for peak in found[3].split(",")]


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert len(ours) > 10
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("kind", ["tiny", "demo", "gpt2", "mixtral"])
def test_random_weights_equal_those_of_one_process(kind: str, tmp_path: Path) -> None:
    """demo ties its embeddings; gpt2 initialises grandchildren from the root; mixtral has stacked experts."""
    name = kind
    if kind in ("gpt2", "mixtral"):
        name = str(tmp_path / kind)
        tiny_config(kind).save_pretrained(name)
    sharded(2, name, "scratch", "float32", str(tmp_path / "weights.pt"))
    same(torch.load(tmp_path / "weights.pt"), alone(name))


def test_bfloat16_keeps_rope_in_float32(tmp_path: Path) -> None:
    sharded(2, "tiny", "scratch", "bfloat16", str(tmp_path / "weights.pt"))
    found = torch.load(tmp_path / "weights.pt")
    assert found["model.rotary_emb.inv_freq"].dtype == torch.float32
    same(found, alone("tiny", torch.bfloat16))


def test_a_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    args = ModelArguments(model_name_or_path="tiny", from_scratch=True)
    model = build_model(
        args, AdapterArguments(), load_config(args), dtype=torch.float32, device="cpu", attn_backend="sdpa", seed=3,
        gradient_checkpointing=False,
    )  # fmt: skip
    model.save_pretrained(tmp_path / "saved")
    sharded(2, str(tmp_path / "saved"), "load", "float32", str(tmp_path / "weights.pt"))
    same(torch.load(tmp_path / "weights.pt"), {**dict(model.named_parameters()), **dict(model.named_buffers())})


def test_a_deepspeed_checkpoint_alone_is_exported(tmp_path: Path) -> None:
    """Partitioned weights without a consolidated copy, as DeepSpeed leaves them."""
    from safetensors.torch import load_file

    from medscroll.model.export import export, kind_of

    sharded(2, "tiny", "checkpoint", "float32", str(tmp_path / "checkpoint-5"))
    assert kind_of(tmp_path / "checkpoint-5") == "deepspeed"
    folder = export(tmp_path, tmp_path.parent / f"{tmp_path.name}-out")
    expected = {name: tensor for name, tensor in alone("tiny").items() if "inv_freq" not in name}
    same(load_file(folder / "model.safetensors"), expected)


@pytest.mark.slow
def test_host_memory_of_building_two_billion_parameters_with_four_ranks() -> None:
    """Anonymous memory above the interpreter's: a share, the largest parameter twice, and the allocator's slack."""
    model_bytes, peaks = sharded(4, "small-2b", "scratch", "bfloat16", "-")
    print(f"model {model_bytes / 1e9:.2f} GB, peaks {[round(peak / 1e9, 2) for peak in peaks]} GB")
    assert model_bytes > 3.9e9
    assert sum(peaks) < 0.65 * 4 * model_bytes
    assert max(peaks) < 0.7 * model_bytes
