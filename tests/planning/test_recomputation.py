"""What the backward pass repeats: counted operator by operator against the formula that HFU uses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from medscroll.model.activation_levels import parse_level
from medscroll.model.recompute import ATTENTION_OPERATORS, apply_level
from medscroll.planning.compute import model_flops
from medscroll.planning.recomputation import recomputed_flops

LAYERS, TOKENS = 5, 24


class Counter(TorchDispatchMode):
    """FLOPs of matrix products, and calls of attention, as they really run."""

    def __init__(self) -> None:
        super().__init__()
        self.products, self.attentions = 0.0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        name = function._schema.name
        if name in ("aten::mm", "aten::addmm"):
            (rows, inner), (_, columns) = args[-2].shape, args[-1].shape
            self.products += 2.0 * rows * inner * columns
        self.attentions += name in ATTENTION_OPERATORS
        return output


def config() -> LlamaConfig:
    return LlamaConfig(
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=320,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


def counted(name: str) -> Counter:
    torch.manual_seed(0)
    model = LlamaForCausalLM(config()).train()
    apply_level(model, parse_level(name), row_bytes=TOKENS * 256 * 4)
    tokens = torch.randint(0, 320, (1, TOKENS))
    with Counter() as counter:
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    return counter


@pytest.mark.parametrize("name", ["linear", "linear_2", "mlp", "mlp_2", "attention", "full", "every_2", "every_3"])
def test_the_formula_is_what_really_runs(name: str) -> None:
    plain, found, formula = counted("none"), counted(name), recomputed_flops(config(), parse_level(name))
    assert plain.attentions == LAYERS
    assert found.products - plain.products == pytest.approx(formula.linear * TOKENS)
    forward = 2 * 4 * 64  # FLOPs a squared token of one layer's causal attention
    assert found.attentions - plain.attentions == pytest.approx(formula.quadratic / forward)


def test_levels_are_ordered_and_bounded() -> None:
    """Each smaller level repeats more; none repeats more than the forward pass once, every_K not more than twice."""
    names = ("none", "linear", "mlp", "attention", "full", "every_2", "every_4")
    found = [recomputed_flops(config(), parse_level(name)) for name in names]
    assert (found[0].linear, found[0].quadratic) == (0, 0)
    assert [each.linear for each in found] == sorted(each.linear for each in found)
    forward = model_flops(config(), sum(p.numel() for p in LlamaForCausalLM(config()).parameters()))
    assert found[4].linear < forward.linear / 3
    assert found[4].quadratic == pytest.approx(forward.quadratic / 3)
    assert found[-1].linear < 2 * forward.linear / 3
    assert recomputed_flops(config(), parse_level("full_offload")) == found[4]
