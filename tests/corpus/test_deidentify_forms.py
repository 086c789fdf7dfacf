"""Forms of records that a second, independent generator found missing: labels, layouts, names after mere words.

Each case is a sentence with what must go between ⟦ ⟧; everything else must stay.
"""

# ruff: noqa: E501  (tables of forms; a Chinese character counts as two columns)

from __future__ import annotations

import re

import pytest

from medscroll.corpus.deidentify import find_identifiers

GONE = (
    "香港居民身份证：⟦G464201(3)⟧", "身份证号: ⟦B576585(0)⟧。", "放疗号: ⟦ZY1664051890⟧；", "血样编号：⟦6167746⟧", "蜡块号\t⟦7229336⟧",
    "病历编码∶⟦D9508516⟧", "床号︰⟦36⟧\n", "微信号︰⟦sunny93185⟧", "父亲姓名____⟦殷伦怡⟧ 日期", "接诊医生：\n⟦东方鹏⟧/",
    "患者⟦冯子会⟧诉咳嗽。", "患儿⟦蒋之艺⟧，男，1月", "与患者女儿⟦刘薇⟧沟通病情。", "由护士⟦戴广国⟧完成采血。", "术中由⟦韦欣永⟧主刀。",
    "患者⟦周一鸣⟧于昨日入院。", "请⟦石倩涵⟧副主任医师会诊。", "未触及。⟦周善茗⟧，男，32岁。", "姓名：⟦高明⟧ ", "⟦王国庆⟧医生查房", "姓名：⟦马力⟧，男",
    "患者名叫⟦赵玲阅⟧，退休工人。", "其妻⟦傅宏⟧陪同来院。", "患者⟦石倩涵⟧诉头痛。", "| 住址 | 身份证号 |\n|---|---|\n| ⟦云南省昆明市五华区翠湖北路3号⟧ | 无 |",
    "住址：⟦天津市南开区卫津路895号⟧，条码号：⟦201330287⟧", "ZIP Code\t⟦71721-9011⟧\n", "MRN - ⟦71762474⟧\n", "Medical Record Number: ⟦701 262 25⟧\n",
    "Group ID:⟦TBY817801201⟧\n", "Address: ⟦P.O. Box 1936, Boise, ID 97490⟧,   ", "Cardiologist: ⟦Tyrone B. Baker⟧\n",
    "Drs. ⟦Baker⟧ and ⟦Novak⟧ concur.", "Patient's wife ⟦Beatrice M. Marsh⟧ was informed.", "| Name | Age |\n|---|---|\n| ⟦Müller, Gwendolyn⟧ | 3 |",
    "VIN: ⟦3YPUVJEWXX8BHPYN5⟧,", "⟦Hugo Underwood⟧, RN, notified the team.", "Co-signed by:\n⟦HARGREAVES, CEDRIC⟧\n",
)  # fmt: skip
STAYS = (
    "mild MR. Vehicle of the drug", "moderate MS. Left atrium", "患者激素治疗", "患者成功脱机", "患者平安返回", "患者激光治疗", "患者公路旁摔倒", "患者张力性气胸", "患者周一复查",
    "患者高温作业", "患者石化厂工人", "患者施行手术", "患者马路上摔倒", "由康复科完成", "由金属支架执行", "CAS号：41462-36-1", "统一书号：30256·225",
    "实验编号：20210301", "疾病编码：1234567", "货号：100234567", "项目编号：2021-12345", "菌株编号：12345678", "第3号 123456", "信号1234567",
    "| 住址 | 身份证号 | 姓名 |", "| +12床 | 49 |", "地址\t会诊医师\n", "Silver Spring, MD", "The PA, RN and MD agree.",
    "http://www.trialregister.nl/trialreg/admin/rctview.asp?TC=2181",
)  # fmt: skip


@pytest.mark.parametrize("marked", GONE)
def test_what_is_marked_goes_and_nothing_else(marked: str) -> None:
    text = re.sub("[⟦⟧]", "", marked)
    wanted = []
    for number, match in enumerate(re.finditer("⟦([^⟧]*)⟧", marked)):
        wanted.append((match.start() - 2 * number, match.start() - 2 * number + len(match[1])))
    assert wanted
    assert [(span.start, span.stop) for span in find_identifiers(text)] == wanted


def test_what_is_none_stays() -> None:
    touched = [
        (before + each + after, [each_span.rule for each_span in find_identifiers(before + each + after)])
        for each in STAYS
        for before, after in (("", ""), ("\n", "\n"), ("见", "。"))
        if find_identifiers(before + each + after)
    ]
    assert not touched
