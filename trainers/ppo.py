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

    from retainbench.trainers._gradient.gradient import Stepper, TargetPositions
    from retainbench.trainers._shared.budget import Meter
    from retainbench.trainers._shared.data import Batch, Example
    from retainbench.trainers._shared.model import PolicyModel
    from retainbench.trainers._shared.rollout import Sample, Sampler

PAPER = "Schulman et al. 2017, arXiv:1707.06347; KL in the reward: arXiv:1909.08593"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl")


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


class Learner(NamedTuple):
    """The models, optimizers and counters that an update needs and changes."""

    job: Job
    policy: PolicyModel
    stepper: Stepper
    head: torch.nn.Module
    head_optimizer: torch.optim.Optimizer
    meter: Meter


def train(job: Job) -> Outcome:
    """Run PPO until the budget is spent.

    Raises:
        TrainingError: all answers of the whole run had the same reward.
    """
    from retainbench.trainers._gradient import gradient
    from retainbench.trainers._shared import model
    from retainbench.trainers._shared import rollout as _rollout
    from retainbench.trainers._shared.trajectory import Trajectory

    options: Options = job.options
    policy = model.load(job)
    trajectory = Trajectory(job, policy)
    state = trajectory.resume()
    head, head_optimizer = value_head(job, policy)
    stepper = gradient.stepper(policy, options)
    learner = Learner(job, policy, stepper, head, head_optimizer, trajectory.meter)
    current = restore(learner, state) if state else None
    sampler = _rollout.sampler(job, policy, trajectory.meter, options.rollout_rows)
    reference = model.reference(job) if kl_strength(job.anchor) else None
    anchored = gradient.anchored(job, policy)
    lowest, highest = (current.lowest, current.highest) if current else (1.0, 0.0)
    while trajectory.running:
        number, place = divmod(trajectory.step, options.epochs * options.minibatches)
        if current is None or place == 0:
            samples = answers(job, sampler, number)
            lowest, highest = spread(samples, lowest, highest)
            current = Current(prepare(learner, samples, reference), lowest, highest)
        rows = minibatches(job, number)[place]
        metrics = update(learner, current.rollout, rows, anchored)
        trajectory.after_step(
            current.rollout.measures | metrics,
            lambda current=current: snapshot(learner, current),  # type: ignore[misc]
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


def prepare(learner: Learner, samples: Sequence[Sample], reference: Any) -> Rollout:
    """Score a rollout with policy, value head and reference; compute its advantages."""
    import torch

    from retainbench.trainers._gradient import advantage, gradient
    from retainbench.trainers._shared import rollout as _rollout
    from retainbench.trainers._shared.data import Example

    options: Options = learner.job.options
    examples = [Example(sample.prompt, sample.tokens) for sample in samples]
    pad, device = learner.policy.tokenizer.pad_token_id or 0, learner.job.device
    batch, places = gradient.batch_of(examples, pad, device)
    with torch.no_grad():
        seen = look(learner, batch, places)
    learner.meter.forward(places.tokens)
    ratios_BT = torch.zeros_like(seen.logp_BT)
    if reference is not None:
        with _rollout.autocast(learner.job):
            base_BTV = gradient.reference_logits(reference, batch, places, learner.meter)
        base_BT = gradient.token_logprobs(base_BTV / options.temperature, places.targets_BT)
        ratios_BT = (seen.logp_BT - base_BT) * places.mask_BT
    rewards_B = torch.tensor([s.reward for s in samples], dtype=torch.float32, device=device)
    rewards_BT = advantage.token_rewards(
        rewards_B, ratios_BT, places.mask_BT, kl_strength(learner.job.anchor)
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


class ActorCriticOutput(NamedTuple):
    """What policy and value head compute for a batch."""

    logp_BT: torch.Tensor
    """Log-probability of each token under the distribution that answers are sampled from."""
    values_BT: torch.Tensor


def look(learner: Learner, batch: Batch, places: TargetPositions) -> ActorCriticOutput:
    """One forward pass of policy and value head; the head computes in float32."""
    from retainbench.trainers._gradient.gradient import token_logprobs
    from retainbench.trainers._shared.rollout import autocast

    with autocast(learner.job):
        made = learner.policy.model(
            input_ids=batch.input_ids_BT,
            attention_mask=batch.attention_mask_BT,
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=batch.input_ids_BT.shape[1] - places.first,
        )
    hidden_BTH = made.hidden_states[-1][:, places.first : -1].detach().float()
    scaled_BTV = made.logits[:, :-1].float() / learner.job.options.temperature
    return ActorCriticOutput(
        token_logprobs(scaled_BTV, places.targets_BT),
        learner.head(hidden_BTH).squeeze(-1),
    )


def update(
    learner: Learner,
    rollout: Rollout,
    rows: Sequence[int],
    anchored: Callable[[float], None],
) -> dict[str, float]:
    """One optimizer step of policy and value head on some rows; charges the meter."""
    from retainbench.trainers._gradient.gradient import batch_of

    options: Options = learner.job.options
    trained = sum(len(rollout.examples[row].completion) for row in rows)
    size = -(-len(rows) // options.accumulation)
    totals: dict[str, float] = {}
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        pad = learner.policy.tokenizer.pad_token_id or 0
        chosen = [rollout.examples[row] for row in part]
        batch, places = batch_of(chosen, pad, learner.job.device, rollout.first)
        for name, value in backward(learner, rollout, part, batch, places, trained).items():
            totals[name] = totals.get(name, 0.0) + value
    totals["gradient_norm"], rate = learner.stepper.step(learner.meter.share)
    learner.head_optimizer.step()
    learner.head_optimizer.zero_grad(set_to_none=True)
    anchored(rate)
    return totals


def backward(
    learner: Learner,
    rollout: Rollout,
    rows: Sequence[int],
    batch: Batch,
    places: TargetPositions,
    trained: int,
) -> dict[str, float]:
    """Accumulate the gradient of some rows; returns their parts of the metrics."""
    import torch

    from retainbench.trainers._gradient import advantage

    options: Options = learner.job.options
    width = places.mask_BT.shape[1]
    old_BT, values_BT, advantages_BT, returns_BT = (
        part[list(rows), :width] for part in rollout[3:]
    )
    seen = look(learner, batch, places)
    policy = advantage.policy_loss(
        seen.logp_BT, old_BT, advantages_BT, places.mask_BT, options.clip, trained
    )
    value = advantage.value_loss(
        seen.values_BT, values_BT, returns_BT, places.mask_BT, options.value_clip, trained
    )
    torch.autograd.backward(policy.loss + options.value_coefficient * value)
    learner.meter.forward(places.tokens)
    learner.meter.backward(places.tokens)
    learner.meter.samples(len(rows))
    return {
        "policy_loss": float(policy.loss.detach()),
        "value_loss": float(value.detach()),
        "clip_share": policy.clipped / trained,
    }


def value_head(job: Job, policy: PolicyModel) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A small network on the last hidden states that starts at value 0, and its optimizer."""
    import torch

    from retainbench.trainers._shared.data import seed_for

    width = policy.model.config.get_text_config().hidden_size
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(job.seed, f"ppo/{job.stage}/value"))
        hidden, out = torch.nn.Linear(width, width), torch.nn.Linear(width, 1)
    torch.nn.init.zeros_(out.weight)
    torch.nn.init.zeros_(out.bias)
    head = torch.nn.Sequential(hidden, torch.nn.Tanh(), out).to(job.device)
    rate = job.options.value_learning_rate
    return head, torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.0)


def snapshot(learner: Learner, current: Current) -> dict[str, Any]:
    """State for resume, except weights and ledger; a rollout may be partly used."""
    return {
        "optimizer": learner.stepper.optimizer.state_dict()["state"],
        "head_optimizer": learner.head_optimizer.state_dict()["state"],
        "head": dict(learner.head.state_dict()),
        "current": list(current),
    }


def restore(learner: Learner, state: Any) -> Current:
    """Restore the state that `snapshot` returned."""
    from retainbench.trainers._gradient import gradient
    from retainbench.trainers._shared.data import Example

    gradient.restore(learner.stepper.optimizer, state["optimizer"])
    gradient.restore(learner.head_optimizer, state["head_optimizer"])
    learner.head.load_state_dict(state["head"])
    (examples, first, measures, *tensors), lowest, highest = state["current"]
    moved = [tensor.to(learner.job.device) for tensor in tensors]
    rollout = Rollout([Example(*e) for e in examples], first, measures, *moved)
    return Current(rollout, lowest, highest)
