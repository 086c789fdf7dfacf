"""Every level of activation memory gives the gradients of the plain backward pass, and keeps what its name says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from medscroll.errors import ConfigError
from medscroll.model import kernels
from medscroll.model.activation_levels import parse_level
from medscroll.model.recompute import ATTENTION_OPERATORS, apply_level
from medscroll.model.tiled_mlp import _Tiled, can_tile, tile_mlps
from tests.model.shapes import documents, pack_row, summed_loss, tiny_config
from tests.model.storages import Storages

LAYERS = 4
LEVELS = [
    "none", "linear", "linear_2", "mlp", "mlp_1", "attention", "full", "every_2", "every_3",
    "linear_offload", "attention_offload", "full_offload", "every_2_offload",
    "attention_tiled", "full_tiled", "every_2_tiled", "full_offload_tiled", "every_3_offload_tiled",
    "linear_1_offload_3", "full_offload_1", "every_2_offload_1_tiled",
]  # fmt: skip


def build(kind: str = "llama", **changes: Any) -> Any:
    """A tiny model with wide enough MLPs that products of the MLP can be told from others."""
    from transformers import AutoModelForCausalLM

    kernels.register()
    torch.manual_seed(3)
    shape = {"num_hidden_layers": LAYERS, "hidden_size": 160, "intermediate_size": 224, **changes}
    config = tiny_config(kind, num_attention_heads=4, num_key_value_heads=2, **shape)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=kernels.PER_DOCUMENT)
    return model.train()


class Count(TorchDispatchMode):
    """Counts the attention operators and the matrix products that run."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = self.products = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name
        self.attention += name in ATTENTION_OPERATORS
        self.products += name in ("aten::mm", "aten::addmm")
        return function(*args, **(kwargs or {}))


def train(level: str, *, tile: int | None = None) -> tuple[float, list[torch.Tensor], Count]:
    """Loss, gradients, and the operators counted in forward and backward."""
    model = build()
    parsed = parse_level(level)
    apply_level(model, parsed)
    if tile is not None:
        for module in model.modules():
            if isinstance(module, _Tiled):
                module.tile_tokens = tile
    with Count() as count:
        loss = summed_loss(model, pack_row(documents([37, 1, 64, 19])))
        loss.backward()
    return loss.item(), [parameter.grad.clone() for parameter in model.parameters()], count


@pytest.fixture(scope="module")
def plain() -> Any:
    return train("none")


@pytest.mark.parametrize("level", LEVELS)
def test_gradients_are_those_of_the_plain_backward_pass(level: str, plain: Any) -> None:
    loss, gradients, _ = train(level, tile=32 if "tiled" in level else None)
    assert loss == pytest.approx(plain[0], rel=1e-6)
    assert max(gradient.abs().max() for gradient in plain[1]) > 1  # the comparison is about something
    for ours, theirs in zip(gradients, plain[1], strict=True):
        if "tiled" in level:  # sums over tiles in another order
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())
        else:
            assert torch.equal(ours, theirs)


def test_what_runs_again_is_what_a_level_says(plain: Any) -> None:
    attentions = plain[2].attention
    assert attentions >= LAYERS  # forward: one a document and layer
    per_pass = {level: train(level)[2] for level in ("attention", "linear", "mlp", "full", "every_2")}
    for level in ("attention", "linear", "mlp"):
        assert per_pass[level].attention == attentions, level
    assert per_pass["full"].attention == 2 * attentions
    assert per_pass["every_2"].attention == int(2.5 * attentions)  # of each pair the first runs a third time
    products = {level: count.products for level, count in per_pass.items()} | {"none": plain[2].products}
    assert products["none"] == products["linear"] < products["mlp"] < products["attention"] <= products["full"]


def test_a_level_nearer_to_the_end_holds_less(plain: Any) -> None:
    sizes = {level: _kept(level) for level in ("none", "linear", "mlp", "attention", "full", "every_2")}
    ordered = list(sizes.values())
    assert ordered == sorted(ordered, reverse=True), sizes
    assert sizes["none"] > 4 * sizes["full"]


def _kept(level: str) -> int:
    """Bytes alive between forward and backward pass, parameters and batch aside."""
    model = build()
    apply_level(model, parse_level(level))
    batch = pack_row(documents([37, 1, 64, 19]))
    with Storages() as storages:
        loss = summed_loss(model, batch)
    own = {StorageWeakRef(tensor.untyped_storage()) for tensor in [*model.parameters(), *model.buffers()]}
    kept = storages.alive(own)
    loss.backward()
    return kept


