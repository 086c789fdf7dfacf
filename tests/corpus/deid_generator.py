"""Made-up clinical records, Chinese and English, with planted identifiers in many surface forms.

`record` gives a text and what was planted in it: (kind, what stands there, group), where group is "structured" or
"name". Nothing in it belongs to a person: numbers are drawn at random, names are put together from lists.
"""

# ruff: noqa: E501, PLR0912, PLR0915  (tables of forms; a Chinese character counts as two columns)

from __future__ import annotations

import random
from dataclasses import dataclass

SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
COMPOUND = ("欧阳", "司马", "上官", "诸葛", "皇甫", "尉迟", "公孙", "慕容", "令狐", "夏侯")
GIVEN = "伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂华建国志红玉梅凤春燕云海波斌林鑫龙飞鹏宇辉凯浩俊峰健亮晨雪琴珍莲素琳慧莹倩婷雯洁颖佳怡欣悦子轩梓涵诗嘉琪雅文庆荣德福永新光祥振东胜利玲美"
MINORITY = ("阿卜杜拉·买买提", "古丽娜尔·艾山", "扎西·次仁", "巴特尔·乌云", "迪丽热巴·吐尔逊", "努尔兰·哈布力")
FIRST = (
    "James",
    "Mary",
    "Robert",
    "Patricia",
    "Michael",
    "Linda",
    "William",
    "Elizabeth",
    "David",
    "Susan",
    "Karen",
    "Thomas",
    "Daniel",
    "Nancy",
    "Anthony",
    "Margaret",
    "Kevin",
    "Emily",
    "George",
    "Helen",
)
LAST = (
    "Smith",
    "Johnson",
    "Williams",
    "Brown",
    "Jones",
    "Garcia",
    "Miller",
    "Davis",
    "Martinez",
    "Hernandez",
    "Wilson",
    "Anderson",
    "Taylor",
    "Moore",
    "O'Brien",
    "McDonald",
    "Fitzgerald",
    "Van Dyke",
    "Nguyen",
    "Kowalski",
    "Schneider",
    "Patel",
)
COLON_LINE = ":" + chr(10)
FULL_WIDTH = str.maketrans("0123456789Xx-", "０１２３４５６７８９Ｘｘ－")
FILLER_ZH = (
    "血常规示白细胞12.3×10⁹/L，血红蛋白 108g/L，C反应蛋白 56.2mg/L。",
    "体温38.5℃，脉搏98次/分，血压135/85mmHg。",
    "予头孢呋辛1.5g静脉滴注每日两次，国药准字H20033456。",
    "胸部CT示右下肺斑片影，大小约12mm×8mm。",
    "诊断：肺炎（ICD-10：J18.900）。",
    "患者黄疸消退，患者白细胞下降，患者安静休息。",
    "参考文献 PMID: 31234567，doi:10.1016/j.cell.2020.01.001。",
    "入组试验 NCT04280705，ChiCTR2000029308。",
    "患者于2021年3月5日入院，患者何时发病不详。",
    "eGFR 86 mL/min/1.73m²，PaO₂ 82mmHg，病毒载量 13800138000 copies/mL。",
)
FILLER_EN = (
    "WBC 12.3 x 10^9/L, Hgb 10.8 g/dL, platelets 150,000.",
    "BP 135/85, HR 98, T 38.5 C, RR 18, SpO2 97% on RA.",
    "Started on ceftriaxone 1 g IV q24h, lot 4F5521A.",
    "Chest CT shows a 12 x 8 mm nodule.",
    "Diagnosis: pneumonia (ICD-10 J18.9).",
    "History of Parkinson disease and Graves disease.",
    "See PMID: 31234567 and doi:10.1056/NEJMoa2001017.",
    "Enrolled in NCT04280705.",
)


@dataclass(frozen=True)
class Planted:
    """What was planted: kind, the exact text, group ("structured" or "name")."""

    kind: str
    text: str
    group: str


