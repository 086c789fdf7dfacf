"""Identifiers made of digits and letters: found by their own structure (checksums, area codes), or after a cue.

`structured_ids` needs no cue: resident ids, mobile and landline numbers, bank cards, plates, e-mail and network
addresses, US phone and social security numbers. `cued_ids` takes the value after a label such as `住院号` or `MRN`.
Both yield spans over the folded text; overlaps are resolved by the caller, earlier spans first.
"""

# ruff: noqa: E501  (patterns are tables of words; a Chinese character counts as two columns)

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from medscroll.corpus.deid_spans import Span, has_unit, luhn_is_valid, resident_id_is_valid, vin_is_valid
from medscroll.corpus.deid_tables import PLATE_PROVINCES, PROVINCE_CODES, PUBLIC_HOSTS
from medscroll.corpus.deid_words import Words, first_words

_S = r"(?:[ \t.·_/\-]{0,2}|[ \t\-]{0,2}\n[ \t]{0,4})"  # what may stand between the digits of one number
_NOT_BEFORE = r"(?<![0-9A-Za-z])(?<!\d[.,])"
_NOT_AFTER = r"(?![0-9A-Za-z])(?!\.\d)"

_RESIDENT = re.compile(rf"{_NOT_BEFORE}[1-8](?:{_S}\d){{16}}{_S}[\dXx×]{_NOT_AFTER}")
_RESIDENT_15 = re.compile(rf"{_NOT_BEFORE}[1-8]\d{{5}}[ \-]?\d{{6}}[ \-]?\d{{3}}{_NOT_AFTER}")
_MOBILE = re.compile(
    r"(?<![0-9A-Za-z])(?<!\d[.,\-])(?:[(]?(?:\+|00)?[ ]?86[)]?[ \-.]{0,2})?1[3-9]\d"
    r"(?:\d{8}|[ \-.·]\d{4}[ \-.·]\d{4}|[ \-.·]\d{8}|\d[ \-.·]\d{3}[ \-.·]\d{4}|\d{4}[ \-.·]\d{4}|\d{4}\n\d{4}|\n\d{8}|[ ]?-[ ]?\d{4}[ ]?-[ ]?\d{4}|"
    rf"\d[ \-]\d{{3}}[ \-]\d{{2}}[ \-]\d{{2}}|[ \-]\d{{3}}[ \-]\d{{5}}|(?:[ ]\d){{8}}){_NOT_AFTER}"
)
_AREA = r"(?:10|2[0-9]|3[1-9]\d|4[1-9]\d|5[1-9]\d|6[36]\d|7[0-9]\d|8[1-9]\d|9[0-9]\d)"
_LANDLINE = re.compile(
    rf"(?<![0-9A-Za-z])(?<!\d[.,\-])(?:[(]0{_AREA}[)][ \-]{{0,2}}|(?:\+|00)86[ \-(]{{0,2}}0?{_AREA}[ \-)]{{1,2}}|0{_AREA}[ ]?[\-·/.][ ]?|0{_AREA}[ ]{{1,2}})"
    r"[2-9]\d{2,3}[ \-]?\d{4}(?:[ ]?(?:转|ext\.?|x|-)[ ]?\d{1,5})?(?![0-9A-Za-z])(?!\.\d)"
)
_SERVICE = re.compile(
    rf"{_NOT_BEFORE}[48]00[ \-]\d{{3}}[ \-]?\d{{4}}{_NOT_AFTER}|{_NOT_BEFORE}[48]00[ \-]\d{{4}}[ \-]\d{{3}}{_NOT_AFTER}"
)
_CARD = re.compile(r"(?<![0-9A-Za-z])(?<!\d[.,\-])[3-6]\d{3}(?:[ \-\n]?\d{4}){3}(?:[ \-\n]?\d{1,3})?(?![0-9A-Za-z])(?!\.\d|-\d)|"
                   r"(?<![0-9A-Za-z])3[47]\d{2}[ \-]\d{6}[ \-]\d{5}(?![0-9A-Za-z])")  # fmt: skip
