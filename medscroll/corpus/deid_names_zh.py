"""Chinese names after cues: labels (`姓名：`), roles (`主刀`), words that a name follows (`患者王某某因…`), titles behind.

How sure a cue is decides what is asked of the name. After a label with a colon a surname, two to four characters and a
border behind are enough; after a mere word every character of the given name must be common in given names and the
word behind must be one that follows names. `collect_names` then lets the names found be found again elsewhere.
"""

# ruff: noqa: E501  (patterns are tables of words; a Chinese character counts as two columns)

from __future__ import annotations

import re
from collections.abc import Iterator

from medscroll.corpus.code_points import CharacterSet, matches_at
from medscroll.corpus.deid_numbers import SEPARATOR, spaced
from medscroll.corpus.deid_spans import Span
from medscroll.corpus.deid_tables import (
    COMMON_SURNAMES,
    COMPOUND_SURNAMES,
    GIVEN_NAME_CHARACTERS,
    NOT_NAMES,
    SURNAMES,
    TITLES,
    WORD_SURNAMES,
    WORDS_BEFORE_NAMES,
)

_LABEL_WORDS = (
    "麻醉 检验 报告 书写 摄片 阅片 护理 调查 诊断者 采样者 采样人 姓名 患者姓名 病人姓名 患儿姓名 产妇姓名 婴儿姓名 新生儿姓名 母亲姓名 父亲姓名 配偶姓名 家属姓名 联系人姓名 监护人姓名 受检者姓名 受检人姓名 受试者姓名 被检者姓名 医师姓名 医生姓名 护士姓名 参保人姓名 投保人姓名 持卡人姓名 曾用名 "
    "中文姓名 真实姓名 本人姓名 患者名称 病员姓名 名字 患者姓名(中文) 姓名/Name 就诊人 就诊人姓名 就诊者 体检者 体检人 受检者 受检人 献血者 供者 供体姓名 受者 受者姓名 户主 户主姓名 收件人 收货人 寄件人 申请人 申请者 被保险人 投保人 受益人 参保人 持卡人 "
    "患者 病人 患儿 产妇 孕妇 伤者 死者 老人 病员 家属 患者家属 家属或监护人 家属/监护人 患者或家属 联系人 紧急联系人 第一联系人 联络人 监护人 法定监护人 法定代理人 委托人 被委托人 受托人 授权人 代理人 委托代理人 "
    "配偶 丈夫 妻子 爱人 父亲 母亲 儿子 女儿 长子 次子 长女 次女 兄弟 哥哥 弟弟 姐姐 妹妹 祖父 祖母 外祖父 外祖母 父母 亲属 陪护 陪护人 陪同者 陪同人员 陪诊人 护工 知情人 病史陈述者 病史提供者 病史提供人 病史叙述者 病史叙述人 陈述者 陈述人 "
    "叙述者 叙述人 代述人 代述者 代诉人 代诉者 供史者 供史人 提供者 "
    "医师 医生 主治医师 主治医生 主任医师 主任医生 副主任医师 副主任医生 住院医师 住院医生 经治医师 经治医生 主管医师 主管医生 经管医师 经管医生 管床医师 管床医生 床位医师 床位医生 接诊医师 接诊医生 接诊人 首诊医师 首诊医生 值班医师 值班医生 上级医师 上级医生 下级医师 "
    "会诊医师 会诊医生 会诊专家 邀请医师 申请医师 申请医生 送检医师 送检医生 送检者 送检人 开单医师 开单医生 开方医师 处方医师 处方医生 责任医师 责任医生 门诊医师 门诊医生 诊断医师 诊断医生 初诊医师 复诊医师 检查医师 检查医生 检查者 检查人 检查技师 报告医师 "
    "报告医生 报告者 报告人 审核医师 审核医生 审核者 审核人 审核 审阅医师 审阅者 审阅人 审签医师 审查者 复核 复核者 复核人 复核医师 复审医师 校对 校对者 核对 核对者 核对人 检验者 检验人 检验师 检验医师 检验员 操作者 操作医师 操作人 操作员 穿刺者 穿刺医师 "
    "手术医师 手术医生 手术者 术者 主刀 主刀医师 主刀医生 主刀者 第一助手 第二助手 第三助手 助手 一助 二助 三助 Ⅰ助 Ⅱ助 助手1 助手2 麻醉医师 麻醉医生 麻醉师 麻醉者 麻醉人 麻醉助手 器械护士 洗手护士 巡回护士 责任护士 主管护士 护士 护师 主管护师 护士长 值班护士 "
    "接班护士 交班护士 执行护士 执行者 执行人 当班护士 分诊护士 交班者 接班者 交班医师 接班医师 记录者 记录人 记录医师 记录医生 记录员 书写者 书写人 书写医师 书写医生 病历书写者 填表人 填写人 填报人 填卡人 报卡人 报告卡填报人 录入员 录入者 登记人 登记者 登记员 调查者 "
    "调查员 随访者 随访人 随访医师 随访护士 谈话医师 谈话医生 谈话者 告知医师 告知医生 告知者 告知人 主持人 主持者 记录 科主任 科室主任 主任 副主任 病区主任 院长 质控医师 质控护士 质控员 编码员 技师 技师姓名 技术员 摄片技师 放射技师 阅片医师 阅片者 "
    "药师 调配 调配药师 调剂 发药 发药人 审方药师 核对药师 配药人 收费员 进修医师 进修医生 实习医师 实习医生 实习生 规培医师 规培医生 研究生 带教老师 带教医师 导师 指导医师 指导老师 主诊医师 主诊医生 主诊 中医师 签约医生 家庭医生 助产士 助产者 接生者 接生人 "
    "接产者 助产 营养师 康复师 治疗师 心理师 研究者 主要研究者 受试者 输血者 采血者 采血人 采集者 采集人 取材者 取材医师 制片者 接收者 接收人 接收者姓名 收样人 交接人 转运人 见证人 公证人 翻译 经办人 负责人 责任人 法人 撰写者 "
    "签名 签字 签章 签名人 签署人 签名者 签字人 签收人 医师签名 医师签字 医师签章 医生签名 医生签字 患者签名 患者签字 病人签名 家属签名 家属签字 护士签名 护士签字 患者或家属签名 患者/家属签名 患者家属签名 患者(家属)签名 患者本人签名 法定代理人签名 监护人签名 监护人签字 "
    "受委托人签名 被委托人签名 代理人签名 授权委托人签名 上级医师签名 上级医生签名 主治医师签名 主任医师签名 副主任医师签名 住院医师签名 经治医师签名 主管医师签名 管床医师签名 值班医师签名 会诊医师签名 手术医师签名 术者签名 主刀医师签名 麻醉医师签名 谈话医师签名 "
    "告知医师签名 记录者签名 记录医师签名 书写医师签名 审核医师签名 报告医师签名 检查医师签名 责任护士签名 护士长签名 科主任签名 药师签名 研究者签名 受试者签名 电子签名 手写签名 签名(医师) 签名/盖章 签名盖章 见证人签名 病史陈述者签名 记录人签名 检查者签名"
)
_LABELS = spaced(_LABEL_WORDS)
_LABEL_STARTS = tuple(
    CharacterSet((ord(character), ord(character)) for character in characters)
    for characters in (
        {word[0] for word in _LABEL_WORDS.split()},
        {*" \t", *(word[1] for word in _LABEL_WORDS.split())},
    )
)
_STRONG = re.compile(
    rf"(?:{_LABELS})(?:[（(][^()（）\n]{{0,10}}[)）]|[ ]?[/、][ ]?[^\s:：/、,，。;；|]{{1,8}}|签名|签字|签章|姓名|[12一二])?{SEPARATOR}"
)
_BARE_LABELS = spaced(
    "姓名 患者姓名 病人姓名 患儿姓名 产妇姓名 联系人 紧急联系人 联系人姓名 医师签名 医生签名 医师签字 医生签字 患者签名 患者签字 家属签名 家属签字 护士签名 护士签字 签名 签字 上级医师签名 主治医师签名 主刀医师 经治医师 主管医师 管床医师 "
    "责任护士 记录者 主刀 术者 麻醉医师 麻醉师 一助 二助 第一助手 第二助手 主治医师 住院医师 主任医师 副主任医师 器械护士 巡回护士 审核者 审核医师 报告医师 检查医师 送检医师 申请医师 检验者 报告者 书写者 值班医师 会诊医师 "
    "接诊医师 护士长 户主 经管医师 床位医师 床位医生 主治医生 管床医生 主管医生 经治医生 主刀医生 首诊医师 上级医师 手术医师 手术者 助手 首诊医生 接诊医生 签约医生 家庭医生 随访医师 核对者 复核者 监护人"
)
_MIDDLE = re.compile(rf"(?:{_BARE_LABELS})(?:[ \t]{{1,12}}|[ \t]*\n[ \t]*|[（(]|(?=[\u4e00-\u9fff]))")
_WORDS = re.compile(
    "患者|病人|患儿|病员|产妇|孕妇|伤者|死者|逝者|老人|受试者|受检者|家属|亲属|其父亲?|其母亲?|其子(?!宫)|其女|其妻子?|其夫|其兄|其弟|其姐|其妹|其配偶|其爱人|之母|之父|之子|之女|之妻|之夫|父亲|母亲|儿子|女儿|丈夫|妻子|爱人|配偶|长子|次子|长女|次女|哥哥|弟弟|姐姐|妹妹|"
    "外婆|外公|奶奶|爷爷|孙子|孙女|监护人|联系人|主治医师|主任医师|副主任医师|住院医师|医师|医生|主任|护士长?|教授|院长|大夫|麻醉师|由|经|请|遵|随|名叫|叫做|我叫|系|本人|签约人|委托"
)
_WORD_GAP = re.compile(r"[ ]?(?:[（(“\"'【\[《][ ]?)?")
_AFTER_LABEL_WORDS = frozenset(("由", "经", "请", "遵", "随", "系", "本人", "委托"))
_TITLE_BEHIND = re.compile(rf"(?P<name>[\u4e00-\u9fff]{{1,4}})(?=[ ]?(?:{TITLES}))")
_DOCTOR = re.compile(r"[ ]?(?:主任|副主任|医生|医师|大夫|教授|护士|主治|院长)")
_BEFORE_BARE = re.compile(
    r"(?:^|[^\u4e00-\u9fff]|[日今晨早晚午科请经由随向与和同及给示诉告找派约嘱因后在当的级报小老遵按据听见对为是室区组我院])$"
)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_RUN = re.compile(r"[\u4e00-\u9fff]{1,12}")
_SPACED = re.compile(r"[\u4e00-\u9fff](?:[ \t]{1,6}[\u4e00-\u9fff](?![\u4e00-\u9fff])){1,2}")
_MINORITY = re.compile(r"[\u4e00-\u9fff]{1,8}(?:[·.][\u4e00-\u9fff]{1,8}){1,4}")
_LATIN = re.compile(r"[A-Z][A-Za-z'\-]+(?:[ ·][A-Z][A-Za-z'\-]+){1,3}|[A-Z]{2,}(?:[ ][A-Z]{2,}){1,2}")
_BORDER = re.compile(r"[^\u4e00-\u9fff·某]|$")
_COLON = re.compile(r"[ \t]{0,6}(?:[（(][^()（）\n]{0,10}[)）])?[:=：]")
_FOLLOWS_LABEL = re.compile(
    rf"(?:{TITLES}|男|女|性别|年龄|电话|手机|住院|科室|科别|床号|病案|门诊|身份证|联系|主治|记录|日期|时间|签|审核|职称|工号|出生|民族|籍贯|职业|婚姻|关系|与患者|系患者|系其|之子|之女|之妻|之夫|之父|之母|"
    rf"主刀|一助|二助|第一|麻醉|器械|巡回|护士|医师|医生|报告|检查|书写|同意|本人|患者|家属|于|在|因|住|现|和|及|与|等|说|诉|称|已|到|将|为|的|是|代|病区|就诊|入院|出院)"
)
_FOLLOWS_WORD = re.compile(
    rf"[ ]?(?:[,，、。;；(（)）:：\n”\"'】\]]|$|{TITLES}|男|女|性别|因|于|诉|在|系|自诉|自述|主诉|入院|出院|来院|来我|来诊|的|之|与|及|和|住|同志|家属|本人|曾|既往|突发|突然|近日|近期|今日|昨日|于今|已|现|行|经|为|等|说|称|拟|接受|"
    rf"查房|看|会诊|沟通|完成|恢复|担任|任|执行|进行|负责|协助|到场|复诊|就诊|否认|神志|意识|精神|一般|目前|提供|补充|确认|核对|签署|陈述|反映|携带|护送|照顾|联系|均|也|未|拒|送|接|要|想|咳|发热|腹痛|头|胸|给予|交代|复查|手术|治疗|病情|意见|仍|多次|主持|指示|指导|主刀|签|办理|要求|表示|同意|拒绝|再次|再入|首次|转入|转院|由|被|从|到|前来|陪同|代|告知|随访|术后|生于|出生|有|无|\d|[ ]\d|[ ]男|[ ]女)"
)
_EVIDENCE = re.compile(
    r"[ ]?(?:[,，、(（;；/|:：][ ]?)?(?:男|女|性别|年龄|汉族|回族|满族|\d{1,3}[ ]?岁|[（(]?身份证|住院号|病案号|门诊号|电话|同志|先生|女士|医师|医生|主任|护士|教授)"
)
_DOES = re.compile(
    r"主刀|担任|任|代述|代诉|陪同|陪伴|护送|送入|送至|送来|完成|执行|负责|操作|主持|签字|签署|告知|查房|接诊|管理"
)
# Characters that no given name has: where sex or age follows, every other character may be part of one.
_NO_GIVEN = frozenset(
    "的了在是不有无我你他她它这那因为与于或及者病症痛炎疼疮癌瘤血压糖尿高低左右上下内外前后侧性未已曾再入出住转来自诉述称示见行予给用服药查检术院科室床号岁男女氏某发热咳喘肿胀副主"
)