def chinese_name(rng: random.Random) -> str:
    if rng.random() < 0.08:
        return rng.choice(COMPOUND) + "".join(rng.choices(GIVEN, k=rng.choice((1, 2))))
    return rng.choice(SURNAMES) + "".join(rng.choices(GIVEN, k=rng.choice((1, 2, 2))))


def resident_id(rng: random.Random) -> str:
    area = rng.choice(
        ("110105", "310104", "440306", "330106", "510107", "320102", "420111", "610113", "230103", "370202")
    )
    body = f"{area}{rng.randint(1930, 2015)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}{rng.randint(0, 999):03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]


def luhn(rng: random.Random, prefix: str, length: int) -> str:
    body = prefix + "".join(rng.choices("0123456789", k=length - len(prefix) - 1))
    total = sum(
        (2 * int(d) - 9 * (2 * int(d) > 9)) if place % 2 == 0 else int(d) for place, d in enumerate(reversed(body))
    )
    return body + str(-total % 10)


def digits(rng: random.Random, count: int, first: str = "123456789") -> str:
    return rng.choice(first) + "".join(rng.choices("0123456789", k=count - 1))


def disguised(rng: random.Random, number: str, groups: tuple[int, ...]) -> str:
    """The number plain, in groups with a separator, in full width, or broken by a line end."""
    form = rng.random()
    if form < 0.55:
        return number
    if form < 0.65:
        return number.translate(FULL_WIDTH)
    parts, at = [], 0
    for size in groups:
        parts.append(number[at : at + size])
        at += size
    parts.append(number[at:])
    parts = [part for part in parts if part]
    if form < 0.95:
        return rng.choice((" ", "-", " ", "－")).join(parts)
    return parts[0] + "\n" + "".join(parts[1:])


SEPARATORS_ZH = ("：", ":", "： ", " : ", "∶", "：\n", "　", "——：", "为", "是", "＝")


