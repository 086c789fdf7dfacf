"""Decontamination: questions are found in any width and case, and only they are taken out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscroll.corpus.decontaminate import Decontaminate, DecontaminateConfig, tokenise
from medscroll.corpus.document import Document
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError, DataError

ZH = "下列关于社区获得性肺炎的治疗原则中，哪一项是错误的？"
EN = "A 45-year-old man presents with fever of 38.5 ℃ and a productive cough for three days."


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmarks") / "exam.jsonl"
    records = [{"question": ZH, "answer": "A"}, {"question": EN, "options": {"A": "x"}}, {"question": "什么是发热？"}]
    path.write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in records) + "\n", "utf-8")
    return path


def built(path: Path, **options: object) -> Decontaminate:
    return DecontaminateConfig(enabled=True, benchmarks=[str(path)], **options).build()  # type: ignore[arg-type]


def test_windows_are_taken_out_and_counted(benchmark: Path) -> None:
    step, log = built(benchmark), StepLog()
    shown = ZH.replace("，", ",").replace("？", "?").replace("社区", "社 区")
    document = Document("d", f"前文。{shown}后文１２３⁹ {EN.upper().replace('℃', '°C')} end", "d")
    result = step.apply(document, log)
    assert result is document
    assert result.text == "前文。?后文１２３⁹ . end"
    assert log.numbers()["histograms"]["matches"] == {"exam.jsonl": 2}
    assert log.counts["windows"] == 2
    assert "肺炎" not in repr(log.numbers())
    again = step.apply(document, StepLog())
    assert again is not None
    assert again.text == "前文。?后文１２３⁹ . end"


def test_documents_can_be_dropped(benchmark: Path) -> None:
    log = StepLog()
    assert built(benchmark, action="drop").apply(Document("d", f"前文{ZH}", "d"), log) is None
    assert log.reason == "benchmark_match"
    assert "exam.jsonl" in log.detail
    log = StepLog()
    assert built(benchmark).apply(Document("d", ZH[:-1], "d"), log) is None  # nothing else was in it


def test_what_is_no_match_stays(benchmark: Path) -> None:
    text = "下列关于社区获得性肺炎诊治，10⁹/L ＜３８．５℃。什么是发热？ A 45-year-old man presents with pain."
    document = Document("d", text, "d")
    assert built(benchmark).apply(document, StepLog()) is document
    assert document.text == text


def test_a_match_far_into_a_book_is_found(benchmark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medscroll.corpus.decontaminate._BLOCK", 2000)
    step = built(benchmark)
    for before in range(1900, 2100, 7):
        text = "药" * before + ZH + "方" * 3000
        assert [text[start:stop] for start, stop, _ in step.find(text)] == [ZH[:-1]]


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_places_lead_back_to_the_original(text: str) -> None:
    tokens, places = tokenise(text)
    assert len(tokens) == len(places)
    assert all(0 <= start < stop <= len(text) for start, stop in places.tolist())


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        DecontaminateConfig(enabled=True, benchmarks=["absent.jsonl"], action="burn", tokens=3).build()
    assert all(word in str(error.value) for word in ("absent.jsonl", "burn", "least_tokens"))
    path = tmp_path / "broken.jsonl"
    path.write_text('{"question": "x"\n')
    with pytest.raises(DataError, match="no JSON"):
        built(path)
    path.write_text('{"answer": "A"}\n')
    with pytest.raises(DataError, match="no record"):
        built(path)
