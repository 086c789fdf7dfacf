"""Tensors that a computation makes: which are still in memory afterwards, and how large the largest is."""

from __future__ import annotations

from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class Storages(TorchDispatchMode):
    """Every storage that an operator makes, with its bytes; autograd and Python keep some of them alive."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[Any, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for item in output if isinstance(output, tuple | list) else (output,):
            if isinstance(item, torch.Tensor):
                self.made[StorageWeakRef(item.untyped_storage())] = item.untyped_storage().nbytes()
        return output

    def alive(self, without: set[Any]) -> int:
        """Bytes of the storages that still exist, those of `without` aside."""
        return sum(size for storage, size in self.made.items() if storage not in without and not storage.expired())


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operator makes, in elements, and what made it."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.operator = 0, ""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for item in output if isinstance(output, tuple | list) else (output,):
            if isinstance(item, torch.Tensor) and item.numel() > self.elements:
                self.elements, self.operator = item.numel(), function._schema.name
        return output
