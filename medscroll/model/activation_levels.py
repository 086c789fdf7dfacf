"""The levels of activation memory, from fastest to smallest, and their names.

A decoder layer's backward pass needs what its forward pass computed. A level says what is kept until then; the rest is
computed again (Chen et al., arXiv:1604.06174; selective: Korthikanti et al., arXiv:2205.05198):

    none              everything is kept, nothing is recomputed
    linear            layer input, attention output, outputs of all linear layers but the last of the MLP
    mlp               layer input, attention output, outputs of the MLP's gate and up projections
    attention         layer input and attention output
    full              the layer input
    every_K           the input of each K-th layer; the inputs between are computed again, one more forward pass
    linear_N, mlp_N   as `linear` and `mlp` in N layers spread evenly, as `attention` in the others
    LEVEL_offload     the same with the layer inputs in pinned host memory, copied beside the computation
    LEVEL_offload_M   of the stored inputs only the first M wait in host memory, the others on the device
    LEVEL_tiled       the MLP by tiles of tokens (arXiv:2506.13996), computed once more in the backward pass

Cost: names only; nothing heavy is imported. What a level takes is in `planning.activation_bytes`, how
it works in `recompute`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from medscroll.errors import ConfigError

TILE_TOKENS = 8192  # of a tiled MLP: large enough for the matrix products to run at full speed
KINDS = ("none", "linear", "mlp", "attention", "full", "every")
SHAPES = (
    "none, linear[_N], mlp[_N], attention, full, every_K; each but none also with _offload or _offload_M; "
    "attention, full and every_K also with _tiled"
)
_NAME = re.compile(
    r"(?P<kind>none|linear|mlp|attention|full|every)(_(?P<number>\d+))?"
    r"(?P<offload>_offload(_(?P<moved>\d+))?)?(?P<tiled>_tiled)?"
)


@dataclass(frozen=True)
class Level:
    """What a run keeps of each layer.

    Attributes:
        kind: one of `KINDS`.
        layers: for linear and mlp: in how many layers the extra outputs are kept; None: in all.
        every: store the input of each `every`-th layer; 1: of each layer.
        offload: layer inputs wait in host memory.
        tiled: the MLP never holds more than a tile of tokens.
        moved: with `offload`: how many of the stored inputs do, the first ones; None: all.
    """

    kind: str
    layers: int | None = None
    every: int = 1
    offload: bool = False
    tiled: bool = False
    moved: int | None = None

    @property
    def name(self) -> str:
        """The level as a flag's value."""
        number = f"_{self.every}" if self.kind == "every" else "" if self.layers is None else f"_{self.layers}"
        offload = "" if not self.offload else "_offload" if self.moved is None else f"_offload_{self.moved}"
        return f"{self.kind}{number}{offload}{'_tiled' if self.tiled else ''}"

    @property
    def recomputes(self) -> bool:
        """Whether anything is computed again."""
        return self.kind != "none"

    def on_host(self, layers: int) -> int:
        """How many layer inputs of a model of `layers` layers wait in host memory."""
        stored = -(-layers // self.every)
        return 0 if not self.offload else stored if self.moved is None else min(self.moved, stored)

    def keeps(self, layer: int, num_layers: int) -> str:
        """What is kept inside layer `layer` of `num_layers`: "linear", "mlp", "attention" or "" for nothing."""
        if self.kind in ("none", "full", "every"):
            return ""
        if self.layers is None or self.kind == "attention":
            return self.kind
        # layer i is one of the N evenly spread ones where the running share passes a whole number
        spread = (layer + 1) * self.layers // num_layers > layer * self.layers // num_layers
        return self.kind if spread else "attention"


def parse_level(name: str) -> Level:
    """The level of a name such as `mlp_12`, `full_offload` or `every_4`.

    Raises:
        ConfigError: no level is called so.
    """
    found = _NAME.fullmatch(name.strip())
    kind, number = (found["kind"], found["number"]) if found else ("", None)
    wrong = (
        not found
        or (kind == "none" and found["offload"])
        or (kind in ("none", "linear", "mlp") and found["tiled"])
        or (kind in ("none", "attention", "full") and number is not None)
        or (kind == "every" and (number is None or int(number) < 2))
        or (kind in ("linear", "mlp") and number is not None and int(number) < 1)
        or (found["moved"] is not None and int(found["moved"]) < 1)
    )
    if wrong or found is None:
        raise ConfigError(
            f"{name!r} is no level of activation memory", where="--activation_memory", remedy=f"auto, {SHAPES}"
        )
    layers = int(number) if number is not None and kind in ("linear", "mlp") else None
    every = int(number) if number is not None and kind == "every" else 1
    moved = None if found["moved"] is None else int(found["moved"])
    return Level(kind, layers, every, bool(found["offload"]), bool(found["tiled"]), moved)
