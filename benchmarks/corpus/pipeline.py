"""Speed and memory of `medscroll prepare` on the real corpora, beside `datasets` and datatrove in the same run.

    python benchmarks/corpus/pipeline.py --corpora ../shared/corpora --tokenizer ../shared/tokenizers/yi

All contenders read the same JSONL files (the texts of the corpora as medscroll reads them, `--copies` times, a line
at the end of each telling copies apart) and use `--workers` processes. Each runs in a process of its own, in turn,
`--runs` times; printed is the median, as one JSON object a contender: wall time, processor time of the process and its
children, peak memory (resident, summed over the processes of the tree, sampled 20 times a second; pages that processes
share count in each). Processor time is what to compare on a machine that others use.

    clean            medscroll: the steps of the preset, documents and ledger, no tokens
    datasets_ftfy    datasets.map(ftfy.fix_text), written as JSONL
    datatrove_ftfy   datatrove: JsonlReader, FTFYFormatter, JsonlWriter
    datatrove_steps  the same with steps like ours: Gopher's repetition and quality filters and FineWeb's, with
                     thresholds that drop nothing, and MinHash signatures of the result (needs spacy and jieba; the
                     language filter needs a model that is downloaded and is left out)
    prepare          medscroll: the steps, tokens with offsets, cuts, store, ledger, report
    datasets_tokens  datasets.map(ftfy.fix_text), then tokenizer in batches with offsets, saved
    datasets_ids     the same without offsets

Copies would be dropped by deduplication and their tokens saved, so it is off where `--copies` is above 1; with 1 it
runs.
Results: benchmarks/results/corpus_pipeline.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

CONTENDERS = (
    "clean", "datasets_ftfy", "datatrove_ftfy", "datatrove_steps", "prepare", "datasets_tokens", "datasets_ids",
)  # fmt: skip
CORPORA = {"pmc_articles_en": "eng", "tcm_classics_zh": "zho_Hani"}  # folder -> language as datatrove names it


def make_sources(options: argparse.Namespace, folder: Path) -> tuple[int, int]:
    """Two JSONL files of about the same size a language; returns (documents, characters)."""
    copies = options.copies
    from medscroll.corpus.stage import document_shards, read_shard, write_documents

    folder.mkdir()
    documents = characters = 0
    for name in options.corpus:
        with tempfile.TemporaryDirectory() as scratch:
            write_documents([options.corpora / name], Path(scratch))
            texts = [each.text for path in document_shards(Path(scratch)) for each in read_shard(path)]
        texts = texts[:: options.every]
        for part in range(2):
            with (folder / f"{name}-{part}.jsonl").open("w", encoding="utf-8") as out:
                for copy in range(copies):
                    for number, text in enumerate(texts[part::2]):
                        own = text + (f"\ncopy {copy} {part} {number}" if copies > 1 else "")
                        out.write(json.dumps({"text": own}, ensure_ascii=False) + "\n")
                        documents, characters = documents + 1, characters + len(own)
    return documents, characters


def contend(name: str, sources: Path, out: Path, options: argparse.Namespace) -> None:
    """One contender's work, in this process."""
    paths = sorted(str(path) for path in sources.glob("*.jsonl"))
    if name in ("clean", "prepare"):
        medscroll(name, sources, out, options)
    elif name in ("datatrove_ftfy", "datatrove_steps"):
        datatrove(name, sources, out, options.workers)
    else:
        import datasets
        from ftfy import fix_text
        from transformers import AutoTokenizer

        os.environ["HF_DATASETS_CACHE"] = str(out / "cache")
        data = datasets.load_dataset("json", data_files=paths, split="train", cache_dir=str(out / "cache"))
        data = data.map(lambda row: {"text": fix_text(row["text"])}, num_proc=options.workers)
        if name == "datasets_ftfy":
            data.to_json(str(out / "clean.jsonl"), num_proc=options.workers)
            return
        tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
        offsets = name == "datasets_tokens"
        data.map(
            lambda rows: tokenizer(rows["text"], return_offsets_mapping=offsets, return_attention_mask=False),
            batched=True, batch_size=16, num_proc=options.workers, remove_columns=["text"],
        ).save_to_disk(str(out / "tokens"))  # fmt: skip


