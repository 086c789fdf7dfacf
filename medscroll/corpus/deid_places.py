"""Addresses: what follows a label (`住址：`), Chinese addresses by their own structure, US and British street lines."""

# ruff: noqa: E501  (patterns are tables of words; a Chinese character counts as two columns)

from __future__ import annotations

import re
from collections.abc import Iterator

from medscroll.corpus.code_points import CharacterSet
from medscroll.corpus.deid_numbers import SEPARATOR, spaced
from medscroll.corpus.deid_spans import Span
from medscroll.corpus.deid_tables import PROVINCES, STATES, STREET_TYPES
from medscroll.corpus.deid_words import Words, first_words

_LABELS = spaced(
    "住址 家庭住址 现住址 现在住址 现家庭住址 居住地址 居住地 居住地点 现居住地 现居地址 现居住地址 常住地址 常住地 常住址 家庭地址 家庭详细地址 详细地址 联系地址 通讯地址 通信地址 邮寄地址 收货地址 收件地址 户籍地址 户籍地 户籍所在地 户口地址 户口所在地 户口住址 "
    "身份证地址 身份证住址 单位地址 工作地址 地址 住所 住处 暂住地址 暂住地 租住地址 现住地 现住地址 现住 患者住址 患者地址 联系人地址 联系人住址 家属地址 出院后住址 本人地址 病人住址 家庭现住址 学校地址 Address ADDRESS"
)
_LATIN_LABELS = ("Address", "ADDRESS")
_HAN = CharacterSet([(0x4E00, 0x9FFF)])
_ORIGIN_LABELS = spaced("籍贯 出生地 出生地点 出生地址 原籍 祖籍")
_WORK_LABELS = spaced(
    "工作单位 单位名称 就职单位 单位 工作单位及地址 工作单位及职业 工作单位名称 工作单位或学校 学校 就读学校 所在单位 工作学习单位 联系人单位 联系人工作单位"
)
_CUE = re.compile(rf"(?:{_LABELS})(?:[（(][^()（）\n]{{0,10}}[)）]|[ ]?/[ ]?[^\s:：/]{{1,8}})?{SEPARATOR}")
_ORIGIN = re.compile(
    rf"(?:{_ORIGIN_LABELS}){SEPARATOR}|(?:出生于|生于|祖籍|籍贯)(?=(?:{PROVINCES}))|(?:现住|家住|居住于|居住在|住在|现居|现居住于|户籍)(?=(?:{PROVINCES})|[\u4e00-\u9fff]{{2,4}}[市县区])"
)
_WORK = re.compile(rf"(?<![\u4e00-\u9fff])(?:{_WORK_LABELS})(?:[（(][^()（）\n]{{0,10}}[)）])?{SEPARATOR}")
_VALUE = re.compile(
    r"[\u4e00-\u9fffA-Za-z0-9#\-·()（）.、～~,]+(?:[ ]{1,2}(?=[\u4e00-\u9fff0-9#])[\u4e00-\u9fffA-Za-z0-9#\-·()（）.]+){0,5}"
)
_VALUE_STOP = re.compile(
    r"[ ]{2,}|[ ,，]?[ ]?(?:邮编|邮政编码|电话|联系|手机|联系人|姓名|性别|年龄|职业|民族|婚姻|籍贯|出生|入院|住院|身份证|工作单位|单位|病史|身高|体重|与患者|关系|户籍|户口|现住|科室|床号|门诊|医保|国籍|主诉|记录|患者|因|就诊|费别|血型)(?=[ \t]{0,4}(?:[:：|]|[A-Za-z\u4e00-\u9fff]{0,6}[:：|]|地址))"
)
_GOES_ON = re.compile(
    r"[0-9A-Za-z\-#]{1,6}(?:号|室|栋|幢|单元|楼|层|座|户|弄)|[\u4e00-\u9fff]{1,10}(?:路|街|道|巷|弄|区|县|镇|乡|市|村|小区|花园|号)"
)
_OTHER_LABEL = re.compile(  # the next header of a table
    r"[\u4e00-\u9fffA-Z]{0,6}(?:号|号码|编号|姓名|年龄|性别|诊断|科室|科别|电话|手机|方式|日期|时间|医师|医生|护士|职业|民族|关系|邮编|备注|身份证|床位)"
)
_NO_VALUE = re.compile(
    r"(?:同上|同前|同户籍|同现住址|不详|未知|无|暂无|本地|外地|当地|本市|农村|城镇|城市|如上|见上|略|退休|无业|农民|务农|自由职业|待业|离休|个体|学生|职员|工人|家务|学龄前|其他|保密|未提供|未填|拒绝提供)(?=[^\u4e00-\u9fff]|$)"
)
_UNIT = r"(?:省|自治区|特别行政区|自治州|地区|盟|市|州|区|县|旗|镇|乡|街道|街道办事处|开发区|新区)"
_STREET = r"(?:路|街|大道|大街|巷|弄|胡同|里|村|屯|庄|小区|社区|花园|公寓|家园|新村|苑|园|坊|组|队|栋|幢|号楼|单元|广场|大厦|道|中心|号院|院|工业园|宿舍|城|府|庭|湾|居|院区|[一二三四五六七八九]段)"
_STRUCTURE = re.compile(
    rf"(?:(?:{PROVINCES})(?:省|市|自治区|壮族自治区|回族自治区|维吾尔自治区|特别行政区)?|(?<![\u4e00-\u9fff])[\u4e00-\u9fff]{{2,4}}市|(?<=[住在于址])[\u4e00-\u9fff]{{2,4}}[市县区])"
    rf"(?:[ ]?[\u4e00-\u9fff]{{1,8}}?{_UNIT}){{0,4}}[ ]?(?:[\u4e00-\u9fff]{{1,12}}?{_STREET}|[A-Za-z0-9\-]{{1,6}}(?:号楼|号院|号|栋|幢|座|弄|组|单元|室|楼|层|巷|户)[ ]?){{0,6}}"
    r"[ ]?[0-9A-Za-z一二三四五六七八九十百\-]{1,8}(?:号楼|号院|号|栋|幢|座|弄|组|单元|室|楼|层|户)(?:[ ]?[0-9A-Za-z一二三四五六七八九十\-]{1,6}(?:号楼|号|栋|幢|座|单元|室|楼|层|户|门)?){0,4}"
)
_STREET_ONLY = re.compile(
    r"(?<![\u4e00-\u9fff])[\u4e00-\u9fff]{2,8}(?:区|县|镇|街道|乡)[\u4e00-\u9fff]{1,10}(?:路|街|大道|巷|弄|胡同|村|小区)[ ]?\d{1,5}[ ]?(?:号|弄|栋|幢)(?:[ ]?[0-9A-Za-z\-]{1,6}(?:号楼|号|栋|幢|座|单元|室|楼|层)){0,4}|"
    r"(?<=[住于在址])[\u4e00-\u9fff]{2,12}(?:路|街|大道|巷|弄|胡同|村|小区|花园|新村|家园)[ ]?\d{1,5}[ ]?(?:号|弄|栋|幢|组)(?:[ ]?[0-9A-Za-z\-]{1,6}(?:号楼|号|栋|幢|座|单元|室|楼|层)?){0,4}"
)
_POSTCODE = re.compile(
    rf"(?:{spaced('邮编 邮政编码 邮政编号 邮码')}){SEPARATOR}(?P<value>\d{{6}})(?!\d)|(?:{spaced('邮编 邮政编码')})[ ]?(?P<bare>\d{{6}})(?!\d)"
)
_NUMBER = re.compile(r"(?:\d|[一二三四五六七八九十]{1,3})(?:号|栋|幢|室|单元|组|楼|层|弄|座|户)")

