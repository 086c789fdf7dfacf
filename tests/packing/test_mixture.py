"""Several stores as one: what `--data_dir` means, what is read how often, and that every token is accounted for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscroll.errors import ConfigError, UserError
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.files import signed
from medscroll.packing.job import KIND, MANIFEST_FORMAT
from medscroll.packing.ledger import ConsumptionLedger
from medscroll.packing.ledger_report import IDENTITY
from medscroll.packing.mixture import Mixture, PreparedSources
from medscroll.packing.plan import pack
from medscroll.packing.schedule import ScheduledBlocks
from medscroll.packing.sources import parse_sources, passes
from medscroll.packing.store import TokenStore, TokenStoreWriter
from tests.packing.memory_store import lognormal
from tests.packing.test_conservation import check_blocks

FIRST_ID = {"medical": 1, "general": 20_001, "books": 40_001}


def make_data(folder: Path, lengths: np.ndarray, first: int, *, fingerprint: str = "t", held_out: int = 0) -> Path:
    """A prepared folder whose tokens are all different: first, first + 1, ..."""
    (folder / "tokens").mkdir(parents=True)
    stores = {}
    for split, sizes in {"train": lengths, "validation": np.full(held_out, 9)}.items():
        rng, at = np.random.default_rng(first), first
        with TokenStoreWriter(folder / "tokens" / split, "uint16", eos_token_id=2, vocab_size=64_000) as writer:
            for number, length in enumerate(sizes.tolist()):
                cuts = np.flatnonzero(rng.random(length - 1) < 0.1) + 1
                writer.add(np.arange(at, at + length), cuts, rng.integers(1, 4, len(cuts)), 3 * length, f"d{number}")
                at += length
        stores[split] = {"digest": TokenStore.open(folder / "tokens" / split).digest}
    manifest = {
        "kind": KIND,
        "format": MANIFEST_FORMAT,
        "tokenizer": {"fingerprint": fingerprint, "name": "t"},
        "stores": stores,
    }
    (folder / "manifest.json").write_text(json.dumps(signed(manifest)))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders: medical, general, books."""
    root = tmp_path_factory.mktemp("stores")
    for name, count in {"medical": 90, "general": 100, "books": 4}.items():
        rng = np.random.default_rng(count)
        lengths = np.clip(lognormal(count, rng, median=70 if name != "books" else 900), 2, 2500)
        make_data(root / name, lengths, FIRST_ID[name], held_out=2 if name != "books" else 0)
    return root


def mix(data: Path, text: str, **settings: object) -> Mixture:
    words = ",".join(f"{data}/{word}" for word in text.split(","))
    return PreparedSources(parse_sources(words)).training(**{"block_size": 128, "context_tokens": 8, **settings})


def tokens_of(name: str, data: Path) -> int:
    return TokenStore.open(data / name / "tokens" / "train").num_tokens


def shares(mixture: Mixture) -> dict[str, int]:
    """Tokens an epoch by store."""
    found: dict[str, int] = {}
    for part in mixture.plan.parts:
        found[part.store] = found.get(part.store, 0) + int(part.plan.document_lengths.sum())
    return found


def test_one_folder_is_the_plan_of_that_folder(data: Path) -> None:
    store = TokenStore.open(data / "medical" / "tokens" / "train")
    mixture = mix(data, "medical")
    alone = pack(store.lengths, block_size=128, context_tokens=8, cuts=store.cuts)
    assert mixture.plan.digest == alone.digest
    assert mixture.view.digest == store.digest
    assert mixture.lines == []
    assert (data / "medical" / "plans" / f"{alone.digest}.npz").is_file()