def chinese_names(folded: str) -> Iterator[Span]:
    """Spans of names, cues from sure to unsure."""
    if folded.isascii():
        return
    first, second = _LABEL_STARTS
    for match in matches_at(_STRONG, folded, first.places(folded, second)):
        yield from _listed(folded, match.end(), "label")
    for match in _MIDDLE.finditer(folded):
        stop = _name_end(folded, match.end(), common=not match[0][-1].isspace())
        if stop:
            yield Span(match.end(), stop, "NAME", "label_without_colon")
    for match in _WORDS.finditer(folded):
        gap = _WORD_GAP.match(folded, match.end())
        start = gap.end() if gap else match.end()
        stop = _name_after_word(folded, start, match[0] in _AFTER_LABEL_WORDS)
        if stop:
            yield Span(start, stop, "NAME", "word")
    yield from _names_before_titles(folded)
    yield from _names_before_details(folded)


def _listed(folded: str, start: int, rule: str) -> Iterator[Span]:
    """The name at a label, and those that follow it behind a comma or a slash."""
    stop = _name_end(folded, start, common=False)
    while stop:
        yield Span(start, stop, "NAME", rule)
        title = re.compile(rf"(?:{TITLES})?[ ]{{0,2}}(?:[、/,，;；&和及与]|[ ]{{1,4}})[ ]{{0,2}}").match(folded, stop)
        if not title:
            return
        start = title.end()
        stop = _name_end(folded, start, common=title[0].strip() not in ("/", "、"))


