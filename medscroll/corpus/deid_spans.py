"""Spans of identifiers, the folded text they are looked for in, checksums, and what is never touched.

Rules look at a folded copy of the text: full-width letters and digits, every kind of dash, blank and colon become their
plain form, one character for one, so that offsets stay those of the original; the folded text is thrown away.
`protected_spans` finds what only looks like an identifier: trial registrations, PubMed ids, DOIs, approval and lot
numbers, accession numbers, placeholders that are there already. No rule ever changes a character of it.
"""

# ruff: noqa: E501  (patterns are tables of words; a Chinese character counts as two columns)

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from medscroll.corpus.code_points import Translation
from medscroll.corpus.deid_words import Words, first_words


@dataclass(frozen=True, slots=True)
class Span:
    """An identifier found: characters `start` to `stop`, its kind (which becomes the placeholder) and the rule."""

    start: int
    stop: int
    kind: str
    rule: str


_FOLD = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_FOLD |= dict.fromkeys((0x3000, 0xA0, 0x202F, 0x205F, 0x1680, 0x180E, 0xFEFF, *range(0x2000, 0x200E)), 0x20)
_FOLD |= dict.fromkeys((*range(0x2010, 0x2016), 0x2043, 0x2212, 0xFE58, 0xFE63, 0x2500, 0x2501, 0xAD), 0x2D)
_FOLD |= dict.fromkeys((0x2236, 0xFE55, 0xFE13, 0xFE30, 0xA789), 0x3A)
_FOLD |= dict.fromkeys((0x2022, 0x30FB, 0x2027, 0x2219, 0x22C5, 0xFF65, 0x2E31), 0xB7)
_FOLD |= dict.fromkeys((0x2502, 0x2503, 0x2506, 0x250A, 0xA6), 0x7C)
_FOLD |= {0xFE6B: 0x40, 0x3014: 0x28, 0x3015: 0x29, 0x2044: 0x2F, 0x2215: 0x2F, 0x201A: 0x2C, 0xFF3F: 0x5F}
_FOLDING = Translation(_FOLD)
_FOLDED_CHARACTERS = re.compile("[" + "".join(map(re.escape, map(chr, sorted(_FOLD)))) + "]")


def fold(text: str) -> str:
    """A copy of the same length in which width, dashes, blanks, colons and middle dots have one form."""
    if text.isascii() or not _FOLDED_CHARACTERS.search(text):
        return text
    return _FOLDING.apply(text)


