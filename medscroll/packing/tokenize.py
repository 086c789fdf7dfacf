"""Documents shards to token stores: slices tokenized in parallel processes, then merged in the order of the documents.

    documents/*.jsonl.zst -> slices of about 2 million characters -> tokens/parts/<key>/ -> tokens/{train,validation}.*

A part is finished when its folder has its name (it is renamed there, after fsync), and the name is a hash of all
that decides its content: the shard's bytes, the slice, the tokenizer, the settings. So a run that was killed goes on
with the parts that it finds, and after a change only the shards that changed are tokenized: the others are copied
from the present store, whose `index.json` says which documents came from which shard. The merged store replaces the
old one by renaming a folder. The result does not depend on the number of processes, on kills, or on what was reused.
Cost: 1 or 2 MB of text a second and core; disk for the tokens twice until the merge is done; memory for one document
and a tokenizer a process.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from medscroll.corpus.stage import read_shard
from medscroll.packing.encoder import DocumentEncoder
from medscroll.packing.merge import MergedShard, merge, part_run, present_runs, read_index, recover, store_opens
from medscroll.packing.parts import SLICE_CHARACTERS, Slice, TokenSettings, run_slices
from medscroll.packing.statistics import Statistics


@dataclass(frozen=True)
class ShardInput:
    """A documents shard: its path, its name in the index, the split where the sources decide it."""

    path: Path
    name: str
    split: str | None = None


def tokenize_shards(
    shards: list[ShardInput],
    tokens_dir: Path,
    settings: TokenSettings,
    encoder: DocumentEncoder,
    *,
    num_workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """Makes `tokens_dir/{train,validation}.*` from the shards, reusing what is there.

    Args:
        shards: in the order that the documents shall have.
        progress: called with (characters done, characters to do) of what has to be tokenized.

    Returns:
        the counts over all documents of the store.

    Raises:
        CapacityError: a document does not fit in memory, or a process was killed for it.
        DataError: a shard or document cannot be used.
    """
    recover(tokens_dir)
    index = read_index(tokens_dir)
    present = present_runs(tokens_dir, index) if index is not None and store_opens(tokens_dir) else {}
    keys = [_shard_key(shard, settings) for shard in shards]
    parts_dir = tokens_dir.with_name(tokens_dir.name + ".parts")
    if index is not None and list(present) == keys:
        shutil.rmtree(parts_dir, ignore_errors=True)
        return _total(present.values())
    parts_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    slices = {
        key: list(_slices(shard, key, parts_dir)) for shard, key in zip(shards, keys, strict=True) if key not in present
    }
    tasks = [task for of_shard in slices.values() for task in of_shard]
    _clean_parts(parts_dir, {task.key for task in tasks})
    missing = [task for task in tasks if not (parts_dir / task.key).is_dir()]
    run_slices(missing, settings, encoder, num_workers, progress)
    merged = [
        present[key] if key in present else _from_parts(shard, key, slices[key], parts_dir)
        for shard, key in zip(shards, keys, strict=True)
    ]
    merge(merged, tokens_dir, settings)
    shutil.rmtree(parts_dir)
    return _total(merged)


def tokenize_parts(
    shards: list[ShardInput], tokens_dir: Path, settings: TokenSettings, encoder: DocumentEncoder, *, num_workers: int
) -> None:
    """Makes the parts of some shards and leaves them for a later `tokenize_shards` over all of them."""
    parts_dir = tokens_dir.with_name(tokens_dir.name + ".parts")
    parts_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    tasks = [task for shard in shards for task in _slices(shard, _shard_key(shard, settings), parts_dir)]
    missing = [task for task in tasks if not (parts_dir / task.key).is_dir()]
    run_slices(missing, settings, encoder, num_workers, None)


def _from_parts(shard: ShardInput, key: str, slices: list[Slice], parts_dir: Path) -> MergedShard:
    total, runs = Statistics(), []
    for task in slices:
        run, statistics = part_run(parts_dir, task.key)
        total.add(statistics)
        runs.append(run)
    return MergedShard(shard.name, key, total, runs)


def _total(shards: Iterable[MergedShard]) -> Statistics:
    total = Statistics()
    for shard in shards:
        total.add(shard.statistics)
    return total


def _shard_key(shard: ShardInput, settings: TokenSettings) -> str:
    digest = xxhash.xxh3_128()
    with shard.path.open("rb") as handle:
        while chunk := handle.read(1 << 22):
            digest.update(chunk)
    return xxhash.xxh3_128_hexdigest(f"{digest.hexdigest()}/{shard.split}/{settings.key()}".encode())


def _slices(shard: ShardInput, shard_key: str, parts_dir: Path) -> Iterator[Slice]:
    """Consecutive documents of a shard, about `SLICE_CHARACTERS` together; reads the shard once."""
    start = stop = characters = 0

    def finish() -> Slice:
        key = xxhash.xxh3_128_hexdigest(f"{shard_key}/{start}/{stop}".encode())
        return Slice(str(shard.path), start, stop, characters, shard.split, key, str(parts_dir))

    for document in read_shard(shard.path):
        stop += 1
        characters += len(document.text)
        if characters >= SLICE_CHARACTERS:
            yield finish()
            start, characters = stop, 0
    if stop > start:
        yield finish()


def _clean_parts(parts_dir: Path, wanted: set[str]) -> None:
    for folder in parts_dir.iterdir():
        if folder.name not in wanted:
            shutil.rmtree(folder)
