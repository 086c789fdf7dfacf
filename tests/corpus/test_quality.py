"""Quality: rubbish is named, medicine in any form passes, and long texts are welcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from medscroll.corpus.document import Document, detect_language
from medscroll.corpus.quality import SCORES, QualityConfig, quality_scores
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError
from tests.corpus.deid_generator import record


def reason(text: str, **options: object) -> str:
    log = StepLog()
    document = Document("d", text, "d", detect_language(text))
    result = QualityConfig(**options).build().apply(document, log)  # type: ignore[arg-type]
    assert set(document.metadata["quality"]) == {*SCORES, "characters"}
    return "" if result is document else log.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "too_short"),
        ("。" * 50, "few_letters"),
        ("-----|----|-----\n" * 20, "few_letters"),
        ("\ufffd\ufffd\ufffd abc " * 20, "broken_characters"),
        ("a" * 500, "garbage_lines"),
        ("hahaha " * 400, "one_phrase"),
        ("同样的一行文字没有变化\n" * 200, "repeated_lines"),
    ],
)
def test_rubbish_is_named(text: str, expected: str) -> None:
    assert reason(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "患者发热3天。",
        "[**Name**] ___ ___",
        "Name: ___ Unit No: ___\n" * 3,
        "12.3 45.6 78.9\nWBC 3.4",
        "| 钾 | 3.5 |\n|---|---|\n" * 3,
    ],
)
def test_short_medicine_passes(text: str) -> None:
    assert reason(text) == ""


def test_long_texts_are_welcome() -> None:
    for language in ("zh", "en"):
        text = "\n".join(record(seed, language)[0] for seed in range(1500))
        assert len(text) > 500_000
        assert reason(text) == ""


def test_scores_are_shares() -> None:
    scores = quality_scores(record(1, "zh")[0], "zh")
    assert all(0 <= scores[name] <= 1 for name in SCORES if name.endswith("_share"))


def test_languages_and_wrong_values() -> None:
    assert reason("患者发热三天，咳嗽。", languages=["en"]) == "language"
    with pytest.raises(ConfigError) as error:
        QualityConfig(most_symbol_share=2, languages=["fr"]).build()
    assert "most_symbol_share" in str(error.value)
    assert "fr" in str(error.value)


@pytest.mark.corpora
def test_defaults_drop_no_real_book(shared_dir: Path) -> None:
    books = sorted((shared_dir / "corpora" / "tcm_classics_zh").glob("*.txt"))
    assert len(books) > 10
    assert [path.name for path in books if reason(path.read_bytes().decode("gb18030", "replace"))] == []
