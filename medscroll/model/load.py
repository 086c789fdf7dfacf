"""Loading: configuration with its RoPE flags, tokenizer, the checks that vocabulary and positions fit, and the model.

How: `load_config` reads a hub id, a local folder or (from scratch only) a preset; `build_model` loads a checkpoint with
`from_pretrained` or makes random weights with `medscroll.model.random_weights`, then adds adapters.

Cost: without ZeRO-3 each rank holds one copy of the weights on its device. Under ZeRO-3 (an HfDeepSpeedConfig is alive)
parameters are partitioned as they are made: rank 0 maps the checkpoint files into memory and broadcasts one module at a
time, and random weights are drawn one parameter at a time, so no rank holds a full copy.
"""

from __future__ import annotations

import difflib
import logging
from typing import TYPE_CHECKING, Any

from medscroll.config.presets import is_preset, load_preset, preset_names
from medscroll.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from medscroll.config.arguments import AdapterArguments, ModelArguments

logger = logging.getLogger(__name__)

POSITION_FLAGS = "--rope_scaling linear|yarn with --rope_factor, --rope_theta, --max_position_embeddings"
# RoPE types whose frequencies depend on the longest position of the row, that is, on the other documents in it.
ROW_DEPENDENT_ROPE = ("dynamic", "longrope")


def load_config(
    args: ModelArguments,
    *,
    vocab_size: int | None = None,
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
) -> PretrainedConfig:
    """The configuration of the model that a run trains.

    Args:
        args: model flags; `model_name_or_path` is a hub id, a local folder or a preset.
        vocab_size: entries that the tokenizer or token store needs; sizes the embedding of small presets.
        bos_token_id, eos_token_id: the tokenizer's, written into small presets.

    Raises:
        ConfigError: no model given, a preset without `--from_scratch`, a model that cannot be found, RoPE flags that
            contradict each other or the model.
    """
    name = args.model_name_or_path
    if not name:
        raise ConfigError("no model given", where="--model_name_or_path", remedy="a hub id, a local folder or a preset")
    if is_preset(name):
        config = _preset_config(name, args.from_scratch, vocab_size, bos_token_id, eos_token_id)
    else:
        config = _pretrained_config(args)
    _apply_rope_flags(config, args)
    return config


def _preset_config(
    name: str, from_scratch: bool, vocab_size: int | None, bos_token_id: int | None, eos_token_id: int | None
) -> PretrainedConfig:
    from transformers import CONFIG_MAPPING

    preset = load_preset(name)
    if not from_scratch:
        has = (
            f"the public checkpoint of that shape: --model_name_or_path {preset.checkpoint}"
            if preset.checkpoint
            else "no public checkpoint has that shape"
        )
        raise ConfigError(
            f"the preset {name!r} is a shape without weights",
            where="--model_name_or_path",
            remedy=f"{has}; or random weights: --from_scratch",
        )
    values = dict(preset.config)
    if preset.vocabulary == "tokenizer":
        own = {"vocab_size": vocab_size, "bos_token_id": bos_token_id, "eos_token_id": eos_token_id}
        values |= {key: value for key, value in own.items() if value is not None}
    return CONFIG_MAPPING[values.pop("model_type")](**values)


def _pretrained_config(args: ModelArguments) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            str(args.model_name_or_path),
            cache_dir=args.cache_dir,
            revision=args.model_revision,
            trust_remote_code=args.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise _not_found("configuration", str(args.model_name_or_path), "--model_name_or_path", error) from error


def _not_found(what: str, name: str, flag: str, error: BaseException) -> ConfigError:
    detail = str(error).strip().splitlines()[0][:300]
    if "trust_remote_code" in str(error):
        remedy = "the model brings its own code: read it, then pass --trust_remote_code"
    else:
        remedy = "give a local folder in Hugging Face layout, a hub id that is reachable or cached, or a preset"
        near = difflib.get_close_matches(name, preset_names(), n=2, cutoff=0.6)
        remedy += f" (did you mean {' or '.join(near)}?)" if near else ""
    return ConfigError(f"cannot load the {what} of {name!r}: {detail}", where=flag, remedy=remedy)


