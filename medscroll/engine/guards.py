"""What can be said against a training run before it reads data or builds a model; every mistake is reported at once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from medscroll.config.arguments import DataArguments, ModelArguments
from medscroll.config.training import TrainingArguments
from medscroll.engine.deepspeed import load_deepspeed
from medscroll.engine.run_folder import refuse_foreign_folder
from medscroll.engine.topology import Topology
from medscroll.errors import ConfigError, EnvironmentError_, UserError
from medscroll.model.load import load_config
from medscroll.packing.sources import parse_sources


def check_flags(model_args: ModelArguments, data_args: DataArguments, args: TrainingArguments, place: Topology) -> None:
    """Check what needs no data and no model, and report every mistake at once.

    Raises:
        ConfigError: with all of them.
    """
    problems: list[UserError] = []

    def attempt(check: Any, *values: Any) -> None:
        try:
            check(*values)
        except UserError as error:
            problems.append(error)

    if (data_args.data_dir is None) == (data_args.train_file_dir is None):
        both = "both are given" if data_args.data_dir else "none is given"
        problems.append(
            ConfigError(
                f"exactly one of --data_dir (made by `medscroll prepare`) and --train_file_dir (raw texts): {both}",
                remedy="name one of them",
            )
        )
    if data_args.data_dir is not None:
        attempt(parse_sources, data_args.data_dir)
    if not model_args.model_name_or_path:
        problems.append(ConfigError("--model_name_or_path is missing", remedy="a folder, a hub id or a preset"))
    else:
        attempt(load_config, model_args)
    attempt(load_deepspeed, args.deepspeed)
    attempt(check_reporting, args.report_to)
    if place.is_main:  # it owns the folder; another rank may look when rank 0 has begun to write
        attempt(refuse_foreign_folder, Path(args.output_dir or "run"), bool(args.resume_from_checkpoint))
    if problems:
        raise ConfigError.collect(problems)


def check_reporting(report_to: str | list[str] | None) -> None:
    """Check that the packages of `--report_to` are installed.

    Raises:
        EnvironmentError_: the first that is not, with its pip install.
    """
    for name in [report_to] if isinstance(report_to, str) else report_to or []:
        packages = {"tensorboard": ("tensorboard", "tensorboardX")}.get(name, (name,))
        if name not in ("none", "all") and not any(importlib.util.find_spec(package) for package in packages):
            raise EnvironmentError_(
                f"--report_to {name} needs the package {packages[0]!r}, which is not installed",
                where="--report_to",
                remedy=f"pip install {packages[0]}, or leave --report_to out: events/ and loss.png are always written",
            )
