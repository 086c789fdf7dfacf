"""`medscroll sample DIR`: writes a synthetic bilingual corpus of made-up medical documents, for demos and tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medscroll.corpus.synthetic_files import SampleSummary

SUMMARY = "write a synthetic bilingual corpus of made-up medical documents, for demos and tests"


@dataclass
class SampleArguments:
    """Flags of `medscroll sample`."""

    directory: str = field(metadata={"help": "the folder to write into (new, or empty)"})
    documents: int = field(default=200, metadata={"help": "how many documents"})
    seed: int = field(default=0, metadata={"help": "another seed gives another corpus"})
    max_characters: int = field(default=200_000, metadata={"help": "length of the longest documents"})
    validation_documents: int = field(
        default=0,
        metadata={"help": "write so many more into DIR/validation, and the others into DIR/train"},
    )
    overwrite: bool = field(default=False, metadata={"help": "replace a sample that DIR holds already"})
    json: bool = field(default=False, metadata={"help": "print the summary as JSON"})


def main(argv: list[str]) -> int:
    """Runs the verb; returns 0. Mistakes of the user are raised as `UserError`."""
    from medscroll.config.parse import Positional, parse_arguments
    from medscroll.corpus.synthetic_files import write_sample

    positional = Positional(field="directory", help="the folder to write into")
    (arguments,) = parse_arguments(argv, (SampleArguments,), verb="sample", positional=positional)
    folder = Path(arguments.directory)
    summary = write_sample(
        folder,
        documents=arguments.documents,
        seed=arguments.seed,
        max_characters=arguments.max_characters,
        validation_documents=arguments.validation_documents,
        overwrite=arguments.overwrite,
    )
    if arguments.json:
        print(json.dumps({"directory": str(folder), **summary.to_dict()}, ensure_ascii=False))
    else:
        _show(folder, summary, arguments)
    return 0


def _show(folder: Path, summary: SampleSummary, arguments: SampleArguments) -> None:
    """The summary as a table, and what to do next."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"made-up documents in {folder}", title_justify="left", show_header=False)
    rows = {
        "documents": f"{summary.documents:,}",
        "characters": f"{summary.characters:,} (longest document {summary.longest:,})",
        "on disk": f"{summary.bytes / 1e6:.2f} MB in {summary.files} files",
        "kinds": _counts(summary.kinds),
        "languages": _counts(summary.languages),
        "formats": _counts(summary.formats),
        "seed": str(arguments.seed),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    source = folder / "train" if arguments.validation_documents else folder
    console.print("The texts are invented and hold no medical knowledge. Next:", highlight=False)
    console.print(
        f"  medscroll prepare {source} --output_dir DATA --tokenizer_name_or_path TOKENIZER",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
