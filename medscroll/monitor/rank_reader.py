"""One rank's event file and heartbeat, followed: open at once, read what is new, catch up with the rest in slices.

A file of up to `SMALL` bytes is read whole. Of a larger one the head, samples from the middle and the tail are read
first, which shows the whole curve coarsely; then the file is read from its start in slices that the caller's budget
allows, and replaces the coarse picture when it has caught up. The rank whose loss is shown is parsed line by line; of
the others, where the run is large, `POINTS` steps and every event that is no step.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medscroll.monitor import tail as tails
from medscroll.monitor.numbers import finite
from medscroll.monitor.rank_state import MEASURED, RankState
from medscroll.monitor.schema import events_path, heartbeat_path
from medscroll.monitor.tail import CHUNK, Tail

SMALL = 256 * 1024
HEAD, TAIL, MIDDLE = 8 * 1024, 40 * 1024, 12
POINTS = 256
BURST = 4 * 2**20  # more than this at once is sampled, as the rest of the file is


@dataclass
class Beat:
    """The last heartbeat of a rank.

    Attributes:
        content: what it says; empty before the first one.
        mtime: by the file server's clock; None without one.
        changed: local monotonic time when a new one was last seen.
    """

    content: dict[str, Any]
    mtime: float | None = None
    changed: float = 0.0

    def number(self, name: str) -> float | None:
        """A finite number of the content."""
        return finite(self.content.get(name))


class RankReader:
    """Follows one rank.

    Args:
        folder: the run folder.
        rank: the rank.
        reference: whether this rank's loss is shown: every line of it is parsed.
    """

    def __init__(self, folder: Path, rank: int, reference: bool = False) -> None:
        self.rank, self.reference = rank, reference
        self.buckets = 1024 if reference else 256
        self.every_line = reference  # False: older steps are sampled
        self.tail = Tail(events_path(folder, rank))
        self.heartbeat = heartbeat_path(folder, rank)
        self.beat = Beat({})
        self.bad_beats = 0
        self._start()

    def _start(self) -> None:
        self.tail.offset = self.tail.inode = 0
        self.state = RankState(self.buckets)
        self._opened = False
        self._behind: RankState | None = None
        self._rest = Tail(self.tail.path)

    @property
    def host(self) -> str:
        """The rank's host name; "?" where neither events nor heartbeat say."""
        return str(self.state.run.get("host") or self.beat.content.get("host") or "?")

    @property
    def share_read(self) -> float:
        """Share of the file's bytes that the curves rest on, 0 to 1; below 1 while catching up."""
        return 1.0 if self._behind is None else self._rest.offset / max(self.tail.size, 1)

    @property
    def unfinished(self) -> bool:
        """Whether the file ends in half a line."""
        return self.tail.inode != 0 and self.tail.offset < self.tail.size

    def refresh(self) -> bool:
        """Read the heartbeat and what the event file has gained; True where something is new."""
        changed = self._read_heartbeat()
        if self.tail.look():
            self._start()
            self.tail.look()
        if self.tail.size == 0 and not self.tail.inode:
            return changed
        before = self.state.lines
        if not self._opened:
            self._open()
        grown = self.tail.size - self.tail.offset
        for lines in self.tail.lines():
            if grown > BURST and not self.every_line:
                self.state.feed_some(lines)
            else:
                for line in lines:
                    self.state.feed(line)
        return changed or self.state.lines != before

    def _open(self) -> None:
        self._opened = True
        size = self.tail.size
        if size <= SMALL:
            return
        self._behind = RankState(self.buckets)
        with self.tail.path.open("rb") as handle:
            head = handle.read(HEAD).split(b"\n")[:-1]
            at = size - TAIL
            handle.seek(at)
            at += len(handle.readline())  # the rest of a line that began before
        for line in head:
            self.state.feed(line)
        count = MIDDLE * (16 if self.reference else 1)
        for lines in tails.samples(self.tail.path, size - TAIL, count):
            self.state.feed(next((line for line in reversed(lines) if MEASURED in line), lines[-1]))
        self.state.sampled, self.state.bad = True, 0  # samples may begin inside a line; the whole reading counts
        self.tail.offset = at

    def catch_up(self, seconds: float) -> bool:
        """Go on reading the file from its start for about `seconds` of processor time; True when nothing is left."""
        if self._behind is None:
            return True
        deadline = time.thread_time() + seconds
        samples = max(2, -(-POINTS * CHUNK // max(self.tail.size, 1)))
        while self._rest.offset < self.tail.offset:
            left = self.tail.offset - self._rest.offset
            before = self._rest.offset
            for lines in self._rest.lines(most=min(left, 1)):
                if self.every_line:
                    for line in lines:
                        self._behind.feed(line)
                else:
                    self._behind.feed_some(lines, samples)
            if self._rest.offset == before:
                break
            if time.thread_time() > deadline and self._rest.offset < self.tail.offset:
                return False
        if self._rest.offset >= self.tail.offset:
            self.tail.offset, self.tail.skipped = self._rest.offset, self._rest.skipped
            self._behind.recent = self.state.recent  # of the tail, which was parsed line by line
            self._behind.latest.update(self.state.latest)
            self._behind.step = self.state.step
            self.state = self._behind
        self._behind = None
        return True

    def _read_heartbeat(self) -> bool:
        try:
            with self.heartbeat.open("rb") as handle:
                mtime = os.fstat(handle.fileno()).st_mtime
                if mtime == self.beat.mtime:
                    return False
                content = json.loads(handle.read(65536))
        except OSError:
            return False
        except (ValueError, RecursionError):
            self.bad_beats += 1  # rewritten in place: the next look finds it whole
            return False
        if not isinstance(content, dict):
            self.bad_beats += 1
            return False
        self.beat = Beat(content, mtime, time.monotonic())
        return True
