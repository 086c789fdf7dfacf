"""Heartbeats: one small file a rank, rewritten in place, that says what the rank is doing.

    is it alive      age of the file's mtime against the newest one: one clock, that of the file server
    does it get on   `step`, `phase`, and since when they have not changed

The file has a fixed length and is written by one call, so a reader sees an old or a new one. Price: one small write a
second and rank.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medscroll.monitor.schema import PHASES, heartbeat_path

LENGTH = 1024
STALE = 4.0  # seconds without a beat after which a process counts as frozen; it beats every second
ORDER = {"start": -1, **{phase: index for index, phase in enumerate(PHASES)}}


class HeartbeatFile:
    """The heartbeat of this rank."""

    def __init__(self, run_folder: Path, rank: int) -> None:
        self.path = heartbeat_path(run_folder, rank)
        self._handle: int | None = None

    def write(self, beat: dict[str, Any]) -> None:
        """Write one beat. A file system that fails costs the beat, not the run."""
        text = json.dumps(beat, default=str)
        if len(text.encode("utf-8")) >= LENGTH:
            text = json.dumps({**beat, "collectives": {}}, default=str)
        with contextlib.suppress(OSError):
            if self._handle is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(self._handle, text.encode("utf-8").ljust(LENGTH - 1)[: LENGTH - 1] + b"\n", 0)

    def close(self) -> None:
        """Close the file; it stays."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@dataclass(frozen=True)
class Beat:
    """A heartbeat as it was read: its content and the file's mtime."""

    rank: int
    content: dict[str, Any]
    mtime: float

    @property
    def place(self) -> tuple[int, int]:
        """How far it is: steps finished, and the order of the phase under way."""
        phase = str(self.content.get("phase"))
        step = self.content.get("step")
        return (step if isinstance(step, int) else 0), ORDER.get("other" if phase == "end" else phase, 0)


def read_heartbeats(run_folder: Path, ranks: Iterable[int]) -> dict[int, Beat]:
    """Rank -> its heartbeat; ranks whose file is absent or unreadable are left out."""
    found = {}
    for rank in ranks:
        path = heartbeat_path(run_folder, rank)
        try:
            content = json.loads(path.read_text("utf-8"))
            mtime = path.stat().st_mtime
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            found[rank] = Beat(rank, content, mtime)
    return found


def frozen(beats: dict[int, Beat], stale: float = STALE) -> set[int]:
    """Ranks whose process beats no more while others do; those that said farewell are none of them."""
    newest = max((beat.mtime for beat in beats.values()), default=0.0)
    return {
        rank for rank, beat in beats.items() if beat.content.get("status") == "running" and newest - beat.mtime > stale
    }