_TYPES = rf"(?:{STREET_TYPES})"
_NAME_WORD = r"(?:[A-Z][A-Za-z'\-]+\.?|\d{1,3}(?:st|nd|rd|th)|[NSEW]\.?|NE|NW|SE|SW)"
_UNIT_EN = (
    r"(?:,?[ ]{1,2}(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Room|Rm|Bldg|Building|#)\.?[ ]?#?[ ]?[A-Za-z0-9\-]{1,6})?"
)
_CITY = rf"(?:[,.]?[ \n]{{1,3}}(?:[A-Z][A-Za-z.'\-]+[ ]?){{1,3}},[ ]{{0,2}}(?:{STATES})\b\.?(?:[ ]{{1,3}}\d{{5}}(?:-\d{{4}})?)?)?"
_STREET_EN = re.compile(
    rf"\d(?<![\w.,/\-]\d)\d{{0,5}}[A-Za-z]?(?:-\d{{1,5}})?[ ]{{1,2}}(?:{_NAME_WORD}[ ]{{1,2}}){{1,4}}{_TYPES}\b\.?(?![ ]?['’])(?:[ ](?:N|S|E|W|NE|NW|SE|SW)\b\.?)?{_UNIT_EN}{_CITY}"
)
_BOX = re.compile(rf"(?<![A-Za-z])(?:P\.?[ ]?O\.?|Post Office)[ ]?Box[ ]?#?[ ]?\d{{1,7}}{_CITY}", re.IGNORECASE)
_CITY_BEFORE = re.compile(r"(?:(?:[A-Z][A-Za-z'\-]+|St\.|Ft\.|Mt\.)[ ]){0,2}[A-Z][A-Za-z'\-]+$")
_CITY_LINE = re.compile(rf"[^,\n]{{2,40}},[ ]{{0,2}}(?:{STATES})\.?(?:[ ]{{1,3}}\d{{5}}(?:-\d{{4}})?)?")
_CITY_ZIP = re.compile(rf",[ ]{{0,2}}(?:{STATES})\.?[ ]{{1,3}}\d{{5}}(?:-\d{{4}})?(?!\d)")
_ZIP = re.compile(
    r"(?<![A-Za-z])(?:ZIP|Zip|zip|Postal)(?:[ ]?(?:code|Code|CODE))?[ \t]{0,3}(?:[:#=|*]{1,4}|-(?=[ ]))?[ \t|*]{0,6}(?P<value>\d{5}(?:-\d{4})?)(?!\d)"
)
_LABEL_HEADS = r"address|addr|residence|lives at|resides at|residing at|living at"
ADDRESS_WORDS = first_words(_LABEL_HEADS) | first_words("city|town|county|zip|P|PO|Post|Postal")
_LABEL_EN = re.compile(
    rf"(?<![A-Za-z\-])(?i:{_LABEL_HEADS})"
    r"(?:[ ]{0,3}[:=|][ \t|*]{0,8}(?:\n[ ]{0,8})?|[ ]+(?=\d))(?P<value>(?=[^\n|;(]{0,60}\d)[^\n|;@(]{5,120}?)(?=[ ]{0,4}(?:\n|\||;|\(|$|(?<=[a-z0-9]{2})\.[ ]|\.$|\.\n|[ ,]{1,3}(?i:phone|tel|telephone|city|dob|mrn|email|fax|cell|sex|age|zip code)[ ]?[:#]))"
)
_CITY_LABEL = re.compile(
    r"(?<![A-Za-z\-])(?i:city|town|county)[ ]{0,2}:[ ]{0,3}(?P<value>[A-Z][A-Za-z.'\-]+(?:[ ][A-Z][A-Za-z.'\-]+(?![ ]?:)){0,2})(?:,[ ]{0,2}(?P<state>[A-Z]{2}\b)(?:[ ]\d{5}(?:-\d{4})?)?)?"
)


