"""Deduplication: planted copies are found, others stay, and shards do not matter."""

from __future__ import annotations

import random
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscroll.corpus.document import Document, Section
from medscroll.corpus.lsh import Groups
from medscroll.corpus.minhash import BLOCK, choose_bands, gram_hashes, signatures
from medscroll.corpus.near_duplicates import DeduplicateConfig
from medscroll.corpus.step import Decisions, StepLog
from medscroll.errors import ConfigError

rensa = pytest.importorskip("rensa")


def decide(documents: list[Document], folder: Path, shards: int = 1, **options: object) -> Decisions:
    step = DeduplicateConfig(**options).build()  # type: ignore[arg-type]
    folders = []
    for shard in range(shards):
        folders.append(folder / f"{len(list(folder.iterdir()))}-{shard}")
        folders[-1].mkdir()
        step.prepare_shard(iter(documents[shard::shards]), folders[-1])
    return step.decide(folders, folder)


def grams(text: str, chinese: bool) -> set[object]:
    if chinese:
        return {text[at : at + 4] for at in range(len(text) - 3)}
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}


def made(rng: random.Random, chinese: bool) -> list[str]:
    if chinese:
        return [chr(0x4E00 + rng.randrange(800)) for _ in range(rng.randint(300, 900))]
    return [f"w{rng.randrange(3000)}" for _ in range(rng.randint(200, 600))]


def edited(rng: random.Random, units: list[str], chinese: bool, similarity: float) -> str:
    """A copy with single units replaced until the Jaccard similarity of n-grams is down to `similarity`."""
    joint = "" if chinese else " "
    before = grams(joint.join(units), chinese)
    copy = list(units)
    while True:
        copy[rng.randrange(len(copy))] = rng.choice(units)
        after = grams(joint.join(copy), chinese)
        if len(before & after) / len(before | after) <= similarity:
            return joint.join(copy)


@pytest.mark.parametrize("chinese", [True, False])
def test_planted_copies_are_found_whatever_the_shards(chinese: bool, tmp_path: Path) -> None:
    rng = random.Random(5)
    joint = "" if chinese else " "
    language = "zh" if chinese else "en"
    documents = []
    planted, decoys = set(), set()
    for number in range(240):
        units = made(rng, chinese)
        documents.append(Document(f"o{number}", joint.join(units), "s", language))
        if number % 3 == 0:
            documents.append(Document(f"c{number}", edited(rng, units, chinese, 0.9), "s", language))
            planted.add(number)
        elif number % 3 == 1:
            documents.append(Document(f"c{number}", edited(rng, units, chinese, 0.5), "s", language))
            decoys.add(number)
    rng.shuffle(documents)
    decisions = [decide(documents, tmp_path, shards) for shards in (1, 2, 7)]
    drops = decisions[0].drops
    assert all(each.drops == drops for each in decisions)
    found = {int(identifier[1:]) for identifier in drops}
    right = [identifier for identifier, (_, detail) in drops.items() if detail.split()[2][1:] == identifier[1:]]
    assert len(found & planted) / len(planted) >= 0.95
    assert len([each for each in right if int(each[1:]) in planted]) / len(drops) >= 0.98
    assert decoys
    lengths = {document.id: len(document.text) for document in documents}
    for identifier, (_, detail) in drops.items():
        kept = detail.split()[2]
        assert kept not in drops
        assert (-lengths[kept], kept) < (-lengths[identifier], identifier)


def test_equal_texts_keep_the_least_id(tmp_path: Path) -> None:
    text = "患者发热三天，咳嗽，咳黄痰，无胸痛。" * 3
    documents = [Document(name, text, "s", "zh") for name in ("b", "a", "c")]
    documents.append(Document("z", text.replace("，", "， "), "s", "zh"))  # blanks do not count; the longest stays
    drops = decide(documents, tmp_path).drops
    assert drops == dict.fromkeys("abc", ("exact_duplicate", "copy of z"))
    step = DeduplicateConfig().build()
    log = StepLog()
    assert step.apply(documents[0], Decisions(drops=drops), log) is None
    assert log.reason == "exact_duplicate"
    assert step.apply(documents[3], Decisions(drops=drops), StepLog()) is documents[3]


def test_short_texts_are_compared_exactly(tmp_path: Path) -> None:
    texts = ["无", "。", "！", "同上", "同前", ""]
    assert not decide([Document(str(at), text, "s", "zh") for at, text in enumerate(texts[:5])], tmp_path).drops


