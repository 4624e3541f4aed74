"""Proximal policy optimisation with a value head, for answers of a language model.

    policy   -min(rho A, clip(rho, 1 - e, 1 + e) A),           rho = p(y_t) / p_old(y_t)
    value    c_v / 2 max((V - R)^2, (V_old + clip(V - V_old, -e_v, e_v) - R)^2)
    GAE      delta_t = r_t + g V_{t+1} - V_t,      A_t = delta_t + g l A_{t+1},     R_t = A_t + V_t
    reward   r_t = -beta (log p_old(y_t) - log p_ref(y_t)), plus the task's on the last token

A rollout of `batch_size` answers serves `epochs` passes in `minibatches` parts, each an update and
a step of the budget, which may end between two of them. Losses are means over completion tokens,
the end token included; there is no value after the last one. A is whitened over the completion
tokens of the whole rollout. The step log repeats a rollout's reward and KL in each of its updates.

`anchor: kl` sets beta; without it the reward is the task's alone, as in `grpo` and `rloo`. The
logged `kl` is the log ratio summed over an answer's tokens, as in `rloo`, and may be negative.

Deviations:
1. The value head (hidden layer of the model's width, tanh) reads the policy's last hidden states
   and sends no gradient back, so that the moved weights are moved by the policy's loss alone. It is
   not saved with checkpoints and does not count in drift.
2. No entropy bonus, no adaptive beta.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from retainbench.trainers._gradient.gradient import GradientOptions
from retainbench.trainers._shared.anchor import kl_strength
from retainbench.trainers._shared.contract import Job, Outcome, TrainingError

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._gradient.actor_critic import ActorCritic
    from retainbench.trainers._gradient.gradient import TargetPositions
    from retainbench.trainers._shared.data import Batch, Example
    from retainbench.trainers._shared.rollout import Sample, Sampler

PAPER = "Schulman et al. 2017, arXiv:1707.06347; KL in the reward: arXiv:1909.08593"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")


class Options(GradientOptions):
    """Hyper-parameters, in addition to those of GradientOptions."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate of the policy (arXiv:2508.05629)."""
    value_learning_rate: float = Field(1e-3, gt=0)
    """Constant learning rate of the value head; our choice for a head without the trunk."""
    batch_size: int = Field(256, ge=2)
    """Answers per rollout (arXiv:2508.05629)."""
    minibatches: int = Field(4, ge=1)
    """Parts of a rollout, each with an update of its own."""
    epochs: int = Field(2, ge=1)
    """Passes over a rollout; arXiv:1707.06347 makes 3 to 15 on other problems."""
    samples_per_prompt: int = Field(1, ge=1)
    """Answers to each prompt of a rollout."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of the sampling distribution, which is the optimised one."""
    clip: float = Field(0.2, gt=0)
    """e (arXiv:1707.06347)."""
    value_clip: float = Field(0.2, gt=0)
    """e_v, in units of reward."""
    value_coefficient: float = Field(1.0, gt=0)
    """c_v (arXiv:1707.06347)."""
    discount: float = Field(1.0, ge=0, le=1)
    """g; usual for language models."""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """l (arXiv:1707.06347)."""
    rollout_rows: int = Field(512, ge=1)
    """Completions computed at once; changes memory and speed only."""

    @model_validator(mode="after")
    def _parts(self) -> Options:
        if self.batch_size % (self.samples_per_prompt * self.minibatches):
            raise ValueError("batch_size must be a multiple of samples_per_prompt x minibatches")
        return self


class Rollout(NamedTuple):
    """Values of a rollout, fixed during its updates; B answers, T places that predict a token."""

    examples: list[Example]
    first: int
    """Column of the padded rows that predicts place 0, for every part of the rollout alike."""
    measures: dict[str, float]
    """Its values in the step log."""
    logp_BT: torch.Tensor
    values_BT: torch.Tensor
    advantages_BT: torch.Tensor
    """Whitened over the completion tokens of the rollout."""
    returns_BT: torch.Tensor


