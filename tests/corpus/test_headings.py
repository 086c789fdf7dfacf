"""Headings of plain text: what is one, what is not, and where it starts."""

from __future__ import annotations

import pytest

from medscroll.corpus.document import Document, Section
from medscroll.corpus.headings import find_sections
from medscroll.corpus.sections import SectionsConfig
from medscroll.corpus.step import StepLog, edit_text


@pytest.mark.parametrize(
    ("line", "level", "title"),
    [
        ("# Title", 1, "Title"),
        ("### 诊断 ###", 3, "诊断"),
        ("【主诉】发热三天", 2, "主诉"),
        ("现病史：患者三天前发热。", 2, "现病史"),
        ("Hospital Course:", 2, "Hospital Course"),
        ("DISCHARGE MEDICATIONS: none", 2, "DISCHARGE MEDICATIONS"),
        ("第三章 呼吸系统疾病", 2, "第三章 呼吸系统疾病"),
        ("第一篇 总论", 1, "第一篇 总论"),
        ("卷之上"[:1] + "上", 1, "卷上"),
        ("一、诊断标准", 2, "一、诊断标准"),
        ("（二）鉴别诊断", 3, "（二）鉴别诊断"),
        ("2.1 Study design", 2, "2.1 Study design"),
        ("Chapter 4 The lungs", 1, "Chapter 4 The lungs"),
        ("1. 现病史：三天前发热", 2, "1. 现病史"),
        ("2 Materials and methods", 2, "2 Materials and methods"),
        ("III. RESULTS", 2, "III. RESULTS"),
        ("2024-01-05 08:30 首次病程记录", 1, "2024-01-05 08:30 首次病程记录"),
        ("2024年1月6日 主任医师查房记录：", 1, "2024年1月6日 主任医师查房记录"),
        ("【孕妇及哺乳期妇女用药】尚不明确", 2, "孕妇及哺乳期妇女用药"),
        ("用法用量：口服，一次1片", 2, "用法用量"),
        ("Indications and Usage", 2, "Indications and Usage"),
        ("MEDICATIONS ON ADMISSION:", 2, "MEDICATIONS ON ADMISSION"),
        ("BEDSIDE PROCEDURES", 2, "BEDSIDE PROCEDURES"),
        ("推荐意见1：建议早期使用", 3, "推荐意见1"),
    ],
)
def test_headings(line: str, level: int, title: str) -> None:
    text = f"开头一段。\n\n{line}\n\n正文。"
    (section,) = find_sections(text)
    assert (section.level, section.title) == (level, title)
    assert text[section.start :].startswith(line)


@pytest.mark.parametrize(
    "line",
    ["#hashtag", "患者主诉：发热", "2.5 mg", "1.5 Patients were given a dose.", "The plan: none", "第三天体温正常。",
     "一、患者发热，咳嗽，伴有胸痛。", "Results were good.", "结果如下：", "他的主要问题有以下几点：",
     "The findings were:", "2.5毫克", "1.2方法", "3 天", "诊断 肺炎",
     "【1】", "治疗后好转", "CT MRI", "卷曲的毛发", "2024-01-05 体温正常",
     "WBC 12.3", "Na 140", "III 度", "A B C D", "第二天，患者好转", "=== ", "Impression of the patient was good"],
)  # fmt: skip
def test_what_is_no_heading(line: str) -> None:
    assert find_sections(f"text\n{line}\ntext") == []


def test_marks_of_classical_books() -> None:
    text = (
        "<篇名>本草\n书名：本草\n\n<目录>卷上\n\n<篇名>丹砂\n\n内容：甘。\n\n<目录>卷上\n\n<篇名>云母\n\n【注】平。\n"
        "\n<目录>卷上\\玉石\n\n<篇名>玉泉\n\n甘。"
    )
    found = [(s.level, s.title, text[s.start : s.start + 4]) for s in find_sections(text)]
    assert found == [
        (1, "本草", "<篇名>"),
        (1, "卷上", "<目录>"),
        (2, "丹砂", "<篇名>"),
        (2, "云母", "<目录>"),
        (3, "注", "【注】平"),
        (2, "玉石", "<目录>"),
        (3, "玉泉", "<篇名>"),
    ]


