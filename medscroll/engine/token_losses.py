"""The loss of every token of a row, without ever holding the logits of the row.

How: a forward pre-hook on the output layer takes the hidden states, makes logits for a few thousand positions at a time
and keeps one number a position; the output layer itself then sees one position. What the model returns for that one is
compared with the bare output layer: models that scale or cap their logits afterwards differ, and for those the whole
logits are made once and reduced in the same portions. The weights are those of the moment (ZeRO-3 gathers them for the
output layer's call, adapters apply).

Cost: 2,048 x vocabulary logits in the model's dtype and in float32 (1.3 GB at 102,400 entries), whatever the row's
length; whole logits of a row of 131,072 would take 50 GB at 64,000.
"""

from __future__ import annotations

from typing import Any

import torch

PORTION = 2048
IGNORED = -100


def _losses_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood float32 [T] of labels [T] under logits [T, V]; 0 where the label is -100."""
    return torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none")


def _next_labels(labels: torch.Tensor) -> torch.Tensor:
    """What each position predicts, [T]: the label of the following one, -100 at the end."""
    return torch.cat([labels[0, 1:], labels.new_full((1,), IGNORED)])


class TokenLosses:
    """Computes the losses of the tokens of micro batches; made once a pass over the data.

    Args:
        model: the model as it is called: bare, or DeepSpeed's engine around it; its forward may be a collective.
        head: its output layer, or None where there is none that can be found.
    """

    def __init__(self, model: torch.nn.Module, head: torch.nn.Module | None) -> None:
        self.model, self.head = model, head
        self._following: torch.Tensor | None = None
        self._losses: torch.Tensor | None = None
        self._first: torch.Tensor | None = None

    @torch.no_grad()
    def __call__(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Loss of each position as a target, float32 [T]: entry t is that of labels[t], predicted from t - 1; nats.

        Args:
            inputs: what the model takes, input_ids and labels int64 [1, T] among it.
        """
        following = _next_labels(inputs["labels"])  # [T]
        without = {name: value for name, value in inputs.items() if name != "labels"}
        losses = self._in_portions(without, following)
        if losses is None:
            self.head = None  # and all further micro batches; every rank finds the same, the model being the same
            logits = self.model(**without, use_cache=False).logits[0]  # [T, V]
            parts = zip(logits.split(PORTION), following.split(PORTION), strict=True)
            losses = torch.cat([_losses_of(part, labels) for part, labels in parts])
        return torch.cat([losses.new_zeros(1), losses[:-1]])

    def _in_portions(self, inputs: dict[str, Any], following: torch.Tensor) -> torch.Tensor | None:
        if self.head is None:
            return None
        self._following, self._losses, self._first = following, None, None
        handle = self.head.register_forward_pre_hook(self._tap)
        try:
            logits = self.model(**inputs, use_cache=False).logits
        finally:
            handle.remove()
        losses, first = self._losses, self._first
        self._following = self._losses = self._first = None
        if losses is None or first is None:
            return None
        return losses if logits.shape[1] == 1 and torch.allclose(logits.float(), first.float()) else None

    def _tap(self, module: torch.nn.Module, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden, following = values[0], self._following
        if following is None or hidden.dim() != 3 or hidden.shape[:2] != (1, len(following)):
            return None
        parts = zip(hidden[0].split(PORTION), following.split(PORTION), strict=True)
        self._losses = torch.cat([_losses_of(module.forward(part), labels) for part, labels in parts])
        self._first = module.forward(hidden[:, :1])  # [1, 1, V]
        return (hidden[:, :1], *values[1:])
