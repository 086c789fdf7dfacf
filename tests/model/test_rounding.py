"""AdamW with stochastic rounding: the expectation is exact, small updates survive, the GPU's kernel does the same."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from medscroll.model.rounding import StochasticAdamW, round_stochastically
from tests.model.interpreted import interpreted

KERNEL = """
import torch, triton
from medscroll.model.rounding_kernel import BLOCK, _adamw
count, rounds = 4 * BLOCK + 77, 24
lr, decay, first, second, epsilon = 1e-3, 0.1, 0.9, 0.95, 1e-8
def updated(seed):
    torch.manual_seed(1)
    tensors = [torch.randn(count), torch.randn(count), torch.randn(count) / 10, torch.rand(count) / 10]
    value, grad, mean, square = (tensor.bfloat16() for tensor in tensors)
    exact_mean = mean.float() * first + grad.float() * (1 - first)
    exact_square = square.float() * second + grad.float() ** 2 * (1 - second)
    exact = value.float() * (1 - lr * decay) - lr * exact_mean / 0.3 / ((exact_square / 0.2).sqrt() + epsilon)
    _adamw[(triton.cdiv(count, 4 * BLOCK),)](
        value, grad, mean, square, count, seed, lr, 1 - lr * decay, first, second, 1 / 0.3, 1 / 0.2, epsilon,
        BLOCK=BLOCK,
    )
    return [(new.float() - old) / (old.abs() * 2**-8 + 1e-30)
            for new, old in ((value, exact), (mean, exact_mean), (square, exact_square))]
errors = [updated(seed) for seed in range(rounds)]
for error in map(torch.stack, zip(*errors)):  # in units of half the last place, at most 2
    assert error.abs().max() <= 2.01 and error.abs().mean() > 0.2
    for group in error.mean(0)[: 4 * BLOCK].split(BLOCK):  # each of the four groups has numbers of its own
        assert abs(float(group.mean())) < 0.03
    assert error.std(0).min() >= 0 and error.std(0).mean() > 0.2
assert all(torch.equal(one, two) for one, two in zip(updated(3), updated(3)))
print("unbiased")
"""


def test_the_expectation_is_the_value() -> None:
    """Rounded up or down to the two neighbours, in proportion; exact values and infinities stay."""
    values = torch.tensor([1.0 + 2**-9, -3.0 - 2**-8, 1.0, float("inf"), float("nan")]).repeat(20000, 1)
    rounded = round_stochastically(values, torch.Generator().manual_seed(0)).float()
    assert set(rounded[:, 0].tolist()) == {1.0, 1.0 + 2**-7}
    torch.testing.assert_close(rounded.mean(0)[:2], values[0, :2], rtol=0, atol=3e-4)
    assert bool((rounded[:, 2] == 1).all())
    assert bool(rounded[:, 3].isinf().all())
    assert bool(rounded[:, 4].isnan().all())


def test_small_updates_are_not_lost() -> None:
    """Updates of 1/8 of the last place move a weight where rounding to nearest would leave it for ever."""
    weight = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    plain = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    ours = StochasticAdamW([weight], lr=2**-11, betas=(0.0, 0.0), weight_decay=0.0)
    nearest = torch.optim.AdamW([plain], lr=2**-11, betas=(0.0, 0.0), weight_decay=0.0)
    for _ in range(32):
        weight.grad, plain.grad = torch.ones_like(weight), torch.ones_like(plain)
        ours.step()
        nearest.step()
    assert bool((plain == 1).all())
    assert abs(float(weight.float().mean()) - (1 - 32 * 2**-11)) < 5e-4


def test_kernel_is_unbiased_and_repeatable() -> None:
    """The Triton kernel, interpreted: right within one last place, no bias in any of its groups, the same by seed."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs triton (no GPU): pip install triton")
    ran = interpreted(KERNEL)
    assert "unbiased" in ran.stdout, ran.stderr[-2000:]
