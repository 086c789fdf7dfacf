"""LoRA and QLoRA adapters through peft, quantisation through bitsandbytes; both packages are optional.

How: `check_adapters` refuses combinations that cannot run before anything is loaded; `add_adapters` wraps the model.
Cost: LoRA of rank r adds r x (inputs + outputs) parameters a linear layer; a 4-bit base takes 0.55 bytes a weight.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medscroll.errors import ConfigError, EnvironmentError_, missing_package

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from medscroll.config.arguments import AdapterArguments


def is_quantized(adapters: AdapterArguments) -> bool:
    """Whether the base model is loaded in 4 or 8 bits."""
    return adapters.qlora or adapters.load_in_4bit or adapters.load_in_8bit


def check_adapters(adapters: AdapterArguments, *, from_scratch: bool, device: torch.device) -> None:
    """Checks the adapter flags against each other, the installed packages and the device.

    Raises:
        ConfigError: contradicting flags (all at once), or quantised weights under ZeRO-3.
        EnvironmentError_: peft or bitsandbytes missing, or no GPU for quantised weights.
    """
    problems = []
    if is_quantized(adapters):
        flag = "--qlora" if adapters.qlora else "--load_in_4bit" if adapters.load_in_4bit else "--load_in_8bit"
        problems += _quantized_problems(adapters, flag, from_scratch)
    if adapters.peft_path and not adapters.use_peft:
        problems.append(ConfigError("--peft_path is given without --use_peft", remedy="--use_peft"))
    if adapters.peft_path and not (Path(adapters.peft_path) / "adapter_config.json").is_file():
        problems.append(
            ConfigError(f"no adapter in {adapters.peft_path}", where="--peft_path", remedy="a folder saved by peft")
        )
    if problems:
        raise ConfigError.collect(problems)
    if adapters.use_peft and importlib.util.find_spec("peft") is None:
        raise missing_package("peft", "lora", "--use_peft")
    if is_quantized(adapters):
        if device.type != "cuda":
            raise EnvironmentError_(
                f"{flag} needs an NVIDIA GPU, and this run is on {device.type}",
                where=flag,
                remedy="leave it out: --use_peft alone trains LoRA on full-precision weights",
            )
        if importlib.util.find_spec("bitsandbytes") is None:
            raise missing_package("bitsandbytes", "qlora", flag)


def _quantized_problems(adapters: AdapterArguments, flag: str, from_scratch: bool) -> list[ConfigError]:
    from transformers.integrations import is_deepspeed_zero3_enabled

    problems = []
    if adapters.load_in_8bit and (adapters.load_in_4bit or adapters.qlora):
        problems.append(ConfigError("4-bit and 8-bit weights at once", where="--load_in_8bit", remedy="choose one"))
    if not adapters.use_peft:
        problems.append(
            ConfigError(f"{flag} without an adapter: quantised weights cannot be trained", remedy="add --use_peft")
        )
    if from_scratch:
        problems.append(ConfigError(f"{flag} quantises a checkpoint; --from_scratch has none"))
    if is_deepspeed_zero3_enabled():
        problems.append(
            ConfigError(
                f"{flag} under ZeRO-3: DeepSpeed partitions weights that bitsandbytes has packed",
                where="--deepspeed",
                remedy="--deepspeed zero2 with quantised weights, or zero3 with LoRA on full-precision weights",
            )
        )
    return problems


def quantization_config(adapters: AdapterArguments, dtype: torch.dtype) -> Any:
    """transformers' BitsAndBytesConfig (4 bits: NF4, double quantisation, arXiv:2305.14314); None if not quantised."""
    if not is_quantized(adapters):
        return None
    from transformers import BitsAndBytesConfig

    if adapters.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.bfloat16 if dtype == torch.float32 else dtype
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def add_adapters(model: PreTrainedModel, adapters: AdapterArguments, *, seed: int, gradient_checkpointing: bool) -> Any:
    """The PeftModel around `model`: a new LoRA, or the one of `peft_path` to go on with.

    New adapter weights depend on `seed` alone; the global random state is left as it was. Adapter weights are float32
    where the base is bfloat16 or float16 (peft's default). Of a quantised base the embeddings, norms and lm_head keep
    their half precision: peft's `prepare_model_for_kbit_training` would make them float32, and with them the row of
    hidden states, twice the bytes of every stored layer input. RMSNorm computes in float32 in any case.

    Raises:
        ConfigError: target modules that the model does not have.
    """
    import peft

    if is_quantized(adapters):
        model.requires_grad_(False)  # 4-bit weights are frozen by their class, embeddings and norms here
    if gradient_checkpointing:
        model.enable_input_require_grads()
    if adapters.peft_path:
        return peft.PeftModel.from_pretrained(model, adapters.peft_path, is_trainable=True)
    config = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=adapters.lora_rank,
        lora_alpha=adapters.lora_alpha,  # type: ignore[arg-type]  # peft divides it by r
        lora_dropout=adapters.lora_dropout,
        target_modules="all-linear" if adapters.target_modules == "all" else _names(adapters.target_modules),
        modules_to_save=_names(adapters.modules_to_save) or None,
        bias="none",
    )
    indices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=indices):
            torch.manual_seed(seed)
            return peft.get_peft_model(model, config)
    except ValueError as error:
        linear = sorted({n.split(".")[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
        raise ConfigError(
            f"adapters cannot be placed: {str(error).splitlines()[0][:200]}",
            where="--target_modules, --modules_to_save",
            remedy=f"all, or a comma list of: {', '.join(linear)}",
        ) from error


def _names(listed: str | None) -> list[str]:
    return [name.strip() for name in (listed or "").split(",") if name.strip()]
