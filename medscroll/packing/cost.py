"""What a row costs in time, up to a factor: squared piece lengths (attention) plus `linear cost` times its tokens.

The two constants come from measured speeds (`config/data/step_speeds.json`): attention runs slower than the matrix
products around it, so counting FLOPs alone would make rows of short documents look dearer than they are.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources


@cache
def speed_ratio() -> float:
    """Speed of attention over that of everything else in a step, both in model FLOPs a second."""
    text = resources.files("medscroll.config").joinpath("data/step_speeds.json").read_text("utf-8")
    speeds = json.loads(text)
    return float(speeds["attention_tflops"]) / float(speeds["other_tflops"])


def linear_cost(linear_flops: float, quadratic_flops: float) -> float:
    """Time of one token outside attention, in units of the time of one squared token of attention.

    Args:
        linear_flops: of a token, forward and backward (`ModelFlops.linear`).
        quadratic_flops: of a squared token of a piece (`ModelFlops.quadratic`).
    """
    return linear_flops / quadratic_flops * speed_ratio()
