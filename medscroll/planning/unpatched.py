"""A model on the meta device in a process where Liger has replaced classes and functions of transformers.

Liger's `apply_liger_kernel_to_*` patches the modules of transformers besides the model that it is given, so a model
that is built afterwards holds Triton kernels, and these would be launched on tensors without memory, an illegal access
that ends the CUDA context. Here every such part of an instance gets plain torch again; the stand-ins of
`medscroll.planning.stand_ins` follow where the run uses Liger. What is not known is refused. Cost: none.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import torch
from torch import nn

from medscroll.model.rotary import selected

_PACKAGE = "liger_kernel"


def _of_liger(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith(_PACKAGE)


def _rms_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    wide = x.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    return self.weight * wide.to(x.dtype)


def _gated_mlp(self: Any, x: torch.Tensor) -> torch.Tensor:
    return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


def _loss(logits: torch.Tensor, labels: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    flat = logits.float().view(-1, logits.shape[-1])
    plain: Any = torch._C._nn.cross_entropy_loss  # what `cross_entropy` calls; 1: the mean
    return plain(flat, labels.reshape(-1), None, 1, -100, 0.0)


def without_liger(model: Any) -> None:
    """Give every part of `model` that Liger has replaced its plain form.

    Raises:
        NotImplementedError: a part of Liger that has no plain form here; a plan of the model cannot be made.
    """
    for module in model.modules():
        kind = type(module)
        if not _of_liger(kind):
            continue
        if kind.__name__.endswith("RMSNorm") and isinstance(getattr(module, "weight", None), torch.Tensor):
            module.forward = types.MethodType(_rms_norm, module)
        elif all(hasattr(module, part) for part in ("gate_proj", "up_proj", "down_proj")):
            module.forward = types.MethodType(_gated_mlp, module)
        else:
            raise NotImplementedError(f"{kind.__name__} of Liger has no form on the meta device")
    if _of_liger(type(model).forward):
        raise NotImplementedError("Liger has replaced the forward pass of the model's class")
    names = vars(sys.modules[type(model).__module__])
    functions = [name for name, thing in names.items() if isinstance(thing, types.FunctionType) and _of_liger(thing)]
    if selected() and "apply_rotary_pos_emb" in functions:
        functions.remove("apply_rotary_pos_emb")  # medscroll.model.rotary takes tensors of the meta device
    if functions:
        raise NotImplementedError(f"Liger has replaced {', '.join(functions)}")
    if _of_liger(nn.functional.cross_entropy):
        model.loss_function = _loss
