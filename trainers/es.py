"""Evolution strategies in the space of all weights (dense), as in "ES at Scale".

    Z_n = (R(theta + sigma e_n) - mean) / (sd + 1e-8)         over the population, sd with ddof 0
    theta <- theta + (alpha / N) sum_n Z_n e_n,               e_n ~ N(0, 1) per coordinate

1/sigma is absorbed in alpha. R is the mean reward over the step's prompts, the same prompts for
all members, decoded greedily; `weighting`, `anchor: kl` and `shaping` change what of it counts
(`_evolution/fitness.py`). Each line of the step log holds the noise key, the step and the
fitness of every member: `replay` computes the weights from them, bit for bit.

Deviations from the published code (VsonicV/es-fine-tuning-paper):
1. Noise is independent across tensors; `noise: shape_correlated` is what the published code does.
2. Members start from a copy of the float32 weights; adding and subtracting noise would
   accumulate rounding errors.
3. A step uses `prompts_per_step` items in the order that all methods share; the published setting
   is all training items in every step.
4. Antithetic pairs are possible; the paper has none.
5. Equal fitness of all members gives no update, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from retainbench.trainers._evolution import noise as _noise
from retainbench.trainers._evolution.evolution import EvolutionOptions
from retainbench.trainers._evolution.fitness import FitnessRule, fitness_of, fitness_rule, shaped
from retainbench.trainers._evolution.noise import Noise, Vector
from retainbench.trainers._shared.contract import Job, Outcome

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._shared.rollout import Sampler

PAPER = "Qiu et al. 2025, arXiv:2509.24372"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl")


class Options(EvolutionOptions):
    """Hyper-parameters; defaults as published."""

    population: int = Field(30, ge=2)
    """Members N per step (arXiv:2509.24372)."""
    learning_rate: float = Field(5e-4, gt=0)
    """alpha, with 1/sigma absorbed (arXiv:2509.24372: sigma / 2)."""
    prompts_per_step: int = Field(200, ge=1)
    """Prompts that every member answers in a step (arXiv:2509.24372)."""
    noise: _noise.Kind = "iid"
    """`shape_correlated` shares noise between equal-shaped tensors, as the published code does."""


def train(job: Job) -> Outcome:
    """Run ES until the budget is spent.

    Raises:
        TrainingError: no step gave two members different fitness, or the weights were lost.
    """
    from retainbench.trainers._evolution import evolution
    from retainbench.trainers._shared import anchor as _anchor
    from retainbench.trainers._shared import model, rollout
    from retainbench.trainers._shared.data import seed_for
    from retainbench.trainers._shared.trajectory import Trajectory

    options: Options = job.options
    policy = model.load(job)
    trajectory = Trajectory(job, policy, gradient=False)
    progress = evolution.begin(job, trajectory.resume())
    parameters = {n: p.data for n, p in model.trainable_parameters(policy.model).items()}
    pulled = job.anchor is not None and job.anchor.kind == "weights"
    anchor = model.reference_parameters(job, policy) if pulled else None
    sampler = rollout.sampler(job, policy, trajectory.meter, options.rollout_rows)
    rule = fitness_rule(job, policy.tokenizer, trajectory.meter)
    key = seed_for(job.seed, f"es/{job.stage}")
    while trajectory.running:
        step = trajectory.step
        noise = noise_of(options, key, step)
        scores = evaluate(parameters, noise, options, _scored(job, sampler, rule, step))
        rewards, fitness = scores.T
        weights = update(parameters, noise, options, fitness)
        _anchor.after_step(job.anchor, parameters, anchor, options.learning_rate)
        evolution.check_weights(parameters.values(), step)
        progress = evolution.advance(progress, job, policy.trainable, rewards, weights)
        trajectory.after_step(
            evolution.measures(rewards, progress, job),
            lambda done=progress: list(done),  # type: ignore[misc]
            details={"noise_key": key, "noise_step": step, "fitness": fitness.tolist()},
        )
    return evolution.close(trajectory, job, progress)


def _scored(
    job: Job, sampler: Sampler, rule: FitnessRule, step: int
) -> Callable[[], tuple[float, float]]:
    """A function that gives the policy's mean reward and fitness on this step's prompts."""
    from retainbench.trainers._gradient import gradient
    from retainbench.trainers._shared import rollout
    from retainbench.trainers._shared.data import batch_at

    items = batch_at(job.target.train, job.seed, step, job.options.prompts_per_step)

    def scored() -> tuple[float, float]:
        with rollout.autocast(job):
            samples = rollout.rollout(sampler, items)
            fitness = fitness_of(rule, samples, partial(gradient.logits, sampler.policy.model))
        sampler.meter.samples(len(samples))
        return float(rollout.rewards(samples).mean()), float(fitness.mean())

    return scored


def noise_of(options: Options, key: int, step: int) -> Noise:
    """The noise of one step."""
    return Noise(key, step, options.directions, options.noise)


def evaluate(
    parameters: Mapping[str, torch.Tensor],
    noise: Noise,
    options: Options,
    scored: Callable[[], float | tuple[float, float]],
) -> Vector:
    """The scores of every member; the parameters are the same, bit for bit, afterwards.

    Args:
        parameters: the weights to perturb, float32; `scored` sees them perturbed.
        scored: called once per member, whose row of the result it gives.
    """
    import torch

    master = {name: value.clone() for name, value in parameters.items()}
    scores = []
    for member in _noise.members(options.population, options.antithetic):
        for place, (name, value) in enumerate(parameters.items()):
            _noise.fill(value, noise, member.direction, place, len(parameters))
            torch.add(master[name], value, alpha=member.sign * options.sigma, out=value)
        scores.append(scored())
    for name, value in parameters.items():
        value.copy_(master[name])
    return np.array(scores)


def update(
    parameters: Mapping[str, torch.Tensor], noise: Noise, options: Options, fitness: Vector
) -> Vector:
    """Apply one update in place; returns the net weight of each distinct direction.

    Noise is drawn again, one direction and tensor at a time.
    """
    import torch

    population = _noise.members(options.population, options.antithetic)
    weights = _noise.net_weights(shaped(fitness, options.shaping), population)
    scale = options.learning_rate / options.population
    for place, value in enumerate(parameters.values()):
        drawn, total = torch.empty_like(value), torch.zeros_like(value)
        for direction in np.flatnonzero(weights):
            _noise.fill(drawn, noise, int(direction), place, len(parameters))
            total.add_(drawn, alpha=float(scale * weights[direction]))
        value.add_(total)
    return weights
