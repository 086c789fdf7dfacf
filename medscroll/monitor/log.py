"""The event file of one rank: JSON lines, written by a thread, bounded, whole after a kill.

Training only puts an event into a queue (microseconds): a file system that hangs holds up the thread, not the step.
Each line is one `write`, so a kill leaves whole lines; a torn last line of an earlier start is closed before the
first new one. The queue is bounded: what does not fit, or cannot be written, is counted, said once, and reported by
an alert
`telemetry_lost` when writing works again.

Bound: beyond `limit` bytes the file is replaced by a thinned one (see docs/monitor-events.md): `step` events older than
the newest `keep` stay only where the step is a multiple of `every`, which doubles each time; all other types stay.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIMIT = 64 * 2**20
KEEP = 1000
QUEUE = 4096
STOP = object()


def encode(event: Mapping[str, Any]) -> bytes:
    """An event as a line of strict JSON: what is not finite becomes a string ("nan", "inf", "-inf")."""
    try:
        text = json.dumps(event, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        text = json.dumps(_finite(event), ensure_ascii=False, allow_nan=False, default=str)
    return text.encode("utf-8") + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


class EventWriter:
    """Appends events to a file from a thread of its own.

    Args:
        path: the event file; its folder is made.
        limit: bytes beyond which the file is thinned.
        keep: newest step events that thinning leaves alone.
    """

    def __init__(self, path: Path, limit: int = LIMIT, keep: int = KEEP) -> None:
        self.path, self.limit, self.keep = path, limit, keep
        self.lost = 0
        self._every, self._said, self._thin_at = 1, False, limit
        self._queue: queue.Queue[Any] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._work, name="medscroll-events", daemon=True)
        self._thread.start()

    def write(self, event: Mapping[str, Any]) -> None:
        """Hand over one event; it gets its `time`. Never blocks and never raises for a file system's sake."""
        stamped = {**event, "time": event.get("time", time.time())}
        try:
            self._queue.put_nowait(stamped)
        except queue.Full:
            self._lose(1, "the file system does not keep up")

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was handed over is written; False after `timeout` seconds."""
        done = threading.Event()
        try:
            self._queue.put(done, timeout=timeout)
        except queue.Full:
            return False
        return done.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is left and end the thread."""
        with contextlib.suppress(queue.Full):
            self._queue.put(STOP, timeout=timeout)
            self._thread.join(timeout)

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        if not self._said:
            self._said = True
            print(f"WARNING: events are lost, training goes on ({self.path}: {reason})", file=sys.stderr, flush=True)

    def _work(self) -> None:
        with contextlib.suppress(OSError):
            self._close_torn_line()
        while True:
            item = self._queue.get()
            if item is STOP:
                return
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._append(item)
            except OSError as error:
                self._lose(1, error.strerror or str(error))
            except (TypeError, ValueError, RecursionError) as error:
                self._lose(1, f"an event is no JSON: {error}")

    def _append(self, event: Mapping[str, Any]) -> None:
        line = encode(event)
        if self.lost and self._said:
            found = {"kind": "telemetry_lost", "severity": "warning", "step": event.get("step", 0), "value": self.lost}
            message = f"{self.lost} events could not be written"
            lost = {"type": "alert", "time": time.time(), **found, "message": message, "limit": None}
            line = encode(lost) + line
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            written = os.write(handle, line)
            if written < len(line):  # a full disk takes a part of it: take that back
                os.ftruncate(handle, size)
                raise OSError(28, "no space left on device")
        finally:
            os.close(handle)
        if self.lost and self._said:
            self.lost, self._said = 0, False
        if size + len(line) > self._thin_at:
            self._thin()

    def _close_torn_line(self) -> None:
        with self.path.open("rb+") as handle:
            if handle.seek(0, os.SEEK_END) and handle.seek(-1, os.SEEK_END) is not None and handle.read(1) != b"\n":
                handle.write(b"\n")

    def _thin(self) -> None:
        """Replace the file by one with fewer step events; a reader sees the old one or the new one."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        steps = [_step_of(line) for line in lines]
        places = [place for place, step in enumerate(steps) if step is not None]
        for line in lines:
            if b'"thinned"' in line:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._every = max(self._every, int(json.loads(line)["every"]))
        border = places[-self.keep] if len(places) >= self.keep else len(lines)
        before = steps[border] or 0 if border < len(lines) else 0
        kept = self._every_nth(lines, steps, border)
        while sum(map(len, kept)) > self.limit // 2 and self._every < 2**30:
            self._every *= 2
            kept = self._every_nth(lines, steps, border)
        note = {"type": "thinned", "time": time.time(), "every": self._every}
        kept.append(encode({**note, "removed": len(lines) - len(kept), "before_step": before}))
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        partial.write_bytes(b"".join(kept))
        os.replace(partial, self.path)
        # What cannot be thinned may stand above the limit: do not rewrite it at every event.
        self._thin_at = max(self.limit, sum(map(len, kept)) + self.limit // 4)

    def _every_nth(self, lines: list[bytes], steps: list[int | None], border: int) -> list[bytes]:
        """The lines without the step events before line `border` whose step is no multiple of `every`."""
        numbered = enumerate(zip(lines, steps, strict=True))
        return [line for at, (line, step) in numbered if step is None or at >= border or step % self._every == 0]


def _step_of(line: bytes) -> int | None:
    """The step of a line that is a step event."""
    if b'"step"' not in line:
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    is_step = isinstance(event, dict) and event.get("type") == "step" and isinstance(event.get("step"), int)
    return int(event["step"]) if is_step else None
