"""`report.md` of prepared data: what is in it, in numbers; it never quotes text.

Cost: one pass over the lengths (8 bytes a document); no token is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medscroll.packing.statistics import Statistics

LONG = 1_024  # tokens; documents above are "long" (PackingArguments.long_text_threshold)
_ROWS = 40


def length_summary(lengths: np.ndarray) -> dict[str, Any]:
    """Of int64 [docs] lengths (EOS included): documents, tokens, longest, mean, percentiles, share above `LONG`."""
    if len(lengths) == 0:
        return {"documents": 0, "tokens": 0, "longest": 0, "above_1024": 0, "share_above_1024": 0.0, "percentiles": {}}
    marks = (5, 25, 50, 75, 90, 95, 99)
    values = np.percentile(lengths, marks)
    long = int((lengths > LONG).sum())
    return {
        "documents": len(lengths),
        "tokens": int(lengths.sum()),
        "longest": int(lengths.max()),
        "mean": round(float(lengths.mean()), 1),
        "above_1024": long,
        "share_above_1024": round(long / len(lengths), 4),
        "share_of_tokens_above_1024": round(float(lengths[lengths > LONG].sum() / lengths.sum()), 4),
        "percentiles": {f"p{mark}": round(float(value)) for mark, value in zip(marks, values, strict=True)},
    }


def write_report(manifest: Mapping[str, Any], ledger: Mapping[str, Any], statistics: Statistics) -> str:
    """The report as Markdown."""
    tokenizer, lengths = manifest["tokenizer"], manifest["lengths"]
    documents, tokens = manifest["documents"], manifest["tokens"]
    rows = [
        ("documents", f"{lengths['documents']:,}"),
        ("of them train / validation", f"{documents['train']:,} / {documents['validation']:,}"),
        ("rejected (files and records, see below)", f"{ledger['documents']['rejected']:,}"),
        ("languages", ", ".join(f"{name} {count:,}" for name, count in manifest["languages"].items())),
        ("characters", f"{statistics.characters:,}"),
        ("bytes of text (UTF-8)", f"{statistics.bytes:,}"),
        ("tokens (one EOS a document included)", f"{lengths['tokens']:,}"),
        ("of them train / validation", f"{tokens['train']:,} / {tokens['validation']:,}"),
        ("tokens a character", f"{lengths['tokens'] / max(1, statistics.characters):.3f}"),
        ("documents above 1,024 tokens", f"{lengths['above_1024']:,} ({lengths['share_above_1024']:.1%})"),
        ("tokens in them", f"{lengths.get('share_of_tokens_above_1024', 0):.1%}"),
        ("longest document, tokens", f"{lengths['longest']:,}"),
        ("unknown tokens", f"{statistics.unknown_tokens:,}"),
        ("documents that spell out a special token", f"{statistics.documents_with_special_tokens:,}"),
    ]
    lines = ["# Prepared data", "", *_table(("what", "number"), rows)]
    lines += ["", "## Lengths in tokens", ""]
    lines += _table(("percentile", "tokens"), [(name, f"{v:,}") for name, v in lengths["percentiles"].items()])
    lines += ["", "## Cuts: where a document may be divided if it does not fit in a block", ""]
    cuts = [
        (level, f"{count:,}", f"{lengths['tokens'] / count:,.0f}" if count else "-")
        for level, count in ((name, statistics.cuts.get(name, 0)) for name in ("section", "paragraph", "sentence"))
    ]
    lines += _table(("level", "cuts", "tokens a cut"), cuts)
    lines += ["", f"{statistics.documents_without_cuts:,} documents have no cut at all."]
    if not tokenizer["has_offsets"]:
        lines += ["The tokenizer has no fast version, so no cuts could be found: long documents are divided at tokens."]
    lines += ["", "## Rejected documents", ""]
    reasons = sorted(ledger["documents"]["rejected_by_reason"].items())
    lines += _table(("reason", "documents"), [(r, f"{n:,}") for r, n in reasons]) if reasons else ["None."]
    lines += _steps(ledger)
    lines += ["", "## Sources", "", *_sources(statistics.sources), ""]
    lines += ["## Tokenizer", "", *_table(("what", "value"), [(k, f"`{v}`") for k, v in sorted(tokenizer.items())])]
    return "\n".join(lines) + "\n"


def _steps(ledger: Mapping[str, Any]) -> list[str]:
    """What each step did: documents and characters in and out, then its rejects and changes by name."""
    rows, detail = [], []
    for name, numbers in ledger["steps"].items():
        documents, characters = numbers["documents"], numbers["characters"]
        change = characters["out"] - characters["in"]
        rows.append((f"`{name}`", *(f"{n:,}" for n in (*documents.values(), *characters.values())), f"{change:+,}"))
        detail += [(f"`{name}`", f"rejected: {reason}", f"{each['documents']:,}")
                   for reason, each in numbers["rejected"].items()]  # fmt: skip
        detail += [(f"`{name}`", what, f"{number:,}") for what, number in numbers["counts"].items()]
    head = ("step", "documents in", "out", "characters in", "out", "change")
    lines = ["", "## Steps", "", "In = out + rejected by reason, checked for every step.", "", *_table(head, rows)]
    if detail:
        lines += ["", "### What they did", "", *_table(("step", "what", "number"), detail)]
    benchmarks = ledger["steps"].get("decontaminate", {}).get("histograms", {})
    if benchmarks:
        lines += ["", "### Benchmarks found in the documents", ""]
        matches = benchmarks.get("matches", {})
        found = [(f"`{name}`", f"{number:,}", f"{matches.get(name, 0):,}")
                 for name, number in benchmarks.get("documents_with_matches", {}).items()]  # fmt: skip
        lines += _table(("benchmark", "documents", "matches"), found)
    copies = ledger["copies"]
    if copies.get("listed"):
        shown = copies["listed"][:_ROWS]
        said = f"{copies['documents']:,} documents and {copies['sections']:,} sections; the ledger lists the first"
        lines += ["", "### Copies", ""]
        lines += [f"{said} {len(copies['listed']):,}, `{copies['all_of_them']}` all of them.", ""]
        lines += _table(("document", "what it was"), [(f"`{each['id']}`", each["detail"]) for each in shown])
    return lines


def _sources(sources: Mapping[str, list[int]]) -> list[str]:
    ordered = sorted(sources.items(), key=lambda item: (-item[1][3], item[0]))
    rows: list[tuple[str, ...]] = [
        (f"`{name}`", f"{docs:,}", f"{characters:,}", f"{tokens:,}", f"{tokens / max(1, characters):.3f}")
        for name, (docs, characters, _, tokens) in ordered[:_ROWS]
    ]
    if len(ordered) > _ROWS:
        rest = [sum(row[i] for _, row in ordered[_ROWS:]) for i in (0, 1, 3)]
        others = f"{len(ordered) - _ROWS:,} others"
        rows.append((others, *(f"{value:,}" for value in rest), f"{rest[2] / max(1, rest[1]):.3f}"))
    return _table(("source", "documents", "characters", "tokens", "tokens a character"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