_CARD_PREFIX = re.compile(r"62|4|5[1-5]|3[4-7]|60|58|56|50")
_PLATE = re.compile(
    rf"[{PLATE_PROVINCES}][ ]?[A-HJ-NP-Z][ \-·.]{{0,2}}"
    r"(?=[A-Z0-9]*\d[A-Z0-9]*\d)(?:[DF][A-HJ-NP-Z0-9]\d{4}|\d{5}[DF]|[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳领])(?![A-Za-z0-9])"
)
_EMAIL = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}(?:[ ]?@[ ]?|[ ]?[\[(](?:at|AT)[\])][ ]?)"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,62})(?:\.|[ ]?[\[(](?:dot|DOT)[\])][ ]?)){1,6}[A-Za-z]{2,12}(?![A-Za-z0-9])"
)
_URL = re.compile(r"(?i:(?:https?|ftp)://|(?<![A-Za-z0-9@.])www\.)[^\s\"'<>，。；、）】》\u4e00-\u9fff)\]]{3,}")
_PUBLIC = re.compile(rf"^(?i:(?:https?|ftp)://)?(?:[\w\-]+\.)*(?:{PUBLIC_HOSTS})(?:[/:?#]|$)")
_HAS_REGISTRATION = re.compile(r"10\.\d{4,9}/|NCT\d{8}|PMC\d+|pubmed|ChiCTR|ISRCTN|CRD42", re.IGNORECASE)
_IP = re.compile(r"\d\d{0,2}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\d.]*\d|[A-Za-z])")
_IP_CUE = re.compile(
    r"(?:\bIP(?:v4)?\b|address|host|server|login|logged|网络|登录|终端|主机)[^\n]{0,24}$", re.IGNORECASE
)
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?![0-9A-Za-z:])|(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{1,4}:){2,6}:[0-9A-Fa-f]{1,4}(?![0-9A-Za-z:])"
)
_MAC = re.compile(r"(?<![0-9A-Za-z:])(?:[0-9A-Fa-f]{2}[:\-]){5}[0-9A-Fa-f]{2}(?![0-9A-Za-z:])")
_HEX = re.compile(r"[0-9A-Fa-f][0-9A-Fa-f]{1,3}[:\-](?:[0-9A-Fa-f]{2,4}[:\-]){2,4}[0-9A-Fa-f:]{2}")
_SSN = re.compile(
    r"(?<![\dA-Za-z\-.])(?!000|666|9\d\d)\d{3}[ ]?-[ ]?(?!00)\d{2}[ ]?-[ ]?(?!0000)\d{4}(?![\dA-Za-z\-])(?!\.\d)"
)
_EXTENSION = r"(?:[ ,]{0,2}(?:ext|Ext|EXT|extension|x)\.?[ ]?\d{1,6})?"
_US_PHONE = re.compile(
    r"(?<![\dA-Za-z.\-/])(?:\+?1[ .\-]{0,2})?(?:[(][2-9]\d{2}[)][ .\-]{0,2}\d{3}[ .\-]\d{4}|[2-9]\d{2}-\d{3}[ ]?-[ ]?\d{4}|[2-9]\d{2}\.\d{3}\.\d{4}|"
    rf"(?<=\+1[ ])[2-9]\d{{2}}[ ]\d{{3}}[ ]\d{{4}}|(?<=\+1)[2-9]\d{{9}}|[2-9]\d{{2}}/\d{{3}}-\d{{4}}){_EXTENSION}(?![\dA-Za-z\-])(?!\.\d)"
)
_WORLD_PHONE = re.compile(r"(?<![\dA-Za-z.+])\+[1-9]\d{0,2}(?:[ .\-]{0,2}[(]?\d{1,4}[)]?){2,6}(?![\dA-Za-z])(?!\.\d)")
_VIN = re.compile(r"[A-HJ-NPR-Z0-9][A-HJ-NPR-Z0-9]{16}(?![A-Za-z0-9])")


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        return 1880 <= date(year, month, day).year <= 2100
    except ValueError:
        return False


_CHUNK = re.compile(r"\d(?:[ \t.·_/\-()+\n]{0,4}[\dXx×]){6,}")
_MARGIN = 24  # characters beside a chunk of digits that rules may look at


def structured_ids(folded: str) -> Iterator[Span]:  # noqa: PLR0912  (one branch a kind)
    """Identifiers whose form alone gives them away, in order of precedence."""
    if "@" in folded or "at]" in folded or "AT]" in folded or "(at)" in folded:
        yield from (Span(*match.span(), "EMAIL", "email") for match in _EMAIL.finditer(folded))
    yield from _urls(folded)
    phones: list[Span] = []
    for chunk in _CHUNK.finditer(folded):
        start, stop = max(0, chunk.start() - 8), chunk.end()
        digits = sum(map(str.isdigit, chunk[0]))
        if digits >= 15:
            yield from _resident_ids(folded, start, stop)
        for match in _in_chunk(_MOBILE, folded, start, stop):
            if not has_unit(folded, match.end()):
                yield Span(*match.span(), "PHONE", "mobile")
        for match in _in_chunk(_CARD, folded, start, stop) if digits >= 15 else ():
            number = _digits(match[0])
            if luhn_is_valid(number) and _CARD_PREFIX.match(number) and not has_unit(folded, match.end()):
                yield Span(*match.span(), "ACCOUNT", "bank_card")
        for pattern, rule in ((_LANDLINE, "landline"), (_SERVICE, "service_number"), (_US_PHONE, "us_phone")):
            for match in _in_chunk(pattern, folded, start, stop):
                if not has_unit(folded, match.end()):
                    phones.append(Span(*match.span(), "PHONE", rule))
        if "+" in folded[start:stop]:
            for match in _in_chunk(_WORLD_PHONE, folded, start, stop):
                if 9 <= len(_digits(match[0])) <= 15 and not has_unit(folded, match.end()):
                    phones.append(Span(*match.span(), "PHONE", "international_phone"))
        phones += [Span(*match.span(), "SSN", "ssn") for match in _in_chunk(_SSN, folded, start, stop)]
    yield from phones
    if not folded.isascii():
        for match in _PLATE.finditer(folded):
            yield Span(*match.span(), "PLATE", "plate")
    yield from _network_addresses(folded)
    for match in _VIN.finditer(folded):
        before = folded[match.start() - 1 : match.start()]
        if (
            not before.isalnum()
            and vin_is_valid(match[0])
            and not match[0].isdigit()
            and any(map(str.isdigit, match[0]))
        ):
            yield Span(*match.span(), "VEHICLE", "vin")


