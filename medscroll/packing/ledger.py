"""The conservation ledger of a run: written from what the trainer consumed, not from what it meant to.

The trainer calls `record` for each micro batch with the block indices that came out of the data loader and the number
of targets counted in its labels. Per pass the ledger keeps a bit a block and a few sums. Targets counted from labels
and targets that the plan has for these blocks are independent of each other; at every report
    tokens = targets + first tokens + continuations without context + truncated + dropped + not reached
must hold with the former, for each pass, also under `max_steps` and after resumes.
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
from medscroll.packing.plan import PackPlan

_COUNTERS = (
    "targets",
    "repeated_blocks",
    "repeated_targets",
    "fillers",
    "micro_batches",
    "wrong_micro_batches",
)


class ConservationError(RuntimeError):
    """Tokens are unaccounted for, or labels held other targets than the plan has: a defect, never the user's fault."""


@dataclasses.dataclass
class _Pass:
    """What has been consumed in one pass: bool [blocks] and sums."""

    consumed: np.ndarray
    targets: int = 0  # counted from labels, repeated blocks included
    repeated_blocks: int = 0
    repeated_targets: int = 0  # by the plan
    fillers: int = 0
    micro_batches: int = 0
    wrong_micro_batches: int = 0  # whose labels held another number of targets than the plan has

    def add(self, other: _Pass, block_targets: np.ndarray) -> None:
        twice = self.consumed & other.consumed
        self.repeated_blocks += int(twice.sum())
        self.repeated_targets += int(block_targets[twice].sum())
        self.consumed = self.consumed | other.consumed
        for name in _COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        packed = base64.b64encode(zlib.compress(np.packbits(self.consumed).tobytes())).decode()
        return {"consumed": packed} | {name: getattr(self, name) for name in _COUNTERS}

    @classmethod
    def from_json(cls, data: dict[str, Any], blocks: int) -> _Pass:
        raw = np.frombuffer(zlib.decompress(base64.b64decode(data["consumed"])), np.uint8)
        consumed = np.unpackbits(raw, count=blocks).astype(bool)
        return cls(consumed, **{name: int(data[name]) for name in _COUNTERS})


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

    def record(self, block_indices: Any, targets: Any, *, epoch: int | None = None) -> None:
        """Takes in one micro batch.

        Args:
            block_indices: of its rows, -1 for a filler; tensor, array or sequence of int.
            targets: number of labels that are not -100 in it.
            epoch: the pass; None: that of `set_epoch`.

        Raises:
            ValueError: a block that the plan does not have (a defect of the caller).
        """
        values = block_indices.tolist() if hasattr(block_indices, "tolist") else block_indices
        indices = np.atleast_1d(np.asarray(values, dtype=np.int64))
        plan, blocks = self.plan, indices[indices >= 0]
        if len(indices) and (indices.min() < -1 or indices.max() >= plan.num_blocks):
            raise ValueError(f"block index outside -1..{plan.num_blocks - 1}")
        entry = self._pass(self._own, self.epoch if epoch is None else int(epoch))
        unique = np.unique(blocks)
        seen = entry.consumed[unique]
        once = int(plan.block_targets[unique[~seen]].sum())
        total = int(plan.block_targets[blocks].sum())
        entry.consumed[unique] = True
        entry.repeated_blocks += len(blocks) - int((~seen).sum())
        entry.repeated_targets += total - once
        entry.fillers += len(indices) - len(blocks)
        entry.targets += int(targets)
        entry.micro_batches += 1
        entry.wrong_micro_batches += int(targets) != total

    def _pass(self, passes: dict[int, _Pass], epoch: int) -> _Pass:
        if epoch not in passes:
            passes[epoch] = _Pass(np.zeros(self.plan.num_blocks, bool))
        return passes[epoch]

    def _merged(self) -> dict[int, _Pass]:
        merged: dict[int, _Pass] = {}
        for source in (self._history, self._own):
            for epoch, entry in source.items():
                self._pass(merged, epoch).add(entry, self.plan.block_targets)
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
            blocks, self.epoch = self.plan.num_blocks, int(state["epoch"])
            self._history = {int(e): _Pass.from_json(data, blocks) for e, data in state["history"].items()}
            self._own = {int(e): _Pass.from_json(data, blocks) for e, data in state["own"].items()}
        except (KeyError, TypeError, ValueError, zlib.error) as error:
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
                total._pass(total._history, epoch).add(entry, self.plan.block_targets)
        return total.state_dict()

    def report(self, epochs: int | None = None) -> dict[str, Any]:
        """What was consumed, per pass; for all ranks where a merged state was loaded, else for this one.

        Args:
            epochs: passes that were intended: those never begun are listed with all their tokens as not reached.

        Returns:
            {"plan": the plan's ledger, "passes": [one entry a pass, see `_pass_report`], "conserved": bool,
            "problems": [text], "error": name of the exception that `check` raises, or None}.
        """
        merged = self._merged()
        for epoch in range(epochs or 0):
            self._pass(merged, epoch)
        passes = [_pass_report(self.plan, epoch, entry) for epoch, entry in sorted(merged.items())]
        problems = [f"pass {entry['pass']}: {problem}" for entry in passes for problem in entry["problems"]]
        return {
            "plan": self.plan.ledger(),
            "passes": passes,
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


def _pass_report(plan: PackPlan, epoch: int, entry: _Pass) -> dict[str, Any]:
    """One pass: blocks and documents reached, and where each token of the store went.

    `documents_complete` counts documents of which all pieces were consumed, `documents_touched` those of which some
    were. `targets` are from labels, without those of repeated blocks, which `repeated` counts.
    """
    lengths = plan.document_lengths
    used = np.repeat(entry.consumed, np.diff(plan.block_offsets))  # [pieces]
    own = plan.stop - plan.start
    pieces_of = np.bincount(plan.document, minlength=len(lengths))
    used_of = np.bincount(plan.document[used], minlength=len(lengths))
    truncated, dropped = plan.truncated_documents, plan.dropped_documents
    expected = int(plan.block_targets[entry.consumed].sum())
    targets = entry.targets - entry.repeated_targets
    report: dict[str, Any] = {
        "pass": epoch,
        "blocks": int(entry.consumed.sum()),
        "blocks_not_reached": int((~entry.consumed).sum()),
        "documents_touched": int((used_of > 0).sum()),
        "documents_complete": int(((used_of == pieces_of) & (pieces_of > 0)).sum()),
        "tokens": int(lengths.sum()),
        "tokens_consumed": int(own[used].sum()),
        "targets": targets,
        "first_tokens": int((used & (plan.start == 0)).sum()),
        "continuations_without_context": int((used & (plan.start > 0) & (plan.context == 0)).sum()),
        "truncated": int((lengths[truncated] - plan.block_size).sum()),
        "dropped": int(lengths[dropped].sum()),
        "not_reached": int(own[~used].sum()),
        "context_tokens": int(plan.context[used].sum()),
        "repeated": {"blocks": entry.repeated_blocks, "targets": entry.repeated_targets},
        "fillers": entry.fillers,
        "micro_batches": entry.micro_batches,
    }
    parts = ("targets", "first_tokens", "continuations_without_context", "truncated", "dropped", "not_reached")
    unaccounted = report["tokens"] - sum(report[part] for part in parts)
    problems = []
    if unaccounted:
        problems.append(f"{unaccounted} tokens are unaccounted for")
    if entry.wrong_micro_batches:
        problems.append(
            f"{entry.wrong_micro_batches} of {entry.micro_batches} micro batches held other targets in their labels "
            f"than the plan has for their blocks ({targets} against {expected} in all)"
        )
    if entry.repeated_blocks:
        problems.append(f"{entry.repeated_blocks} blocks were trained on more than once in this pass")
    return report | {"targets_by_plan": expected, "unaccounted": unaccounted, "problems": problems}
