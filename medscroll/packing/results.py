"""What a preparation says about itself: manifest.json, ledger.json, report.md and report.html.

No times of day are in them, so equal input gives equal files. They never quote text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from medscroll.corpus.rejects import listed_rejects
from medscroll.corpus.stage import DocumentsSummary
from medscroll.packing.encoder import DocumentEncoder
from medscroll.packing.files import signed, write_private
from medscroll.packing.job import KIND, MANIFEST_FORMAT, Job
from medscroll.packing.report import length_summary, write_report
from medscroll.packing.report_page import write_page
from medscroll.packing.statistics import SPLITS, Statistics
from medscroll.packing.steps import added_steps, copies_in_words, files_left_out, private_files, step_checks
from medscroll.packing.store import TokenStore


def write_results(
    job: Job, output_dir: Path, encoder: DocumentEncoder, summaries: dict[str, DocumentsSummary], statistics: Statistics
) -> dict[str, Any]:
    """Writes the four files, the manifest last, and returns the manifest.

    Args:
        summaries: of the documents stage, by "sources" and, where given apart, "validation_sources".

    Raises:
        RuntimeError: the ledger does not balance (a defect of medscroll).
    """
    stores = {split: TokenStore.open(output_dir / "tokens" / split) for split in SPLITS}
    folders = [output_dir / "validation" if name == "validation_sources" else output_dir for name in summaries]
    ledger = _ledger(summaries, statistics, stores, folders)
    lengths = np.concatenate([store.lengths for store in stores.values()])
    encoder.tokenizer.save_pretrained(output_dir / "tokenizer")  # the data stays usable wherever it is moved
    tokenizer = {
        "name": encoder.name,
        "class": type(encoder.tokenizer).__name__,
        "fingerprint": encoder.fingerprint,
        "vocab_size": encoder.vocab_size,
        "eos_token_id": encoder.eos_token_id,
        "bos_token_id": encoder.bos_token_id,
        "adds_bos": encoder.adds_bos,
        "adds_eos": encoder.adds_eos,
        "has_offsets": encoder.has_offsets,
    }
    manifest = {
        "kind": KIND,
        "format": MANIFEST_FORMAT,
        "versions": {name: _version(name) for name in ("medscroll", "transformers", "tokenizers", "numpy")},
        "tokenizer": tokenizer,
        "sources": {name: _source_entry(job, name, summary) for name, summary in summaries.items()},
        "text_field": job.request.text_field,
        "corpus": {**job.request.config().to_dict(), **_steps_of(job)},
        "validation": "own sources" if job.validation_sources else "by hash of the document",
        "validation_fraction": None if job.validation_sources else job.validation_fraction,
        "documents": {split: len(store) for split, store in stores.items()},
        "tokens": {split: store.num_tokens for split, store in stores.items()},
        "characters": statistics.characters,
        "bytes": statistics.bytes,
        "dtype": str(stores["train"].dtype),
        "stores": {split: {"digest": store.digest} for split, store in stores.items()},
        "languages": _added(summary.languages for summary in summaries.values()),
        "lengths": length_summary(lengths),
        "statistics": {k: v for k, v in asdict(statistics).items() if k != "sources"},
    }
    manifest["warnings"] = _warnings(job, encoder, statistics, stores)
    manifest["digest"] = xxhash.xxh3_128_hexdigest("/".join(store.digest for store in stores.values()).encode())
    write_private(output_dir / "ledger.json", ledger)
    write_private(output_dir / "report.md", write_report(manifest, ledger, statistics))
    write_private(output_dir / "report.html", write_page(manifest, ledger, statistics, lengths))
    manifest = signed(manifest)
    write_private(output_dir / "manifest.json", manifest)
    return manifest


def _steps_of(job: Job) -> dict[str, Any]:
    """Names and versions of the steps, in order."""
    pipeline = job.request.pipeline()
    steps: list[Any] = [*pipeline.steps, *pipeline.corpus_steps]
    return {"steps": [f"{step.name} {step.version}" for step in steps]}


def _source_entry(job: Job, name: str, summary: DocumentsSummary) -> dict[str, Any]:
    paths = [str(path.resolve()) for path in getattr(job, name)]
    return {"paths": paths, "digest": summary.source_digest, "documents": summary.documents}


def _ledger(
    summaries: dict[str, DocumentsSummary], statistics: Statistics, stores: dict[str, TokenStore], folders: list[Path]
) -> dict[str, Any]:
    """Where every document went; checked, because nothing may vanish without a count and a reason."""
    kept = sum(summary.documents for summary in summaries.values())
    reasons = _added(summary.rejects for summary in summaries.values())
    rejected = sum(reasons.values())
    in_store = {split: len(store) for split, store in stores.items()}
    tokens = {split: store.num_tokens for split, store in stores.items()}
    characters = sum(summary.characters for summary in summaries.values())
    checks = {
        "documents kept = train + validation": kept == sum(in_store.values()) == statistics.documents,
        "characters of documents = characters tokenized": characters == statistics.characters,
        "tokens = sum over splits": sum(tokens.values()) == statistics.tokens,
    }
    steps = added_steps(summaries)
    checks |= step_checks(steps, kept, characters)
    broken = [name for name, holds in checks.items() if not holds]
    if broken:
        raise RuntimeError(f"the ledger of prepare does not balance: {broken}; documents {kept} -> {in_store}")
    return {
        "documents": {
            "read": kept + rejected,
            "rejected": rejected,
            "rejected_by_reason": reasons,
            "kept": kept,
            **in_store,
        },
        "characters": characters,
        "files_left_out": files_left_out(summaries),
        "not_read": {"listed": listed_rejects(folders), "all_of_them": "rejects/"},
        "steps": steps,
        "copies": copies_in_words(steps, folders),
        "private_files": private_files(folders),
        "repairs": _added(summary.repairs for summary in summaries.values()),
        "tokens": {**tokens, "total": sum(tokens.values()), "of_them_one_eos_a_document": kept},
        "identity": checks,
    }


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def _warnings(job: Job, encoder: DocumentEncoder, statistics: Statistics, stores: dict[str, TokenStore]) -> list[str]:
    warnings = []
    if len(stores["validation"]) == 0:
        if job.validation_fraction == 0 and not job.validation_sources:
            warnings.append("no validation documents, as asked (--validation_fraction 0): training cannot evaluate")
        else:
            warnings.append(
                f"the validation fraction of {job.validation_fraction} gave no validation document of "
                f"{statistics.documents:,}: training cannot evaluate; give a larger --validation_fraction"
            )
    if len(stores["train"]) == 0:
        warnings.append("no training documents: all fell into the validation split")
    if not encoder.has_offsets:
        warnings.append(
            "the tokenizer has no fast version, so no cuts were found: overlong documents are divided at any token"
        )
    if statistics.documents_with_special_tokens:
        warnings.append(
            f"{statistics.documents_with_special_tokens:,} documents spell out special tokens (such as an end of "
            "text), which the tokenizer turns into the real ones; clean them if that is not meant"
        )
    return warnings


def describe_rejected(ledger: dict[str, Any]) -> str | None:
    """What is not in the store, by reason, in one line; None where nothing was left out."""
    counts = ledger["documents"]
    if not counts["rejected"]:
        return None
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts["rejected_by_reason"].items())
    return f"left out, with the reason of each in rejects/: {counts['rejected']:,} of {counts['read']:,} ({reasons})"


def describe(manifest: dict[str, Any]) -> str:
    """The manifest in one line."""
    lengths = manifest["lengths"]
    return (
        f"{lengths['documents']:,} documents ({manifest['documents']['validation']:,} for validation), "
        f"{lengths['tokens']:,} tokens, {lengths['share_above_1024']:.1%} of documents above 1,024 tokens, "
        f"longest {lengths['longest']:,}"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