def _in_chunk(pattern: re.Pattern[str], folded: str, start: int, stop: int) -> Iterator[re.Match[str]]:
    for match in pattern.finditer(folded, start, min(len(folded), stop + _MARGIN)):
        if match.start() >= stop:
            return
        yield match


def _resident_ids(folded: str, start: int, stop: int) -> Iterator[Span]:
    for match in _in_chunk(_RESIDENT, folded, start, stop):
        number = re.sub(r"[^\dXx×]", "", match[0]).replace("×", "X")
        if (
            number[:2] in PROVINCE_CODES
            and _is_date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
            and resident_id_is_valid(number)
        ):
            yield Span(*match.span(), "ID", "resident_id")
    for match in _in_chunk(_RESIDENT_15, folded, start, stop):
        number = _digits(match[0])
        if (
            number[:2] in PROVINCE_CODES
            and _is_date(1900 + int(number[6:8]), int(number[8:10]), int(number[10:12]))
            and not has_unit(folded, match.end())
        ):
            yield Span(*match.span(), "ID", "resident_id_15")


def _urls(folded: str) -> Iterator[Span]:
    if "://" not in folded and "www." not in folded and "WWW." not in folded:
        return
    for match in _URL.finditer(folded):
        url = match[0].rstrip(".,;:!?-_")
        if not _PUBLIC.match(url) and not _HAS_REGISTRATION.search(url):
            yield Span(match.start(), match.start() + len(url), "URL", "url")


def _network_addresses(folded: str) -> Iterator[Span]:
    for match in _IP.finditer(folded):
        before = folded[max(0, match.start() - 1) : match.start()]
        if before.isalnum() or (before and before in ".±-"):
            continue
        parts = [int(part) for part in match[0].split(".")]
        if max(parts) > 255 or any(len(part) > 1 and part[0] == "0" for part in match[0].split(".")):
            continue
        plain = parts[0] >= 20 and max(parts[1:]) >= 10
        if plain or _IP_CUE.search(folded, max(0, match.start() - 32), match.start()):
            yield Span(*match.span(), "IP", "ip_address")
    for match in _HEX.finditer(folded):
        for pattern, kind in ((_IPV6, "IP"), (_MAC, "DEVICE")):
            found = pattern.search(folded, max(0, match.start() - 8), match.end() + 48)
            if found and re.search(r"[A-Fa-f]", found[0]):
                yield Span(*found.span(), kind, "network_address")


def spaced(words: str) -> str:
    """An alternation of Chinese words, longest first, between whose characters blanks may stand (forms print
    `姓  名`); Latin words stay as they are."""
    ordered = sorted(words.split(), key=len, reverse=True)
    return "|".join(
        re.escape(word) if word.isascii() else "[ \t]{0,6}".join(re.escape(each) for each in word) for word in ordered
    )


_OPEN = r"(?:_+(?=[^\s_]))?[\"'“‘「『\[【(（<*]{0,3}[ ]?"
_CLOSE = r"[\"'”’」』\]】)）>*]{0,3}[ \t]{0,8}"
SEPARATOR = rf"{_CLOSE}(?:[:=：>|】]|\t|_{{2,20}}|是|为)[ \t|*:]{{0,40}}(?:\n[ \t|]{{0,20}})?{_OPEN}"
_LOOSE = rf"(?:{SEPARATOR}|{_CLOSE}[ \t]{{0,8}}(?:\n[ \t]{{0,20}})?{_OPEN})"
_BRACKET = r"(?:[(（][^()（）\n]{0,12}[)）])?"
_SLASH = r"(?:[ ]?[/、][ ]?[^\s:：/、,，。;；|]{1,8}(?=[ ]?[:：|]))?"
_END = r"(?:[ \t]{0,4}(?:号码|编号|号|码|ID|Id|id|No\.?|NO\.?|no\.?|№|#))?"

