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
from medscroll.planning.hardware import Catalogue
from medscroll.planning.host_disk import checkpoint_interval, disk_of, host_of
from medscroll.planning.memory import error_bound, loss_is_fused, memory_of, note_of
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
LARGER = ("A100-80G", "H200-141G", "B200-180G")
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
    if best.fits and fixed.attn_backend is None:
        note = _faster_attention(best.setup, cluster.with_nodes(best.setup.nodes), best.time.step)
        out[0] = dataclasses.replace(out[0], notes=(*out[0].notes, *note))
    if not best.fits:
        change = smallest_change(best.setup, cluster)
        out[0] = dataclasses.replace(out[0], remedy=change)
    return out


def _faster_attention(setup: TrainingSetup, cluster: Cluster, step: float) -> list[str]:
    """What flash-attn-4 would make of a setup that was planned with FlashAttention-2, on the GPUs that have it."""
    if cluster.gpu.architecture not in ("hopper", "blackwell"):
        return []
    faster = setup.replace(attn_backend="flash_attention_4")
    saved = 1 - time_of(faster, cluster, trained(setup), config_text(setup))[0].step / step
    text = (
        f"attention is planned with {setup.attn_backend}; with flash-attn-4 (--attn_backend flash_attention_4) a step"
    )
    return [f"{text} takes {saved:.0%} less time"] if saved > 0.01 else []


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
            options = fixed.zero_options or zero_options(level, hidden)
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
                fused_loss=loss_is_fused(config, level, liger=fixed.liger)
                if fixed.fused_loss is None
                else fixed.fused_loss,
                sequence_parallel=fixed.sequence_parallel,
            )


def zero_options(stage: int, hidden: int) -> dict[str, Any]:
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
    found: list[Candidate] = []
    fastest = 0.0
    for level in levels:
        for micro in sizes:
            if micro > 1 and micro * base.block_size > MOST_ROW and not fixed.micro_batch:
                break
            one = base.replace(micro_batch=micro, activation_memory=level)
            steps = fixed.accumulation or max(1, round(target / one.replace(accumulation=1).step_tokens))
            one = one.replace(accumulation=steps)
            time, _ = time_of(one, cluster, trained(one), config_text(one))
            if time.tokens_per_second <= fastest:
                continue  # slower than what fits already: its memory need not be known
            item = predict(one, cluster, tokens=tokens, disk_bandwidth=fixed.disk_bytes_per_second)
            if fixed.memory_reserve and item.memory.total > cluster.gpu.memory * (1 - fixed.memory_reserve):
                item = dataclasses.replace(item, fits=False, reason=f"leaves less than {fixed.memory_reserve:.0%} free")
            found.append(item)
            if not item.fits:
                break
            fastest = item.time.tokens_per_second
    fitting = [item for item in found if item.fits]
    if fitting:
        return [max(fitting, key=lambda item: item.time.tokens_per_second)]
    return [min(found, key=lambda item: item.memory.total)]


def smallest_change(setup: TrainingSetup, cluster: Cluster) -> str:
    """The smallest change that fits, as flags, with two others where there are: "A; or B; or C"."""
    found = changes(setup, cluster)
    return "; or ".join(found) or "a larger GPU, or a smaller model: none of the changes tried fits"


def changes(setup: TrainingSetup, cluster: Cluster, most: int = 3) -> list[str]:
    """Changes that fit, one of each kind, smallest first: every one was planned and fits.

    Kinds: smaller micro steps, more recomputation, ZeRO-3, offload, shorter blocks, more nodes, adapters, larger GPUs.
    """
    kinds: list[Iterator[tuple[str, TrainingSetup, Cluster]]] = [
        _smaller_steps(setup, cluster),
        _more_sharding(setup, cluster),
        _shorter_blocks(setup, cluster),
        _more_machines(setup, cluster),
        _adapters(setup, cluster),
    ]
    found: list[str] = []
    for trials in kinds:
        words = next((words for words, trial, machines in trials if predict(trial, machines).fits), None)
        if words is not None:
            found.append(words)
        if len(found) == most:
            break
    return found


def _tight(setup: TrainingSetup) -> tuple[dict[str, Any], str]:
    """One row a micro step at the level that takes least memory, and the flags that say so."""
    one = setup.replace(micro_batch=1)
    levels = [setup.activation_memory, *(name for name in LEVELS if name.startswith(("full", "every")))]
    level = min(levels, key=lambda name: memory_of(one.replace(activation_memory=name)).total)
    words = f" --activation_memory {level}" if level != setup.activation_memory else ""
    words += " --per_device_train_batch_size 1" if setup.micro_batch > 1 else ""
    return {"micro_batch": 1, "activation_memory": level}, words


