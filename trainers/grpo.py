"""Group relative policy optimisation, through TRL's GRPOTrainer; Dr.GRPO is a set of options.

    A_i = (r_i - mean_group) / (sd_group + 1e-4)
    l_t = -min(rho_t A_i, clip(rho_t, 1 - e, 1 + e) A_i) + beta k3_t
    k3_t = exp(d) - d - 1,   d = log p_ref - log p

`loss: dr_grpo` with `scale_rewards: none` is Dr.GRPO (arXiv:2503.20783): no division by the group's
sd, token sums divided by a constant. `loss: grpo` with `beta` > 0 is the original; TRL's default,
kept here, is `dapo` with beta 0.

`num_iterations` takes several updates on a rollout; with one the ratio is 1 and its clip, up to
`epsilon_high` above, idle. `importance_sampling_level: sequence` with `loss: grpo` is GSPO
(arXiv:2507.18071); `dynamic_sampling` and `mask_truncated` are DAPO's (arXiv:2503.14476).

Deviations from TRL's defaults:
1. Rollouts are ours (`_gradient/trl_online.py`): they end where the evaluation's answers end.
2. Rows come in the order that all methods share; the learning rate follows the budget.
3. A run resumes where a rollout begins, so that it ends in the same bytes.
4. Completions that were cut off earn nothing (`_shared/rollout.py`); `mask_truncated` also takes
   them out of the loss.
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from retainbench.trainers._gradient.trl_online import OnlineOptions, run
from retainbench.trainers._shared.anchor import kl_strength
from retainbench.trainers._shared.contract import Job, Outcome, added

PAPER = "Shao et al. 2024, arXiv:2402.03300; Dr.GRPO: arXiv:2503.20783"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")


class Options(OnlineOptions):
    """Hyper-parameters; TRL's defaults."""

    loss: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "dapo"
    """How token losses are averaged (TRL's `loss_type`)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Which standard deviation divides the advantages."""
    num_iterations: int = added(1, ge=1)
    """Updates that share a rollout; TRL's default."""
    epsilon_high: float | None = added(None, gt=0)
    """Upper clip of the ratio, 1 + epsilon_high (DAPO: 0.28); None takes `epsilon`."""
    importance_sampling_level: Literal["token", "sequence"] = added("token")
    """Whether each token has a ratio, or the sequence has one (GSPO)."""
    mask_truncated: bool = added(False)
    """Leave completions that were cut off out of the loss."""
    dynamic_sampling: int = added(0, ge=0)
    """Attempts to replace groups of equal rewards by those of further prompts; 0 keeps them."""

    @model_validator(mode="after")
    def _sampled_here(self) -> Options:
        if self.dynamic_sampling and self.rollout == "vllm":
            raise ValueError("dynamic_sampling needs `rollout: transformers`")
        return self


def train(job: Job) -> Outcome:
    """Run GRPO until the budget is spent; `anchor: kl` sets beta."""
    from trl import GRPOConfig, GRPOTrainer

    beta = kl_strength(job.anchor)
    specific = {
        "loss_type": job.options.loss,
        "scale_rewards": job.options.scale_rewards,
        "beta": beta,
        "num_iterations": job.options.num_iterations,
        "epsilon_high": job.options.epsilon_high,
        "importance_sampling_level": job.options.importance_sampling_level,
        "mask_truncated_completions": job.options.mask_truncated,
    }
    return run(
        job,
        GRPOTrainer,
        GRPOConfig,
        specific,
        iterations=job.options.num_iterations,
        attempts=job.options.dynamic_sampling,
    )
