"""What the tests of repair and sections share: the steps of the chain, texts that must never change, strategies."""

# ruff: noqa: E501  (tables of texts; a Chinese character counts as two columns)

from __future__ import annotations

import re
from collections import Counter

from hypothesis import strategies as st

from medscroll.corpus.configuration import STEPS, config_class
from medscroll.corpus.document import Document, Section
from medscroll.corpus.step import Step, StepLog, run_step

REPAIRS = tuple(STEPS)[: tuple(STEPS).index("sections")]
DEFAULT = tuple(name for name in REPAIRS if config_class(name)().enabled)

# Each of these stays as it is, whatever stands around it.
UNTOUCHABLE = (
    "12.3×10⁹/L", "WBC 9.8 × 10⁹/L", "5 µg/kg", "5 μg/kg", "61.2 ± 4.5 kg", "≥90%", "≤0.9 mg/dL", "<0.05", "P<0.01",
    "p < 0.001", "3<x<5", ">37.5℃", "３８．５℃", "１２０／８０ｍｍＨｇ", "＜5％", "PaO₂ 80 mmHg", "Na⁺ 140 mmol/L", "CO₂",
    "TNF-α", "β-blocker", "γ-GT 45 U/L", "½ tablet", "①低热", "Ⅱ度", "㎎", "阿司匹林100mg qd", "0.9%氯化钠注射液250ml",
    "[**2151-7-16**]", "[**Hospital1 18**]", "___", "[NAME1]", "&lt;5", "a &amp; b", "<table>", "<0.05 and >0.01",
    "| Na | 140 |", "Columns: A | B", "Weight — A: 61.2; B: 60.8", "1:1000", "1∶1000", "−3.5", "10–20 mg", "90~100",
    "《伤寒论》", "“引号”", "‘a’", "…", "——", "国药准字H20003263", "ﬁ", "Ⅲ", "㎝", "Å", "Ω", "é", "Ménière’s", "naïve",
    "Sjögren’s", "†p<0.01", "††p<0.05", "**p<0.01", "N=60", "HR 1.5 (95% CI 1.2–1.9)", "2’-deoxy", "5′-UTR", "№ 5",
)  # fmt: skip

_QUANTITY = re.compile(
    r"(?P<comparator>[<>≤≥±=＜＞~～−-]?)\s*(?P<number>[\d０-９]+(?:[.．,:∶/／][\d０-９]+)*)\s*(?P<unit>%|％|‰|℃|°C|"
    r"×\s*10[⁰¹²³⁴-⁹⁻]+\s*/\s*[A-Za-zμµ]+|[a-zA-Zμµ㎎㎖]{1,6}(?:/[a-zA-Zμµ\d²³]+)*|mmHg|次/分|毫克|克|片|岁|天|年|月|日)?"
)


def quantities(text: str) -> Counter[tuple[str, str, str]]:
    """The multiset of (comparator, number, unit) of a text; blanks and line ends inside one do not count."""
    return Counter(
        (match["comparator"], match["number"], re.sub(r"\s", "", match["unit"] or ""))
        for match in _QUANTITY.finditer(text)
    )


def build(name: str, **values: object) -> Step:
    """A step of the chain by name."""
    return config_class(name)(**values).build()  # type: ignore[no-any-return]


def apply(step: Step, text: str, language: str = "zh", sections: tuple[int, ...] = ()) -> tuple[str, StepLog]:
    """(the text after a step, its log), after checking that the log accounts for every character."""
    document = Document("d", text, "d", language, sections=[Section(start, 1, "") for start in sections])
    log = StepLog()
    result = run_step(step, document, log)
    assert result is not None
    assert log.characters[1] == len(result.text)
    assert len(text) - log.counts["removed_characters"] + log.counts["added_characters"] == len(result.text)
    assert (result.text == text) == (log.counts["removed_characters"] + log.counts["added_characters"] == 0)
    return result.text, log


SENTENCES = (
    "患者三天前无明显诱因出现发热，体温最高达39.2℃，伴有咳嗽、咳痰。", "予头孢曲松2.0g静脉滴注，每日一次，共7天。",
    "白细胞12.3×10⁹/L，中性粒细胞百分比85％，血红蛋白＜90g/L。", "The patient was given 81 mg of aspirin daily (P<0.01).",
    "Blood pressure fell from 160/95 to 132/80 mmHg in 4.5 ± 1.2 weeks.", "一名甘松∶味苦，寒，无毒。", "主诉：发热三天",
    "# Heading", "## 方法", "1. Aspirin 81 mg", "- item", "| a | b |", "3", "- 4 -", "第5页", "Page 6 of 9", "\x0c",
    "WBC-9.6 RBC-3.48* Hgb-10.6* Hct-31.8*", "党参（9g） 黄芪（15g） 当归（6g）", "hyper-", "tension was found in 10 of",
    "beta-", "blocker", "<目录>卷上", "<篇名>丹砂", "内容：\\x按∶此药\\x", "KT 字", "似椒 ，小", "Âµg", "10â\x81¹/L", "a\u00adb",
    "\u200b", "\ufeff", "\u2028", "\u00a0", "", " ", "\t", "\n", "\n\n\n\n\n", "========",
)  # fmt: skip
_PIECES = st.sampled_from((*UNTOUCHABLE, *SENTENCES)) | st.text(max_size=30)
TEXTS = st.builds(
    lambda pieces, separator: separator.join(pieces),
    st.lists(_PIECES, max_size=30),
    st.sampled_from(("\n", "\n\n", " ", "")),
).filter(lambda text: "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text))
