"""One training run, from packed data and flags to a saved model. Every stage ends here; the loop exists once.

    fill defaults -> prove attention -> open the process group -> build the model -> train -> save -> ledger, plot

All ranks run every line of `run_session`; only what is under `is_main` prints or writes, and no collective is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medscroll.config.arguments import AdapterArguments, ModelArguments
from medscroll.config.training import TrainingArguments
from medscroll.engine import checkpoint as checkpoint_files
from medscroll.engine.activation import choose_level, choose_rounding, room_here
from medscroll.engine.callbacks import Progress, TimedCheckpoint
from medscroll.engine.deepspeed import join_deepspeed, load_deepspeed, single_process_environment, zero_stage
from medscroll.engine.defaults import Choice, Situation, fill_defaults
from medscroll.engine.monitoring import MonitorSettings, RunMonitor, watched
from medscroll.engine.plan_check import Meter, PlanCheck
from medscroll.engine.plan_setup import longest_block, plan_of_run, setup_of_run
from medscroll.engine.plot import plot_loss
from medscroll.engine.run_folder import EventLog, environment, write_config, write_json
from medscroll.engine.step_record import StepRecord
from medscroll.engine.topology import Topology, training_device
from medscroll.engine.trainer import BlockTrainer
from medscroll.model.activation_levels import Level, parse_level
from medscroll.model.adapters import check_adapters
from medscroll.model.attention import choose_backend
from medscroll.model.liger import choose_liger, liger_kernels
from medscroll.model.load import build_model
from medscroll.model.loss_in_portions import PORTION, REASON, LossInPortions, why_not
from medscroll.model.recompute import apply_level
from medscroll.model.rounding import StochasticAdamW
from medscroll.monitor.traffic import enable_recorder
from medscroll.packing.cost import linear_cost
from medscroll.packing.cursor import Cursor
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.ledger import ConsumptionLedger
from medscroll.packing.schedule import ScheduledBlocks
from medscroll.planning.candidate import TrainingSetup
from medscroll.planning.compute import ModelFlops, count_parameters, model_flops, peak_flops
from medscroll.planning.recomputation import recomputed_flops


@dataclasses.dataclass
class StageData:
    """What a stage hands to the engine.

    Attributes:
        train: the training blocks.
        validation: the validation blocks, or None.
        validation_bytes: float64 array [validation blocks], UTF-8 bytes of each block's own tokens.
        tokenizer: saved with the model.
        config: the model's configuration, flags applied.
        max_train_blocks, max_eval_blocks: use only this many (a seeded choice); None: all.
        ledger: makes the run's ledger.json from the consumption of all ranks.
        resolved: flag -> value of everything outside the training arguments, for config.yaml.
    """

    train: PackedDataset
    validation: PackedDataset | None
    validation_bytes: np.ndarray | None
    tokenizer: Any
    config: Any
    ledger: Callable[[ConsumptionLedger], dict[str, Any]]
    resolved: dict[str, Any]
    max_train_blocks: int | None = None
    max_eval_blocks: int | None = None


def run_session(
    data: StageData,
    model_args: ModelArguments,
    adapters: AdapterArguments,
    args: TrainingArguments,
    place: Topology,
) -> BlockTrainer:
    """Train and save; returns the Trainer, whose model stays loaded. See the module's first lines for the order.

    Raises:
        UserError: whatever cannot be run, before the first step.
    """
    say = print if place.is_main else _silent
    device = training_device(place, args.use_cpu)
    output_dir = Path(args.output_dir or "run")
    resume = checkpoint_files.find_resume(args.resume_from_checkpoint, output_dir)
    deepspeed_name, deepspeed = args.deepspeed, load_deepspeed(args.deepspeed, on_gpu=device.type == "cuda")
    check_adapters(adapters, from_scratch=model_args.from_scratch, device=device)
    parameters = count_parameters(data.config, model_args.trust_remote_code)
    flops = model_flops(data.config, parameters)
    setup = choose(
        data,
        model_args,
        args,
        Context(device, zero_stage(deepspeed), parameters, adapters, resume, deepspeed, place),
    )
    schedule = make_schedule(data, args, place.world_size, flops)
    output_dir.mkdir(parents=True, exist_ok=True)
    check_resume(resume, schedule, deepspeed is not None, place.world_size)
    if args.save_minutes > 0 or args.save_strategy != "no":
        trainable = parameters // 100 if adapters.use_peft else parameters
        frozen = parameters - trainable
        size = checkpoint_files.checkpoint_bytes(trainable, frozen, setup.dtype.itemsize, adapters.use_peft)
        say(checkpoint_files.check_disk(output_dir, size, args.save_total_limit or 1))
    if place.is_main:
        resolved = {**data.resolved, **plain_arguments(args), "deepspeed": deepspeed_name}
        write_config(output_dir, resolved, [str(choice) for choice in setup.choices])
        write_json(output_dir / "environment.json", environment())
    say("\n".join(["Chosen automatically (give the flag to change it):", *[f"  {c}" for c in setup.choices]]))
    say(batch_in_words(schedule, args, place.world_size))
    plan = plan_of_run(
        model_args,
        adapters,
        args,
        parameters=parameters,
        schedule=schedule,
        config=data.config,
        place=place,
        device=device,
        weight_dtype=str(setup.dtype).removeprefix("torch."),
        attn_backend=setup.attn_backend,
    )
    for line in plan.judge(ignore=args.ignore_plan):
        say(line)

    open_process_group(args, deepspeed)
    with plan.explains_out_of_memory():
        model = build_model(
            model_args,
            adapters,
            data.config,
            dtype=setup.dtype,
            device=device,
            attn_backend=setup.attn_backend,
            seed=args.seed,
            gradient_checkpointing=setup.level.recomputes,
        )
        row_tokens = data.train.plan.block_size * args.per_device_train_batch_size
        apply_level(
            model, setup.level, row_bytes=row_tokens * data.config.get_text_config().hidden_size * setup.element
        )
    trainer = make_trainer(data, args, model, schedule=schedule, flops=flops, place=place, device=device)
    if plan.candidate is not None:
        meter = Meter(device)
        trainer.add_callback(PlanCheck(plan, trainer.record, args.calibration_file, meter, place.world_size))
        if trainer.monitor is not None:
            trainer.monitor.planned_memory = plan.candidate.memory.allocated
            trainer.monitor.planned_traffic = plan.candidate.network.collectives
    if resume is not None:
        trainer.consumption.load_state_dict(checkpoint_files.read_json(resume, checkpoint_files.CONSUMPTION))
        say(f"resuming from {resume}")
    with watched(trainer.monitor), plan.explains_out_of_memory():
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        trainer.save_model()
        if data.validation is not None:
            trainer.evaluate()
        ledger = trainer.write_ledger()
    if place.is_main:
        say(finish_in_words(output_dir, ledger, plot_loss(output_dir)))
    return trainer


@dataclasses.dataclass(frozen=True)
class Context:
    """What the automatic choices depend on, beside the flags: device, ZeRO, size, adapters, checkpoint, ranks."""

    device: torch.device
    zero_stage: int
    parameters: int
    adapters: AdapterArguments
    resume: Path | None
    deepspeed: dict[str, Any] | None
    place: Topology

    @property
    def adapter(self) -> bool:
        """Whether an adapter is trained instead of all weights."""
        return self.adapters.use_peft


@dataclasses.dataclass(frozen=True)
class Setup:
    """What was chosen: dtype of the weights, attention, activation memory, and everything as it is printed."""

    dtype: torch.dtype
    attn_backend: str
    level: Level
    element: int
    choices: list[Choice]


def choose(data: StageData, model_args: ModelArguments, args: TrainingArguments, context: Context) -> Setup:
    """Fill what the flags left open in `args`, prove the attention backend, and say what was chosen and why.

    Raises:
        UserError: a backend or kernel that was asked for is absent or fails.
    """
    device, on_gpu = context.device, context.device.type == "cuda"
    situation = Situation(
        parameters=context.parameters,
        on_gpu=on_gpu,
        gpu_has_bf16=on_gpu and torch.cuda.is_bf16_supported(),
        from_scratch=model_args.from_scratch,
        adapter=context.adapter,
        has_validation=data.validation is not None and context.resume is None,
    )
    choices = fill_defaults(args, situation)
    dtype, dtype_choice = weight_dtype(model_args, args, context.zero_stage, context.adapter)
    trust, computing = model_args.trust_remote_code, compute_dtype(args, dtype)
    backend = choose_backend(model_args.attn_backend, data.config, computing, device, trust_remote_code=trust)
    liger = choose_liger(model_args.use_liger, data.config, device)
    args.use_liger_kernel = liger.use
    whole = why_whole(data.config, context, trust)
    if liger.use and args.liger_kernel_config is None:
        args.liger_kernel_config = liger_kernels(zero3=context.zero_stage == 3, portions=not whole)
    if not on_gpu:
        args.use_cpu, args.dataloader_pin_memory = True, False
    choices += [dtype_choice, Choice("attn_backend", backend.name, backend.reason)]
    choices.append(Choice("use_liger", str(liger.use).lower(), liger.reason))
    if context.zero_stage == 3:
        choices.append(Choice("logits", "whole rows" if whole else f"{PORTION:,} positions at a time", whole or REASON))
    planned = planned_setup(data, model_args, args, context, (dtype, backend.name), liger=liger.use)
    level, level_choice = choose_level(args, planned, room_here(device, context.place.local_world_size))
    choices.append(level_choice)
    rounding = choose_rounding(
        args,
        weights_bf16=dtype == torch.bfloat16,
        deepspeed=context.deepspeed is not None,
        adapter=context.adapter,
    )
    choices += [] if rounding is None else [rounding]
    return Setup(dtype, backend.name, level, computing.itemsize, choices)


def why_whole(config: Any, context: Context, trust_remote_code: bool) -> str:
    """Under ZeRO-3: why logits are made for whole rows; "" where they are not, or Liger's loss decides."""
    if context.zero_stage != 3:
        return ""
    if context.adapter and "lm_head" in context.adapters.target_modules.split(","):
        return "--target_modules puts an adapter on lm_head"
    return why_not(config, trust_remote_code=trust_remote_code)


