"""Candidates made by hand, for what shows and writes them."""

from __future__ import annotations

from typing import Any

from medscroll.planning.candidate import (
    GIB,
    Candidate,
    Disk,
    HostMemory,
    MemoryBreakdown,
    NetworkBytes,
    TimeBreakdown,
    TrainingSetup,
)


def setup(**changes: Any) -> TrainingSetup:
    """67B on 8 x 8 GPUs under ZeRO-3."""
    values: dict[str, Any] = {
        "config": None,
        "model_name": "deepseek-67b",
        "parameters": 67_430_000_000,
        "nodes": 8,
        "gpus_per_node": 8,
        "micro_batch": 2,
        "accumulation": 2,
        "zero_options": {"stage": 3, "reduce_bucket_size": 67_108_864, "sub_group_size": 1_000_000_000},
    }
    return TrainingSetup(**{**values, **changes})


def candidate(fits: bool = True, activations: float = 20.0, **changes: Any) -> Candidate:
    """A candidate with numbers of the right size; `changes` go into its setup."""
    return Candidate(
        setup=setup(**changes),
        memory=MemoryBreakdown(
            weights=2 * GIB,
            gradients=4 * GIB,
            optimizer_states=12 * GIB,
            activations=round(activations * GIB),
            logits=3 * GIB,
            live_parameters=2 * GIB,
            communication_buffers=GIB,
            cuda_context=GIB // 2,
            allocator_slack=GIB,
            why={"weights": "2 bytes x 67.43 B / 64 <ranks>"},
        ),
        time=TimeBreakdown(
            matmul=20.0,
            attention=2.0,
            recompute=6.0,
            optimizer=0.5,
            communication_total=9.0,
            communication_exposed=1.5,
            tokens_per_second=34_000.0,
            mfu=0.41,
        ),
        host=HostMemory(at_load=100 * GIB, steady=80 * GIB),
        disk=Disk(checkpoint=944 * 10**9, model=135 * 10**9, kept=2023 * 10**9),
        network=NetworkBytes(
            per_micro_step=398e9,
            per_step=796e9,
            per_rank_step=800e9,
            collectives={"all_gather": 5e11},
            hiding_tokens=4100,
        ),
        fits=fits,
        reason="fastest of those that fit" if fits else "needs 130.0 GiB of 79.1",
        binding="network" if fits else "GPU memory",
        days=3.4,
        cost=15_667.0,
        checkpoint_seconds=5400.0,
        remedy="" if fits else "--block_size 65536",
        notes=("allocator slack is fitted",),
    )
