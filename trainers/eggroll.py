"""EGGROLL: evolution strategies with low-rank noise, the whole population in one batch.

    E_i = (1 / sqrt(r)) A_i B_i^T,       A_i [m x r], B_i [n x r] with entries N(0, 1)
    M <- M + (alpha / N) sum_i f_i E_i   for every linear layer's matrix M [m x n]

f_i is member i's mean reward over the step's prompts, centred and divided by one standard
deviation over the population. All members answer the same prompts greedily, so centring each
prompt's rewards over the population, as the paper does, is the same as centring their mean. Each
entry of E has variance 1 at every rank: drift and its null are those of dense ES with equal alpha
and N. Each line of the step log holds the noise key, the step and the fitness of every member, from
which `replay` computes the weights; the first one names the perturbed layers.

How the population is evaluated: `_population` and `_population_decode`.

Deviations from the published code (ESHyperscale/HyperscaleES):
1. The update is alpha / N times the sum; there it is multiplied by sqrt(N) before the optimizer,
   so values of alpha do not carry over.
2. Plain steps, no optimizer state.
3. Every member answers all prompts of the step; there each (member, prompt) pair is one rollout.
4. The output head and the embeddings are not perturbed; norms and biases are frozen, as there.
5. Equal fitness of all members gives no update, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from retainbench.trainers._evolution import noise as _noise
from retainbench.trainers._evolution.evolution import EvolutionOptions
from retainbench.trainers._evolution.noise import Noise, Vector
from retainbench.trainers._shared.contract import Job, Outcome

if TYPE_CHECKING:
    from retainbench.trainers._evolution.population import Matrix
    from retainbench.trainers._shared.rollout import Sampler

    Matrices = Mapping[str, Matrix]

PAPER = "Sarkar et al. 2025, arXiv:2511.16652"
ADAPTATIONS = ("full",)
ANCHORS = ("weights",)
DIRECTIONS_AT_ONCE = 64
"""Directions whose factors are in memory during an update."""


class Options(EvolutionOptions):
    """Hyper-parameters."""

    population: int = Field(128, ge=2)
    """Members N per step (AnqiQu/eggroll-vllm; the paper goes up to 1024 and far beyond)."""
    rank: int = Field(1, ge=1)
    """r of the noise (arXiv:2511.16652)."""
    learning_rate: float = Field(1e-3, gt=0)
    """alpha; equal to sigma, as in AnqiQu/eggroll-vllm."""
    prompts_per_step: int = Field(16, ge=1)
    """Prompts that every member answers in a step; our choice."""
    antithetic: bool = True
    """Members in pairs of opposite sign, as published; the population must then be even."""


def train(job: Job) -> Outcome:
    """Run EGGROLL until the budget is spent.

    Raises:
        TrainingError: no step gave two members different fitness, or the weights were lost.
    """
    from retainbench.trainers._evolution import evolution
    from retainbench.trainers._evolution import population as _population
    from retainbench.trainers._shared import anchor as _anchor
    from retainbench.trainers._shared import model as _model
    from retainbench.trainers._shared import rollout
    from retainbench.trainers._shared.data import batch_at, seed_for
    from retainbench.trainers._shared.trajectory import Trajectory

    options: Options = job.options
    policy = _model.load(job)
    found = _population.matrices(policy.model)
    policy = policy._replace(trainable=_population.size(found))
    trajectory = Trajectory(job, policy, gradient=False)
    progress = evolution.begin(job, trajectory.resume())
    parameters = {f"{name}.weight": matrix.module.weight.data for name, matrix in found.items()}
    anchor = _model.reference_parameters(job, policy) if job.anchor else None
    sampler = rollout.sampler(job, policy, trajectory.meter, options.rollout_rows)
    key = seed_for(job.seed, f"eggroll/{job.stage}")
    while trajectory.running:
        step = trajectory.step
        noise = noise_of(options, key, step)
        items = batch_at(job.target.train, job.seed, step, options.prompts_per_step)
        with rollout.autocast(job):
            fitness = evaluate(found, noise, options, sampler, items)
        weights = update(found, noise, options, fitness)
        _anchor.after_step(job.anchor, parameters, anchor, options.learning_rate)
        evolution.check_weights(parameters.values(), step)
        progress = evolution.advance(progress, job, policy.trainable, fitness, weights)
        trajectory.after_step(
            evolution.measures(fitness, progress, job),
            lambda done=progress: list(done),  # type: ignore[misc]
            details={"noise_key": key, "noise_step": step, "fitness": fitness.tolist()}
            | ({} if step else {"perturbed": list(found)}),
        )
    return evolution.close(trajectory, job, progress)


def noise_of(options: Options, key: int, step: int) -> Noise:
    """The noise of one step."""
    return Noise(key, step, options.directions)


def evaluate(
    found: Matrices, noise: Noise, options: Options, sampler: Sampler, items: list[dict[str, Any]]
) -> Vector:
    """Mean reward of every member over the items; charges the sampler's meter."""
    from retainbench.trainers._evolution import population as _population
    from retainbench.trainers._evolution import population_decode
    from retainbench.trainers._shared import rollout

    prompts = rollout.prompts(sampler, items)
    population = _noise.members(options.population, options.antithetic)
    at_once = max(1, options.rollout_rows // len(prompts))
    scores: list[float] = []
    for start in range(0, options.population, at_once):
        members = population[start : start + at_once]
        directions = sorted({member.direction for member in members})
        drawn = _population.draw(found, noise, options.rank, directions)
        local = [m._replace(direction=directions.index(m.direction)) for m in members]
        factors = _population.of_members(drawn, local, options.sigma)
        with _population.perturbed(found) as active:
            done = population_decode.complete(
                population_decode.Members(sampler.policy.model, active, factors),
                prompts,
                max_new_tokens=sampler.target.max_new_tokens,
                stops=sampler.stops,
            )
        scores += _mean_rewards(sampler, items, prompts, done)
    return np.array(scores)


def _mean_rewards(
    sampler: Sampler,
    items: list[dict[str, Any]],
    prompts: list[list[int]],
    answers: list[list[list[int]]],
) -> list[float]:
    """Each member's mean reward; charges the meter as `es` does, one pass over every prompt each.

    Args:
        answers: of each member to each prompt, as token ids.
    """
    from retainbench.trainers._shared import rollout

    read = sum(map(len, prompts))
    means = []
    for own in answers:
        samples = rollout.score(sampler, items, prompts, own)
        rollout.charge(sampler.meter, read, samples)
        sampler.meter.samples(len(samples))
        means.append(float(rollout.rewards(samples).mean()))
    return means


def update(found: Matrices, noise: Noise, options: Options, fitness: Vector) -> Vector:
    """Apply one update in place; returns the net weight of each distinct direction.

    Factors are drawn again, `DIRECTIONS_AT_ONCE` at a time.
    """
    import torch

    from retainbench.trainers._evolution import population as _population

    population = _noise.members(options.population, options.antithetic)
    weights = _noise.net_weights(_noise.z_scores(fitness), population)
    scale = options.learning_rate / options.population
    used = np.flatnonzero(weights).tolist()
    device = next(iter(found.values())).module.weight.device
    for start in range(0, len(used), DIRECTIONS_AT_ONCE):
        part = used[start : start + DIRECTIONS_AT_ONCE]
        drawn = _population.draw(found, noise, options.rank, part)
        scaled = torch.tensor(scale * weights[part], dtype=torch.float32, device=device)
        _population.add_to_weights(found, drawn, scaled)
    return weights
