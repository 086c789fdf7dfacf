"""`medscroll inspect DATA [--block I]`: the tokens of a block as they are trained on, in colour where there is one.

Each piece shows its document, where it was cut, its context (not a target), its first token where that is no target,
and its targets, with the places where the document could have been divided: § section, ¶ paragraph, | sentence.
It prints corpus text, on purpose and only to the terminal; control characters are made visible.
Cost: the tokenizer, and the pack plan (found again in DATA/plans after the first time).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medscroll.cli.pack import PreparedSplit, open_split
from medscroll.errors import ConfigError

SUMMARY = "the tokens of a block: borders, cuts, context, targets"
_MARKS = {1: "§", 2: "¶", 3: "|"}
_STYLES = {"context": "dim", "bos": "dim", "first": "yellow", "targets": "green"}
_LISTED = 20


@dataclass
class InspectArguments(PreparedSplit):
    """What to show, and how it is packed."""

    block: int | None = field(default=None, metadata={"help": "Which block; default: a list of the first ones."})
    tokens: int = field(default=200, metadata={"help": "Tokens shown of each piece, from both ends; 0: all."})
    block_size: int = field(default=4096, metadata={"help": "Most tokens in a row."})
    tokenizer_name_or_path: str | None = field(
        default=None, metadata={"help": "Tokenizer; default: the one that the data was prepared with."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that the tokenizer brings."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads from the hub are kept."})
    json: bool = field(default=False, metadata={"help": "Print pieces and positions as JSON, without text."})


def main(argv: list[str]) -> int:
    """Runs the verb; returns 0. Mistakes of the user are raised as `UserError`."""
    from medscroll.config.parse import Positional, parse_arguments

    positional = Positional(field="data_dir", many=False, help="folder made by `medscroll prepare`")
    (arguments,) = parse_arguments(argv, (InspectArguments,), verb="inspect", positional=positional)
    from medscroll.packing.dataset import PackedDataset
    from medscroll.packing.plan import load_or_pack

    store, _ = open_split(arguments.data_dir, arguments.split)
    plan = load_or_pack(
        store,
        Path(arguments.data_dir) / "plans",
        block_size=arguments.block_size,
        **arguments.settings(),
    )
    blocks = PackedDataset(store, plan)
    if arguments.block is not None and not 0 <= arguments.block < len(blocks):
        raise ConfigError(
            f"there is no block {arguments.block}", where="--block", remedy=f"give 0 to {len(blocks) - 1}"
        )
    shown = range(min(_LISTED, len(blocks))) if arguments.block is None else [arguments.block]
    entries = [_entry(blocks, store, index) for index in shown]
    if arguments.json:
        print(json.dumps({"blocks": len(blocks), "plan_digest": plan.digest, "shown": entries}, ensure_ascii=False))
    elif arguments.block is None:
        _print_list(entries, len(blocks), plan)
    else:
        _print_block(entries[0], blocks, _View(store, _tokenizer(arguments), arguments.tokens))
    return 0


def _tokenizer(arguments: InspectArguments) -> Any:
    from medscroll.model.load import load_tokenizer
    from medscroll.packing.job import prepared_tokenizer

    name = arguments.tokenizer_name_or_path or prepared_tokenizer(arguments.data_dir)
    return load_tokenizer(name, trust_remote_code=arguments.trust_remote_code, cache_dir=arguments.cache_dir)


def _entry(blocks: Any, store: Any, index: int) -> dict[str, Any]:
    """A block in figures: its pieces with the ids of their documents, and where each stands in the row."""
    plan = blocks.plan
    pieces, at = blocks.describe(index), 0
    for piece in pieces:
        piece["id"], piece["length"] = store.ids[piece["document"]], int(store.lengths[piece["document"]])
        piece["row"] = [at, at + piece["tokens"]]
        at += piece["tokens"]
    return {
        "block": index,
        "tokens": int(plan.block_lengths[index]),
        "targets": int(plan.block_targets[index]),
        "pieces": pieces,
    }


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(width=160, highlight=False, markup=False, emoji=False)


def _print_list(entries: list[dict[str, Any]], number: int, plan: Any) -> None:
    from rich.table import Table

    title = f"{number:,} blocks of at most {plan.block_size:,} tokens; the first {len(entries)}"
    table = Table(title=title, title_justify="left", caption="--block N shows the text of one", caption_justify="left")
    for name in ("block", "tokens", "fill", "targets", "pieces", "continuations"):
        table.add_column(name, justify="right")
    table.add_column("documents", overflow="fold")
    for entry in entries:
        pieces = entry["pieces"]
        names = [piece["id"] for piece in pieces[:3]]
        more = f" and {len(pieces) - 3} more" if len(pieces) > 3 else ""
        table.add_row(
            str(entry["block"]),
            f"{entry['tokens']:,}",
            f"{100 * entry['tokens'] / plan.block_size:.1f} %",
            f"{entry['targets']:,}",
            str(len(pieces)),
            str(sum(piece["start"] > 0 for piece in pieces)),
            visible(", ".join(names)) + more,
        )
    _console().print(table)


class _View(NamedTuple):
    """How text is shown: the store, the tokenizer, and how many tokens of a part (0: all)."""

    store: Any
    tokenizer: Any
    tokens: int


def _print_block(entry: dict[str, Any], blocks: Any, view: _View) -> None:
    from rich.text import Text

    console = _console()
    ids, labels, _ = blocks.arrays(entry["block"])
    fill = 100 * entry["tokens"] / blocks.plan.block_size
    console.print(
        Text(
            f"block {entry['block']}: {entry['tokens']:,} tokens ({fill:.1f} %), {entry['targets']:,} targets, "
            f"{len(entry['pieces'])} {'piece' if len(entry['pieces']) == 1 else 'pieces'}",
            style="bold",
        )
    )
    console.print(Text("§ ¶ | : where the document could be divided (section, paragraph, sentence)", style="dim"))
    for number, piece in enumerate(entry["pieces"], 1):
        console.print(Text(_header(number, piece, len(entry["pieces"])), style="bold cyan"))
        begin, end = piece["row"]
        for kind, start, stop in segments(piece, labels[begin:end]):
            text = _decoded(ids[begin:end], (start, stop), piece, view)
            console.print(Text.assemble((f"{kind:>8} ", "bold"), (text, _STYLES[kind])), soft_wrap=True)
        if piece["stop"] < piece["length"]:
            console.print(Text(f"    … {piece['length'] - piece['stop']:,} more tokens elsewhere", style="dim"))


def _header(number: int, piece: dict[str, Any], pieces: int) -> str:
    from medscroll.packing.cuts import LEVEL_NAMES

    begins = f"begins at a {LEVEL_NAMES[piece['level']]} cut" if piece["start"] else "begins the document"
    context = f", {piece['context']} context tokens" if piece["context"] else ""
    return (
        f"── piece {number} of {pieces} ── document {piece['document']} ({visible(piece['id'])}) ── tokens "
        f"{piece['start']:,} to {piece['stop']:,} of {piece['length']:,} ── row {piece['row'][0]:,} to "
        f"{piece['row'][1]:,} ── {begins}{context}"
    )


def segments(piece: dict[str, Any], labels: np.ndarray) -> list[tuple[str, int, int]]:
    """The parts of a piece: (bos, context, first or targets; start; stop) in its row, none of them empty.

    Args:
        labels: int64 [tokens of the piece].
    """
    lead = piece["tokens"] - (piece["stop"] - piece["start"])
    targets = np.flatnonzero(labels != -100)
    first = int(targets[0]) if len(targets) else len(labels)
    borders = [("bos", lead - piece["context"]), ("context", lead), ("first", first), ("targets", len(labels))]
    parts, at = [], 0
    for kind, stop in borders:
        if stop > at:
            parts.append((kind, at, stop))
            at = stop
    return parts


def _decoded(ids: np.ndarray, span: tuple[int, int], piece: dict[str, Any], view: _View) -> str:
    """Tokens of a piece, from span[0] to before span[1], as text with marks at cuts; the middle is left out."""
    start, stop = span
    if view.tokens and stop - start > view.tokens:
        head, tail, whole = start + (view.tokens + 1) // 2, stop - view.tokens // 2, view._replace(tokens=0)
        left, right = _decoded(ids, (start, head), piece, whole), _decoded(ids, (tail, stop), piece, whole)
        return f"{left} … {tail - head:,} tokens … {right}"
    lead = len(ids) - (piece["stop"] - piece["start"])
    positions, levels = view.store.cuts[piece["document"]]
    inside = positions - piece["start"] + lead  # positions in the document to positions in the piece's row
    keep = (inside > start) & (inside < stop)
    text, at = "", start
    for cut, level in [*zip(inside[keep].tolist(), levels[keep].tolist(), strict=True), (stop, 0)]:
        part = view.tokenizer.decode(ids[at:cut].tolist(), clean_up_tokenization_spaces=False)
        text, at = text + visible(part) + _MARKS.get(level, ""), cut
    return text


def visible(text: str) -> str:
    """The text on one line, with control characters (a terminal would obey them) replaced."""
    return "".join(c if c.isprintable() else "⏎" if c == "\n" else " " if c in "\t\u3000\xa0" else "�" for c in text)
