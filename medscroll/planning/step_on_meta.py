"""One micro step (forward, loss, backward) of the real model class on the meta device, with its live bytes by region.

How: the model is built at two and three layers (at its own number where its layers differ), with adapters, quantised
weights and Liger's kernels as the run would have them, and run under `LiveBytes`. Hooks of the decoder layers name the
region: forward pass, loss, backward pass of each layer. Whatever a region holds grows by a constant with the number of
layers, so two runs give every number of layers exactly. Full recomputation is torch's own checkpointing, run for real.

Cost: 0.3 to 1 second a setup, independent of the model's size; results are remembered.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from medscroll.model.loss_in_portions import LossInPortions
from medscroll.model.recompute import keep_policy, layers_of
from medscroll.model.tiled_mlp import tile_mlps
from medscroll.planning import stand_ins
from medscroll.planning.live_bytes import LiveBytes, RegionPeak
from medscroll.planning.unpatched import without_liger


@dataclass(frozen=True)
class StepShape:
    """What decides the live bytes of a micro step; the arguments of `live_regions`.

    Attributes:
        config: the transformers configuration as JSON.
        tokens: of the row.
        keep: what of a layer is kept for the backward pass: none (nothing is recomputed), linear, mlp, attention or
            full (the layer's input alone), as in `medscroll.model.activation_levels`.
        weight_dtype, compute_dtype: they differ under autocast.
        lora_rank, lora_targets, lora_dtype: adapters; 0: none.
        quantized: whether frozen linear layers are unpacked for each product.
        liger, fused_loss: Liger's norm and MLP; the loss in chunks without logits.
        portions: the fused loss is that of `medscroll.model.loss_in_portions`, whatever `liger` says.
        tiled: whether MLPs work on a tile of tokens at a time.
        autocast: whether the engine computes under autocast where dtypes differ: the Trainer does, DeepSpeed does not.
        accumulators: what attention's backward pass allocates in float32: see
            `stand_ins.ACCUMULATORS`.
    """

    config: str
    tokens: int
    keep: str = "none"
    weight_dtype: torch.dtype = torch.bfloat16
    compute_dtype: torch.dtype = torch.bfloat16
    lora_rank: int = 0
    lora_targets: str = "all"
    lora_dtype: torch.dtype = torch.float32
    quantized: bool = False
    liger: bool = True
    fused_loss: bool = True
    accumulators: str = "grouped"
    tiled: bool = False
    autocast: bool = True
    portions: bool = False

    @property
    def autocasts(self) -> bool:
        """Whether products see other dtypes than the weights have; DeepSpeed never does that."""
        if not self.autocast:
            return False
        mixed = self.weight_dtype != self.compute_dtype
        return mixed or (self.lora_rank > 0 and self.lora_dtype != self.compute_dtype)


@dataclass(frozen=True)
class Regions:
    """Region -> peak, for a number of layers, and what was found out on the way."""

    peaks: dict[str, RegionPeak]
    layer_input: int
    notes: tuple[str, ...] = ()


class _Autocast(TorchFunctionMode):
    """Autocast of matrix products on the meta device, with its cache of cast weights (dropped after the forward)."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.caching = dtype, True
        self.cache: dict[int, torch.Tensor] = {}
        self.functions = {nn.functional.linear, torch.matmul, torch.Tensor.matmul, torch.bmm}

    def _cast(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        if not (self.caching and value.is_leaf and value.requires_grad):
            return value.to(self.dtype)
        if id(value) not in self.cache:
            self.cache[id(value)] = value.to(self.dtype)
        return self.cache[id(value)]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.functions:
            args = tuple(self._cast(value) for value in args)
        return func(*args, **(kwargs or {}))


class _SecondRun(contextlib.AbstractContextManager[None]):
    """Autocast, its cache its own, around what a checkpointed layer computes again: torch drops modes in `backward`."""

    def __init__(self, inner: Any, autocast: _Autocast | None) -> None:
        self.inner, self.autocast = inner, autocast

    def __enter__(self) -> None:
        if self.autocast is not None:
            self.autocast.__enter__()
        self.inner.__enter__()

    def __exit__(self, *problem: Any) -> None:
        self.inner.__exit__(*problem)
        if self.autocast is not None:
            self.autocast.__exit__(*problem)
            self.autocast.cache.clear()


def _policy(context: Any, operator: Any, *args: Any, keep: str, width: int, **kwargs: Any) -> Any:
    """The run's own policy (`keep_policy`), to which the stand-in is an attention operator."""
    if str(operator).startswith("medscroll_planner.attention"):
        return CheckpointPolicy.MUST_SAVE
    return keep_policy(context, operator, *args, keep=keep, width=width, **kwargs)


def _contexts(shape: StepShape, width: int) -> tuple[Any, Any]:
    """Contexts of a checkpointed layer's first and second run."""
    first, second = contextlib.nullcontext(), contextlib.nullcontext()
    if shape.keep != "full":
        chosen = functools.partial(_policy, keep=shape.keep, width=width)
        first, second = create_selective_checkpoint_contexts(chosen)
    return first, _SecondRun(second, _autocast_again(shape))


def _tile_contexts(shape: StepShape) -> tuple[Any, Any]:
    """The same of a tile of an MLP, which keeps its input alone."""
    return contextlib.nullcontext(), _SecondRun(contextlib.nullcontext(), _autocast_again(shape))


def _autocast_again(shape: StepShape) -> _Autocast | None:
    return _Autocast(shape.compute_dtype) if shape.autocasts else None


def _recompute(model: Any, shape: StepShape) -> None:
    """Checkpoint the decoder layers as `medscroll.model.recompute.apply_level` does."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False, "preserve_rng_state": False})
    width = int(getattr(model.config.get_text_config(), "intermediate_size", None) or 0)
    contexts = functools.partial(_contexts, shape, width)
    run = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    layers = layers_of(model)
    if shape.tiled:
        tile_mlps(layers, f"{shape.keep}_tiled")
        for layer in layers:
            layer.mlp.tile_contexts = functools.partial(_tile_contexts, shape)  # type: ignore[union-attr, assignment]
    for layer in layers:
        layer._gradient_checkpointing_func = run  # type: ignore[assignment]


def build_on_meta(shape: StepShape, layers: int | None = None) -> nn.Module:
    """The model of a shape on the meta device, with `layers` layers, adapters and stand-ins; in train mode."""
    from transformers import AutoModelForCausalLM

    config = config_from_json(shape.config)
    text = config.get_text_config()
    if layers is not None:
        text.num_hidden_layers = layers
        kinds = getattr(text, "layer_types", None)
        if kinds:
            text.layer_types = list(kinds)[:layers]
    stand_ins.register_attention()
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=shape.weight_dtype, attn_implementation=stand_ins.ATTENTION
        )
    without_liger(model)
    model.config.use_cache = False
    model.train()
    for module in model.modules():
        module.planner_attention = (shape.compute_dtype, shape.accumulators)
    if shape.keep != "none":
        _recompute(model, shape)
    if shape.lora_rank:
        model = add_lora(model, shape)
    if shape.quantized:
        stand_ins.quantise(model)
    if shape.liger:
        stand_ins.use_liger(model, fused_loss=shape.fused_loss and not shape.portions, compute=shape.compute_dtype)
    return model


def add_lora(model: Any, shape: StepShape) -> Any:
    """The PeftModel around a model on the meta device, with adapters of the run's dtype."""
    import peft

    model.enable_input_require_grads()
    targets: Any = "all-linear" if shape.lora_targets == "all" else shape.lora_targets.split(",")
    config = peft.LoraConfig(task_type=peft.TaskType.CAUSAL_LM, r=shape.lora_rank, target_modules=targets)
    with torch.device("meta"):
        wrapped = peft.get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(shape.lora_dtype)
    return wrapped


def config_from_json(text: str) -> Any:
    """A transformers configuration from the JSON of its `to_dict`."""
    from transformers import CONFIG_MAPPING

    values = json.loads(text)
    return CONFIG_MAPPING[values.pop("model_type")](**values)


def config_to_json(config: Any) -> str:
    """The JSON that `config_from_json` reads; keys sorted, so that equal configurations give equal text."""
    return _to_json(_Config(repr(vars(config)), config))


class _Config:
    """A configuration that a cache compares by its values: a search asks thousands of times, and the text is slow."""

    def __init__(self, values: str, config: Any) -> None:
        self.values, self.config = values, config

    def __hash__(self) -> int:
        return hash(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Config) and type(self.config) is type(other.config) and self.values == other.values


@functools.lru_cache(maxsize=64)
def _to_json(asked: _Config) -> str:
    values = copy.deepcopy(asked.config.to_dict())
    for name in ("transformers_version", "_name_or_path", "architectures", "quantization_config"):
        values.pop(name, None)
    return json.dumps(values, sort_keys=True, default=str)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The repeated layers of a decoder: the longest list of modules of one class; empty where there is none."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) > 0]
    lists = [found for found in lists if len({type(item) for item in found}) == 1]
    best = max(lists, key=len, default=None)
    if best is None:
        return []
    sizes = {tuple(tuple(p.shape) for p in item.parameters()) for item in best}
    return list(best) if len(sizes) == 1 else []


@functools.lru_cache(maxsize=512)
def live_regions(shape: StepShape, layers: int) -> Regions:
    """The peaks of every region for a model of `layers` layers; see the module's first lines."""
    kinds = json.loads(shape.config).get("layer_types")
    alike = kinds is None or len(set(kinds)) == 1
    if alike:
        low, high = run_step(shape, 2), run_step(shape, 3)
        if low is not None and high is not None:
            return _extrapolate(low, high, layers)
    whole = run_step(shape, layers)
    if whole is None:
        whole = run_step(shape, layers, structured=False)
    assert whole is not None
    note = "layers of this model differ or are not recognised: live bytes are those of the whole model, layer by layer"
    return Regions(whole.peaks, whole.layer_input, (note,))


def _extrapolate(low: Regions, high: Regions, layers: int) -> Regions:
    steps, peaks = layers - 2, {}
    for region, first in low.peaks.items():
        second = high.peaks.get(region, first)

        def along(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
            kinds = a.keys() | b.keys()
            return {k: a.get(k, 0) + steps * (b.get(k, 0) - a.get(k, 0)) for k in kinds}

        live, kept = along(first.live, second.live), along(first.kept_live, second.kept_live)
        gradients = first.kept_gradients + steps * (second.kept_gradients - first.kept_gradients)
        peaks[region] = RegionPeak.of(live, kept, gradients)
    return Regions(peaks, low.layer_input)


def run_step(shape: StepShape, layers: int, structured: bool = True) -> Regions | None:
    """Run one micro step on the meta device; None where the model's layers are not recognised."""
    model = build_on_meta(shape, layers)
    found = decoder_layers(model)
    if structured and len(found) != layers:
        return None
    vocabulary = config_from_json(shape.config).get_text_config().vocab_size
    meter = LiveBytes(vocabulary)
    meter.ignore(iter([*model.parameters(), *model.buffers()]))
    ids = torch.empty(1, shape.tokens, dtype=torch.int64, device="meta")
    autocast = _Autocast(shape.compute_dtype) if shape.autocasts else None
    handles = [p.register_post_accumulate_grad_hook(meter.take_gradient) for p in model.parameters() if p.requires_grad]
    layer_input: list[int] = []
    if structured:
        _name_regions(found, meter, layer_input)
    with contextlib.ExitStack() as stack:
        if autocast is not None:
            stack.enter_context(autocast)
        stack.enter_context(meter)
        loss = _loss_in_portions(model, ids) if shape.portions else model(input_ids=ids, labels=ids).loss
        if autocast is not None:
            autocast.cache.clear()
            autocast.caching = False
        meter.region, meter.kind = "backward last" if structured else "backward", "recompute_workspace"
        with _quiet():
            loss.backward()
        del loss
        meter.region = "backward end"
        meter.sample()
    for handle in handles:
        handle.remove()
    return Regions(dict(meter.regions), layer_input[0] if layer_input else 0)


def _loss_in_portions(model: Any, ids: torch.Tensor) -> torch.Tensor:
    portions = LossInPortions(model)
    with portions.of(ids):
        return portions.loss(model(input_ids=ids, use_cache=False), ids)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _name_regions(layers: list[nn.Module], meter: LiveBytes, layer_input: list[int]) -> None:
    """Hooks that tell the meter which layer the step is in, in both directions."""
    last = len(layers) - 1

    def entering(_: nn.Module, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        if not layer_input:
            layer_input.append(hidden.numel() * hidden.element_size())

    def leaving(index: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if index == last and meter.region == "forward":
                meter.region = "loss"
            if hidden.requires_grad and meter.region in ("forward", "loss"):
                hidden.register_hook(lambda grad: _enter_backward(index))

        return hook

    def _enter_backward(index: int) -> None:
        meter.region = {last: "backward last", 0: "backward first"}.get(index, "backward between")
        meter.kind = "recompute_workspace"

    layers[0].register_forward_pre_hook(entering, with_kwargs=True)
    for index, layer in enumerate(layers):
        layer.register_forward_hook(leaving(index))
