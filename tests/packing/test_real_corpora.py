"""Conservation and fill on the real corpora with the Yi tokenizer, counted from the rows themselves."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from lxml import etree

from medscroll.packing.cuts import find_cuts
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.plan import pack
from medscroll.packing.store import TokenStore, TokenStoreWriter
from tests.packing.memory_store import MemoryStore
from tests.packing.test_conservation import all_but_first, check_blocks, targets_of

pytestmark = pytest.mark.corpora


def read_text(path: Path) -> str:
    """Plain or gzip; GB18030 text or the text of an XML article."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".nxml" in path.name:
        parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, recover=True)
        return "".join(str(part) for part in etree.fromstring(raw, parser).itertext())
    return raw.decode("gb18030", "replace")


@pytest.fixture(scope="module", params=["pmc_articles_en", "tcm_classics_zh"])
def store(
    request: pytest.FixtureRequest, shared_dir: Path, yi_tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> TokenStore:
    """Tokens and cuts of one corpus."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(yi_tokenizer_dir))
    prefix = tmp_path_factory.mktemp(request.param) / "all"
    paths = sorted((shared_dir / "corpora" / request.param).iterdir())
    with TokenStoreWriter(prefix, np.uint16, eos_token_id=tokenizer.eos_token_id, vocab_size=64_000) as writer:
        for path in paths:
            text = read_text(path)
            encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
            cuts = find_cuts(text, [], np.asarray(encoded["offset_mapping"]))
            ids = [*encoded["input_ids"], tokenizer.eos_token_id]
            writer.add(ids, *cuts, len(text.encode()), path.name)
    return TokenStore.open(prefix)


def test_the_corpora_are_long(store: TokenStore) -> None:
    assert len(store) in (205, 78)
    assert store.num_tokens > 1_500_000
    assert (store.lengths > 1024).mean() > 0.95


@pytest.mark.parametrize("block_size", [512, 4096, 32768])
@pytest.mark.parametrize("group_by_text", [True, False])
def test_conservation(store: TokenStore, block_size: int, group_by_text: bool) -> None:
    plan = pack(store.lengths, block_size=block_size, group_by_text=group_by_text, cuts=store.cuts)
    numbered = MemoryStore(store.lengths)  # the same documents, every token with another id
    check_blocks(numbered, plan)
    rows = PackedDataset(numbered, plan)
    assert np.array_equal(np.sort(targets_of(rows)), all_but_first(numbered, store.lengths))
    tokens = np.concatenate(list(store))
    real = PackedDataset(store, plan)
    for index in range(len(real)):
        (ids, labels, positions), (numbers, marks, at) = real.arrays(index), rows.arrays(index)
        assert np.array_equal(ids, tokens[numbers - 1])
        assert np.array_equal(labels, np.where(marks == -100, -100, ids))
        assert np.array_equal(positions, at)
    ledger = plan.ledger()
    assert ledger["targets"] == store.num_tokens - len(store)
    if group_by_text:
        assert ledger["fill"] > 0.95
        if block_size == 4096:
            assert 0 < ledger["cuts"]["token"] < 0.25 * ledger["continuations"]
