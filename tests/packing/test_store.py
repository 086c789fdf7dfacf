"""The token store: what is written comes back, the format is Megatron-LM's, and damage is found when opening."""

from __future__ import annotations

import pickle
import stat
import struct
from pathlib import Path

import numpy as np
import pytest

from medscroll.errors import DataError
from medscroll.packing import TokenStore
from medscroll.packing.npz import map_npz
from medscroll.packing.store import TokenStoreWriter, store_files, token_dtype


def make_documents(seed: int = 0, count: int = 50) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, int, str]]:
    random = np.random.default_rng(seed)
    documents = []
    for index in range(count):
        length = int(random.integers(1, 400))
        cuts = np.sort(random.choice(np.arange(1, length), size=min(length - 1, 7), replace=False))
        levels = random.integers(1, 4, len(cuts))
        ids = random.integers(0, 60_000, length)
        documents.append((ids, cuts, levels, length * 3, f"书/{index}#é"))
    return documents


def write(prefix: Path, documents: list, dtype: str = "uint16") -> TokenStore:
    with TokenStoreWriter(prefix, dtype, eos_token_id=2, vocab_size=64_000, adds_bos=False) as writer:
        for document in documents:
            writer.add(*document)
    return TokenStore.open(prefix)


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_what_is_written_comes_back(tmp_path: Path, dtype: str) -> None:
    documents = make_documents()
    store = write(tmp_path / "train", documents, dtype)
    assert len(store) == len(store.ids) == len(store.cuts) == 50
    assert store.lengths.dtype == np.int64
    assert store.num_tokens == sum(len(d[0]) for d in documents)
    for index, (ids, cuts, levels, size, name) in enumerate(documents):
        assert store[index].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(store[index], ids)
        np.testing.assert_array_equal(store.cuts[index][0], cuts)
        np.testing.assert_array_equal(store.cuts[index][1], levels)
        assert (int(store.document_bytes[index]), store.ids[index]) == (size, name)
    assert (store.eos_token_id, store.vocab_size, store.adds_bos) == (2, 64_000, False)
    assert store.ids[-1] == documents[-1][4]
    assert np.array_equal(store[-1], documents[-1][0])
    store.verify()
    assert not list(tmp_path.glob("*.tmp"))


