"""Each repair step on what it is for, and on what looks like it."""

# ruff: noqa: E501  (texts with Chinese characters, which count as two columns)

from __future__ import annotations

import textwrap

import pytest

from medscroll.corpus.configuration import load_corpus_config
from medscroll.corpus.document import Document, Section
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError
from tests.corpus.repair_texts import apply, build

ZH = "患者主诉发热三天咳嗽两天入院治疗后好转出院诊断为肺炎嘱随访"


def test_mojibake_of_latin_encodings() -> None:
    step = build("mojibake")
    text = "剂量 5 Âµg/kg，“P<0.01”\nCount 10â\x81¹/L and â€œquotedâ€\x9d\nplain µg"
    fixed, log = apply(step, text)
    assert fixed == "剂量 5 µg/kg，“P<0.01”\nCount 10⁹/L and “quoted”\nplain µg"
    assert log.counts["line_of_latin_mojibake"] == 2


def test_mojibake_of_chinese_encodings() -> None:
    step = build("mojibake")
    pairs = [ZH[start : start + 2] for start in range(0, len(ZH) - 1, 2)]
    words = "".join(pair for pair in pairs if pair.encode().decode("gb18030", "replace").isalpha()) * 2
    assert len(words) >= 8
    read_as_gb = words.encode().decode("gb18030")
    read_as_latin = ZH.encode("gb2312").decode("latin-1")
    fixed, log = apply(step, f"a\n{read_as_gb}\nWBC {read_as_latin} 5.2\n正常的一行", "zh")
    assert fixed == f"a\n{words}\nWBC {ZH} 5.2\n正常的一行"
    assert log.counts["line_of_chinese_mojibake"] == 2
    assert apply(build("mojibake", chinese=False), read_as_gb)[0] == read_as_gb
    assert apply(step, "联通联通")[0] == "联通联通"  # its GB18030 bytes are UTF-8, and too few to prove anything


def test_titles_follow_the_text() -> None:
    document = Document("d", "Âµg\n\nbody", "d", "en", title="Âµg", sections=[Section(0, 1, "Âµg")])
    build("mojibake").apply(document, StepLog())
    assert (document.text[:2], document.title, document.sections[0].title) == ("µg", "µg", "µg")


def test_characters_that_are_no_text() -> None:
    text = "\ufeffa\x02b\u200bc\u2028d\u00a0e f\t \ng\n\n\n\n\n\nh\x0ci\u200dj\u3000k\ue001\ufffd"
    fixed, log = apply(build("characters"), text)
    assert fixed == "abc\nd e f\ng\n\n\nh\x0ci\u200dj\u3000k\ue001\ufffd"
    assert {key: log.counts[key] for key in log.counts if not key.endswith("_characters")} == {
        "byte_order_mark": 1, "control_character": 1, "invisible_character": 1, "line_separator": 1,
        "unusual_blank": 1, "trailing_blank": 1, "blank_lines": 1,
    }  # fmt: skip
    assert apply(build("characters"), "hyper\xad\ntension, hypo\xadtension\xad\nX")[0] == "hypertension, hypotension\nX"
    assert apply(build("characters", blanks=False), "5\u00a0mg")[0] == "5\u00a0mg"
    assert apply(build("characters", trailing=False), "a \n\n\n\n\nb")[0] == "a \n\n\n\n\nb"


def test_half_width_touches_digits_and_letters_alone() -> None:
    text = "体温３８．５℃，ＷＢＣ＜４％～５％（正常）"
    assert apply(build("half_width"), text)[0] == "体温38．5℃，WBC＜4％～5％（正常）"
    assert apply(build("half_width", letters=False), text)[0] == "体温38．5℃，ＷＢＣ＜4％～5％（正常）"


BOOK = (
    "<篇名>某书\n书名：某书\n\n\n\n<目录>卷上\\草部\n\n<篇名>甲草\n\n内容：\\x《别录》\\x 味甘。一名符 ，一名KT 字。\n\n\n\n"
    "<目录>卷上\\草部\n\n<篇名>乙草\n\n属性：神农∶苦。\n\\x附方\\x\n甘草（一两） 大枣（三枚）\n\n\n\n<目录>卷上\\木部\n\n<篇名>丙木\n\n"
    "\\r丙木\\pj1.bmp\\r\n味苦。\n"
)


