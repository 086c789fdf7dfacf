"""Export: a run or checkpoint becomes one folder in plain Hugging Face layout, checked whole.

How: (1) an adapter is merged into its base model; (2) weights in HF layout are loaded and saved again as safetensors
(copied where neither dtype nor format changes); (3) a DeepSpeed-only checkpoint (`global_step*/` without consolidated
weights) is joined by DeepSpeed's `zero_to_fp32` first. The result is then checked: every tensor finite, and
`from_pretrained` finds every weight in its shape.

Cost: (1) one copy of the model in host memory; (2) as (1), or one tensor at a time for a copy; (3) 4 bytes a parameter
and the same on disk for a while. The check reads each weight once.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medscroll.errors import CheckpointError, ConfigError, missing_package
from medscroll.model.kernels import OWN_BACKENDS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# What belongs to a model beside its weights; training state (optimizer, events, ...) does not.
COMPANIONS = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*",
    "merges.txt", "*.model", "chat_template*", "preprocessor_config.json", "*.py",
)  # fmt: skip


def export(run_or_checkpoint: str | Path, output_dir: str | Path | None = None, *, dtype: str = "auto") -> Path:
    """Writes the trained model of a run folder or checkpoint as one Hugging Face folder and checks it.

    Args:
        run_or_checkpoint: a run folder (its final model, else its last checkpoint), a checkpoint, an adapter folder, or
            a DeepSpeed checkpoint.
        output_dir: where to write; default: `<run_or_checkpoint>/exported`.
        dtype: auto (as saved), bfloat16, float16 or float32.

    Returns:
        the folder written.

    Raises:
        CheckpointError: nothing to export, an adapter without its base, weights that are missing or not finite.
        ConfigError: the output folder is not empty.
    """
    given = Path(run_or_checkpoint)
    source = find_model(given)
    target = Path(output_dir) if output_dir else given / "exported"
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"{target} is not empty", where="--output_dir", remedy="another folder, or empty this one")
    target.mkdir(parents=True, exist_ok=True)
    if source != given:
        logger.info("exporting %s", source)
    kind = kind_of(source)
    if kind == "adapter":
        _export_adapter(source, target, dtype)
    elif kind == "deepspeed":
        _export_deepspeed(source, target, dtype)
    elif dtype == "auto" and any(source.glob("*.safetensors")):
        for path in sorted(source.glob("*.safetensors")) + sorted(source.glob("*.safetensors.index.json")):
            shutil.copy2(path, target / path.name)
    else:
        _save(load_model(source, dtype), target)
    _copy_companions(source, target, weights_saved=(target / "config.json").exists())
    _clean_config(target / "config.json")
    check_model(target)
    return target


def find_model(folder: Path) -> Path:
    """`folder` itself where it holds a model, else the last `checkpoint-N` in it that does.

    Raises:
        CheckpointError: neither.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}", remedy="a run folder, a checkpoint or a model folder")
    checkpoints = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for candidate in [folder, *sorted(checkpoints, key=lambda path: -int(path.name.rpartition("-")[2]))]:
        if kind_of(candidate):
            return candidate
    raise CheckpointError(
        f"no model in {folder}",
        remedy="expected model*.safetensors with config.json, adapter_config.json, or checkpoint-N with one of them",
    )


def kind_of(folder: Path) -> str | None:
    """What a folder holds: "adapter", "model", "deepspeed" (partitioned weights only), or None."""
    if (folder / "adapter_config.json").is_file():
        return "adapter"
    if (folder / "config.json").is_file() and _weight_files(folder):
        return "model"
    if any(path.is_dir() for path in folder.glob("global_step*")):
        return "deepspeed"
    return None


def _weight_files(folder: Path) -> list[Path]:
    return [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]


def load_model(folder: str | Path, dtype: str = "auto", *, device: str = "cpu") -> PreTrainedModel:
    """A model folder in plain transformers with SDPA attention; an adapter is merged into its base.

    Raises:
        CheckpointError: it cannot be loaded, or weights are missing.
    """
    from transformers import AutoModelForCausalLM

    folder = Path(folder)
    options: dict[str, Any] = {"device_map": {"": device}} if device != "cpu" else {}
    if kind_of(folder) == "adapter":
        return _merge_adapter(folder, dtype, device)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot load the model: {str(error).splitlines()[0][:300]}", where=str(folder)
        ) from error
    model, info = loaded
    _refuse_missing(info, folder)
    return model.eval()


