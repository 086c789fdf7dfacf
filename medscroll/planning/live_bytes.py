"""Live bytes of a training step that is run on the meta device: what every operation allocates, and when it is freed.

How: a dispatch mode sees the outputs of all operations, forward and backward, and counts each storage from its first
appearance until Python and autograd have let go of it. The meta device has shapes and no data, so the real classes of
transformers run at full width in milliseconds and in no memory. Storages that exist before (parameters) are not
counted. Every storage has a kind, given by where it was made; the peak of every stretch of the step ("region") is kept
by kind.

Cost: some 50 microseconds an operation.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

KINDS = ("activations", "logits", "recompute_workspace", "attention_workspace")


@dataclass
class RegionPeak:
    """The highest point of one stretch of the step.

    `live` is by kind, without gradients; `gradients` are the bytes of gradients that were complete by then.
    `with_gradients` is the highest point where complete gradients stay in memory, `live` where they are taken away.
    """

    live: dict[str, int] = field(default_factory=dict)
    total: int = 0
    kept_live: dict[str, int] = field(default_factory=dict)
    kept_gradients: int = 0
    kept_total: int = 0

    @classmethod
    def of(cls, live: dict[str, int], kept_live: dict[str, int], kept_gradients: int) -> RegionPeak:
        """A peak with its sums."""
        return cls(live, sum(live.values()), kept_live, kept_gradients, sum(kept_live.values()) + kept_gradients)


class LiveBytes(TorchDispatchMode):
    """Counts live bytes; `region` and `kind` are set by hooks while the model runs.

    Args:
        vocabulary: tensors whose last dimension this is are logits.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.region, self.kind = "forward", "activations"
        self.live: Counter[str] = Counter()
        self.known: dict[int, tuple[str, int]] = {}
        self.gradients = 0
        self.regions: dict[str, RegionPeak] = {}
        self.operations = 0

    def ignore(self, tensors: Iterator[torch.Tensor]) -> None:
        """Do not count these tensors, which exist before the step."""
        for tensor in tensors:
            self.known[tensor.untyped_storage()._cdata] = ("", 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf)
        self.sample()
        return out

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.known:
            return
        kind, size = self.kind, storage.nbytes()
        # the output of lm_head, its float copy, softmax and their gradients; not the weight itself, which is a matrix
        if tensor.dim() and self.vocabulary in (tensor.shape[-1], tensor.shape[0]) and tensor.dtype.is_floating_point:
            kind = "logits"
        self.known[key] = (kind, size)
        self.live[kind] += size
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        kind, size = self.known.pop(key, ("", 0))
        if size:
            self.live[kind] -= size

    def sample(self) -> None:
        """Compare this moment with the peak of its region."""
        peak = self.regions.setdefault(self.region, RegionPeak())
        total = sum(self.live.values())
        if total > peak.total:
            peak.total, peak.live = total, dict(self.live)
        if total + self.gradients > peak.kept_total:
            peak.kept_total, peak.kept_live, peak.kept_gradients = (
                total + self.gradients,
                dict(self.live),
                self.gradients,
            )

    def take_gradient(self, parameter: torch.Tensor) -> None:
        """A gradient is complete: count it as such and take it out of the live bytes (as DeepSpeed does)."""
        grad = parameter.grad
        if grad is None:
            return
        self.sample()
        self.gradients += grad.numel() * grad.element_size()
        parameter.grad = None
        del grad

    @contextmanager
    def making(self, kind: str) -> Iterator[None]:
        """What is made inside is of this kind."""
        before, self.kind = self.kind, kind
        try:
            yield
        finally:
            self.kind = before
