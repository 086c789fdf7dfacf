"""One pass of a run in figures: where each token of each store went, from what was consumed.

A pass of a run is one epoch. Where several stores are mixed, an epoch holds one or more passes over each of them, and
each has an entry of its own under "stores"; the entry of the epoch is their sum. In every entry
    tokens = targets + first_tokens + continuations_without_context + truncated + dropped + not_reached
where only the targets were counted by the trainer and the rest follows from which blocks it consumed: what is wrong
on one side stands out as `unaccounted`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medscroll.packing.cuts import LEVEL_NAMES
from medscroll.packing.plan import PackPlan, PlanPart

IDENTITY = ("targets", "first_tokens", "continuations_without_context", "truncated", "dropped", "not_reached")


def parts_of(plan: PackPlan) -> tuple[PlanPart, ...]:
    """The passes over stores of a plan; the plan itself where it is not known to be put together from any."""
    return plan.parts or (PlanPart("", 0, int(plan.document_lengths.sum()), plan),)


def part_entry(part: PlanPart, consumed: np.ndarray, targets: int, repeated: tuple[int, int]) -> dict[str, Any]:
    """One pass over one store.

    Args:
        consumed: bool [blocks of the part].
        targets: counted from labels, those of repeated blocks included.
        repeated: blocks, and their targets by the plan.

    Returns:
        counts: documents (`documents_touched`: some of their pieces were consumed, `documents_complete`: all, of them
        `whole` in one piece and `divided`), tokens and where they went, consumed `cuts` by level, `row_tokens` of the
        consumed rows, and `not_chosen`: tokens of the store that a share smaller than a pass left out.
    """
    plan, lengths = part.plan, part.plan.document_lengths
    used = np.repeat(consumed, np.diff(plan.block_offsets))  # [pieces]
    own, continued = plan.stop - plan.start, plan.start > 0
    pieces_of = np.bincount(plan.document, minlength=len(lengths))
    used_of = np.bincount(plan.document[used], minlength=len(lengths))
    complete = (used_of == pieces_of) & (pieces_of > 0)
    levels = np.bincount(plan.level[used & continued], minlength=max(LEVEL_NAMES) + 1)
    truncated, dropped = plan.truncated_documents, plan.dropped_documents
    entry: dict[str, Any] = {
        "blocks": int(consumed.sum()),
        "blocks_not_reached": int((~consumed).sum()),
        "documents": len(lengths),
        "documents_touched": int((used_of > 0).sum()),
        "documents_complete": int(complete.sum()),
        "whole": int((complete & (pieces_of == 1)).sum()),
        "divided": int((complete & (pieces_of > 1)).sum()),
        "tokens": int(lengths.sum()),
        "tokens_consumed": int(own[used].sum()),
        "targets": targets - repeated[1],
        "first_tokens": int((used & (plan.start == 0)).sum()),
        "continuations_without_context": int((used & continued & (plan.context == 0)).sum()),
        "truncated": int((lengths[truncated] - plan.block_size).sum()),
        "truncated_documents": len(truncated),
        "dropped": int(lengths[dropped].sum()),
        "dropped_documents": len(dropped),
        "not_reached": int(own[~used].sum()),
        "not_chosen": part.store_tokens - int(lengths.sum()),
        "context_tokens": int(plan.context[used].sum()),
        "row_tokens": int(plan.block_lengths[consumed].sum()),
        "cuts": {name: int(levels[level]) for level, name in LEVEL_NAMES.items()},
        "repeated": {"blocks": repeated[0], "targets": repeated[1]},
        "targets_by_plan": int(plan.block_targets[consumed].sum()),
    }
    return entry | {"unaccounted": entry["tokens"] - sum(entry[part] for part in IDENTITY)}


def added(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums of all counts; mappings are added key by key, anything else is left out."""
    total: dict[str, Any] = {}
    for entry in entries:
        for name, value in entry.items():
            if isinstance(value, dict):
                total[name] = added([total.get(name, {}), value])
            elif isinstance(value, int) and not isinstance(value, bool):
                total[name] = total.get(name, 0) + value
    return total


def reasons(plan: PackPlan) -> dict[str, str]:
    """Why tokens of each kind are no targets."""
    longer = f"documents longer than --block_size {plan.block_size}, as --overlong {plan.policy.overlong} says"
    return {
        "first_tokens": "the first token of a document has nothing to be predicted from",
        "continuations_without_context": "--context_tokens 0: nothing to predict a continuation's first token from",
        "truncated": f"the ends of {longer}",
        "dropped": longer,
        "not_reached": "the run ended before: --max_steps, --max_train_samples, or it was stopped",
        "not_chosen": "documents of a store of which --data_dir asks less than a pass",
        "padding": "rows are not padded; tokens of a micro batch beyond its rows would be counted here",
        "fillers": "rows of one token without a target that complete the last global batch of a pass",
    }
