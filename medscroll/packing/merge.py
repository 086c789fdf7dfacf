"""Merging: parts and pieces of the present store into a new token store that takes its place at once.

The new store is written beside the old one (`tokens.new`), `index.json` last, and exchanged by renaming folders; an
exchange that a kill interrupted is completed or taken back by `recover`. `index.json` says which documents came from
which shard, so that unchanged shards are copied the next time and not tokenized again. Cost: a copy of the tokens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medscroll.corpus.files import sync_directory
from medscroll.packing.files import write_private
from medscroll.packing.parts import FORMAT_VERSION, TokenSettings
from medscroll.packing.statistics import SPLITS, Statistics
from medscroll.packing.store import TokenStore


@dataclass(frozen=True)
class Run:
    """Documents start..stop-1 of an existing store, for each split; `stop` None: to the end."""

    folder: Path
    start: dict[str, int]
    stop: dict[str, int] | None = None


@dataclass(frozen=True)
class MergedShard:
    """What one documents shard brings into the new store."""

    name: str
    key: str
    statistics: Statistics
    runs: list[Run]


def read_index(tokens_dir: Path) -> dict[str, Any] | None:
    """The index of a finished tokens folder, None where there is none that this version wrote."""
    try:
        index = json.loads((tokens_dir / "index.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and index.get("format") == FORMAT_VERSION else None


def store_opens(tokens_dir: Path) -> bool:
    """Whether both splits are whole."""
    try:
        for split in SPLITS:
            TokenStore.open(tokens_dir / split)
    except Exception:  # whatever is wrong with it, it is made again
        return False
    return True


def recover(tokens_dir: Path) -> None:
    """Completes or takes back the exchange of folders that a kill may have interrupted."""
    new, old = _beside(tokens_dir)
    if not tokens_dir.exists():
        if read_index(new) is not None:
            new.rename(tokens_dir)
        elif old.exists():
            old.rename(tokens_dir)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)


def _beside(tokens_dir: Path) -> tuple[Path, Path]:
    return tokens_dir.with_name(tokens_dir.name + ".new"), tokens_dir.with_name(tokens_dir.name + ".old")


def present_runs(tokens_dir: Path, index: dict[str, Any]) -> dict[str, MergedShard]:
    """The shards of a finished store by key, in its order."""
    shards, at = {}, dict.fromkeys(SPLITS, 0)
    for entry in index["shards"]:
        statistics = Statistics(**entry["statistics"])
        counts = {"train": statistics.train_documents, "validation": statistics.validation_documents}
        stop = {split: at[split] + counts[split] for split in SPLITS}
        shards[entry["key"]] = MergedShard(entry["name"], entry["key"], statistics, [Run(tokens_dir, at, stop)])
        at = stop
    return shards


def part_run(parts_dir: Path, key: str) -> tuple[Run, Statistics]:
    """A finished part, whole."""
    folder = parts_dir / key
    statistics = Statistics(**json.loads((folder / "statistics.json").read_text("utf-8")))
    return Run(folder, dict.fromkeys(SPLITS, 0)), statistics


def merge(shards: Iterable[MergedShard], tokens_dir: Path, settings: TokenSettings) -> None:
    """Writes the store of `shards` in their order and puts it in the place of `tokens_dir`."""
    new, aside = _beside(tokens_dir)
    new.mkdir(mode=0o700, parents=True)
    entries: list[dict[str, Any]] = []
    opened: tuple[Path, dict[str, TokenStore]] | None = None  # the last folder: runs of one store follow each other
    with settings.writer(new / "train") as train, settings.writer(new / "validation") as validation:
        writers = {"train": train, "validation": validation}
        for shard in shards:
            for run in shard.runs:
                if opened is None or opened[0] != run.folder:
                    opened = run.folder, {split: TokenStore.open(run.folder / split) for split in SPLITS}
                for split, writer in writers.items():
                    store = opened[1][split]
                    writer.add_store(store, run.start[split], len(store) if run.stop is None else run.stop[split])
            entries.append({"name": shard.name, "key": shard.key, "statistics": asdict(shard.statistics)})
    write_private(new / "index.json", {"format": FORMAT_VERSION, "settings": settings.key(), "shards": entries})
    sync_directory(new)
    if tokens_dir.exists():
        tokens_dir.rename(aside)
    new.rename(tokens_dir)
    sync_directory(tokens_dir.parent)
    shutil.rmtree(aside, ignore_errors=True)
