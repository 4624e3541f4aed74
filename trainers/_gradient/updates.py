"""The updates of our own loops: a step's gradient in parts, and steps until the budget is spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from retainbench.trainers._gradient import general_text, gradient, pulls
from retainbench.trainers._gradient.gradient import TargetPositions
from retainbench.trainers._gradient.pulls import Penalty
from retainbench.trainers._shared.contract import Outcome
from retainbench.trainers._shared.data import Batch, Example
from retainbench.trainers._shared.rollout import autocast
from retainbench.trainers._shared.trajectory import Trajectory

if TYPE_CHECKING:
    import torch

PartLoss = Callable[
    ["torch.Tensor", Batch, TargetPositions, int], tuple["torch.Tensor", dict[str, float]]
]
"""(logits, batch, places, tokens trained in the step) -> (part of the loss, parts of metrics)."""


def token_losses(objective: Literal["nll", "dft"]) -> PartLoss:
    """The loss of SFT or DFT on the completion tokens."""
    return lambda logits_BTV, _batch, places, trained: gradient.token_loss(
        logits_BTV, places, objective, trained
    )


def run(
    trajectory: Trajectory,
    backward: Callable[[int, Penalty], dict[str, float]],
    charge: Callable[[], None],
) -> Outcome:
    """Update until the budget is spent.

    Args:
        backward: (step, the anchor's penalty) -> metrics; accumulates the gradient of the step.
        charge: counts the completions that a step has learned from, and what else it cost.
    """
    job, policy = trajectory.job, trajectory.policy
    stepper = gradient.stepper(policy, job.options)
    if state := trajectory.resume():
        gradient.restore(stepper.optimizer, state)
    anchored, penalty = pulls.anchored(job, policy), pulls.penalty(job)
    text_terms = general_text.terms(job, policy)
    while trajectory.running:
        metrics = text_terms(trajectory.step, trajectory.meter)
        metrics |= backward(trajectory.step, penalty)
        metrics["gradient_norm"], rate = stepper.step(trajectory.meter.share)
        anchored(rate)
        charge()
        trajectory.after_step(metrics, lambda: stepper.optimizer.state_dict()["state"])
    return trajectory.outcome({})


def accumulate(
    trajectory: Trajectory, examples: Sequence[Example], loss: PartLoss, penalty: Penalty
) -> dict[str, float]:
    """Accumulate the gradient of a step's rows, a part at a time; charges the meter.

    Returns:
        The sums of the metrics over the parts.
    """
    import torch

    job, policy, meter = trajectory.job, trajectory.policy, trajectory.meter
    trained = sum(len(example.completion) for example in examples)
    size = -(-len(examples) // job.options.accumulation)
    totals: dict[str, float] = {}
    for start in range(0, len(examples), size):
        part: Any = examples[start : start + size]
        batch, places = gradient.batch_of(part, policy.tokenizer.pad_token_id or 0, job.device)
        with autocast(job):
            logits_BTV = gradient.logits(policy.model, batch, places)
        value, metrics = loss(logits_BTV, batch, places, trained)
        extra, kl = penalty(batch, logits_BTV, places, trained, meter)
        torch.autograd.backward(value + extra)
        meter.forward(places.tokens)
        meter.backward(places.tokens)
        for name, number in (metrics | kl).items():
            totals[name] = totals.get(name, 0.0) + number
    return totals
