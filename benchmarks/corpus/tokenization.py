"""Tokenization as `medscroll prepare` does it, beside the tokenizer's own batched rate in the same run.

    python benchmarks/corpus/tokenization.py --runs 5         (corpora and tokenizer are looked for in ../shared)
    python benchmarks/corpus/tokenization.py --check
    python benchmarks/corpus/tokenization.py --book 2000000

The documents are those of `medscroll prepare` without steps. Contenders run in turn, each in a process of its own, on
`--workers` cores; imports and loading the tokenizer are not counted, but for `store`:

    offsets     the peer: tokenizer(batch of 16 documents, return_offsets_mapping=True), its own threads
    ids         the same without offsets
    encode      ours: ids and the characters of each token, in as many processes
    cuts        ours: the same, and the cuts
    store       ours: all of the stage: reading documents, ids, cuts, store, merging, the start of its processes

Printed is one JSON object a contender: medians of wall and processor seconds, and the rates over those of `offsets`.
`--check` compares ids and offsets of every document with `tokenizer(whole document)`; `--book` gives seconds and peak
memory of one document of that many characters, and of a quarter of it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONTENDERS = ("offsets", "ids", "encode", "cuts", "store")
CORPORA = ("pmc_articles_en", "tcm_classics_zh")


def read(corpora: Path, name: str, folder: Path) -> list[Any]:
    """The documents of a corpus, written to `folder/documents`."""
    from medscroll.corpus.stage import document_shards, read_shard, write_documents

    write_documents([corpora / name], folder)
    return [document for path in document_shards(folder) for document in read_shard(path)]


def seconds(start: float) -> float:
    """Wall seconds since."""
    return time.perf_counter() - start


def processor() -> float:
    """Processor seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peer(documents: list[Any], options: argparse.Namespace, offsets: bool) -> dict[str, float]:
    """The tokenizer's own batches, on as many threads as there are workers."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    texts = [document.text for document in documents]
    tokenizer(texts[:1], return_offsets_mapping=offsets, verbose=False)
    start, before = time.perf_counter(), processor()
    for first in range(0, len(texts), 16):
        tokenizer(texts[first : first + 16], return_offsets_mapping=offsets, verbose=False)
    return {"wall_s": seconds(start), "processor_s": processor() - before}


def encode(documents: list[Any], options: argparse.Namespace, cuts: bool) -> dict[str, float]:
    """Ours without the store: processes that have started and loaded the tokenizer share the documents."""
    context = multiprocessing.get_context("spawn")
    ready, results, at = context.Barrier(options.workers + 1), context.Queue(), context.Value("q", 0)
    job = (pickle.dumps((documents, str(options.tokenizer), cuts)), ready, at, results)
    workers = [context.Process(target=encode_share, args=job) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    used = [results.get() for _ in workers]
    wall = seconds(start)
    for worker in workers:
        worker.join()
    return {"wall_s": wall, "processor_s": sum(used)}


def encode_share(job: bytes, ready: Any, at: Any, results: Any) -> None:
    """One process: takes the next document until there is none; says the processor seconds that it took."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from medscroll.packing.cuts import find_cuts
    from medscroll.packing.encoder import DocumentEncoder

    documents, tokenizer, cuts = pickle.loads(job)
    encoder = DocumentEncoder(tokenizer)
    ready.wait()
    before = time.process_time()
    while True:
        with at.get_lock():
            number = at.value
            at.value += 1
        if number >= len(documents):
            break
        document = documents[number]
        encoded = encoder.encode(document.text, document.id)
        if cuts:
            find_cuts(document.text, document.sections, encoded.offsets)
    results.put(time.process_time() - before)


def store(folder: Path, options: argparse.Namespace, out: Path) -> dict[str, float]:
    """All of the stage."""
    from medscroll.corpus.stage import document_shards
    from medscroll.packing.encoder import DocumentEncoder
    from medscroll.packing.parts import TokenSettings
    from medscroll.packing.tokenize import ShardInput, tokenize_shards

    encoder = DocumentEncoder(str(options.tokenizer))
    settings = TokenSettings(
        str(options.tokenizer), False, None, encoder.fingerprint, encoder.vocab_size, encoder.eos_token_id,
        encoder.adds_bos, 0.0,
    )  # fmt: skip
    shards = [ShardInput(path, path.name) for path in document_shards(folder)]
    start, before = time.perf_counter(), processor()
    tokenize_shards(shards, out / "tokens", settings, encoder, num_workers=options.workers)
    return {"wall_s": seconds(start), "processor_s": processor() - before}


