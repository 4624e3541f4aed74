"""Isotropic noise on all weights: what evolution strategies do to what a reward does not see.

    theta <- theta + s |theta_0| / sqrt(d T) e,   e ~ N(0, 1) per coordinate, in each of T steps

After all steps the norm of the change is s times that of the base. It learns nothing; the
sensitivity page uses it as a mechanism of damage (the null of evolution strategies).
"""

from __future__ import annotations

from pydantic import Field

from retainbench.trainers._shared.contract import Job, Outcome, TrainerOptions, TrainingError

PAPER = "the null of evolution strategies, arXiv:2605.30148"
ADAPTATIONS = ("full",)
ANCHORS = ()


class Options(TrainerOptions):
    """Hyper-parameters."""

    scale: float = Field(0.2, gt=0)
    """Norm of the change after all steps, as a share of the base's norm."""


def train(job: Job) -> Outcome:
    """Add noise until the budget of steps is spent.

    Raises:
        TrainingError: the budget has another unit, which noise does not spend.
    """
    import torch

    from retainbench.trainers._shared import model
    from retainbench.trainers._shared.data import seed_for
    from retainbench.trainers._shared.trajectory import Trajectory

    if job.budget.unit != "steps":
        raise TrainingError(f"noise spends no {job.budget.unit}: write a budget of steps")
    policy = model.load(job)
    trajectory = Trajectory(job, policy, gradient=False)
    trajectory.resume()
    parameters = [p.data for p in model.trainable_parameters(policy.model).values()]
    base = [p.data for p in model.load(job).model.parameters()]
    square = sum(float((p.double() ** 2).sum()) for p in base)
    coordinates = sum(p.numel() for p in base)
    scale = job.options.scale * (square / coordinates / job.budget.amount) ** 0.5
    while trajectory.running:
        generator = torch.Generator().manual_seed(seed_for(job.seed, f"noise/{trajectory.step}"))
        for value in parameters:
            value.add_(torch.randn(value.shape, generator=generator), alpha=scale)
        trajectory.after_step({"scale": scale}, lambda: None)
    return trajectory.outcome({"scale": scale})
