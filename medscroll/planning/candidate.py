"""What a plan speaks of: a setup of training, and its predicted memory, time, host, disk and network.

Plain records without behaviour beyond sums. Bytes are bytes, times are seconds, all of one rank (one GPU) where nothing
else is said. Everything here is cheap to import: neither torch nor transformers is touched.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

GIB = 2**30
MEMORY_PARTS = (
    "weights",
    "gradients",
    "optimizer_states",
    "activations",
    "logits",
    "recompute_workspace",
    "attention_workspace",
    "communication_buffers",
    "live_parameters",
    "optimizer_workspace",
    "cuda_context",
    "allocator_slack",
)
# What torch's allocator does not count: `torch.cuda.max_memory_allocated` is the sum of the other parts.
OUTSIDE_ALLOCATOR = ("cuda_context", "allocator_slack")


@dataclass(frozen=True)
class TrainingSetup:
    """One way to train one model: everything that memory, time and communication depend on.

    Attributes:
        config: the transformers configuration (layers, widths, vocabulary, RoPE).
        model_name: what the user called the model.
        parameters: all parameters of the base model, tied ones once.
        nodes, gpus_per_node: the machines; ranks are their product, all of them data-parallel.
        engine: "deepspeed" or "trainer" (the HF Trainer alone; DDP where there is more than one rank).
        zero_stage: 0 for "trainer", else 1, 2 or 3.
        zero_options: the `zero_optimization` object of the DeepSpeed configuration, "auto" values filled in.
        micro_batch: rows (blocks) a rank takes in one micro step; they are joined into one row.
        accumulation: micro steps to an optimizer step.
        block_size: most tokens in a block.
        document_length: tokens over which attention runs; None: one document a block (the most expensive case).
        activation_memory: level of recomputation, a name of `medscroll.model.activation_levels`.
        offload_optimizer, offload_parameters: whether DeepSpeed keeps that part in host memory.
        lora_rank: 0 for training of all parameters.
        lora_targets: "all" (every linear layer but the head) or a comma list of module names.
        quantized_bits: 0, 4 (NF4) or 8: bits of the frozen base.
        weight_dtype: of the weights in the model: "bfloat16", "float16", "float32".
        compute_dtype: of matrix products; differs from `weight_dtype` under autocast.
        hpz_group: ranks that share a secondary copy of the weights (ZeRO++); 1: none.
        attn_backend: a name of the ladder of `medscroll.model.attention`.
        liger: whether Liger's kernels are on (RMSNorm, SwiGLU).
        fused_loss: whether the loss is computed without whole logits (Liger, or the tiled loss).
        sequence_parallel: ranks that share one row (Ulysses); 1: none.
    """

    config: Any
    model_name: str
    parameters: int
    nodes: int = 1
    gpus_per_node: int = 1
    engine: str = "deepspeed"
    zero_stage: int = 3
    zero_options: dict[str, Any] = field(default_factory=dict)
    micro_batch: int = 1
    accumulation: int = 1
    block_size: int = 4096
    document_length: float | None = None
    activation_memory: str = "full"
    offload_optimizer: bool = False
    offload_parameters: bool = False
    lora_rank: int = 0
    lora_targets: str = "all"
    quantized_bits: int = 0
    weight_dtype: str = "bfloat16"
    compute_dtype: str = "bfloat16"
    hpz_group: int = 1
    attn_backend: str = "flash_attention_2"
    liger: bool = True
    fused_loss: bool = False
    sequence_parallel: int = 1

    @property
    def ranks(self) -> int:
        """All GPUs of the run."""
        return self.nodes * self.gpus_per_node

    @property
    def micro_tokens(self) -> int:
        """Tokens that one rank holds in a micro step."""
        return self.micro_batch * self.block_size // self.sequence_parallel

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step over all ranks."""
        return self.micro_tokens * self.accumulation * self.ranks

    def replace(self, **changes: Any) -> TrainingSetup:
        """The same setup with other values."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class MemoryBreakdown:
    """Bytes of GPU memory of one rank at its peak, by part; `why` says of each part what it consists of.

    Attributes:
        moment: where in the step the peak lies: "loss", "backward" or "optimizer".
    """

    weights: int = 0
    gradients: int = 0
    optimizer_states: int = 0
    activations: int = 0
    logits: int = 0
    recompute_workspace: int = 0
    attention_workspace: int = 0
    communication_buffers: int = 0
    live_parameters: int = 0
    optimizer_workspace: int = 0
    cuda_context: int = 0
    allocator_slack: int = 0
    moment: str = "backward"
    why: dict[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, int]:
        """Part -> bytes, in the order in which they are shown."""
        return {name: getattr(self, name) for name in MEMORY_PARTS}

    @property
    def allocated(self) -> int:
        """Bytes that torch's allocator counts: what `torch.cuda.max_memory_allocated` is compared with."""
        return sum(size for name, size in self.parts.items() if name not in OUTSIDE_ALLOCATOR)

    @property
    def total(self) -> int:
        """Bytes that the GPU must have, context and the allocator's slack included."""
        return sum(self.parts.values())

    def least(self, bound: float) -> float:
        """Bytes without which the setup cannot run, the plan's relative error `bound` taken off, without any slack."""
        return self.allocated * (1 - bound) + self.cuda_context

    def most(self, bound: float) -> float:
        """Bytes with which it runs even if the plan is too low by `bound`."""
        return self.total + self.allocated * bound

    @property
    def largest(self) -> str:
        """The name of the largest part."""
        return max(self.parts, key=self.parts.__getitem__)


