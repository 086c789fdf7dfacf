"""MLPs that work on a tile of tokens at a time, so that their activations never exist for a whole row.

How: an MLP treats every token alone, so its input is split into tiles, each tile is a checkpoint of its own
(`torch.utils.checkpoint`, non-reentrant), and the outputs are joined. The module keeps its parameters and their names;
its class becomes a subclass of its own class that tiles the call, as torch's parametrizations do, so that hooks,
DeepSpeed, adapters and Liger's kernels work inside a tile as they would on the row. Source of the idea: Arctic Long
Sequence Training (arXiv:2506.13996).

Cost: the forward pass of the MLP once more in the backward pass. Saved: 3 x MLP width elements a token (gate, up, and
their product), of which the gradients are as large again. Weight gradients are summed over tiles in the dtype of
the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint, noop_context_fn

from medscroll.errors import ConfigError
from medscroll.model.activation_levels import TILE_TOKENS


class _Tiled:
    """Put before a module's class: calls it once a tile of its input [B, T, hidden]."""

    tile_tokens = TILE_TOKENS
    tile_contexts = staticmethod(noop_context_fn)  # of a tile's first and second run; the planner brings its own

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """The module's output [B, T, hidden]."""
        whole = super().__call__  # type: ignore[misc]
        if hidden.shape[1] <= self.tile_tokens:
            return whole(hidden)
        tiles = hidden.split(self.tile_tokens, dim=1)
        if not torch.is_grad_enabled():
            return torch.cat([whole(tile) for tile in tiles], dim=1)
        random = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in self.modules())  # type: ignore[attr-defined]
        options: dict[str, Any] = {"use_reentrant": False, "context_fn": self.tile_contexts}
        outputs = [checkpoint(whole, tile, preserve_rng_state=random, **options) for tile in tiles]
        return torch.cat(outputs, dim=1)


@functools.cache
def _tiled_class(original: type) -> type:
    return type(original.__name__, (_Tiled, original), {"__module__": original.__module__})


def tiles(module: torch.nn.Module) -> bool:
    """Whether an MLP can be tiled: a dense one, which treats every token alone."""
    return hasattr(module, "down_proj") and not hasattr(module, "experts")


def can_tile(config: Any, *, trust_remote_code: bool = False) -> bool:
    """Whether every layer of a configuration's causal model has such an MLP; looked up on the meta device."""
    from transformers import AutoModelForCausalLM
    from transformers.modeling_layers import GradientCheckpointingLayer

    from medscroll.model.proof import shrink

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shrink(config), trust_remote_code=trust_remote_code)
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    return bool(layers) and all(tiles(getattr(layer, "mlp", torch.nn.Identity())) for layer in layers)


def tile_mlps(layers: Iterable[torch.nn.Module], level: str) -> None:
    """Makes the `mlp` of each decoder layer work on tiles; once done, doing it again changes nothing.

    Raises:
        ConfigError: a layer has no dense MLP of that name (mixtures of experts).
    """
    for layer in layers:
        mlp: Any = getattr(layer, "mlp", None)
        if mlp is None or not tiles(mlp):
            raise ConfigError(
                f"{type(layer).__name__} has no dense MLP that could work on tiles of tokens",
                where=f"--activation_memory {level}",
                remedy=f"--activation_memory {level.removesuffix('_tiled')}",
            )
        if not isinstance(mlp, _Tiled):
            mlp.__class__ = _tiled_class(type(mlp))  # type: ignore[arg-type]