def _refuse_missing(info: dict[str, Any], folder: Path) -> None:
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(f"{len(missing)} weights are missing: {', '.join(missing[:5])}", where=str(folder))


def _merge_adapter(folder: Path, dtype: str, device: str) -> PreTrainedModel:
    import torch

    try:
        import peft
    except ImportError as error:
        raise missing_package("peft", "lora", "merging an adapter") from error
    described = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = described.get("base_model_name_or_path")
    if not base:
        raise CheckpointError(
            "the adapter does not name its base model (it was trained on random weights, which are not kept)",
            where=str(folder / "adapter_config.json"),
            remedy="train adapters on a checkpoint, not with --from_scratch",
        )
    from transformers import AutoModelForCausalLM

    try:
        options: dict[str, Any] = {"device_map": {"": device}} if device != "cpu" else {}
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="sdpa", **options)
        merged = peft.PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot merge the adapter into {base!r}: {str(error).splitlines()[0][:300]}",
            where=str(folder),
            remedy="the base model must be where it was in training, or on the hub",
        ) from error
    if dtype == "auto":  # merged weights take the base's dtype; adapters were float32
        merged = merged.to(next(p.dtype for p in model.parameters() if p.dtype.is_floating_point))
    return merged.to(getattr(torch, dtype) if dtype != "auto" else merged.dtype).eval()


def _export_adapter(source: Path, target: Path, dtype: str) -> None:
    _save(_merge_adapter(source, dtype, "cpu"), target)


def _export_deepspeed(source: Path, target: Path, dtype: str) -> None:
    """Joins the partitions of all ranks into float32 weights, then saves them in `dtype` (auto: float32)."""
    try:
        from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_fp32_state_dict
    except ImportError as error:
        raise missing_package("deepspeed", "deepspeed", "joining a DeepSpeed checkpoint") from error
    config = next((p for p in (source / "config.json", source.parent / "config.json") if p.is_file()), None)
    if config is None:
        raise CheckpointError("a DeepSpeed checkpoint without config.json", where=str(source), remedy="copy it there")
    tag = None if (source / "latest").is_file() else _last_tag(source)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".joining-") as joined:
        convert_zero_checkpoint_to_fp32_state_dict(str(source), joined, safe_serialization=True, tag=tag)
        shutil.copy2(config, Path(joined) / "config.json")
        _save(load_model(joined, "float32" if dtype == "auto" else dtype), target)


def _last_tag(source: Path) -> str:
    tags = [path.name for path in source.glob("global_step*") if path.is_dir()]
    return max(tags, key=lambda name: int(re.sub(r"\D", "", name) or 0))


def _save(model: PreTrainedModel, target: Path) -> None:
    model.config.use_cache = True  # switched off in training; generation wants it
    model.save_pretrained(target, safe_serialization=True)


def _copy_companions(source: Path, target: Path, *, weights_saved: bool) -> None:
    """Tokenizer, templates and configuration, from the checkpoint or else from the run around it."""
    for pattern in COMPANIONS:
        found = [path for path in source.glob(pattern) if path.is_file()]
        found = found or [path for path in source.parent.glob(pattern) if path.is_file()]
        for path in found:
            if not (weights_saved and path.name in ("config.json", "generation_config.json")):
                shutil.copy2(path, target / path.name)


def _clean_config(path: Path) -> None:
    """Removes what plain transformers could not read: our attention names, and the cache switched off for training."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        if config.get(key) in OWN_BACKENDS:
            del config[key]
    config["use_cache"] = True
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_model(folder: Path) -> int:
    """Checks that every weight is finite and that `from_pretrained` finds all of them in their shapes.

    Returns:
        the number of weights (scalars) checked.

    Raises:
        CheckpointError: which one is missing, of another shape or not finite.
    """
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    scalars = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                tensor: torch.Tensor = tensors.get_tensor(name)
                scalars += tensor.numel()
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise CheckpointError(f"the weight {name} is not finite", where=str(path))
    try:
        # onto the meta device: names and shapes are matched, nothing is read into memory
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, device_map={"": "meta"}, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"does not load: {str(error).splitlines()[0][:300]}", where=str(folder)) from error
    _refuse_missing(loaded[1], folder)
    return scalars
