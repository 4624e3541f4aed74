"""REINFORCE with a leave-one-out baseline, through TRL's RLOOTrainer.

    A_i = r_i - (sum_{j != i} r_j) / (K - 1)

with a clipped sequence-level ratio. The penalty to the base is in the reward (first-order log
ratio summed over tokens, possibly negative), unlike GRPO's k3 in the loss: the two logged `kl` are
not comparable.

Deviations from TRL's defaults:
1. The deviations of `grpo`.
2. K = 8 completions per prompt instead of 2, the group size that `grpo` has.
3. The samples are not scored again before the update, which computes the same log-probabilities;
   with `anchor: kl` they are, because its reward reads them.
4. beta is 0 unless `anchor: kl` sets it (TRL: 0.05).
"""

from __future__ import annotations

from retainbench.trainers._gradient.trl_online import OnlineOptions, run
from retainbench.trainers._shared.anchor import kl_strength
from retainbench.trainers._shared.contract import Job, Outcome

PAPER = "Ahmadian et al. 2024, arXiv:2402.14740"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")


class Options(OnlineOptions):
    """Hyper-parameters of the online methods."""


def train(job: Job) -> Outcome:
    """Run RLOO until the budget is spent; `anchor: kl` sets beta."""
    from trl import RLOOConfig, RLOOTrainer

    from retainbench.trainers._gradient import trl_patches

    beta = kl_strength(job.anchor)
    return run(job, trl_patches.without_old_pass(RLOOTrainer), RLOOConfig, {"beta": beta})
