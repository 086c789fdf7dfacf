"""What a run costs before it is paid for: memory, time, traffic and money on a cluster, and which setup is the best.

The names below are loaded on first use, so that importing the package costs nothing (no torch, no transformers).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medscroll.planning.cluster import Cluster
    from medscroll.planning.search import plan_training

_HOME = {"Cluster": "medscroll.planning.cluster", "plan_training": "medscroll.planning.search"}

__all__ = ["Cluster", "plan_training"]


def __getattr__(name: str) -> Any:
    """Loads one of the public names (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
