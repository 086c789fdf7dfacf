"""What `prepare` shows while it works: two progress bars and a few lines on stderr, or nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class Display:
    """Progress bars of the stages; use it as a context manager around the work.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}
        if not quiet:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def __enter__(self) -> Display:
        if not self.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description:10}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=self._console,
            )
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _update(self, name: str, unit: str, done: int, total: int) -> None:
        if self._progress is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, unit=unit)
        self._progress.update(self._tasks[name], completed=done, total=total, unit=unit)

    def documents(self, done: int, total: int, what: str) -> None:
        """Progress of the documents stage, in bytes of the sources; `what` says what is being done."""
        self._update("documents", f"bytes ({what})", done, total)

    def tokens(self, done: int, total: int) -> None:
        """Progress of tokenizing, in characters."""
        self._update("tokens", "characters", done, total)

    def say(self, text: str) -> None:
        """One line, no markup."""
        if not self.quiet:
            self._console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """One line of warning."""
        if not self.quiet:
            self._console.print("warning: " + text, markup=False, style="yellow")