def contend(name: str, folder: Path, options: argparse.Namespace) -> None:
    """One contender's work in this process; prints what it took."""
    documents = pickle.loads((folder / "documents.pickle").read_bytes())
    if name == "store":
        with tempfile.TemporaryDirectory() as out:
            print(json.dumps(store(folder, options, Path(out))))
    elif name in ("offsets", "ids"):
        print(json.dumps(peer(documents, options, name == "offsets")))
    else:
        print(json.dumps(encode(documents, options, name == "cuts")))


def run(name: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """A contender in a process of its own."""
    command = [sys.executable, __file__, "--contender", name, "--folder", str(folder)]
    command += ["--tokenizer", str(options.tokenizer), "--workers", str(options.workers)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAYON_NUM_THREADS": str(options.workers)}
    environment |= {"TOKENIZERS_PARALLELISM": "true" if name in ("offsets", "ids") else "false"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def compare(options: argparse.Namespace) -> None:
    """All contenders in turn, on each corpus."""
    for corpus in options.corpus:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            documents = read(options.corpora, corpus, folder)
            (folder / "documents.pickle").write_bytes(pickle.dumps(documents))
            characters = sum(len(document.text) for document in documents)
            results: dict[str, list[dict[str, float]]] = {name: [] for name in options.only}
            for _ in range(options.runs):
                for name in options.only:
                    results[name].append(run(name, folder, options))
                    print(json.dumps({"contender": name, **results[name][-1]}), file=sys.stderr, flush=True)
        median = {name: {k: statistics.median(r[k] for r in runs) for k in runs[0]} for name, runs in results.items()}
        for name, of in median.items():
            shown = {"corpus": corpus, "contender": name, "runs": options.runs, "workers": options.workers}
            shown |= {key: round(value, 2) for key, value in of.items()}
            shown["characters_per_second"] = round(characters / of["wall_s"])
            shown["characters_per_processor_second"] = round(characters / of["processor_s"])
            if "offsets" in median:
                shown["of_offsets_wall"] = round(median["offsets"]["wall_s"] / of["wall_s"], 2)
                shown["of_offsets_processor"] = round(median["offsets"]["processor_s"] / of["processor_s"], 2)
            print(json.dumps(shown), flush=True)


def check(options: argparse.Namespace) -> None:
    """Ids and offsets of every document against the tokenizer's."""
    from medscroll.packing.encoder import DocumentEncoder

    encoder = DocumentEncoder(str(options.tokenizer))
    for corpus in options.corpus:
        with tempfile.TemporaryDirectory() as scratch:
            documents = read(options.corpora, corpus, Path(scratch))
        tokens = different = 0
        for document in documents:
            asked = encoder.tokenizer(document.text, return_offsets_mapping=True, verbose=False)
            ours = encoder.encode(document.text, document.id)
            tokens += len(asked["input_ids"])
            same = ours.ids[:-1].tolist() == asked["input_ids"] and ours.offsets is not None
            different += not (same and ours.offsets.tolist() == [list(span) for span in asked["offset_mapping"]])
        print(json.dumps({"corpus": corpus, "documents": len(documents), "tokens": tokens, "different": different}))


def book(options: argparse.Namespace) -> None:
    """One long document: seconds of ids and cuts, and peak memory, at a quarter of the size and at the size."""
    from medscroll.corpus.headings import find_sections
    from medscroll.packing.cuts import find_cuts
    from medscroll.packing.encoder import DocumentEncoder

    encoder = DocumentEncoder(str(options.tokenizer))
    for corpus in options.corpus:
        with tempfile.TemporaryDirectory() as scratch:
            whole = "\n\n".join(document.text for document in read(options.corpora, corpus, Path(scratch)))
        for size in (options.book // 4, options.book):
            text = whole[:size]
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.process_time()
            encoded = encoder.encode(text)
            ids = time.process_time() - start
            find_cuts(text, find_sections(text), encoded.offsets)
            shown = {"corpus": corpus, "characters": len(text), "tokens": len(encoded.ids), "ids_s": round(ids, 2)}
            shown["cuts_s"] = round(time.process_time() - start - ids, 2)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps({**shown, "peak_mib": peak // 1024, "peak_before_mib": before // 1024}), flush=True)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--tokenizer", type=Path, default=Path("../shared/tokenizers/yi"))
    parser.add_argument("--corpus", nargs="*", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--book", type=int, default=0)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        contend(options.contender, options.folder, options)
    elif options.check:
        check(options)
    elif options.book:
        book(options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