def share_in(text: str, name: str) -> float:
    """The share of a folder in the words of --data_dir."""
    return float(text.partition(f"{name}=")[2].partition(",")[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("medical,general=0.2", {"medical": 1.0, "general": None}),
        ("medical*2,books", {"medical": 2.0, "books": 1.0}),
        ("medical*1.5,general=0.15", {"medical": 1.5, "general": None}),
        ("medical=0.6,general=0.4", {"medical": 1.0, "general": None}),
        ("books,general=0.1", {"books": 1.0, "general": None}),
        ("medical=0.2,general=0.8", {"medical": 1.0, "general": None}),  # general is read more than once
    ],
)
def test_shares_and_repeats_are_what_was_asked(data: Path, text: str, expected: dict[str, float | None]) -> None:
    mixture = mix(data, text)
    found = shares(mixture)
    total = sum(found.values())
    for name, times in expected.items():
        wanted = times * tokens_of(name, data) if times is not None else share_in(text, name) * total
        lengths = TokenStore.open(data / name / "tokens" / "train").lengths
        assert abs(found[name] - wanted) < max(lengths.min() + 1, 0.02 * wanted)
    assert len(mixture.lines) == len(expected)
    assert total == int(mixture.view.lengths.sum())


def test_every_row_holds_the_tokens_of_its_store(data: Path) -> None:
    """Rows never mix stores; every token but first ones is a target as often as its store is read."""
    mixture = mix(data, "medical*2,general=0.3,books*0.5")
    blocks = PackedDataset(mixture.view, mixture.plan)
    check_blocks(mixture.view, mixture.plan)  # type: ignore[arg-type]
    begins = np.asarray(sorted(FIRST_ID.values()))
    counts = np.zeros(64_000, int)
    for index in range(len(blocks)):
        ids, labels, _ = blocks.arrays(index)
        assert len(np.unique(np.searchsorted(begins, ids, "right"))) == 1
        np.add.at(counts, labels[labels >= 0], 1)
    medical = TokenStore.open(data / "medical" / "tokens" / "train")
    firsts = 1 + np.cumsum(medical.lengths) - medical.lengths
    expected = np.full(medical.num_tokens, 2)
    expected[firsts - 1] = 0
    assert np.array_equal(counts[1 : 1 + medical.num_tokens], expected)
    assert set(np.unique(counts[FIRST_ID["books"] :])) == {0, 1}
    for at in (0, len(mixture.view) - 1):
        assert len(mixture.view[at]) == mixture.view.lengths[at]


def test_two_passes_are_packed_in_two_ways(data: Path) -> None:
    first, second = mix(data, "medical*2").plan.parts
    assert first.plan.digest != second.plan.digest
    assert not np.array_equal(first.plan.document, second.plan.document)
    assert np.array_equal(first.plan.document_lengths, second.plan.document_lengths)


def test_the_mixture_is_a_function_of_data_and_settings(data: Path) -> None:
    text = "medical,general=0.2"
    one, again = mix(data, text), mix(data, text)
    assert (one.plan.digest, one.view.digest) == (again.plan.digest, again.view.digest)
    others = [mix(data, "medical,general=0.3"), mix(data, text, seed=1), mix(data, text, block_size=64)]
    others += [mix(data, "general=0.2,medical"), mix(data, "medical*2,general=0.2")]
    assert len({one.plan.digest, *(other.plan.digest for other in others)}) == 6
    assert mix(data, text, block_size=64).view.digest == one.view.digest


def test_every_global_batch_holds_all_stores(data: Path) -> None:
    """The order draws from all stores alike, so that replay is spread over the run."""
    mixture = mix(data, "medical,general=0.3", block_size=64)
    order = ScheduledBlocks(
        PackedDataset(mixture.view, mixture.plan), ranks=2, per_device_batch=1, accumulation=8, linear_cost=100.0
    )
    found = []
    for step in range(order.steps_per_epoch - 1):
        store = mixture.plan.part_of(order.blocks_of_step(0, step))
        found.append(float((store == 1).mean()))
    assert len(found) > 5
    assert np.mean(found) == pytest.approx(0.3, abs=0.05)
    assert max(found) < 0.7


