"""The training loss of a row through its output layer, without the logits of the row: for weights that ZeRO-3 shards.

How: the output layer becomes a subclass of its own class (as torch's parametrizations do; parameters, their names and
every hook stay). While it is armed with labels, its call returns the sum of the losses instead of logits: a loop over
portions of the row makes logits, their loss, and at once the gradients of hidden states and weight, which the backward
pass scales and returns. DeepSpeed gathers the weight around the layer's call and around its backward pass: one
gather each, whatever the number of portions. Idea: Liger's fused loss (arXiv:2410.10989), which reads the weight
outside of its module, where ZeRO-3 has not gathered it.

Cost: logits of 2,048 positions in float32 (0.8 GB at 102,400 entries) and a copy in the computing dtype; the gradients
of the hidden states and, if the layer is trained, a float32 sum of the weight's. No product is made twice.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

PORTION = 2048  # positions whose logits exist at a time
IGNORED = -100


def next_labels(labels: torch.Tensor) -> torch.Tensor:
    """What each position predicts, int64 [B, T]: the label of the following one, -100 at the end of a row."""
    return torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), IGNORED)], dim=1)


class _SummedLoss(torch.autograd.Function):
    """Sum of the negative log-likelihoods, float32; nats. Gradients are made with it, and kept until the backward."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes no keywords
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        following: torch.Tensor,
        compute: torch.dtype,
    ) -> torch.Tensor:
        """hidden [N, width], weight [V, width], following int64 [N] -> scalar."""
        to_hidden, to_weight, to_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if to_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if to_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if to_bias and bias is not None else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        with _without_autocast(hidden.device.type):
            matrix = weight.to(compute)
            shift = None if bias is None else bias.to(compute)
            for first in range(0, len(hidden), PORTION):
                part, labels = hidden[first : first + PORTION].to(compute), following[first : first + PORTION, None]
                logits = nn.functional.linear(part, matrix, shift).float()  # [P, V]
                loss, gradient = _loss_and_gradient(logits, labels, wanted=any(ctx.needs_input_grad[:3]))
                total += loss
                if gradient is None:
                    continue
                error = gradient.to(compute)
                if grad_hidden is not None:
                    grad_hidden[first : first + PORTION] = error @ matrix
                if grad_weight is not None:
                    grad_weight += error.t() @ part
                if grad_bias is not None:
                    grad_bias += gradient.sum(0)
                del logits, gradient, error
        ctx.made = (grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: torch.Tensor) -> Any:  # type: ignore[override]
        """Each gradient times the gradient of the sum."""
        made, ctx.made = ctx.made, (None, None, None)
        pairs = zip(made, ctx.dtypes, strict=True)
        return (*[None if found is None else found.mul_(scale).to(dtype) for found, dtype in pairs], None, None)