def test_marks_of_classics_become_markdown() -> None:
    text, log = apply(build("marks", images="caption"), BOOK)
    assert [line for line in text.split("\n") if line.startswith("#")] == [
        "# 某书", "## 卷上", "### 草部", "#### 甲草", "#### 乙草", "##### 附方", "### 木部", "#### 丙木",
    ]  # fmt: skip
    assert "内容" not in text
    assert "\\" not in text
    assert "\n丙木\n味苦" in text
    counts = (
        "structure_mark",
        "field_label",
        "emphasis_mark",
        "emphasis_heading",
        "image_mark",
        "repeated_volume_name",
    )
    assert [log.counts[name] for name in counts] == [4, 2, 2, 1, 1, 1]
    assert "\\pj1.bmp" in apply(build("marks"), BOOK)[0]
    assert apply(build("marks"), "见<目录>与\\x41，<篇名>")[0] == "见<目录>与\\x41，<篇名>"


def test_blanks_become_lost_characters_only_where_they_must_be() -> None:
    step = build("lost_characters")
    text, log = apply(step, BOOK)
    assert "一名符□，一名□字" in text
    assert "甘草（一两） 大枣（三枚）" in text
    assert (log.counts["blank_for_character"], log.counts["code_for_character"]) == (1, 1)
    modern = "患者 男，45岁 ，发热 、咳嗽。KT 正常"
    assert apply(step, modern)[0] == modern  # no marks: sloppy typing, not lost characters
    assert apply(build("lost_characters", evidence="always"), modern)[0] == "患者 男，45岁□，发热□、咳嗽。□正常"
    lists = "<篇名>方\n\n人参 白术 茯苓 甘草\n肺俞 膻中 三里。治咳 。\n"
    assert apply(step, lists)[0] == lists.replace("咳 。", "咳□。")


def test_colons_but_no_ratios() -> None:
    assert apply(build("colons"), "神农∶甘。比例1∶1000，约 3 ∶ 5。∶")[0] == "神农：甘。比例1∶1000，约 3 ∶ 5。："
    assert apply(build("colons"), "ratio a∶b", "en")[0] == "ratio a∶b"


PROSE_ZH = (
    "天下之病，无不由于阴阳之偏胜，而治病之法，亦无不求其阴阳之和平。所以古人立方，或补或泻，或寒或热，皆因其病而施之，"
    "非有一定之成法也。后人不察，执一方以治万病，其不误人者几希矣。故凡临证之际，必先辨其表里虚实，而后可以用药，"
    "不然则虚其虚而实其实，祸不旋踵。"
)
PROSE_EN = (
    "Patients with hypertension who were given the new beta-blocker had lower pressures after twelve weeks, although the "
    "difference between the groups was small and could have arisen from the way in which measurements were taken at the "
    "clinics that took part. None of the secondary outcomes differed, and adverse events were as frequent as expected in "
    "both groups, with two deaths in each of them that were judged not to be related to the treatment that was given."
)


def test_wrapped_chinese_prose() -> None:
    lines = [PROSE_ZH[start : start + 30] for start in range(0, len(PROSE_ZH), 30)]
    text = (
        "# 论\n\n"
        + "\n".join(lines)
        + "\n\n1. 第一项内容在此\n2. 第二项内容在此\n\n春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n"
    )
    fixed, log = apply(build("unwrap"), text)
    assert PROSE_ZH in fixed
    assert log.counts["wrapped_line"] == len(lines) - 1
    assert fixed.replace("\n", "") == text.replace("\n", "")
    assert fixed.endswith(
        "\n1. 第一项内容在此\n2. 第二项内容在此\n\n春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n"
    )


def test_wrapped_english_prose_and_hyphens() -> None:
    wrapped = textwrap.fill(PROSE_EN, 60, break_on_hyphens=False)
    assert wrapped.count("\n") > 5
    text = f"{wrapped}\n\nPast Medical History:\nHypertension\nSex: M\n\nWBC-9.6 RBC-3.48* Hgb-10.6* Hct-31.8*\nMCV-92 MCH-30.6\n"
    fixed, log = apply(build("unwrap"), text, "en")
    assert fixed.startswith(f"{PROSE_EN}\n\nPast Medical History:\nHypertension\nSex: M\n\nWBC-9.6")
    assert log.counts["wrapped_line"] == wrapped.count("\n")
    begin = "The group of all patients in whom there was found hyper"
    proof = f"{begin}-\ntension took the drug too.\n{wrapped}\n\nThe word hypertension stands here, too.\n\n"
    fixed, log = apply(build("unwrap"), proof, "en")
    assert fixed.startswith(f"{begin}tension took the drug")
    assert log.counts["hyphenated_word"] == 1
    fixed, log = apply(build("unwrap"), proof.replace("hypertension", "disease"), "en")
    assert fixed.startswith(f"{begin}-tension took the drug")  # nothing proves the word: the hyphen stays
    assert log.counts["hyphen_kept"] == 1
    fixed, _ = apply(build("unwrap", hyphens=False), proof, "en")
    assert fixed.startswith(f"{begin}-\ntension took the drug")


