"""Damaged files of prepared data: refused with an error that names the file, or provably harmless; never wrong rows.

Bytes are flipped, cut off and zeroed in every file that training reads; then everything is read as training does.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from medscroll.errors import UserError
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.mixture import PreparedSources
from medscroll.packing.plan import bytes_of_blocks
from medscroll.packing.sources import parse_sources
from tests.packing.memory_store import lognormal
from tests.packing.test_mixture import make_data

FILES = ("tokens/train.bin", "tokens/train.idx", "tokens/train.cuts.npz", "manifest.json", "plan")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of 30 documents, with its plan."""
    lengths = np.clip(lognormal(30, np.random.default_rng(1), median=80), 2, 2000)
    folder = make_data(tmp_path_factory.mktemp("whole") / "data", lengths, 1)
    everything(folder)
    return folder


def everything(folder: Path) -> bytes:
    """All that a run takes from a folder: rows, ledger, digests, bytes of blocks, ids."""
    prepared = PreparedSources(parse_sources(str(folder)))
    mixture = prepared.training(block_size=128, context_tokens=8)
    rows = PackedDataset(mixture.view, mixture.plan)
    parts = [np.concatenate(rows.arrays(index)).tobytes() for index in range(len(rows))]
    sizes = bytes_of_blocks(mixture.view.document_bytes, mixture.plan)
    said = [mixture.plan.ledger(), mixture.view.digest, list(prepared.train[0].ids), prepared.vocab_size]
    return b"".join([*parts, sizes.tobytes(), json.dumps(said).encode()])


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """A flipped bit, a zeroed stretch, or an end cut off."""
    at = int(rng.integers(len(raw)))
    kind = rng.random()
    if kind < 0.75:
        return raw[:at] + bytes([raw[at] ^ (1 << int(rng.integers(8)))]) + raw[at + 1 :]
    if kind < 0.9:
        return raw[:at]
    end = min(len(raw), at + int(rng.integers(1, 200)))
    return raw[:at] + bytes(end - at) + raw[end:]


def check(data: Path, folder: Path, name: str, rounds: int) -> tuple[int, int]:
    """How many of the damaged files were refused, and how many made no difference."""
    expected = everything(data)
    shutil.copytree(data, folder)
    path = next((folder / "plans").iterdir()) if name == "plan" else folder / name
    raw, rng = path.read_bytes(), np.random.default_rng(len(name))
    refused = harmless = unclear = 0
    for _ in range(rounds):
        path.write_bytes(damaged(raw, rng))
        try:
            with warnings.catch_warnings(record=True):
                assert everything(folder) == expected
            harmless += 1
        except UserError as error:
            refused += 1
            unclear += not (str(folder) in str(error) and error.remedy)
    path.write_bytes(raw)
    assert everything(folder) == expected
    assert unclear == 0
    return refused, harmless


@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_or_harmless(data: Path, tmp_path: Path, name: str) -> None:
    refused, harmless = check(data, tmp_path / "data", name, 120)
    if name == "plan":
        assert harmless == 120  # packed again, with a warning
    else:
        assert refused > 80  # the rest fell on bytes that nothing reads: padding, dates, the document index


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_much_damage_is_refused_or_harmless(data: Path, tmp_path: Path, name: str) -> None:
    refused, harmless = check(data, tmp_path / "data", name, 5000)
    assert refused + harmless == 5000