def test_code_is_no_heading() -> None:
    assert [s.title for s in find_sections("# A\n```\n# not\n```\n# B\n")] == ["A", "B"]


def test_a_long_text_without_headings_is_quick() -> None:
    assert find_sections("  \n" * 100_000 + "字" * 1_000_000 + "=" * 100_000) == []


def test_numbers_without_a_blank_need_their_neighbours() -> None:
    text = "1.1一般资料\n正文\n1.2方法\n剂量为\n2.5毫克\n1.3统计学处理\n正文"
    assert [section.title for section in find_sections(text)] == ["1.1 一般资料", "1.2 方法", "1.3 统计学处理"]


def test_levels_go_on_below_markdown() -> None:
    text = "# 书\n\n## 第一章\n\n### 方\n\n一、组成\n\n（一）君药\n\n## 第二章\n\n一、组成\n"
    assert [section.level for section in find_sections(text)] == [1, 2, 3, 4, 5, 2, 3]


def test_capitals_are_headings_only_where_they_are_rare() -> None:
    text = "intro text\n\nHOSPITAL ROUNDS\nHe was well.\n\nFURTHER REMARKS\nNone.\n"
    assert [section.title for section in find_sections(text)] == ["HOSPITAL ROUNDS", "FURTHER REMARKS"]
    shouted = "\n\n".join(f"ALL OF THIS TEXT IS IN CAPITALS {word}" for word in ("ALPHA", "BETA", "GAMMA", "DELTA"))
    assert find_sections(shouted) == []


def test_underlined_titles() -> None:
    assert [(s.start, s.title) for s in find_sections("Title\n=====\n\ntext\n\n====\n")] == [(0, "Title")]


ADMISSION = """出院小结

主诉：反复咳嗽3天。
现病史：患者3天前受凉后出现咳嗽，无发热。
体格检查：T 36.8℃，P 80次/分。
辅助检查
WBC 12.3×10⁹/L
诊疗经过：予抗感染治疗，症状好转，具体用药如下：
头孢曲松 2.0g qd
出院诊断：肺炎
出院医嘱：休息。
"""


def test_an_admission() -> None:
    found = find_sections(ADMISSION)
    assert [section.title for section in found] == [
        "出院小结", "主诉", "现病史", "体格检查", "辅助检查", "诊疗经过", "出院诊断", "出院医嘱",
    ]  # fmt: skip
    assert all(ADMISSION[section.start :].startswith(section.title) for section in found)


def test_the_step_keeps_stated_sections_and_later_edits_move_the_found_ones() -> None:
    stated = Document("a", "x\n# y\n", "a", sections=[Section(0, 1, "x")])
    log = StepLog()
    SectionsConfig().build().apply(stated, log)
    assert [section.title for section in stated.sections] == ["x"]
    assert (log.counts["stated_section"], log.counts["found_section"]) == (1, 0)
    document = Document("b", ADMISSION, "b", "zh")
    SectionsConfig().build().apply(document, log)
    assert log.counts == {"stated_section": 1, "document_with_sections": 2, "found_section": 8}
    places = [ADMISSION.index(word) for word in ("反复", "受凉", "头孢曲松")]
    edit_text(document, [(place, place + 2, "[一个很长的替换]") for place in places])
    assert all(document.text[section.start :].startswith(section.title) for section in document.sections)
    empty = Document("c", "没有标题的一段话。", "c", "zh")
    SectionsConfig().build().apply(empty, log)
    assert log.counts["document_without_sections"] == 1
    assert log.histograms["sections"] == {"<=1": 1, "<=10": 1, "<=0": 1}
