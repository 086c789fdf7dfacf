"""Several prepared folders in one run: shares, counts by store, one order at any number of ranks, exact resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medscroll.cli.main import main
from medscroll.packing.files import signed
from medscroll.packing.job import read_manifest
from medscroll.packing.store import TokenStore, TokenStoreWriter
from tests import launch
from tests.engine.conftest import training
from tests.packing.test_ledger import IDENTITY

STEPS = 5  # of 8 blocks; the run ends inside the first epoch


@pytest.fixture(scope="module")
def general(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second folder of the same tokenizer: half of the documents of the first."""
    folder = tmp_path_factory.mktemp("general") / "data"
    (folder / "tokens").mkdir(parents=True)
    manifest = read_manifest(prepared)
    for split in ("train", "validation"):
        store = TokenStore.open(prepared / "tokens" / split)
        kept = {"eos_token_id": store.eos_token_id, "vocab_size": store.vocab_size, "adds_bos": store.adds_bos}
        with TokenStoreWriter(folder / "tokens" / split, store.dtype, **kept) as writer:
            writer.add_store(store, len(store) // 2, len(store))
        manifest["stores"][split]["digest"] = TokenStore.open(folder / "tokens" / split).digest
    (folder / "manifest.json").write_text(json.dumps(signed(manifest)))
    return folder


def ledger_of(run: Path) -> dict[str, Any]:
    """The run's ledger, after checking the identity of every pass and store in it."""
    ledger: dict[str, Any] = json.loads((run / "ledger.json").read_text())
    assert ledger["conserved"], ledger["problems"]
    for one in ledger["passes"]:
        assert len(one["stores"]) >= 2
        for entry in (one, *one["stores"]):
            assert sum(entry[name] for name in IDENTITY) == entry["tokens"] > 0
    return ledger


@pytest.mark.distributed
def test_a_mixture_killed_on_two_ranks_goes_on_with_one_and_equals_the_whole_run(
    prepared: Path, general: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixture = f"{prepared}*1.5,{general}=0.2"
    flags: dict[str, object] = {"data_dir": mixture, "max_steps": STEPS, "context_tokens": 8}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    launch.run(1, training(prepared, whole, gradient_accumulation_steps=8, **flags))
    two = {**flags, "gradient_accumulation_steps": 4}
    sign = broken / "checkpoint-3" / "manifest.json"
    launch.run_until(2, training(prepared, broken, save_steps=3, **two), sign)
    again = {**flags, "gradient_accumulation_steps": 8, "save_steps": 100, "resume_from_checkpoint": "true"}
    output = launch.run(1, training(prepared, broken, **again)).stdout
    assert launch.blocks(broken) == launch.blocks(whole)
    assert len(launch.blocks(whole)) == STEPS
    np.testing.assert_allclose(list(launch.losses(broken).values()), list(launch.losses(whole).values()), rtol=2e-5)
    assert "1.5 passes an epoch" in output
    assert "no general-domain replay" not in output

    one, other = ledger_of(whole), ledger_of(broken)
    assert one["total"]["targets"] == other["total"]["targets"] > 0
    assert [e["targets"] for e in one["passes"][0]["stores"]] == [e["targets"] for e in other["passes"][0]["stores"]]
    (first, second, *rest) = one["stores"]
    assert [first["store_pass"], second["store_pass"]] == [0, 1]
    assert second["tokens"] == pytest.approx(first["tokens"] / 2, rel=0.1)
    shared = sum(store["tokens"] for store in rest)
    assert shared == pytest.approx(0.25 * (first["tokens"] + second["tokens"]), rel=0.1)  # 20 % of all
    entry = one["passes"][0]
    assert entry["not_reached"] > 0
    assert entry["padding"] == 0
    cursor = json.loads((broken / "checkpoint-3" / "cursor.json").read_text())
    assert (cursor["epoch"], cursor["blocks_consumed"], cursor["global_batch"]) == (0, 24, 8)

    changed = {**two, "data_dir": f"{prepared}*1.5,{general}=0.3"}
    assert main(training(prepared, broken, resume_from_checkpoint="true", **changed)) == 2
    assert "--data_dir" in capsys.readouterr().err
