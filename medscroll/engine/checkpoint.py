"""Checkpoints: the cursor inside, the manifest written last, and which one a resumed run takes.

A folder `checkpoint-N` holds what transformers and DeepSpeed write (HF model, optimizer and RNG states), plus
`cursor.json` (where the data stands), `consumption.json` (the ledger so far) and, after all ranks have written,
`manifest.json` with size and CRC-32 of every file. A checkpoint without a manifest was cut off while it was written.

Price: the CRCs read every file once more, shared out over the ranks (about 1 GB/s and rank). Resuming checks sizes,
and the CRCs of small files (cursor, ledger, configuration); those of large ones are there for a deeper check.
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

from medscroll.engine.run_folder import checkpoints, write_json
from medscroll.errors import CapacityError, CheckpointError

SMALL = 1 << 24  # bytes; files up to this size are read and compared before a resume
MANIFEST, CURSOR, CONSUMPTION = "manifest.json", "cursor.json", "consumption.json"


def crc32(path: Path) -> int:
    """CRC-32 of a file's bytes, read in pieces of 8 MiB."""
    value = 0
    with path.open("rb") as handle:
        while piece := handle.read(8 << 20):
            value = zlib.crc32(piece, value)
    return value


def describe_files(folder: Path, rank: int, world_size: int) -> dict[str, dict[str, int]]:
    """Size and CRC of this rank's share of the files of `folder`: every `world_size`-th of the sorted list."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "crc32": crc32(path)}
        for path in files[rank::world_size]
    }


def write_manifest(
    folder: Path, step: int, shares: list[dict[str, dict[str, int]]], *, sharded_over: int | None
) -> None:
    """`manifest.json` from the shares that the ranks described; the last file of a checkpoint.

    Args:
        step: the optimizer step it was taken after.
        shares: of `describe_files`, one a rank.
        sharded_over: number of ranks that the engine's states are sharded over; None where any number loads them.
    """
    files = {name: entry for share in shares for name, entry in share.items()}
    manifest = {"format": 1, "step": step, "sharded_over": sharded_over, "files": dict(sorted(files.items()))}
    write_json(folder / MANIFEST, manifest)


def check_manifest(folder: Path) -> None:
    """Check that a checkpoint was written to its end and that every file has its size.

    Raises:
        CheckpointError: no manifest, or files that are missing or have another size, each named.
    """
    path = folder / MANIFEST
    others = "name an older checkpoint: --resume_from_checkpoint RUN/checkpoint-N"
    if not path.is_file():
        raise CheckpointError("the checkpoint has no manifest.json: it was cut off while written", str(folder), others)
    try:
        files = json.loads(path.read_text("utf-8"))["files"]
    except (json.JSONDecodeError, KeyError) as error:
        raise CheckpointError("the checkpoint's manifest.json is damaged", str(path), others) from error
    wrong = []
    for name, entry in files.items():
        file = folder / name
        if not file.is_file():
            wrong.append(f"{name} is missing")
        elif file.stat().st_size != entry["bytes"]:
            wrong.append(f"{name} has {file.stat().st_size:,} bytes of {entry['bytes']:,}")
        elif entry["bytes"] <= SMALL and crc32(file) != entry["crc32"]:
            wrong.append(f"{name} is not what was written")
    if wrong:
        raise CheckpointError(f"the checkpoint is damaged: {'; '.join(wrong[:5])}", str(folder), others)


def find_resume(value: str | bool | None, output_dir: Path) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint value` means: true, auto or a path; None starts anew.

    Raises:
        CheckpointError: there is none, or the one named is not whole.
    """
    if value in (None, False) or str(value).lower() in ("false", "no", "none", ""):
        return None
    text = str(value)
    if text.lower() in ("true", "yes", "latest", "auto"):
        found = checkpoints(output_dir)
        whole = [path for path in found if (path / MANIFEST).is_file()]
        if whole:
            skipped = [path.name for path in found if path not in whole and path.name > whole[-1].name]
            if skipped:
                print(f"note: {', '.join(skipped)} was cut off while written; going on from {whole[-1].name}")
            check_manifest(whole[-1])
            return whole[-1]
        if text.lower() == "auto" and not found:
            return None
        raise CheckpointError(
            "no whole checkpoint to resume from",
            where=str(output_dir),
            remedy="start anew without --resume_from_checkpoint in an empty --output_dir, or name a checkpoint",
        )
    folder = Path(text)
    if not folder.is_dir():
        listed = ", ".join(path.name for path in checkpoints(output_dir)) or "none"
        raise CheckpointError(
            "the checkpoint to resume from does not exist", where=text, remedy=f"{output_dir} holds: {listed}"
        )
    check_manifest(folder)
    return folder


def check_ranks(folder: Path, deepspeed: bool, world_size: int) -> None:
    """Check that the engine of this run can load the states of a checkpoint.

    Raises:
        CheckpointError: DeepSpeed's states are those of another number of ranks, or one run is without DeepSpeed.
    """
    sharded = read_json(folder, MANIFEST).get("sharded_over")
    if (sharded is not None) != deepspeed:
        had = "with DeepSpeed" if sharded is not None else "without DeepSpeed"
        raise CheckpointError(
            f"the checkpoint was written {had}, and this run is not", str(folder), "give the same --deepspeed as before"
        )
    if sharded is not None and sharded != world_size:
        raise CheckpointError(
            f"the checkpoint's optimizer states are sharded over {sharded} ranks, this run has {world_size}",
            where=str(folder),
            remedy=f"start {sharded} processes, or begin a new run from the checkpoint's model: "
            f"--model_name_or_path {folder}",
        )


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """One of the small JSON files of a checkpoint.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return json.loads((folder / name).read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{name} is missing or damaged", str(folder), "name an older checkpoint") from error


def rotate(output_dir: Path, keep: int | None, spare: str | None) -> list[str]:
    """Remove the oldest checkpoints beyond `keep`, never the folder `spare`; the names that went. Rank 0 calls it."""
    if not keep or keep < 1:
        return []
    spared = Path(spare).name if spare else None
    old = [path for path in checkpoints(output_dir)[:-keep] if path.name != spared]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in old]


def checkpoint_bytes(trainable: int, frozen: int, weight_bytes: int, adapter: bool) -> int:
    """Estimated size of one checkpoint: saved weights, and float32 master weights and two Adam moments (12 bytes)."""
    saved = trainable if adapter else trainable + frozen
    return saved * weight_bytes + trainable * 12


def check_disk(output_dir: Path, one_checkpoint: int, kept: int) -> str:
    """Check that the disk holds the checkpoints of the run (one more than kept, since the new one is written first).

    Returns:
        A sentence with the sizes.

    Raises:
        CapacityError: it does not.
    """
    free = shutil.disk_usage(output_dir).free
    need = one_checkpoint * (kept + 1)
    sizes = f"checkpoints of about {one_checkpoint / 2**30:.1f} GiB, {kept + 1} at a time; {free / 2**30:.0f} GiB free"
    if need > free:
        raise CapacityError(
            f"the disk does not hold this run's checkpoints: {sizes}",
            where=str(output_dir),
            remedy="name an --output_dir on a larger disk, or --save_total_limit 1, or --save_minutes 0",
        )
    return sizes
