"""Every command in the README and the docs is a command of this version, and both languages show the same ones.

Commands of medscroll go through the verbs' own parsing, up to the point where the work would begin.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from medscroll.cli.main import VERBS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md",
    "README.zh.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
PAIRS = [("README.md", "README.zh.md"), ("docs/guide.md", "docs/guide.zh.md")]
FENCE = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What stands for the reader's own folders.
PLACES = {"TEXTS", "MORE.jsonl", "DATA", "MODEL", "RUN", "TRAINED", "ENV"}


class Parsed(Exception):
    """Raised where the work of a verb would begin."""


def blocks(page: str) -> list[str]:
    """The contents of a page's bash blocks."""
    return FENCE.findall((ROOT / page).read_text("utf-8"))


def commands(page: str) -> list[list[str]]:
    """The words of each command line; comments and shell directives aside."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line]


def medscroll_words(words: list[str]) -> list[str] | None:
    """What follows `medscroll` in a command, launched by torchrun, a container or by itself; None if it is none."""
    if "-m" in words and words[words.index("-m") + 1] == "medscroll":
        return words[words.index("-m") + 2 :]
    if Path(words[0]).name == "medscroll":
        return words[1:]
    if words[:2] == ["apptainer", "run"]:
        return words[words.index("medscroll.sif") + 1 :]
    return None


OURS = [(page, found) for page in PAGES for words in commands(page) if (found := medscroll_words(words)) is not None]
TOOLS = [
    (page, words)
    for page in PAGES
    for words in commands(page)
    for words in [[word for word in words if not re.match(r"[A-Z_]+=", word)]]
    if words and words[0].startswith(("tools/", ".ci/", "bundle/"))
]


def test_there_are_commands_to_check() -> None:
    assert len(OURS) >= 20
    assert len(TOOLS) >= 8
    assert {words[0] for _, words in OURS} >= {"prepare", "pretrain", "export", "pack", "inspect", "chat", "doctor"}


@pytest.mark.parametrize(
    ("page", "words"), OURS, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else value
)
def test_command_parses(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from medscroll.config import parse

    real = parse.parse_arguments

    def stop(*arguments: Any, **keywords: Any) -> NoReturn:
        real(*arguments, **keywords)
        raise Parsed

    monkeypatch.setattr(parse, "parse_arguments", stop)
    monkeypatch.chdir(ROOT)
    assert words[0] in VERBS, f"{page}: unknown verb {words[0]}"
    verb = importlib.import_module(f"medscroll.cli.{words[0]}")
    if hasattr(verb, "parse_arguments"):
        monkeypatch.setattr(verb, "parse_arguments", stop)
    with pytest.raises(Parsed):
        verb.main(words[1:])


@pytest.mark.parametrize(
    ("page", "words"), TOOLS, ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_tool_and_its_flags_exist(page: str, words: list[str]) -> None:
    script = ROOT / words[0].replace("bundle/", "tools/", 1) if words[0].startswith("bundle/") else ROOT / words[0]
    assert script.is_file(), f"{page}: {words[0]} does not exist"
    flags = [word for word in words[1:] if word.startswith("--")]
    if script.read_text("utf-8").startswith("#!/usr/bin/env python3"):
        text = subprocess.run(
            [sys.executable, str(script), "--help"], check=True, capture_output=True, text=True
        ).stdout
    else:
        text = "--slow" if script.name == "test" else ""
    assert not [flag for flag in flags if flag not in text], f"{page}: {words}"


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_show_the_same_commands(english: str, chinese: str) -> None:
    assert len(blocks(english)) >= 4
    assert blocks(english) == blocks(chinese)


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_give_the_same_numbers_and_names(english: str, chinese: str) -> None:
    """Sections, tables and code words agree, so that neither page falls behind."""
    first, second = ((ROOT / page).read_text("utf-8") for page in (english, chinese))
    for mark in (r"^#+ ", r"^\|"):
        assert len(re.findall(mark, first, re.MULTILINE)) == len(re.findall(mark, second, re.MULTILINE)), mark
    words = [set(re.findall(r"`([^`\n]+)`", text)) for text in (first, second)]
    assert words[0] == words[1], words[0] ^ words[1]


def test_first_screen_has_the_two_commands() -> None:
    for page in ("README.md", "README.zh.md"):
        head = (ROOT / page).read_text("utf-8").splitlines()[:20]
        assert any(line.startswith("tools/demo") for line in head)
        assert any(line.startswith("tools/test") for line in head)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text("utf-8"))
    missing = [t for t in targets if not t.startswith("http") and not ((ROOT / page).parent / t).exists()]
    assert not missing, missing


def test_flags_in_the_text_exist() -> None:
    """Every `--flag` in running text is one of a verb, a tool, torchrun, or MedicalGPT's."""
    from medscroll.config.arguments import (
        AdapterArguments,
        DataArguments,
        ModelArguments,
        PackingArguments,
        PrepareArguments,
    )
    from medscroll.config.fields import field_specs
    from medscroll.config.medicalgpt import MEDICALGPT_ALIASES
    from medscroll.config.training import TrainingArguments

    classes = (ModelArguments, AdapterArguments, DataArguments, PackingArguments, PrepareArguments, TrainingArguments)
    known = {spec.name for cls in classes for spec in field_specs(cls)} | set(MEDICALGPT_ALIASES)
    known |= {f"no_{name}" for name in known}
    scripts = [*(ROOT / "tools").iterdir(), *(ROOT / "medscroll" / "cli").glob("*.py"), ROOT / "tests" / "conftest.py"]
    text = "\n".join(path.read_text("utf-8") for path in scripts if path.is_file())
    known |= set(re.findall(r'"--(\w+)"', text)) | set(re.findall(r"^    (\w+): ", text, re.MULTILINE))
    known |= {"nproc_per_node", "nnodes", "rdzv_conf", "local_addr", "version", "help"}  # of torchrun; of every verb
    known |= {"no-index", "require-hashes"}  # of pip
    for page in PAGES:
        prose = FENCE.sub("", (ROOT / page).read_text("utf-8"))
        used = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", prose))
        assert not used - known, f"{page}: {sorted(used - known)}"


def test_table_of_platforms_is_that_of_the_data_file() -> None:
    import json

    rows = json.loads((ROOT / "medscroll" / "config" / "data" / "platforms.json").read_text("utf-8"))
    table = [line for line in (ROOT / "docs" / "install.md").read_text("utf-8").splitlines() if line.startswith("| 2.")]
    shown = [[cell.strip() for cell in line.strip("|").split("|")][:5] for line in table]
    expected = [
        [
            row["torch"],
            "none (CPU)" if row["cuda"] == "cpu" else row["cuda"],
            row["driver_min"] or "-",
            row["driver_recommended"] or "-",
            row["glibc_min"],
        ]
        for row in rows
    ]
    assert shown == expected
