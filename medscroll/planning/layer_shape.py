"""Widths of a decoder layer, read from a transformers configuration. Cost: none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LayerShape:
    """Widths of a decoder layer in elements a token."""

    hidden: int
    query: int
    key_value: int
    mlp: int
    heads: int
    layers: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> LayerShape:
        """The shape in a transformers configuration; of mixture-of-experts layers the experts that a token takes."""
        text = config.get_text_config()
        heads = text.num_attention_heads
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
        kv_heads = getattr(text, "num_key_value_heads", None) or heads
        mlp = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        taken = getattr(text, "num_experts_per_tok", None)
        if taken:
            mlp = taken * (getattr(text, "moe_intermediate_size", None) or mlp)
            mlp += getattr(text, "shared_expert_intermediate_size", None) or 0
        return cls(
            text.hidden_size, heads * head_dim, kv_heads * head_dim, mlp, heads, text.num_hidden_layers, text.vocab_size
        )