def test_unwrap_leaves_sections_and_digits_alone() -> None:
    lines = textwrap.fill(PROSE_EN, 60, break_on_hyphens=False).split("\n")
    text = "\n".join(lines)
    start = len("\n".join(lines[:3])) + 1
    fixed, _ = apply(build("unwrap"), text, "en", sections=(start,))
    assert fixed[start - 1] == "\n"
    digits = "\n".join(["数值为" + "字" * 25 + "，共12", "3例" + "字" * 25 + "，又", "续" + "字" * 28 + "，", "完。"])
    assert "12\n3" in apply(build("unwrap"), digits)[0]


def pages(count: int, separator: str = "\x0c") -> str:
    made = []
    for number in range(count):
        title = f"章节{'一二三四五六七八九十'[number % 10]}的内容到这里还没有结束，下一页"
        made.append(f"内科学 第九版\n\nWBC 12.{number}×10⁹/L\n正文在此，{title}\n\n- {number + 11} -\n")
    return separator.join(made)


def test_headers_and_numbers_of_pages() -> None:
    fixed, log = apply(build("page_lines"), pages(6))
    assert "内科学" not in fixed
    assert "- 1" not in fixed
    assert "\x0c" not in fixed
    assert all(f"WBC 12.{number}×10⁹/L" in fixed for number in range(6))
    assert (log.counts["page_header"], log.counts["page_number"]) == (6, 6)
    two = pages(2)
    assert "内科学 第九版" in apply(build("page_lines"), two)[0]  # two pages prove nothing


def test_sections_at_the_top_of_a_page_stay_at_their_headings() -> None:
    text = "\n\x0c".join(f"某书\n第{number}章 标题\n正文在此。\n{number}" for number in range(1, 7))
    starts = [text.index(f"第{number}章") for number in range(1, 7)]
    at_page = [text.rindex("某书", 0, start) for start in starts]
    for places in (starts, at_page):
        document = Document("d", text, "d", "zh", sections=[Section(start, 1, "") for start in places])
        build("page_lines").apply(document, StepLog())
        assert "某书" not in document.text
        for number, section in enumerate(document.sections, 1):
            assert document.text.startswith(f"第{number}章", section.start)


def test_values_at_page_edges_stay() -> None:
    text = "\x0c".join(f"{value}\n患者一般情况可，继续治疗。\n{value + 3}" for value in (120, 118, 135, 90, 77))
    fixed, log = apply(build("page_lines"), text)
    assert all(f"{value}\n" in fixed for value in (120, 118, 135, 90, 77))
    assert not log.counts["page_number"]


def test_a_quantity_at_the_edge_of_every_page_is_no_header() -> None:
    for line in ("阿司匹林 100 mg qd", "BP 120/80 mmHg", "５００ｍｌ", "体温 37.5℃"):
        text = "\x0c".join(
            f"某医院病历\n{line}\n第{number}次查房，病情平稳。\n第 {number} 页" for number in range(1, 7)
        )
        fixed, log = apply(build("page_lines"), text)
        assert fixed.count(line) == 6
        assert log.counts["page_header"] == log.counts["page_number"] == 6
        numbered = "\n".join(["某医院病历", line, *["病情平稳。"] * 9])
        flat = "\n".join(f"{numbered}\n- {page} -" for page in range(1, 9))
        assert apply(build("page_lines"), flat)[0].count(line) == 8


def test_page_numbers_that_count_up_without_form_feeds() -> None:
    body = [f"第{number}段文字在这里。" for number in range(12)]
    text = "\n".join("\n".join(body) + f"\n第 {page} 页 共 9 页\n手册" for page in range(1, 6))
    fixed, log = apply(build("page_lines"), text)
    assert "页" not in fixed
    assert log.counts["page_number"] == 5
    listed = "\n".join(f"{number}\n名称" for number in range(1, 40))
    assert apply(build("page_lines"), listed)[0] == listed  # a numbered list is too dense to be pages


