"""The search over setups of one model on one cluster, the prediction of one setup, and the smallest change that fits.

Over: engine and ZeRO stage, micro batch, recomputation, hpZ, offload, number of nodes.
Accumulation follows from the tokens of a global batch. Of every combination of nodes, stage and hpZ the fastest that
fits and the smallest that does not are kept. Cost: a second for every number of tokens of a row, remembered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from medscroll.planning.candidate import GIB, Candidate, Constraints, TrainingSetup
from medscroll.planning.cluster import Cluster
from medscroll.planning.compute import count_parameters
from medscroll.planning.host_disk import checkpoint_interval, disk_of, host_of
from medscroll.planning.memory import error_bound, memory_of, note_of
from medscroll.planning.parameters import config_text, trained
from medscroll.planning.step_time import assumptions, time_of

MICRO_BATCHES = (1, 2, 4, 8)
# Levels of activation memory that are tried, from fastest to smallest; a run's own `auto` also tries linear_N
LEVELS = (
    "none",
    "linear",
    "mlp",
    "attention",
    "attention_offload",
    "attention_tiled",
    "attention_offload_tiled",
    "full",
    "full_offload",
    "full_tiled",
    "full_offload_tiled",
    "every_2_offload_tiled",
    "every_4_offload_tiled",
    "every_8_offload_tiled",
    "every_4_tiled",
    "every_8_tiled",
)
MOST_ROW = 131_072  # tokens; longer rows only where one block is longer
ZERO = {"reduce_scatter": True, "overlap_comm": True, "contiguous_gradients": True}


def predict(
    setup: TrainingSetup, cluster: Cluster, *, tokens: int | None = None, disk_bandwidth: float = 2e9
) -> Candidate:
    """Everything about one setup on a cluster; `tokens` gives days and cost."""
    memory = memory_of(setup)
    time, network = time_of(setup, cluster, trained(setup), config_text(setup))
    host = host_of(setup)
    on_gpu = memory.total <= cluster.gpu.memory
    on_host = max(host.at_load, host.steady) <= cluster.host_memory
    fits = on_gpu and on_host
    name = f"ZeRO-{setup.zero_stage}" if setup.engine == "deepspeed" and setup.zero_stage else "without sharding it"
    if not on_gpu:
        reason = f"{name} needs {memory.total / GIB:,.0f} GiB of {cluster.gpu.memory / GIB:,.0f}"
    elif not on_host:
        need = max(host.at_load, host.steady) / GIB
        reason = f"needs {need:,.0f} GiB of {cluster.host_memory / GIB:,.0f} in each host"
    else:
        reason = ""
    binding = "GPU memory" if not on_gpu else "host memory" if not on_host else "compute"
    if fits and time.communication_exposed > 0.15 * time.step:
        binding = "network" if setup.nodes > 1 else "links inside the node"
    elif fits and time.host_transfer + time.optimizer > 0.4 * time.step:
        binding = "host transfers"
    days = tokens / time.tokens_per_second / 86400 if tokens else None
    cost = days * 24 * setup.ranks * cluster.price if days is not None and cluster.price is not None else None
    return Candidate(
        setup=setup,
        memory=memory,
        time=time,
        host=host,
        disk=disk_of(setup),
        network=network,
        fits=fits,
        reason=reason,
        binding=binding,
        error_bound=error_bound(setup),
        days=days,
        cost=cost,
        checkpoint_seconds=checkpoint_interval(setup, cluster, disk_bandwidth),
        notes=(*note_of(setup), *assumptions(setup, cluster)),
    )


def plan_training(
    config: Any,
    cluster: Cluster,
    *,
    block_size: int,
    model_name: str,
    tokens: int | None = None,
    constraints: Constraints | None = None,
    trust_remote_code: bool = False,
) -> list[Candidate]:
    """The candidates for a model on a cluster, those that fit first, fastest first; never empty.

    Args:
        config: the transformers configuration.
        tokens: to train on, for days and cost.
        constraints: what is fixed.
    """
    fixed = constraints or Constraints()
    parameters = count_parameters(config, trust_remote_code)
    counts = [cluster.nodes]
    if fixed.fewer_nodes:
        counts = sorted({cluster.nodes, *(n for n in (1, 2, 4, 8, 16, 32, 64) if n < cluster.nodes)}, reverse=True)
    found: list[Candidate] = []
    for offload in (False, True) if fixed.offload_optimizer is None else (False,):
        for nodes in counts:
            machines = cluster.with_nodes(nodes)
            for base in _bases(config, model_name, parameters, machines, fixed, block_size, offload=offload):
                found += _best_of(base, machines, fixed, tokens)
    found.sort(key=lambda item: (not item.fits, -item.time.tokens_per_second if item.fits else item.memory.total))
    best = found[0]
    out = []
    for item in found:
        if item is best and best.fits:
            reason = "fastest of those that fit"
        elif item.fits:
            reason = f"{1 - item.time.tokens_per_second / best.time.tokens_per_second:.0%} slower"
        else:
            reason = item.reason
        out.append(dataclasses.replace(item, reason=reason))
    if not best.fits:
        change = smallest_change(best.setup, cluster)
        out[0] = dataclasses.replace(out[0], remedy=change)
    return out


def _bases(
    config: Any,
    model_name: str,
    parameters: int,
    cluster: Cluster,
    fixed: Constraints,
    *block: int,
    offload: bool,
) -> Iterator[TrainingSetup]:
    """One setup for each engine, stage and hpZ group that the constraints leave open."""
    engines = [(fixed.engine, fixed.zero_stage)] if fixed.engine or fixed.zero_stage is not None else []
    if offload and fixed.zero_options and not fixed.offload_optimizer:
        return  # a DeepSpeed configuration was given, without offload
    if not engines:
        engines = [("deepspeed", stage) for stage in ((1, 2, 3) if cluster.ranks > 1 else (2,))]
        engines += [("trainer", 0)] if fixed.lora_rank and cluster.ranks == 1 else []
    hidden = int(config.get_text_config().hidden_size)
    for engine, stage in engines:
        level = stage if stage is not None else 0 if engine == "trainer" else 3
        groups = [fixed.hpz_group] if fixed.hpz_group else [1]
        if level == 3 and not fixed.hpz_group and cluster.nodes > 1 and cluster.gpus_per_node > 1 and not offload:
            groups.append(cluster.gpus_per_node)
        if offload and level < 2:
            continue
        for group in groups:
            options = fixed.zero_options or _options(level, hidden)
            offloads = fixed.offload_optimizer if fixed.offload_optimizer is not None else offload and level >= 2
            dtype = fixed.weight_dtype or ("bfloat16" if cluster.gpu.has_bf16 else "float16")
            yield TrainingSetup(
                config=config,
                model_name=model_name,
                parameters=parameters,
                nodes=cluster.nodes,
                gpus_per_node=cluster.gpus_per_node,
                engine="deepspeed" if level else "trainer",
                zero_stage=level,
                zero_options=options if level else {},
                block_size=block[0],
                document_length=fixed.document_length,
                offload_optimizer=bool(offloads),
                offload_parameters=bool(fixed.offload_parameters or (offloads and level == 3)),
                lora_rank=fixed.lora_rank,
                lora_targets=fixed.lora_targets,
                quantized_bits=fixed.quantized_bits,
                weight_dtype=dtype,
                compute_dtype=dtype,
                hpz_group=int(group),
                attn_backend=fixed.attn_backend or "flash_attention_2",
                liger=fixed.liger,
                fused_loss=fixed.liger and level != 3 if fixed.fused_loss is None else fixed.fused_loss,
                sequence_parallel=fixed.sequence_parallel,
            )


def _options(stage: int, hidden: int) -> dict[str, Any]:
    """`zero_optimization` of the shipped configurations, with transformers' values for "auto"."""
    if stage < 3:
        return {"stage": stage, **ZERO, "reduce_bucket_size": 200_000_000, "allgather_bucket_size": 200_000_000}
    return {
        "stage": 3,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": hidden * hidden,
        "stage3_prefetch_bucket_size": int(0.9 * hidden * hidden),
        "stage3_param_persistence_threshold": 10 * hidden,
        "stage3_max_live_parameters": 1_000_000_000,
        "stage3_max_reuse_distance": 1_000_000_000,
        "sub_group_size": 1_000_000_000,
    }


