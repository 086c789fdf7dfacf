"""What a step consumed: this rank's blocks, tokens and targets, and the tokens of all ranks.

Pure host bookkeeping: block numbers come from the collator as Python integers, and what the other ranks consume is
known from the schedule, so nothing is communicated or read back from a device.
"""

from __future__ import annotations

from typing import Any

from medscroll.packing.schedule import ScheduledBlocks


class StepRecord:
    """Counts of the step under way and of the window since the last log.

    Args:
        schedule: the order of blocks of this run.
    """

    def __init__(self, schedule: ScheduledBlocks) -> None:
        self.schedule = schedule
        plan = schedule.dataset.plan
        self.block_tokens, self.block_squares = plan.block_lengths, plan.block_squares
        self.last_step: dict[str, Any] = {}
        self.loss_by_position: list[dict[str, float]] = []  # of the last evaluation, all ranks
        self._blocks: list[int] = []
        self._targets = 0
        self.start_window()

    def start_window(self) -> None:
        """Forget the counts since the last log."""
        self._window_tokens, self._window_squares = 0.0, 0.0

    def add(self, blocks: list[int], targets: int) -> None:
        """One micro batch of this rank: its blocks (-1 for a filler) and the targets counted in its labels."""
        self._blocks += blocks
        self._targets += targets

    def set_global(self, blocks: Any) -> None:
        """The blocks of the global batch under way, of all ranks; int64 array without fillers."""
        self._window_tokens += float(self.block_tokens[blocks].sum())
        self._window_squares += float(self.block_squares[blocks].sum())

    def finish_step(self) -> None:
        """Close the step: `last_step` becomes its record on this rank."""
        real = [block for block in self._blocks if block >= 0]
        self.last_step = {
            "blocks": real,
            "fillers": len(self._blocks) - len(real),
            "tokens": int(self.block_tokens[real].sum()) if real else 0,
            "targets": self._targets,
        }
        self._blocks, self._targets = [], 0

    @property
    def window_global(self) -> tuple[float, float]:
        """Tokens and summed squared piece lengths of all ranks since the last log."""
        return self._window_tokens, self._window_squares
