"""Exported models load in plain transformers, are whole, and answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medscroll.cli import chat as chat_cli
from medscroll.cli import export as export_cli
from medscroll.config.arguments import AdapterArguments, ModelArguments
from medscroll.errors import CheckpointError, ConfigError
from medscroll.model.export import export
from medscroll.model.load import build_model, load_config
from tests.model.shapes import documents


def build(args: ModelArguments, adapters: AdapterArguments | None = None) -> Any:
    return build_model(
        args, adapters or AdapterArguments(), load_config(args, vocab_size=260), dtype=torch.float32, device="cpu",
        attn_backend="per_document", seed=1, gradient_checkpointing=False,
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as training leaves it: final model, tokenizer, and things that are no part of the model."""
    folder = tmp_path / "run"
    build(ModelArguments(model_name_or_path="tiny", from_scratch=True)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / "trainer_state.json").write_text("{}")
    return folder


def tokenizer() -> Any:
    """A byte-level tokenizer made here: 256 bytes and an end of text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate([*alphabet, "<eos>"])}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>")


def logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)(documents([20])[0]).logits


def test_a_run_is_exported_whole(run: Path) -> None:
    folder = export(run)
    assert torch.equal(logits(folder), logits(run))
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert "trainer_state.json" not in names
    config = json.loads((folder / "config.json").read_text())
    assert config["use_cache"] is True
    assert "per_document" not in json.dumps(config)


def test_another_precision(run: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = export(run, tmp_path / "half", dtype="bfloat16")
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_last_checkpoint_is_taken_where_there_is_no_final_model(run: Path, tmp_path: Path) -> None:
    for step in (9, 10):
        (tmp_path / "other").mkdir(exist_ok=True)
        build(ModelArguments(model_name_or_path="tiny", from_scratch=True)).save_pretrained(
            tmp_path / "other" / f"checkpoint-{step}"
        )
    (tmp_path / "other" / "checkpoint-10" / "marker.model").write_text("")
    assert (export(tmp_path / "other") / "marker.model").exists()


def test_an_adapter_is_merged(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    model = build(ModelArguments(model_name_or_path=str(run)), AdapterArguments(use_peft=True, lora_rank=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    folder = export(tmp_path / "adapter", tmp_path / "merged")
    assert not list(folder.glob("adapter*"))
    model.set_adapter("default")
    ids = documents([20])[0]
    trained = model.eval()(input_ids=ids, position_ids=torch.arange(20)[None]).logits
    torch.testing.assert_close(logits(folder), trained, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(folder), logits(run), atol=1e-2)


def test_an_adapter_on_random_weights_cannot_be_merged(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    build(
        ModelArguments(model_name_or_path="tiny", from_scratch=True), AdapterArguments(use_peft=True)
    ).save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="does not name its base"):
        export(tmp_path / "adapter")


def test_weights_that_are_not_finite_are_found(run: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(run / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, run / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is not finite"):
        export(run)


def test_missing_weights_are_found(run: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(run / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, run / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight"):
        export(run)


def test_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model in"):
        export(tmp_path)
    with pytest.raises(CheckpointError, match="there is no folder"):
        export(tmp_path / "nowhere")


def test_a_full_output_folder_is_left_alone(run: Path) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        export(run, run)


def test_the_verbs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_cli.main([str(run), "--output_dir", str(tmp_path / "out"), "--json"]) == 0
    assert "model.safetensors" in json.loads(capsys.readouterr().out)["files"]
    asked = ["--prompt", "Fever and a cough", "--max_new_tokens", "5", "--temperature", "0"]
    assert chat_cli.main([str(tmp_path / "out"), *asked]) == 0
    first = capsys.readouterr().out
    assert chat_cli.main([str(tmp_path / "out"), *asked]) == 0
    assert capsys.readouterr().out == first  # greedy
    assert first.strip()


def test_bad_flags_of_chat_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)3 mistakes|--max_new_tokens.*--temperature"):
        chat_cli.main(["x", "--max_new_tokens", "0", "--temperature", "-1", "--prompt", " "])
