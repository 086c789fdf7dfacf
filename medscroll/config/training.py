"""The engine's arguments: every HF `TrainingArguments` flag, with defaults that do not hurt a pretrained model.

`TrainingArguments.__post_init__` of transformers opens the process group and arms ZeRO-3's sharded construction.
medscroll prepares data, packs it and proves the attention backend before that, so here the HF part runs later, when
the engine calls `start()`. Until then the object is a plain record of what the user asked for.

Price: importing this module imports torch and transformers (seconds); only verbs that train do so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import transformers

from medscroll.errors import ConfigError

AUTO_HELP = "(default: chosen at the start and printed with its reason)"


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    """HF `TrainingArguments` whose defaults are those of careful continued pretraining.

    Fields of None are chosen by `medscroll.engine.defaults` once the model, the data and the devices are known.
    """

    output_dir: str | None = field(default="run", metadata={"help": "The run folder: what a run says about itself."})
    deepspeed: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "zero1 | zero2 | zero3 | zero2_offload | zero3_offload | none, or a DeepSpeed JSON file."},
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "true: the last whole checkpoint; auto: the same, or start anew; or a checkpoint folder."},
    )
    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": f"Peak learning rate {AUTO_HELP}."}
    )
    warmup_steps: float = field(
        default=0.03, metadata={"help": "Warm-up: a number of steps, or below 1 a share of all steps."}
    )
    lr_scheduler_type: str = field(  # type: ignore[assignment]
        default="cosine_with_min_lr", metadata={"help": "Learning-rate schedule; the default ends at 10 % of the peak."}
    )
    lr_scheduler_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of the schedule as JSON; default for cosine_with_min_lr: 10 %."}
    )
    adam_beta2: float = field(default=0.95, metadata={"help": "Beta2 of AdamW; 0.95 is usual for language models."})
    weight_decay: float = field(default=0.1, metadata={"help": "Weight decay of AdamW (not on norms and biases)."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradient clipping by global norm."})
    num_train_epochs: float = field(default=1.0, metadata={"help": "Passes over the data."})
    per_device_train_batch_size: int = field(
        default=1, metadata={"help": "Blocks a rank takes in a micro step; they are joined into one row."}
    )
    per_device_eval_batch_size: int = field(default=1, metadata={"help": "Blocks a rank evaluates at a time."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Micro steps to an optimizer step."})
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": f"Train in bfloat16 with float32 master weights {AUTO_HELP}."}
    )
    gradient_checkpointing: bool | None = field(
        default=None,
        metadata={"help": "HF's name: true is --activation_memory full, false is --activation_memory none."},
    )
    activation_memory: str = field(
        default="auto",
        metadata={
            "help": "What the backward pass finds kept, from fastest to smallest: none, linear[_N], mlp[_N], "
            "attention, full, every_K; each but none also with _offload (layer inputs in host memory), the last "
            "three also with _tiled (MLP by tiles of tokens)."
        },
    )
    weight_rounding: str = field(
        default="auto",
        metadata={
            "help": "AdamW on bfloat16 weights without DeepSpeed: stochastic keeps small updates, nearest loses them.",
            "choices": ["auto", "stochastic", "nearest"],
        },
    )
    logging_steps: float = field(default=1, metadata={"help": "Steps between progress lines."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "HF's filter that replaces a NaN loss by the running mean; off: show it."}
    )
    save_strategy: str = field(  # type: ignore[assignment]
        default="no", metadata={"help": "steps | epoch | best | no; with no, checkpoints are taken by --save_minutes."}
    )
    save_steps: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Steps between checkpoints; given, it replaces --save_minutes."}
    )
    save_minutes: float = field(
        default=60.0, metadata={"help": "Minutes between checkpoints where no --save_steps is given; 0 takes none."}
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept; the oldest go first."})
    eval_strategy: str = field(  # type: ignore[assignment]
        default="no", metadata={"help": "no | steps | epoch; before and after training is always evaluated."}
    )
    report_to: str | list[str] | None = field(default="none", metadata={"help": "tensorboard, wandb, swanlab, ..."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep every column that a block carries."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Search for parameters without gradient; decoders have none."}
    )
    disable_tqdm: bool | None = field(default=True, metadata={"help": "HF's own progress bar; medscroll prints lines."})
    monitor_run: bool = field(
        default=True, metadata={"help": "Watch the run: phases, memory, communication, slow and stalled ranks."}
    )
    monitor_window_every: int = field(
        default=200,
        metadata={"help": "Steps from one profiler window (exact communication) to the next; 0: none.", "least": 0},
    )
    monitor_seconds: float = field(
        default=5.0, metadata={"help": "Seconds between samples of host, GPU, network and disk.", "least": 0.5}
    )
    stall_factor: float = field(
        default=2.0,
        metadata={"help": "A stall: this many median steps and 5 s without progress.", "least": 1},
    )
    stall_action: str = field(
        default="report",
        metadata={
            "help": "At a stall name the rank that is missing; abort: also end the run when it lasts twice as long.",
            "choices": ["report", "abort"],
        },
    )
    exposed_limit: float = field(
        default=0.25,
        metadata={"help": "Alert where uncovered communication takes more of a step than this.", "least": 0, "most": 1},
    )
    ignore_plan: bool = field(
        default=False, metadata={"help": "Start also where the plan says that the run cannot fit into the GPUs."}
    )
    calibration_file: str | None = field(
        default=None,
        metadata={"help": "Pairs of plan and measured run, written and read; default: ~/.cache/medscroll."},
    )
    seed: int = field(default=42, metadata={"help": "Seed of weights, order of blocks and dropout."})
    started: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        """Record only; `start` runs HF's own initialisation."""

    def start(self) -> None:
        """Open the process group (all ranks) and arm DeepSpeed; call once, after data and proof.

        Raises:
            ConfigError: HF refuses the combination; its sentence is passed on.
        """
        try:
            super().__post_init__()
        except (ValueError, TypeError, ImportError) as error:
            raise ConfigError(str(error).strip(), where="training arguments") from error
        self.started = True
