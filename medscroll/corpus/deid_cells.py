"""Tables with a header row: `| 姓名 | 住院号 |` and the rows below it, in Markdown, tab-separated or CSV-like form.

A column whose header is a label of an identifier is read cell by cell as if the label stood before each cell.
"""

# ruff: noqa: E501  (patterns are tables of words; a Chinese character counts as two columns)

from __future__ import annotations

import re
from collections.abc import Iterator

from medscroll.corpus.deid_spans import Span

_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(rf"(?:{pattern})", re.IGNORECASE))
    for kind, pattern in (
        ("NAME", r"(?:患者|病人|患儿|联系人|医师|医生|家属|受检者|受试者|产妇)?姓\s*名|患者|病人|联系人|(?:主治|经治|主管|管床|报告|审核|送检|接诊|责任)(?:医师|医生|护士)|医师签名|签名|(?:patient|full|last|first|contact)?[ _]?name|patient|attending|physician"),
        ("ID", r"(?:居民)?身份证(?:号码?)?|公民身份号码|证件号码?|护照(?:号码?)?|passport(?: no\.?| number)?"),
        ("RECORD", r"(?:住院|病案|病历|门诊|急诊|就诊|登记|检查|检验|标本|样本|影像|病理|条码|卡|就诊卡)(?:号码?|编号|ID)|(?:患者|病人|受试者)(?:ID|编号)|MRN|medical record (?:no\.?|number)|(?:patient|visit|encounter|specimen)[ _]?(?:id|no\.?|number)"),
        ("PHONE", r"(?:联系|家庭|家属)?电话(?:号码)?|手机(?:号码?)?|联系方式|移动电话|传真|(?:tele)?phone(?: number| no\.?)?|mobile|fax|tel"),
        ("INSURANCE", r"(?:医保|社保|参保)(?:卡号?|号|编号)|社会保障号码?|(?:member|policy|insurance)[ _]?(?:id|no\.?|number)"),
        ("ADDRESS", r"(?:家庭|现|联系|户籍|通讯|居住)?(?:住址|地址)|(?:home |street |mailing )?address|zip(?: code)?"),
        ("BED", r"床(?:位)?号|床位|bed(?: no\.?| number)?"),
        ("SSN", r"SSN|social security(?: number| no\.?)?"),
        ("EMAIL", r"e-?mail|邮箱|电子邮件"),
        ("ACCOUNT", r"银行卡号?|银行账号|account(?: no\.?| number)?"),
    )
)  # fmt: skip
_LINE = re.compile(r"[^\n]+|\n(?=\n)")
_EMPTY = re.compile(
    r"[\s\-—:：/无*]*|不详|未知|N/?A|none|unknown|某.*|.*[*＊]{2,}.*|.*某.*|_{2,}|\[[^\]]*\]", re.IGNORECASE
)
_NAME_CELL = re.compile(
    r"[\u4e00-\u9fff·]{2,10}|[\u4e00-\u9fff][ ]{1,4}[\u4e00-\u9fff]|[A-ZÀ-Þ][A-Za-zÀ-ÿ'’.\-]*(?:,?[ ][A-ZÀ-Þ][A-Za-zÀ-ÿ'’.\-]*){0,3}"
)
_ROWS = 20_000  # rows of one table that are looked at


def table_cells(folded: str) -> Iterator[Span]:
    """Spans of the cells below headers that name an identifier."""
    if "|" not in folded and "\t" not in folded:
        return
    columns: dict[int, str] = {}
    separator = ""
    rows = 0
    for line in _LINE.finditer(folded):
        text = line[0]
        if text == "\n":  # a blank line ends a table
            columns = {}
            continue
        mark = "|" if text.count("|") >= 1 else "\t" if "\t" in text else ""
        if not mark or (columns and mark != separator):
            columns = {}
            if not mark:
                continue
        cells = _cells(text, mark)
        found = _header(text, cells)
        if found:
            columns, separator, rows = found, mark, 0
            continue
        if not columns:
            continue
        rows += 1
        if rows > _ROWS:
            columns = {}
            continue
        for index, kind in columns.items():
            if index < len(cells):
                start, stop = cells[index]
                value = text[start:stop]
                if stop > start and not _EMPTY.fullmatch(value) and _fits(kind, value):
                    yield Span(line.start() + start, line.start() + stop, kind, "table_cell")


def _cells(text: str, mark: str) -> list[tuple[int, int]]:
    cells = []
    position = 0
    for part in text.split(mark):
        left = len(part) - len(part.lstrip(" *\"'"))
        right = len(part.rstrip(" *\"'"))
        cells.append((position + left, position + max(left, right)))
        position += len(part) + 1
    return cells


def _header(text: str, cells: list[tuple[int, int]]) -> dict[int, str]:
    """Column -> kind, where two cells or more are labels and none holds a number of two digits."""
    filled = [text[start:stop] for start, stop in cells if stop > start]
    if len(filled) < 2 or any(re.search(r"\d{2}", cell) or len(cell) > 24 for cell in filled):
        return {}
    columns = {}
    for index, (start, stop) in enumerate(cells):
        for kind, pattern in _KINDS:
            if pattern.fullmatch(text[start:stop].strip("：: ")):
                columns[index] = kind
                break
    names_only = set(columns.values()) == {"NAME"}
    return (
        {}
        if names_only and not re.search(r"性别|年龄|科室|sex|age|gender|诊断|床|日期|date|DOB", text, re.IGNORECASE)
        else columns
    )


def _fits(kind: str, value: str) -> bool:
    if kind == "NAME":
        return _NAME_CELL.fullmatch(value) is not None
    if kind == "ADDRESS":
        return len(value) >= 4
    if kind == "EMAIL":
        return "@" in value
    return any(character.isdigit() for character in value) and len(value) <= 40
