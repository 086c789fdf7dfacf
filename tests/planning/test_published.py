"""The planner's step time beside published training runs; none of its constants was fitted on them."""

from __future__ import annotations

import importlib.util
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> Any:
    path = ROOT / "benchmarks" / "planner" / "published.py"
    spec = importlib.util.spec_from_file_location("published", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["published"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(script: Any) -> list[Any]:
    found: list[Any] = script.rows("compared")
    return found


def test_errors_stay_within_the_bounds(rows: list[Any]) -> None:
    errors = [abs(row.error) for row in rows]
    assert len(errors) >= 20
    assert statistics.median(errors) <= 0.10
    assert max(errors) <= 0.25
    assert {row.run["cluster"].partition("@")[0] for row in rows} > {"8xA100-80G", "8x8xH100-80G"}
    assert all(0.2 < row.mfu < 0.8 for row in rows)


def test_every_run_names_its_source(script: Any) -> None:
    content = script.published()
    for run in [*content["compared"], *content["others"]]:
        assert len(content["sources"][run["source"]]) > 40
    assert all(len(run["differs"]) > 5 for run in content["others"])


def test_the_page_shows_these_figures(script: Any, rows: list[Any]) -> None:
    for name in ("planning-published.md", "planning-published.zh.md"):
        page = (ROOT / "docs" / name).read_text("utf-8")
        for row in rows:
            line = next(
                line
                for line in page.splitlines()
                if line.startswith(f"| {row.run['model']} | {row.run['cluster']} | {row.run['block_size']:,} | ")
                and f" | {row.run['tokens_per_second']:,} | " in line
            )
            shown = re.search(r"\| ([+-]\d+\.\d)% \|", line)
            assert shown is not None
            assert float(shown[1]) == pytest.approx(100 * row.error, abs=1.0), line
