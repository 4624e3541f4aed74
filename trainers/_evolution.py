"""What dense ES and EGGROLL share: what a run remembers, its log lines and its end.

The null is the distance that the updates would have covered if fitness had nothing to do with the
noise: null^2 = sum over steps of d (alpha/N)^2 sum_j w_j^2, where w_j is the net coefficient of the
distinct direction j (METHODS 14, derived). An l2 anchor shrinks it by (1 - alpha lambda) per step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from retainbench.trainers._contract import Job, Outcome, TrainingError
from retainbench.trainers._noise import Vector

if TYPE_CHECKING:
    from retainbench.trainers._trajectory import Trajectory


class Progress(NamedTuple):
    """What a run remembers besides the weights."""

    null_squared: float = 0.0
    varied: bool = False
    """Whether members have differed in fitness in any step."""


def advance(
    progress: Progress, job: Job, learning_rate: float, step_null_squared: float
) -> Progress:
    """Account for one update; see `_noise.null_squared_step`."""
    kept = 1.0
    if job.anchor and job.anchor.norm == "l2":
        kept = max(0.0, 1.0 - learning_rate * job.anchor.strength)
    total = kept**2 * (progress.null_squared + step_null_squared)
    return Progress(total, progress.varied or step_null_squared > 0)


def measures(fitness: Vector, progress: Progress) -> dict[str, float]:
    """What the step log says of one step; fitness is each member's mean reward."""
    return {
        "reward": float(fitness.mean()),
        "reward_sd": float(fitness.std()),
        "reward_max": float(fitness.max()),
        "es_null": math.sqrt(progress.null_squared),
    }


def close(trajectory: Trajectory, job: Job, progress: Progress) -> Outcome:
    """End the stage.

    The null is `es_null` for full weights. For adapters it is `es_null_adapter`, because it is a
    distance between adapters and not between weights; an l1 anchor has no closed form, so none.

    Raises:
        TrainingError: no step gave two members different fitness.
    """
    if job.budget.amount and not progress.varied:
        raise TrainingError(
            "the reward never differed between members, so nothing was learnt: use a larger "
            "sigma, more prompts_per_step, or a target that the base sometimes solves"
        )
    if job.anchor and job.anchor.norm == "l1":
        return trajectory.outcome({})
    name = "es_null" if job.adaptation.kind == "full" else "es_null_adapter"
    return trajectory.outcome({name: math.sqrt(progress.null_squared)})
