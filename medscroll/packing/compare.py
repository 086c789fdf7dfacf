"""What a plan does next to what the usual ways would do: the figures of `medscroll pack`.

 - concatenate-and-truncate: documents in the order of the store, joined in batches of 1,000, cut every block_size, the
   remainder of each batch dropped (the `group_texts` of transformers' run_clm and of MedicalGPT, which keeps the
   remainder of a batch that is shorter than a block);
 - drop-long: documents longer than a block are left out (the default of Axolotl and ms-swift);
 - truncate: every document is one row and loses what does not fit (MedicalGPT with packing off).
Balance is the share of time that ranks spend waiting for the heaviest of a micro step, in attention and linear cost,
with the blocks dealt by `ScheduledBlocks` and without. Cost: the store's lengths once; the deal of some steps.
"""

from __future__ import annotations

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
    """The plan's ledger, "cut_shares" by level, "elsewhere" (see `losses_elsewhere`) and "balance" by ranks."""
    ledger = plan.ledger()
    for left_out in ("truncated", "dropped"):
        del ledger[left_out]["document_indices"]
    cuts = ledger["cuts"]
    number = max(1, sum(cuts.values()))
    return ledger | {
        "cut_shares": {level: count / number for level, count in cuts.items()},
        "elsewhere": losses_elsewhere(plan.document_lengths, plan.block_size),
        "balance": {str(n): balance(plan, ranks=n, linear_cost=linear_cost) for n in ranks},
    }
