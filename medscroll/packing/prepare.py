"""`medscroll prepare`: raw files to documents to a token store, with manifest, ledger and report.

    raw files -> DATA/documents, DATA/rejects -> DATA/tokens/{train,validation} -> ledger.json, report.md, manifest.json

Every stage keeps what is finished, so a run that was killed goes on, and a second run with the same input does
nothing (a `stat` a file says so). What changed is noticed: new or changed files redo their shards, another tokenizer
or split redoes the tokens. `manifest.json` is written last: where it is, the folder is whole. The work happens in one
process and its workers on one machine, never inside a process group; `prepare_once` is for trainers that are given raw
texts: it keeps prepared data under a hash of its content and lets one process of a file system do the work.
Cost: see tokenize.py; disk is checked before.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from medscroll.corpus.finish import STAGED
from medscroll.corpus.rejects import named_rejects
from medscroll.corpus.request import CorpusRequest
from medscroll.corpus.stage import DocumentsSummary, document_shards, write_documents
from medscroll.errors import ConfigError, DataError
from medscroll.packing.encoder import DocumentEncoder, tokenizer_stamp
from medscroll.packing.files import disk_errors, file_lock, write_private
from medscroll.packing.inputs import content_digest, raw_input_bytes
from medscroll.packing.job import (
    FORMAT_VERSION,
    KIND,
    LOCK,
    MARKER,
    Job,
    check_disk,
    check_job,
    is_current,
    is_whole,
    read_manifest,
)
from medscroll.packing.parts import TokenSettings
from medscroll.packing.progress import Display
from medscroll.packing.results import describe, describe_rejected, write_results
from medscroll.packing.tokenize import ShardInput, tokenize_parts, tokenize_shards

if TYPE_CHECKING:
    from medscroll.config.arguments import PrepareArguments

__all__ = ["Job", "Portion", "prepare", "prepare_once", "prepared_dir_for", "raw_input_bytes", "read_manifest"]


@dataclass(frozen=True)
class Portion:
    """Which part of the work is to be done: all of it; the i-th of N portions; or only putting them together."""

    shard: tuple[int, int] | None = None
    merge: bool = False

    @property
    def lock(self) -> str:
        """The lock file that keeps another process from doing the same."""
        return LOCK if self.shard is None else f".prepare-{self.shard[0]}-of-{self.shard[1]}.lock"


_WHOLE = Portion()


def prepare(arguments: PrepareArguments, *, quiet: bool = False) -> Path:
    """The whole verb; returns the folder of prepared data.

    Args:
        arguments: see `PrepareArguments`.
        quiet: no progress bar and no messages (errors are raised all the same).

    Raises:
        ConfigError: arguments that cannot be; a foreign output folder; a tokenizer without EOS.
        DataError: input that cannot be read, or no document at all.
        CapacityError: not enough disk or memory.
    """
    job = Job(
        sources=tuple(Path(source) for source in arguments.sources),
        tokenizer_name_or_path=arguments.tokenizer_name_or_path,
        request=CorpusRequest.of(arguments),
        validation_fraction=arguments.validation_fraction,
        trust_remote_code=arguments.trust_remote_code,
        cache_dir=arguments.cache_dir,
    )
    if not arguments.output_dir:
        raise ConfigError("no folder for the prepared data is given", remedy="add --output_dir DATA")
    shard = getattr(arguments, "shard", None)
    merge = bool(getattr(arguments, "merge", False))
    return _prepare(job, Path(arguments.output_dir), arguments.num_workers, quiet, portion(shard, merge))


def portion(shard: str | None, merge: bool) -> Portion:
    """What `--shard i/N` and `--merge` say.

    Raises:
        ConfigError: they cannot be, or not together.
    """
    if shard is None:
        return Portion(merge=merge)
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard.strip())
    if merge or found is None or not 1 <= int(found[1]) <= int(found[2]):
        what = "--shard and --merge are two calls" if merge else f"--shard {shard} is no portion of the work"
        raise ConfigError(
            what, "command line", "give --shard i/N with i from 1 to N, each once, and then --merge alone"
        )
    return Portion((int(found[1]), int(found[2])))


def _prepare(job: Job, output_dir: Path, num_workers: int | None, quiet: bool, portion: Portion = _WHOLE) -> Path:
    check_job(job, output_dir, num_workers)
    workers = num_workers or len(os.sched_getaffinity(0))
    display = Display(quiet)
    key = job.key()
    if is_current(output_dir, key):
        display.say(f"nothing to do: {output_dir} is up to date ({describe(read_manifest(output_dir))})")
        return output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    if not (output_dir / MARKER).exists() or portion.shard is None:
        write_private(output_dir / MARKER, {"kind": KIND, "format": FORMAT_VERSION})
    with file_lock(output_dir / portion.lock, wait=False), disk_errors(output_dir), display:
        encoder = DocumentEncoder(
            job.tokenizer_name_or_path, trust_remote_code=job.trust_remote_code, cache_dir=job.cache_dir
        )
        check_disk(job, output_dir, encoder.vocab_size)
        summaries, shards = _make_documents(job, output_dir, workers, display, portion)
        settings = TokenSettings(
            tokenizer_name=job.tokenizer_name_or_path,
            trust_remote_code=job.trust_remote_code,
            cache_dir=job.cache_dir,
            fingerprint=encoder.fingerprint,
            vocab_size=encoder.vocab_size,
            eos_token_id=encoder.eos_token_id,
            adds_bos=encoder.adds_bos,
            validation_fraction=0.0 if job.validation_sources else job.validation_fraction,
        )
        if portion.shard is not None:
            tokenize_parts(shards, output_dir / "tokens", settings, encoder, num_workers=workers)
            display.say(f"portion {portion.shard[0]} of {portion.shard[1]} is done; when all are: --merge")
            return output_dir
        # From here to the end the folder is not whole, and says so by having no manifest.
        (output_dir / "manifest.json").unlink(missing_ok=True)
        statistics = tokenize_shards(
            shards, output_dir / "tokens", settings, encoder, num_workers=workers, progress=display.tokens
        )
        manifest = write_results(job, output_dir, encoder, summaries, statistics)
        write_private(output_dir / MARKER, {"kind": KIND, "format": FORMAT_VERSION, "key": key})
    for warning in manifest["warnings"]:
        display.warn(warning)
    display.say(f"prepared {output_dir}: {describe(manifest)}")
    if rejected := describe_rejected(json.loads((output_dir / "ledger.json").read_text("utf-8"))):
        display.say(rejected)
    display.say(f"report: {output_dir / 'report.md'} and {output_dir / 'report.html'}")
    return output_dir


def _make_documents(
    job: Job, output_dir: Path, workers: int, display: Display, portion: Portion
) -> tuple[dict[str, DocumentsSummary], list[ShardInput]]:
    """Documents of `sources` in output_dir, of `validation_sources` in output_dir/validation."""
    groups: list[tuple[str, Sequence[Path], Path, str | None]] = [
        ("sources", job.sources, output_dir, "train" if job.validation_sources else None)
    ]
    if job.validation_sources:
        groups.append(("validation_sources", job.validation_sources, output_dir / "validation", "validation"))
    pipeline = job.request.pipeline()
    summaries: dict[str, DocumentsSummary] = {}
    shards: list[ShardInput] = []
    for name, sources, folder, split in groups:
        folder.mkdir(exist_ok=True)
        summary = write_documents(
            list(sources), folder, pipeline=pipeline, shard=portion.shard, merge=portion.merge, num_workers=workers,
            progress=display.documents,
        )  # fmt: skip
        summaries[name] = summary
        paths = None
        if portion.shard:
            # With steps that need the whole corpus: a shard of which they will drop nothing has its tokens then.
            root = folder / STAGED if pipeline.corpus_steps else folder
            paths = [root / "documents" / name for name in summary.shard_names]
        for path in document_shards(folder) if paths is None else paths:
            shards.append(ShardInput(path, path.relative_to(output_dir).as_posix(), split))
    failures: Counter[str] = Counter()
    for summary in summaries.values():
        failures.update(summary.failures)
    if failures:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(failures.items()))
        if job.request.strict:
            named = [name for _, _, folder, _ in groups for name in named_rejects(folder)][:10]
            raise DataError(
                f"{failures.total():,} files or records cannot be read ({listed}): {'; '.join(named)}",
                str(output_dir / "rejects"),
                "repair or remove them (each is listed there with its reason), or leave --strict out",
            )  # fmt: skip
        display.warn(f"{failures.total():,} files or records cannot be read and are left out ({listed}): see rejects/")
    return summaries, shards


# ---- prepared once for trainers ----------------------------------------------------------------------------------


def _once_job(train_file_dir: str | Path, validation_file_dir: str | Path | None, **settings: Any) -> Job:
    validation = (Path(validation_file_dir),) if validation_file_dir else ()
    return Job(sources=(Path(train_file_dir),), validation_sources=validation, **settings)


def _cache_root(prepared_dir: str | Path | None) -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medscroll" / "prepared"
    return Path(prepared_dir) if prepared_dir else default


def _content_folder(job: Job, root: Path) -> Path:
    name = job.tokenizer_name_or_path
    tokenizer = tokenizer_stamp(name)
    if tokenizer is None:
        tokenizer = DocumentEncoder(name, trust_remote_code=job.trust_remote_code, cache_dir=job.cache_dir).fingerprint
    key = job.request.key()
    contents = [content_digest(paths, key, root) for paths in (job.sources, job.validation_sources)]
    decisive = [FORMAT_VERSION, tokenizer, key, job.validation_fraction, *contents]
    return root / xxhash.xxh3_128_hexdigest(json.dumps(decisive).encode())


def prepared_dir_for(
    train_file_dir: str | Path,
    *,
    tokenizer_name_or_path: str,
    validation_file_dir: str | Path | None = None,
    text_field: str | None = None,
    validation_fraction: float = 0.01,
    prepared_dir: str | Path | None = None,
    trust_remote_code: bool = False,
    cache_dir: str | None = None,
) -> Path:
    """The folder where raw texts are, or will be, prepared: named by a hash of their content and the settings.

    The same texts give the same folder wherever they lie, so they are found again the next time.

    Args:
        train_file_dir, validation_file_dir: raw texts; a validation folder becomes the validation split whole.
        prepared_dir: the cache, default ~/.cache/medscroll/prepared.

    Raises:
        ConfigError, DataError: as `prepare`.
    """
    job = _once_job(
        train_file_dir,
        validation_file_dir,
        tokenizer_name_or_path=tokenizer_name_or_path,
        request=CorpusRequest(text_field=text_field),
        validation_fraction=validation_fraction,
        trust_remote_code=trust_remote_code,
        cache_dir=cache_dir,
    )
    root = _cache_root(prepared_dir)
    check_job(job, root, None, may_hold_others=True)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return _content_folder(job, root)


def prepare_once(
    train_file_dir: str | Path,
    *,
    tokenizer_name_or_path: str,
    validation_file_dir: str | Path | None = None,
    text_field: str | None = None,
    validation_fraction: float = 0.01,
    num_workers: int | None = None,
    prepared_dir: str | Path | None = None,
    trust_remote_code: bool = False,
    cache_dir: str | None = None,
    quiet: bool = False,
) -> Path:
    """Prepares raw texts once per file system and returns their folder; every rank may call it at the same time.

    The first process to take the lock works, the others wait for it and find the result. Call it before any process
    group exists (a collective would time out while it works).

    Raises:
        ConfigError, DataError, CapacityError: as `prepare`.
        EnvironmentError_: the file system has no file locks.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        raise RuntimeError("prepare_once must run before the process group exists")
    job = _once_job(
        train_file_dir,
        validation_file_dir,
        tokenizer_name_or_path=tokenizer_name_or_path,
        request=CorpusRequest(text_field=text_field),
        validation_fraction=validation_fraction,
        trust_remote_code=trust_remote_code,
        cache_dir=cache_dir,
    )
    root = _cache_root(prepared_dir)
    check_job(job, root, num_workers, may_hold_others=True)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    display = Display(quiet)

    def waiting() -> None:
        display.say(f"waiting for the process that prepares {job.sources[0]}")

    with file_lock(root / ".lock", wait=True):  # held while files are hashed: the others find the hashes
        folder = _content_folder(job, root)
    with file_lock(folder.with_name(folder.name + ".lock"), wait=True, on_wait=waiting):
        if not is_whole(folder):
            _prepare(job, folder, num_workers, quiet)
    return folder