def _apply_rope_flags(config: PretrainedConfig, args: ModelArguments) -> None:
    """Writes the RoPE flags into `rope_parameters` and `max_position_embeddings`, as transformers 5 reads them."""
    text = config.get_text_config()
    scaling, factor = args.rope_scaling, args.rope_factor
    theta, positions = args.rope_theta, args.max_position_embeddings
    present = getattr(text, "rope_parameters", None) or {}
    nested = any(isinstance(value, dict) for value in present.values())
    types = {value.get("rope_type") for value in present.values() if isinstance(value, dict)} if nested else set()
    present_type = present.get("rope_type", "default")
    _refuse_row_dependent({scaling, present_type, *types})
    if scaling is None and factor is not None:
        raise ConfigError("--rope_factor is given without --rope_scaling", remedy="--rope_scaling linear or yarn")
    if scaling is None and theta is None and positions is None:
        return
    if not present:
        raise ConfigError(
            f"a {config.model_type} model has no rotary embedding to extend",
            where="--rope_scaling, --rope_theta, --max_position_embeddings",
            remedy=f"--block_size up to {_positions(config)}, or another model",
        )
    if nested and (scaling or theta):
        raise ConfigError(
            f"a {config.model_type} model has RoPE parameters of its own for each layer type",
            where="--rope_scaling, --rope_theta",
            remedy="edit rope_parameters in its config.json; --max_position_embeddings is accepted here",
        )
    before = text.max_position_embeddings
    if theta is not None:
        present["rope_theta"] = float(theta)
    if scaling is not None:
        if present_type != "default":
            raise ConfigError(
                f"the model already scales its positions (rope_type {present_type})",
                where=f"--rope_scaling {scaling}",
                remedy="--max_position_embeddings and --rope_theta are accepted, or edit its config.json",
            )
        factor = _factor(factor, positions, before)
        present |= {"rope_type": scaling, "factor": factor}
        if scaling == "yarn":
            present["original_max_position_embeddings"] = before
        positions = positions or int(before * factor)
    text.rope_parameters = present
    if positions is not None:
        text.max_position_embeddings = int(positions)


def _refuse_row_dependent(types: set[str | None]) -> None:
    for kind in ROW_DEPENDENT_ROPE:
        if kind in types:
            raise ConfigError(
                f"RoPE of type {kind!r} depends on the longest document in a row, so packed documents would change "
                "each other's positions",
                where="--rope_scaling" if kind == "dynamic" else "rope_parameters of the model",
                remedy="--rope_scaling yarn or linear with --rope_factor"
                if kind == "dynamic"
                else "a model with another RoPE type",
            )


def _factor(factor: float | None, positions: int | None, before: int) -> float:
    if factor is None and positions is not None:
        factor = positions / before
    if factor is None or factor <= 1:
        raise ConfigError(
            "RoPE scaling needs a factor above 1",
            where="--rope_factor",
            remedy=f"--rope_factor 4 makes {before:,} positions {4 * before:,}",
        )
    return float(factor)


def _positions(config: PretrainedConfig) -> int | None:
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def extend_by_theta(config: PretrainedConfig, args: ModelArguments, block_size: int | None) -> str | None:
    """Makes the positions reach the block where a new RoPE base alone is asked for; says so, or None where nothing is.

    A base is chosen for a length, and rotary embeddings have no table that ends; a factor or a number of positions
    says its own length instead.
    """
    text = config.get_text_config()
    limit = _positions(config)
    own_length = args.rope_scaling is not None or args.max_position_embeddings is not None
    if args.rope_theta is None or own_length or block_size is None or limit is None or block_size <= limit:
        return None
    text.max_position_embeddings = int(block_size)
    return f"positions {limit:,} -> {block_size:,}: --rope_theta {args.rope_theta:g} extends them to the block"


def check_positions(config: PretrainedConfig, longest_piece: int) -> None:
    """Checks that the model has a position for every token of the longest piece (tokens, context tokens included).

    The block may be longer than the model's positions (they restart in it), and the tokenizer's `model_max_length`
    bounds nothing here.

    Raises:
        ConfigError: it has not; the three flags that extend positions are named.
    """
    limit = _positions(config)
    if limit is not None and longest_piece > limit:
        raise ConfigError(
            f"the longest piece of a document has {longest_piece:,} tokens, the model has {limit:,} positions",
            where="--block_size",
            remedy=f"--block_size {limit} divides longer documents; or extend the positions: {POSITION_FLAGS}",
        )


def check_vocabulary(tokenizer_or_store_vocab: Any, config: PretrainedConfig) -> None:
    """Checks that every token id has an embedding row; a larger embedding (padded to a round number) is fine.

    Args:
        tokenizer_or_store_vocab: a number of entries, a tokenizer, or a token store (`vocab_size`).

    Raises:
        ConfigError: the vocabulary has more entries than the embedding.
    """
    vocabulary = tokenizer_or_store_vocab
    if not isinstance(vocabulary, int):
        is_store = hasattr(vocabulary, "num_tokens")
        vocabulary = int(vocabulary.vocab_size) if is_store else len(vocabulary)
    rows = config.get_text_config().vocab_size
    if vocabulary > rows:
        raise ConfigError(
            f"the tokenizer has {vocabulary:,} entries, the model's embedding {rows:,}: they do not fit",
            where="--tokenizer_name_or_path and --model_name_or_path",
            remedy="prepare the texts with the tokenizer of the model that is to be trained",
        )


