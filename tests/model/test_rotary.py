"""The rotary embedding in Liger's registry: transformers' numbers and gradients, and inputs left as they were."""

from __future__ import annotations

import importlib.util

import pytest

from tests.model.interpreted import interpreted

PROGRAM = """
import torch
from medscroll.model.rotary import IMPLEMENTATION, SELECTS, register_rotary
import os
assert register_rotary() and register_rotary() and os.environ[SELECTS] == IMPLEMENTATION
from liger_kernel.transformers.rope import liger_rotary_pos_emb
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
torch.manual_seed(0)
heads, kv_heads, tokens, width = 4, 2, 13, 16
inputs = [torch.randn(1, tokens, count * width, requires_grad=True) for count in (heads, kv_heads)]
before = [tensor.detach().clone() for tensor in inputs]
query, key = (tensor.view(1, tokens, -1, width).transpose(1, 2) for tensor in inputs)
angles = torch.randn(1, tokens, width // 2).repeat(1, 1, 2)
found = liger_rotary_pos_emb(query, key, angles.cos(), angles.sin())
expected = apply_rotary_pos_emb(query, key, angles.cos(), angles.sin())
gradients = []
for outputs in (found, expected):
    loss = sum((output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum() for output in outputs)
    gradients.append(torch.autograd.grad(loss, inputs))
for mine, theirs in zip([*found, *gradients[0]], [*expected, *gradients[1]], strict=True):
    assert mine.abs().max() > 0.1
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
assert all(torch.equal(tensor, old) for tensor, old in zip(inputs, before, strict=True)), "rotated in place"
from liger_kernel.transformers import _apply_liger_kernel_to_instance
from transformers import LlamaConfig, LlamaForCausalLM
from medscroll.model.liger import liger_kernels
from medscroll.planning.step_on_meta import StepShape, config_to_json, run_step
small = LlamaConfig(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=512,
)
shape = StepShape(config_to_json(small), 64)
before = run_step(shape, 2)
_apply_liger_kernel_to_instance(model=LlamaForCausalLM(small), **liger_kernels(zero3=False))
import transformers.models.llama.modeling_llama as llama
assert llama.apply_rotary_pos_emb.__module__.startswith("liger_kernel")
after = run_step(shape, 2)
assert abs(after.peaks["loss"].total - before.peaks["loss"].total) < 0.02 * before.peaks["loss"].total
print("same")
"""


def test_same_as_transformers_and_not_in_place() -> None:
    """Forward and gradients equal `apply_rotary_pos_emb`, the inputs stay, and a plan can be made afterwards."""
    if importlib.util.find_spec("liger_kernel") is None or importlib.util.find_spec("triton") is None:
        pytest.skip("needs triton and liger-kernel (no GPU): pip install triton liger-kernel")
    ran = interpreted(PROGRAM)
    assert "same" in ran.stdout, ran.stderr[-2000:]