def _name_end(folded: str, start: int, common: bool) -> int:  # noqa: PLR0911, PLR0912  (one a form)
    """Where the name that begins at `start` ends; 0 where there is none. `common`: only characters of given names."""
    minority = _MINORITY.match(folded, start)
    if minority and _BORDER.match(folded, minority.end()) and not _COLON.match(folded, minority.end()):
        return minority.end() if not common else 0
    latin = _LATIN.match(folded, start)
    if latin and not common and not _COLON.match(folded, latin.end()):
        return latin.end()
    run = _RUN.match(folded, start)
    if not run:
        return 0
    text = run[0]
    if len(text) == 1:
        return _spaced_end(folded, start)
    if (
        len(text) == 2
        and text in COMPOUND_SURNAMES
        and re.match(r"[ ]{1,4}[\u4e00-\u9fff](?![\u4e00-\u9fff:])", folded[run.end() : run.end() + 6])
    ):
        return run.end() + len(folded[run.end() : run.end() + 6]) - len(folded[run.end() : run.end() + 6].lstrip()) + 1
    compound = text[:2] in COMPOUND_SURNAMES
    if (text[:2] in NOT_NAMES and not (compound and len(text) > 2)) or not (compound or text[0] in SURNAMES):
        return 0
    lengths: tuple[int, ...] = (4, 3) if text[:2] in COMPOUND_SURNAMES else (3, 2)
    if text[:2] in COMPOUND_SURNAMES and len(text) == 2:
        lengths = (2,)
    for length in (*lengths, 4) if len(text) == 4 and not common else lengths:
        stop = start + length
        if length > len(text) or "某" in text[: length + 1] or _COLON.match(folded, stop):
            continue
        if common and not _is_given(text[:length]):
            continue
        if length == 4 and lengths[0] == 3 and not _is_given(text[:4]) and text[:2] not in COMPOUND_SURNAMES:
            continue
        if _BORDER.match(folded, stop) or _FOLLOWS_LABEL.match(folded, stop):
            return 0 if folded[start:stop] in NOT_NAMES else stop
    for length in lengths:
        if length <= len(text) and "某" not in text[: length + 1] and _is_given(text[:length]):
            if _COLON.match(folded, start + length) or _COLON.match(folded, run.end()):
                continue
            return start + length
    return 0


