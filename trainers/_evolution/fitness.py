"""The worth of a population's answers: rewards, corrected by the base, shaped for the update.

    f_i = w_i r_i - beta KL_i                                                   of one answer y_i
    w_i = exp((1 / |y_i|) sum_t log p_base(y_t))      weighting: base_probability, otherwise 1
    KL_i = (1 / |y_i|) sum_t KL(p_member || p_base)   anchor: kl with strength beta, otherwise 0

A member's fitness is the mean of f over its answers. The weight is DFT's (arXiv:2508.05629), a
token's probability, as the geometric mean over an answer and under the base: an answer that the
base would hardly give counts little. The KL is exact over the vocabulary on the member's own
answers, as the gradient methods' penalty is. Neither changes the reward that is logged.

Shaping: z-scores (arXiv:2509.24372), z-scores of ranks (arXiv:1703.03864 scales ranks to [-.5, .5],
which is the same up to alpha), or, where members answer different questions, `by_question`.
Shape letters: N members, as in the other files B answers, T places, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from retainbench.trainers._evolution.noise import Vector, z_scores
from retainbench.trainers._shared.anchor import kl_per_token, kl_strength

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._gradient.gradient import TargetPositions
    from retainbench.trainers._shared.budget import Meter
    from retainbench.trainers._shared.contract import Job
    from retainbench.trainers._shared.data import Batch
    from retainbench.trainers._shared.rollout import Sample

Shaping = Literal["z_scores", "ranks"]
Weighting = Literal["none", "base_probability"]
MemberLogits = Callable[["Batch", "TargetPositions"], "torch.Tensor"]
"""The logits [B, T, V] of the members that gave the answers."""


def shaped(fitness: Vector, shaping: Shaping) -> Vector:
    """The members' weights in the update: mean 0 and sd 1; zeros if all are equal."""
    return z_scores(ranks(fitness) if shaping == "ranks" else fitness)


def ranks(fitness: Vector) -> Vector:
    """Ranks from 0; equal values share their mean rank.

    >>> ranks(np.array([0.3, 0.1, 0.3, 9.0])).tolist()
    [1.5, 0.0, 1.5, 3.0]
    """
    _, place_N, counts = np.unique(fitness, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: Vector = ends - (counts + 1) / 2
    return mean[place_N]


def by_question(fitness: Vector, members: int) -> Vector:
    """Centred over the members that answer a question, over one sd of all single scores.

    As `convert_fitnesses` of the published EGGROLL: sqrt(var + 1e-5), ddof 0. A question that all
    its members answer equally well weighs nothing.

    Args:
        members: of each question, adjacent.

    >>> by_question(np.array([1.0, 0.0, 0.5, 0.5]), 2).round(4).tolist()
    [1.4142, -1.4142, 0.0, 0.0]
    """
    groups = fitness.reshape(-1, members)
    centred = groups - groups.mean(1, keepdims=True)
    centred[np.ptp(groups, axis=1) == 0] = 0.0
    weights: Vector = (centred / np.sqrt(fitness.var() + 1e-5)).ravel()
    return weights


class FitnessRule(NamedTuple):
    """What corrects the rewards; `fitness_rule` makes it."""

    reference: Any
    """The cell's base; None where nothing asks for it."""
    beta: float
    weighted: bool
    pad: int
    device: str
    meter: Meter


def fitness_rule(job: Job, tokenizer: Any, meter: Meter) -> FitnessRule:
    """The corrections that a job asks for."""
    from retainbench.trainers._shared import model

    beta = kl_strength(job.anchor)
    weighted = job.options.weighting == "base_probability"
    reference = model.reference(job) if beta or weighted else None
    return FitnessRule(reference, beta, weighted, tokenizer.pad_token_id or 0, job.device, meter)


def fitness_of(rule: FitnessRule, samples: Sequence[Sample], logits: MemberLogits) -> Vector:
    """f of every answer; charges the meter for the passes that it takes."""
    import torch

    from retainbench.trainers._gradient import gradient
    from retainbench.trainers._shared import rollout
    from retainbench.trainers._shared.data import Example

    fitness = rollout.rewards(samples)
    if rule.reference is None:
        return fitness
    examples = [Example(sample.prompt, sample.tokens) for sample in samples]
    batch, places = gradient.batch_of(examples, rule.pad, rule.device)
    lengths_B = places.mask_BT.sum(1)

    def mean(values_BT: torch.Tensor) -> torch.Tensor:
        return (values_BT * places.mask_BT).sum(1) / lengths_B

    base_BTV = gradient.reference_logits(rule.reference, batch, places, rule.meter)
    if rule.weighted:
        logp_BT = gradient.token_logprobs(base_BTV, places.targets_BT)
        fitness = fitness * mean(logp_BT).exp().double().cpu().numpy()
    if rule.beta:
        with torch.no_grad():
            kl_BT = kl_per_token(logits(batch, places), base_BTV)
        rule.meter.forward(places.tokens)
        fitness = fitness - rule.beta * mean(kl_BT).double().cpu().numpy()
    return fitness
