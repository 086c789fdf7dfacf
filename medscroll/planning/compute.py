"""Floating-point operations of a training step on packed documents, and the peak of the GPU it runs on.

Model FLOPs (forward + backward, no recomputation) of a row whose pieces have lengths s_1 .. s_n:

    6 * (parameters that multiply) * sum(s_i)  +  6 * layers * heads * head_dim * sum(s_i ** 2)

The second term is causal-exact attention inside each piece: 2 * s^2 * heads * head_dim for QK^T and AV together
(4 s^2 a d, halved by the causal mask), times 3 for forward and backward. Counting whole rows instead, or ignoring
causality (the PaLM convention), shows a higher MFU for the same speed. Embedding look-ups multiply nothing and are
left out; lm_head stays in, also where it is tied (Chowdhery et al. 2022, appendix B; Korthikanti et al. 2022).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class ModelFlops:
    """FLOPs of one model: `linear` per token, `quadratic` per squared token of a piece (forward + backward)."""

    linear: float
    quadratic: float

    def of(self, tokens: float, squares: float) -> float:
        """FLOPs of rows that hold `tokens` tokens in pieces whose squared lengths sum to `squares`."""
        return self.linear * tokens + self.quadratic * squares


def model_flops(config: Any, num_parameters: int) -> ModelFlops:
    """`ModelFlops` of a decoder.

    Args:
        config: a transformers configuration (hidden_size, num_hidden_layers, num_attention_heads, head_dim,
            vocab_size, tie_word_embeddings).
        num_parameters: all parameters of the base model, tied ones once, adapters excluded.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    embedding = text.vocab_size * text.hidden_size
    multiplying = num_parameters - (0 if getattr(config, "tie_word_embeddings", False) else embedding)
    multiplying -= idle_expert_parameters(text)
    return ModelFlops(6.0 * multiplying, 6.0 * text.num_hidden_layers * text.num_attention_heads * head_dim)


def idle_expert_parameters(text: Any) -> int:
    """Parameters of experts that a token does not go through; 0 for a model without experts.

    Args:
        text: the configuration of the decoder; experts are gated MLPs (three matrices).
    """
    experts = next(
        (
            getattr(text, name)
            for name in ("num_local_experts", "num_experts", "n_routed_experts")
            if hasattr(text, name)
        ),
        None,
    )
    taken = getattr(text, "num_experts_per_tok", None)
    if not experts or not taken:
        return 0
    width = getattr(text, "moe_intermediate_size", None) or text.intermediate_size
    layers = text.num_hidden_layers - int(getattr(text, "first_k_dense_replace", 0) or 0)
    return int(layers * (experts - taken) * 3 * text.hidden_size * width)


def count_parameters(config: Any, trust_remote_code: bool = False) -> int:
    """Parameters of the causal model of a configuration, tied ones once; built on the meta device, in no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return sum(parameter.numel() for parameter in model.parameters())


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 peak in FLOP/s of the GPU of that name (`torch.cuda.get_device_name`); None if it is not listed."""
    table = json.loads(resources.files("medscroll.config").joinpath("data/gpus.json").read_text("utf-8"))
    for gpu in table["gpus"]:
        if gpu["match"].lower() in device_name.lower():
            return float(gpu["bf16_tflops"]) * 1e12
    return None
