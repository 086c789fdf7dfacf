"""What one decoder layer of a model computes: its matrix products, parameters by module, widths.

Read from the real class, built at two layers on the meta device, so any transformers decoder works: products are the
linear layers (and the experts that a token takes), modules are what ZeRO-3 gathers one by one. Cost: 0.2 s a model,
remembered.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelWork:
    """One model as the time of a step sees it.

    Attributes:
        layers: decoder layers.
        hidden, heads, head_dim, kv_width, mlp, vocabulary: widths; `kv_width` of keys (and of values).
        products: (inputs, outputs) of each matrix product of a layer that a token goes through.
        modules: parameters of each module of a layer, in the order of the class.
        embedding, head: parameters; `head` is 0 where it is the embedding.
    """

    layers: int
    hidden: int
    heads: int
    head_dim: int
    kv_width: int
    mlp: int
    vocabulary: int
    products: tuple[tuple[int, int], ...]
    modules: tuple[int, ...]
    embedding: int
    head: int

    @property
    def gates(self) -> int:
        """Products that end in the MLP's width: two in a gated MLP."""
        return sum(outputs == self.mlp for _, outputs in self.products)


@functools.lru_cache(maxsize=64)
def model_work(config: str) -> ModelWork:
    """The work of a model.

    Args:
        config: the transformers configuration as `medscroll.planning.step_on_meta.config_to_json` writes it.
    """
    from medscroll.planning.step_on_meta import StepShape, build_on_meta, config_from_json, decoder_layers

    text = config_from_json(config).get_text_config()
    model: Any = build_on_meta(StepShape(config, 8, liger=False, fused_loss=False), 2)
    found = decoder_layers(model)
    layer = found[0] if found else model
    taken = int(getattr(text, "num_experts_per_tok", None) or 1)
    products: list[tuple[int, int]] = []
    modules: list[int] = []
    for module in layer.modules():
        own = list(module.parameters(recurse=False))
        if own:
            modules.append(sum(item.numel() for item in own))
        matrix = next((item for item in own if item.dim() >= 2), None)
        if matrix is None:
            continue
        for item in own:
            if item.dim() == 3:
                products += [(int(item.shape[2]), int(item.shape[1]))] * taken
        if matrix.dim() == 2:
            products.append(_ends(module, matrix))
    head = model.get_output_embeddings()
    tied = bool(getattr(text, "tie_word_embeddings", False))
    embedding = model.get_input_embeddings().weight.numel()
    heads = int(text.num_attention_heads)
    head_dim = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    kv_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    mlp = int(getattr(text, "intermediate_size", None) or max(outputs for _, outputs in products))
    return ModelWork(
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        heads=heads,
        head_dim=head_dim,
        kv_width=kv_heads * head_dim,
        mlp=mlp,
        vocabulary=int(text.vocab_size),
        products=tuple(products),
        modules=tuple(modules),
        embedding=embedding,
        head=0 if tied or head is None else head.weight.numel(),
    )


def _ends(module: Any, matrix: Any) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer; GPT-2's Conv1D holds its weight the other way round."""
    rows, columns = int(matrix.shape[0]), int(matrix.shape[1])
    return (rows, columns) if type(module).__name__ == "Conv1D" else (columns, rows)
