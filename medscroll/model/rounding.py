"""AdamW on bfloat16 weights and states without losing small updates: every result is rounded up or down at random.

How: bfloat16 has 8 significant bits, so an update of less than 1/512 of a weight rounds to nothing. Rounding up with a
probability equal to the part that is cut off keeps the expectation exact (Gupta et al., arXiv:1502.02551; for bfloat16
training Zamirai et al., arXiv:2010.06192). Arithmetic is float32; weights, first and second moments are each
rounded so. On a GPU one Triton kernel a parameter does all of it; on a CPU plain torch does the same.

Cost: 8 bytes a weight for weight, gradient and states, where float32 masters under ZeRO take 16 to 18; a weight carries
noise of one unit in its last place, which the exact expectation averages out over steps. Needs no other package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


def round_stochastically(values: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """float32 to bfloat16 of the same shape, up or down at random so that the expectation is the value itself."""
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator)
    rounded = ((bits + noise) & -65536).view(torch.float32)  # drop the lower 16 bits
    return torch.where(values.isfinite(), rounded, values).to(torch.bfloat16)


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) with stochastically rounded bfloat16 weights and states.

    Parameters of another dtype are updated without rounding, with states of their dtype.

    Args:
        params: parameters or groups of them.
        lr, betas, eps, weight_decay: as in `torch.optim.AdamW`.
        seed: of the rounding; the same on every rank, so that replicas stay equal.
    """

    def __init__(  # noqa: PLR0917 - torch's own order
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "seed": seed})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        number = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                number += 1
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                seed = (group["seed"] * 1_000_003 + state["step"] * 8191 + number) % (1 << 31)
                _update(parameter, parameter.grad, state, group, seed)
        return loss


def _update(
    parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any], seed: int
) -> None:
    first, second = group["betas"]
    corrections = 1 - first ** state["step"], 1 - second ** state["step"]
    averages = state["exp_avg"], state["exp_avg_sq"]
    half = parameter.dtype == torch.bfloat16
    if half and parameter.is_cuda and parameter.is_contiguous() and gradient.is_contiguous():
        from medscroll.model.rounding_kernel import launch

        launch(parameter, gradient, *averages, group, corrections, seed)
        return
    generator = torch.Generator(parameter.device).manual_seed(seed) if half else None
    grad = gradient.float()
    mean = averages[0].float().lerp_(grad, 1 - first)
    square = averages[1].float().mul_(second).addcmul_(grad, grad, value=1 - second)
    denominator = (square / corrections[1]).sqrt_().add_(group["eps"])
    value = parameter.float().mul_(1 - group["lr"] * group["weight_decay"])
    value.addcdiv_(mean, denominator, value=-group["lr"] / corrections[0])
    for target, exact in ((parameter, value), (averages[0], mean), (averages[1], square)):
        target.copy_(round_stochastically(exact, generator) if half else exact)
