"""Seconds that one GPU computes in a micro step, forward and backward, by part, and in the optimizer.

Products by their shapes, attention by the lengths of documents, elementwise kernels, logits and adapters by the bytes
they move. Recomputation costs what the level of `medscroll.model.activation_levels` makes torch compute again: the
forward pass of a layer up to its last kept tensor, so never the MLP's last product, less what the level keeps. Rates
are those of `speeds`. Cost: arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from medscroll.model.activation_levels import TILE_TOKENS, Level, parse_level
from medscroll.planning.candidate import TrainingSetup
from medscroll.planning.hardware import GpuSpec
from medscroll.planning.layer_work import ModelWork
from medscroll.planning.speeds import Speeds, efficiencies, speeds_of

ATTENTION_BACKWARD = 2.5  # of the forward pass: five products against two


@dataclass(frozen=True)
class Pass:
    """Seconds of one pass over the model, by kind of kernel."""

    matmul: float = 0.0
    attention: float = 0.0
    elementwise: float = 0.0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.matmul + self.attention + self.elementwise

    def times(self, factor: float) -> Pass:
        """The pass `factor` times."""
        return Pass(self.matmul * factor, self.attention * factor, self.elementwise * factor)

    def plus(self, other: Pass) -> Pass:
        """Both passes."""
        return Pass(self.matmul + other.matmul, self.attention + other.attention, self.elementwise + other.elementwise)


@dataclass(frozen=True)
class ComputeTime:
    """Seconds of one micro step; the backward pass without what is recomputed in it."""

    forward: Pass
    backward: Pass
    recompute: Pass

    @property
    def total(self) -> float:
        """Seconds of the micro step."""
        return self.forward.total + self.backward.total + self.recompute.total


def compute_time(setup: TrainingSetup, work: ModelWork, gpu: GpuSpec) -> ComputeTime:
    """The computation of one micro step of one rank."""
    speeds = speeds_of(gpu, setup.attn_backend)
    tokens = setup.micro_tokens
    trained = setup.lora_rank == 0
    layer = _layer_forward(setup, work, speeds)
    head = _head_forward(setup, work, speeds)
    wide = 2.0 if setup.compute_dtype == "float32" else 1.0
    elementwise = efficiencies()["elementwise"]["backward"]
    gradients = 2.0 if trained else 1.0  # of inputs and of weights; frozen weights have none
    backward = Pass(gradients * layer.matmul, ATTENTION_BACKWARD * layer.attention, elementwise * layer.elementwise)
    loss_back = Pass(gradients * head.matmul, 0.0, head.elementwise)
    adapters = _adapters(setup, work, speeds)
    unpacking = _unpacking(setup, work, speeds)
    extra = Pass(elementwise=adapters + unpacking)
    again = Pass()
    level = parse_level(setup.activation_memory)
    alike: dict[tuple[str, bool], Pass] = {}  # layers differ in what is kept and in whether their input is
    for index in range(work.layers):
        kind = (level.keeps(index, work.layers), index % level.every == 0)
        if kind not in alike:
            alike[kind] = _recomputed(level, index, setup, work, speeds)
        again = again.plus(alike[kind])
    if level.recomputes:
        again = again.plus(extra.times(work.layers))
    if level.tiled and tokens > TILE_TOKENS:
        mlp = sum(speeds.product(tokens, *shape) for shape in work.products if work.mlp in shape)
        again = again.plus(Pass(matmul=mlp * work.layers))
    return ComputeTime(
        forward=layer.plus(extra).times(work.layers).plus(head).times(wide),
        backward=backward.plus(extra.times(1.5)).times(work.layers).plus(loss_back).times(wide),
        recompute=again.times(wide),
    )


def _attention_forward(setup: TrainingSetup, work: ModelWork, speeds: Speeds) -> float:
    """One layer's attention, causal inside documents."""
    length = min(setup.document_length or setup.block_size, setup.block_size)
    flops = 2.0 * length * work.heads * work.head_dim * setup.micro_tokens
    return speeds.attend(flops, length)


