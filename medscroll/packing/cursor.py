"""Where a run stands in its data. On resume the cursor verifies; the Trainer's own skip drives."""

from __future__ import annotations

import dataclasses
from typing import Any

from medscroll.errors import CheckpointError

_MEANING = {
    "order_version": "the rules of the order of data (the version of medscroll)",
    "data_digest": "the tokens of the documents",
    "plan_digest": "the blocks (documents, --data_dir, block_size or packing settings)",
    "document_mask": "--document_mask",
    "seed": "the seed of the order",
    "num_blocks": "the number of blocks of a pass (--max_train_samples)",
    "global_batch": "the blocks of a global batch (per_device_train_batch_size x gradient_accumulation_steps x ranks)",
    "epoch": "the epoch",
    "blocks_consumed": "the number of blocks consumed in that epoch",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cursor:
    """A place in the order of data that does not depend on the number of ranks.

    Attributes:
        order_version: of the rules that make the order (`medscroll.packing.order.ORDER_VERSION`).
        data_digest: of the tokens of all stores.
        plan_digest: of the pack plan.
        document_mask: whether attention stays inside documents.
        seed: of the order of blocks.
        num_blocks: blocks of a pass, fillers not counted.
        global_batch: blocks of a global batch, which the order depends on.
        epoch: the epoch under way, from 0.
        blocks_consumed: blocks of that epoch that have been trained on, fillers not counted.
    """

    order_version: int
    data_digest: str
    plan_digest: str
    document_mask: bool
    seed: int
    num_blocks: int
    global_batch: int
    epoch: int
    blocks_consumed: int

    @classmethod
    def at_step(cls, step: int, *, num_blocks: int, global_batch: int, **order: Any) -> Cursor:
        """The cursor after `step` optimizer steps of `global_batch` blocks over passes of `num_blocks` blocks.

        The end of an epoch is the beginning of the next one. `order` are the other fields.
        """
        steps_per_epoch = max(1, -(-num_blocks // global_batch))
        epoch, inside = divmod(step, steps_per_epoch)
        order |= {"epoch": epoch, "blocks_consumed": min(inside * global_batch, num_blocks)}
        return cls(num_blocks=num_blocks, global_batch=global_batch, **order)

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Cursor:
        """Reads what `to_json` wrote.

        Raises:
            CheckpointError: it was written under other rules of the order, or a field is missing or of another kind.
        """
        remedy = "resume from an older checkpoint"
        if isinstance(data, dict) and data and "order_version" not in data:
            raise CheckpointError(
                "the checkpoint was made by a version of medscroll that orders data by other rules: going on would "
                "repeat some blocks and leave out others",
                remedy="go on with that version, or start a new run in another output folder from the checkpoint's "
                "model",
            )
        try:
            kinds = {"int": int, "str": str, "bool": bool}
            values = {field.name: data[field.name] for field in dataclasses.fields(cls)}
            wrong = [f.name for f in dataclasses.fields(cls) if type(values[f.name]) is not kinds[str(f.type)]]
        except (KeyError, TypeError):
            wrong = ["field"]
        if wrong:
            raise CheckpointError("the checkpoint's data cursor cannot be read", remedy=remedy)
        return cls(**values)

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