def test_a_chain_of_small_changes_does_not_drop_what_differs(tmp_path: Path) -> None:
    rng = random.Random(2)
    units = [chr(0x4E00 + rng.randrange(3000)) for _ in range(800)]
    chain = []
    for step in range(8):
        chain.append(Document(f"d{step}", "".join(units), "s", "zh"))
        units[step * 60 : step * 60 + 60] = [chr(0x6E00 + rng.randrange(3000)) for _ in range(60)]
    drops = decide(chain, tmp_path).drops
    assert drops
    assert len(drops) < 7  # the ends of the chain share less than half: more than one stays
    texts = {document.id: document.text for document in chain}
    for identifier, (_, detail) in drops.items():
        left, right = grams(texts[identifier], True), grams(texts[detail.split()[2]], True)
        assert len(left & right) / len(left | right) > 0.6


def test_copied_sections_are_taken_out(tmp_path: Path) -> None:
    rng = random.Random(3)
    parts = ["".join(made(rng, True)) for _ in range(5)]
    first = Document("a", parts[0] + parts[1] + parts[2], "s", "zh")
    second = Document("b", parts[3] + parts[1] + parts[4], "s", "zh")
    for document, (one, two) in ((first, (0, 1)), (second, (3, 1))):
        at = len(parts[one])
        document.sections = [Section(0, 1, "x"), Section(at, 1, "y"), Section(at + len(parts[two]), 1, "z")]
    decisions = decide([first, second], tmp_path, sections=True, least_section=100)
    assert not decisions.drops
    assert decisions.edits == {"b": [(len(parts[3]), len(parts[3]) + len(parts[1]))]}
    log = StepLog()
    result = DeduplicateConfig(sections=True).build().apply(second, decisions, log)
    assert result is not None
    assert result.text == parts[3] + parts[4]
    assert log.counts["duplicate_section"] == 1
    assert [section.title for section in result.sections] == ["x", "z"]


def test_a_long_text_in_blocks_has_the_signature_of_the_whole() -> None:
    text = "".join(chr(0x4E00 + value) for value in np.random.default_rng(0).integers(0, 3000, 5 * BLOCK))
    (long, count), (short, _) = signatures([(text, True), ("短文一则", True)])
    assert count == len(text) - 3
    parts = [text[at : at + BLOCK + 3] for at in range(0, len(text) - 3, BLOCK)]
    assert (long == np.minimum.reduce([signature for signature, _ in signatures((part, True) for part in parts)])).all()
    assert not (long == short).all()


def test_signatures_estimate_the_similarity() -> None:
    rng = random.Random(0)
    errors = []
    for _ in range(30):
        left = made(rng, False)
        right = edited(rng, left, False, 0.8)
        sets = [
            {value for block in gram_hashes(text, False) for value in block.tolist()}
            for text in (" ".join(left), right)
        ]
        (first, _), (second, _) = signatures([(" ".join(left), False), (right, False)])
        errors.append((first == second).mean() - len(sets[0] & sets[1]) / len(sets[0] | sets[1]))
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.06


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_groups_are_connected_components(pairs: list[tuple[int, int]]) -> None:
    groups = Groups(30)
    for start in range(0, len(pairs), 7):
        batch = np.array(pairs[start : start + 7], np.int64).reshape(-1, 2)
        groups.unite(batch[:, 0], batch[:, 1])
    expected = {number: {number} for number in range(30)}
    for left, right in pairs:
        joined = expected[left] | expected[right]
        expected.update(dict.fromkeys(joined, joined))
    found: dict[int, set[int]] = {}
    for rows in groups.members():
        for root, unit in rows.tolist():
            found.setdefault(root, set()).add(unit)
    components = {tuple(sorted(each)) for each in expected.values() if len(each) > 1}
    assert sorted(tuple(sorted(each)) for each in found.values()) == sorted(components)


def test_bands_and_wrong_values() -> None:
    assert choose_bands(0.7) == (25, 5)
    assert choose_bands(0.8) == (18, 7)
    with pytest.raises(ConfigError, match="threshold"):
        DeduplicateConfig(threshold=0.1).build()


def test_files_are_private(tmp_path: Path) -> None:
    decide([Document("a", "text of some words " * 9, "s", "en")], tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