class Current(NamedTuple):
    """The current rollout, and the range of rewards of the run so far."""

    rollout: Rollout
    lowest: float
    """Least reward of an answer."""
    highest: float


def train(job: Job) -> Outcome:
    """Run PPO until the budget is spent.

    Raises:
        TrainingError: all answers of the whole run had the same reward.
    """
    from retainbench.trainers._gradient import general_text, pulls
    from retainbench.trainers._gradient.actor_critic import ActorCritic
    from retainbench.trainers._shared import model
    from retainbench.trainers._shared import rollout as _rollout
    from retainbench.trainers._shared.data import seed_for
    from retainbench.trainers._shared.trajectory import Trajectory

    options: Options = job.options
    policy = model.load(job)
    trajectory = Trajectory(job, policy)
    state = trajectory.resume()
    seed = seed_for(job.seed, f"ppo/{job.stage}/value")
    models = ActorCritic(job, policy, trajectory.meter, seed)
    current = restore(models, state) if state else None
    sampler = _rollout.sampler(job, policy, trajectory.meter, options.rollout_rows)
    reference = model.reference(job) if kl_strength(job.anchor) else None
    anchored = pulls.anchored(job, policy)
    text_terms = general_text.terms(job, policy)
    lowest, highest = (current.lowest, current.highest) if current else (1.0, 0.0)
    while trajectory.running:
        number, place = divmod(trajectory.step, options.epochs * options.minibatches)
        if current is None or place == 0:
            samples = answers(job, sampler, number)
            lowest, highest = spread(samples, lowest, highest)
            current = Current(prepare(models, samples, reference), lowest, highest)
        rows = minibatches(job, number)[place]
        of_texts = text_terms(trajectory.step, trajectory.meter)
        metrics = of_texts | update(models, current.rollout, rows, anchored)
        trajectory.after_step(
            current.rollout.measures | metrics,
            lambda current=current: snapshot(models, current),  # type: ignore[misc]
        )
    if job.budget.amount and lowest >= highest:
        raise TrainingError(
            f"every answer had the reward {highest:g}, so nothing was learned: use a larger "
            "batch_size, or a target that the base sometimes solves"
        )
    return trajectory.outcome({})


def answers(job: Job, sampler: Sampler, number: int) -> list[Sample]:
    """A rollout's answers with their task rewards."""
    from retainbench.trainers._shared import rollout as _rollout
    from retainbench.trainers._shared.data import batch_at, generator

    options: Options = job.options
    count = options.batch_size // options.samples_per_prompt
    with _rollout.autocast(job):
        return _rollout.rollout(
            sampler,
            batch_at(job.target.train, job.seed, number, count),
            copies=options.samples_per_prompt,
            temperature=options.temperature,
            generator=generator(job.seed, f"ppo/{job.stage}/{number}"),
        )


def spread(samples: Sequence[Sample], lowest: float, highest: float) -> tuple[float, float]:
    """Lowest and highest reward so far."""
    rewards = [sample.reward for sample in samples]
    return min(lowest, *rewards), max(highest, *rewards)


def minibatches(job: Job, number: int) -> list[list[int]]:
    """Rows of every update of a rollout; each epoch is a new permutation."""
    from retainbench.trainers._shared.data import seed_for

    options: Options = job.options
    order = np.random.default_rng(seed_for(job.seed, f"ppo/{job.stage}/{number}/minibatches"))
    return [
        part.tolist()
        for _ in range(options.epochs)
        for part in np.array_split(order.permutation(options.batch_size), options.minibatches)
    ]


