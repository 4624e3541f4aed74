"""Simple preference optimisation: mean log-probabilities as rewards, with a margin, no reference.

    L = -log sigmoid(beta (log p(y+) / |y+| - log p(y-) / |y-|) - gamma)

How the pairs are made is in `_gradient/preference_pairs.py`. Nothing keeps y+ likely:
the step log's `logp_chosen` shows whether it is (likelihood displacement).

Deviations from the paper:
1. Pairs are made from the target's reward, y+ by default the reference answer.
2. The learning rate follows the share of the budget; sampling the pairs is charged to it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from retainbench.trainers._gradient.preference_pairs import PairOptions
from retainbench.trainers._shared.contract import Job, Outcome

if TYPE_CHECKING:
    import torch

PAPER = "Meng et al. 2024, arXiv:2405.14734"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")


class Options(PairOptions):
    """Hyper-parameters; those of the paper."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; 3e-7 to 1e-6 in the paper. Sweep it (suite key `sweep`)."""
    beta: float = Field(2.0, gt=0)
    """Scale of the rewards; 2.0 to 2.5 in the paper."""
    gamma: float = Field(1.0, ge=0)
    """Margin between the rewards; 0.3 to 1.6 in the paper."""


def train(job: Job) -> Outcome:
    """Run SimPO until the budget is spent."""
    from retainbench.trainers._gradient import pair_loop

    options: Options = job.options
    return pair_loop.run(job, partial(simpo_loss, beta=options.beta, gamma=options.gamma))


def simpo_loss(
    chosen_B: torch.Tensor, rejected_B: torch.Tensor, beta: float, gamma: float
) -> torch.Tensor:
    """L of each pair, [B], from mean log-probabilities per token, [B] each.

    Worked: -1 and -2 with beta 2 and gamma 1 give -log sigmoid(1) = 0.313262.
    """
    import torch

    return -torch.nn.functional.logsigmoid(beta * (chosen_B - rejected_B) - gamma)