def load_tokenizer(
    name: str, *, trust_remote_code: bool = False, cache_dir: str | None = None, revision: str = "main"
) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or hub id.

    Raises:
        ConfigError: it cannot be found, or `name` is a preset, which has none.
    """
    from transformers import AutoTokenizer

    if is_preset(name):
        checkpoint = load_preset(name).checkpoint
        raise ConfigError(
            f"the preset {name!r} has no tokenizer",
            where="--tokenizer_name_or_path",
            remedy=f"for example --tokenizer_name_or_path {checkpoint or '01-ai/Yi-6B'}",
        )
    try:
        return AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust_remote_code, cache_dir=cache_dir, revision=revision
        )
    except (OSError, ValueError) as error:
        raise _not_found("tokenizer", name, "--tokenizer_name_or_path", error) from error


def build_model(
    args: ModelArguments,
    adapters: AdapterArguments,
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    attn_backend: str,
    seed: int,
    gradient_checkpointing: bool,
) -> Any:
    """The model to train: loaded or random, with adapters where asked, in train mode.

    Under ZeRO-3 (an HfDeepSpeedConfig is alive and the process group exists) parameters are partitioned while they are
    made, all ranks take part, and their dtype is the one of the DeepSpeed configuration. Otherwise no collective runs
    and the weights lie on `device`: random ones are drawn there, never on the CPU for a GPU.

    Args:
        dtype: of the weights.
        device: where the weights lie without ZeRO-3.
        attn_backend: a name of `medscroll.model.attention.LADDER`, or any attention that transformers knows.
        seed: of random weights; the same seed gives the same weights on any number of ranks and at any ZeRO stage.
        gradient_checkpointing: recompute activations in the backward pass (non-reentrant).

    Returns:
        a PreTrainedModel, or a PeftModel around it.

    Raises:
        ConfigError, CheckpointError, EnvironmentError_: what is missing and what to do.
    """
    import torch

    from medscroll.model import adapters as adapter_room
    from medscroll.model import kernels
    from medscroll.model.random_weights import build_random

    kernels.register()
    attn_backend = kernels.implementation_of(attn_backend)
    device = torch.device(device)
    adapter_room.check_adapters(adapters, from_scratch=args.from_scratch, device=device)
    if args.from_scratch:
        model = build_random(
            config,
            dtype=dtype,
            device=device,
            attn_backend=attn_backend,
            seed=seed,
            trust_remote_code=args.trust_remote_code,
        )
    else:
        quantization = adapter_room.quantization_config(adapters, dtype)
        model = _load_pretrained(
            args, config, dtype=dtype, device=device, attn_backend=attn_backend, quantization=quantization
        )
    model.config.use_cache = False
    model.train()
    if gradient_checkpointing:
        enable_gradient_checkpointing(model)
    if adapters.use_peft:
        model = adapter_room.add_adapters(model, adapters, seed=seed, gradient_checkpointing=gradient_checkpointing)
    return model


def enable_gradient_checkpointing(model: PreTrainedModel) -> None:
    """Turns on non-reentrant gradient checkpointing under the name that this transformers has for it.

    Raises:
        ConfigError: the architecture has none.
    """
    # transformers 5.2x renames gradient_checkpointing_enable; the old name warns there and is all that 5.17 has
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(str(error), where="--gradient_checkpointing", remedy="--no_gradient_checkpointing") from error


def _load_pretrained(
    args: ModelArguments,
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attn_backend: str,
    quantization: Any,
) -> PreTrainedModel:
    """`from_pretrained`, straight to the device; weights that the checkpoint lacks are an error, never random."""
    from transformers import AutoModelForCausalLM
    from transformers.integrations import is_deepspeed_zero3_enabled

    from medscroll.model.random_weights import restore_rope_buffers

    options: dict[str, Any] = {}
    if not is_deepspeed_zero3_enabled() and device.type == "cuda":
        options["device_map"] = {"": device}
    if quantization is not None:
        options["quantization_config"] = quantization
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(args.model_name_or_path),
            config=config,
            dtype=dtype,
            attn_implementation=attn_backend,
            cache_dir=args.cache_dir,
            revision=args.model_revision,
            trust_remote_code=args.trust_remote_code,
            output_loading_info=True,
            **options,
        )
    except OSError as error:
        raise _not_found("weights", str(args.model_name_or_path), "--model_name_or_path", error) from error
    model, info = loaded
    restore_rope_buffers(model)
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} of the model's weights: {', '.join(missing[:5])}",
            where=str(args.model_name_or_path),
            remedy="a complete checkpoint, or --from_scratch for random weights",
        )
    unexpected = sorted(info["unexpected_keys"])
    if unexpected:
        shown = ", ".join(unexpected[:5])
        logger.warning("%d weights of the checkpoint are not part of the model: %s", len(unexpected), shown)
    return model
