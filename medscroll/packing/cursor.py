"""Where a run stands in its data. On resume the cursor verifies; the Trainer's own skip drives."""

from __future__ import annotations

import dataclasses
from typing import Any

from medscroll.errors import CheckpointError

_MEANING = {
    "plan_digest": "the blocks (documents, tokenizer, block_size or packing settings are not the same)",
    "seed": "the seed of the order",
    "epoch": "the epoch",
    "blocks_consumed": "the number of blocks consumed in that epoch",
}


@dataclasses.dataclass(frozen=True)
class Cursor:
    """A place in the order of data that does not depend on the number of ranks.

    Attributes:
        plan_digest: of the pack plan.
        seed: of the order of blocks.
        epoch: the epoch under way, from 0.
        blocks_consumed: blocks of that epoch that have been trained on, fillers not counted.
    """

    plan_digest: str
    seed: int
    epoch: int
    blocks_consumed: int

    @classmethod
    def at_step(cls, *, plan_digest: str, seed: int, num_blocks: int, global_batch: int, step: int) -> Cursor:
        """The cursor after `step` optimizer steps of `global_batch` blocks over passes of `num_blocks` blocks.

        The end of an epoch is the beginning of the next one.
        """
        steps_per_epoch = max(1, -(-num_blocks // global_batch))
        epoch, inside = divmod(step, steps_per_epoch)
        return cls(plan_digest, seed, epoch, min(inside * global_batch, num_blocks))

    def to_json(self) -> dict[str, Any]:
        """The four fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Cursor:
        """Reads what `to_json` wrote.

        Raises:
            CheckpointError: a field is missing or of the wrong kind.
        """
        try:
            return cls(str(data["plan_digest"]), int(data["seed"]), int(data["epoch"]), int(data["blocks_consumed"]))
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(
                "the checkpoint's data cursor cannot be read", remedy="resume from an older checkpoint"
            ) from None

    def verify(self, current: Cursor, *, where: str | None = None) -> None:
        """Compares this cursor, of a checkpoint, with where the resumed run would go on.

        Args:
            where: the checkpoint, for the error.

        Raises:
            CheckpointError: going on would repeat or leave out blocks; it names each difference.
        """
        differences = [
            f"{meaning}: {getattr(self, name)} in the checkpoint, {getattr(current, name)} now"
            for name, meaning in _MEANING.items()
            if getattr(self, name) != getattr(current, name)
        ]
        if differences:
            raise CheckpointError(
                "the run cannot go on exactly where the checkpoint stopped; different: " + "; ".join(differences),
                where=where,
                remedy="resume with the data, packing settings, seed and global batch that the checkpoint was made "
                "with, or start a new run in another output folder from the checkpoint's model",
            )