def _spaced_end(folded: str, start: int) -> int:
    """`王 明`, `李 建 国`: characters of a name that a form has set apart."""
    match = _SPACED.match(folded, start)
    if not match:
        return 0
    characters = re.sub(r"\s", "", match[0])
    stop = match.end()
    if characters[-1] in "男女" or (len(characters) == 3 and characters[2] not in GIVEN_NAME_CHARACTERS):
        characters, stop = characters[:2], start + len(match[0].rstrip()[:-1].rstrip())
    if len(characters) < 2 or characters[0] not in SURNAMES or characters[:2] in NOT_NAMES or characters[1] in "男女":
        return 0
    return 0 if _COLON.match(folded, stop) or not _BORDER.match(folded, stop) else stop


def _is_given(name: str) -> bool:
    given = name[2:] if name[:2] in COMPOUND_SURNAMES and len(name) > 2 else name[1:]
    return bool(given) and all(character in GIVEN_NAME_CHARACTERS for character in given)


def _name_after_word(folded: str, start: int, verb: bool) -> int:  # noqa: PLR0911  (one a reason)
    run = _RUN.match(folded, start)
    if not run or len(run[0]) < 2:
        return 0
    text = run[0]
    compound = text[:2] in COMPOUND_SURNAMES
    if text[:2] in NOT_NAMES or not (compound or text[0] in SURNAMES) or "某" in text[:4]:
        return 0
    for length in (4, 3) if compound else (3, 2):
        stop = start + length
        if length > len(text) or text[:3] in NOT_NAMES or text[1:3] in NOT_NAMES:
            continue
        given = text[length - 2 if length > 2 else 1 : length]
        if _EVIDENCE.match(folded, stop) and not _NO_GIVEN.intersection(given):
            return stop
        if not _is_given(text[:length]) or not (compound or text[0] in COMMON_SURNAMES):
            continue
        if verb:
            if _DOES.match(folded, stop) and text[0] not in WORD_SURNAMES:
                return stop
            continue
        if text[0] in WORD_SURNAMES and not compound and text[0] not in _FREQUENT[length]:
            continue
        word = text[:2] in WORDS_BEFORE_NAMES
        if _FOLLOWS_WORD.match(folded, stop) and not (word and length == 2):
            return stop
        if length > 2 and text[0] not in WORD_SURNAMES and not word and text[1:3] not in WORDS_BEFORE_NAMES:
            return stop
    return 0