def addresses(folded: str, words: Words) -> Iterator[Span]:
    """Spans of addresses, work places and postal codes, those after labels first."""
    if not folded.isascii():
        yield from _chinese(folded)
    labelled = [
        match for pattern in (_LABEL_EN, _ZIP, _CITY_LABEL, _BOX) for match in words.matches(ADDRESS_WORDS, pattern)
    ]
    free = [match for pattern in (_STREET_EN, _CITY_ZIP) for match in pattern.finditer(folded)]
    for found in (labelled, free):
        for match in found:
            group = "value" if "value" in match.re.groupindex else 0
            start, stop = match.span(group)
            if match.re is _CITY_ZIP:
                city = _CITY_BEFORE.search(folded[max(0, start - 48) : start])
                start -= len(city[0]) if city else 0
            if match.re is _LABEL_EN:
                street = _STREET_EN.match(folded, start) or _BOX.match(folded, start) or _CITY_LINE.match(folded, start)
                stop = min(stop, street.end()) if street else stop
            stop = start + len(folded[start:stop].rstrip(" ,."))
            yield Span(start, stop, "ADDRESS", "english_address")


def _chinese(folded: str) -> Iterator[Span]:
    if not any(label in folded for label in _LATIN_LABELS) and not _HAN.found_in(folded):
        return  # each of the patterns holds one of both
    for pattern, kind, rule in (
        (_CUE, "ADDRESS", "address_cue"),
        (_ORIGIN, "ADDRESS", "origin_cue"),
        (_WORK, "ORG", "work_cue"),
    ):
        for match in pattern.finditer(folded):
            stop = _value_end(folded, match.end())
            if match[0].isascii() and folded[match.end() : stop].isascii():
                continue  # `Address: 12 High Street` in a Chinese record: the English rules see where it ends
            if stop and _is_place(folded[match.end() : stop], rule):
                yield Span(match.end(), stop, kind, rule)
    for match in _STRUCTURE.finditer(folded):
        if re.search(_UNIT + "|" + _STREET, match[0]) and _NUMBER.search(match[0]) and len(match[0]) >= 8:
            yield Span(*match.span(), "ADDRESS", "address")
    yield from (Span(*match.span(), "ADDRESS", "address") for match in _STREET_ONLY.finditer(folded))
    for match in _POSTCODE.finditer(folded):
        yield Span(*match.span("value" if match["value"] else "bare"), "ADDRESS", "postcode")


