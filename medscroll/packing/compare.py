"""What a plan does next to what the usual ways would do: the figures of `medscroll pack`.

 - concatenate-and-truncate: documents in the order of the store, joined in batches of 1,000, cut every block_size, the
   remainder of each batch dropped (the `group_texts` of transformers' run_clm and of MedicalGPT, which keeps the
   remainder of a batch that is shorter than a block);
 - drop-long: documents longer than a block are left out (the default of Axolotl and ms-swift);
 - truncate: every document is one row and loses what does not fit (MedicalGPT with packing off).
Balance is the share of time that ranks spend waiting for the heaviest of a micro step, in attention and linear cost,
with the blocks dealt by `ScheduledBlocks` and without. `recommend` picks a block size from all of these.
Cost: the store's lengths once; the deal of some steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medscroll.packing.order import even_batches, seeded_permutation
from medscroll.packing.plan import PackPlan
from medscroll.packing.schedule import deal

BATCH_DOCUMENTS = 1000
MICRO_STEPS = 4
_STEPS = 200


def losses_elsewhere(lengths: np.ndarray, block_size: int) -> dict[str, dict[str, float]]:
    """Tokens that other ways would lose: {way: {"tokens", "share" of all tokens}}.

    Args:
        lengths: int64 [docs], in the order of the store.
    """
    totals = np.add.reduceat(lengths, np.arange(0, len(lengths), BATCH_DOCUMENTS)) if len(lengths) else lengths
    lost = {
        "concatenate_and_truncate": int((totals % block_size)[totals >= block_size].sum()),
        "drop_long": int(lengths[lengths > block_size].sum()),
        "truncate": int(np.maximum(lengths - block_size, 0).sum()),
    }
    total = max(1, int(lengths.sum()))
    return {way: {"tokens": tokens, "share": tokens / total} for way, tokens in lost.items()}


def balance(
    plan: PackPlan,
    *,
    ranks: int,
    linear_cost: float,
    micro_steps: int = MICRO_STEPS,
    steps: int = _STEPS,
    seed: int = 0,
) -> dict[str, float] | None:
    """Mean over maximum cost of the ranks in a micro step, 0..1, weighted by time: "dealt" and "undealt".

    One row a rank and micro step, up to `steps` global batches of the first epoch; undealt are the same rows in a
    plain seeded permutation. "worst" is the lowest of the dealt micro steps. None where the plan has not one whole
    global batch.
    """
    size = ranks * micro_steps
    steps = min(plan.num_blocks // size, steps)
    if steps == 0:
        return None
    costs = plan.block_squares + linear_cost * plan.block_lengths  # [blocks]
    drawn = seeded_permutation(plan.num_blocks, "blocks", seed, 0)
    order = even_batches(drawn, plan.block_squares[drawn], size, "lot", seed, 0)
    sums: dict[str, list[float]] = {"dealt": [0.0, 0.0], "undealt": [0.0, 0.0]}
    worst = 1.0
    for step in range(steps):
        span = slice(step * size, (step + 1) * size)
        batch = costs[order[span]]
        dealt = batch[deal(batch, ranks=ranks, per_device_batch=1, accumulation=micro_steps)[:, :, 0]]
        for name, rows in (("dealt", dealt), ("undealt", costs[drawn[span]].reshape(micro_steps, ranks))):
            sums[name][0] += float(rows.mean(axis=1).sum())  # rows: [micro, ranks]
            sums[name][1] += float(rows.max(axis=1).sum())
        worst = min(worst, float((dealt.mean(axis=1) / dealt.max(axis=1)).min()))
    return {name: mean / heaviest for name, (mean, heaviest) in sums.items()} | {"worst": worst}


def outlook(plan: PackPlan, *, linear_cost: float, ranks: tuple[int, ...] = (8, 64)) -> dict[str, Any]:
    """The plan's ledger and what follows from it.

    Returns:
        the ledger, and "cut_shares" by level; "whole_tokens": share of the tokens whose documents stay whole;
        "attention_time": of attention, relative to everything else in a step; "elsewhere" (see `losses_elsewhere`);
        "balance" by ranks.
    """
    ledger = plan.ledger()
    for left_out in ("truncated", "dropped"):
        del ledger[left_out]["document_indices"]
    cuts = ledger["cuts"]
    number = max(1, sum(cuts.values()))
    pieces_of = np.bincount(plan.document, minlength=len(plan.document_lengths))
    divided = plan.document_lengths[(pieces_of != 1) | (plan.document_lengths > plan.block_size)]
    return ledger | {
        "whole_tokens": 1 - int(divided.sum()) / max(1, ledger["tokens"]),
        "attention_time": float(plan.block_squares.sum()) / max(1.0, linear_cost * ledger["row_tokens"]),
        "cut_shares": {level: count / number for level, count in cuts.items()},
        "elsewhere": losses_elsewhere(plan.document_lengths, plan.block_size),
        "balance": {str(n): balance(plan, ranks=n, linear_cost=linear_cost) for n in ranks},
    }


WHOLE_ENOUGH = 0.95  # of the tokens in whole documents
WHOLE_TIME = 1.5  # what that may cost in time a token, relative to the fastest block size
LONGER_TIME = 1.25  # what longer pieces of divided documents may cost
LEAST_FILL = 0.95


def recommend(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The block size to take among those of `outlook`, and why: {"block_size", "reason", "time": {size: relative}}.

    Sizes that leave rows unfilled, or fewer rows than 8 ranks need for a global batch, are left aside. Then the
    smallest that keeps nearly all tokens in whole documents is enough, where attention over them costs no more than
    half as much again; where no size does that (books), the largest whose time a token stays near the fastest one's:
    longer pieces mean more context for what is learnt from them.
    """
    time = {f["block_size"]: (1 + f["attention_time"]) * f["row_tokens"] / max(1, f["tokens"]) for f in figures}
    usable = [f for f in figures if f["fill"] >= LEAST_FILL and f["balance"]["8"] is not None]
    relative = {size: value / min(time.values()) for size, value in time.items()}
    if not usable:
        best = max(figures, key=lambda f: (f["balance"]["8"] is not None, f["fill"]))
        reason = f"no size fills {LEAST_FILL:.0%} of its rows and gives 8 ranks a global batch; this comes nearest"
        return {"block_size": best["block_size"], "reason": reason, "time": relative}
    fastest = min(time[f["block_size"]] for f in usable)
    usable.sort(key=lambda f: int(f["block_size"]))
    for figure in usable:
        size = figure["block_size"]
        if figure["whole_tokens"] >= WHOLE_ENOUGH and time[size] <= WHOLE_TIME * fastest:
            reason = f"the smallest size at which {figure['whole_tokens']:.1%} of the tokens are in whole documents"
            break
    else:
        near = [f for f in usable if time[f["block_size"]] <= LONGER_TIME * fastest]
        figure = near[-1]
        size = figure["block_size"]
        reason = (
            f"{figure['whole_tokens']:.1%} of the tokens are in whole documents, and no size that can be afforded "
            f"reaches {WHOLE_ENOUGH:.0%}; the largest whose time a token is at most {LONGER_TIME - 1:.0%} above the "
            "fastest one's"
        )
    cost = f"{time[size] / fastest - 1:.0%} more time a token than the fastest of these sizes"
    return {"block_size": size, "reason": f"{reason} ({cost}; fill {figure['fill']:.1%})", "time": relative}
