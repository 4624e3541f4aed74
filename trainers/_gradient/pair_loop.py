"""The loop of the methods that learn from pairs without a reference model: ORPO and SimPO.

Their losses are functions of two numbers, the mean log-probability per token of y+ and of y-, and
are averaged over the pairs of a step. `anchor: kl` is taken on both answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from retainbench.trainers._gradient import gradient, pulls, updates
from retainbench.trainers._gradient.preference_pairs import PairOptions, PreferencePairs
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared import rollout
from retainbench.trainers._shared.contract import Job, Outcome
from retainbench.trainers._shared.data import Example

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._shared.trajectory import Trajectory

PairLossFunction = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""Mean log-probabilities per token of y+ and y-, [B] each -> loss of each pair, [B]."""


def run(job: Job, loss: PairLossFunction) -> Outcome:
    """Train on pairs until the budget is spent.

    Raises:
        TrainingError: the starting point's answers never differ in reward.
    """
    from retainbench.trainers._shared.trajectory import Trajectory

    options: PairOptions = job.options
    policy = _model.load(job)
    trajectory = Trajectory(job, policy)
    pairs = PreferencePairs(job, _model.starting_point(job), policy)

    def gradient_of(step: int, penalty: pulls.Penalty) -> dict[str, float]:
        places = range(step * options.batch_size, (step + 1) * options.batch_size)
        rows = [pairs.at(place).row for place in places]
        return backward(job, policy, trajectory, rows, loss, penalty)

    def charge() -> None:
        trajectory.meter.samples(2 * options.batch_size)
        pairs.charge_for_step(trajectory)

    return updates.run(trajectory, gradient_of, charge)


def backward(
    job: Job,
    policy: _model.PolicyModel,
    trajectory: Trajectory,
    rows: Sequence[dict[str, list[int]]],
    loss: PairLossFunction,
    penalty: pulls.Penalty,
) -> dict[str, float]:
    """Accumulate the gradient of a step's pairs; charges the meter; returns the metrics."""
    import torch

    trained = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    size = -(-len(rows) // job.options.accumulation)
    totals: dict[str, float] = {}
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        examples = [Example(r["prompt_ids"], r["chosen_ids"]) for r in part]
        examples += [Example(r["prompt_ids"], r["rejected_ids"]) for r in part]
        pad = policy.tokenizer.pad_token_id or 0
        batch, places = gradient.batch_of(examples, pad, job.device)
        with rollout.autocast(job):
            logits_BTV = gradient.logits(policy.model, batch, places)
        logp_BT = gradient.token_logprobs(logits_BTV, places.targets_BT) * places.mask_BT
        chosen_B, rejected_B = (logp_BT.sum(1) / places.mask_BT.sum(1)).chunk(2)
        value = loss(chosen_B, rejected_B).sum() / len(rows)
        extra, kl = penalty(batch, logits_BTV, places, trained, trajectory.meter)
        torch.autograd.backward(value + extra)
        trajectory.meter.forward(places.tokens)
        trajectory.meter.backward(places.tokens)
        for name, number in (_measures(value, chosen_B, rejected_B, len(rows)) | kl).items():
            totals[name] = totals.get(name, 0.0) + number
    return totals


def _measures(value: Any, chosen_B: Any, rejected_B: Any, pairs: int) -> dict[str, float]:
    """Parts of the step's means: a falling `logp_chosen` is likelihood displacement."""
    return {
        "loss": float(value.detach()),
        "logp_chosen": float(chosen_B.detach().sum()) / pairs,
        "logp_rejected": float(rejected_B.detach().sum()) / pairs,
        "accuracy": float((chosen_B > rejected_B).sum()) / pairs,
    }
