"""`medscroll prepare` from the command line: JSON on stdout, mistakes as exit code 2 without a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medscroll.cli.main import main
from medscroll.packing import TokenStore
from tests.packing.byte_tokenizer import make_byte_tokenizer


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "raw").mkdir()
    for index in range(5):
        (tmp_path / "raw" / f"{index}.txt").write_text(f"Note {index}. 患者发热。", "utf-8")
    return tmp_path / "raw", make_byte_tokenizer(tmp_path / "tokenizer")


def test_prepare_reports_json(paths: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, tokenizer = paths
    argv = ["prepare", str(raw), "--output_dir", str(tmp_path / "data"), "--tokenizer_name_or_path", str(tokenizer)]
    assert main([*argv, "--validation_fraction", "0", "--num_workers", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["manifest"]["documents"] == {"train": 5, "validation": 0}
    assert shown["ledger"]["documents"]["kept"] == 5
    assert len(TokenStore.open(tmp_path / "data" / "tokens" / "train")) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--validation_fraction", "2"], "validation_fraction"),
        (["--num_workers", "0"], "num_workers"),
        (["--num_worker", "1"], "num_workers"),
    ],
)
def test_mistakes_end_with_code_2(
    paths: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], says: str
) -> None:
    raw, tokenizer = paths
    argv = ["prepare", str(raw), "--output_dir", str(tmp_path / "data"), "--tokenizer_name_or_path", str(tokenizer)]
    assert main([*argv, *change]) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert "remedy" in shown.err
    assert "Traceback" not in shown.err
