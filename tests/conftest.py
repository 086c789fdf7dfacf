"""Fixtures of all tests: where the real corpora and tokenizer are, and how a `torchrun` job is started."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the slow suite (many minutes)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow suite: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real corpora and tokenizers beside the checkout; a clone of the project alone has none."""
    path = ROOT.parent / "shared"
    if not path.is_dir():  # a worktree one folder deeper
        path = ROOT.parents[1] / "shared"
    if not (path / "corpora").is_dir():
        pytest.skip("no real corpora: ../shared/corpora is absent beside this checkout")
    return path


@pytest.fixture(scope="session")
def yi_tokenizer_dir(shared_dir: Path) -> Path:
    """The real Yi tokenizer (64,000 entries; defines a BOS and does not add it)."""
    return shared_dir / "tokenizers" / "yi"