_RECORD_ZH = spaced(
    "住院号 住院编号 住院流水号 住院登记号 住院ID 住院号码 住院次号 住院病历号 住院病案号 住院号数 住院证号 入院号 入院编号 入院登记号 病案号 病案编号 病案首页号 病历号 病历编号 病历本号 "
    "病例号 病例编号 门诊号 门诊编号 门诊ID 门诊病历号 门诊卡号 门诊就诊号 门急诊号 急诊号 急诊编号 急诊病历号 就诊号 就诊编号 就诊卡号 就诊卡 就诊ID 就诊流水号 就诊序号 诊疗卡号 诊疗卡 诊疗号 挂号 挂号单号 "
    "挂号序号 登记号 患者编号 患者ID 患者号 患者标识 患者标识号 患者唯一号 病人编号 病人ID 病人号 病人标识 档案号 档案编号 健康档案号 健康档案编号 健康卡号 电子健康卡号 居民健康卡号 病员号 "
    "检查号 检查编号 检查单号 检查流水号 检验号 检验编号 检验单号 检验流水号 化验单号 化验号 标本号 标本编号 标本条码 标本条码号 标本ID 标本条形码 样本号 样本编号 样本条码 样本条码号 样本ID 样品编号 检材编号 检验条码 "
    "条码号 影像号 影像编号 放射号 放射编号 摄片号 片号 CT号 CT编号 CT检查号 X线号 X光号 X线片号 DR号 MR号 MRI号 MRI编号 磁共振号 核磁号 核磁共振号 PET号 超声号 超声编号 B超号 彩超号 病理号 病理编号 病理标本号 "
    "内镜号 胃镜号 肠镜号 镜检号 心电图号 心电号 脑电图号 申请单号 申请号 申请单编号 报告单号 报告编号 报告号 医嘱号 处方号 处方编号 处方流水号 流水号 发票号 发票号码 收据号 收费单号 手术编号 手术号 手术申请号 体检号 "
    "体检编号 受检者编号 受试者编号 受试者号 受试者ID 受试者代码 筛选号 随机号 入组号 家庭编号 家庭病床号 腕带号 腕带编号 ID号 PatientID 透析号 透析编号 产科号 母婴号 献血号 献血编号 血袋号 献血码 输血单号 骨髓号 "
    "留观号 急诊留观号 会诊单号 转诊单号 转诊编号 病程号 索引号 建档号 建档编号 保健号 孕册号 接种证号 接种编号 预防接种证号 慢病证号 慢病卡号 医疗证号 医疗卡号 一卡通号 诊查号 登记编号 患者登记号 患者卡号 病历卡号 "
    "唯一号 唯一标识 PID 随访号 随访编号 家系号 家系编号 样本库编号"
)
_BED_ZH = spaced("床号 床位号 床位 病床号 病床 病床编号 床位编号 床")
_INSURANCE_ZH = spaced(
    "医保号 医保卡号 医保卡 医保编号 医保证号 医保电脑号 医保个人编号 医保登记号 医保手册号 医保账号 医疗保险号 医疗保险卡号 医疗保险证号 医疗保险编号 医疗保险手册号 医疗保险个人编号 社保号 社保卡号 社保卡 社保编号 "
    "社会保障号 社会保障号码 社会保障卡号 社会保障卡 社会保险号 社会保险登记号 参保号 参保编号 参保人编号 参合号 参合证号 合作医疗号 合作医疗证号 合作医疗卡号 新农合号 新农合证号 农合证号 农合号 新农合卡号 保单号 保险单号 保险号 "
    "保险卡号 保险证号 商业保险号 个人编号 医保个人账户 生育保险号 工伤保险号 公费医疗证号 保险编号 医保凭证号 医保电子凭证"
)
_IDENTITY_ZH = spaced(
    "身份证 身份证号 身份证号码 身份证编号 居民身份证 居民身份证号 居民身份证号码 公民身份号码 公民身份证号码 公民身份证号 身份号码 证件号 证件号码 证件编号 有效证件号 身份证件号 身份证件号码 患者身份证 ID证号 二代身份证 身份ID "
    "监护人身份证 监护人身份证号 联系人身份证 联系人身份证号 身份证明号码 户口簿号 户口本号 暂住证号 居住证号 居住证号码 居住证 香港居民身份证 澳门居民身份证 香港永久性居民身份证"
)
_PERMIT_ZH = spaced(
    "护照 护照号 护照号码 护照编号 港澳通行证 港澳通行证号 港澳通行证号码 往来港澳通行证 往来港澳通行证号 港澳居民来往内地通行证 港澳居民来往内地通行证号 港澳居民来往内地通行证号码 港澳居民居住证 港澳居民通行证 港澳台通行证 通行证 通行证号 通行证号码 台胞证 台胞证号 "
    "台湾居民来往大陆通行证 台湾居民来往大陆通行证号 台湾通行证 回乡证 回乡证号 回乡证号码 军官证 军官证号 军官证号码 士兵证 士兵证号 军人证 军人证号 警官证 警官证号 驾驶证 驾驶证号 驾驶证号码 驾照 驾照号 驾驶证档案编号 "
    "出生证号 出生证编号 出生医学证明 出生医学证明编号 出生医学证明号 出生证明编号 残疾证 残疾证号 残疾人证 残疾人证号 外国人居留证 外国人永久居留证 永久居留证号 居留证号 香港身份证 香港身份证号 澳门身份证 澳门身份证号 "
    "工作证号 工号 学生证号 学号 老年证号 优待证号 伤残证号 离休证号 死亡证明编号 死亡证编号"
)
_LICENCE_ZH = spaced(
    "医师资格证 医师资格证号 医师资格证书编号 医师执业证号 医师执业证书编号 医师执业证书 执业证号 执业证书编号 执业证书号 执业医师证号 护士执业证号 护士执业证书编号 资格证号 资格证书编号 执业编号 医师代码 医师编号 医生编号 医生工号 医师工号 护士工号"
)
_PHONE_ZH = spaced(
    "电话 电话号码 电话号 联系电话 联系方式 联系号码 手机 手机号 手机号码 移动电话 座机 座机号 固定电话 固话 家庭电话 住宅电话 宅电 单位电话 办公电话 办公室电话 工作电话 本人电话 家属电话 家属联系电话 家属手机 患者电话 联系人电话 联系人手机 "
    "紧急联系电话 紧急联系人电话 监护人电话 病区电话 科室电话 护士站电话 咨询电话 随访电话 值班电话 医院电话 预约电话 投诉电话 总机 传真 传真号 传真号码 传真电话 小灵通 电话1 电话2 备用电话 致电 来电 拨打 "
    "Tel tel TEL Tel. TEL. Phone phone Mobile mobile Cell cell Fax fax FAX Telephone telephone Telephone: PHONE MOBILE Ph Facsimile Pager pager Beeper Contact contact"
)
_ACCOUNT_ZH = spaced(
    "银行卡 银行卡号 银行账号 银行帐号 银行账户 卡号 银行卡号码 账号 帐号 账户 帐户 账户号 开户账号 开户帐号 信用卡 信用卡号 储蓄卡 储蓄卡号 借记卡 借记卡号 工资卡号 退款账号 退费账号 退费卡号 收款账号 收款帐号 存折号 存折账号 支付宝账号 支付宝 缴费卡号"
)
_CHAT_ZH = spaced("微信 微信号 微信ID QQ QQ号 QQ号码 WeChat wechat Wechat 企业微信 微博 钉钉号 钉钉 Skype WhatsApp")

