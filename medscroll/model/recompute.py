"""Makes a model keep what its level of activation memory says, and compute the rest again in the backward pass.

How: each decoder layer of transformers (`GradientCheckpointingLayer`) calls the checkpoint function that it is given.
Ours is `torch.utils.checkpoint.checkpoint` (non-reentrant) with a selective policy where outputs are kept, inside
`saved_tensors_hooks` where the layer's input waits in host memory or is computed again from an earlier layer. The
policy names operators: SDPA's, `varlen_attn`'s, flash-attn's and medscroll's own (`medscroll.model.flash`), and matrix
products by their widths.

Cost: of each level, see `activation_levels` and `medscroll.planning.activation_bytes`. Gradients are those of the
plain backward pass: the same kernels run on the same numbers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from medscroll.errors import ConfigError
from medscroll.model.activation_levels import Level
from medscroll.model.host_store import HostSlot, HostStore
from medscroll.model.tiled_mlp import tile_mlps

ATTENTION_OPERATORS = frozenset((
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable",
    "aten::_flash_attention_forward",
    "aten::_efficient_attention_forward",
    "aten::_cudnn_attention_forward",
    "torch_attn::_varlen_attn",
    "flash_attn::_flash_attn_forward",
    "flash_attn::_flash_attn_varlen_forward",
    "flash_attn_3::fwd",
    "flash_attn_3::_flash_attn_forward",
    "medscroll::flash_attention",
))  # fmt: skip
_PRODUCTS = frozenset(("aten::mm", "aten::addmm"))
_NARROW = 128  # inner width up to which a product is an adapter's: cheap to repeat


def keep_policy(context: Any, operator: Any, *args: Any, keep: str, width: int, **kwargs: Any) -> CheckpointPolicy:
    """Whether the output of `operator` is kept: of attention always, of matrix products as `keep` says.

    Args:
        keep: "attention", "mlp" or "linear".
        width: the MLP's intermediate size; products that end in it are gate and up, one that begins with it is down,
            whose output no backward pass needs.
    """
    name = operator._schema.name if hasattr(operator, "_schema") else str(operator)
    if name in ATTENTION_OPERATORS:
        return CheckpointPolicy.MUST_SAVE
    if keep != "attention" and name in _PRODUCTS:
        inner, outer = args[-1].shape  # [in, out]
        wanted = outer == width if keep == "mlp" else inner != width
        if wanted and inner > _NARROW:
            return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def layers_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The decoder layers of a model that can be recomputed, in order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def apply_level(model: Any, level: Level, *, row_bytes: int = 0) -> HostStore | None:
    """Make `model` (a PreTrainedModel or a PeftModel around one) keep what `level` says; returns its host memory.

    Args:
        row_bytes: bytes of the largest layer input, tokens x hidden size x element size; for host buffers.

    Raises:
        ConfigError: the architecture cannot recompute its layers.
    """
    if not level.recomputes:
        return None
    # transformers 5.2x renames gradient_checkpointing_enable; the old name warns there and is all that 5.17 has
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(str(error), where="--activation_memory", remedy="--activation_memory none") from error
    layers = layers_of(model)
    if not layers:
        raise ConfigError(
            f"{type(model).__name__} has no layers that transformers can recompute",
            where=f"--activation_memory {level.name}",
            remedy="--activation_memory none",
        )
    if level.tiled:
        tile_mlps(layers, level.name)
    text = model.config.get_text_config()
    width = int(getattr(text, "intermediate_size", None) or 0)
    store = HostStore(row_bytes) if level.offload else None
    stack = _InputStack(level, store)
    for index, layer in enumerate(layers):
        keep = level.keeps(index, len(layers))
        contexts = _contexts(keep, width) if keep else None
        if level.offload or level.every > 1:
            function: Callable[..., Any] = functools.partial(stack.run, index, contexts)
        else:
            function = functools.partial(_run, contexts)
        layer._gradient_checkpointing_func = function  # type: ignore[assignment]
    return store


def _contexts(keep: str, width: int) -> Callable[[], Any]:
    return functools.partial(
        create_selective_checkpoint_contexts, functools.partial(keep_policy, keep=keep, width=width)
    )


def _run(contexts: Callable[[], Any] | None, function: Callable[..., Any], *args: Any) -> Any:
    options: dict[str, Any] = {} if contexts is None else {"context_fn": contexts}
    return checkpoint(function, *args, use_reentrant=False, **options)


class _Segment:
    """Consecutive layers of one forward pass, of which only the first one's input is stored."""

    def __init__(self, store: HostStore | None) -> None:
        self.store = store
        self.stored: HostSlot | torch.Tensor | None = None
        self.below: HostSlot | None = None  # the segment below, where that one is the last in host memory
        self.calls: list[Callable[[torch.Tensor], Any]] = []
        self._inputs: dict[int, torch.Tensor] = {}

    def input_of(self, position: int) -> torch.Tensor:
        """The input of the segment's layer `position`; those above it have been asked for before."""
        if not self._inputs:
            hidden = self._first()
            self._inputs[0] = hidden
            with torch.no_grad():
                for index in range(position):
                    output = self.calls[index](hidden)
                    hidden = output[0] if isinstance(output, tuple) else output
                    self._inputs[index + 1] = hidden
        if position == 0:
            self.stored = None  # the last segment outlives the backward pass; its input need not
        return self._inputs.pop(position)

    def _first(self) -> torch.Tensor:
        if isinstance(self.stored, HostSlot):
            assert self.store is not None
            return self.store.fetch(self.stored)
        assert self.stored is not None
        if self.below is not None and self.store is not None:
            self.store.prefetch(self.below)
        return self.stored


