"""`medscroll pack DATA --block_size 4096,16384`: what packing would do with prepared data, one column a block size.

Nothing is written: training packs by itself. The attention cost that balance needs is that of a model with
`--hidden_size`: one token costs 12 x hidden_size squared tokens of attention outside it (24 h^2 against 2 h FLOPs a
pair, causal, per layer), times the measured ratio of both speeds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medscroll.errors import ConfigError, DataError

SUMMARY = "what packing would do: blocks, fill, cut documents, balance, against concatenate-and-truncate"


@dataclass
class PreparedSplit:
    """Which prepared data, and the packing settings that `pack` and `inspect` share with training."""

    data_dir: str = field(default="", metadata={"help": "Folder made by `medscroll prepare`."})
    split: str = field(default="train", metadata={"help": "Which split.", "choices": ["train", "validation"]})
    group_by_text: bool = field(default=True, metadata={"help": "Keep documents whole; false: concatenate and chunk."})
    overlong: str = field(
        default="split",
        metadata={
            "help": "What happens to documents longer than a block.",
            "choices": ["split", "truncate", "drop", "error"],
        },
    )
    context_tokens: int = field(
        default=64, metadata={"help": "Tokens before a continuation that are repeated as context, without loss."}
    )
    packing_seed: int = field(default=0, metadata={"help": "Seed of the windows of best-fit packing."})

    def settings(self) -> dict[str, Any]:
        """As keyword arguments of `medscroll.packing.pack`, without the block size."""
        return {
            "group_by_text": self.group_by_text,
            "overlong": self.overlong,
            "context_tokens": self.context_tokens,
            "seed": self.packing_seed,
        }


@dataclass
class PackArguments(PreparedSplit):
    """What to pack, and how."""

    block_size: str = field(
        default="1024,2048,4096,8192,16384,32768",
        metadata={"help": "Most tokens in a row; several with commas: one column each."},
    )
    long_text_threshold: int = field(default=1024, metadata={"help": "Tokens above which a text is called long."})
    hidden_size: int = field(default=4096, metadata={"help": "Of the model, for the figures of balance."})
    json: bool = field(default=False, metadata={"help": "Print the figures as JSON."})

    def __post_init__(self) -> None:
        self.block_sizes()

    def block_sizes(self) -> list[int]:
        """The block sizes asked for.

        Raises:
            ConfigError: something that is no number above 0.
        """
        words = [word.strip().replace("_", "") for word in str(self.block_size).split(",") if word.strip()]
        if not words or not all(word.isdigit() and int(word) > 0 for word in words):
            raise ConfigError(
                f"block sizes are numbers above 0 with commas between them, not {self.block_size!r}",
                where="--block_size",
                remedy="for example --block_size 4096,16384",
            )
        return [int(word) for word in words]


def open_split(data_dir: str, split: str) -> tuple[Any, dict[str, Any]]:
    """The token store of a split, and the manifest of prepared data.

    Raises:
        ConfigError: no folder is named.
        DataError: it holds no prepared data, or the split has no documents.
    """
    from medscroll.packing.job import read_manifest
    from medscroll.packing.store import TokenStore

    if not data_dir:
        raise ConfigError("no data is named", where="DATA", remedy="give the folder that `medscroll prepare` made")
    manifest = read_manifest(data_dir)
    store = TokenStore.open(Path(data_dir) / "tokens" / split)
    if len(store) == 0:
        raise DataError(f"the split {split!r} has no documents", where=data_dir, remedy="choose the other --split")
    return store, manifest


def main(argv: list[str]) -> int:
    """Runs the verb; returns 0. Mistakes of the user are raised as `UserError`."""
    from medscroll.config.parse import Positional, parse_arguments

    positional = Positional(
        field="data_dir", many=False, help="as --data_dir of pretrain: DATA, or MEDICAL,GENERAL=0.15"
    )
    (arguments,) = parse_arguments(argv, (PackArguments,), verb="pack", positional=positional)
    sources = open_sources(arguments.data_dir, arguments.split)
    figures = [_figures(sources, arguments, size) for size in arguments.block_sizes()]
    from medscroll.packing.compare import recommend

    advice = recommend(figures)
    if arguments.json:
        said = {"data_dir": arguments.data_dir, "split": arguments.split, "plans": figures, "recommended": advice}
        print(json.dumps(said))
    else:
        _print_table(figures, advice, arguments)
    return 0


def open_sources(data_dir: str, split: str) -> Any:
    """The folders of `--data_dir` as `pretrain` reads them, several with shares and repeats too.

    Raises:
        ConfigError: no folder is named, or it cannot be understood.
        DataError: a folder holds no prepared data, or the split has no documents.
    """
    from medscroll.packing.mixture import PreparedSources
    from medscroll.packing.sources import parse_sources

    folders = parse_sources(data_dir) if data_dir else []
    if len(folders) <= 1:
        open_split(str(folders[0].folder) if folders else "", split)
    prepared = PreparedSources(folders)
    if split == "validation" and not any(len(store) for _, store in prepared.validation):
        raise DataError(f"the split {split!r} has no documents", where=data_dir, remedy="choose the other --split")
    return prepared


def _figures(sources: Any, arguments: PackArguments, block_size: int) -> dict[str, Any]:
    from medscroll.packing.compare import outlook
    from medscroll.packing.cost import speed_ratio

    read = sources.training if arguments.split == "train" else sources.held_out
    threshold = arguments.long_text_threshold
    mixture = read(keep=False, block_size=block_size, long_text_threshold=threshold, **arguments.settings())
    return {"read": mixture.lines} | outlook(mixture.plan, linear_cost=12.0 * arguments.hidden_size * speed_ratio())


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share < 0.9995 or share == 1 else f"{100 * share:.3f} %"


def _lost(entry: dict[str, Any]) -> str:
    return f"{entry['tokens']:,} ({_percent(entry['share'])})"


def _balance(entry: dict[str, float] | None) -> str:
    return f"{entry['dealt']:.3f} ({entry['undealt']:.3f})" if entry else "n/a"


def _rows(plan: dict[str, Any], time: float) -> list[tuple[str, str]]:
    """Name and value of each line of the table; an empty value is a heading. `time`: a token, relative."""
    long = plan["long"]
    return [
        ("blocks", f"{plan['blocks']:,}"),
        ("fill", _percent(plan["fill"])),
        ("documents whole", f"{plan['whole']:,}"),
        ("documents divided", f"{plan['divided']:,}"),
        ("tokens in whole documents", _percent(plan["whole_tokens"])),
        ("time a token, relative", f"{time:.2f}"),
        ("longest piece", f"{plan['longest_piece']:,}"),
        (f"above {long['threshold']:,} tokens", f"{long['documents']:,}"),
        ("  their tokens", f"{long['tokens']:,}"),
        ("where documents are cut", ""),
        *(
            (f"  at a {level}", _percent(share) if plan["continuations"] else "-")
            for level, share in plan["cut_shares"].items()
        ),
        ("context tokens repeated", f"{plan['context_tokens']:,}"),
        ("tokens lost", ""),
        ("  truncated", f"{plan['truncated']['tokens']:,}"),
        ("  dropped", f"{plan['dropped']['tokens']:,}"),
        ("  no targets without context", f"{plan['continuations_without_context']:,}"),
        ("tokens that others would lose", ""),
        ("  concatenate and truncate", _lost(plan["elsewhere"]["concatenate_and_truncate"])),
        ("  drop long documents", _lost(plan["elsewhere"]["drop_long"])),
        ("  truncate documents", _lost(plan["elsewhere"]["truncate"])),
        ("balance, dealt (as drawn)", ""),
        *((f"  {ranks} ranks", _balance(entry)) for ranks, entry in plan["balance"].items()),
    ]


def _print_table(figures: list[dict[str, Any]], advice: dict[str, Any], arguments: PackArguments) -> None:
    from rich.console import Console
    from rich.table import Table

    from medscroll.packing.compare import MICRO_STEPS

    first = figures[0]
    title = f"{arguments.data_dir}, {arguments.split}: {first['documents']:,} documents, {first['tokens']:,} tokens"
    caption = (
        f"overlong documents: {first['overlong']}. Balance: mean over maximum cost of the ranks in a micro step, one "
        f"row a rank, {MICRO_STEPS} micro steps a global batch, hidden size {arguments.hidden_size:,}; n/a: fewer "
        "blocks than one global batch. Nothing was written; `pretrain` packs by itself."
    )
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("block_size", no_wrap=True)
    for plan in figures:
        mark = " *" if plan["block_size"] == advice["block_size"] and len(figures) > 1 else ""
        table.add_column(f"{plan['block_size']:,}{mark}", justify="right", no_wrap=True)
    for cells in zip(*(_rows(plan, advice["time"][plan["block_size"]]) for plan in figures), strict=True):
        name, heading = cells[0][0], all(not value for _, value in cells)
        table.add_row(name, *(value for _, value in cells), style="bold" if heading else None)
    console = Console()
    if not console.is_terminal:  # a pipe has no width: nothing is cut off there
        console = Console(width=40 + 30 * len(figures))
    console.print(table)
    for line in first["read"]:
        print(line)
    if len(figures) > 1:
        print(
            f"Recommended of these: --block_size {advice['block_size']}: {advice['reason']}.\n"
            "The model needs that many positions, and `medscroll plan` says what fits in memory."
        )
