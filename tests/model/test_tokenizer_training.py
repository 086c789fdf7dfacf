"""The small tokenizer: lossless, deterministic, with offsets and an end of text; usable by `prepare`."""

from __future__ import annotations

from pathlib import Path

import pytest

from medscroll.errors import ConfigError
from medscroll.model.tokenizer_training import END_OF_TEXT, main, train_tokenizer

TEXTS = ["Metoprolol 47.5 mg twice daily.\n\n血压 120/80 mmHg，心率 72 次/分。\n"] * 20 + ["𠮷野家 naïve é\t\r\n  x"]


def test_any_text_survives_the_round_trip(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    train_tokenizer(TEXTS, tmp_path, vocab_size=400)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) <= 400
    assert tokenizer.eos_token == END_OF_TEXT
    for text in [*TEXTS[-2:], "words it never saw: 嗜铬细胞瘤 🙂"]:
        encoded = tokenizer(text, return_offsets_mapping=True)
        assert tokenizer.decode(encoded["input_ids"]) == text
        assert encoded["offset_mapping"][-1][1] == len(text)


def test_equal_texts_give_an_equal_tokenizer(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_tokenizer(TEXTS, tmp_path / name, vocab_size=400)
    first, second = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("a", "b"))
    assert first == second


def test_program_reads_raw_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "one.txt").write_text(TEXTS[0] * 30, encoding="gb18030")
    assert main([str(tmp_path / "raw"), str(tmp_path / "out"), "--vocab_size", "300"]) == 0
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert "entries" in capsys.readouterr().out


def test_too_few_entries_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 257"):
        train_tokenizer(TEXTS, tmp_path, vocab_size=100)