def structured_zh(rng: random.Random) -> tuple[str, Planted]:
    """(sentence, what was planted in it)."""
    colon = rng.choice(SEPARATORS_ZH[:7])
    kind = rng.choice(
        (
            "id18",
            "id18_bare",
            "id15",
            "mobile",
            "mobile_bare",
            "landline",
            "record",
            "insurance",
            "passport",
            "permit",
            "plate",
            "card",
            "email",
            "address",
            "bed",
            "record_table",
        )
    )
    group = "structured"
    if kind.startswith("id18"):
        value = disguised(rng, resident_id(rng), (6, 8))
        label = (
            rng.choice(
                (
                    "身份证号",
                    "身份证号码",
                    "公民身份号码",
                    "证件号码",
                    "居民身份证",
                    "身份证",
                    "身 份 证 号",
                    "ID证号",
                    "患者身份证号码",
                )
            )
            + colon
            if kind == "id18"
            else rng.choice(("，", "（", "\n", "| "))
        )
    elif kind == "id15":
        value = (
            resident_id(rng)[:6]
            + f"{rng.randint(30, 99)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}{rng.randint(0, 999):03d}"
        )
        label = rng.choice(("身份证号", "身份证", "证件号", "旧身份证号", "")) + colon
    elif kind.startswith("mobile"):
        value = disguised(rng, "1" + rng.choice("3456789") + digits(rng, 9, "0123456789"), (3, 4))
        if rng.random() < 0.15 and "\n" not in value:
            value = rng.choice(("+86 ", "+86-", "86-", "+86", "(+86)")) + value
        label = (
            rng.choice(("电话", "手机", "联系电话", "手机号码", "联系方式", "家属电话", "电 话", "Tel", "移动电话"))
            + colon
            if kind == "mobile"
            else rng.choice(("，", "（", "可联系 ", "| "))
        )
    elif kind == "landline":
        area = rng.choice(("010", "021", "0571", "0755", "028", "0311", "025"))
        number = digits(rng, 8 if len(area) == 3 else rng.choice((7, 8)), "2345678")
        value = rng.choice(
            (
                f"{area}-{number}",
                f"({area}){number}",
                f"（{area}）{number}",
                f"{area} {number}",
                f"{area}-{number}-{rng.randint(100, 9999)}",
                f"{area}—{number}",
                f"{area}{number}",
            )
        )
        label = rng.choice(("电话", "联系电话", "家庭电话", "座机", "固定电话", "传真", "宅电")) + colon
    elif kind == "record":
        value = rng.choice(
            (
                digits(rng, rng.choice((6, 7, 8, 10, 12)), "0123456789"),
                "ZY" + digits(rng, 8),
                "M" + digits(rng, 6),
                "B" + str(rng.randint(2015, 2023)) + "-" + digits(rng, 5),
                digits(rng, 6).translate(FULL_WIDTH),
                "2021" + digits(rng, 8),
                f"P{digits(rng, 7)}A",
            )
        )
        label = rng.choice(
            (
                "住院号",
                "病案号",
                "门诊号",
                "病历号",
                "就诊卡号",
                "登记号",
                "标本号",
                "检查号",
                "影像号",
                "病理号",
                "住 院 号",
                "患者ID",
                "ID号",
                "样本编号",
                "CT号",
                "超声号",
                "急诊号",
                "条码号",
                "申请单号",
                "体检编号",
                "病人编号",
                "住院号码",
                "处方号",
                "诊疗卡号",
                "住院号（病案号）",
                "门诊/住院号",
            )
        ) + rng.choice((colon, colon, "", " ", "】", "No."))
    elif kind == "insurance":
        value = rng.choice((digits(rng, 9), digits(rng, 12), "A" + digits(rng, 8), "YB" + digits(rng, 10)))
        label = (
            rng.choice(
                (
                    "医保号",
                    "医保卡号",
                    "社保卡号",
                    "社会保障号",
                    "医疗保险号",
                    "医保编号",
                    "参保号",
                    "新农合证号",
                    "医疗保险手册号",
                    "社会保障卡号",
                )
            )
            + colon
        )
    elif kind == "passport":
        value = rng.choice(("E", "G", "EA", "D", "PE")) + digits(rng, 8)
        value = value[:9]
        label = rng.choice(("护照号", "护照号码", "护照", "护照编号", "护照No.")) + colon
    elif kind == "permit":
        value = rng.choice((rng.choice("CWHM") + digits(rng, 8), digits(rng, 8), rng.choice("HM") + digits(rng, 10)))
        label = (
            rng.choice(
                (
                    "港澳通行证号",
                    "往来港澳通行证",
                    "港澳居民来往内地通行证号",
                    "台胞证号",
                    "回乡证号",
                    "通行证号码",
                    "台湾居民来往大陆通行证",
                )
            )
            + colon
        )
    elif kind == "plate":
        tail = rng.choice(
            (digits(rng, 5), "A" + digits(rng, 4), digits(rng, 3) + "KX", "D" + digits(rng, 5), "F" + digits(rng, 5))
        )
        value = (
            rng.choice("京津沪渝冀豫云辽黑湘皖鲁苏浙赣鄂桂甘晋蒙陕吉闽贵粤川")
            + rng.choice("ABCDEFGHJK")
            + rng.choice(("", "·", " ", "-", "•"))
            + tail
        )
        label = rng.choice(("车牌号", "车牌", "乘坐车辆", "驾驶", "牌照", "救护车")) + rng.choice(("：", "", ":"))
    elif kind == "card":
        value = disguised(
            rng, luhn(rng, rng.choice(("6222", "6228", "6217", "4392", "5187")), rng.choice((16, 19))), (4, 4, 4, 4)
        )
        label = rng.choice(("银行卡号", "银行卡", "卡号", "退费账号", "银行账号", "退款至")) + colon
    elif kind == "email":
        value = (
            rng.choice(("zhang.san", "li_si88", "wangwu2020", "a1b2"))
            + str(rng.randint(1, 999))
            + rng.choice(("@", "＠"))
            + rng.choice(("163.com", "qq.com", "hospital.org.cn", "gmail.com", "126.com"))
        )
        label = rng.choice(("邮箱：", "电子邮件:", "E-mail：", "邮箱 ", "Email: "))
    elif kind == "address":
        value = rng.choice(
            (
                "浙江省杭州市西湖区文三路{a}号",
                "上海市徐汇区肇嘉浜路{a}弄{b}号{c}室",
                "北京市朝阳区建国路{a}号院{b}号楼{c}室",
                "广东省深圳市南山区科技园南路{a}号",
                "四川省成都市武侯区人民南路四段{a}号{b}栋{c}单元",
                "河南省周口市太康县城关镇李庄村{a}号",
                "江苏省南京市鼓楼区中山路{a}号{b}幢{c}室",
                "山东省济南市历下区泉城路{a}号",
                "湖北省武汉市洪山区珞喻路{a}号幸福小区{b}栋{c}",
            )
        ).format(a=rng.randint(1, 999), b=rng.randint(1, 20), c=rng.randint(101, 2904))
        label = rng.choice(
            (
                "住址",
                "家庭住址",
                "现住址",
                "地址",
                "户籍地址",
                "联系地址",
                "通讯地址",
                "家 庭 住 址",
                "家住",
                "居住于",
                "住在",
                "现住",
                "居住地址",
                "常住地址",
            )
        )
        label += colon if label not in ("家住", "居住于", "住在", "现住") else ""
    elif kind == "bed":
        value = rng.choice(
            (
                f"{rng.randint(1, 60)}",
                f"{rng.randint(1, 60):02d}床",
                f"+{rng.randint(1, 9)}",
                f"{rng.randint(1, 20)}-{rng.randint(1, 4)}",
                f"A{rng.randint(1, 40)}",
                f"加{rng.randint(1, 9)}床",
            )
        )
        label = rng.choice(("床号", "床位号", "床 号", "病床号", "床位")) + rng.choice(("：", ":", "： "))
    else:
        value = digits(rng, 8)
        other = digits(rng, 8)
        table = rng.choice(
            (
                "| 科室 | 住院号 | 诊断 |\n|---|---|---|\n| 内科 | {} | 肺炎 |\n| 外科 | {} | 胆囊炎 |\n",
                "科室\t住院号\t诊断\n内科\t{}\t肺炎\n外科\t{}\t胆囊炎\n",
            )
        )
        return "\n" + table.format(value, other), Planted("record", value, group)
    tail = rng.choice(("。", "，", "；", "\n", " ", "）", " | ", "\t"))
    if kind.endswith("_bare"):
        tail = rng.choice(("。", "，", "）", "\n"))
    return f"{label}{value}{tail}", Planted(kind, value, group)