def _loss_and_gradient(
    logits: torch.Tensor, labels: torch.Tensor, *, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sum of the losses of logits float32 [P, V] under labels [P, 1], and its gradient, which overwrites the logits."""
    counted = labels != IGNORED
    target = labels.clamp(min=0)
    top = logits.amax(dim=1, keepdim=True)
    chosen = logits.gather(1, target)
    logits.sub_(top).exp_()
    mass = logits.sum(dim=1, keepdim=True)
    loss = torch.where(counted, mass.log() + top - chosen, 0.0).sum()
    if not wanted:
        return loss, None
    logits.mul_(counted / mass)  # softmax, and nothing where there is no target
    logits.scatter_add_(1, target, -counted.to(logits.dtype))
    return loss, logits


def _without_autocast(kind: str) -> contextlib.AbstractContextManager[Any]:
    """Dtypes are explicit inside; the meta device, on which plans are made, knows no autocast."""
    return contextlib.nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def _computing_dtype(hidden: torch.Tensor) -> torch.dtype:
    kind = hidden.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return hidden.dtype


class _InPortions:
    """Put before an output layer's class: returns the summed loss [1, 1, 1] while it is armed."""

    following: torch.Tensor | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [B, T, V] of hidden states [B, T, width], or the loss."""
        if self.following is None:
            return super().forward(hidden)  # type: ignore[misc, no-any-return]
        if hidden.shape[:-1] != self.following.shape:
            raise RuntimeError(f"hidden states {tuple(hidden.shape)} for labels {tuple(self.following.shape)}")
        layer: Any = self
        compute = _computing_dtype(hidden)
        flat, following = hidden.reshape(-1, hidden.shape[-1]), self.following.reshape(-1)
        return _SummedLoss.apply(flat, layer.weight, layer.bias, following, compute).view(1, 1, 1)  # type: ignore[no-any-return]


@functools.cache
def _in_portions_class(original: type) -> type:
    return type(original.__name__, (_InPortions, original), {"__module__": original.__module__})


def output_layer(model: nn.Module) -> Any:
    """The output layer of a PreTrainedModel or a PeftModel; the trained copy where peft made one (modules_to_save)."""
    causal: Any = model
    head = (causal.get_base_model() if hasattr(causal, "get_base_model") else causal).get_output_embeddings()
    copies = getattr(head, "modules_to_save", None)
    return head if copies is None else copies[head.active_adapter]


class LossInPortions:
    """The loss of a causal model through its output layer.

    Args:
        model: a PreTrainedModel, or a PeftModel around one, whose output layer is a plain `nn.Linear`.
    """

    def __init__(self, model: nn.Module) -> None:
        head = output_layer(model)
        if type(head) is nn.Linear:
            head.__class__ = _in_portions_class(nn.Linear)
        if not isinstance(head, _InPortions):
            raise TypeError(f"an output layer of class {type(head).__name__}")
        self.head = head

    @contextlib.contextmanager
    def of(self, labels: torch.Tensor) -> Iterator[None]:
        """While this lasts, the model's logits are the sum of the losses of labels int64 [B, T]."""
        self.head.following = next_labels(labels)
        try:
            yield
        finally:
            self.head.following = None

    @staticmethod
    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        """`compute_loss_func` of a Trainer: the sum over the targets of the global batch, or of this row, float32."""
        total = outputs.logits.view(())
        if num_items_in_batch is None:
            return total / (labels[:, 1:] != IGNORED).sum().clamp(min=1)
        items = num_items_in_batch
        return total / (items.to(total.device) if isinstance(items, torch.Tensor) else items)


def in_words(whole: str) -> str:
    """How a run under ZeRO-3 computes its loss; `whole` is what `why_not` says."""
    if whole:
        return f"ZeRO-3: logits of whole rows, for {whole}"
    return f"ZeRO-3: logits of {PORTION:,} positions at a time, lm_head gathered once for all of them"


def why_not(config: Any, model: nn.Module | None = None, *, trust_remote_code: bool = False) -> str:
    """Why a model cannot have its loss in portions; "" where it can. With `model`, its own output layer is looked at.

    A small copy of the model says: its plain loss is the loss in portions. It is not where logits are scaled or capped
    behind the output layer, or where something is added to the loss.
    """
    head = None if model is None else output_layer(model)
    if head is not None and not isinstance(head, _InPortions) and type(head) is not nn.Linear:
        return f"an output layer of class {type(head).__name__}"
    kind: Any = type(config)
    return _why_not(config.to_json_string(use_diff=False), kind, trust_remote_code)


@functools.lru_cache(maxsize=64)
def _why_not(text: str, kind: type, trust_remote_code: bool) -> str:
    import json

    from transformers import AutoModelForCausalLM
    from transformers.modeling_utils import set_zero3_state

    from medscroll.model.proof import shrink

    config: Any = kind.from_dict(json.loads(text))  # type: ignore[attr-defined]
    if getattr(config.get_text_config(), "output_router_logits", False):
        return "the loss of its routers is added"
    # set_zero3_state: where ZeRO-3 is armed, transformers would shard this model too
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), set_zero3_state():
        torch.manual_seed(0)
        small: Any = AutoModelForCausalLM.from_config(
            shrink(config), dtype=torch.float32, attn_implementation="eager", trust_remote_code=trust_remote_code
        )
        ids = torch.arange(24)[None] % 20
        with torch.no_grad():
            plain = small(input_ids=ids, labels=ids, use_cache=False).loss
            try:
                loss = LossInPortions(small)
            except TypeError as error:
                return str(error)
            with loss.of(ids):
                outputs = small(input_ids=ids, use_cache=False)
    if outputs.logits.numel() != 1 or not torch.allclose(loss.loss(outputs, ids), plain, rtol=1e-4, atol=1e-5):
        return "something comes between its output layer and its loss"
    return ""