_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def resident_id_is_valid(digits: str) -> bool:
    """Whether 18 characters carry the check character of ISO 7064 MOD 11-2 (GB 11643-1999)."""
    total = sum(int(digit) * weight for digit, weight in zip(digits[:17], _ID_WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == digits[17].upper()


def luhn_is_valid(digits: str) -> bool:
    """Whether a number carries the check digit of ISO/IEC 7812 (bank cards) and is no run of one digit."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0 and len(set(digits)) > 1


_VIN_VALUES = dict(
    zip(
        "0123456789ABCDEFGHJKLMNPRSTUVWXYZ", [*range(10), *range(1, 9), 1, 2, 3, 4, 5, 7, 9, *range(2, 10)], strict=True
    )
)
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def vin_is_valid(number: str) -> bool:
    """Whether 17 characters carry the check digit of a vehicle identification number (49 CFR 565)."""
    total = sum(_VIN_VALUES[character] * weight for character, weight in zip(number, _VIN_WEIGHTS, strict=True))
    return "0123456789X"[total % 11] == number[8]


_TRIALS = (
    r"NCT[ :\-]?0?\d{7,8}|ChiCTR[\-A-Z]{0,8}\d{5,12}|ISRCTN[ ]?\d{5,8}|EudraCT[^\n\d]{0,20}\d{4}-\d{6}-\d{2}|"
    r"EUCTR[\d\-A-Z]+|ACTRN[ ]?\d{8,14}|CTRI/\d{4}/\d{2,3}/\d{4,6}|UMIN[ ]?\d{6,9}|JapicCTI-?\d+|jRCT[s\d]+|KCT\d{5,7}|DRKS\d{8}|"
    r"NTR[ ]?\d{3,5}|IRCT\d+[A-Z]?\d*|PACTR\d+|TCTR\d+|CRD[ ]?\d{5,12}|RBR-?\w{6}|SLCTR/\d{4}/\d+|RPCEC\d+|CTR20\d{6}|INPLASY\d+"
)
_LITERATURE = (
    r"(?:PMID|PMCID|PubMed(?:[ ]?ID)?|MEDLINE|Embase|CNKI|WOS)[ :#\-]{0,3}(?:PMC)?[A-Z]{0,3}\d{4,16}|PMC\d{4,9}|"
    r"(?:https?://(?:dx\.)?doi\.org/|doi[ :]{0,2})10\.\d{4,9}/[^\s\"'<>，。；、）]+|"
    r"arXiv[ :]{0,2}\d{4}\.\d{4,5}(?:v\d+)?|(?:ISBN|ISSN|eISSN)(?:-1[03])?[ :]{0,3}[\dXx][\d\-Xx ]{6,20}[\dXx]"
)
_PRODUCTS = (
    r"(?:国药准字|国药证字|国药试字|卫药准字|国药管制|国食健[字注][GJ]?|卫食健字|国妆特字|药监械[（(]?[准进许][）)]?字|食药监械[（(]?[准进许][）)]?字|"
    r"械注[准进许]|国械备|械备|械临机注|药准字|兽药字|卫消字|卫妆准字|国药包字|批准文号|注册证号|注册证编号|进口药品注册证号?|医药产品注册证号?|"
    r"备案号|许可证号?|生产许可证编号|执行标准|标准号|药品本位码|本位码|药品编码|商品条码|药品条码|条形码|产品编号|产品货号|"
    r"产品序号|生产批号|产品批号|药品批号|疫苗批号|试剂批号|批号|批次|批次号|货号|序列号[（(]试剂[）)]|伦理批号|伦理审批号|伦理批件号|批件号|基金号|"
    r"基金编号|项目编号|项目号|课题编号|资助号|合同编号|专利号|审图号|医疗机构登记号)"
    r"(?:号码|编号|号)?[ ]?(?:是|为|[:=|])?[ |]*[（(\[【]?[A-Za-z\u4e00-\u9fff（）()]{0,8}[ ]?[A-Za-z0-9][A-Za-z0-9\-./()]{2,30}"
)
_PRODUCT_HEADS = (
    r"lot|batch|catalog(?:ue)?|cat|NDC|ANDA|NDA|BLA|UPC|EAN|GTIN|REF|grant|patent|award|protocol|IRB|ethics|approval|"
    r"contract|reference|ATCC|CAS|LOINC|SNOMED(?:[ ]CT)?|RxNorm|RxCUI|CUI|UMLS|MeSH|OMIM|MIM|dbSNP|UniProt|GenBank|RefSeq|"
    r"HGNC|Entrez|Ensembl|PDB|Orphanet|ORPHA|CPT|HCPCS|DRG|ATC|EC|CI|E\.C\.|version|ver|v\.|release|build|RRID|model|part"
)
_PRODUCTS_EN = (
    rf"(?:{_PRODUCT_HEADS})"
    r"\.?[ ]?(?:number|numbers|code|codes|id|identifier|no|nos|num)?[.#]?[ ]?[:=#]?[ ]{0,2}(?:is[ ])?\(?[A-Z]{0,6}[-_ ]?\d[\w\-./]{0,30}"
)
_ACCESSIONS = (
    r"(?:GSE|GSM|GPL|GDS|SRR|SRX|SRP|SRA|ERR|ERP|ERX|PRJNA|PRJEB|PRJDB|SAMN|SAMEA|E-MTAB-|E-GEOD-|EGAS|EGAD|phs|rs|ss|ENSG|ENST|ENSP|ENSMUSG|"
    r"HP:|GO:|MONDO:|DOID:|CHEBI:|CHEMBL|UBERON:|KEGG:|hsa|miR-|CVCL_|AB_|SCR_|Addgene|JCRB|ACC)[ ]?\d{3,14}|"
    r"(?:NM|NR|NP|XM|XR|XP|NC|NG|NT|NW|YP|WP|AC|ZP)_\d{5,12}(?:\.\d+)?|GB/?T?[ ]?\d{3,6}(?:\.\d+)?-\d{4}|(?:WS|YY|ISO|IEC|YBB|DB\d\d|T/C[A-Z]+)[/T ]{0,3}\d{3,8}(?:[-.:]\d+)*"
)
_PLACEHOLDERS = r"\[\*\*[^\n\]]{0,80}\*\*\]|\[[A-Z][A-Z_]{1,15}\d{0,5}\]|<[A-Z][A-Z_]{1,15}\d{0,5}>|_{3,}|[*＊×]{2,}|(?<![A-Za-z0-9])[XＸ]{2,}|[XＸ]{2,}(?![A-Za-z0-9])|[XＸ]{4,}"
_WORD_FIRST = rf"{_TRIALS}|{_ACCESSIONS}|{_LITERATURE}"
_REGISTERED = re.compile(rf"(?<![A-Za-z0-9])(?:{_WORD_FIRST})(?![A-Za-z0-9])")
_PRODUCT_EN = re.compile(rf"(?<![A-Za-z0-9])(?:{_PRODUCTS_EN})", re.IGNORECASE)
_BARE = re.compile(
    r"(?<![A-Za-z0-9])(?:[nN][ ]?=[ ]?\d[\d,]*|\d{4}-\d{6}-\d{2}(?!\d)|10\.\d{4,9}/[^\s\"'<>，。；、）]+)"
)
_PRODUCT_ZH = re.compile(_PRODUCTS)
_REGISTERED_WORDS = first_words(_WORD_FIRST)
_PRODUCT_WORDS = first_words(_PRODUCT_HEADS)
PROTECTED_WORDS = _REGISTERED_WORDS | _PRODUCT_WORDS
_PLACEHOLDER = re.compile(_PLACEHOLDERS)
_UNIT = re.compile(
    r"[%‰℃°µμ万亿例个只枚粒片颗袋支瓶盒倍]|人(?!民)|拷贝|美元|千万|百万|[ ]{0,2}[×x*][ ]?10|"
    r"[ ]{0,2}(?:copies|IU|U/|mIU|mg|kg|ng|pg|ug|mcg|g/|mL|ml|L|mmol|mol|mm|cm|nm|bp|kb|Mb|Da|kDa|Hz|kcal|kJ|cells|CFU|cfu|reads|"
    r"participants|patients|subjects|cases|people|persons|events|USD|RMB|years|days|hours|拷贝)(?![A-Za-z])"
)


def protected_spans(text: str, folded: str, words: Words) -> list[tuple[int, int]]:
    """Ascending (start, stop) of everything that looks like an identifier and is none, or is one taken out already."""
    found = [match.span() for match in _PLACEHOLDER.finditer(text)]
    found += [match.span() for match in words.matches(_REGISTERED_WORDS, _REGISTERED)]
    found += [match.span() for match in words.matches(_PRODUCT_WORDS, _PRODUCT_EN)]
    found += [match.span() for match in _BARE.finditer(folded)]
    if not folded.isascii():
        found += [match.span() for match in _PRODUCT_ZH.finditer(folded)]
    found.sort()
    return found


def has_unit(folded: str, stop: int) -> bool:
    """Whether what ends at `stop` is a quantity: a unit or a counted thing follows."""
    return _UNIT.match(folded, stop) is not None


def resolve(candidates: Iterable[Span], protected: Iterable[tuple[int, int]]) -> list[Span]:
    """Spans without overlaps, ascending: none touches what is protected, and of two that overlap the one found by the
    earlier rule stays (of one rule, the longer)."""
    blocked = sorted(protected)
    kept: list[Span] = []
    order = sorted(enumerate(candidates), key=lambda item: (item[1].start, item[0]))
    ranked: list[tuple[int, Span]] = []
    at = 0
    reach = 0
    for rank, span in order:
        while at < len(blocked) and blocked[at][0] < span.stop:
            reach = max(reach, blocked[at][1])
            at += 1
        if reach > span.start and _hits(blocked, at, span):
            continue
        if ranked and ranked[-1][1].stop > span.start:
            last_rank, last = ranked[-1]
            if (rank, -(span.stop - span.start)) < (last_rank, -(last.stop - last.start)):
                ranked[-1] = (rank, span)
            continue
        ranked.append((rank, span))
    kept.extend(span for _, span in ranked)
    return kept


def _hits(blocked: list[tuple[int, int]], before: int, span: Span) -> bool:
    """Whether one of the blocked ranges that begin before the span's end reaches into it."""
    for index in range(before - 1, max(-1, before - 64), -1):
        start, stop = blocked[index]
        if stop > span.start and start < span.stop:
            return True
    return False