def _names_before_titles(folded: str) -> Iterator[Span]:
    """`王建国主任医师`, `李医生`: the title is the cue and stays."""
    for match in re.finditer(rf"(?:{TITLES})", folded):
        end = match.start()
        if folded[end - 1 : end] == " ":
            end -= 1
        run = re.search(r"[\u4e00-\u9fff]{1,12}$", folded[max(0, end - 12) : end])
        if not run:
            continue
        text = run[0]
        for length in (4, 3, 2):
            name = text[-length:]
            compound = name[:2] in COMPOUND_SURNAMES
            right = len(name) == length and (compound if length == 4 else True)
            if not right or name[:2] in NOT_NAMES or name[-2:] in NOT_NAMES or not _is_given(name):
                continue
            frequent = length == 3 and name[0] in _BEFORE_TITLES
            if not (compound or frequent or (name[0] in SURNAMES and name[0] not in WORD_SURNAMES)):
                continue
            border = folded[max(0, end - length - 1) : end - length]
            if _BEFORE_BARE.search(border):
                yield Span(end - length, end, "NAME", "title")
                break
        else:
            name = text[-1:]
            if (
                _DOCTOR.match(folded, end)
                and name in SURNAMES
                and name not in WORD_SURNAMES
                and name not in _NOT_BEFORE_TITLES
                and _BEFORE_BARE.search(folded[max(0, end - 2) : end - 1])
            ):
                yield Span(end - 1, end, "NAME", "surname_and_title")


