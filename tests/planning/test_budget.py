"""From days and money to tokens of sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from medscroll.errors import ConfigError
from medscroll.packing.store import TokenStoreWriter
from medscroll.planning.budget import Source, affordable, parse_tokens, read_sources
from tests.planning.hand_made import candidate

SOURCES = (Source("books", 10, 900_000_000), Source("records", 5, 100_000_000))


@pytest.mark.parametrize(
    ("text", "value"),
    [("10B", 10**10), ("500m", 5 * 10**8), ("2.5e9", 25 * 10**8), ("1_000", 1000), ("0.5T", 5 * 10**11)],
)
def test_numbers_of_tokens(text: str, value: int) -> None:
    assert parse_tokens(text) == value


@pytest.mark.parametrize("text", ["", "B", "ten", "-1B", "0", "1e40", "nan"])
def test_what_is_no_number_of_tokens(text: str) -> None:
    with pytest.raises(ConfigError, match="10B"):
        parse_tokens(text)


def test_days_and_money_become_tokens() -> None:
    item = candidate()
    rate, step = item.time.tokens_per_second, item.setup.step_tokens
    found = affordable(item, days=2, budget=None, price=3.0, sources=SOURCES)
    assert found.bound == "days"
    assert 0 <= 2 * 86400 * rate - found.tokens < step
    assert found.cost == pytest.approx(48 * 64 * 3.0)
    assert found.passes == pytest.approx(found.tokens / 1e9)
    assert sum(found.of(source) for source in SOURCES) == pytest.approx(found.tokens, abs=2)
    less = affordable(item, days=2, budget=100.0, price=3.0, sources=SOURCES)
    assert less.bound == "budget"
    assert less.cost == pytest.approx(100.0)
    assert 0 < less.tokens < found.tokens
    assert f"--max_steps {less.steps}" in less.advice()
    assert "--num_train_epochs" in found.advice()
    long = affordable(item, days=20, budget=None, price=None, sources=SOURCES)
    assert long.passes is not None
    assert long.passes > 4
    assert "wears out" in long.advice()
    assert f"--num_train_epochs 4 takes {20 * 4 / long.passes:,.2g} days" in long.advice()
    assert affordable(item, days=1, budget=None, price=None).passes is None
    with pytest.raises(ConfigError, match="--price"):
        affordable(item, days=None, budget=5.0, price=None)


def test_sources_of_a_prepared_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="medscroll prepare"):
        read_sources(tmp_path)
    (tmp_path / "tokens").mkdir()
    with TokenStoreWriter(tmp_path / "tokens" / "train", "uint16", vocab_size=100) as writer:
        for name, length in (("books/a.txt", 5), ("books/b.txt#3", 7), ("notes.jsonl#1", 20)):
            writer.add([1] * length, document_id=name)
    assert read_sources(tmp_path) == (Source("notes.jsonl", 1, 20), Source("books", 2, 12))
