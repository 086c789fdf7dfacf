"""What one preparation is made from, what is checked before it starts, and whether its result is there already.

Cost: one `stat` a source file, and opening the stores (8 bytes a document).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from medscroll.corpus.request import CorpusRequest
from medscroll.errors import CapacityError, ConfigError, DataError, UserError
from medscroll.packing.cuts import RULES_VERSION
from medscroll.packing.encoder import library_versions, tokenizer_stamp
from medscroll.packing.files import read_json, signed
from medscroll.packing.inputs import stamp, text_bytes_estimate
from medscroll.packing.merge import read_index
from medscroll.packing.statistics import SPLITS
from medscroll.packing.store import REMEDY, TokenStore, token_dtype

KIND = "medscroll prepared data"
FORMAT_VERSION = 1
MANIFEST_FORMAT = 2  # 1: without a checksum
MARKER = ".prepare.json"
LOCK = ".prepare.lock"


@dataclass(frozen=True)
class Job:
    """All that decides the content of a prepared folder.

    Attributes:
        sources: files and folders; split by hash of the document unless `validation_sources` is given.
        request: how they are read, and the steps that documents pass through.
        validation_sources: become the validation split whole; nothing is taken from `sources` then.
    """

    sources: tuple[Path, ...]
    tokenizer_name_or_path: str
    request: CorpusRequest = field(default_factory=CorpusRequest)
    validation_fraction: float = 0.01
    validation_sources: tuple[Path, ...] = ()
    trust_remote_code: bool = False
    cache_dir: str | None = None

    def key(self) -> str:
        """A hash of the settings, of the sources' stamps and of a local tokenizer's files."""
        tokenizer = tokenizer_stamp(self.tokenizer_name_or_path)
        tokenizer = tokenizer or f"{self.tokenizer_name_or_path}, {library_versions()}"
        settings = [FORMAT_VERSION, RULES_VERSION, tokenizer, self.request.key(), self.validation_fraction]
        stamps = [stamp(self.sources), stamp(self.validation_sources)]
        return xxhash.xxh3_128_hexdigest(json.dumps([*settings, *stamps]).encode())


def check_job(job: Job, output_dir: Path, num_workers: int | None, *, may_hold_others: bool = False) -> None:
    """Everything that can be said against a job before it starts, all mistakes at once.

    Args:
        may_hold_others: the folder is a cache of many prepared folders.

    Raises:
        ConfigError, DataError.
    """
    problems: list[UserError] = []
    if not job.sources:
        problems.append(ConfigError("no sources are given", remedy="name files or folders: medscroll prepare SRC..."))
    for source in (*job.sources, *job.validation_sources):
        if not source.exists():
            problems.append(DataError("there is no such file or folder", str(source), "check the path of the source"))
        elif source.is_dir() and output_dir.resolve().is_relative_to(source.resolve()):
            problems.append(
                ConfigError(
                    "the output folder lies inside a source, so its files would be read as input",
                    f"--output_dir {output_dir}",
                    "choose a folder outside the sources",
                )
            )
    if not 0 <= job.validation_fraction < 1:
        problems.append(
            ConfigError(
                f"the validation fraction is {job.validation_fraction}",
                "--validation_fraction",
                "give a share of the documents from 0 (none) to below 1, such as 0.01",
            )
        )
    if num_workers is not None and num_workers < 1:
        problems.append(ConfigError(f"{num_workers} processes cannot work", "--num_workers", "give 1 or more"))
    if not job.tokenizer_name_or_path:
        problems.append(ConfigError("no tokenizer is given", remedy="add --tokenizer_name_or_path FOLDER_OR_ID"))
    try:
        job.request.pipeline()
    except UserError as error:
        problems.append(error)
    if not may_hold_others:
        problems += _foreign(output_dir)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigError.collect(problems)


def _foreign(output_dir: Path) -> list[UserError]:
    if not output_dir.exists():
        return []
    remedy = "choose another --output_dir, or an empty folder"
    if not output_dir.is_dir():
        return [ConfigError("the output folder is a file", f"--output_dir {output_dir}", remedy)]
    marker = read_json(output_dir / MARKER)
    if marker is None and any(not path.name.startswith((LOCK, ".prepare-")) for path in output_dir.iterdir()):
        what = "the output folder holds something that `medscroll prepare` did not write"
        return [ConfigError(what, f"--output_dir {output_dir}", remedy)]
    if marker is not None and marker.get("format") != FORMAT_VERSION:
        what = "the output folder was written by another version of medscroll"
        return [ConfigError(what, f"--output_dir {output_dir}", remedy)]
    return []


def is_current(output_dir: Path, key: str) -> bool:
    """Whether the folder was finished for the same settings and untouched sources."""
    marker = read_json(output_dir / MARKER)
    return marker is not None and marker.get("key") == key and is_whole(output_dir)


def is_whole(output_dir: Path) -> bool:
    """Whether the folder holds finished prepared data whose stores open."""
    manifest = read_json(output_dir / "manifest.json")
    if manifest is None or read_index(output_dir / "tokens") is None:
        return False
    try:
        return all(
            TokenStore.open(output_dir / "tokens" / split).digest == manifest["stores"][split]["digest"]
            for split in SPLITS
        )
    except (DataError, KeyError):
        return False


def check_disk(job: Job, output_dir: Path, vocab_size: int) -> None:
    """Raises CapacityError where the disk is too small.

    Documents compress to half or less; tokens: at most 0.45 a byte of text, and the parts stand
    beside the merge.
    """
    text = text_bytes_estimate([*job.sources, *job.validation_sources])
    tokens = 0.45 * text
    needed = int(0.5 * text + 2 * tokens * (token_dtype(vocab_size).itemsize + 0.5))
    present = sum(path.stat().st_size for path in output_dir.rglob("*") if path.is_file())
    free = shutil.disk_usage(output_dir).free
    if needed - present > free:
        raise CapacityError(
            f"about {_size(needed)} of disk are needed and {_size(free)} are free",
            f"--output_dir {output_dir}",
            "free some space, or choose a folder on another disk",
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def read_manifest(output_dir: str | Path) -> dict[str, Any]:
    """The manifest of prepared data.

    Raises:
        DataError: there is none: the folder is no prepared data, or `prepare` did not finish; or it is damaged.
    """
    manifest = read_json(Path(output_dir) / "manifest.json")
    if manifest is None or manifest.get("kind") != KIND:
        raise DataError(
            "this folder holds no finished prepared data (no manifest.json)",
            str(output_dir),
            "run `medscroll prepare SRC... --output_dir DATA --tokenizer_name_or_path T`; it goes on where it was",
        )
    if (manifest.get("format") != 1 or "checksum" in manifest) and signed(manifest) != manifest:
        raise DataError(
            "manifest.json is not what `medscroll prepare` wrote",
            str(Path(output_dir) / "manifest.json"),
            "copy it again from where it is whole, or delete it and run `medscroll prepare` with the same arguments",
        )
    return manifest


def open_store(folder: str | Path, split: str, manifest: dict[str, Any]) -> TokenStore:
    """The token store of a split, after checking that it is the one that the manifest was written for.

    Raises:
        DataError: it is damaged, or of other data.
    """
    prefix = Path(folder) / "tokens" / split
    store = TokenStore.open(prefix)
    written = manifest.get("stores", {}).get(split, {}).get("digest")
    if store.digest != written:
        raise DataError(
            f"the token store is not the one that manifest.json describes (digest {store.digest}, not {written})",
            str(prefix),
            REMEDY,
        )
    return store


def prepared_tokenizer(output_dir: str | Path) -> str:
    """The tokenizer that a finished folder was prepared with: its copy in `DATA/tokenizer`, else the name it had."""
    name = str(read_manifest(output_dir)["tokenizer"]["name"])
    copy = Path(output_dir) / "tokenizer"
    return str(copy) if copy.is_dir() else name
