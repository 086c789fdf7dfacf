"""`medscroll prepare SRC... --output_dir DATA --tokenizer_name_or_path T`: raw files to a token store."""

from __future__ import annotations

import json

SUMMARY = "raw files to clean documents to a token store, with ledger and report; resumable"


def main(argv: list[str]) -> int:
    """Runs the verb; returns 0. Mistakes of the user are raised as `UserError`."""
    from medscroll.config.arguments import PrepareArguments
    from medscroll.config.parse import Positional, parse_arguments

    positional = Positional(field="sources", many=True, help="files and folders of raw texts")
    (arguments,) = parse_arguments(argv, (PrepareArguments,), verb="prepare", positional=positional)
    from medscroll.packing.prepare import prepare, read_manifest

    folder = prepare(arguments, quiet=arguments.json)
    if arguments.json:
        manifest = read_manifest(folder)
        ledger = json.loads((folder / "ledger.json").read_text("utf-8"))
        print(json.dumps({"output_dir": str(folder), "manifest": manifest, "ledger": ledger}, ensure_ascii=False))
    return 0
