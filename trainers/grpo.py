"""Group relative policy optimisation, through TRL's GRPOTrainer; Dr.GRPO is a set of options.

    A_i = (r_i - mean_group) / (sd_group + 1e-4)
    l_t = -min(rho_t A_i, clip(rho_t, 1 - e, 1 + e) A_i) + beta k3_t
    k3_t = exp(d) - d - 1,   d = log p_ref - log p

`loss: dr_grpo` with `scale_rewards: none` is Dr.GRPO (arXiv:2503.20783): no division by the group's
sd, token sums divided by a constant. `loss: grpo` with `beta` > 0 is the original; TRL's default,
kept here, is `dapo` with beta 0.

Deviations from TRL's defaults:
1. Rollouts are ours (`_trl_online`): they end at the first newline, as in the evaluation.
2. Rows come in the order that all methods share; the learning rate follows the budget.
3. One update per rollout, so the ratio is 1 at every update.
"""

from __future__ import annotations

from typing import Literal

from retainbench.trainers._gradient.trl_online import OnlineOptions, run
from retainbench.trainers._shared.anchor import kl_strength
from retainbench.trainers._shared.contract import Job, Outcome

PAPER = "Shao et al. 2024, arXiv:2402.03300; Dr.GRPO: arXiv:2503.20783"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl")


class Options(OnlineOptions):
    """Hyper-parameters; TRL's defaults."""

    loss: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "dapo"
    """How token losses are averaged (TRL's `loss_type`)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Which standard deviation divides the advantages."""


def train(job: Job) -> Outcome:
    """Run GRPO until the budget is spent; `anchor: kl` sets beta."""
    from trl import GRPOConfig, GRPOTrainer

    beta = kl_strength(job.anchor)
    specific = {
        "loss_type": job.options.loss,
        "scale_rewards": job.options.scale_rewards,
        "beta": beta,
    }
    return run(job, GRPOTrainer, GRPOConfig, specific)