_BEFORE_TITLES = frozenset("高方黄白石江安金田易左温文万关管古")
_NOT_BEFORE_TITLES = frozenset(
    "向经时和由于及从应同让温来用能有单全管家科国中名病区级正副执军校厂药牙针按位上下前后主助首当值责本该该原老小"
)
_FREQUENT = {
    3: frozenset("高方黄白石江安金田易左向文温成常于万冷古国平全关车连管包华查游曲解单强东边封谷和明司池"),
    2: frozenset("高方黄白石江安金田文温关万管"),
}
_DETAILS = re.compile(
    r"(?:^|(?<=[\n|\t(（“\"。；;]))[ ]{0,4}(?P<name>[\u4e00-\u9fff]{2,4}|[\u4e00-\u9fff][ ]{1,4}[\u4e00-\u9fff])[ ]{0,4}[,，、|/\t (（][ ]{0,4}(?:男|女)(?:性)?[ ]{0,4}(?:[,，、|/\t )）]|\d)"
)


def _names_before_details(folded: str) -> Iterator[Span]:
    """`王建国，男，56岁` at the start of a line: sex behind it is the cue."""
    for match in _DETAILS.finditer(folded):
        name = re.sub(r"\s", "", match["name"])
        compound = name[:2] in COMPOUND_SURNAMES
        known = compound or (name[0] in SURNAMES and len(name) < 4)
        if known and _is_given(name) and name[:2] not in NOT_NAMES and "某" not in name:
            yield Span(*match.span("name"), "NAME", "details")


def repeated_names(folded: str, spans: list[Span]) -> Iterator[Span]:
    """Every other place of a Chinese name of three or more characters that a cue has found in this document, and of
    one of two characters where it stands between borders."""
    names = {folded[span.start : span.stop] for span in spans if span.kind == "NAME"}
    names = {name for name in names if _HAN.match(name) and 2 <= len(name) <= 12 and " " not in name}
    if not names:
        return
    long = sorted((name for name in names if len(name) > 2), key=len, reverse=True)
    short = sorted(name for name in names if len(name) == 2 and name not in NOT_NAMES)
    patterns = [re.escape(name) for name in long]
    if short:
        patterns.append(rf"(?<![\u4e00-\u9fff])(?:{'|'.join(map(re.escape, short))})(?![\u4e00-\u9fff])")
    if patterns:
        for match in re.finditer("|".join(patterns), folded):
            yield Span(*match.span(), "NAME", "repeated")
