"""Figures of `medscroll pack`: what others would lose, balance, and the size that is recommended."""

from __future__ import annotations

import numpy as np
import pytest

from medscroll.packing.compare import balance, losses_elsewhere, outlook, recommend
from medscroll.packing.plan import pack
from tests.packing.memory_store import lognormal

LINEAR = 12 * 4096 * 0.84


def advice(lengths: np.ndarray, sizes: tuple[int, ...]) -> dict[str, object]:
    return recommend([outlook(pack(lengths, block_size=size), linear_cost=LINEAR) for size in sizes])


def test_notes_get_the_smallest_size_that_keeps_them_whole() -> None:
    lengths = np.clip(lognormal(6000, np.random.default_rng(0), median=300), 2, 3900)
    found = advice(lengths, (512, 4096, 16384))
    assert found["block_size"] == 4096
    assert "whole documents" in str(found["reason"])


def test_books_get_the_longest_that_attention_can_pay() -> None:
    lengths = np.random.default_rng(0).integers(200_000, 900_000, 60)
    found = advice(lengths, (4096, 8192, 131072))
    assert found["block_size"] == 8192
    assert "at most 25%" in str(found["reason"])
    times = [found["time"][size] for size in (4096, 8192, 131072)]  # type: ignore[index]
    assert times == sorted(times)
    assert times[0] == 1


def test_a_corpus_too_small_for_a_global_batch_is_said() -> None:
    found = advice(np.full(10, 3000), (4096, 65536))
    assert "no size" in str(found["reason"])
    assert recommend([outlook(pack(np.full(10, 3000), block_size=4096), linear_cost=LINEAR)])["block_size"] == 4096


def test_what_others_would_lose() -> None:
    lost = losses_elsewhere(np.asarray([50, 100, 130, 30]), 100)
    assert lost["concatenate_and_truncate"]["tokens"] == 310 % 100
    assert lost["drop_long"] == {"tokens": 130, "share": pytest.approx(130 / 310)}
    assert lost["truncate"]["tokens"] == 30


def test_dealing_evens_the_ranks() -> None:
    lengths = lognormal(40_000, np.random.default_rng(1), median=2000)
    plan = pack(lengths, block_size=32768)
    found = balance(plan, ranks=64, linear_cost=LINEAR)
    assert found is not None
    assert found["undealt"] < found["dealt"] <= 1
    assert found["worst"] <= found["dealt"]
    assert balance(plan, ranks=4096, linear_cost=LINEAR) is None
