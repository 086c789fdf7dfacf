"""The parameters of a model as its engine sees them: name, elements, trained or frozen, with weight decay or without.

How: the model is built on the meta device at two and three layers (with adapters where there are any); what the third
layer adds is the list of one layer, so any number of layers follows without building them. Where layers differ, the
whole model is built. Cost: 0.1 to 0.5 seconds a model, remembered.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medscroll.errors import missing_package
from medscroll.planning.candidate import TrainingSetup

# transformers' Trainer: parameters with these words in their names take no weight decay (a group of their own)
_UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


@dataclass(frozen=True)
class ParameterShape:
    """One parameter.

    Attributes:
        name: as in `named_parameters`.
        module: the module that holds it; parameters of one module are fetched together under ZeRO-3.
        numel: its elements.
        trained: whether it has a gradient.
        decays: whether weight decay applies; the two kinds are two groups of the optimizer.
    """

    name: str
    module: str
    numel: int
    trained: bool
    decays: bool


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the notices of transformers and peft about a model that is only looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def config_text(setup: TrainingSetup) -> str:
    """The configuration of the model as text that caches can hold."""
    from medscroll.planning.step_on_meta import config_to_json

    return config_to_json(setup.config)


def parameters_of(setup: TrainingSetup) -> tuple[ParameterShape, ...]:
    """The parameters of a setup's model in the order of `named_parameters`, adapters included."""
    return parameter_shapes(config_text(setup), setup.lora_rank, setup.lora_targets)


def trained(setup: TrainingSetup) -> int:
    """Parameters that have gradients."""
    if not setup.lora_rank:
        return setup.parameters
    return trained_parameters(config_text(setup), setup.lora_rank, setup.lora_targets)


@functools.lru_cache(maxsize=64)
def trained_parameters(config: str, rank: int, targets: str) -> int:
    """Elements of all parameters that have gradients."""
    return sum(item.numel for item in parameter_shapes(config, rank, targets) if item.trained)


@functools.lru_cache(maxsize=32)
def parameter_shapes(config: str, rank: int, targets: str) -> tuple[ParameterShape, ...]:
    """See `parameters_of`.

    Args:
        config: JSON of the configuration (`config_text`).
        rank, targets: of LoRA adapters; rank 0: none.

    Raises:
        EnvironmentError_: adapters without peft.
    """
    if rank and importlib.util.find_spec("peft") is None:
        raise missing_package("peft", "lora", "a plan with --use_peft")
    values = json.loads(config)
    layers = int(values.get("num_hidden_layers") or values.get("text_config", {}).get("num_hidden_layers", 0))
    kinds = values.get("layer_types")
    if layers > 3 and (kinds is None or len(set(kinds)) == 1):
        found = _from_layers(_built(config, rank, targets, 2), _built(config, rank, targets, 3), layers)
        if found is not None:
            return found
    return _built(config, rank, targets, None)


def _from_layers(
    two: tuple[ParameterShape, ...], three: tuple[ParameterShape, ...], layers: int
) -> tuple[ParameterShape, ...] | None:
    """The list for `layers` layers from those for two and three; None where it does not grow by one block."""
    names = {item.name for item in two}
    added = [item for item in three if item.name not in names]
    places = {match[1] for item in added if (match := re.match(r"(.*?\.)2\.", item.name))}
    if len(places) != 1 or [item for item in three if item.name in names] != list(two):
        return None
    before = places.pop()
    last = max(index for index, item in enumerate(two) if item.name.startswith(f"{before}1."))
    found = list(two[: last + 1])
    for layer in range(2, layers):
        old, new = f"{before}2.", f"{before}{layer}."
        found += [
            ParameterShape(
                item.name.replace(old, new, 1), item.module.replace(old, new, 1), item.numel, item.trained, item.decays
            )
            for item in added
        ]
    return (*found, *two[last + 1 :])


def _built(config: str, rank: int, targets: str, layers: int | None) -> tuple[ParameterShape, ...]:
    from medscroll.planning.step_on_meta import StepShape, build_on_meta

    shape = StepShape(config, 8, lora_rank=rank, lora_targets=targets, liger=False, fused_loss=False)
    with quiet():
        model: Any = build_on_meta(shape, layers)
    return tuple(
        ParameterShape(
            name, name.rpartition(".")[0], item.numel(), item.requires_grad, _UNDECAYED.search(name.lower()) is None
        )
        for name, item in model.named_parameters()
    )
