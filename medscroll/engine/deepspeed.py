"""From `--deepspeed zero3` or a JSON file to the configuration that DeepSpeed gets.

The named configurations are data files in `medscroll/config/data/deepspeed/`, explained line by line in
docs/deepspeed.md. "auto" values are filled by transformers from the training arguments. None of them names an
optimizer: DeepSpeed then shards the one that the Trainer builds (fused AdamW), on the GPU, or on the CPU where it is
offloaded; nothing needs a compiler at run time.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import os
import platform
import socket
import sys
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

from medscroll.errors import ConfigError, missing_package

NAMES = ("zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")


def load_deepspeed(value: str | dict[str, Any] | None, *, on_gpu: bool = True) -> dict[str, Any] | None:
    """The DeepSpeed configuration that `--deepspeed value` names; None without it, or for "none" (over a recipe).

    Args:
        value: one of `NAMES`, the path of a JSON file, or a dictionary.
        on_gpu: whether ranks own a GPU; on a CPU host memory is not pinned.

    Raises:
        EnvironmentError_: DeepSpeed is not installed.
        ConfigError: neither a known name nor a readable JSON file.
    """
    if value is None or value == "none":
        return None
    if importlib.util.find_spec("deepspeed") is None:
        raise missing_package("deepspeed", "deepspeed", f"--deepspeed {value}")
    if isinstance(value, dict):
        config = value
    elif value in NAMES:
        text = resources.files("medscroll.config").joinpath(f"data/deepspeed/{value}.json").read_text("utf-8")
        config = json.loads(text)
    else:
        config = _read_json(value)
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        zero = config.get("zero_optimization", {})
        for part in ("offload_optimizer", "offload_param"):
            if isinstance(zero.get(part), dict):
                zero[part]["pin_memory"] = False
    return config


def _read_json(value: str) -> dict[str, Any]:
    path = Path(value)
    if not path.is_file():
        near = difflib.get_close_matches(value, NAMES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"--deepspeed {value} is neither a known configuration nor a file",
            where="--deepspeed",
            remedy=f"{hint}choose one of {', '.join(NAMES)}, or give the path of a DeepSpeed JSON file",
        )
    try:
        config = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid JSON: {error}", where=str(path), remedy="repair the file") from error
    if not isinstance(config, dict):
        raise ConfigError("a DeepSpeed configuration is a JSON object", where=str(path), remedy="repair the file")
    return config


def zero_stage(config: dict[str, Any] | None) -> int:
    """The ZeRO stage of a configuration, 0 without DeepSpeed."""
    return int((config or {}).get("zero_optimization", {}).get("stage", 0))


def single_process_environment() -> None:
    """Stand in for the launcher where there is none: DeepSpeed wants a process group also for one process."""
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def join_deepspeed() -> None:
    """Let DeepSpeed use the process group that exists; every rank calls it.

    HF does this on GPUs. On a CPU DeepSpeed would believe in a world of one while it builds a sharded model.
    """
    import deepspeed

    if not os.environ.get("TORCH_EXTENSIONS_DIR"):
        # On a CPU DeepSpeed compiles its shared-memory collectives into a folder of the user's home, which another
        # environment or node may be rebuilding at that moment: a hang, or a crash.
        key = hashlib.sha256(f"{sys.prefix} {platform.node()}".encode()).hexdigest()[:12]
        os.environ["TORCH_EXTENSIONS_DIR"] = str(Path.home() / ".cache" / "medscroll" / "torch_extensions" / key)
    # torch 2.13 renames collectives that DeepSpeed 0.19 calls; the notice would fill the log of every rank
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
