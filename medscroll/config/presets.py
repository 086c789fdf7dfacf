"""Model presets: exact shapes of public models and a few small ones, kept as data files.

How: one JSON file a preset in `config/data/models/` with the fields of `Preset`, where `config` is the content of a
Hugging Face config.json. A preset is a shape without weights, so training takes one
only from scratch. Cost: one small file read; nothing heavy is imported.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medscroll.errors import ConfigError

MODELS_DIR = Path(__file__).parent / "data" / "models"


@dataclass(frozen=True)
class Preset:
    """A model shape.

    Attributes:
        name: how `--model_name_or_path` calls it.
        config: the content of a Hugging Face config.json.
        source: where the shape is from.
        checkpoint: the public checkpoint of that shape; None where there is none.
        note: one sentence for people.
        vocabulary: "tokenizer" where training from scratch sizes the embedding by the tokenizer; "fixed" where the
            number of entries belongs to the shape.
    """

    name: str
    config: dict[str, Any]
    source: str
    checkpoint: str | None
    note: str
    vocabulary: str = "fixed"


def preset_names() -> list[str]:
    """All preset names, sorted."""
    return sorted(path.stem for path in MODELS_DIR.glob("*.json"))


def is_preset(name: str | None) -> bool:
    """Whether `name` is a preset: a local folder of the same name goes first."""
    return bool(name) and name in preset_names() and not Path(str(name)).is_dir()


def load_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        ConfigError: there is none; the nearest names are given.
    """
    path = MODELS_DIR / f"{name}.json"
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"there is no preset {name!r}", remedy=f"{hint}presets: {', '.join(preset_names())}")
    return Preset(**json.loads(path.read_text(encoding="utf-8")))
