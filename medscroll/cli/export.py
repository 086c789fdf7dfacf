"""`medscroll export RUN`: the trained model as one plain Hugging Face folder, adapters merged, checked whole."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from medscroll.errors import ConfigError

SUMMARY = "the trained model of a run or checkpoint as one Hugging Face folder (adapters merged), checked"


@dataclass
class ExportArguments:
    """What to export, and where to."""

    source: str = field(default="", metadata={"help": "Run folder, checkpoint or adapter."})
    output_dir: str | None = field(default=None, metadata={"help": "Where to write; default: SOURCE/exported."})
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Precision of the exported weights; auto: as saved.",
            "choices": ["auto", "bfloat16", "float16", "float32"],
        },
    )
    json: bool = field(default=False, metadata={"help": "Print the result as JSON."})

    def __post_init__(self) -> None:
        if not self.source:
            raise ConfigError("no run given", where="medscroll export RUN", remedy="name a run folder or checkpoint")


def main(argv: list[str]) -> int:
    """Runs the verb; see `medscroll export --help`."""
    from medscroll.config.parse import Positional, parse_arguments

    (arguments,) = parse_arguments(
        argv,
        (ExportArguments,),
        verb="export",
        positional=Positional(field="source", many=False, help="run folder, checkpoint or adapter"),
    )
    from medscroll.model.export import export

    folder = export(arguments.source, arguments.output_dir, dtype=arguments.dtype)
    files = sorted(path.name for path in folder.iterdir())
    size = sum(path.stat().st_size for path in folder.iterdir())
    if arguments.json:
        print(json.dumps({"output_dir": str(folder), "bytes": size, "files": files}))
    else:
        print(f"exported to {folder}: {len(files)} files, {size / 1e9:.2f} GB; loads, and every weight is finite")
    return 0