def planned_setup(
    data: StageData,
    model_args: ModelArguments,
    args: TrainingArguments,
    context: Context,
    chosen: tuple[torch.dtype, str],
    *,
    liger: bool,
) -> TrainingSetup:
    """What the planner is asked about this run; `chosen`: dtype of the weights, attention backend."""
    dtype, backend = chosen
    return setup_of_run(
        data.config,
        context.parameters,
        context.place,
        model_args,
        context.adapters,
        args=args,
        block_size=longest_block(data.train),
        document_length=None,
        weight_dtype=str(dtype).removeprefix("torch."),
        attn_backend=backend,
        liger=liger,
    )


def open_process_group(args: TrainingArguments, deepspeed: dict[str, Any] | None) -> None:
    """Start HF's half of the arguments, which opens the process group, and let DeepSpeed join; every rank."""
    if args.monitor_run:
        enable_recorder()
    args.deepspeed = deepspeed
    if deepspeed is not None:
        single_process_environment()
    args.start()
    if deepspeed is not None:
        join_deepspeed()


def make_schedule(data: StageData, args: TrainingArguments, ranks: int, flops: ModelFlops) -> ScheduledBlocks:
    """The order of the training blocks for this many ranks, balanced by the model's FLOPs."""
    return ScheduledBlocks(
        data.train,
        ranks=ranks,
        per_device_batch=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        seed=args.data_seed if args.data_seed is not None else args.seed,
        linear_cost=linear_cost(flops.linear, flops.quadratic),
        max_blocks=data.max_train_blocks,
        filler_token=filler_token(data),
    )