@settings(max_examples=25, deadline=None)
@given(
    text=st.sampled_from(["medical", "medical*2,general=0.2", "medical=0.5,general=0.5", "books*1.5,general"]),
    overlong=st.sampled_from(["split", "truncate", "drop"]),
    context=st.sampled_from([0, 8]),
    ranks=st.sampled_from([1, 2, 4]),
    steps=st.integers(0, 12),
    resumes=st.lists(st.integers(0, 11), max_size=3),
    seed=st.integers(0, 3),
)
def test_the_identity_holds_at_every_moment(  # noqa: PLR0917
    data: Path, text: str, overlong: str, context: int, ranks: int, steps: int, resumes: list[int], seed: int
) -> None:
    """By store and pass, under max_steps, with rows of several stores in a micro batch, over resumes at any step."""
    mixture = mix(data, text, overlong=overlong, context_tokens=context, block_size=256)
    plan, blocks = mixture.plan, PackedDataset(mixture.view, mixture.plan)
    order = ScheduledBlocks(
        blocks, ranks=ranks, per_device_batch=2, accumulation=8 // ranks, seed=seed, linear_cost=500.0
    )
    ledgers = [ConsumptionLedger(plan) for _ in range(ranks)]
    for step in range(steps):
        epoch, inside = divmod(step, order.steps_per_epoch)
        for micro in order.dealt(epoch, inside):
            for rank, ledger in enumerate(ledgers):
                rows = micro[rank].tolist()
                labels = [blocks.arrays(row)[1] if row >= 0 else np.full(1, -100) for row in rows]
                counted = [int((one != -100).sum()) for one in labels]
                ledger.record(rows, counted, tokens=sum(map(len, labels)), epoch=epoch)
        if step in resumes:
            state = json.loads(json.dumps(ledgers[0].merge([ledger.state_dict() for ledger in ledgers])))
            ledgers = [ConsumptionLedger(plan) for _ in range(ranks)]
            for ledger in ledgers:
                ledger.load_state_dict(state)
    whole = ConsumptionLedger(plan)
    whole.load_state_dict(ledgers[0].merge([ledger.state_dict() for ledger in ledgers]))
    report = whole.check(epochs=1)
    assert [part["store_pass"] for part in report["stores"]] == [part.number for part in plan.parts]
    for entry in report["passes"]:
        assert len(entry["stores"]) == len(plan.parts)
        for one in (entry, *entry["stores"]):
            assert sum(one[name] for name in IDENTITY) == one["tokens"]
            assert one["whole"] + one["divided"] == one["documents_complete"]
            assert one["targets"] == one["targets_by_plan"]
        for name in (*IDENTITY, "tokens", "blocks", "documents", "row_tokens"):
            assert entry[name] == sum(one[name] for one in entry["stores"])
        reached = [block for step in range(steps) for block in _blocks(order, entry["pass"], step)]
        assert entry["blocks"] == len(reached)
        assert sum(entry["cuts"].values()) == int((plan.start > 0)[_pieces(plan, reached)].sum())
        assert entry["padding"] == 0
    assert report["total"]["targets"] == sum(entry["targets"] for entry in report["passes"])


def _blocks(order: ScheduledBlocks, epoch: int, step: int) -> list[int]:
    """The blocks of a step of the run where it lies in this epoch."""
    found, inside = divmod(step, order.steps_per_epoch)
    return order.blocks_of_step(epoch, inside).tolist() if found == epoch else []


def _pieces(plan: object, blocks: Sequence[int]) -> np.ndarray:
    offsets = plan.block_offsets  # type: ignore[attr-defined]
    return np.concatenate([np.empty(0, int), *(np.arange(offsets[b], offsets[b + 1]) for b in blocks)]).astype(int)


def test_rows_of_several_stores_need_their_own_counts(data: Path) -> None:
    plan = mix(data, "medical,general=0.3").plan
    last = plan.num_blocks - 1
    ledger = ConsumptionLedger(plan)
    with pytest.raises(ValueError, match="each row"):
        ledger.record([0, last], int(plan.block_targets[[0, last]].sum()))
    ledger.record([0, last], plan.block_targets[[0, last]], tokens=int(plan.block_lengths[[0, last]].sum()) + 5)
    assert ledger.report()["passes"][0]["padding"] == 5
    ledger.record([1], [int(plan.block_targets[1])], tokens=int(plan.block_lengths[1]) - 1)
    assert "micro batches held other targets" in ledger.report()["problems"][0]


def test_validation_of_all_folders_is_read_once(data: Path) -> None:
    words = f"{data}/medical*3,{data}/general=0.1,{data}/books"
    held_out = PreparedSources(parse_sources(words)).held_out(block_size=64)
    assert held_out is not None
    assert len(held_out.view) == 4
    assert held_out.plan.ledger()["tokens"] == 36


