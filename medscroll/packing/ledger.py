"""The conservation ledger of a run: written from what the trainer consumed, not from what it meant to.

The trainer calls `record` for each micro batch with the block indices that came out of the data loader, the targets
counted in the labels of each row, and the tokens of the batch. Per pass the ledger keeps a bit a block and a few sums
for each pass over a store. Targets counted from labels and targets that the plan has for these blocks are independent
of each other; at every report
    tokens = targets + first tokens + continuations without context + truncated + dropped + not reached
must hold with the former, for each pass and store, also under `max_steps` and after resumes (`ledger_report`).
Every rank records its own micro batches; `merge` puts the states of all ranks together, and that merged state is
what a checkpoint keeps and every rank loads, whatever their number.
Cost: one bit a block and pass in memory; a state is at most that, compressed.
"""

from __future__ import annotations

import base64
import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from medscroll.errors import CheckpointError
from medscroll.packing.ledger_report import added, part_entry, parts_of, reasons
from medscroll.packing.plan import PackPlan

_OF_PARTS = ("targets", "repeated_blocks", "repeated_targets")
_COUNTERS = ("fillers", "micro_batches", "wrong_micro_batches", "padding")


class ConservationError(RuntimeError):
    """Tokens are unaccounted for, or labels held other targets than the plan has: a defect, never the user's fault."""