def _best_of(base: TrainingSetup, cluster: Cluster, fixed: Constraints, tokens: int | None) -> list[Candidate]:
    """Over micro batches and recomputation: the fastest that fits, else the smallest."""
    levels = [fixed.activation_memory] if fixed.activation_memory else list(LEVELS)
    sizes = [fixed.micro_batch] if fixed.micro_batch else list(MICRO_BATCHES)
    target = fixed.global_tokens or (
        1 << 20 if base.parameters < 10e9 else 1 << 21 if base.parameters < 40e9 else 1 << 22
    )
    found = []
    for level in levels:
        for micro in sizes:
            if micro > 1 and micro * base.block_size > MOST_ROW and not fixed.micro_batch:
                break
            one = base.replace(micro_batch=micro, activation_memory=level)
            steps = fixed.accumulation or max(1, round(target / one.replace(accumulation=1).step_tokens))
            item = predict(
                one.replace(accumulation=steps), cluster, tokens=tokens, disk_bandwidth=fixed.disk_bytes_per_second
            )
            if fixed.memory_reserve and item.memory.total > cluster.gpu.memory * (1 - fixed.memory_reserve):
                item = dataclasses.replace(item, fits=False, reason=f"leaves less than {fixed.memory_reserve:.0%} free")
            found.append(item)
            if not item.fits:
                break
    fitting = [item for item in found if item.fits]
    if fitting:
        return [max(fitting, key=lambda item: item.time.tokens_per_second)]
    return [min(found, key=lambda item: item.memory.total)]


