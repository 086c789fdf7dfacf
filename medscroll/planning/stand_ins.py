"""Stand-ins on the meta device for kernels that need a GPU: they allocate and save what the kernels do, and no more.

Read from the sources of liger-kernel 0.8.5 (rms_norm, swiglu, fused_linear_cross_entropy, cross_entropy), flash-attn-4
4.0.0b36 (cute/interface.py: accumulators of the backward pass) and bitsandbytes (MatMul4Bit dequantises in both
directions). A stand-in replaces the forward of an instance, as Liger itself does; classes are not touched.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn

ATTENTION = "medscroll_planner"
STREAMING_MULTIPROCESSORS = 132  # rows of Liger's partial weight gradients: one a multiprocessor (H100, H200)


def _kinds() -> Any:
    """The running `LiveBytes`, if any."""
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    from medscroll.planning.live_bytes import LiveBytes

    return next((mode for mode in reversed(_get_current_dispatch_mode_stack()) if isinstance(mode, LiveBytes)), None)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, accumulators: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """q [B, h, T, d], k, v [B, g, T, d] -> output [B, T, h, d] and log-sum-exp [B, h, T] (float32)."""
    rows, heads, tokens, _ = query.shape
    output = query.new_empty(rows, tokens, heads, value.shape[-1])
    return output, query.new_empty(rows, heads, tokens, dtype=torch.float32)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    query, key, value, ctx.accumulators = inputs
    ctx.save_for_backward(query, key, value, *output)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[Any, ...]:
    """Gradients and, while they are made, what the kernel of the backend allocates beside them (`ACCUMULATORS`)."""
    query, key, value, _output, lse = ctx.saved_tensors
    meter = _kinds()
    kind = meter.kind if meter else ""
    if meter:
        meter.kind = "attention_workspace"
    buffers = [torch.empty_like(lse), torch.empty_like(lse)]  # rows' dot products; scaled log-sum-exp
    grouped = query.shape[1] != key.shape[1]
    if ctx.accumulators != "none":
        buffers.append(torch.empty_like(query, dtype=torch.float32))
    if grouped and ctx.accumulators == "grouped":
        buffers += [torch.empty_like(key, dtype=torch.float32), torch.empty_like(value, dtype=torch.float32)]
    if grouped and ctx.accumulators == "expanded":  # summed over the group afterwards
        buffers += [torch.empty_like(query), torch.empty_like(query)]
    grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
    if meter:
        meter.kind = kind
    return grads


# An operator, as the real kernels are to a checkpoint policy (medscroll.model.recompute), which may keep its output.
_OPERATOR: Any = torch.library.custom_op(
    "medscroll_planner::attention",
    _attend,
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor value, str accumulators) -> (Tensor, Tensor)",
)
_OPERATOR.register_fake(_attend)
_OPERATOR.register_autograd(_differentiate, setup_context=_keep_for_backward)
# What a backend's backward pass allocates beside the gradients: flash-attn-4 float32 sums of all three where key heads
# are shared; FlashAttention 2 a float32 sum of queries and gradients a query head. Before torch had `enable_gqa` in
# varlen_attn, `medscroll.model.kernels` repeats keys and values, which are then kept so.
ACCUMULATORS = {
    "flash_attention_4": "grouped",
    "flash_attention_3": "grouped",
    "flash_attention_2": "expanded",
    "varlen": "repeated",
    "per_document": "queries",
}


def attention(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it; the module's `planner_attention` holds (compute dtype, accumulators)."""
    dtype, accumulators = getattr(module, "planner_attention", (None, "grouped"))
    if dtype is not None and query.dtype != dtype:
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if value.dtype != query.dtype:
        value = value.to(query.dtype)
    if accumulators == "repeated" and query.shape[1] != key.shape[1]:
        times = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(times, dim=1) for part in (key, value))
    return _OPERATOR(query, key, value, accumulators)[0], None


def register_attention() -> None:
    """Make the stand-in known to transformers; may be repeated. A name without a mask function gets no mask at all."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attention)


class _RmsNorm(torch.autograd.Function):
    """Saves its input and one float32 a row; the gradient of the input overwrites the gradient of the output."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        ctx.save_for_backward(x, weight, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        weight = ctx.saved_tensors[1]
        if not ctx.needs_input_grad[1]:
            return grad, None
        partial = weight.new_empty(STREAMING_MULTIPROCESSORS, weight.shape[-1], dtype=torch.float32)
        return grad, partial.sum(0).to(weight.dtype)


