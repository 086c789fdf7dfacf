"""From the flags of a run to what the planner speaks of: constraints of a search, or the exact setup of one run.

What was given is fixed, what was left out is searched. Names of flags that only exist in some versions are read with
`getattr`, so that a plan follows whatever `pretrain` accepts. Price: milliseconds.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from medscroll.config.arguments import AdapterArguments, ModelArguments
from medscroll.config.presets import is_preset, load_preset
from medscroll.config.training import TrainingArguments
from medscroll.engine.deepspeed import load_deepspeed
from medscroll.engine.plan_check import RunPlan, plan_run
from medscroll.engine.topology import Topology
from medscroll.packing.schedule import ScheduledBlocks
from medscroll.planning.candidate import Constraints, TrainingSetup
from medscroll.planning.cluster import Cluster
from medscroll.planning.memory import loss_is_fused

if TYPE_CHECKING:
    import torch


def shape_arguments(model_args: ModelArguments) -> ModelArguments:
    """The model's flags for reading its shape: a preset is a shape, whether or not weights will be loaded."""
    if is_preset(model_args.model_name_or_path):
        return dataclasses.replace(model_args, from_scratch=True)
    return model_args


def weights_of(model_args: ModelArguments) -> dict[str, Any]:
    """The model's flags of a recipe: for a preset without `--from_scratch` its public checkpoint."""
    name = model_args.model_name_or_path
    if is_preset(name) and not model_args.from_scratch:
        checkpoint = load_preset(str(name)).checkpoint
        return {"model_name_or_path": checkpoint} if checkpoint else {"model_name_or_path": name, "from_scratch": True}
    return {"model_name_or_path": name}


def half_precision(args: TrainingArguments, has_bf16: bool) -> str:
    """The dtype that matrix products run in: as given, else bfloat16 where the GPU has it."""
    if args.fp16:
        return "float16"
    if args.bf16 is None:
        return "bfloat16" if has_bf16 else "float16"
    return "bfloat16" if args.bf16 else "float32"


def engine_of(args: TrainingArguments) -> tuple[str, dict[str, Any] | None]:
    """The engine, `deepspeed` or `trainer`, and the DeepSpeed configuration.

    Raises:
        ConfigError: `--deepspeed` names neither a known configuration nor a file.
    """
    config = load_deepspeed(args.deepspeed)
    return ("trainer", None) if config is None else ("deepspeed", config)


def filled(options: dict[str, Any], hidden_size: int) -> dict[str, Any]:
    """`zero_optimization` with the values that transformers puts for "auto" (integrations/deepspeed.py)."""
    automatic = {
        "reduce_bucket_size": hidden_size * hidden_size,
        "stage3_prefetch_bucket_size": int(0.9 * hidden_size * hidden_size),
        "stage3_param_persistence_threshold": 10 * hidden_size,
    }
    return {key: automatic.get(key, value) if value == "auto" else value for key, value in options.items()}


def quantized_bits(adapters: AdapterArguments) -> int:
    """Bits of the frozen base: 4, 8, or 0 where it is not quantized."""
    return 4 if adapters.qlora or adapters.load_in_4bit else 8 if adapters.load_in_8bit else 0


def given_level(args: TrainingArguments) -> str | None:
    """The level of recomputation that the flags ask for; None where they leave it open."""
    level = getattr(args, "activation_memory", "auto")
    if level != "auto":
        return str(level)
    recompute = args.gradient_checkpointing
    if recompute is None:
        recompute = getattr(args, "activation_checkpointing", None)
    return None if recompute is None else "full" if recompute else "none"