def _layer_bytes(setup: TrainingSetup, work: ModelWork) -> float:
    """Bytes a token that the elementwise kernels of a layer's forward pass read and write."""
    table = efficiencies()["elementwise"]
    size: float = 4 if setup.compute_dtype == "float32" else 2
    if setup.weight_dtype != setup.compute_dtype:
        size *= float(table["mixed"])  # norms and residuals stay in float32, and products cast
    slower = 1.0 if setup.liger else float(table["without_liger"])
    norms, residuals = 4 * work.hidden * slower, 6 * work.hidden
    passes = float(table["rope_passes_liger" if setup.liger else "rope_passes"])
    rope = passes * (work.heads * work.head_dim + work.kv_width)
    activation = (3 if work.gates > 1 else 2) * work.mlp * (1.0 if setup.liger else 5 / 3)
    return size * (norms + residuals + rope + activation)


def _layer_forward(setup: TrainingSetup, work: ModelWork, speeds: Speeds) -> Pass:
    tokens = setup.micro_tokens
    return Pass(
        sum(speeds.product(tokens, *shape) for shape in work.products),
        _attention_forward(setup, work, speeds),
        _layer_bytes(setup, work) * tokens / speeds.memory,
    )


def _head_forward(setup: TrainingSetup, work: ModelWork, speeds: Speeds) -> Pass:
    """lm_head and the loss: logits in bfloat16, in float32 where no kernel fuses them."""
    tokens = setup.micro_tokens
    kernel = setup.fused_loss and setup.zero_stage != 3  # Liger's; in portions it is torch's passes over float32 logits
    bytes_of_loss = (10.0 if kernel else 26.0 if setup.liger else 34.0) * work.vocabulary * tokens
    return Pass(speeds.product(tokens, work.hidden, work.vocabulary), 0.0, bytes_of_loss / speeds.memory)


def _adapters(setup: TrainingSetup, work: ModelWork, speeds: Speeds) -> float:
    """Seconds of LoRA's casts, small products and additions in one layer's forward pass."""
    if not setup.lora_rank:
        return 0.0
    touched = sum(10 * inputs + 14 * outputs for inputs, outputs in work.products)
    return float(efficiencies()["adapters"]["bytes"]) * touched * setup.micro_tokens / speeds.memory


def _unpacking(setup: TrainingSetup, work: ModelWork, speeds: Speeds) -> float:
    """Seconds in which one layer's quantised weights are written as bfloat16, once a pass."""
    if not setup.quantized_bits:
        return 0.0
    weights = sum(inputs * outputs for inputs, outputs in work.products)
    return weights * (setup.quantized_bits / 8 + 4.0) / (0.5 * speeds.memory)


def _recomputed(level: Level, index: int, setup: TrainingSetup, work: ModelWork, speeds: Speeds) -> Pass:
    """What the backward pass of layer `index` computes again."""
    if not level.recomputes:
        return Pass()
    tokens, keep = setup.micro_tokens, level.keeps(index, work.layers)

    def dropped(shape: tuple[int, int]) -> bool:
        last = shape[0] == work.mlp  # its output is needed by no backward pass
        kept = keep == "linear" or (keep == "mlp" and shape[1] == work.mlp)
        return not last and not kept

    products = sum(speeds.product(tokens, *shape) for shape in work.products if dropped(shape))
    attention = 0.0 if keep else _attention_forward(setup, work, speeds)
    again = Pass(products, attention, _layer_bytes(setup, work) * tokens / speeds.memory)
    if level.every > 1 and index % level.every:
        again = again.plus(_layer_forward(setup, work, speeds))  # its input is computed again too
    return again


def optimizer_time(setup: TrainingSetup, trained: int, gpu: GpuSpec) -> tuple[float, float]:
    """Seconds of the optimizer's step, and of what every micro step does with gradients beside the backward pass.

    Args:
        trained: parameters that have gradients.
    """
    table, memory = efficiencies()["optimizer"], gpu.memory_bandwidth * efficiencies()["memory"]["share"]
    rate = min(memory, float(table["rate_gb_s"]) * 1e9)  # of the optimizer's own kernels
    sharded = setup.engine == "deepspeed" and setup.zero_stage > 0
    own = trained / setup.ranks if sharded else float(trained)
    if not sharded:
        name = "wide_bytes" if setup.weight_dtype == "float32" or setup.lora_rank else "plain_bytes"
        mixed = setup.weight_dtype != setup.compute_dtype and not setup.lora_rank
        return float(table[name]) * own / rate, float(table["mixed_bytes"]) * own / memory if mixed else 0.0
    each = float(table["gradient_bytes"]) * trained / memory
    if setup.offload_optimizer:
        host = float(table["host_bandwidth_gb_s"]) * 1e9
        return float(table["host_bytes"]) * own * setup.gpus_per_node / host, each
    return float(table["sharded_bytes"]) * own / rate, each
