"""Floating-point operations that the backward pass repeats at each level of activation memory: what HFU adds to MFU.

HFU counts what the hardware computed, MFU what the model needs. A layer's linear projections are q, k, v, o
(attention), gate, up, down (MLP). torch ends the repetition of a layer where its last needed tensor exists again, so
`down`, whose output no backward pass needs, is never repeated by a checkpoint:

    none, linear      nothing that counts (norms and activation functions only)
    mlp               q, k, v, o
    attention         q, k, v, o, gate, up
    full              the same, and the attention itself: about a third of the forward pass less `down` and lm_head
    every_K           as full; besides, the layers between stored inputs run forward once more, as a whole
    linear_N, mlp_N   N layers as linear or mlp, the others as attention

The usual factor of 4/3 is an upper bound for `full`. Cost: arithmetic. Checked against counted operations by
tests/planning/test_recomputation.py.
"""

from __future__ import annotations

from typing import Any

from medscroll.model.activation_levels import Level
from medscroll.planning.compute import ModelFlops
from medscroll.planning.layer_shape import LayerShape


def recomputed_flops(config: Any, level: Level) -> ModelFlops:
    """FLOPs that the backward pass repeats: `linear` a token, `quadratic` a squared token of a piece.

    Args:
        config: a transformers configuration of a decoder with a gated MLP; of experts those that a token takes.
        level: what the run keeps.
    """
    shape = LayerShape.of(config)
    attention = 2.0 * shape.hidden * (2 * shape.query + 2 * shape.key_value)  # q, k, v, o
    one = 2.0 * shape.hidden * shape.mlp  # each of gate, up, down
    product = 2.0 * shape.query  # QK^T and AV of one forward pass, causal
    linear = quadratic = 0.0
    for layer in range(shape.layers if level.recomputes else 0):
        kept = level.keeps(layer, shape.layers)
        linear += {"linear": 0.0, "mlp": attention}.get(kept, attention + 2 * one)
        quadratic += product if not kept else 0.0
    if level.every > 1:
        ends = -(-shape.layers // level.every)  # the last layer of each segment starts no other
        linear += (shape.layers - ends) * (attention + 3 * one)
        quadratic += (shape.layers - ends) * product
    return ModelFlops(linear, quadratic)
