"""`medscroll VERB ...`: finds the verb, runs it, and turns a user's mistake into a message and exit code 2.

A verb's module is imported only when it is called, so `medscroll --help` takes a fraction of a second.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import time
from collections.abc import Callable

from medscroll import __version__
from medscroll.errors import CapacityError, ConfigError, UserError

SECONDS_FOR_LOCAL_RANK_0 = 5.0

VERBS = {
    "sample": "write a synthetic bilingual corpus of made-up medical documents, for demos and tests",
    "prepare": "raw files to clean documents to a token store, with ledger and report; resumable",
    "pack": "what packing would do: blocks, fill, cut documents, balance, against concatenate-and-truncate",
    "inspect": "the tokens of a block: borders, cuts, context, targets",
    "plan": "what fits on a cluster, how fast, at what price, and why; writes recipe, DeepSpeed JSON, launch scripts",
    "pretrain": "train a language model on whole documents, on one process or on many (torchrun)",
    "watch": "a live view of runs: terminal, page, file, JSON, Prometheus",
    "export": "the trained model of a run or checkpoint as one Hugging Face folder (adapters merged), checked",
    "chat": "talk to the trained model of a run, checkpoint or export",
    "doctor": "the environment: versions, GPUs, attention backends, collectives, disk",
}


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Nothing phones home, whatever the libraries' own defaults are.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"medscroll {__version__}")
        return 0
    return _run(words)


def _run(words: list[str]) -> int:
    try:
        return _verb(words[0])(words[1:])
    except UserError as error:
        _report(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _report(CapacityError("no space is left on the disk", error.filename, "free some, or write elsewhere"))
    return UserError.exit_code


def _report(error: UserError) -> None:
    """Print a mistake once a node: the other ranks usually meet the same one, and are ended with the first that exits.

    A rank that is still alive after the wait met it alone, and says so.
    """
    rank, local_rank = os.environ.get("RANK", "0"), os.environ.get("LOCAL_RANK", "0")
    if local_rank != "0":
        time.sleep(SECONDS_FOR_LOCAL_RANK_0)
    place = f" (rank {rank})" if rank != "0" else ""
    print(f"medscroll: error{place}: {error}", file=sys.stderr, flush=True)


def _verb(name: str) -> Callable[[list[str]], int]:
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=1)
        remedy = f"did you mean `medscroll {near[0]}`?" if near else f"one of: {', '.join(VERBS)}"
        raise ConfigError(f"unknown verb {name!r}", remedy=remedy)
    verb: Callable[[list[str]], int] = importlib.import_module(f"medscroll.cli.{name}").main
    return verb


def _help() -> str:
    width = max(map(len, VERBS))
    lines = ["usage: medscroll VERB ...      (medscroll VERB --help says more)", ""]
    lines += [f"  {name:<{width}}  {summary}" for name, summary in VERBS.items()]
    return "\n".join([*lines, "", "  medscroll --version"])


def run() -> None:
    """The console script: exits with `main`'s code."""
    sys.exit(main())
