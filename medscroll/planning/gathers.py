"""Which weights ZeRO-3 gathers in a micro step: a walk through DeepSpeed's coordinator, without any tensor.

DeepSpeed 0.19 (`partitioned_param_coordinator.py`) gathers the weights of a module before it runs and frees them after
it, but keeps those that the next `stage3_max_reuse_distance` parameters of the recorded order use again, what is
smaller than `stage3_param_persistence_threshold`, and what a prefetch has seen coming. So the last layers of the
forward pass are not gathered again for the backward pass, and of a recomputed layer that is larger than half the
reuse distance a part is gathered twice. The walk repeats these rules. Cost: 10 ms; models of more than 24 layers are
walked at 16 and 24, both ends are alike.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass

LOW, HIGH = 16, 24


@dataclass(frozen=True)
class Gathers:
    """Of one micro step: parameters gathered in the forward and in the backward pass, and calls of all-gather.

    Attributes:
        forward, backward: parameters.
        forward_calls, backward_calls: collectives.
        persistent: parameters that are never partitioned between steps (gathered once a step).
    """

    forward: float
    backward: float
    forward_calls: float
    backward_calls: float
    persistent: float


@dataclass(frozen=True)
class Limits:
    """The settings of `zero_optimization` that decide what is gathered, in parameters."""

    reuse: int = 1_000_000_000
    live: int = 1_000_000_000
    prefetch: int = 50_000_000
    persistence: int = 100_000


@functools.lru_cache(maxsize=256)
def gathers(
    modules: tuple[int, ...], layers: int, embedding: int, head: int, recomputes: bool, *, limits: Limits
) -> Gathers:
    """What a micro step gathers, once the order of modules has been recorded (from the third micro step on).

    Args:
        modules: parameters of each module of a layer, in the order of the forward pass.
        embedding, head: parameters; a head of 0 is the embedding itself.
        recomputes: whether the backward pass of a layer runs its forward pass again.
    """
    if layers <= HIGH:
        return _walk(modules, layers, embedding, head, recomputes, limits=limits)
    low = _walk(modules, LOW, embedding, head, recomputes, limits=limits)
    high = _walk(modules, HIGH, embedding, head, recomputes, limits=limits)
    steps = (layers - HIGH) / (HIGH - LOW)

    def along(name: str) -> float:
        a, b = getattr(low, name), getattr(high, name)
        return float(b + steps * (b - a))

    return Gathers(*(along(name) for name in Gathers.__dataclass_fields__))


def _order(
    modules: tuple[int, ...], layers: int, embedding: int, head: int, recomputes: bool
) -> tuple[list[int], list[int], int]:
    """The modules of a micro step in the order in which they run, the parameters of each, and where backward begins.

    torch stops a recomputation at its last kept tensor, the input of the layer's last module, which is fetched then
    and stays for its backward pass: it has one place in the order.
    """
    sizes = [embedding, *(size for _ in range(layers) for size in modules)]
    last = 0 if head == 0 else len(sizes)
    if head:
        sizes.append(head)
    count = len(modules)
    order = [0, *range(1, 1 + layers * count), last]
    border = len(order)
    order.append(last)
    for layer in reversed(range(layers)):
        own = range(1 + layer * count, 1 + (layer + 1) * count)
        if recomputes:
            order += own[:-1]
        order += reversed(own)
    order.append(0)
    return order, sizes, border


def _walk(
    modules: tuple[int, ...], layers: int, embedding: int, head: int, recomputes: bool, *, limits: Limits
) -> Gathers:
    order, sizes, border = _order(modules, layers, embedding, head, recomputes)
    persistent = {at for at, size in enumerate(sizes) if size <= limits.persistence}
    held = set(persistent)
    queue = deque(enumerate(order))
    seen: dict[int, int] = {}  # module -> last step that a fetch or prefetch has taken from the queue
    live, gathered, calls = 0, [0.0, 0.0], [0.0, 0.0]
    for step, module in enumerate(order):
        half = int(step >= border)
        if module not in held:
            held.add(module)
            live += sizes[module]
            gathered[half] += sizes[module]
            calls[half] += 1
        if seen.get(module, -1) < step:
            while queue:
                at, taken = queue.popleft()
                seen[taken] = max(at, seen.get(taken, -1))
                if taken == module:
                    break
        room, ahead = min(limits.live - live, limits.prefetch), 0
        while queue and ahead < room:
            at, taken = queue.popleft()
            seen[taken] = max(at, seen.get(taken, -1))
            if taken not in held:
                held.add(taken)
                ahead += sizes[taken]
        if ahead:
            live += ahead
            gathered[half] += ahead
            calls[half] += 1
        if module in persistent or seen.get(module, -1) > step or _used_soon(order, sizes, step, limits.reuse):
            continue
        held.discard(module)
        live -= sizes[module]
    whole = float(sum(sizes[at] for at in persistent))
    return Gathers(gathered[0], gathered[1], calls[0], calls[1], whole)


def _used_soon(order: list[int], sizes: list[int], step: int, reuse: int) -> bool:
    passed, module = 0, order[step]
    for later in order[step + 1 :]:
        if passed >= reuse:
            return False
        if later == module:
            return True
        passed += sizes[later]
    return False