def constraints_of(
    model_args: ModelArguments,
    adapters: AdapterArguments,
    args: TrainingArguments,
    given: frozenset[str],
    *,
    has_bf16: bool = True,
    hidden_size: int,
    **more: Any,
) -> Constraints:
    """What the flags fix of a search.

    Args:
        given: names of the flags that were given.
        has_bf16: of the GPU.
        hidden_size: of the model, for "auto" values.
        more: further fields of `Constraints`.
    """
    values: dict[str, Any] = dict(more)
    if "deepspeed" in given:
        engine, config = engine_of(args)
        values["engine"] = engine
        if config is not None:
            zero = dict(config.get("zero_optimization", {}))
            values["zero_stage"] = int(zero.get("stage", 0))
            values["offload_optimizer"] = _device(zero, "offload_optimizer")
            values["offload_parameters"] = _device(zero, "offload_param")
            values["hpz_group"] = int(zero.get("zero_hpz_partition_size", 1))
            values["zero_options"] = filled(zero, hidden_size)
    if "per_device_train_batch_size" in given:
        values["micro_batch"] = args.per_device_train_batch_size
    if "gradient_accumulation_steps" in given:
        values["accumulation"] = args.gradient_accumulation_steps
    values["activation_memory"] = given_level(args)
    if adapters.use_peft or adapters.qlora:
        values |= {"lora_rank": adapters.lora_rank, "lora_targets": adapters.target_modules}
    values["quantized_bits"] = quantized_bits(adapters)
    if model_args.dtype != "auto":
        values["weight_dtype"] = model_args.dtype
    elif half_precision(args, has_bf16) == "float32":
        values["weight_dtype"] = "float32"
    if model_args.attn_backend != "auto":
        values["attn_backend"] = model_args.attn_backend
    values["liger"] = model_args.use_liger != "false"
    shared = getattr(args, "sequence_parallel_size", None)
    if isinstance(shared, int) and shared > 0:
        values["sequence_parallel"] = shared
    return Constraints(**values)


class Machines(Protocol):
    """How many GPUs a run has: a `Cluster`, or a `Topology`."""

    @property
    def nodes(self) -> int:
        """Machines."""

    @property
    def gpus_per_node(self) -> int:
        """Ranks of one of them."""


def setup_of_run(
    config: Any,
    parameters: int,
    cluster: Machines,
    model_args: ModelArguments,
    adapters: AdapterArguments,
    *,
    args: TrainingArguments,
    block_size: int,
    document_length: float | None,
    weight_dtype: str,
    attn_backend: str,
    liger: bool,
) -> TrainingSetup:
    """The setup of one run whose automatic choices have been made (`medscroll.engine.defaults`)."""
    engine, deepspeed = engine_of(args)
    zero = filled(dict((deepspeed or {}).get("zero_optimization", {})), config.get_text_config().hidden_size)
    stage = int(zero.get("stage", 0))
    compute = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
    return TrainingSetup(
        config=config,
        model_name=str(model_args.model_name_or_path),
        parameters=parameters,
        nodes=cluster.nodes,
        gpus_per_node=cluster.gpus_per_node,
        engine=engine if stage else "trainer",
        zero_stage=stage,
        zero_options=zero,
        micro_batch=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        block_size=block_size,
        document_length=document_length,
        activation_memory=given_level(args) or "full",
        offload_optimizer=_device(zero, "offload_optimizer"),
        offload_parameters=_device(zero, "offload_param"),
        lora_rank=adapters.lora_rank if adapters.use_peft or adapters.qlora else 0,
        lora_targets=adapters.target_modules,
        quantized_bits=quantized_bits(adapters),
        weight_dtype=weight_dtype,
        compute_dtype=compute,
        hpz_group=int(zero.get("zero_hpz_partition_size", 1) or 1),
        attn_backend=attn_backend,
        liger=liger,
        fused_loss=loss_is_fused(config, stage, liger=liger, trust_remote_code=model_args.trust_remote_code),
    )


def longest_block(data: Any) -> int:
    """Tokens of the longest block that a PackedDataset holds."""
    return int(data.plan.block_lengths.max(initial=1))


def plan_of_run(
    model_args: ModelArguments,
    adapters: AdapterArguments,
    args: TrainingArguments,
    *,
    config: Any,
    parameters: int,
    schedule: ScheduledBlocks,
    place: Topology,
    device: torch.device,
    weight_dtype: str,
    attn_backend: str,
) -> RunPlan:
    """The plan of the run that these flags start on this machine; an empty one on a CPU. No collective."""

    def make_setup(cluster: Cluster) -> TrainingSetup:
        plan = schedule.dataset.plan
        tokens = max(1, int(plan.block_lengths.sum()))
        mean = float(plan.block_squares.sum()) / tokens if schedule.dataset.document_mask else None
        return setup_of_run(
            config,
            parameters,
            cluster,
            model_args,
            adapters,
            args=args,
            block_size=longest_block(schedule.dataset),
            document_length=mean,
            weight_dtype=weight_dtype,
            attn_backend=attn_backend,
            liger=bool(args.use_liger_kernel),
        )

    return plan_run(make_setup, device, place.nodes, place.local_world_size, args.calibration_file)


def _device(zero: dict[str, Any], key: str) -> bool:
    entry = zero.get(key)
    return isinstance(entry, dict) and entry.get("device", "none") != "none"
