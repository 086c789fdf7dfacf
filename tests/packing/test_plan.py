"""The plan is a function of its inputs, survives its file, and is found again."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from medscroll.errors import ConfigError, DataError
from medscroll.packing.order import seeded_permutation
from medscroll.packing.plan import PackPlan, load_or_pack, pack
from tests.packing.memory_store import MemoryStore, lognormal, random_cuts

RNG = np.random.default_rng(0)
LENGTHS = lognormal(500, RNG)
CUTS = random_cuts(LENGTHS, RNG, 0.02)
FIELDS = ("document_lengths", "block_offsets", "document", "start", "stop", "context", "level")


def same(one: PackPlan, other: PackPlan) -> bool:
    return one.digest == other.digest and all(np.array_equal(getattr(one, f), getattr(other, f)) for f in FIELDS)


def test_equal_input_gives_an_equal_plan_and_any_change_another_digest() -> None:
    base = pack(LENGTHS, block_size=512, cuts=CUTS)
    assert same(base, pack(LENGTHS.copy(), block_size=512, cuts=CUTS))
    longer = LENGTHS.copy()
    longer[3] += 1
    others = [
        pack(longer, block_size=512, cuts=CUTS),
        pack(LENGTHS, block_size=512),
        pack(LENGTHS, block_size=513, cuts=CUTS),
        pack(LENGTHS, block_size=512, cuts=CUTS, seed=1),
        pack(LENGTHS, block_size=512, cuts=CUTS, context_tokens=63),
        pack(LENGTHS, block_size=512, cuts=CUTS, overlong="truncate"),
        pack(LENGTHS, block_size=512, cuts=CUTS, group_by_text=False),
        pack(LENGTHS, block_size=512, cuts=CUTS, bos=True),
    ]
    assert len({plan.digest for plan in [base, *others]}) == len(others) + 1
    assert not np.array_equal(others[3].document, base.document)
    assert pack(LENGTHS, block_size=512, cuts=CUTS, long_text_threshold=5).digest == base.digest


def test_save_and_load(tmp_path: Path) -> None:
    for group_by_text in (True, False):
        plan = pack(LENGTHS, block_size=512, cuts=CUTS, bos=True, group_by_text=group_by_text)
        plan.save(tmp_path / "plan.npz")
        loaded = PackPlan.load(tmp_path / "plan.npz", digest=plan.digest)
        assert same(plan, loaded)
        assert loaded.policy == plan.policy
        assert loaded.ledger() == plan.ledger()
        assert loaded.context.dtype == np.int32
        assert loaded.document.dtype == loaded.start.dtype == loaded.block_offsets.dtype == np.int64
    assert [path.name for path in tmp_path.iterdir()] == ["plan.npz"]


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    plan = pack(LENGTHS, block_size=512)
    plan.save(path)
    with pytest.raises(DataError, match="expected"):
        PackPlan.load(path, digest="0" * 32)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        PackPlan.load(path)
    path.write_bytes(whole)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["stop"][0] -= 1
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="content"):
        PackPlan.load(path)
    with pytest.raises(DataError, match="no pack plan"):
        PackPlan.load(tmp_path / "none.npz")


def test_load_or_pack_finds_the_plan_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(LENGTHS, cuts=CUTS)
    first = load_or_pack(store, tmp_path, block_size=512)
    assert same(first, pack(LENGTHS, block_size=512, cuts=CUTS))
    path = tmp_path / f"{first.digest}.npz"
    written = path.stat().st_mtime_ns
    monkeypatch.setattr("medscroll.packing.plan.divide", None)  # packing again would fail
    second = load_or_pack(store, tmp_path, block_size=512, long_text_threshold=7)
    assert same(first, second)
    assert second.ledger()["long"]["threshold"] == 7
    assert path.stat().st_mtime_ns == written
    monkeypatch.undo()
    path.write_bytes(b"half")
    with pytest.warns(UserWarning, match="packing again"):
        assert same(load_or_pack(store, tmp_path, block_size=512), first)
    assert same(PackPlan.load(path), first)


def _pack_in_process(folder: str) -> str:
    return load_or_pack(MemoryStore(LENGTHS, cuts=CUTS), folder, block_size=256).digest


def test_several_processes_pack_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        digests = pool.map(_pack_in_process, [str(tmp_path)] * 8)
    assert len(set(digests)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{digests[0]}.npz"]
    assert PackPlan.load(tmp_path / f"{digests[0]}.npz").num_blocks > 0


def test_nothing_to_pack() -> None:
    for lengths in ([], [0, 0]):
        for group_by_text in (True, False):
            plan = pack(np.asarray(lengths, np.int64), block_size=8, group_by_text=group_by_text)
            assert plan.num_blocks == 0
            assert plan.longest_piece == 0
            assert plan.ledger()["empty"] == len(lengths)
            assert len(plan.block_lengths) == len(plan.block_squares) == 0


def test_mistakes_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        pack(LENGTHS, block_size=0, overlong="shorten", context_tokens=-1)
    assert all(flag in str(caught.value) for flag in ("--block_size", "--overlong", "--context_tokens"))
    with pytest.raises(ConfigError, match="BOS"):
        pack(LENGTHS, block_size=1, bos=True)


def test_seeded_permutation_is_one_and_stays_the_same() -> None:
    assert np.array_equal(np.sort(seeded_permutation(1000, "a", 1)), np.arange(1000))
    assert not np.array_equal(seeded_permutation(1000, "a", 1), seeded_permutation(1000, "a", 2))
    assert seeded_permutation(8, "blocks", 0, 1).tolist() == [0, 6, 1, 5, 2, 7, 3, 4]  # a resumed run relies on it
    assert len(seeded_permutation(0, "a")) == 0


def test_impossible_lengths_are_defects() -> None:
    for lengths in ([-1, 3], [1 << 31]):
        with pytest.raises(ValueError, match="lengths"):
            pack(np.asarray(lengths), block_size=8)
    with pytest.raises(ValueError, match="cuts of 500 documents"):
        pack(LENGTHS[:-1], block_size=8, cuts=CUTS)


@pytest.mark.parametrize("context", [512, 600])
def test_context_that_fills_the_block_is_refused(context: int) -> None:
    with pytest.raises(ConfigError, match="leaves no room in a block of 512") as caught:
        pack(LENGTHS, block_size=512, context_tokens=context)
    assert "--context_tokens 128" in str(caught.value.remedy)
    assert pack(LENGTHS, block_size=32).policy.context == 8  # the default fits every block
