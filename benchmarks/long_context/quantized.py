"""A frozen base in 4 bits with random weights and a LoRA adapter around it, for rows that measure QLoRA.

`medscroll pretrain --qlora` loads a checkpoint and quantises it while loading; a benchmark has no checkpoint of 67 B
parameters. So each linear layer is drawn on the device, quantised (NF4, double quantisation), and dropped before the
next one. Everything after that is what a run does: `medscroll.model.adapters.add_adapters`.

Cost: the 4-bit weights and one layer in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def build(
    model_args: Any,
    adapters: Any,
    config: Any,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attn_backend: str,
    seed: int,
    gradient_checkpointing: bool,
) -> Any:
    """The PeftModel around a quantised base; the arguments are those of `medscroll.model.load.build_model`."""
    from transformers import AutoModelForCausalLM

    from medscroll.model import kernels
    from medscroll.model.adapters import add_adapters, quantization_config
    from medscroll.model.load import enable_gradient_checkpointing

    kernels.register()
    options = quantization_config(adapters, dtype)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config,
            dtype=dtype,
            attn_implementation=kernels.implementation_of(attn_backend),
            trust_remote_code=model_args.trust_remote_code,
        )
    torch.manual_seed(seed)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and name != "lm_head":
                setattr(parent, name, _quantized(child, options, device, config.initializer_range))
    with torch.no_grad():
        for module in model.modules():
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            if any(tensor.is_meta for tensor in own):
                module.to_empty(device=device, recurse=False)
                model._init_weights(module)
    model.tie_weights()
    model.is_loaded_in_4bit = True
    model.config.use_cache = False
    model.train()
    if gradient_checkpointing:
        enable_gradient_checkpointing(model)
    return add_adapters(model, adapters, seed=seed, gradient_checkpointing=gradient_checkpointing)


def _quantized(linear: nn.Linear, options: Any, device: torch.device, spread: float) -> nn.Module:
    """A layer of the shape of `linear` with random weights in 4 bits on `device`."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    kind, double = options.bnb_4bit_quant_type, options.bnb_4bit_use_double_quant
    compute = options.bnb_4bit_compute_dtype
    layer: Any = Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=False,
        compute_dtype=compute,
        compress_statistics=double,
        quant_type=kind,
        device="meta",
    )
    whole = torch.empty(linear.out_features, linear.in_features, dtype=compute, device=device).normal_(0, spread)
    layer.weight = Params4bit(whole, requires_grad=False, compress_statistics=double, quant_type=kind, module=layer).to(
        device
    )
    return layer
