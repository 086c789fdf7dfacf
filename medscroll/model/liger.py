"""Whether a run uses Liger kernels: transformers' own `use_liger_kernel` switch, decided with its reason.

How: Liger replaces RMSNorm, RoPE, SwiGLU and the loss of the model classes that it knows by Triton kernels.
Measured on an H200 with the yi-6b shape, 8,192 tokens, full recompute: 37.6 % MFU without, 44.5 % with it.
Cost: none here; the kernels compile at first use.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medscroll.errors import ConfigError, EnvironmentError_, missing_package
from medscroll.model.rotary import register_rotary

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class LigerChoice:
    """Value for `TrainingArguments.use_liger_kernel` and its reason."""

    use: bool
    reason: str


def liger_kernels(*, zero3: bool, portions: bool = False) -> dict[str, bool]:
    """Which of Liger's kernels a run switches off or on: `TrainingArguments.liger_kernel_config`.

    RoPE is Liger's through `medscroll.model.rotary`, or transformers' own where this liger-kernel has no registry.
    Under ZeRO-3 the loss is not fused with lm_head: the fused kernel reads lm_head's weight outside of its module,
    where DeepSpeed does not gather it (the backward pass ends in a size of 0 against hidden_size). The loss is then
    that of `medscroll.model.loss_in_portions`; for a model that cannot have it the logits are made, tokens x
    vocabulary, and the loss alone is Liger's.

    Args:
        zero3: whether DeepSpeed shards the weights.
        portions: whether the loss is computed in portions through lm_head.
    """
    rope = register_rotary()
    if zero3:
        return {"rope": rope, "fused_linear_cross_entropy": False, "cross_entropy": not portions}
    return {"rope": rope}


def choose_liger(requested: str, config: PretrainedConfig, device: torch.device | str) -> LigerChoice:
    """Decides `--use_liger auto|true|false` for a model and device.

    Raises:
        ConfigError: the value is none of the three, or `true` for a model that Liger does not know.
        EnvironmentError_: `true` without a GPU or without the package.
    """
    if requested not in ("auto", "true", "false"):
        raise ConfigError(f"{requested!r} is not auto, true or false", where="--use_liger")
    if requested == "false":
        return LigerChoice(False, "switched off by --use_liger false")
    if not str(device).startswith("cuda"):
        return _absent(requested, "Liger's kernels need an NVIDIA GPU", EnvironmentError_)
    if importlib.util.find_spec("liger_kernel") is None:
        if requested == "true":
            raise missing_package("liger-kernel", "gpu", "--use_liger true")
        return LigerChoice(False, "package liger-kernel is not installed (pip install liger-kernel)")
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kind = config.get_text_config().model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return _absent(requested, f"Liger has no kernels for {kind} models", ConfigError)
    return LigerChoice(True, f"GPU and liger-kernel present, {kind} models known to it")


def _absent(requested: str, reason: str, error: type[ConfigError] | type[EnvironmentError_]) -> LigerChoice:
    if requested == "true":
        raise error(reason, where="--use_liger true", remedy="--use_liger auto")
    return LigerChoice(False, reason)
