"""What dense ES and EGGROLL share: options, the progress of a run, its log lines and its end.

The null is the distance that the updates would have covered if fitness had nothing to do with the
noise: null^2 = sum over steps of d (alpha/N)^2 sum_j w_j^2, where w_j is the net coefficient of the
distinct direction j (METHODS 14, derived). An l2 anchor shrinks it by (1 - alpha lambda) per step;
stages of evolution strategies after one another add in quadrature. The log has it only where
it can be compared with the drift from the base: full weights, moved by evolution strategies alone,
no l1 anchor (which has no closed form).

Nothing here has a loss that could become NaN, so a learning rate that destroys the weights shows in
other ways: the squares of the weights overflow, or no answer of the population earns a reward.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import Field, model_validator

from retainbench.trainers._evolution.fitness import Shaping, Weighting
from retainbench.trainers._evolution.noise import Vector, null_squared_step
from retainbench.trainers._shared.contract import (
    Job,
    Outcome,
    TrainerOptions,
    TrainingError,
    added,
)
from retainbench.trainers._shared.model import overflowed
from retainbench.trainers._shared.rollout import PATIENCE

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._shared.trajectory import Trajectory

FEW = 4
"""Steps without a reward that may happen by chance at the end of a short run."""


class EvolutionOptions(TrainerOptions):
    """Hyper-parameters of both methods."""

    population: int = Field(ge=2)
    """Members N per step."""
    sigma: float = Field(1e-3, gt=0)
    """Standard deviation of the perturbation (arXiv:2509.24372; ESHyperscale/HyperscaleES)."""
    antithetic: bool = False
    """Members in pairs of opposite sign; the population must then be even."""
    shaping: Shaping = added("z_scores")
    """What the update weighs members by: z-scores of their fitness (arXiv:2509.24372), or of its
    ranks."""
    weighting: Weighting = added("none")
    """`base_probability` multiplies an answer's reward by the probability that the base gives a
    token of it (geometric mean)."""
    rollout_rows: int = Field(512, ge=1)
    """Completions computed at once; changes memory and speed only."""

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.antithetic and self.population % 2:
            raise ValueError("an antithetic population must be even")
        return self

    @property
    def directions(self) -> int:
        """Distinct directions of a step."""
        return self.population // 2 if self.antithetic else self.population


class EvolutionState(NamedTuple):
    """State of a run in addition to the weights."""

    null_squared: float = 0.0
    varied: bool = False
    """Whether members have differed in fitness in any step."""
    barren: int = 0
    """Steps since a member last earned a reward."""


def begin(job: Job, state: Any | None) -> EvolutionState:
    """The progress at which a run was interrupted, or that of its start."""
    return EvolutionState((job.null or 0.0) ** 2) if state is None else EvolutionState(*state)


def advance(
    progress: EvolutionState, job: Job, dimensions: int, rewards: Vector, weights: Vector
) -> EvolutionState:
    """Account for one update.

    Args:
        dimensions: parameters that the noise moves.
        rewards: mean reward of every member.
        weights: net weight of each distinct direction.

    Raises:
        TrainingError: nothing has earned a reward for `PATIENCE` steps.
    """
    options = job.options
    added = null_squared_step(dimensions, options.learning_rate, weights, options.population)
    kept = 1.0
    if job.anchor and job.anchor.kind == "weights" and job.anchor.norm == "l2":
        kept = max(0.0, 1.0 - options.learning_rate * job.anchor.strength)
    barren = 0 if rewards.any() else progress.barren + 1
    if barren == PATIENCE:
        raise TrainingError(
            f"no member earned a reward in {PATIENCE} steps: use a smaller learning_rate, or a "
            "target that the base sometimes solves"
        )
    varied = progress.varied or bool(weights.any())
    return EvolutionState(kept**2 * (progress.null_squared + added), varied, barren)


def check_weights(values: Iterable[torch.Tensor], step: int) -> None:
    """Refuse weights whose squares no longer fit their dtype: every norm of them is infinite.

    Raises:
        TrainingError: naming the step and what to change.
    """
    if overflowed(values):
        raise TrainingError(
            f"the weights overflowed at step {step + 1}: use a smaller learning_rate"
        )


def null_of(progress: EvolutionState, job: Job) -> dict[str, float]:
    """`es_null` where it is defined, for the step log and for the end."""
    l1 = job.anchor is not None and (job.anchor.kind, job.anchor.norm) == ("weights", "l1")
    if job.null is None or job.adaptation.kind != "full" or l1:
        return {}
    return {"es_null": math.sqrt(progress.null_squared)}


def measures(rewards: Vector, progress: EvolutionState, job: Job) -> dict[str, float]:
    """The step log's line for one step, from each member's mean reward."""
    return {
        "reward": float(rewards.mean()),
        "reward_sd": float(rewards.std()),
        "reward_max": float(rewards.max()),
    } | null_of(progress, job)


def close(trajectory: Trajectory, job: Job, progress: EvolutionState) -> Outcome:
    """End the stage.

    Raises:
        TrainingError: no step gave two members different fitness, or the latter half of the steps
            earned nothing.
    """
    if job.budget.amount and not progress.varied:
        raise TrainingError(
            "the reward never differed between members, so nothing was learned: use a larger "
            "sigma, more prompts_per_step, or a target that the base sometimes solves"
        )
    if progress.barren > max(FEW, (trajectory.step - 1) // 2):
        raise TrainingError(
            f"no member earned a reward in the last {progress.barren} of {trajectory.step} steps, "
            "so the weights were lost: use a smaller learning_rate"
        )
    return trajectory.outcome(null_of(progress, job))