def filler_token(data: StageData) -> int:
    """The token of filler rows: the EOS, which every prepared store has."""
    return int(data.tokenizer.eos_token_id or 0)


def make_trainer(
    data: StageData,
    args: TrainingArguments,
    model: torch.nn.Module,
    *,
    schedule: ScheduledBlocks,
    flops: ModelFlops,
    place: Topology,
    device: torch.device,
) -> BlockTrainer:
    """The Trainer with its callbacks; every rank makes one."""
    eval_schedule = None
    if data.validation is not None:
        eval_schedule = ScheduledBlocks(
            data.validation,
            ranks=place.world_size,
            per_device_batch=args.per_device_eval_batch_size,
            accumulation=1,
            shuffle=False,
            linear_cost=linear_cost(flops.linear, flops.quadratic),
            max_blocks=data.max_eval_blocks,
            filler_token=filler_token(data),
        )
    record = StepRecord(schedule)
    recomputed = recomputed_flops(data.config, parse_level(args.activation_memory))
    peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    run_folder = Path(args.output_dir or "run")
    events = EventLog(run_folder, place.rank)
    monitor = RunMonitor(monitor_settings(args), run_folder, place, device, events) if args.monitor_run else None
    trust = bool(data.resolved.get("trust_remote_code"))
    in_portions = zero_stage(args.deepspeed) == 3 and not why_not(data.config, model, trust_remote_code=trust)
    return BlockTrainer(
        model=model,
        portions=LossInPortions(model) if in_portions else None,
        args=args,
        processing_class=data.tokenizer,
        schedule=schedule,
        eval_schedule=eval_schedule,
        eval_block_bytes=data.validation_bytes,
        consumption=ConsumptionLedger(schedule.dataset.plan),
        record=record,
        flops=flops,
        stage_ledger=data.ledger,
        monitor=monitor,
        optimizer_cls_and_kwargs=optimizer_of(args),
        callbacks=[
            Progress(record, flops, peak, events, place.world_size, recomputed=recomputed, monitor=monitor),
            TimedCheckpoint(args.save_minutes, place.world_size),
        ],
    )


