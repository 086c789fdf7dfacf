"""How much device and host memory a training step takes at each level of activation memory, from shapes alone.

    peak = states + kept activations of all layers + one layer at work + the loss

States (weights, gradients, optimizer; Rajbhandari et al., arXiv:1910.02054) depend on dtype, ZeRO stage and adapters.
Activations follow the layer of a Llama-like decoder: with e bytes an element, hidden h, query width q, key-value width
k, MLP width i, a layer keeps e (4 h + 2 q + 2 k + 3 i) bytes a token when nothing is recomputed (Liger's norms and
SwiGLU; without Liger about half as much again), and e h when only its input is kept.

Cost: arithmetic. Against peaks measured on an H200 it is within 8 % (tests/planning/test_activations.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medscroll.model.activation_levels import TILE_TOKENS, Level

GIB = 2**30
AT_WORK = 1.35  # one layer's activations and the gradients that live beside them, as a multiple of the former
WITHOUT_LIGER = 1.5
BOARD = 0.75 * GIB  # CUDA context, NCCL, kernels


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


@dataclass(frozen=True)
class Step:
    """A training step whose memory is to be estimated.

    Attributes:
        shape: of the layers.
        tokens: in the longest row of a micro batch.
        parameters, trainable: all of them; those that are trained (adapters: a few).
        weight_bytes: bytes a weight that lies on the device (4-bit: 0.56).
        trained_bytes: bytes a trained weight without DeepSpeed.
        element: bytes of an activation.
        zero_stage, ranks: of DeepSpeed; stage 0 without it.
        cpu_optimizer: optimizer states in host memory.
        accumulates: gradients are held while the next micro step runs.
        fused: Liger's kernels for norms and SwiGLU.
        fused_loss: the logits are never held as a whole.
        autocast: float32 weights are cast for each step.
        gradient_bytes: bytes of an accumulated gradient under DeepSpeed.
        can_tile: the layers have a dense MLP, which can work on a part of the tokens at a time.
    """

    shape: LayerShape
    tokens: int
    parameters: int
    trainable: int
    weight_bytes: float
    trained_bytes: int
    element: int = 2
    zero_stage: int = 0
    ranks: int = 1
    cpu_optimizer: bool = False
    accumulates: bool = False
    fused: bool = True
    fused_loss: bool = True
    autocast: bool = False
    gradient_bytes: int = 4
    can_tile: bool = True

    @property
    def adapter(self) -> bool:
        """Whether only a small share of the weights is trained."""
        return self.trainable < self.parameters // 2


@dataclass(frozen=True)
class Estimate:
    """Bytes on the device and in host memory, with the parts of the former."""

    states: float
    kept: float
    working: float
    host: float

    @property
    def device(self) -> float:
        """Bytes on the device at the peak of a step."""
        return self.states + self.kept + self.working


def layer_bytes(shape: LayerShape, keep: str, element: int = 2) -> float:
    """Bytes a token that one layer keeps beside its input: keep is none, linear, mlp, attention or ""."""
    attention = element * shape.query + 4 * shape.heads
    return {
        "": 0.0,
        "attention": attention,
        "mlp": attention + element * 2 * shape.mlp,
        "linear": attention + element * (shape.query + 2 * shape.key_value + shape.hidden + 2 * shape.mlp),
        "none": element * (3 * shape.hidden + 2 * shape.query + 2 * shape.key_value + 3 * shape.mlp) + 4 * shape.heads,
    }[keep]


def state_bytes(step: Step) -> tuple[float, float]:
    """(without, with) gradients: bytes of weights, gradients and optimizer on this rank."""
    frozen = step.weight_bytes * (step.parameters - step.trainable if step.adapter else 0)
    trained = step.trainable
    if step.zero_stage == 0:
        weights = step.trained_bytes * trained + (2 * trained if step.autocast and not step.adapter else 0)
        optimizer = 2 * step.trained_bytes * trained
        return frozen + weights + optimizer, frozen + weights + optimizer + step.trained_bytes * trained
    share = trained / step.ranks
    optimizer = 0.0 if step.cpu_optimizer else 12 * share
    weights = 2 * (share if step.zero_stage == 3 else trained)
    gradients = step.gradient_bytes * (share if step.zero_stage >= 2 else trained)
    if step.zero_stage == 3:
        largest = 2 * max((step.parameters - step.shape.vocabulary * step.shape.hidden) / step.shape.layers, 0)
        weights += 2 * largest + 2 * step.shape.vocabulary * step.shape.hidden  # gathered: two layers, or the lm_head
        frozen /= step.ranks
    return frozen + weights + optimizer, frozen + weights + optimizer + gradients


def estimate(step: Step, level: Level) -> Estimate:
    """The memory of a step at a level."""
    shape, tokens = step.shape, step.tokens
    slack = 1.0 if step.fused else WITHOUT_LIGER
    whole = (layer_bytes(shape, "none", step.element) + step.element * shape.hidden) * slack
    layer_input = step.element * shape.hidden
    if level.kind == "none":
        kept, working = whole * shape.layers, 0.35 * whole
    else:
        inside = sum(
            layer_bytes(shape, level.keeps(layer, shape.layers), step.element) for layer in range(shape.layers)
        )
        stored = layer_input * -(-shape.layers // level.every)
        kept = inside + (0.0 if level.offload else stored)
        kept += layer_input * (level.every if level.every > 1 else 0) + (3 * layer_input if level.offload else 0)
        working = AT_WORK * whole
    if step.adapter:
        working += 4 * (shape.hidden + shape.mlp)  # peft casts the input of its float32 adapters
    tile = 0.0
    if level.tiled and tokens > TILE_TOKENS:
        inside_mlp = AT_WORK * step.element * 3 * shape.mlp * slack + (4 * shape.mlp if step.adapter else 0)
        working += 2 * layer_input - inside_mlp  # the tiles' outputs, and those joined
        tile = TILE_TOKENS * inside_mlp
    loss = layer_input * 2 if step.fused_loss else shape.vocabulary * (2 * step.element + 4)
    without, with_gradients = state_bytes(step)
    held = step.accumulates or step.zero_stage > 0
    states = with_gradients if held else max(without, with_gradients - kept * tokens)
    host = layer_input * -(-shape.layers // level.every) * tokens if level.offload else 0.0
    return Estimate(states + BOARD, kept * tokens, max(working * tokens + tile, loss * tokens), host)
