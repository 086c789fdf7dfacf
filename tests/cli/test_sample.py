"""`medscroll sample`: the summary, the JSON, and mistakes with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medscroll.cli.main import main


def test_sample_writes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "s"
    assert main(["sample", str(folder), "--documents", "12", "--seed", "4", "--max_characters", "2000", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["documents"] == 12
    assert report["longest"] <= 2000
    assert sum(report["formats"].values()) == 12
    assert main(["sample", str(folder), "--documents", "3", "--overwrite", "--validation_documents", "2"]) == 0
    shown = capsys.readouterr().out
    assert "documents" in shown
    assert "medscroll prepare" in shown
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == ["train", "validation"]


def test_mistakes_end_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["sample", str(tmp_path / "mine")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["sample", str(tmp_path / "s"), "--document", "3"]) == 2
    assert "--documents" in capsys.readouterr().err
    assert main(["sample"]) == 2
    assert not (tmp_path / "s").exists()
