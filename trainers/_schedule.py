"""Learning rates as a function of the share of the budget that is spent, so that every method
decays over the same resource whatever its step costs."""

from __future__ import annotations

import math
from typing import Literal


def factor(schedule: Literal["constant", "linear", "cosine"], warmup: float, share: float) -> float:
    """Multiplier of the peak learning rate at a share of the budget in [0, 1].

    Linear warm-up over the first `warmup` of the budget, then constant, or decay to 0 at the end.

    >>> factor("constant", 0.0, 0.7)
    1.0
    >>> factor("linear", 0.0, 0.25)
    0.75
    >>> round(factor("cosine", 0.2, 0.6), 6)
    0.5
    """
    if share < warmup:
        return share / warmup
    progress = min(1.0, (share - warmup) / (1.0 - warmup))
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