@dataclass(frozen=True)
class TimeBreakdown:
    """Seconds of one optimizer step (all its micro steps).

    `communication_total` is the time that collectives would take alone; of it, `communication_exposed` is not hidden
    behind computation. `step` counts the exposed part only.
    """

    matmul: float = 0.0
    attention: float = 0.0
    elementwise: float = 0.0
    recompute: float = 0.0
    optimizer: float = 0.0
    host_transfer: float = 0.0
    communication_total: float = 0.0
    communication_exposed: float = 0.0
    overhead: float = 0.0
    tokens_per_second: float = 0.0
    mfu: float = 0.0
    why: dict[str, str] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """Seconds of the step."""
        compute = self.matmul + self.attention + self.elementwise + self.recompute + self.optimizer
        return compute + self.host_transfer + self.communication_exposed + self.overhead


@dataclass(frozen=True)
class HostMemory:
    """Bytes of host memory of one node: the peak while the model is made or loaded, and during training."""

    at_load: int
    steady: int
    why: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Disk:
    """Bytes on disk: one checkpoint to resume from, the saved model, and all that is kept at once."""

    checkpoint: int
    model: int
    kept: int
    why: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkBytes:
    """Bytes that one node sends (and as many that it receives) over its uplink, and that one GPU sends in all.

    Attributes:
        per_micro_step, per_step: bytes out of one node, of a micro step and of a whole optimizer step.
        per_rank_step: bytes that one rank sends in a step over all its links.
        collectives: name of the collective -> bytes of its tensors on one rank in one optimizer step.
        hiding_tokens: least tokens per GPU and micro step that hide the network; None where it is never exposed.
        hiding_at_half_peak: the same by rule of thumb: line rate, GPUs at half of their peak, recomputation counted.
        hiding_without_hpz: the rule of thumb for the same setup without hpZ; None where it has none.
    """

    per_micro_step: float
    per_step: float
    per_rank_step: float
    collectives: dict[str, float] = field(default_factory=dict)
    hiding_tokens: float | None = None
    hiding_at_half_peak: float | None = None
    hiding_without_hpz: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A setup with all that was predicted about it.

    Attributes:
        fits: whether the predicted total is within the GPU's (and the host's) memory.
        reason: in words, why it was chosen, or why it lost ("ZeRO-2 needs 139 GiB of 80").
        binding: what binds it: "GPU memory", "host memory", "compute", "network".
        error_bound: relative error of the memory prediction; within it, "fits" is a warning and not a promise.
        days, cost: for the tokens asked for, None where no tokens or no price are known.
        checkpoint_seconds: recommended seconds between checkpoints (Young/Daly); None without a disk speed.
        remedy: where it does not fit: the smallest change that would make it fit, in words.
        notes: everything a reader should know about how this was predicted (fall-backs, fitted constants).
    """

    setup: TrainingSetup
    memory: MemoryBreakdown
    time: TimeBreakdown
    host: HostMemory
    disk: Disk
    network: NetworkBytes
    fits: bool
    reason: str = ""
    binding: str = ""
    error_bound: float = 0.05
    days: float | None = None
    cost: float | None = None
    checkpoint_seconds: float | None = None
    remedy: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Constraints:
    """What the user fixed; None leaves it to the search.

    Attributes:
        global_tokens: tokens of a global batch to aim at (accumulation follows); None: 4 M at most by model size.
        memory_reserve: share of the GPU's memory that is kept free.
        disk_bytes_per_second: speed at which one node writes checkpoints.
    """

    engine: str | None = None
    zero_stage: int | None = None
    zero_options: dict[str, Any] | None = None
    micro_batch: int | None = None
    accumulation: int | None = None
    activation_memory: str | None = None
    offload_optimizer: bool | None = None
    offload_parameters: bool | None = None
    hpz_group: int | None = None
    lora_rank: int = 0
    lora_targets: str = "all"
    quantized_bits: int = 0
    weight_dtype: str | None = None
    attn_backend: str | None = None
    liger: bool = True
    fused_loss: bool | None = None
    sequence_parallel: int = 1
    document_length: float | None = None
    global_tokens: int | None = None
    memory_reserve: float = 0.0
    disk_bytes_per_second: float = 2e9
    fewer_nodes: bool = True
