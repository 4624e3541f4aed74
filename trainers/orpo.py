"""Odds ratio preference optimisation: the better answer's likelihood and an odds ratio in one loss.

    L = -log p(y+) + lambda -log sigmoid(log odds(y+) - log odds(y-)),   odds(y) = P / (1 - P)
    P = exp((1 / |y|) sum_t log p(y_t | x, y_<t)),   log p(y+) the mean over the tokens of y+

No reference model: the first term keeps y+ likely, so that pairs that differ in little do not push
both answers down. How the pairs are made is in `_gradient/preference_pairs.py`.

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

PAPER = "Hong et al. 2024, arXiv:2403.07691"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")


class Options(PairOptions):
    """Hyper-parameters; those of the paper."""

    learning_rate: float = Field(8e-6, gt=0)
    """Peak learning rate (arXiv:2403.07691). Sweep it (suite key `sweep`)."""
    odds_weight: float = Field(0.1, ge=0)
    """lambda (arXiv:2403.07691)."""


def train(job: Job) -> Outcome:
    """Run ORPO until the budget is spent."""
    from retainbench.trainers._gradient import pair_loop

    return pair_loop.run(job, partial(orpo_loss, odds_weight=job.options.odds_weight))


def orpo_loss(chosen_B: torch.Tensor, rejected_B: torch.Tensor, odds_weight: float) -> torch.Tensor:
    """L of each pair, [B], from mean log-probabilities per token, [B] each and below 0.

    Worked: P(y+) = 0.5 and P(y-) = 0.25 have odds 1 and 1/3, so L = 0.693147 + 0.1 x 0.287682.
    """
    import torch

    def log_odds(logp_B: torch.Tensor) -> torch.Tensor:
        return logp_B - torch.log(-torch.expm1(logp_B.clamp(max=-1e-6)))

    ratio_B = log_odds(chosen_B) - log_odds(rejected_B)
    return -chosen_B - odds_weight * torch.nn.functional.logsigmoid(ratio_B)