def smallest_change(setup: TrainingSetup, cluster: Cluster) -> str:
    """The first change that fits, as flags: smaller micro steps, more sharding, shorter blocks, offload, nodes."""
    trials: list[tuple[str, TrainingSetup, Cluster]] = []

    def add(words: str, machines: Cluster | None = None, **changes: Any) -> None:
        trials.append((words, setup.replace(**changes), machines or cluster))

    if setup.micro_batch > 1:
        words = (
            f"--per_device_train_batch_size 1 --gradient_accumulation_steps {setup.accumulation * setup.micro_batch}"
        )
        add(words, micro_batch=1, accumulation=setup.accumulation * setup.micro_batch)
    if setup.activation_memory != "full":
        add("--gradient_checkpointing", activation_memory="full")
    tight: dict[str, Any] = {"micro_batch": 1, "activation_memory": "full"}
    if setup.zero_stage < 3 and setup.ranks > 1:
        options = _options(3, int(setup.config.get_text_config().hidden_size))
        tight |= {"engine": "deepspeed", "zero_stage": 3, "zero_options": options, "fused_loss": False}
        add("--deepspeed zero3", **tight)
    size = setup.block_size // 2
    while size >= 512:
        add(f"--block_size {size}", block_size=size, **tight)
        size //= 2
    stage = int(tight.get("zero_stage", setup.zero_stage)) or 2
    named = f"--deepspeed zero{3 if stage == 3 else 2}_offload"
    add(
        named,
        **{**tight, "engine": "deepspeed", "zero_stage": 3 if stage == 3 else 2},
        offload_optimizer=True,
        offload_parameters=stage == 3,
    )
    for nodes in (2 * setup.nodes, 4 * setup.nodes, 8 * setup.nodes, 16 * setup.nodes):
        if cluster.uplink is not None:
            more = {"engine": "deepspeed", "zero_stage": 3, "fused_loss": False}
            add(f"{nodes} nodes instead of {setup.nodes}", cluster.with_nodes(nodes), **{**tight, **more}, nodes=nodes)
    if not setup.lora_rank:
        add("--use_peft (LoRA)", **tight, lora_rank=16)
        add("--use_peft --qlora", **{**tight, "engine": "trainer", "zero_stage": 0}, lora_rank=16, quantized_bits=4)
    for words, trial, machines in trials:
        if predict(trial, machines).fits:
            return words
    return "a larger GPU, or a smaller model: none of the changes tried fits"