def prepare(models: ActorCritic, samples: Sequence[Sample], reference: Any) -> Rollout:
    """Score a rollout with policy, value head and reference; compute its advantages."""
    import torch

    from retainbench.trainers._gradient import advantage, gradient
    from retainbench.trainers._shared import rollout as _rollout
    from retainbench.trainers._shared.data import Example

    options: Options = models.job.options
    examples = [Example(sample.prompt, sample.tokens) for sample in samples]
    device = models.job.device
    batch, places = gradient.batch_of(examples, models.padding, device)
    with torch.no_grad():
        seen = models.forward(batch, places)
    models.meter.forward(places.tokens)
    ratios_BT = torch.zeros_like(seen.logp_BT)
    if reference is not None:
        with _rollout.autocast(models.job):
            base_BTV = gradient.reference_logits(reference, batch, places, models.meter)
        base_BT = gradient.token_logprobs(base_BTV / options.temperature, places.targets_BT)
        ratios_BT = (seen.logp_BT - base_BT) * places.mask_BT
    rewards_B = torch.tensor([s.reward for s in samples], dtype=torch.float32, device=device)
    rewards_BT = advantage.token_rewards(
        rewards_B, ratios_BT, places.mask_BT, kl_strength(models.job.anchor)
    )
    made = advantage.gae(
        rewards_BT, seen.values_BT, places.mask_BT, options.discount, options.gae_lambda
    )
    advantages_BT = advantage.whiten(made.advantages_BT, places.mask_BT)
    measures = {
        "reward": float(rewards_B.mean()),
        "reward_sd": float(rewards_B.std(correction=0)),
        "cut_off": _rollout.cut_off(samples),
        "explained_variance": advantage.explained_variance(
            seen.values_BT, made.returns_BT, places.mask_BT
        ),
    }
    if reference is not None:
        measures["kl"] = float(ratios_BT.sum(1).mean())
    return Rollout(
        examples,
        places.first,
        measures,
        seen.logp_BT,
        seen.values_BT,
        advantages_BT,
        made.returns_BT,
    )


def update(
    models: ActorCritic,
    rollout: Rollout,
    rows: Sequence[int],
    anchored: Callable[[float], None],
) -> dict[str, float]:
    """One optimizer step of policy and value head on some rows; charges the meter."""
    from retainbench.trainers._gradient.gradient import batch_of

    options: Options = models.job.options
    trained = sum(len(rollout.examples[row].completion) for row in rows)
    size = -(-len(rows) // options.accumulation)
    totals: dict[str, float] = {}
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        chosen = [rollout.examples[row] for row in part]
        batch, places = batch_of(chosen, models.padding, models.job.device, rollout.first)
        for name, value in backward(models, rollout, part, batch, places, trained).items():
            totals[name] = totals.get(name, 0.0) + value
    totals["gradient_norm"], rate = models.step()
    anchored(rate)
    return totals


def backward(
    models: ActorCritic,
    rollout: Rollout,
    rows: Sequence[int],
    batch: Batch,
    places: TargetPositions,
    trained: int,
) -> dict[str, float]:
    """Accumulate the gradient of some rows; returns their parts of the metrics."""
    import torch

    from retainbench.trainers._gradient import advantage

    options: Options = models.job.options
    width = places.mask_BT.shape[1]
    old_BT, values_BT, advantages_BT, returns_BT = (
        part[list(rows), :width] for part in rollout[3:]
    )
    seen = models.forward(batch, places)
    policy = advantage.policy_loss(
        seen.logp_BT, old_BT, advantages_BT, places.mask_BT, options.clip, trained
    )
    value = advantage.value_loss(
        seen.values_BT, values_BT, returns_BT, places.mask_BT, options.value_clip, trained
    )
    torch.autograd.backward(policy.loss + options.value_coefficient * value)
    models.meter.forward(places.tokens)
    models.meter.backward(places.tokens)
    models.meter.samples(len(rows))
    return {
        "policy_loss": float(policy.loss.detach()),
        "value_loss": float(value.detach()),
        "clip_share": policy.clipped / trained,
    }


def snapshot(models: ActorCritic, current: Current) -> dict[str, Any]:
    """State for resume, except weights and ledger; a rollout may be partly used."""
    return models.state() | {"current": list(current)}


def restore(models: ActorCritic, state: Any) -> Current:
    """Restore the state that `snapshot` returned."""
    from retainbench.trainers._shared.data import Example

    models.restore(state)
    (examples, first, measures, *tensors), lowest, highest = state["current"]
    moved = [tensor.to(models.job.device) for tensor in tensors]
    rollout = Rollout([Example(*e) for e in examples], first, measures, *moved)
    return Current(rollout, lowest, highest)