NAME_LABELS_ZH = (
    "姓名",
    "患者姓名",
    "姓  名",
    "姓　名",
    "病人姓名",
    "联系人",
    "联系人姓名",
    "主治医师",
    "主任医师",
    "住院医师",
    "经治医师",
    "管床医生",
    "医师签名",
    "医生签字",
    "签名",
    "护士签名",
    "责任护士",
    "记录者",
    "记录人",
    "报告医师",
    "审核医师",
    "送检医师",
    "检查者",
    "手术者",
    "主刀",
    "一助",
    "第一助手",
    "麻醉师",
    "麻醉医师",
    "巡回护士",
    "家属签名",
    "患者签名",
    "陈述者",
    "病史陈述者",
    "监护人",
    "父亲",
    "母亲",
    "配偶",
    "接诊医生",
    "会诊医师",
    "申请医师",
    "检验者",
    "审核者",
    "值班医生",
    "上级医师",
    "家属",
    "患者",
    "患儿姓名",
    "产妇姓名",
    "紧急联系人",
    "委托人",
    "主管护师",
    "术者",
    "书写者",
    "开单医生",
    "患者（或家属）签名",
    "医师（签名）",
)


def name_zh(rng: random.Random) -> tuple[str, Planted]:
    name = chinese_name(rng)
    form = rng.random()
    if form < 0.03:
        name = rng.choice(MINORITY)
    label = rng.choice(NAME_LABELS_ZH)
    if form < 0.42:
        sentence = f"{label}{rng.choice(SEPARATORS_ZH[:6])}{name}{rng.choice(('，', '。', ' ', chr(10), '　性别：男 ', ' | ', '；', '  日期：2021-03-05 ', '（签名）', ' 2021年3月5日'))}"
    elif form < 0.47:
        shown = name[0] + rng.choice((" ", "  ", "　")) + name[1] if len(name) == 2 else name
        sentence = f"姓名：{shown}　　性别：女\n"
        name = shown
    elif form < 0.52:
        sentence = f"\n| 姓名 | 性别 | 年龄 | 诊断 |\n|---|---|---|---|\n| {name} | 男 | 56 | 肺炎 |\n\n"
    elif form < 0.57:
        sentence = f'{{"姓名": "{name}", "年龄": 56}}\n' if rng.random() < 0.5 else f"<姓名>{name}</姓名>\n"
    elif form < 0.62:
        sentence = f"【{rng.choice(('姓名', '患者姓名', '主治医师', '联系人'))}】{name}\n"
    elif form < 0.86:
        start = rng.choice(("患者", "患者", "病人", "患儿", "产妇", "患者，"[:2]))
        follow = rng.choice(
            (
                "，男，56岁，",
                "，女，45岁。",
                "（男，34岁）",
                "因咳嗽3天入院。",
                "，因发热就诊。",
                "于2021年3月5日入院，",
                "诉胸闷，",
                " 男 67岁 ",
                "，汉族，已婚，",
                "、女、28岁，",
                "，男性，60岁，",
                "系我院职工，",
            )
        )
        sentence = f"{start}{name}{follow}"
    elif form < 0.96:
        title = rng.choice(
            ("主任医师", "副主任医师", "主治医师", "医师", "医生", "教授", "主任", "护士长", "护士", "大夫")
        )
        start = rng.choice(("今日", "请", "由", "遵", "，", "。", "经"))
        sentence = f"{start}{name}{title}{rng.choice(('查房，', '会诊后', '指示：', '主刀，', '看过患者，', '签名。'))}"
    else:
        kin = rng.choice(("其子", "其女", "其妻", "其父", "丈夫", "女儿", "家属"))
        sentence = f"{kin}{name}{rng.choice(('陪同入院。', '签字同意。', '，电话随访。', '代诉病史。'))}"
    return sentence, Planted("name", name, "name")


