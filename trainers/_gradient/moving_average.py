"""An exponential moving average of the weights under training: a teacher that follows its student.

    m <- (1 - rate) m + rate theta            after each update of theta, anchors included

The average begins at the weights that it is made with, moves with the trainer and is part of the
state that a run resumes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from retainbench.trainers._shared.model import trainable_parameters

if TYPE_CHECKING:
    import torch


class MovingAverage(NamedTuple):
    """The averaged parameters and those that they follow, by name."""

    averaged: Mapping[str, torch.Tensor]
    followed: Mapping[str, torch.Tensor]
    rate: float

    def step(self) -> None:
        """Move towards the weights as they are now."""
        import torch

        with torch.no_grad():
            for name, value in self.averaged.items():
                value.lerp_(self.followed[name].detach(), self.rate)

    def state(self) -> dict[str, torch.Tensor]:
        """What a resumed run needs."""
        return {name: value.detach() for name, value in self.averaged.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state` gave."""
        import torch

        with torch.no_grad():
            for name, value in self.averaged.items():
                value.copy_(state[name])


def average_of(copy: Any, policy: Any, rate: float) -> MovingAverage:
    """An average in the parameters of `copy`, a model like the policy, which is frozen."""
    averaged = trainable_parameters(copy)
    copy.requires_grad_(False)
    return MovingAverage(averaged, trainable_parameters(policy), rate)
