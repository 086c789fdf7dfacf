"""The run folder: `output_dir`, where a run writes all it says about itself. Every display is a reader of it.

    config.yaml        the resolved configuration          environment.json   versions, devices, hosts
    ledger.json        where every token went              events/rank-*.jsonl   one object a step and rank
    checkpoint-N/      see engine.checkpoint               loss.png           written at the end

Files are small and written atomically; events are appended. Nothing here quotes corpus text.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from medscroll.errors import ConfigError
from medscroll.monitor.log import EventWriter
from medscroll.monitor.schema import events_path

PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "peft", "liger-kernel", "numpy", "medscroll")


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader sees the old file or the new one, never half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    os.replace(partial, path)


def checkpoints(output_dir: Path) -> list[Path]:
    """The folders `checkpoint-N` of a run, by N ascending."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def refuse_foreign_folder(output_dir: Path, resuming: bool) -> None:
    """Refuse to write over another run.

    Raises:
        ConfigError: `output_dir` is a file, or it holds a run and `--resume_from_checkpoint` is not given.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise ConfigError("--output_dir is a file, not a folder", where=str(output_dir), remedy="name another folder")
    if resuming or not output_dir.is_dir():
        return
    signs = [name for name in ("config.yaml", "config.json", "ledger.json") if (output_dir / name).exists()]
    signs += [path.name for path in checkpoints(output_dir)[-1:]]
    if signs:
        raise ConfigError(
            f"the output folder already holds a run ({', '.join(signs)})",
            where=f"--output_dir {output_dir}",
            remedy="go on with it: --resume_from_checkpoint true, or name another --output_dir, or remove the folder",
        )


def write_config(output_dir: Path, resolved: dict[str, Any], choices: list[str]) -> None:
    """`config.yaml`: every flag with its value, what was chosen automatically as comments above."""
    lines = ["# Resolved configuration of this run: `medscroll pretrain config.yaml` reads it again.", "#"]
    lines += [f"# chosen automatically: {choice}" for choice in choices]
    text = yaml.safe_dump(resolved, allow_unicode=True, sort_keys=True)
    (output_dir / "config.yaml").write_text("\n".join(lines) + "\n" + text, encoding="utf-8")


def environment() -> dict[str, Any]:
    """Versions and devices of this process, for `environment.json`."""
    import torch

    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "host": socket.gethostname(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": versions,
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "argv": sys.argv,
    }


class EventLog(EventWriter):
    """Appends one JSON object a line to `events/rank-NNNNN.jsonl`; each rank has its own file."""

    def __init__(self, output_dir: Path, rank: int) -> None:
        super().__init__(events_path(output_dir.absolute(), rank))