def test_mappings_of_a_recipe(data: Path) -> None:
    sources = parse_sources({f"{data}/medical": "*2", f"{data}/general": 0.2})
    assert [(s.name, s.repeats, s.share) for s in sources] == [("medical", 2.0, None), ("general", 1.0, 0.2)]
    assert passes(sources, [100, 1000]) == [2.0, pytest.approx(0.05)]
    assert [s.name for s in parse_sources("a/DATA,b/DATA")] == ["a/DATA", "b/DATA"]


def test_a_folder_whose_name_holds_the_signs(tmp_path: Path) -> None:
    for name in ("a=0.5", "b*2", "c,d"):
        folder = tmp_path / name
        folder.mkdir()
        (source,) = parse_sources(str(folder))
        assert (source.folder, source.share, source.repeats) == (folder, None, 1.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A=0,B=0", "sum to zero"),
        ("A,B=1", "leave nothing"),
        ("A,B=0.7,C=0.4", "leave nothing"),
        ("A,A*2", "named twice"),
        ("A=x,B", "is no share"),
        ("A*x", "is no number of passes"),
        ("A*-1", "-1"),
        ("A,B=-0.2", "-0.2"),
        ("A,B=nan", "is no share"),
        ("A*inf", "is no number"),
        ("A=0,B=0.5", "share of 0"),
        (" , ", "no folder"),
        ("=0.5", "is no share"),
    ],
)
def test_mistakes_of_data_dir(value: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        parse_sources(value)


def test_folders_that_do_not_belong_together(data: Path, tmp_path: Path) -> None:
    lengths = np.asarray([5, 6])
    make_data(tmp_path / "other", lengths, 1, fingerprint="another")
    make_data(tmp_path / "empty", np.empty(0, int), 1)
    make_data(tmp_path / "swapped", lengths, 1)
    (tmp_path / "swapped" / "manifest.json").write_text((data / "medical" / "manifest.json").read_text())
    names = [data / "medical", *(tmp_path / name for name in ("other", "empty", "swapped", "none"))]
    with pytest.raises(UserError) as caught:
        PreparedSources(parse_sources(",".join(map(str, names))))
    message = str(caught.value)
    assert "swapped" in message
    assert "none" in message
    for bad, expected in {"other": "another tokenizer", "empty": "no tokens"}.items():
        with pytest.raises(UserError, match=expected):
            PreparedSources(parse_sources(f"{data}/medical,{tmp_path}/{bad}"))


def test_parts_share_memory_with_the_whole(data: Path) -> None:
    plan = mix(data, "medical,general=0.3").plan
    for part in plan.parts:
        assert np.shares_memory(part.plan.start, plan.start)
        assert part.plan.ledger()["tokens"] == int(part.plan.document_lengths.sum())
    assert dataclasses.replace(plan.parts[0].plan, parts=()).num_blocks == int(plan.part_starts[1])


def test_another_block_size_reads_the_same_tokens(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tokenized again: the folder has neither texts nor a tokenizer, and its stores stay as they are."""
    lengths = np.clip(lognormal(40, np.random.default_rng(2), median=90), 2, 2000)
    folder = make_data(tmp_path / "data", lengths, 1)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (folder / "tokens").iterdir()}
    assert len(before) == 6
    digests = {}
    for block_size in (64, 256, 1024):
        mixture = PreparedSources(parse_sources(folder)).training(block_size=block_size, context_tokens=8)
        digests[block_size] = mixture.plan.digest
        assert mixture.plan.ledger()["tokens"] == int(lengths.sum())
    assert {path.stem for path in (folder / "plans").iterdir()} == set(digests.values())
    assert len(set(digests.values())) == 3
    monkeypatch.setattr("medscroll.packing.plan.divide", None)  # packing again would fail
    for block_size, digest in digests.items():
        found = PreparedSources(parse_sources(folder)).training(block_size=block_size, context_tokens=8)
        assert found.plan.digest == digest
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (folder / "tokens").iterdir()} == before
