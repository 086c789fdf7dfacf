"""Following runs in a thread: every two seconds a look, a slice of what was not read yet, and a snapshot on demand.

A look and its slice take 0.1 s of processor time together, a twentieth of a core; what is new always comes first.

`Follower.view(after)` gives the newest snapshot with its `serial`, or None where the asker has it already. Snapshots
are built when asked for, so a server that nobody looks at only reads. What it costs: benchmarks/watch_scale.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from medscroll.monitor.run_reader import RunReader
from medscroll.monitor.snapshot import snapshot

INTERVAL, BUDGET = 2.0, 0.1
STALE = 5.0  # seconds after which a snapshot is rebuilt though no file has changed: silence grows


class Follower:
    """Keeps runs fresh.

    Args:
        runs: what to follow; each was opened, nothing of it need have been read.
        interval: seconds between looks.
        language: handed to the page: "zh", "en", or None for the browser's own.
    """

    def __init__(self, runs: Sequence[RunReader], interval: float = INTERVAL, language: str | None = None) -> None:
        self.runs, self.interval, self.language = list(runs), interval, language
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._view: dict[str, Any] = {}
        self._versions: tuple[int, ...] = ()
        self._built, self._serial = 0.0, 0
        for run in self.runs:
            run.refresh(budget=0.0)

    def start(self) -> None:
        """Begin to follow in a thread of its own."""
        self._thread = threading.Thread(target=self._follow, name="medscroll-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _follow(self) -> None:
        while not self._stop.wait(self.interval):
            self.look()

    def look(self) -> None:
        """Look at all runs once."""
        for run in self.runs:
            with self._lock:
                run.refresh(budget=BUDGET / len(self.runs))

    def view(self, after: int = -1) -> dict[str, Any] | None:
        """The newest snapshot; None where `after` is its serial and nothing has changed since."""
        with self._lock:
            versions = tuple(run.version for run in self.runs)
            age = time.monotonic() - self._built
            if not self._view or versions != self._versions or age > STALE:
                self._serial += 1
                self._view = {**snapshot(self.runs), "serial": self._serial, "language": self.language}
                self._versions, self._built = versions, time.monotonic()
            return None if after == self._serial else self._view

    def locked(self) -> threading.Lock:
        """The lock under which the runs may be read from another thread."""
        return self._lock