class _SiluMul(torch.autograd.Function):
    """Saves gate and up; their gradients overwrite them."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        return gate.detach(), up.detach()


class _FusedLoss(torch.autograd.Function):
    """lm_head and loss in chunks of tokens; gradients of input and weight are made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, compute: torch.dtype) -> torch.Tensor:
        tokens, width = hidden.shape
        vocabulary = weight.shape[0]
        chunk = min(tokens, _power_of_two(-(-tokens // -(-vocabulary // width))))
        grad_input = torch.zeros_like(hidden)
        grad_weight = torch.zeros_like(weight) if weight.requires_grad or ctx.needs_input_grad[1] else None
        # under autocast the weight's own cast stays in the cache, that of its transpose is made for each chunk
        cast = [weight.to(compute) for _ in range(2 if chunk < tokens else 1)] if weight.dtype != compute else None
        logits = hidden.new_empty(chunk, vocabulary, dtype=compute)
        del logits, cast
        saved = [grad_input, *([grad_weight] if grad_weight is not None else [])]
        ctx.save_for_backward(*saved)
        return hidden.new_empty((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        saved = ctx.saved_tensors
        return saved[0].detach(), saved[1].detach() if len(saved) > 1 else None, None


class _CrossEntropy(torch.autograd.Function):
    """Liger's loss over whole logits: their gradient overwrites them."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(logits)
        return logits.new_empty((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        return ctx.saved_tensors[0].detach()


class _Dequantised(torch.autograd.Function):
    """A product with a 4-bit or 8-bit weight: the weight is unpacked for the moment, in both directions."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, outputs: int) -> torch.Tensor:
        ctx.outputs, ctx.inputs, ctx.dtype = outputs, x.shape[-1], x.dtype
        weight = x.new_empty(outputs, x.shape[-1])
        out = torch.nn.functional.linear(x, weight)
        del weight
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        weight = grad.new_empty(ctx.outputs, ctx.inputs, dtype=ctx.dtype)
        return grad.to(ctx.dtype) @ weight, None


def _power_of_two(value: int) -> int:
    return 1 << max(value - 1, 0).bit_length()


def use_liger(model: nn.Module, *, fused_loss: bool, compute: torch.dtype) -> list[str]:
    """Replace norms, gated MLPs and the loss of this instance as Liger does; returns what was replaced."""
    replaced = set()
    for module in model.modules():
        name = type(module).__name__
        if name.endswith("RMSNorm") and isinstance(getattr(module, "weight", None), torch.Tensor):
            module.forward = types.MethodType(lambda self, x: _RmsNorm.apply(x, self.weight), module)
            replaced.add("RMSNorm")
        elif all(hasattr(module, part) for part in ("gate_proj", "up_proj", "down_proj")):
            module.forward = types.MethodType(
                lambda self, x: self.down_proj(_SiluMul.apply(self.gate_proj(x), self.up_proj(x))), module
            )
            replaced.add("SwiGLU")
    causal: Any = model
    causal = causal.get_base_model() if hasattr(causal, "get_base_model") else causal
    if fused_loss:
        replaced.add("fused loss")

        def forward(self: Any, input_ids: torch.Tensor, labels: torch.Tensor | None = None, **kwargs: Any) -> Any:
            hidden = self.model(input_ids=input_ids, use_cache=False).last_hidden_state  # [1, T, hidden]
            flat = hidden.reshape(-1, hidden.shape[-1])
            loss = _FusedLoss.apply(flat, self.lm_head.weight, compute)
            return types.SimpleNamespace(loss=loss)

        causal.forward = types.MethodType(forward, causal)
    else:
        replaced.add("loss")
        causal.loss_function = lambda logits, labels, *more, **kwargs: _CrossEntropy.apply(logits.float())
    return sorted(replaced)


def quantise(model: nn.Module, keep: tuple[str, ...] = ("lm_head",)) -> int:
    """Let frozen linear layers stand for quantised ones; returns how many weights they hold.

    peft's adapters beside a quantised layer take their input as it is under autocast; beside a plain one they cast it,
    and each keeps a copy.
    """
    weights = 0
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]
        if isinstance(module, nn.Linear) and not module.weight.requires_grad and not name.endswith(keep):
            if "lora_" in name:
                continue
            outputs = module.out_features
            taking: Any = types.MethodType(lambda self, x, n=outputs: _Dequantised.apply(x, n), module)
            module.forward = taking  # type: ignore[method-assign]
            weights += module.weight.numel()
    return weights