def monitor_settings(args: TrainingArguments) -> MonitorSettings:
    """The flags of the monitor."""
    return MonitorSettings(
        window_every=args.monitor_window_every,
        seconds=args.monitor_seconds,
        stall_factor=args.stall_factor,
        abort=args.stall_action == "abort",
        exposed_limit=args.exposed_limit,
        timeout=float(args.ddp_timeout),
    )


def optimizer_of(args: TrainingArguments) -> tuple[type, dict[str, Any]] | None:
    """The optimizer's class and arguments where it is not one of HF's own `--optim`."""
    if args.weight_rounding != "stochastic":
        return None
    betas = (args.adam_beta1, args.adam_beta2)
    return StochasticAdamW, {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon, "seed": args.seed}


def weight_dtype(
    model_args: ModelArguments, args: TrainingArguments, stage: int, adapter: bool
) -> tuple[torch.dtype, Choice]:
    """The dtype that the weights are built in, and why."""
    half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
    if model_args.dtype != "auto":
        dtype = getattr(torch, model_args.dtype)
        return dtype, Choice("dtype", model_args.dtype, "given")
    if stage > 0 and half is not torch.float32:
        return half, Choice("dtype", str(half).removeprefix("torch."), "DeepSpeed keeps float32 master weights itself")
    if adapter and half is not torch.float32:
        return half, Choice("dtype", str(half).removeprefix("torch."), "the base is frozen; adapters stay float32")
    reason = "master weights; computation in the half precision that is on" if half is not torch.float32 else "exact"
    return torch.float32, Choice("dtype", "float32", reason)


def compute_dtype(args: TrainingArguments, dtype: torch.dtype) -> torch.dtype:
    """The dtype that attention computes in: autocast's where it is on, else the weights'."""
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else dtype


def check_resume(resume: Path | None, schedule: ScheduledBlocks, deepspeed: bool, world_size: int) -> None:
    """Check that a checkpoint belongs to this data, policy, seed, global batch and engine.

    Raises:
        CheckpointError: it does not; each difference is named.
    """
    if resume is None:
        return
    checkpoint_files.check_ranks(resume, deepspeed, world_size)
    cursor = Cursor.from_json(checkpoint_files.read_json(resume, checkpoint_files.CURSOR))
    step = int(checkpoint_files.read_json(resume, checkpoint_files.MANIFEST)["step"])
    cursor.verify(schedule.cursor(step), where=str(resume))


def plain_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The training arguments as plain YAML values, without those that are None."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(args):
        value = getattr(args, field.name, None)
        if not field.init or value is None or field.name == "deepspeed":
            continue
        values[field.name] = value.value if isinstance(value, Enum) else value
    return values


def batch_in_words(schedule: ScheduledBlocks, args: TrainingArguments, ranks: int) -> str:
    """The arithmetic of the global batch and of the steps, in words."""
    plan = schedule.dataset.plan
    batch, blocks, steps = schedule.global_batch, schedule.num_blocks, schedule.steps_per_epoch
    mean = float(plan.block_lengths.mean()) if blocks else 0.0
    lines = [
        f"Global batch: {args.per_device_train_batch_size} blocks a micro step x {args.gradient_accumulation_steps} "
        f"micro steps x {ranks} ranks = {batch} blocks of at most {plan.block_size:,} tokens "
        f"(mean {mean:,.0f}), about {batch * mean:,.0f} tokens a step.",
        f"Epoch: {blocks:,} blocks = {steps:,} steps"
        + (f", the last one completed by {schedule.num_fillers} fillers." if schedule.num_fillers else "."),
    ]
    if blocks < batch:
        lines.append(
            f"WARNING: the corpus has {blocks} blocks, fewer than one global batch of {batch}: each epoch is one step."
        )
    return "\n".join(lines)


def finish_in_words(output_dir: Path, ledger: dict[str, Any], plot: Path | None) -> str:
    """Where everything is, and the sums of the ledger."""
    lines = [f"Finished. Model in Hugging Face layout: {output_dir}", f"Ledger: {output_dir / 'ledger.json'}"]
    for name, count in ledger.get("total", {}).items():
        if isinstance(count, int):
            lines.append(f"  {name}: {count:,}")
    if plot:
        lines.append(f"Loss plot: {plot}")
    return "\n".join(lines)


def _silent(*_: Any) -> None:
    """Print nothing: what ranks other than 0 say."""