def test_repeated_and_copied_paragraphs() -> None:
    notice = "本页面内容仅供参考，不能代替医生的诊断与治疗，如有不适请及时就医，并遵从医嘱用药，切勿自行停药。"
    text = "\n\n".join(["甲" * 45, notice, "乙" * 45, notice, "丙" * 45, notice, "钠 140 mmol/L", "钠 140 mmol/L"])
    fixed, log = apply(build("repeated_paragraphs"), text)
    assert fixed.count(notice) == 1
    assert fixed.count("钠 140 mmol/L") == 2
    assert fixed == "\n\n".join(["甲" * 45, notice, "乙" * 45, "丙" * 45, "钠 140 mmol/L", "钠 140 mmol/L"])
    assert log.counts["repeated_paragraph"] == 2
    assert log.counts["repeated_paragraph_characters"] == 2 * len(notice)
    twice = f"2024-01-05 08:30 病程记录\n{notice}\n\n新的情况\n\n2024-01-06 查房记录\n{notice}\n今日体温正常"
    assert apply(build("repeated_paragraphs"), twice)[0] == twice
    once = f"2024-01-05 08:30 病程记录\n{notice}\n\n新的情况\n\n2024-01-06 查房记录\n今日体温正常"
    assert apply(build("copied_paragraphs"), twice)[0] == once
    english = (
        "ECG without change against the one of the day before, rate controlled, no pain, will be kept on the ward."
    )
    notes = f"Progress Note\n{english}\n\nNursing Note\n{english}\nSlept well."
    assert apply(build("copied_paragraphs"), notes, "en")[0] == f"Progress Note\n{english}\n\nNursing Note\nSlept well."
    book = f"{notice}\n\n新的情况\n\n{notice}\n今日体温正常"  # no notes: what stands twice is meant
    assert apply(build("copied_paragraphs"), book)[0] == book
    joined = Document("d", book, "d", "zh", metadata={"rows": 2})
    assert build("copied_paragraphs").apply(joined, StepLog()).text == f"{notice}\n\n新的情况\n\n今日体温正常"
    changed = twice.replace(notice, notice + "3月1日", 1)  # a date is a value: near-copies stay
    assert apply(build("copied_paragraphs"), changed)[0] == changed
    labs = "2024-01-05 WBC 9.6 RBC 3.48 HGB 106 HCT 31.8 PLT 248 NEUT 78.2 LYM 15.1 MONO 5.2 CRP 12.3 PCT 0.05 K 3.9"
    listing = f"{labs}\n\n其他\n\n{labs}"
    assert apply(build("copied_paragraphs"), listing)[0] == listing


def test_simplified_by_option() -> None:
    pytest.importorskip("opencc")
    fixed, log = apply(build("simplified"), "診斷：肺炎，體溫38.5℃\n正常\nCO₂ 10⁹/L")
    assert fixed == "诊断：肺炎，体温38.5℃\n正常\nCO₂ 10⁹/L"
    assert (log.counts["converted_line"], log.counts["traditional_character"]) == (1, 4)
    assert apply(build("simplified"), "診斷", "en")[0] == "診斷"


def test_mistakes_of_the_configuration_are_named() -> None:
    for name, values in (
        ("lost_characters", {"evidence": "never"}), ("marks", {"images": "delete"}), ("simplified", {"conversion": "s2t"}),
        ("repeated_paragraphs", {"least_times": 1}), ("copied_paragraphs", {"least_columns": 3}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=name):
            build(name, **values)


def test_what_the_presets_switch_on() -> None:
    on = {
        preset: {name for name, config in load_corpus_config(preset).steps.items() if config.enabled}
        for preset in ("default", "books", "clinical", "web", "papers")
    }
    for steps in on.values():
        assert {"mojibake", "characters", "unwrap", "sections"} <= steps
        assert not {"half_width", "simplified"} & steps
    assert [preset for preset, steps in on.items() if "copied_paragraphs" in steps] == ["clinical"]
    assert [preset for preset, steps in on.items() if "repeated_paragraphs" in steps] == ["web"]
    assert load_corpus_config("books").steps["marks"].images == "caption"


NOTE = """入院记录
姓名：某某    性别：男    年龄：67岁
主诉：反复胸闷、气促3年，再发加重伴双下肢水肿1周，夜间不能平卧，
遂来我院就诊。
现病史：患者于3年前无明显诱因下出现活动后胸闷、气促，休息后可缓
解，未予重视。此后症状反复发作，逐渐加重，予美托洛尔23.75mg qd治疗
后好转。1周前受凉后再发，查BNP 2300pg/ml，为进一步诊治收入我科病房。
既往史：高血压病史10年，最高180/110mmHg，规律服用氨氯地平5mg qd，血
压控制可；否认糖尿病史。

辅助检查：
WBC   12.3×10⁹/L
Hb    102g/L
初步诊断：
1. 冠心病 心功能Ⅲ级
2. 高血压病3级 很高危
"""


def test_a_wrapped_note_keeps_its_form() -> None:
    fixed, log = apply(build("unwrap"), NOTE)
    lines = fixed.split("\n")
    assert log.counts["wrapped_line"] == 4
    assert [line.split("：")[0] for line in lines[2:5]] == ["主诉", "现病史", "既往史"]
    assert lines[5:] == NOTE.split("\n")[9:]
    assert "休息后可缓解，" in fixed
    assert "血压控制可；" in fixed