def structured_en(rng: random.Random) -> tuple[str, Planted]:
    kind = rng.choice(
        (
            "ssn",
            "mrn",
            "phone",
            "fax",
            "email",
            "street",
            "zip",
            "plan",
            "account",
            "licence",
            "vehicle",
            "device",
            "url",
            "ip",
            "dea",
            "record",
        )
    )
    number = digits(rng, 10, "23456789")
    group = "structured"
    number = number[:3] + rng.choice("23456789") + number[4:]
    phone = rng.choice(
        (
            f"({number[:3]}) {number[3:6]}-{number[6:]}",
            f"{number[:3]}-{number[3:6]}-{number[6:]}",
            f"{number[:3]}.{number[3:6]}.{number[6:]}",
            f"+1 {number[:3]} {number[3:6]} {number[6:]}",
            f"1-{number[:3]}-{number[3:6]}-{number[6:]}",
            f"({number[:3]}){number[3:6]}-{number[6:]}",
        )
    )
    if kind == "ssn":
        raw = f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"
        value = rng.choice((raw, raw, raw.replace("-", " "), raw.replace("-", "")))
        label = rng.choice(
            ("SSN: ", "Social Security Number: ", "SSN ", "SSN# ", "Social Security No. ", "soc. sec. #: ")
        )
    elif kind == "mrn":
        value = rng.choice(
            (
                digits(rng, 7),
                digits(rng, 8),
                f"{digits(rng, 3)}-{digits(rng, 2)}-{digits(rng, 2)}",
                "A" + digits(rng, 6),
                "MR" + digits(rng, 6),
            )
        )
        label = rng.choice(
            (
                "MRN: ",
                "MRN ",
                "MRN# ",
                "Medical Record Number: ",
                "Medical Record No. ",
                "Med Rec #: ",
                "Unit No: ",
                "Patient ID: ",
                "MR#: ",
                "Chart #: ",
                "MRN = ",
                "MRN:\n",
                "Hospital Number: ",
            )
        )
    elif kind == "record":
        value = rng.choice((digits(rng, 9), "S" + digits(rng, 2) + "-" + digits(rng, 5), digits(rng, 6)))
        label = rng.choice(
            (
                "Encounter #: ",
                "Visit ID: ",
                "Accession Number: ",
                "Specimen #: ",
                "Case No: ",
                "Account Number: ",
                "CSN: ",
                "FIN: ",
                "Admission No.: ",
            )
        )
    elif kind in ("phone", "fax"):
        value = phone
        label = (
            rng.choice(
                (
                    "Phone: ",
                    "Tel: ",
                    "Telephone ",
                    "call ",
                    "Cell: ",
                    "Home phone: ",
                    "reached at ",
                    "(H) ",
                    "Contact: ",
                )
            )
            if kind == "phone"
            else rng.choice(("Fax: ", "FAX ", "Fax number: ", "facsimile: "))
        )
    elif kind == "email":
        value = (
            rng.choice(("john.smith", "m_jones", "k.lee+clinic"))
            + str(rng.randint(1, 99))
            + "@"
            + rng.choice(("example.com", "hospital.org", "mail.med.edu", "gmail.com"))
        )
        label = rng.choice(("Email: ", "e-mail ", "E-mail address: ", "contact "))
    elif kind == "street":
        value = f"{rng.randint(1, 9999)} {rng.choice(('Main', 'Oak', 'Maple Ridge', 'N. Washington', 'Martin Luther King', '5th', 'West 42nd'))} {rng.choice(('Street', 'St', 'St.', 'Avenue', 'Ave.', 'Road', 'Rd', 'Blvd', 'Lane', 'Drive', 'Court'))}"
        label = rng.choice(("Address: ", "lives at ", "Home Address: ", "residing at ", ""))
    elif kind == "zip":
        value = f"{rng.choice(('Boston, MA', 'Springfield, Illinois', 'New Haven, CT', 'Austin, TX'))} {digits(rng, 5)}{rng.choice(('', '-' + digits(rng, 4)))}"
        label = rng.choice(("from ", "Address: ", "of ", ""))
    elif kind == "plan":
        value = rng.choice((digits(rng, 9), "XYZ" + digits(rng, 9), "W" + digits(rng, 8), "1EG4-TE5-MK73"))
        label = rng.choice(
            (
                "Member ID: ",
                "Policy Number: ",
                "Health Plan ID: ",
                "Medicare #: ",
                "Subscriber ID: ",
                "Insurance ID: ",
                "Health plan beneficiary number: ",
                "Medicaid ID: ",
                "Policy #",
            )
        )
    elif kind == "account":
        value = digits(rng, rng.choice((8, 10, 12)))
        label = rng.choice(("Account Number: ", "Acct #: ", "Account No. ", "Account: ", "Bank account: "))
    elif kind == "licence":
        value = rng.choice(("S" + digits(rng, 8), digits(rng, 7), "D" + digits(rng, 3) + "-" + digits(rng, 4)))
        label = rng.choice(
            (
                "Driver's License: ",
                "Driver License No: ",
                "DL#: ",
                "License Number: ",
                "License #: ",
                "Certificate No: ",
                "Drivers license ",
            )
        )
    elif kind == "vehicle":
        value = rng.choice(("1HGCM82633A004352", "ABC-" + digits(rng, 4), digits(rng, 1) + "ABC" + digits(rng, 3)))
        label = "VIN: " if len(value) == 17 else rng.choice(("License plate: ", "Plate #: ", "license plate number "))
    elif kind == "device":
        value = rng.choice(("SN" + digits(rng, 8), digits(rng, 9), "PM-" + digits(rng, 6)))
        label = rng.choice(
            ("Serial Number: ", "Device ID: ", "S/N: ", "Serial No. ", "Pacemaker serial number: ", "Device serial #: ")
        )
    elif kind == "url":
        value = rng.choice(
            (
                "http://www.johnsmithfamily.com/photos",
                "https://myblog.example.org/~smith",
                "www.facebook.com/john.smith.77",
            )
        )
        label = rng.choice(("website ", "see ", "URL: "))
    elif kind == "ip":
        value = f"{rng.randint(24, 220)}.{rng.randint(10, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"
        label = rng.choice(("IP address ", "IP: ", "logged in from ", "host "))
    else:
        value = rng.choice("AB") + rng.choice("ABCS") + digits(rng, 7)
        label = rng.choice(("DEA: ", "DEA # ", "DEA Number: "))
    return f"{label}{value}{rng.choice(('. ', ', ', chr(10), '; ', ' | ', ' ('))}", Planted(kind, value, group)