def datatrove(name: str, sources: Path, out: Path, workers: int) -> None:
    """datatrove: ftfy alone, or with steps like ours. One pipeline a language, since its steps take one."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.formatters import FTFYFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    for corpus, language in CORPORA.items():
        pattern = f"{corpus}-*.jsonl"
        tasks = len(list(sources.glob(pattern)))
        if not tasks:
            continue
        steps: list[Any] = [JsonlReader(str(sources), glob_pattern=pattern), FTFYFormatter()]
        if name == "datatrove_steps":
            steps += like_ours(language)
        steps.append(JsonlWriter(str(out / corpus)))
        if name == "datatrove_steps":
            from datatrove.pipeline.dedup import MinhashDedupSignature

            steps.append(MinhashDedupSignature(str(out / f"{corpus}-signatures"), language=language))
        LocalPipelineExecutor(
            steps, tasks=tasks, workers=workers, logging_dir=str(out / f"logs-{corpus}"), start_method="spawn"
        ).run()


def like_ours(language: str) -> list[Any]:
    """Filters that measure what our step `quality` does; all thresholds are so wide that no document goes."""
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    wide = {"dup_line_frac": 1.0, "dup_para_frac": 1.0, "dup_line_char_frac": 1.0, "dup_para_char_frac": 1.0}
    return [
        GopherRepetitionFilter(
            **wide, top_n_grams=tuple((n, 1.0) for n in (2, 3, 4)),
            dup_n_grams=tuple((n, 1.0) for n in range(5, 11)), language=language,
        ),
        GopherQualityFilter(
            min_doc_words=0, max_doc_words=10**9, min_avg_word_length=0, max_avg_word_length=10**6,
            max_symbol_word_ratio=1e6, max_bullet_lines_ratio=1.0, max_ellipsis_lines_ratio=1.0,
            max_non_alpha_words_ratio=0.0, min_stop_words=0, language=language,
        ),
        FineWebQualityFilter(
            line_punct_thr=0.0, short_line_thr=1.0, char_duplicates_ratio=1.0, new_line_ratio=1e6, language=language
        ),
    ]  # fmt: skip


def medscroll(name: str, sources: Path, out: Path, options: argparse.Namespace) -> None:
    """Ours: documents alone, or all of `prepare`."""
    config = out / "corpus.yaml"
    off = "deduplicate: false\n" if options.copies > 1 else ""
    config.write_text(f"preset: {options.preset}\n{off}", "utf-8")
    if name == "clean":
        from medscroll.corpus.request import CorpusRequest
        from medscroll.corpus.stage import write_documents

        pipeline = CorpusRequest(corpus_config=str(config)).pipeline()
        write_documents([sources], out / "data", pipeline=pipeline, num_workers=options.workers)
        return
    from medscroll.cli.main import main

    code = main(
        ["prepare", str(sources), "--output_dir", str(out / "data"), "--tokenizer_name_or_path", str(options.tokenizer),
         "--corpus_config", str(config), "--num_workers", str(options.workers)]
    )  # fmt: skip
    if code:
        raise SystemExit(code)


def measure(name: str, sources: Path, options: argparse.Namespace) -> dict[str, float]:
    """Runs a contender in a process of its own: seconds, processor seconds, MiB."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as out:
        command = [sys.executable, __file__, "--contender", name, "--sources", str(sources), "--out", out]
        for flag in ("tokenizer", "workers", "copies", "preset"):
            command += [f"--{flag}", str(getattr(options, flag))]
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        before = os.times()
        start = time.perf_counter()
        with (Path(out) / "said.txt").open("wb") as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
            peak = 0
            while process.poll() is None:
                peak = max(peak, resident(process.pid))
                time.sleep(0.05)
        wall = time.perf_counter() - start
        after = os.times()
        if process.returncode:
            raise SystemExit(f"{name}: {(Path(out) / 'said.txt').read_text()[-3000:]}")
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return {"wall_s": wall, "processor_s": cpu, "peak_mib": peak / 2**20}


def resident(pid: int) -> int:
    """Resident bytes of a process and its descendants."""
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])
    except psutil.Error:
        return 0


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--tokenizer", type=Path, default=Path("../shared/tokenizers/yi"))
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--corpus", nargs="*", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--every", type=int, default=1, help="take every N-th document")
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--scratch", type=Path, default=None, help="where outputs are written; default: TMPDIR")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--sources", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        contend(options.contender, options.sources, options.out, options)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        sources = Path(folder) / "sources"
        documents, characters = make_sources(options, sources)
        about = {"corpus": options.corpus, "documents": documents, "characters": characters}
        print(json.dumps({**about, "workers": options.workers}), flush=True)
        results: dict[str, list[dict[str, float]]] = {name: [] for name in options.only}
        for _ in range(options.runs):
            for name in options.only:
                results[name].append(measure(name, sources, options))
                print(json.dumps({"contender": name, **rounded(results[name][-1])}), file=sys.stderr, flush=True)
        for name, runs in results.items():
            median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            shown: dict[str, Any] = {"contender": name, "runs": len(runs), **rounded(median)}
            shown["documents_per_second"] = round(documents / median["wall_s"], 2)
            shown["characters_per_processor_second"] = round(characters / median["processor_s"])
            print(json.dumps(shown), flush=True)


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Values with one digit behind the point."""
    return {key: round(value, 1) for key, value in values.items()}


if __name__ == "__main__":
    main()
