"""Parts: slices of the documents shards, tokenized in parallel processes, each a small token store of its own.

A part is a folder `<key>` with a store for each split and `statistics.json`. It is written under a temporary name and
renamed when it is on disk, so a folder of that name is whole, whenever a process was killed. The processes are
spawned (no state is inherited, no thread of the tokenizer is forked), load one tokenizer each, and end with their
parent. Cost: see encoder.py; a process takes some seconds to start, so little work is done in the calling process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from medscroll.corpus.document import Document
from medscroll.corpus.files import sync_directory
from medscroll.corpus.readers_records import SPLIT_KEY
from medscroll.corpus.stage import read_shard
from medscroll.errors import CapacityError
from medscroll.packing.cuts import LEVEL_NAMES, RULES_VERSION, find_cuts
from medscroll.packing.encoder import LARGE_DOCUMENT, DocumentEncoder
from medscroll.packing.files import write_private
from medscroll.packing.statistics import Statistics, source_group
from medscroll.packing.store import TokenStoreWriter, token_dtype

SLICE_CHARACTERS = 2_000_000
FORMAT_VERSION = 1


@dataclass(frozen=True)
class TokenSettings:
    """What decides ids, cuts and split, besides the documents.

    `validation_fraction` is of documents, by hash of their text; it plays no part where the sources of the two
    splits are given apart.
    """

    tokenizer_name: str
    trust_remote_code: bool
    cache_dir: str | None
    fingerprint: str
    vocab_size: int
    eos_token_id: int
    adds_bos: bool
    validation_fraction: float

    def key(self) -> str:
        """A hash of what decides the content (not of where the tokenizer lies)."""
        decisive = [FORMAT_VERSION, RULES_VERSION, self.fingerprint, self.vocab_size, self.eos_token_id]
        return xxhash.xxh3_128_hexdigest(json.dumps([*decisive, self.adds_bos, self.validation_fraction]).encode())

    def writer(self, prefix: Path) -> TokenStoreWriter:
        """A writer of a store for this tokenizer."""
        return TokenStoreWriter(
            prefix,
            token_dtype(self.vocab_size),
            eos_token_id=self.eos_token_id,
            vocab_size=self.vocab_size,
            adds_bos=self.adds_bos,
        )


@dataclass(frozen=True)
class Slice:
    """Documents start..stop-1 of a shard, to become the part `key`; `split` where the sources decide it."""

    shard: str
    start: int
    stop: int
    characters: int
    split: str | None
    key: str
    parts_dir: str


def split_of(content_hash: str, validation_fraction: float) -> str:
    """The split, "train" or "validation", by the hash of the text (32 hexadecimal digits) alone.

    So it stays the same when other documents are added, and equal texts never stand in both.
    """
    return "validation" if int(content_hash[:13], 16) < validation_fraction * 16**13 else "train"


def split_key(document: Document) -> str:
    """What decides the split: the key of --split_by where the document has one, else the hash of its text."""
    return str(document.metadata.get(SPLIT_KEY) or document.content_hash)


_encoder: DocumentEncoder | None = None
_counter: Any = None  # shared: characters tokenized so far
_large: Any = None  # shared lock: one very long document at a time


def _start_worker(settings: TokenSettings, counter: Any, large: Any, parent: int) -> None:
    global _encoder, _counter, _large
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    _encoder = DocumentEncoder(
        settings.tokenizer_name, trust_remote_code=settings.trust_remote_code, cache_dir=settings.cache_dir
    )
    _counter, _large = counter, large


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def tokenize_slice(task: Slice, settings: TokenSettings, encoder: DocumentEncoder | None = None) -> None:
    """Writes one part: a store for each split and `statistics.json`, under a temporary name, then renames it."""
    encoder = encoder or _encoder
    if encoder is None:
        raise RuntimeError("tokenize_slice needs an encoder")
    folder = Path(task.parts_dir) / task.key
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700, parents=True)
    statistics = Statistics()
    with settings.writer(temporary / "train") as train, settings.writer(temporary / "validation") as validation:
        for document in islice(read_shard(Path(task.shard)), task.start, task.stop):
            split = task.split or split_of(split_key(document), settings.validation_fraction)
            writer = train if split == "train" else validation
            _add_document(document, encoder, writer, statistics)
            if _counter is not None:
                with _counter.get_lock():
                    _counter.value += len(document.text)
        statistics.train_documents, statistics.validation_documents = train.num_documents, validation.num_documents
    write_private(temporary / "statistics.json", asdict(statistics))
    sync_directory(temporary)
    temporary.rename(folder)


def _add_document(
    document: Document, encoder: DocumentEncoder, writer: TokenStoreWriter, statistics: Statistics
) -> None:
    text = document.text
    if _large is not None and len(text) >= LARGE_DOCUMENT:
        with _large:
            encoded = encoder.encode(text, document.id)
    else:
        encoded = encoder.encode(text, document.id)
    positions, levels = np.empty(0, np.int32), np.empty(0, np.uint8)
    if encoded.offsets is not None:
        positions, levels = find_cuts(text, document.sections, encoded.offsets)
    size = len(text.encode("utf-8"))
    writer.add(encoded.ids, positions, levels, size, document.id)
    row = [1, len(text), size, len(encoded.ids)]
    statistics.documents += 1
    statistics.characters += row[1]
    statistics.bytes += size
    statistics.tokens += row[3]
    statistics.documents_with_special_tokens += encoded.specials > 0
    statistics.unknown_tokens += encoded.unknown
    statistics.documents_without_cuts += len(levels) == 0
    for level, count in enumerate(np.bincount(levels, minlength=1)):
        if count:
            name = LEVEL_NAMES[level]
            statistics.cuts[name] = statistics.cuts.get(name, 0) + int(count)
    statistics.add_source(source_group(document), row)


def run_slices(
    tasks: list[Slice],
    settings: TokenSettings,
    encoder: DocumentEncoder,
    num_workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Makes the parts of all tasks; `progress` is called with (characters done, characters to do).

    Raises:
        CapacityError: a document does not fit in memory, or a process was killed for it.
        DataError: a shard or document cannot be used.
    """
    total = sum(task.characters for task in tasks)
    workers = min(num_workers, len(tasks))
    if workers <= 1 or total < SLICE_CHARACTERS:  # starting processes would take longer than the work
        done = 0
        for task in tasks:
            tokenize_slice(task, settings, encoder)
            done += task.characters
            if progress:
                progress(done, total)
        return
    context = multiprocessing.get_context("spawn")
    counter, large = context.Value("q", 0), context.Lock()
    initial = (settings, counter, large, os.getpid())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=initial)
    try:
        waiting: set[Future[None]] = {pool.submit(tokenize_slice, task, settings) for task in tasks}
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            if progress:
                progress(min(counter.value, total), total)
    except BrokenProcessPool as error:
        raise CapacityError(
            "a tokenizing process was ended from outside, most often because memory ran out",
            remedy="give fewer --num_workers and run the same command again: finished parts are kept",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