_ALNUM = r"[A-Za-z]{0,6}[\-/]?\d(?:[0-9A-Za-z]|[\-/_.](?=[0-9A-Za-z])){0,28}(?:[ ]\d{3,4}(?=[\s,，。;；|)）]|$)){0,3}"
_RECORD_VALUE = rf"(?P<value>(?!\d{{4}}[\-/年.]\d{{1,2}}[\-/月.]\d{{1,2}}(?!\d)){_ALNUM})"
# Any other label that ends in `号` or `条码`, but for those of products, papers, codes and trials.
_OTHER_LABEL = r"(?:(?<=[\u4e00-\u9fff])号码?|条码|(?<=[历人者])编码)"
_NO_PERSON = re.compile(
    r"(?:[批货型文药国书菌株图表章卷期信符代括菌孔组型等略称记问逗句分顿引]|注册|备案|标准|许可|专利|项目|课题|基金|合同|产品|版本|邮政|试剂|耗材|器械|公告|文件|登录|检索|实验|序列|基因|位点|细胞|抗体|化合物|索书|试验|"
    r"临床|研究|伦理|方案|文献|指南|疾病|诊断|分类|染色体|品系|探针|引物|克隆|校准|质控|仪器|设备|审批|批准|批件|本位|目录|商品|条形|材料|配方|处理|通道|电极)[\u4e00-\u9fff]{0,3}$"
)
_CHINESE_CUES: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (kind, rule, re.compile(pattern))
    for kind, rule, pattern in (
        (
            "ID",
            "identity_cue",
            rf"(?:{_IDENTITY_ZH}){_END}{_BRACKET}{_SLASH}{_LOOSE}(?P<value>[A-Z]{{1,2}}\d{{6,9}}(?:[(（][\dA][)）])?(?![0-9A-Za-z])|[A-Za-z]?\d(?:{_S}\d){{5,16}}(?:{_S}[\dXxA])?(?![0-9A-Za-z]))",
        ),
        (
            "ID",
            "permit_cue",
            rf"(?:{_PERMIT_ZH}){_END}{_BRACKET}{_SLASH}{_LOOSE}(?P<value>(?:[\u4e00-\u9fff]字第?)?[A-Za-z]{{0,3}}[ ]?\d(?:-?[0-9A-Za-z]|[ ](?=\d{{3,6}}(?![0-9A-Za-z]))){{3,20}}号?(?:[(（][\dA][)）])?)",
        ),
        ("LICENSE", "licence_cue", rf"(?:{_LICENCE_ZH}){_END}{_BRACKET}{_LOOSE}{_RECORD_VALUE}"),
        (
            "INSURANCE",
            "insurance_cue",
            rf"(?:{_INSURANCE_ZH}){_END}{_BRACKET}{_SLASH}{_LOOSE}(?P<value>[A-Za-z]{{0,4}}[\-]?\d(?:-?[0-9A-Za-z]|[ ](?=\d{{3,6}}(?![0-9A-Za-z]))){{3,26}})",
        ),
        (
            "ACCOUNT",
            "account_cue",
            rf"(?:{_ACCOUNT_ZH}){_END}{_BRACKET}{_LOOSE}(?P<value>\d(?:[ \-]?\d|\n\d(?=\d{{5}})){{5,22}})",
        ),
        (
            "PHONE",
            "phone_cue",
            rf"(?:{_PHONE_ZH}){_END}\.?{_BRACKET}{_SLASH}{_LOOSE}(?P<value>[(+]?\d(?:[ ()\-·.]{{0,2}}\d){{6,15}}(?:[ ]?(?:转|ext\.?|x|-)[ ]?\d{{1,5}})?)(?![0-9A-Za-z])(?!\.\d)",
        ),
        (
            "ACCOUNT",
            "chat_cue",
            rf"(?:{_CHAT_ZH}){_END}{_BRACKET}{SEPARATOR}(?P<value>[A-Za-z0-9][A-Za-z0-9_\-]{{4,24}})",
        ),
        ("RECORD", "record_cue", rf"(?:{_RECORD_ZH}){_END}{_BRACKET}{_SLASH}{_LOOSE}{_RECORD_VALUE}"),
        (
            "RECORD",
            "other_number",
            rf"{_OTHER_LABEL}{_BRACKET}{SEPARATOR}(?=[^\d\n]{{0,3}}(?:\d[^\d\n]?){{5}}){_RECORD_VALUE}",
        ),
        (
            "RECORD",
            "other_number",
            rf"(?:(?<=[\u4e00-\u9fff][\u4e00-\u9fff])号|条码){_CLOSE}(?=[^\d\n]{{0,3}}(?:\d[^\d\n]?){{6}}){_RECORD_VALUE}",
        ),
        (
            "BED",
            "bed_cue",
            rf"(?<![\d加+])(?:{_BED_ZH}){_END}{_SLASH}{SEPARATOR}(?P<value>[A-Za-z\u4e00-\u9fff加+]{{0,4}}[\-]?\d{{1,4}}(?:[\-]?[0-9A-Za-z]{{1,4}}){{0,3}}床?)",
        ),
        (
            "BED",
            "bed_cue",
            rf"(?:{spaced('床号 床位号 病床号')}){_LOOSE}(?P<value>(?:加|\+)?[A-Za-z]{{0,3}}\d{{1,4}}(?:-\d{{1,4}}){{0,2}}床?)",
        ),
        (
            "BED",
            "bed",
            r"(?<=[区室科层楼组ICU])[ ]?(?P<value>(?:加|\+)?\d{1,3}(?:-\d{1,2})?床)(?=[\s,，。:：;；、患病)）]|$)",
        ),
        (
            "BED",
            "bed",
            r"(?:^|(?<=[\n(（,，:：]))[ ]?(?P<value>(?:加|\+)?\d{1,3}(?:-\d{1,2})?床)(?=[ :：,，][ ]?[\u4e00-\u9fff]{2,4}(?:[ ,，:：]|$)|患者|病人)",
        ),
        (
            "PLATE",
            "plate_cue",
            rf"(?:{spaced('车牌 车牌号 车牌号码 牌照 牌照号 机动车号牌 号牌号码')}){_LOOSE}(?P<value>[\u4e00-\u9fff]?[ ]?[A-Z][ ·\-.]?[A-Z0-9]{{4,6}}[\u4e00-\u9fff]?(?![A-Za-z0-9]))",
        ),
        (
            "DEVICE",
            "device_cue",
            rf"(?:{spaced('设备序列号 设备编号 设备号 器械编号 器械序列号 序列号 产品序列号 起搏器编号 起搏器序列号 植入物编号 植入物序列号 假体编号 假体序列号 机身号 设备ID 支架编号 支架序列号 晶体序列号 人工晶体编号 仪器编号')}){_END}{_BRACKET}{SEPARATOR}{_RECORD_VALUE}",
        ),
    )
)
_NUMBER_WORD = r"(?:[ ]?(?:number|numbers|no|nos|num|nr|#|id|code)(?:s\b)?\.?)?"
_IS = r"\.?[ ]{0,4}(?:[(（][^()\n]{0,12}[)）])?[\"'\]*]{0,3}[ ]{0,4}(?:is|was|of|[:#=|>\t]|-(?=[ ]))?[ \t|#:*\"'\[(_]{0,20}(?:\n[ \t]{0,8})?"
_EN_VALUE = r"(?P<value>\d{3}[ \-]\d{3}[ \-]\d{4}|\d{2,4}(?:[ ]\d{2,4}){1,3}(?![ ]?(?:[yY]|[MF]\b|[\d/\-]))|[A-Z]{0,5}-?\d[0-9A-Z]{1,24}(?:[\-./][0-9A-Z]{1,12}){0,4}|\d{1,4}(?:[ \-][0-9A-Z]{2,6}){1,4})"
_ENGLISH_CUES: tuple[tuple[str, str, frozenset[str], re.Pattern[str]], ...] = tuple(
    (
        kind,
        rule,
        first_words(cue),
        re.compile(rf"(?<![A-Za-z0-9])(?:{cue})(?:(?<=#)|(?![A-Za-z])){_NUMBER_WORD}{_IS}{value}(?![0-9A-Za-z])", re.IGNORECASE),
    )
    for kind, rule, cue, value in (
        ("SSN", "ssn_cue", r"SSN|SS#|social security|soc\.? sec\.?", r"(?P<value>\d{3}[ \-.]{0,3}\d{2}[ \-.]{0,3}\d{4})"),
        ("RECORD", "record_cue", r"MRN|M\.R\.N\.?|MR ?#|MR ?No\.?|medical record|med\.? rec\.?|unit no|unit number|chart (?:no|number|#|id)|patient ?(?:id|identifier|identification|number|no)|pt\.? (?:id|no|#)|"
         r"hospital (?:number|no|id)|hosp\.? no|visit (?:id|no|number|#)|encounter (?:id|no|number|#)|encounter|CSN|FIN|admission (?:no|number|id|#)|case (?:no|number|#)|specimen (?:id|no|number|#)|"
         r"accession ?(?:#|no\.? ?:|number ?:)|record (?:no|number|#)|UHID|MPI|EMPI|URN|NHS (?:no|number)|NHS|CHI number|file (?:no|number|#)|requisition (?:no|number|#)|order (?:no|number|#)|episode (?:no|number)|"
         r"subject (?:id|no|number)|sample id|lab (?:no|number|id)|study uid|prescription (?:no|number|#)|Rx ?#", _EN_VALUE),
        ("INSURANCE", "insurance_cue", r"health plan(?: beneficiary)?(?: id| no| number| #)?|beneficiary(?: id| no| number| #)|member(?:ship)? ?(?:id|no|number|#)|policy ?(?:id|no|number|#|holder id)|"
         r"subscriber ?(?:id|no|number|#)|group ?(?:id|no|number|#)(?= ?[:#=\t|\-])|medicare(?: id| no| number| #)?|medicaid(?: id| no| number| #)?|HICN|MBI|insurance ?(?:id|no|number|#|policy)|plan ?(?:id|no|number|#)|claim ?(?:id|no|number|#)|HIC ?#", _EN_VALUE),
        ("ACCOUNT", "account_cue", r"account|acct\.?|a/c|bank account|IBAN|routing|credit card|card ?(?:no|number|#)|guarantor (?:id|no|number)|billing (?:id|no|number)|invoice(?: no| number| #)?", r"(?P<value>[A-Z]{0,4}[\- ]?\d(?:[ \-]?[0-9A-Z]){3,30}?(?=[\s,;.)|]|$))"),
        ("LICENSE", "licence_cue", r"driver'?s? ?licen[sc]e|driving licen[sc]e|licen[sc]e ?(?:no|number|#|id)|licen[sc]e|lic\.? ?(?:no|#)|DL ?#|D\.?L\.? ?(?:no|number)|certificate ?(?:no|number|#)|DEA(?: no| number| #)?|NPI(?: no| number| #)?|"
         r"passport(?: no| number| #)?|visa (?:no|number)|GMC(?: no| number)", _EN_VALUE),
        ("VEHICLE", "vehicle_cue", r"VIN|vehicle(?: id(?:entification)?| identifier)?(?: no| number| #)?|licen[sc]e plate|plate ?(?:no|number|#)|plate|tag ?(?:no|number|#)", r"(?P<value>[A-Z0-9]{1,4}[\- ]?\d[A-Z0-9\-]{1,14}|[A-Z]{2,3}[\- ]\d[A-Z0-9\-]{1,7}|(?=[A-Z]*\d)[A-Z0-9]{5,17})"),
        ("DEVICE", "device_cue", r"serial ?(?:no|number|#|num)|S/N|SN ?[:#]|device ?(?:id|identifier|serial|no|number|#)|device serial (?:no|number)|implant (?:id|serial|no|number)|pacemaker (?:id|serial|no|number)|UDI|equipment id", r"(?P<value>[A-Z]{0,6}[\-]?\d[0-9A-Z]{2,24}(?:[\-./][0-9A-Z]{1,12}){0,4}|\([0-9]{2}\)\d{10,20})"),
        ("PHONE", "phone_cue", r"tel(?:ephone)?|phone|ph|mobile|cell(?: ?phone)?|fax|facsimile|pager|beeper|contact(?: no| number)?|call(?:ed)?(?: back)?(?: at| on)|home|work|office|reached at|extension|ext\.?(?= ?[:#]? ?\d{4,6}\b)", r"(?P<value>(?:\+?\d{1,3}[ .\-]?)?[(]?\d{3}[)]?[ .\-/]{0,2}\d{3}[ .\-]{0,2}\d{4}(?:[ ,]{0,2}(?:ext|x)\.?[ ]?\d{1,6})?|\+?\d{1,4}(?:[ ()\-]{0,2}\d{2,5}){2,6}|\d{3}[ .\-]\d{4}|\d{5,6}(?=[\s.,;)]|$))(?!\.\d)"),
        ("BED", "bed_cue", r"bed(?: no| number| #| assignment)?|room(?: no| number| #)?|rm\.?", r"(?P<value>(?=[A-Z\-]{0,4}\d)[A-Z0-9]{1,4}(?:[\-][A-Z0-9]{1,4})?)"),
    )
)  # fmt: skip
_GATE_EN = re.compile(r"\d")
_NOT_ID_BEFORE = re.compile(r"(?:药品|试剂|疫苗|产品|耗材|基因|蛋白|登记|注册|试验|伦理|论文|文献|参考|图|表|附)[ ]?$")
_QUANTITY = re.compile(r"\d{1,3}(?:\.\d+)?[ ]?(?:mg|g|ml|mL|cm|mm|kg|%|h|d|min)$")