def name_en(rng: random.Random) -> tuple[str, Planted]:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    middle = rng.choice(("", "", f" {rng.choice('ABCDEFJKLM')}."))
    name = rng.choice(
        (
            f"{first}{middle} {last}",
            f"{first}{middle} {last}",
            f"{last}, {first}",
            f"{last.upper()}, {first.upper()}",
            f"{first.upper()} {last.upper()}",
        )
    )
    form = rng.random()
    if form < 0.5:
        label = rng.choice(
            (
                "Patient Name",
                "Name",
                "Patient",
                "Attending",
                "Attending Physician",
                "PCP",
                "Referring Physician",
                "Surgeon",
                "Anesthesiologist",
                "Dictated by",
                "Signed by",
                "Next of Kin",
                "Emergency Contact",
                "Mother",
                "Guardian",
                "Primary Care Physician",
                "Nurse",
                "Provider",
                "Assistant",
                "Electronically signed by",
                "Full Name",
                "Ordering Physician",
                "Contact",
                "Spouse",
                "Reviewed by",
            )
        )
        sentence = f"{label}{rng.choice((': ', ':', ' : ', ':  ', COLON_LINE))}{name}{rng.choice((chr(10), ' MRN: ', '  DOB: ', ', MD' + chr(10), ' | ', '; ', '   Sex: F '))}"
    elif form < 0.75:
        name = rng.choice((last, f"{first} {last}", f"{first[0]}. {last}"))
        sentence = f"{rng.choice(('Dr.', 'Mr.', 'Mrs.', 'Ms.', 'Dr', 'Prof.', 'Miss', 'Nurse'))} {name} {rng.choice(('saw the patient.', 'was admitted with chest pain.', 'is a 56-year-old patient.', 'agreed with the plan.', 'reports improvement.'))} "
    elif form < 0.85:
        name = f"{first} {last}"
        sentence = f"{rng.choice(('daughter', 'son', 'his wife', 'her husband', 'sister', 'patient', 'The patient', 'her mother'))} {name} {rng.choice(('was at the bedside.', 'gave consent.', 'was contacted.'))} "
    elif form < 0.93:
        name = f"{first}{middle} {last}"
        sentence = f"{name}, {rng.choice(('MD', 'M.D.', 'RN', 'NP', 'PA-C', 'PhD', 'DO'))}\n"
    else:
        name = f"{first} {last}"
        sentence = f"{rng.choice(('Dictated by ', 'electronically signed by ', 'Transcribed by ', 'under the care of Dr. ', 'seen by Dr. '))}{name}\n"
    return sentence, Planted("name", name, "name")


def record(seed: int, language: str) -> tuple[str, list[Planted]]:
    """A record of about 20 sentences, a third of them with an identifier."""
    rng = random.Random(f"{language}{seed}")
    makers, filler = (
        ((structured_zh, name_zh), FILLER_ZH) if language == "zh" else ((structured_en, name_en), FILLER_EN)
    )
    parts: list[str] = []
    planted: list[Planted] = []
    for _ in range(8):
        parts += rng.choices(filler, k=rng.randint(1, 2))
        sentence, found = rng.choice(makers)(rng)
        if language == "en" and parts[-1][-1] not in "\n ":
            parts.append(rng.choice((" ", "\n")))
        elif rng.random() < 0.4:
            parts.append("\n")
        parts.append(sentence)
        planted.append(found)
    return "".join(parts), planted