def _value_end(folded: str, start: int) -> int:
    value = _VALUE.match(folded, start)
    if not value or _NO_VALUE.match(folded, start):
        return 0
    stop = min(value.end(), start + 80)
    border = _VALUE_STOP.search(folded, start, min(len(folded), stop + 12))
    if border:
        stop = min(stop, border.start())
    text = folded[start:stop]
    for blank in re.finditer(r"[ ]+", text):
        if not _GOES_ON.match(text, blank.end()):
            text = text[: blank.start()]
            break
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "(（") - (character in ")）")
        if depth < 0:
            text = text[:place]
            break
    label = re.search(r"[,、;][ ]?[\u4e00-\u9fff]{1,8}(?:号码?|编号|编码)$", text)
    text = text[: label.start()] if label else text
    stop = start + len(text)
    comma = re.search(
        r"[,、;](?=[ ]?[\u4e00-\u9fff]{2,8}[ ]?[:：])|[,、](?![\u4e00-\u9fffA-Za-z0-9]{1,12}(?:号|室|栋|幢|单元|楼|路|街|区|县|镇))",
        text,
    )
    if comma:
        stop = start + comma.start()
    return start + len(folded[start:stop].rstrip(" ,、.-（("))


def _is_place(value: str, rule: str) -> bool:
    if len(value) < 2 or _OTHER_LABEL.fullmatch(value):
        return False
    if rule == "work_cue":
        return len(re.findall(r"[\u4e00-\u9fff]", value)) >= 4 and len(value) <= 40
    if rule == "address_cue" and len(re.findall(r"[\u4e00-\u9fff0-9A-Za-z]", value)) >= 3:
        return True
    return bool(re.search(rf"{_UNIT}|{_STREET}|{PROVINCES}", value)) and len(value) <= 60
