"""De-identification: what is planted is found, what only looks like it stays, and nothing else changes."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscroll.corpus.deid_dates import shift_of, shifted_dates
from medscroll.corpus.deid_spans import fold, luhn_is_valid, resident_id_is_valid, vin_is_valid
from medscroll.corpus.deidentify import SECRET_VARIABLE, DeidentifyConfig, find_identifiers, placeholders
from medscroll.corpus.document import Document, Section
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError
from tests.corpus.deid_generator import FILLER_EN, FILLER_ZH, record
from tests.corpus.deid_lookalikes import LOOKALIKES

RECORDS = 150
QUANTITY = re.compile(
    r"([<>≤≥＜＞=]?)\s*(\d+(?:\.\d+)?)\s*(mg|g/L|g|mL|ml|mmHg|mm|%|℃|×10⁹/L|x 10\^9/L|μmol/L|次/分|岁|mmol/L|天|kg|IU)"
)


def cleaned(text: str, **options: str) -> str:
    document = Document("d", text, "d")
    result = DeidentifyConfig(enabled=True, **options).build().apply(document, StepLog())  # type: ignore[arg-type]
    assert result is not None
    return result.text


@pytest.mark.parametrize("language", ["zh", "en"])
def test_planted_identifiers_are_found(language: str) -> None:
    found: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    damaged = []
    for seed in range(RECORDS):
        text, identifiers = record(seed, language)
        covered = bytearray(len(text))
        for span in find_identifiers(text):
            covered[span.start : span.stop] = b"\1" * (span.stop - span.start)
        for each in identifiers:
            if len(each.text) < 4 and each.group == "structured":
                continue  # a bed number: where it was planted cannot be told from other numbers
            planted[each.group] += 1
            found[each.group] += any(
                all(covered[match.start() + place] or not mark.isalnum() for place, mark in enumerate(each.text))
                for match in re.finditer(re.escape(each.text), text)
            )
        for sentence in FILLER_ZH if language == "zh" else FILLER_EN:
            damaged += [
                sentence
                for match in re.finditer(re.escape(sentence), text)
                if any(covered[match.start() : match.end()])
            ]
    assert min(planted.values()) > 400
    assert found["structured"] / planted["structured"] >= 0.99
    assert found["name"] / planted["name"] >= 0.95
    assert not damaged


def test_lookalikes_stay() -> None:
    assert len(set(LOOKALIKES)) >= 300
    touched = [
        (before + each + after, text_of(before + each + after))
        for each in LOOKALIKES
        for before, after in (("", ""), ("。", "。"), ("\n", "\n"), ("查：", "，男"), ("The ", ". "), ("| ", " |"))
        if find_identifiers(before + each + after)
    ]
    assert not touched
    assert cleaned("\n".join(LOOKALIKES)) == "\n".join(LOOKALIKES)


def text_of(text: str) -> list[str]:
    return [text[span.start : span.stop] for span in find_identifiers(text)]


PIECES = st.one_of(
    st.sampled_from(LOOKALIKES),
    st.integers(0, 300).flatmap(lambda seed: st.sampled_from([record(seed, "zh")[0], record(seed, "en")[0]])),
    st.text(max_size=40),
    st.from_regex(r"[0-9０-９\- .:：|\n]{1,30}", fullmatch=True),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=5).map("\n".join))
def test_only_spans_change_and_twice_is_once(text: str) -> None:
    spans = find_identifiers(text)
    position = 0
    rebuilt = []
    for start, stop, placeholder in placeholders(text, spans):
        assert position <= start < stop <= len(text)
        rebuilt += [text[position:start], placeholder]
        position = stop
    once = cleaned(text)
    assert once == "".join([*rebuilt, text[position:]])
    assert cleaned(once) == once


def test_quantities_of_records_stay() -> None:
    seen = 0
    for seed in range(60):
        for language in ("zh", "en"):
            text, _ = record(seed, language)
            spans = find_identifiers(text)
            outside = "\x00".join(
                text[start:stop]
                for start, stop in zip(
                    [0, *(s.stop for s in spans)], [*(s.start for s in spans), len(text)], strict=True
                )
            )
            after = re.sub(r"\[[A-Z]+\d+\]", "\x00", cleaned(text))
            seen += len(QUANTITY.findall(outside))
            assert Counter(QUANTITY.findall(outside)) == Counter(QUANTITY.findall(after))
    assert seen > 500


@given(st.text())
def test_folding_keeps_offsets(text: str) -> None:
    assert len(fold(text)) == len(text)


def test_placeholders_are_typed_and_consistent() -> None:
    text = "姓名：王建国，电话138-1234-5678。\n患者王建国诉咳嗽，可打 13812345678 或 13912345678。王建国签字。[PHONE7]"
    result = cleaned(text)
    assert (
        result == "姓名：[NAME1]，电话[PHONE8]。\n患者[NAME1]诉咳嗽，可打 [PHONE8] 或 [PHONE9]。[NAME1]签字。[PHONE7]"
    )


def test_existing_placeholders_stay() -> None:
    text = (
        "Name: ___ Unit No: ___\nDr. [**Last Name**] on [**2151-7-16**], MRN [**Numeric 12**]\n"
        "姓名：[NAME]  住院号：___"
    )
    assert cleaned(text) == text


def test_audit_changes_nothing_and_quotes_nothing() -> None:
    text = "姓名：王建国 住院号：ZY0012345 Dr. Robert Brown"
    document, log = Document("d", text, "d"), StepLog()
    result = DeidentifyConfig(enabled=True, mode="audit").build().apply(document, log)
    assert result is document
    assert document.text == text
    assert [entry["kind"] for entry in log.positions[0]["entries"]] == ["NAME", "RECORD", "NAME"]
    shown = repr((log.positions, log.numbers()))
    assert not any(each in shown for each in ("王建国", "ZY0012345", "Brown"))


def test_sections_move_along() -> None:
    text = "姓名：王建国\n主诉：咳嗽\n"
    document = Document("d", text, "d", sections=[Section(text.index("主诉"), 2, "主诉")])
    DeidentifyConfig(enabled=True).build().apply(document, StepLog())
    assert document.text[document.sections[0].start :].startswith("主诉")


def test_years_stay_where_dates_go() -> None:
    assert cleaned("2021年3月5日 2021-03-05 March 5, 2021 03/05/2021", dates="year") == (
        "2021年[DATE1] 2021-[DATE2] [DATE3], 2021 [DATE2]/2021"
    )
    text = "入院 2021-03-05，体温38.5℃ 3-5天 10:30-11:45"
    assert cleaned(text) == text


def test_high_ages() -> None:
    assert cleaned("A 92-year-old woman, Age: 94; a 56-year-old man; adults aged 90 years or older") == (
        "A [AGE1]-year-old woman, Age: [AGE2]; a 56-year-old man; adults aged 90 years or older"
    )


def test_shifted_dates_keep_intervals_and_form(monkeypatch: pytest.MonkeyPatch) -> None:
    days = shift_of("a secret of some length", "patient 1")
    assert days == shift_of("a secret of some length", "patient 1") != shift_of("another secret here", "patient 1")
    assert 1 <= abs(days) <= 365
    text = "2021-03-05 入院，2021年3月15日出院。March 5, 2021; 5 Mar 2021; 二〇二一年三月五日"
    new = [after for _, _, after in shifted_dates(text, 30)]
    assert new == ["2021-04-04", "2021年4月14日", "April 4, 2021", "4 Apr 2021", "二〇二一年四月四日"]
    with pytest.raises(ConfigError, match="secret"):
        DeidentifyConfig(enabled=True, dates="shift").build()
    monkeypatch.setenv(SECRET_VARIABLE, "a secret of some length")
    step = DeidentifyConfig(enabled=True, dates="shift", patient_field="patient").build()
    documents = [Document(f"d{n}", "2021-03-05 与 2021-03-15", "d", metadata={"patient": "p"}) for n in (1, 2)]
    results = [step.apply(document, StepLog()) for document in documents]
    texts = [result.text for result in results if result]
    assert texts[0] == texts[1] != "2021-03-05 与 2021-03-15"
    first, second = (date.fromisoformat(day) for day in re.findall(r"\d{4}-\d\d-\d\d", texts[0]))
    assert (second - first).days == 10
    again = step.apply(documents[0], StepLog())
    assert again is not None
    assert again.text == texts[0]
    assert "a secret" not in step.fingerprint()


def test_wrong_values_are_all_named() -> None:
    with pytest.raises(ConfigError) as error:
        DeidentifyConfig(mode="no", dates="never", skip_kinds=["NAMES"]).build()
    assert all(word in str(error.value) for word in ("mode", "dates", "NAMES"))


def test_checksums() -> None:
    assert resident_id_is_valid("11010519491231002X")
    assert not resident_id_is_valid("110105194912310021")
    assert luhn_is_valid("4111111111111111")
    assert not luhn_is_valid("4111111111111112")
    assert vin_is_valid("1HGCM82633A004352")
    assert cleaned("订单 110105194912310021 号") == "订单 110105194912310021 号"


def test_long_text_is_looked_at_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medscroll.corpus.deidentify.WINDOW", 500)
    text = "\n".join(record(seed, "zh")[0] for seed in range(20))
    spans = find_identifiers(text)
    assert len(spans) > 100
    assert all(first.stop <= second.start for first, second in pairwise(spans))
    assert all(text[span.start : span.stop].strip() for span in spans)


@pytest.mark.corpora
def test_real_classics_are_left_alone(shared_dir: Path) -> None:
    """Books of old medicine hold no identifiers: what is found there is damage."""
    characters = found = 0
    for path in sorted((shared_dir / "corpora" / "tcm_classics_zh").glob("*.txt"))[:12]:
        text = path.read_bytes().decode("gb18030", "replace")
        characters += len(text)
        found += len(find_identifiers(text))
    assert characters > 500_000
    assert found <= 2


def test_an_english_address_in_a_chinese_record_goes_whole() -> None:
    text = "患者因咳嗽入院。\nAddress: 1006 N. Washington Road, BP 135/85. Address: New Haven, CT 11404-3034. Cough.\n"
    once = cleaned(text)
    assert once == "患者因咳嗽入院。\nAddress: [ADDRESS1], BP 135/85. Address: [ADDRESS2]. Cough.\n"
    assert cleaned(once) == once
