"""The executable: verbs, exit codes, and that asking for help is quick."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from medscroll import __version__
from medscroll.cli import main as entry
from medscroll.cli.main import VERBS, main
from medscroll.errors import DataError
from tests.launch import ROOT, environment

HEAVY = ("torch", "transformers", "deepspeed", "numpy", "pyarrow", "yaml", "psutil")


def fake(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def verb(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(entry.importlib, "import_module", lambda name: SimpleNamespace(main=verb))


def test_help_lists_every_verb_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from medscroll.cli.main import main; rc = main(['--help']); "
        f"heavy = [name for name in {HEAVY} if name in sys.modules]; assert not heavy, heavy; sys.exit(rc)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    for verb, summary in VERBS.items():
        assert f"  {verb} " in finished.stdout
        assert summary in finished.stdout


@pytest.mark.parametrize("verb", list(VERBS))
def test_the_table_of_verbs_repeats_each_module(verb: str) -> None:
    module = importlib.import_module(f"medscroll.cli.{verb}")
    assert VERBS[verb] == module.SUMMARY


def test_every_module_of_a_verb_is_in_the_table() -> None:
    modules = {path.stem for path in (ROOT / "medscroll" / "cli").glob("*.py")} - {"__init__", "main"}
    verbs = {name for name in modules if "SUMMARY" in (ROOT / "medscroll" / "cli" / f"{name}.py").read_text("utf-8")}
    assert verbs == set(VERBS)


TAKES_TRAINING_FLAGS = ("pretrain", "plan")  # which are those of HF's trainer


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in TAKES_TRAINING_FLAGS])
def test_the_help_of_a_verb_needs_no_torch(verb: str) -> None:
    if importlib.util.find_spec(f"medscroll.cli.{verb}") is None:
        pytest.skip(f"{verb} is not built")
    code = (
        "import sys; from medscroll.cli.main import main\n"
        f"try: main(['{verb}', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(f"usage: medscroll {verb}")


def test_version_and_no_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"medscroll {__version__}"
    assert main([]) == 2
    assert "usage: medscroll" in capsys.readouterr().out


def test_an_unknown_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrian"]) == 2
    assert "did you mean `medscroll pretrain`?" in capsys.readouterr().err
    assert main(["zzz"]) == 2
    assert "one of: " in capsys.readouterr().err


def test_a_users_mistake_is_three_lines_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, DataError("broken JSON", where="a.jsonl:3", remedy="repair the line"))
    assert main(["prepare"]) == 2
    text = capsys.readouterr().err
    assert text == "medscroll: error: broken JSON\n  where: a.jsonl:3\n  remedy: repair the line\n"


def test_a_mistake_that_all_ranks_meet_is_left_to_local_rank_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(entry.time, "sleep", waited.append)
    monkeypatch.setenv("RANK", "9")
    monkeypatch.setenv("LOCAL_RANK", "1")
    fake(monkeypatch, DataError("only here"))
    assert main(["prepare"]) == 2
    assert waited == [entry.SECONDS_FOR_LOCAL_RANK_0]
    assert capsys.readouterr().err == "medscroll: error (rank 9): only here\n"


def test_the_other_ends_of_a_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, KeyboardInterrupt())
    assert main(["prepare"]) == 130
    fake(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/tokens.bin"))
    assert main(["prepare"]) == 2
    assert "no space is left on the disk\n  where: /data/tokens.bin" in capsys.readouterr().err
    fake(monkeypatch, OSError(errno.EIO, "input/output error"))
    with pytest.raises(OSError, match="input/output"):
        main(["prepare"])


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m medscroll pack --help | true"
    finished = subprocess.run(
        command, shell=True, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in finished.stderr


def test_nothing_phones_home_by_default() -> None:
    code = "import os; from medscroll.cli.main import main; main(['--version']); print(dict(os.environ))"
    kept = {
        key: value for key, value in environment().items() if key not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    }
    finished = subprocess.run(
        [sys.executable, "-c", code], env=kept, capture_output=True, text=True, timeout=60, check=False
    )
    assert "'HF_HUB_DISABLE_TELEMETRY': '1'" in finished.stdout
    assert "'DO_NOT_TRACK': '1'" in finished.stdout


def test_mistakes_of_a_real_command_come_at_once_without_traceback(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("block_sise: 4096\n", encoding="utf-8")
    words = [sys.executable, "-m", "medscroll", "pack", str(recipe), "--overlong", "keep", "--jsno"]
    finished = subprocess.run(
        words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    for part in ("did you mean block_size?", f"{recipe}:1", "did you mean --json?", "must be one of split, truncate"):
        assert part in finished.stderr
