"""`medscroll pack` and `medscroll inspect` on a small prepared folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medscroll.cli import inspect as inspect_verb
from medscroll.cli import pack as pack_verb
from medscroll.cli.main import main
from medscroll.config.arguments import PrepareArguments
from medscroll.packing.prepare import prepare
from tests.packing.byte_tokenizer import make_byte_tokenizer

LONG = "".join(f"Dose {n:03d}. The patient slept well.\n\n" for n in range(60)) + "病情平稳。继续观察！"
SHORT = ["A short note about a cough.", "另一份简短的记录。", "Third: no fever today."]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four documents, one of about 2,100 bytes (a token each), one prepared folder."""
    folder = tmp_path_factory.mktemp("cli")
    sources = folder / "raw"
    sources.mkdir()
    for number, text in enumerate([LONG, *SHORT]):
        (sources / f"{number}.txt").write_text(text, "utf-8")
    tokenizer = make_byte_tokenizer(folder / "tokenizer", bos=True)
    arguments = PrepareArguments(
        sources=[str(sources)],
        output_dir=str(folder / "data"),
        tokenizer_name_or_path=str(tokenizer),
        validation_fraction=0.0,
        num_workers=1,
    )
    return prepare(arguments, quiet=True)


def test_pack_compares_block_sizes(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack_verb.main([str(data_dir), "--block_size", "256,4096", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    small, large = said["plans"]
    assert said["recommended"]["block_size"] in (256, 4096)
    assert set(said["recommended"]["time"]) == {"256", "4096"}
    assert small["tokens"] == large["tokens"] == small["targets"] + small["documents"]
    assert (small["divided"], large["divided"]) == (1, 0)
    assert sum(small["cut_shares"].values()) == pytest.approx(1)
    assert small["elsewhere"]["drop_long"]["tokens"] > 2000
    assert large["elsewhere"]["drop_long"]["tokens"] == 0
    assert small["longest_piece"] <= 256
    assert pack_verb.main([str(data_dir), "--block_size", "256,4096", "--overlong", "truncate"]) == 0
    table = capsys.readouterr().out
    assert "4,096" in table
    assert "concatenate and truncate" in table
    assert "Recommended of these: --block_size" in table
    assert "…" not in table
    assert "\x1b" not in table


def test_pack_takes_what_data_dir_of_pretrain_takes(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = sorted((data_dir / "plans").glob("*"))
    tokens = []
    for words in (str(data_dir), f"{data_dir}*2"):
        assert pack_verb.main([words, "--block_size", "256", "--json"]) == 0
        (figures,) = json.loads(capsys.readouterr().out)["plans"]
        tokens.append(figures["tokens"])
    assert tokens[1] == 2 * tokens[0] > 0
    assert "2 passes" in figures["read"][0]
    assert sorted((data_dir / "plans").glob("*")) == plans


def test_inspect_lists_and_shows(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [str(data_dir), "--block_size", "256"]
    assert inspect_verb.main(options) == 0
    assert "0.txt" in capsys.readouterr().out
    assert inspect_verb.main([*options, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["blocks"] == len(listed["shown"])
    texts = {}
    for entry in listed["shown"]:
        assert inspect_verb.main([*options, "--block", str(entry["block"]), "--tokens", "0"]) == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        for piece in entry["pieces"]:
            assert f"document {piece['document']} ({piece['id']})" in shown
            assert ("context tokens" in shown) == any(p["context"] > 0 for p in entry["pieces"])
        texts[entry["block"]] = shown
    everything = "".join(texts.values())
    assert "begins at a paragraph cut" in everything or "begins at a sentence cut" in everything
    assert "¶" in everything
    for short in SHORT:  # one token a byte, so characters of several tokens are whole only if decoded together
        assert short[1:] in everything.replace("|", "")
    assert (data_dir / "plans" / f"{listed['plan_digest']}.npz").is_file()


def test_parts_of_a_piece() -> None:
    piece = {"tokens": 8, "start": 10, "stop": 15, "context": 2}
    labels = [-100, -100, -100, 5, 6, 7, 8, 9]
    assert inspect_verb.segments(piece, np.asarray(labels)) == [
        ("bos", 0, 1),
        ("context", 1, 3),
        ("targets", 3, 8),
    ]
    first = {"tokens": 3, "start": 0, "stop": 3, "context": 0}
    assert inspect_verb.segments(first, np.asarray([-100, 1, 2])) == [("first", 0, 1), ("targets", 1, 3)]
    assert inspect_verb.segments(first | {"tokens": 1, "stop": 1}, np.asarray([-100])) == [("first", 0, 1)]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert inspect_verb.visible("a\x1b[31m\nb\tc，病") == "a�[31m⏎b c，病"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pack"], "no data is named"),
        (["pack", "DATA", "--block_size", "4096,x"], "--block_size"),
        (["pack", "DATA", "--split", "validation"], "no documents"),
        (["pack", "/nowhere"], "no finished prepared data"),
        (["pack", "/nowhere,DATA=2"], "leave nothing"),
        (["pack", "DATA", "--block_size", "64", "--overlong", "error"], "1 of 4 documents are longer"),
        (["inspect", "DATA", "--block", "9999"], "there is no block 9999"),
        (["inspect", "DATA", "--blok", "1"], "block"),
    ],
)
def test_mistakes(arguments: list[str], expected: str, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(data_dir) if word == "DATA" else word for word in arguments]) == 2
    assert expected in capsys.readouterr().err
