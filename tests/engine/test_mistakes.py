"""A user's mistake ends with exit code 2 and a message that names it and the remedy; never with a traceback."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from medscroll.cli.main import main
from tests.engine.conftest import training


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """These jobs are of one process, whatever started the tests."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], *expected: str) -> str:
    """Run a verb that must refuse; every expected text stands in the message."""
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for text in expected:
        assert text in message, message
    return message


def prepare(sources: Path, out: Path, tokenizer: Path) -> list[str]:
    """A `prepare` command line."""
    return ["prepare", str(sources), "--output_dir", str(out), "--tokenizer_name_or_path", str(tokenizer)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.txt", b" \n\t\n", ["no document"]),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n', ["broken.jsonl", "2"]),
        ("fields.jsonl", b'{"body_of_note": "a", "n": 1}\n', ["fields.jsonl", "body_of_note", "--text_field"]),
        ("binary.txt", bytes(range(256)) * 8, ["binary.txt"]),
        ("undecodable.txt", "好的".encode("gb18030") * 50 + b"\xff\xff\xff", ["undecodable.txt"]),
    ],
)
def test_files_that_cannot_be_read(
    name: str, content: bytes, expected: list[str], *, prepared: Path, tmp_path: Path, capsys: Any
) -> None:
    """The file is named, and the line where there is one."""
    source = tmp_path / "raw"
    source.mkdir()
    (source / name).write_bytes(content)
    refused(capsys, [*prepare(source, tmp_path / "data", prepared.parent / "tokenizer"), "--strict"], *expected)


def test_files_that_cannot_be_read_are_left_out_and_named(prepared: Path, tmp_path: Path, capsys: Any) -> None:
    """Without --strict the run goes on and says how many it left out, and why."""
    source = tmp_path / "raw"
    source.mkdir()
    (source / "broken.jsonl").write_bytes(b'{"text": "a good line"}\n{"text": \n')
    (source / "binary.txt").write_bytes(bytes(range(256)) * 8)
    assert main(prepare(source, tmp_path / "data", prepared.parent / "tokenizer")) == 0
    said = capsys.readouterr()
    assert "2 files or records cannot be read" in said.out + said.err
    ledger = json.loads((tmp_path / "data" / "ledger.json").read_text())
    assert ledger["documents"]["kept"] == 1
    assert sum(ledger["documents"]["rejected_by_reason"].values()) == 2


def test_an_empty_folder_and_a_missing_one(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to read is a mistake, not an empty result."""
    (tmp_path / "raw").mkdir()
    tokenizer = prepared.parent / "tokenizer"
    refused(capsys, prepare(tmp_path / "raw", tmp_path / "data", tokenizer), "raw")
    refused(capsys, prepare(tmp_path / "none", tmp_path / "data", tokenizer), "none")


def test_a_tokenizer_without_eos(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ends of documents could not be marked."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(prepared.parent / "tokenizer", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("eos_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    refused(capsys, prepare(prepared.parent / "raw", tmp_path / "data", folder), "EOS", "tokenizer_config.json")


def test_no_room_for_the_store(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is looked at before anything is written."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    refused(capsys, prepare(prepared.parent / "raw", tmp_path / "data", prepared.parent / "tokenizer"), "disk")


def test_flags_all_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt flag, a misspelt key, a wrong type and a wrong choice in one message, nearest names suggested."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("blocksize: 4096\noverlong: cut\n")
    argv = ["pretrain", str(recipe), "--model_name_or_pth", "x", "--max_steps", "many"]
    refused(capsys, argv, "block_size", "recipe.yaml:1", "--model_name_or_path", "max_steps", "overlong", "split")


def test_training_that_cannot_be_meant(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A preset without --from_scratch, no data, an output folder of another run, an unknown engine or backend."""
    run = tmp_path / "run"
    refused(capsys, training(prepared, run, from_scratch="false"), "tiny", "--from_scratch")
    refused(capsys, training(prepared, run, model_name_or_path="yi-6b", from_scratch="false"), "01-ai/Yi-6B")
    refused(capsys, ["pretrain", "--output_dir", str(run)], "--data_dir", "--train_file_dir", "--model_name_or_path")
    refused(capsys, training(prepared, run, deepspeed="zero4"), "zero4", "zero3")
    refused(capsys, training(prepared, run, resume_from_checkpoint="true"), "checkpoint")
    refused(capsys, training(prepared, run, attn_backend="flash_attention_2"), "flash_attention_2")
    run.mkdir()
    (run / "config.yaml").touch()
    refused(capsys, training(prepared, run), "holds a run", "--resume_from_checkpoint")


def test_models_that_do_not_fit_the_data(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A longest piece beyond the positions names three flags; a vocabulary larger than the embedding is refused."""
    run = tmp_path / "run"
    flags = training(prepared, run, block_size=4000, max_position_embeddings=128)
    refused(capsys, flags, "positions", "--rope_scaling", "--rope_theta", "--max_position_embeddings")
    from transformers import LlamaConfig

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaConfig(vocab_size=10, **shape).save_pretrained(tmp_path / "small")
    refused(capsys, training(prepared, run, model_name_or_path=tmp_path / "small"), "embedding", "tokenizer")


def test_what_is_not_installed_or_not_here(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeepSpeed or a reporting package that is absent names its pip install; QLoRA without a GPU says so."""
    run = tmp_path / "run"
    quantized = {"qlora": "true", "use_peft": "true", "from_scratch": "false", "model_name_or_path": tmp_path / "small"}
    from transformers import LlamaConfig

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaConfig(vocab_size=2000, **shape).save_pretrained(tmp_path / "small")
    refused(capsys, training(prepared, run, **quantized), "--qlora", "GPU")
    find = importlib.util.find_spec
    absent = ("deepspeed", "tensorboard", "tensorboardX")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else find(name, *rest))
    refused(capsys, training(prepared, run, deepspeed="zero2"), "deepspeed", "pip install")
    refused(capsys, training(prepared, run, report_to="tensorboard"), "tensorboard", "pip install")