@pytest.mark.parametrize(
    ("level", "alive"),
    [("none", 4), ("full", 4), ("every_2", 2), ("every_3", 2), ("full_offload", 0), ("every_2_offload", 0),
     ("attention_offload", 0), ("full_offload_tiled", 0), ("full_offload_1", 3), ("linear_2_offload_3", 1),
     ("every_2_offload_1", 1)],
)  # fmt: skip
def test_layer_inputs_that_are_not_stored_are_gone_before_the_backward_pass(level: str, alive: int) -> None:
    model, inputs = build(), list[Any]()
    apply_level(model, parse_level(level))
    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda _, args: inputs.append(StorageWeakRef(args[0].untyped_storage())))
    loss = summed_loss(model, pack_row(documents([37, 1, 64, 19])))
    assert len(inputs) == LAYERS
    assert sum(not storage.expired() for storage in inputs) == alive
    loss.backward()


def test_tiles_never_hold_a_row_of_the_mlp() -> None:
    seen: list[int] = []

    class Widest(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = function(*args, **(kwargs or {}))
            if isinstance(output, torch.Tensor) and output.dim() >= 2 and output.shape[-1] == 224:
                seen.append(output.numel() // 224)
            return output

    for tile, longest in ((32, 32), (1000, 121)):
        model = build()
        tile_mlps(model.model.layers, "full_tiled")
        for layer in model.model.layers:
            layer.mlp.tile_tokens = tile
        with Widest():
            summed_loss(model, pack_row(documents([37, 1, 64, 19]))).backward()
        rows = [rows for rows in seen if rows != 160]  # 160: weights
        assert max(rows) == longest
        seen.clear()


def test_tiled_models_keep_their_parameters_and_class_names() -> None:
    model, other = build(), build()
    apply_level(model, parse_level("full_tiled"))
    apply_level(model, parse_level("full_tiled"))  # again: nothing is tiled twice
    assert list(model.state_dict()) == list(other.state_dict())
    assert type(model.model.layers[0].mlp).__name__ == type(other.model.layers[0].mlp).__name__
    assert type(model.model.layers[0].mlp).__mro__[1] is _Tiled


def test_a_mixture_of_experts_is_not_tiled() -> None:
    assert can_tile(tiny_config("llama"))
    assert can_tile(tiny_config("qwen2"))
    mixture = tiny_config("mixtral", num_local_experts=4)
    assert not can_tile(mixture)
    with pytest.raises(ConfigError, match="no dense MLP"):
        apply_level(build("mixtral", num_local_experts=4), parse_level("full_tiled"))


@pytest.mark.parametrize(
    "level", ["none_tiled", "linear_tiled", "mlp_2_tiled", "full_tiled_offload", "full_offload_0", "every", "all"]
)
def test_names_that_are_no_level(level: str) -> None:
    with pytest.raises(ConfigError, match="no level"):
        parse_level(level)


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_has_the_name_that_it_was_given(level: str) -> None:
    assert parse_level(level).name == level


@pytest.mark.parametrize("level", ["mlp", "attention_offload", "every_2_offload_tiled"])
def test_adapters_on_a_frozen_base_get_the_same_gradients(level: str) -> None:
    pytest.importorskip("peft")
    from medscroll.config.arguments import AdapterArguments
    from medscroll.model.adapters import add_adapters

    found = []
    for name in ("none", level):
        parsed = parse_level(name)
        model = add_adapters(
            build(), AdapterArguments(use_peft=True, lora_rank=4), seed=1, gradient_checkpointing=parsed.recomputes
        )
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.requires_grad:  # B begins at zero, and A would get no gradient
                parameter.data.normal_(std=0.1)
        apply_level(model, parsed)
        for module in model.modules():
            if isinstance(module, _Tiled):
                module.tile_tokens = 32
        summed_loss(model, pack_row(documents([37, 1, 64, 19]))).backward()
        found.append({key: p.grad for key, p in model.named_parameters() if p.requires_grad})
    assert len(found[0]) == 2 * 7 * LAYERS
    for key, gradient in found[0].items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-4, atol=1e-5 * gradient.abs().max().item())