@dataclasses.dataclass
class _Pass:
    """What has been consumed in one pass: bool [blocks], sums by part of the plan int64 [parts], and plain sums."""

    consumed: np.ndarray
    targets: np.ndarray  # counted from labels, repeated blocks included
    repeated_blocks: np.ndarray
    repeated_targets: np.ndarray  # by the plan
    fillers: int = 0
    micro_batches: int = 0
    wrong_micro_batches: int = 0  # whose labels held another number of targets than the plan has, or too few tokens
    padding: int = 0

    @classmethod
    def empty(cls, plan: PackPlan) -> _Pass:
        one, two, three = (np.zeros(len(plan.part_starts) - 1, np.int64) for _ in _OF_PARTS)
        return cls(np.zeros(plan.num_blocks, bool), one, two, three)

    def add(self, other: _Pass, plan: PackPlan) -> None:
        for name in (*_OF_PARTS, *_COUNTERS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        twice = np.flatnonzero(self.consumed & other.consumed)
        self._repeat(twice, plan)
        self.consumed = self.consumed | other.consumed

    def take(self, blocks: np.ndarray, plan: PackPlan) -> None:
        """Marks blocks as consumed; what is there already, or twice among them, is repeated."""
        unique, first = np.unique(blocks, return_index=True)
        again = np.delete(blocks, first)
        self._repeat(np.concatenate([again, unique[self.consumed[unique]]]), plan)
        self.consumed[unique] = True

    def _repeat(self, blocks: np.ndarray, plan: PackPlan) -> None:
        if len(blocks):
            part = plan.part_of(blocks)
            np.add.at(self.repeated_blocks, part, 1)
            np.add.at(self.repeated_targets, part, plan.block_targets[blocks])

    def to_json(self) -> dict[str, Any]:
        packed = base64.b64encode(zlib.compress(np.packbits(self.consumed).tobytes())).decode()
        return (
            {"consumed": packed}
            | {name: getattr(self, name).tolist() for name in _OF_PARTS}
            | {name: getattr(self, name) for name in _COUNTERS}
        )

    @classmethod
    def from_json(cls, data: dict[str, Any], plan: PackPlan) -> _Pass:
        raw = np.frombuffer(zlib.decompress(base64.b64decode(data["consumed"])), np.uint8)
        columns = {name: np.asarray(data[name], np.int64).reshape(len(plan.part_starts) - 1) for name in _OF_PARTS}
        if len(raw) != -(-plan.num_blocks // 8):
            raise ValueError("another number of blocks")
        consumed = np.unpackbits(raw, count=plan.num_blocks).astype(bool)
        values: dict[str, Any] = {**columns, **{name: int(data[name]) for name in _COUNTERS}}
        return cls(consumed, **values)


class ConsumptionLedger:
    """Counts what one rank consumed; see the module for how ranks and resumes come together.

    Args:
        plan: the pack plan that is trained on.
    """

    def __init__(self, plan: PackPlan) -> None:
        self.plan = plan
        self.epoch = 0
        self._history: dict[int, _Pass] = {}  # merged over ranks, before the last resume
        self._own: dict[int, _Pass] = {}  # of this rank, since then

    def set_epoch(self, epoch: int) -> None:
        """The pass that following records belong to."""
        self.epoch = int(epoch)

    def record(self, block_indices: Any, targets: Any, *, tokens: int | None = None, epoch: int | None = None) -> None:
        """Takes in one micro batch.

        Args:
            block_indices: of its rows, -1 for a filler; tensor, array or sequence of int.
            targets: number of labels that are not -100, of each row; their sum will do where all rows are of one
                pass over one store.
            tokens: that the batch holds; what goes beyond its rows is padding. None: not counted.
            epoch: the pass; None: that of `set_epoch`.

        Raises:
            ValueError: a block that the plan does not have, or a sum for rows of several parts (a defect of the
                caller).
        """
        indices, counts = _array(block_indices), _array(targets)  # [rows], [rows] or [1]
        plan, real = self.plan, indices >= 0
        blocks = indices[real]
        if len(indices) and (indices.min() < -1 or indices.max() >= plan.num_blocks):
            raise ValueError(f"block index outside -1..{plan.num_blocks - 1}")
        part = np.zeros(len(indices), np.int64)
        part[real] = plan.part_of(blocks)
        if len(counts) != len(indices):
            if len(counts) != 1 or len(np.unique(part[real])) > 1:
                raise ValueError("targets of each row are needed where rows are of several passes over stores")
            part = part[real][:1] if len(blocks) else np.zeros(1, np.int64)
        entry = self._pass(self._own, self.epoch if epoch is None else int(epoch))
        np.add.at(entry.targets, part, counts)
        entry.take(blocks, plan)
        entry.fillers += len(indices) - len(blocks)
        entry.micro_batches += 1
        beyond = 0 if tokens is None else int(tokens) - int(plan.block_lengths[blocks].sum()) - int((~real).sum())
        entry.padding += beyond
        entry.wrong_micro_batches += int(counts.sum()) != int(plan.block_targets[blocks].sum()) or beyond < 0

    def _pass(self, passes: dict[int, _Pass], epoch: int) -> _Pass:
        if epoch not in passes:
            passes[epoch] = _Pass.empty(self.plan)
        return passes[epoch]

    def _merged(self) -> dict[int, _Pass]:
        merged: dict[int, _Pass] = {}
        for source in (self._history, self._own):
            for epoch, entry in source.items():
                self._pass(merged, epoch).add(entry, self.plan)
        return dict(sorted(merged.items()))

    def state_dict(self) -> dict[str, Any]:
        """JSON-serialisable state of this rank: the common history and its own records since."""
        return {
            "plan_digest": self.plan.digest,
            "epoch": self.epoch,
            "history": {str(epoch): entry.to_json() for epoch, entry in sorted(self._history.items())},
            "own": {str(epoch): entry.to_json() for epoch, entry in sorted(self._own.items())},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state: of `merge` on every rank, or of `state_dict` on the one rank that made it.

        Raises:
            CheckpointError: the state is of another plan or cannot be read.
        """
        if not isinstance(state, dict) or state.get("plan_digest") != self.plan.digest:
            raise CheckpointError(
                "the checkpoint's ledger counts the blocks of another pack plan",
                remedy="resume with the data and packing settings that the checkpoint was made with",
            )
        try:
            self.epoch = int(state["epoch"])
            self._history = {int(e): _Pass.from_json(data, self.plan) for e, data in state["history"].items()}
            self._own = {int(e): _Pass.from_json(data, self.plan) for e, data in state["own"].items()}
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError, zlib.error) as error:
            raise CheckpointError(
                f"the checkpoint's ledger cannot be read ({type(error).__name__})",
                remedy="resume from an older checkpoint",
            ) from None

    def merge(self, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The states of all ranks as one, whose history holds everything; this ledger itself stays as it is.

        Args:
            states: `state_dict()` of every rank, in any order.

        Raises:
            CheckpointError: states of another plan.
            ConservationError: the ranks do not have the same history.
        """
        total = ConsumptionLedger(self.plan)
        for number, state in enumerate(states):
            rank = ConsumptionLedger(self.plan)
            rank.load_state_dict(state)
            if number == 0:
                total._history, total.epoch = rank._history, rank.epoch
            elif state["history"] != states[0]["history"]:
                raise ConservationError("the ranks went on from different ledgers")
            total.epoch = max(total.epoch, rank.epoch)
            for epoch, entry in rank._own.items():
                total._pass(total._history, epoch).add(entry, self.plan)
        return total.state_dict()

    def report(self, epochs: int | None = None) -> dict[str, Any]:
        """What was consumed, per pass; for all ranks where a merged state was loaded, else for this one.

        Args:
            epochs: passes that were intended: those never begun are listed with all their tokens as not reached.

        Returns:
            {"plan": the plan's ledger, "stores": what it is put together from, "total": sums over the passes,
            "passes": [one entry a pass, with its "stores", see `ledger_report.part_entry`], "reasons": why tokens are
            no targets, "conserved": bool, "problems": [text], "error": name of the exception that `check` raises, or
            None}.
        """
        merged = self._merged()
        for epoch in range(epochs or 0):
            self._pass(merged, epoch)
        passes = [_pass_report(self.plan, epoch, entry) for epoch, entry in sorted(merged.items())]
        problems = [f"pass {entry['pass']}: {problem}" for entry in passes for problem in entry["problems"]]
        total = added(passes)
        total.pop("pass", None)
        return {
            "total": total,
            "plan": self.plan.ledger(),
            "stores": [
                {
                    "store": part.store,
                    "store_pass": part.number,
                    "store_tokens": part.store_tokens,
                    "documents": len(part.plan.document_lengths),
                    "tokens": int(part.plan.document_lengths.sum()),
                    "blocks": part.plan.num_blocks,
                    "plan_digest": part.plan.digest,
                }
                for part in parts_of(self.plan)
            ],
            "passes": passes,
            "reasons": reasons(self.plan),
            "conserved": not problems,
            "problems": problems,
            "error": ConservationError.__name__ if problems else None,
        }

    def check(self, epochs: int | None = None) -> dict[str, Any]:
        """The report, if nothing is unaccounted for.

        Raises:
            ConservationError: tokens do not add up, or labels held other targets than the plan; says which pass.
        """
        report = self.report(epochs)
        if report["problems"]:
            raise ConservationError("; ".join(report["problems"]))
        return report


def _array(values: Any) -> np.ndarray:
    return np.atleast_1d(np.asarray(values.tolist() if hasattr(values, "tolist") else values, dtype=np.int64))


def _pass_report(plan: PackPlan, epoch: int, entry: _Pass) -> dict[str, Any]:
    """One pass: the sums over its parts, each part under "stores", and what does not add up."""
    starts, parts = plan.part_starts.tolist(), parts_of(plan)
    stores = [
        {"store": part.store, "store_pass": part.number}
        | part_entry(
            part,
            entry.consumed[starts[at] : starts[at + 1]],
            int(entry.targets[at]),
            (int(entry.repeated_blocks[at]), int(entry.repeated_targets[at])),
        )
        for at, part in enumerate(parts)
    ]
    sums = added(stores)
    del sums["store_pass"]
    problems = [
        f"{store['unaccounted']} tokens are unaccounted for" + (f" ({store['store']})" if store["store"] else "")
        for store in stores
        if store["unaccounted"]
    ]
    if entry.wrong_micro_batches:
        problems.append(
            f"{entry.wrong_micro_batches} of {entry.micro_batches} micro batches held other targets in their labels "
            f"than the plan has for their blocks ({sums['targets']} against {sums['targets_by_plan']} in all)"
        )
    if sums["repeated"]["blocks"]:
        problems.append(f"{sums['repeated']['blocks']} blocks were trained on more than once in this pass")
    return (
        {"pass": epoch}
        | sums
        | {"fillers": entry.fillers, "micro_batches": entry.micro_batches, "padding": entry.padding}
        | {"problems": problems, "stores": stores}
    )