def test_files_are_private_and_in_megatron_format(tmp_path: Path) -> None:
    documents = make_documents(count=3)
    store = write(tmp_path / "train", documents)
    for path in store_files(tmp_path / "train"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    raw = (tmp_path / "train.idx").read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    assert struct.unpack("<QBQQ", raw[9:34]) == (1, 8, 3, 4)
    np.testing.assert_array_equal(np.frombuffer(raw, "<i4", 3, 34), store.lengths)
    np.testing.assert_array_equal(np.frombuffer(raw, "<i8", 3, 46), (np.cumsum(store.lengths) - store.lengths) * 2)
    np.testing.assert_array_equal(np.frombuffer(raw, "<i8", 4, 70), [0, 1, 2, 3])
    assert len(raw) == 102
    everything = np.fromfile(tmp_path / "train.bin", "<u2")
    np.testing.assert_array_equal(everything, np.concatenate([d[0] for d in documents]))


def test_numpy_reads_the_cuts_and_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    documents = make_documents()
    write(tmp_path / "a", documents)
    write(tmp_path / "b", documents)
    for one, other in zip(store_files(tmp_path / "a"), store_files(tmp_path / "b"), strict=True):
        assert one.read_bytes() == other.read_bytes()
    loaded, mapped = np.load(tmp_path / "a.cuts.npz"), map_npz(tmp_path / "a.cuts.npz")
    assert set(loaded) == set(mapped) >= {"offsets", "positions", "levels", "document_bytes", "ids"}
    for name in mapped:
        np.testing.assert_array_equal(loaded[name], mapped[name])
    assert (loaded["positions"].dtype, loaded["levels"].dtype) == (np.int32, np.uint8)


def test_a_store_put_together_from_parts_is_the_same_file(tmp_path: Path) -> None:
    documents = make_documents()
    whole = write(tmp_path / "whole", documents)
    first, second = write(tmp_path / "one", documents[:20]), write(tmp_path / "two", documents[20:])
    with TokenStoreWriter(tmp_path / "merged", "uint16", eos_token_id=2, vocab_size=64_000) as writer:
        writer.add_store(first, 0, 13)
        writer.add_store(whole, 13, 20)
        writer.add_store(second, 0, 30)
    assert TokenStore.open(tmp_path / "merged").digest == whole.digest
    for one, other in zip(store_files(tmp_path / "merged"), store_files(tmp_path / "whole"), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_digest_sees_ids_borders_and_cuts(tmp_path: Path) -> None:
    ids = np.arange(10)
    variants = [
        [(ids, [3], [1], 9, "a"), (ids, [], [], 9, "b")],
        [(ids[::-1], [3], [1], 9, "a"), (ids, [], [], 9, "b")],
        [(ids, [3], [2], 9, "a"), (ids, [], [], 9, "b")],
        [(ids, [4], [1], 9, "a"), (ids, [], [], 9, "b")],
        [(ids, [], [], 9, "a"), (ids, [3], [1], 9, "b")],
        [(ids[:9], [3], [1], 9, "a"), (np.concatenate([ids[9:], ids]), [], [], 9, "b")],
    ]
    assert len({write(tmp_path / str(i), v).digest for i, v in enumerate(variants)}) == len(variants)


def test_an_empty_store_opens(tmp_path: Path) -> None:
    store = write(tmp_path / "validation", [])
    assert (len(store), store.num_tokens, list(store.ids), len(store.cuts)) == (0, 0, [], 0)
    store.verify()


def test_a_store_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    store = write(tmp_path / "train", make_documents())
    copy = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) < 500
    np.testing.assert_array_equal(copy[7], store[7])


@pytest.mark.parametrize("suffix", [".bin", ".idx", ".cuts.npz"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "longer", "empty", "of another store"])
def test_damage_is_found_when_opening(tmp_path: Path, suffix: str, damage: str) -> None:
    write(tmp_path / "train", make_documents())
    write(tmp_path / "other", make_documents(seed=1, count=49))
    path = tmp_path / f"train{suffix}"
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "of another store":
        path.write_bytes((tmp_path / f"other{suffix}").read_bytes())
    else:
        path.write_bytes({"truncated": raw[:-9], "longer": raw + b"\0" * 8, "empty": b""}[damage])
    if (suffix, damage) == (".cuts.npz", "longer"):
        TokenStore.open(tmp_path / "train")  # a zip may be followed by other bytes: nothing is lost
        return
    with pytest.raises(DataError) as caught:
        TokenStore.open(tmp_path / "train")
    assert f"train{suffix}" in str(caught.value.where) or "index says" in str(caught.value) or damage.startswith("of")
    assert "medscroll prepare" in str(caught.value.remedy)


def test_verify_finds_a_changed_token(tmp_path: Path) -> None:
    write(tmp_path / "train", make_documents())
    raw = bytearray((tmp_path / "train.bin").read_bytes())
    raw[100] ^= 1
    (tmp_path / "train.bin").write_bytes(raw)
    store = TokenStore.open(tmp_path / "train")
    with pytest.raises(DataError, match="digest"):
        store.verify()


def test_the_writer_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with TokenStoreWriter(tmp_path / "train", "uint16") as writer:
            writer.add([1, 2, 3], [1], [1], 3, "good")
            writer.add([1, 70_000])

    with pytest.raises(ValueError, match="outside"):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cuts", [[0], [3], [2, 2], [2, 1]])
def test_the_writer_refuses_wrong_cuts(tmp_path: Path, cuts: list[int]) -> None:
    with pytest.raises(ValueError, match="cuts"), TokenStoreWriter(tmp_path / "train", "uint16") as writer:
        writer.add([1, 2, 3], cuts, [3] * len(cuts))


def test_dtype_follows_the_vocabulary() -> None:
    assert token_dtype(64_000) == token_dtype(65_535) == np.uint16
    assert token_dtype(65_536) == np.int32
