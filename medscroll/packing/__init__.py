"""Documents to tokens to blocks: the token store, cuts, the pack plan, the dataset and its collator.

The names below are loaded on first use, so that importing the package costs nothing (no torch, no numpy).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medscroll.packing.collate import collate_blocks
    from medscroll.packing.dataset import PackedDataset
    from medscroll.packing.plan import pack
    from medscroll.packing.store import TokenStore

_HOME = {
    "TokenStore": "medscroll.packing.store",
    "pack": "medscroll.packing.plan",
    "PackedDataset": "medscroll.packing.dataset",
    "collate_blocks": "medscroll.packing.collate",
}

__all__ = ["PackedDataset", "TokenStore", "collate_blocks", "pack"]


def __getattr__(name: str) -> Any:
    """Loads one of the public names (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
