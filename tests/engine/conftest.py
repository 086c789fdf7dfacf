"""A small prepared corpus that the engine's tests train on: made-up documents, a tokenizer of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import launch


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA of a sample corpus: `DATA/tokens/train`, tokenizer beside it in `TOKENIZER`."""
    folder = tmp_path_factory.mktemp("prepared")
    launch.run(1, ["sample", str(folder / "raw"), "--documents", "60", "--seed", "1", "--max_characters", "20000"])
    tokenizer = [str(folder / "raw"), str(folder / "tokenizer"), "--vocab_size", "1000"]
    launch.run(1, tokenizer, module="medscroll.model.tokenizer_training")
    prepare = ["prepare", str(folder / "raw"), "--output_dir", str(folder / "data"), "--num_workers", "1"]
    prepare += ["--tokenizer_name_or_path", str(folder / "tokenizer"), "--validation_fraction", "0.05"]
    launch.run(1, prepare)
    return folder / "data"


def training(data: Path, run_folder: Path, **flags: object) -> list[str]:
    """The arguments of a tiny float32 pretraining run; `flags` override."""
    values: dict[str, object] = {
        "data_dir": data,
        "output_dir": run_folder,
        "model_name_or_path": "tiny",
        "from_scratch": "true",
        "block_size": 256,
        "learning_rate": 1e-3,
        "seed": 7,
        "replay_share": 0,
        "save_minutes": 0,
        "use_cpu": "true",
        **flags,
    }
    return ["pretrain", *(part for key, value in values.items() for part in (f"--{key}", str(value)))]