def _smaller_steps(setup: TrainingSetup, cluster: Cluster) -> Iterator[tuple[str, TrainingSetup, Cluster]]:
    if setup.micro_batch > 1:
        steps = setup.accumulation * setup.micro_batch
        words = f"--per_device_train_batch_size 1 --gradient_accumulation_steps {steps}"
        yield words, setup.replace(micro_batch=1, accumulation=steps), cluster
    after = LEVELS[LEVELS.index(setup.activation_memory) + 1 :] if setup.activation_memory in LEVELS else LEVELS
    for level in after:
        yield f"--activation_memory {level}", setup.replace(activation_memory=level), cluster
    tight, words = _tight(setup)
    if words:
        yield words.strip(), setup.replace(**tight), cluster


def _stage_3(setup: TrainingSetup, **more: Any) -> dict[str, Any]:
    options = zero_options(3, int(setup.config.get_text_config().hidden_size))
    fused = loss_is_fused(setup.config, 3, liger=setup.liger)
    return {"engine": "deepspeed", "zero_stage": 3, "zero_options": options, "fused_loss": fused, **more}


def _more_sharding(setup: TrainingSetup, cluster: Cluster) -> Iterator[tuple[str, TrainingSetup, Cluster]]:
    tight, words = _tight(setup)
    if setup.quantized_bits:
        return
    if setup.zero_stage < 3 and setup.ranks > 1:
        yield f"--deepspeed zero3{words}", setup.replace(**tight, **_stage_3(setup)), cluster
    if setup.zero_stage < 3 and not setup.offload_optimizer:
        options = zero_options(2, int(setup.config.get_text_config().hidden_size))
        two = {"engine": "deepspeed", "zero_stage": 2, "zero_options": options, "offload_optimizer": True}
        yield f"--deepspeed zero2_offload{words}", setup.replace(**{**tight, **two}), cluster
    if not setup.offload_parameters:
        three = _stage_3(setup, offload_optimizer=True, offload_parameters=True, hpz_group=1)
        yield f"--deepspeed zero3_offload{words}", setup.replace(**tight, **three), cluster


def _shorter_blocks(setup: TrainingSetup, cluster: Cluster) -> Iterator[tuple[str, TrainingSetup, Cluster]]:
    tight, words = _tight(setup)
    size = setup.block_size // 2
    while size >= 512:
        length = min(setup.document_length, float(size)) if setup.document_length else None
        yield f"--block_size {size}{words}", setup.replace(block_size=size, document_length=length, **tight), cluster
        size //= 2


def _more_machines(setup: TrainingSetup, cluster: Cluster) -> Iterator[tuple[str, TrainingSetup, Cluster]]:
    tight, words = _tight(setup)
    words = f" with{words}" if words else ""
    if cluster.uplink is not None and not setup.quantized_bits:
        for nodes in (2 * setup.nodes, 4 * setup.nodes, 8 * setup.nodes, 16 * setup.nodes):
            more = setup.replace(**tight, **_stage_3(setup), nodes=nodes)
            yield f"{nodes} nodes instead of {setup.nodes}{words}", more, cluster.with_nodes(nodes)
    for name in LARGER:
        larger = Catalogue().gpu(name)
        if larger.memory > cluster.gpu.memory:
            machines = dataclasses.replace(cluster, gpu=larger)
            yield f"{name} instead of {cluster.gpu.name}{words}", setup.replace(**tight), machines


def _adapters(setup: TrainingSetup, cluster: Cluster) -> Iterator[tuple[str, TrainingSetup, Cluster]]:
    tight, words = _tight(setup)
    if not setup.lora_rank:
        yield f"--use_peft (LoRA){words}", setup.replace(**tight, lora_rank=16), cluster
    if not setup.quantized_bits:
        alone: dict[str, Any] = {"engine": "trainer", "zero_stage": 0, "zero_options": {}, "hpz_group": 1}
        alone |= {"offload_optimizer": False, "offload_parameters": False, "lora_rank": setup.lora_rank or 16}
        small = setup.replace(**tight, **alone, quantized_bits=4, fused_loss=setup.liger)
        yield f"--use_peft --qlora --deepspeed none{words}", small, cluster
