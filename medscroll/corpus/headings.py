"""Sections of plain text: headings of Markdown, of Chinese classics, of clinical notes, and numbered ones.

Only positions are recorded; the text is never changed. A line is a heading only if it is short and looks like one, so
this errs towards fewer sections. Speed: about 20 MB of text a second.
"""

from __future__ import annotations

import re

from medscroll.corpus.document import Section

_CLINICAL_ZH = (
    "主诉|现病史|既往史|个人史|婚育史|月经史|家族史|过敏史|用药史|体格检查|查体|专科检查|专科情况|辅助检查|实验室检查|"
    "影像学检查|初步诊断|鉴别诊断|入院诊断|出院诊断|修正诊断|补充诊断|入院情况|诊疗经过|治疗经过|诊疗计划|出院情况|"
    "出院医嘱|出院带药|手术记录|病程记录|首次病程记录|会诊记录|讨论|摘要|关键词|背景|目的|方法|结果|结论|参考文献"
)
_CLINICAL_EN = (
    "Chief Complaint|History of Present Illness|HPI|Past Medical History|Past Surgical History|PMH|Medications|"
    "Medications on Admission|Allergies|Family History|Social History|Review of Systems|Vital Signs|Vitals|"
    "Physical Exam|Physical Examination|Laboratory Data|Laboratory Results|Labs|Imaging|Hospital Course|"
    "Brief Hospital Course|Assessment|Assessment and Plan|Plan|Impression|Procedures|Discharge Diagnosis|"
    "Discharge Diagnoses|Discharge Medications|Discharge Instructions|Discharge Condition|Follow-up|"
    "Abstract|Background|Introduction|Methods|Materials and Methods|"
    "Results|Discussion|Conclusion|Conclusions|References"
)
_DIGITS = "一二三四五六七八九十百千零〇\\d"
_LINE = re.compile(
    "|".join(
        (
            r"(?P<hash>#{1,6})[ \t]+(?P<hash_title>[^\n]{1,200}?)[ \t]*#*[ \t]*$",
            r"<目录>(?P<volume>[^\n]{0,80})$",
            r"<篇名>(?P<chapter>[^\n]{0,80})$",
            r"【(?P<bracket>[^】\n]{1,20})】",
            rf"(?P<clinical>{_CLINICAL_ZH})[ \t]*(?:[：:∶]|$)",
            rf"(?P<clinical_en>(?i:{_CLINICAL_EN}))[ \t]*(?::|$)",
            rf"(?P<part>第[{_DIGITS}]{{1,6}}[章节節回卷篇部编][^\n。；，]{{0,40}})$",
            r"(?P<juan>卷[一二三四五六七八九十上中下之]{1,4}[^\n。；，]{0,20})$",
            r"(?P<chapter_en>(?:Chapter|CHAPTER|Part|PART|Section|SECTION|Appendix)"
            r"[ ](?:\d{1,3}|[A-Z]|[IVXL]{1,6})\b[^\n]{0,80})$",
            r"(?P<zh_number>[一二三四五六七八九十]{1,3}、[^\n。；，,]{1,30})$",
            r"(?P<zh_bracket>[（(][一二三四五六七八九十]{1,3}[）)][^\n。；，,]{1,30})$",
            r"(?P<number>\d{1,2}(?:\.\d{1,2}){1,3})[.、]?[ \t]+"
            r"(?P<number_title>[A-Z\u4e00-\u9fff][^\n。；]{1,70}[^\n.。；;:：,，])$",
        )
    ),
    re.MULTILINE,
)
_LINE_START = re.compile(r"(?:^|\n)[ \t\u3000]*")
_FENCE = re.compile(r"^(?:```|~~~)[^\n]*$", re.MULTILINE)
_NUMBERED_LIST_ROOM = 3000  # sections a document, beyond which numbered lines are taken for a list
_LEVELS = {
    "bracket": 2, "clinical": 2, "clinical_en": 2, "juan": 1, "chapter_en": 1, "zh_number": 2, "zh_bracket": 3,
}  # fmt: skip
_PART_LEVELS = {"章": 2, "回": 2, "节": 3, "節": 3}  # 卷 篇 部 编: 1


def find_sections(text: str) -> list[Section]:
    """The sections of a text, ascending by start; empty where no line looks like a heading.

    A section starts at the first character of its heading's line.
    """
    sections: list[Section] = []
    fences = [(match.start(), match.end()) for match in _FENCE.finditer(text)] if "#" in text else []
    blocks = [(fences[i][0], fences[i + 1][1]) for i in range(0, len(fences) - 1, 2)]
    volume: str | None = None
    depth = 1  # of the volume that we are in
    classic = "<篇名>" in text  # there 【注】 and the like are parts of a chapter
    pending: int | None = None  # where a <目录> line begins that its <篇名> has not followed yet
    for match in _headings(text):
        kind = match.lastgroup or ""
        start = match.start()
        if kind == "volume":
            title = match["volume"].strip()
            pending = start
            if title and title != volume:
                depth = 1 + title.count("\\")
                sections.append(Section(start, depth, title.rsplit("\\", 1)[-1].strip()))
                volume, pending = title, None
            continue
        if kind == "chapter":
            begin = (
                pending if pending is not None and not text[pending:start].strip("\n\r \t\u3000").count("\n") else start
            )
            sections.append(Section(begin, depth + 1 if volume or sections else 1, match["chapter"].strip()))
            pending = None
            continue
        if kind == "hash_title":
            if not any(begin <= start < end for begin, end in blocks):
                sections.append(Section(start, len(match["hash"]), match["hash_title"].strip()))
            continue
        sections.append(Section(start, _level(kind, match) + (depth if classic else 0), _title(kind, match)))
    return sections


def _headings(text: str) -> list[re.Match[str]]:
    """Matches at line starts; numbered lines are left out where there are so many that they must be a list."""
    found = []
    numbered = 0
    for begin in _LINE_START.finditer(text):
        match = _LINE.match(text, begin.end())
        if match:
            found.append(match)
            numbered += match.lastgroup in ("number_title", "zh_number", "zh_bracket")
    if numbered > _NUMBERED_LIST_ROOM:
        found = [match for match in found if match.lastgroup not in ("number_title", "zh_number", "zh_bracket")]
    return found


def _level(kind: str, match: re.Match[str]) -> int:
    if kind == "part":
        mark = re.search(r"[章节節回卷篇部编]", match["part"])
        return _PART_LEVELS.get(mark.group(), 1) if mark else 1
    if kind == "number_title":
        return match["number"].count(".") + 1
    return _LEVELS[kind]


def _title(kind: str, match: re.Match[str]) -> str:
    if kind == "number_title":
        return f"{match['number']} {match['number_title']}".strip()
    return match[kind].strip()
