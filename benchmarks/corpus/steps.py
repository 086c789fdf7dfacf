"""Characters a second and core of everything that a document passes through in `medscroll prepare`, on real corpora.

    python benchmarks/corpus/steps.py --corpora ../shared/corpora --runs 3

One process, processor time. Each step of the preset gets the documents as the steps before it left them; reading JSON,
the language, writing, signatures and hashes of deduplication are listed like steps. One JSON object a corpus; the
median of the runs. Results: benchmarks/results/corpus_speed.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from medscroll.corpus.document import Document, detect_language
from medscroll.corpus.minhash import exact_hash, signatures
from medscroll.corpus.repair import repair_text
from medscroll.corpus.request import CorpusRequest
from medscroll.corpus.stage import document_shards, read_shard, write_documents
from medscroll.corpus.step import StepLog, run_step


def measure(texts: list[str], preset: str) -> dict[str, float]:
    """Name -> seconds, in the order in which it is done."""
    took: dict[str, float] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = function()
        took[name] = time.process_time() - start
        return result

    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    read = timed("json", lambda: [json.loads(line)["text"] for line in lines])
    read = timed("line_ends", lambda: [repair_text(text)[0] for text in read])
    found = timed("language", lambda: [Document("d", text, "d", detect_language(text)) for text in read])
    for step in CorpusRequest(corpus_config=preset).pipeline().steps:
        log, before = StepLog(), found
        passed = timed(step.name, lambda step=step, log=log, before=before: [run_step(step, d, log) for d in before])
        found = [document for document in passed if document is not None]
    written = timed("to_json", lambda: [document.to_json() for document in found])
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    timed("compression", lambda: [compressor.compress(line.encode()) for line in written])
    timed("minhash", lambda: list(signatures([(each.text, each.lang != "en") for each in found])))
    timed("exact_hash", lambda: [exact_hash(each.text) for each in found])
    return took


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--preset", default="default")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for name in ("pmc_articles_en", "tcm_classics_zh"):
        with tempfile.TemporaryDirectory() as folder:
            write_documents([options.corpora / name], Path(folder))
            texts = [each.text for path in document_shards(Path(folder)) for each in read_shard(path)]
        characters = sum(map(len, texts))
        runs = [measure(texts, options.preset) for _ in range(options.runs)]
        seconds = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
        rates = {part: round(characters / max(value, 1e-6) / 1e6, 1) for part, value in seconds.items()}
        whole = round(characters / sum(seconds.values()) / 1e6, 2)
        print(json.dumps({"corpus": name, "characters": characters, "millions_a_second": rates, "whole": whole}))


if __name__ == "__main__":
    main()
