"""Headings of plain text: what is one, what is not, and where it starts."""

from __future__ import annotations

import pytest

from medscroll.corpus.headings import find_sections


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
     "一、患者发热，咳嗽，伴有胸痛。", "Results were good."],
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
