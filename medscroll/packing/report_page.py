"""`report.html` of prepared data: one file without scripts, in Chinese and English, for the screen (light and dark) and
for paper. Numbers, names of files and ids of documents; never text of a document.

Cost: one pass over the lengths (8 bytes a document).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from medscroll.packing.statistics import Statistics

_ROWS = 40
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_page(
    manifest: Mapping[str, Any], ledger: Mapping[str, Any], statistics: Statistics, lengths: np.ndarray
) -> str:
    """The page.

    Args:
        lengths: int64 [docs], tokens of each document.
    """
    sections = [
        _overview(manifest, ledger),
        _balance(ledger),
        _lengths(lengths),
        _languages(manifest),
        _changes(ledger),
        _identifiers(ledger),
        _copies(ledger),
        _benchmarks(ledger),
        _scores(ledger),
        _rejected(ledger),
        _cuts(statistics),
        _sources(statistics),
        _made(manifest),
    ]
    style = (files("medscroll.packing") / "report_style.css").read_text("utf-8")
    switch = '<div class="switch"><label for="en">English</label><label for="zh">中文</label></div>'
    note = _both(
        "Numbers, file names and ids of documents; no text of a document is on this page.",
        "本页只含数字、文件名和文档编号，不含任何文档内容。",
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Prepared data</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body>\n'
        '<input class="lang" type="radio" name="lang" id="en" checked><input class="lang" type="radio" name="lang" '
        f'id="zh">\n<header>{switch}<h1>{_both("Prepared data", "数据准备报告")}</h1><p>{note}</p></header>\n<main>\n'
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def _both(english: str, chinese: str) -> str:
    return f'<span lang="en">{escape(english)}</span><span lang="zh">{escape(chinese)}</span>'


def _section(english: str, chinese: str, body: str, wide: bool = False) -> str:
    return f"<section{' class=wide' if wide else ''}><h2>{_both(english, chinese)}</h2>{body}</section>"


def _number(value: float) -> str:
    return f"{value:,}"


def _table(head: Sequence[tuple[str, str]], rows: Iterable[Sequence[str | int]]) -> str:
    """A table; whole numbers are set right, text is escaped. The first column of the head is text."""
    lines = []
    kinds = [""] * len(head)
    for row in rows:
        cells = []
        for place, cell in enumerate(row):
            kinds[place] = " class=n" if isinstance(cell, int) else " class=w"
            cells.append(f"<td{kinds[place]}>{_number(cell) if isinstance(cell, int) else escape(cell)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    tops = "".join(
        f"<th{' class=n' if kind == ' class=n' else ''}>{_both(*name)}</th>"
        for name, kind in zip(head, kinds, strict=True)
    )
    return f'<div class="scroll"><table><thead><tr>{tops}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _bars(values: Mapping[str, float], second: bool = False) -> str:
    """Horizontal bars with their numbers, in the order given."""
    most = max(values.values(), default=0) or 1
    mark = " class=second" if second else ""
    rows = (
        f'<em>{escape(name)}</em><span><i{mark} style="width:{100 * value / most:.2f}%"></i></span>'
        f"<span>{_number(value)}</span>"
        for name, value in values.items()
    )
    return f'<div class="bars">{"".join(rows)}</div>'


def _columns(values: Sequence[float], labels: tuple[str, str]) -> str:
    """A small histogram; the labels stand under its ends."""
    most = max(values, default=0) or 1
    columns = "".join(f'<i style="height:{100 * value / most:.1f}%" title="{_number(value)}"></i>' for value in values)
    axis = "".join(f"<span>{label}</span>" for label in labels)
    return f'<div class="columns">{columns}</div><div class="axis">{axis}</div>'


def _overview(manifest: Mapping[str, Any], ledger: Mapping[str, Any]) -> str:
    lengths, documents = manifest["lengths"], manifest["documents"]
    tiles = [
        (("documents kept", "保留文档"), _number(ledger["documents"]["kept"])),
        (("rejected", "剔除"), _number(ledger["documents"]["rejected"])),
        (("train / validation", "训练 / 验证"), f"{documents['train']:,} / {documents['validation']:,}"),
        (("characters", "字符"), _number(manifest["characters"])),
        (("tokens", "词元"), _number(lengths["tokens"])),
        (("longest, tokens", "最长（词元）"), _number(lengths["longest"])),
        (("above 1,024 tokens", "超过 1,024 词元"), f"{lengths['share_above_1024']:.1%}"),
    ]
    body = "".join(f"<div><span>{_both(*name)}</span><b>{value}</b></div>" for name, value in tiles)
    warnings = "".join(f'<p class="warn">{escape(text)}</p>' for text in manifest["warnings"])
    return _section("Overview", "概览", f'<div class="tiles">{body}</div>{warnings}', wide=True)


def _balance(ledger: Mapping[str, Any]) -> str:
    rows = []
    for name, numbers in ledger["steps"].items():
        documents, characters = numbers["documents"], numbers["characters"]
        rejected = sum(each["documents"] for each in numbers["rejected"].values())
        change = characters["out"] - characters["in"]
        rows.append((name, documents["in"], rejected, documents["out"], characters["in"], characters["out"], change))
    head = [
        ("step", "步骤"), ("documents in", "进入文档"), ("rejected", "剔除"), ("out", "输出"),
        ("characters in", "进入字符"), ("out", "输出"), ("change", "变化"),
    ]  # fmt: skip
    checks = "".join(
        f'<p><b class="{"yes" if holds else "no"}">{"✓" if holds else "✗"}</b> {escape(name)}</p>'
        for name, holds in ledger["identity"].items()
    )
    return _section("Where every document went", "每个文档的去向", _table(head, rows) + checks, wide=True)


def _lengths(lengths: np.ndarray) -> str:
    """Documents and tokens by length, in powers of two."""
    if not len(lengths):
        return ""
    exponents = np.maximum(0, np.ceil(np.log2(np.maximum(1, lengths)))).astype(np.int64)
    documents: dict[str, float] = {}
    tokens: dict[str, float] = {}
    for exponent in range(int(exponents.min()), int(exponents.max()) + 1):
        chosen = exponents == exponent
        documents[f"≤ {2**exponent:,}"] = int(chosen.sum())
        tokens[f"≤ {2**exponent:,}"] = int(lengths[chosen].sum())
    body = f"<h3>{_both('documents', '文档数')}</h3>{_bars(documents)}"
    body += f"<h3>{_both('tokens in them', '其中的词元')}</h3>{_bars(tokens, second=True)}"
    return _section("Lengths in tokens", "长度（词元）", body)


def _languages(manifest: Mapping[str, Any]) -> str:
    return _section("Languages, by script", "语言（按文字）", _bars(manifest["languages"]))


def _changes(ledger: Mapping[str, Any]) -> str:
    parts = []
    for name, numbers in ledger["steps"].items():
        if numbers["counts"] and name != "deidentify":
            counts = sorted(numbers["counts"].items(), key=lambda item: (-item[1], item[0]))
            parts.append(f"<h3><code>{escape(name)}</code></h3>{_bars(dict(counts[:_ROWS]))}")
    return _section("What each step did", "各步骤的改动", "".join(parts)) if parts else ""


def _identifiers(ledger: Mapping[str, Any]) -> str:
    numbers = ledger["steps"].get("deidentify")
    if not numbers:
        return ""
    counts = {name: n for name, n in numbers["counts"].items() if name != "documents_with_identifiers"}
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    documents = numbers["counts"].get("documents_with_identifiers", 0)
    said = _both(
        f"{documents:,} of {numbers['documents']['in']:,} documents hold identifiers; rules do not find all of them.",
        f"{numbers['documents']['in']:,} 个文档中有 {documents:,} 个含有个人标识；规则不能找出全部。",
    )
    body = f"<p>{said}</p>{_bars(ordered)}"
    spread = numbers["histograms"].get("identifiers_a_document", {})
    if spread:
        in_order = sorted(spread.items(), key=lambda item: (item[0][0] == ">", int(item[0].lstrip("<=>"))))
        body += f"<h3>{_both('identifiers a document', '每个文档的标识数')}</h3>{_bars(dict(in_order), second=True)}"
    return _section("Identifiers of persons", "个人标识", body)


def _copies(ledger: Mapping[str, Any]) -> str:
    copies = ledger["copies"]
    if not copies:
        return ""
    said = _both(
        f"{copies['documents']:,} documents and {copies['sections']:,} sections were copies of what stays.",
        f"{copies['documents']:,} 个文档、{copies['sections']:,} 个章节与保留的内容重复。",
    )
    rows = [(each["id"], f"{each['reason']}, {each['detail']}") for each in copies["listed"][:_ROWS]]
    listed = _table([("document", "文档"), ("what it was", "说明")], rows) if rows else ""
    return _section("Copies", "重复", f"<p>{said}</p>{listed}")


def _benchmarks(ledger: Mapping[str, Any]) -> str:
    histograms = ledger["steps"].get("decontaminate", {}).get("histograms", {})
    rows = [(name, number, histograms["matches"].get(name, 0))
            for name, number in histograms.get("documents_with_matches", {}).items()]  # fmt: skip
    head = [("benchmark", "评测集"), ("documents", "文档"), ("matches", "匹配")]
    return _section("Benchmarks found in the documents", "文档中出现的评测题", _table(head, rows)) if rows else ""


def _scores(ledger: Mapping[str, Any]) -> str:
    histograms = ledger["steps"].get("quality", {}).get("histograms", {})
    parts = []
    for name, buckets in histograms.items():
        values = [buckets.get(f"{place / 20:.2f}", 0) for place in range(21)]
        parts.append(f"<div><code>{escape(name)}</code>{_columns(values, ('0', '1'))}</div>")
    if not parts:
        return ""
    note = _both(
        "documents by score; nothing is dropped but by a threshold with a name", "按得分统计文档数；只按命名的阈值剔除"
    )
    return _section("Quality scores", "质量得分", f'<p>{note}</p><div class="scores">{"".join(parts)}</div>', wide=True)


def _rejected(ledger: Mapping[str, Any]) -> str:
    reasons = ledger["documents"]["rejected_by_reason"]
    nothing = f"<p>{_both('Nothing.', '无。')}</p>"
    return _section("Rejected, by reason", "剔除原因", _bars(reasons, second=True) if reasons else nothing)


def _cuts(statistics: Statistics) -> str:
    counts = {level: statistics.cuts.get(level, 0) for level in ("section", "paragraph", "sentence")}
    return _section("Where a long document may be divided", "长文档的可切分处", _bars(counts))


def _sources(statistics: Statistics) -> str:
    ordered = sorted(statistics.sources.items(), key=lambda item: (-item[1][3], item[0]))
    rows: list[Sequence[str | int]] = [(name, row[0], row[1], row[3]) for name, row in ordered[:_ROWS]]
    if len(ordered) > _ROWS:
        rest = [sum(row[place] for _, row in ordered[_ROWS:]) for place in (0, 1, 3)]
        rows.append((f"+ {len(ordered) - _ROWS:,}", *rest))
    head = [("source", "来源"), ("documents", "文档"), ("characters", "字符"), ("tokens", "词元")]
    return _section("Sources", "来源", _table(head, rows), wide=True)


def _made(manifest: Mapping[str, Any]) -> str:
    corpus, tokenizer = manifest["corpus"], manifest["tokenizer"]
    rows = [
        ("preset", str(corpus["preset"])),
        ("steps", ", ".join(corpus["steps"])),
        ("tokenizer", f"{tokenizer['name']} ({tokenizer['fingerprint']})"),
        ("digest", str(manifest["digest"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())),
    ]
    return _section("How it was made", "制作方式", _table([("what", "项目"), ("value", "值")], rows), wide=True)