ENGLISH_WORDS = frozenset().union(*(keys for _, _, keys, _ in _ENGLISH_CUES))


def cued_ids(folded: str, words: Words) -> Iterator[Span]:
    """Values after a label. A value has at least one digit; what a label alone makes likely is not checked further."""
    if not folded.isascii():
        for kind, rule, pattern in _CHINESE_CUES:
            for match in pattern.finditer(folded):
                span = _value_span(folded, match, kind, rule)
                if span:
                    yield span
    if _GATE_EN.search(folded):
        for kind, rule, keys, pattern in _ENGLISH_CUES:
            for match in words.matches(keys, pattern):
                if rule in ("bed_cue", "account_cue", "phone_cue") and not _is_labelled(folded, match, rule):
                    continue
                span = _value_span(folded, match, kind, rule)
                if span:
                    yield span


def _is_labelled(folded: str, match: re.Match[str], rule: str) -> bool:
    """English words that are ordinary words too (bed, room, home, account) count only with a sign of a label."""
    between = folded[match.start() : match.start("value")]
    if re.search(r"[:#=|]|\b(?:no|number|num)\b", between, re.IGNORECASE):
        return True
    if rule == "bed_cue":
        return False
    value = match["value"]
    if rule == "account_cue":
        return len(_digits(value)) >= 8
    return len(_digits(value)) >= 10 or bool(
        re.match(r"(?i:tel|phone|fax|pager|beeper|cell|ext|mobile|call|reached)", between)
        and re.fullmatch(r"\d{3}[-.]\d{4}|\d{4,6}", value)
    )


def _value_span(folded: str, match: re.Match[str], kind: str, rule: str) -> Span | None:  # noqa: PLR0911  (one a reason)
    start, stop = match.span("value")
    value = folded[start:stop].rstrip(" -/.")
    stop = start + len(value)
    if not any(character.isdigit() for character in value):
        return None
    if rule == "phone_cue" and (re.match(r"[A-Za-z]", folded[start - 1 : start]) or re.search(r"\(\d+\.\d", value)):
        return None
    if rule not in ("bed_cue", "bed") and sum(character.isdigit() for character in value) < 2:
        return None
    if rule == "other_number" and _NO_PERSON.search(folded, max(0, match.start() - 8), match.start()):
        return None
    if kind in ("RECORD", "INSURANCE", "DEVICE") and _NOT_ID_BEFORE.search(
        folded, max(0, match.start() - 6), match.start()
    ):
        return None
    label = folded[match.start() : start]
    if "\n" in label and re.search(r"[\t|]", folded[folded.rfind("\n", 0, match.start()) + 1 : match.start()]):
        return None  # the last header of a table: what stands below is its first column
    if kind != "BED" and (has_unit(folded, stop) or _QUANTITY.match(value)):
        return None
    return Span(start, stop, kind, rule)