class _InputStack:
    """Runs layers whose inputs are stored in host memory or by segments; one object serves all layers of a model."""

    def __init__(self, level: Level, store: HostStore | None) -> None:
        self.every, self.moved, self.store = level.every, level.moved, store
        self._segment = _Segment(store)
        self._last: HostSlot | None = None

    def run(self, index: int, contexts: Callable[[], Any] | None, function: Callable[..., Any], *args: Any) -> Any:
        """Layer `index`: its forward pass now; its input is fetched or made again when the backward pass comes."""
        hidden, *rest = args
        if index == 0:
            self._last = None
        position = index % self.every
        if position == 0:
            self._segment = _Segment(self.store)
        segment, number = self._segment, index // self.every
        on_host = self.store is not None and (self.moved is None or number < self.moved)
        if position == 0 and number == self.moved:
            segment.below = self._last
        if position < self.every - 1:  # nothing starts from the output of the last one
            segment.calls.append(_Replay(function, rest, hidden.device))

        # autograd keeps both functions: one that named the input itself would keep all inputs on the device
        pointer, shape = hidden.data_ptr(), hidden.shape

        def pack(tensor: torch.Tensor) -> Any:
            if tensor.data_ptr() != pointer or tensor.shape != shape:
                return tensor
            if position == 0:
                if self.store is not None and on_host:
                    self._last = segment.stored = self.store.put(tensor, self._last)
                else:
                    segment.stored = tensor
            return segment

        def unpack(packed: Any) -> torch.Tensor:
            return packed.input_of(position) if isinstance(packed, _Segment) else packed

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return _run(contexts, function, *args)


class _Replay:
    """A layer's forward pass again, with the random state and the autocast of its first time."""

    def __init__(self, function: Callable[..., Any], rest: list[Any], device: torch.device) -> None:
        self.function, self.rest, self.kind = function, rest, device.type
        self.devices = [device] if device.type == "cuda" else []
        self.state = torch.get_rng_state()
        self.device_states = [torch.cuda.get_rng_state(one) for one in self.devices]
        self.enabled = torch.is_autocast_enabled(self.kind)
        self.dtype = torch.get_autocast_dtype(self.kind)

    def __call__(self, hidden: torch.Tensor) -> Any:
        with self._as_then():
            return self.function(hidden, *self.rest)

    @contextlib.contextmanager
    def _as_then(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.state)
            for device, state in zip(self.devices, self.device_states, strict=True):
                torch.cuda.set_rng_state(state, device)
            with torch.autocast(self.kind, dtype=self.dtype, enabled=self.enabled):
                yield
