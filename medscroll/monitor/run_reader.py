"""A run folder, followed: all ranks, the plan, the ledger, and who is alive. Nothing is written.

`RunReader(folder).refresh(budget)` looks at every file once and spends what is left of `budget` seconds of processor
time on what was not read yet, so a display that refreshes every two seconds with a budget of 0.1 s takes a twentieth of
a core, however long the run is, and catches up as fast on a busy machine.

Who is alive is told by heartbeat files, in the file server's clock: its present time is estimated from beats that were
seen to change, so hosts whose clocks are seconds apart are not taken for dead.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medscroll.errors import ConfigError
from medscroll.monitor.arrivals import Waits, read_arrivals, waits
from medscroll.monitor.numbers import finite
from medscroll.monitor.rank_reader import RankReader

LEAST_SLICE = 0.01  # seconds
SILENT = 15.0  # seconds without a heartbeat after which a rank counts as dead
WHOLE = 96 * 2**20  # runs of up to so many bytes are parsed line by line on all ranks
OPENERS = 16
SIGNS = ("events", "heartbeat", "config.yaml", "ledger.json", "environment.json", "plan.json")
_RANK = re.compile(r"rank-(\d{1,7})(?:\.jsonl)?$")


class RunReader:
    """Follows the run in `folder`.

    Raises:
        ConfigError: there is no such folder, or it cannot be read.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ConfigError("there is no such run folder", where=str(folder), remedy="give the --output_dir of a run")
        self.name = self.folder.resolve().name
        self.ranks: dict[int, RankReader] = {}
        self.version = 0
        self.server_offset: float | None = None  # file server's clock minus ours, from beats seen to change
        self._files: dict[str, tuple[float, Any]] = {}
        self._listed = -1e9
        self._waits: tuple[float, Waits] = (0.0, {})

    def refresh(self, budget: float = 0.1) -> None:
        """Look at every file; then read on in older parts, for `budget` seconds of processor time in all."""
        began = time.thread_time()
        changed = self._list()
        for reader in self.ranks.values():
            before = reader.beat.mtime
            changed = reader.refresh() or changed
            after = reader.beat.mtime
            if before is not None and after is not None and after != before:
                offset = after - time.time()
                known = self.server_offset
                self.server_offset = offset if known is None else max(offset, known - 0.01)
        left = max(budget - (time.thread_time() - began), LEAST_SLICE) if budget > 0 else 0.0
        changed = self._catch_up(left) or changed
        for name in ("ledger.json", "plan.json"):
            changed = self._read(name) or changed
        self.version += bool(changed)

    def finish(self) -> None:
        """Read everything there is, whatever it takes."""
        self.refresh(budget=float("inf"))

    def _list(self) -> bool:
        """Find ranks that have come since; every two seconds at most."""
        if time.monotonic() - self._listed < 2.0 and self.ranks:
            return False
        self._listed = time.monotonic()
        found: set[int] = set()
        for place in ("events", "heartbeat"):
            try:
                names = [path.name for path in (self.folder / place).iterdir()]
            except OSError:
                continue
            found.update(int(match.group(1)) for name in names if (match := _RANK.match(name)))
        new = sorted(found - set(self.ranks))
        for rank in new:
            self.ranks[rank] = RankReader(self.folder, rank, reference=not self.ranks and rank == min(found))
        if new:
            self.ranks = dict(sorted(self.ranks.items()))
            for reader in self.ranks.values():
                reader.tail.look()
            small = sum(reader.tail.size for reader in self.ranks.values()) <= WHOLE
            for reader in self.ranks.values():
                reader.every_line = reader.reference or small
            with ThreadPoolExecutor(OPENERS) as pool:  # a cold disk answers many at once
                list(pool.map(RankReader.refresh, [self.ranks[rank] for rank in new]))
        return bool(new)

    def _catch_up(self, budget: float) -> bool:
        deadline, worked = time.thread_time() + budget, False
        for reader in self.ranks.values():
            if reader.share_read >= 1.0:
                continue
            left = deadline - time.thread_time()
            if left <= 0:
                break
            reader.catch_up(left)
            worked = True
        return worked

    def _read(self, name: str) -> bool:
        """Read a small JSON file of the folder where it has changed."""
        path = self.folder / name
        try:
            mtime = path.stat().st_mtime
            if name in self._files and self._files[name][0] == mtime:
                return False
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        self._files[name] = (mtime, content if isinstance(content, dict) else {})
        return True

    def file(self, name: str) -> dict[str, Any]:
        """The content of `ledger.json` or `plan.json`; empty where there is none."""
        content: dict[str, Any] = self._files.get(name, (0.0, {}))[1]
        return content

    def waits(self) -> Waits:
        """What ranks waited for each other in the newest steps, where they wrote their arrivals; computed when new."""
        folder = self.folder / "arrivals"
        try:
            written = max((path.stat().st_mtime for path in folder.glob("rank-*.json")), default=0.0)
        except OSError:
            written = 0.0
        if not written:
            return {}
        if self._waits[0] != written:
            current = [reader.rank for reader in self.current()]
            arrivals, found = read_arrivals(self.folder, current), Waits()
            with contextlib.suppress(TypeError, ValueError, KeyError, IndexError):  # written by something else
                found = waits(arrivals) if len(arrivals) == len(current) else found
            self._waits = (written, found)
        return self._waits[1]

    @property
    def has_signs(self) -> bool:
        """Whether the folder looks like a run folder at all."""
        return any((self.folder / sign).exists() for sign in SIGNS)

    @property
    def share_read(self) -> float:
        """Share of all bytes that was read, 0 to 1."""
        total = sum(max(reader.tail.size, 1) for reader in self.ranks.values())
        read = sum(reader.share_read * max(reader.tail.size, 1) for reader in self.ranks.values())
        return read / total if total else 1.0

    def reference(self) -> RankReader | None:
        """The rank whose loss and throughput are shown: the lowest."""
        return next(iter(self.ranks.values()), None)

    def start(self) -> dict[str, Any]:
        """The newest `run` event of all ranks; empty where none could be read."""
        starts = [reader.state.run for reader in self.ranks.values() if reader.state.run]
        return max(starts, key=lambda run: finite(run.get("started")) or 0.0, default={})

    def current(self) -> list[RankReader]:
        """The ranks of the newest start; those beyond its world size belong to an earlier one."""
        world = self.start().get("world_size")
        if not isinstance(world, int) or world < 1:
            return list(self.ranks.values())
        return [reader for rank, reader in self.ranks.items() if rank < world]

    def server_now(self) -> float:
        """The file server's present time, as well as it is known."""
        if self.server_offset is not None:
            return time.time() + self.server_offset
        newest = max((reader.beat.mtime or 0.0 for reader in self.ranks.values()), default=0.0)
        return max(time.time(), newest)

    def silence(self, reader: RankReader) -> float | None:
        """Seconds since a rank's last heartbeat; None where it has none."""
        if reader.beat.mtime is None:
            return None
        return max(0.0, self.server_now() - reader.beat.mtime)

    def clock_offsets(self) -> dict[str, float]:
        """Host -> its clock minus the file server's in seconds, from heartbeats."""
        found: dict[str, float] = {}
        for reader in self.ranks.values():
            written = reader.beat.number("time")
            host = reader.beat.content.get("host")
            if written is not None and reader.beat.mtime is not None and isinstance(host, str):
                found[host] = written - reader.beat.mtime
        return found
