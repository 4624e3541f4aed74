"""EGGROLL: evolution strategies with low-rank noise, the whole population in one batch.

    E_i = (1 / sqrt(r)) A_i B_i^T,       A_i [m x r], B_i [n x r] with entries N(0, 1)
    M <- M + (alpha / N) sum_i f_i E_i   for every linear layer's matrix M [m x n]

`layout: shared`: all members answer the step's prompts greedily; f_i is member i's mean reward,
centred and divided by the standard deviation of the members' means. `layout: own`, as published:
the prompts are divided among the members, so that N members make N rollouts; f_i is member i's
reward on its prompt, centred over the members of that prompt and divided by one standard deviation
of all single rewards. For the same rollouts `own` has as many times more members as `shared` has
prompts, and its steps get shorter where few rewards differ, while `shared` gives every step the
same length. `weighting`, `anchor: kl` and `shaping` are in `_evolution/fitness.py`.

Each entry of E has variance 1 at every rank: drift and its null are those of dense ES with equal
alpha and N. Each line of the step log holds the noise key, the step and the fitness of every
member, from which `replay` computes the weights; the first one names the perturbed layers.

How the population is evaluated: `_evolution/population.py` and `population_decode.py`.

Deviations from the published code (ESHyperscale/HyperscaleES):
1. The update is alpha / N times the sum; there it is multiplied by sqrt(N) before the optimizer,
   so values of alpha do not carry over.
2. Plain steps, no optimizer state.
3. `layout: shared` is ours and the default; it decodes all members in one batch, `own` the members
   of one prompt after another.
4. The output head and the embeddings are not perturbed; norms and biases are frozen, as there.
5. Equal fitness of all members gives no update, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from retainbench.trainers._evolution import noise as _noise
from retainbench.trainers._evolution import population as _population
from retainbench.trainers._evolution.evolution import EvolutionOptions
from retainbench.trainers._evolution.fitness import (
    FitnessRule,
    by_question,
    fitness_of,
    fitness_rule,
    shaped,
)
from retainbench.trainers._evolution.noise import Noise, Vector
from retainbench.trainers._shared.contract import Job, Outcome, added

if TYPE_CHECKING:
    from retainbench.trainers._evolution.population import Factors, Matrix
    from retainbench.trainers._shared.rollout import Sampler

    Matrices = Mapping[str, Matrix]

PAPER = "Sarkar et al. 2025, arXiv:2511.16652"
ADAPTATIONS = ("full",)
ANCHORS = ("weights", "kl")
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
    """Prompts of a step; our choice (published: 128 for 1024 members)."""
    layout: Literal["shared", "own"] = added("shared")
    """Every member answers all prompts of a step, or one of them, as published."""
    antithetic: bool = True
    """Members in pairs of opposite sign, as published; the population must then be even."""

    @model_validator(mode="after")
    def _groups(self) -> Options:
        if self.layout == "own":
            members, over = divmod(self.population, self.prompts_per_step)
            if over or members < 2 or (self.antithetic and members % 2):
                raise ValueError(
                    "layout: own needs a population that is a multiple of prompts_per_step, with "
                    "at least 2 members (pairs, if antithetic) to a prompt"
                )
            if self.shaping != "z_scores":
                raise ValueError("layout: own has a shaping of its own. Leave `shaping` out")
        return self

    def weights(self, fitness: Vector) -> Vector:
        """What the update weighs each member by."""
        if self.layout == "own":
            return by_question(fitness, self.population // self.prompts_per_step)
        return shaped(fitness, self.shaping)


def train(job: Job) -> Outcome:
    """Run EGGROLL until the budget is spent.

    Raises:
        TrainingError: no step gave two members different fitness, or the weights were lost.
    """
    from retainbench.trainers._evolution import evolution
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
    pulled = job.anchor is not None and job.anchor.kind == "weights"
    anchor = _model.reference_parameters(job, policy) if pulled else None
    sampler = rollout.sampler(job, policy, trajectory.meter, options.rollout_rows)
    rule = fitness_rule(job, policy.tokenizer, trajectory.meter)
    key = seed_for(job.seed, f"eggroll/{job.stage}")
    while trajectory.running:
        step = trajectory.step
        noise = noise_of(options, key, step)
        items = batch_at(job.target.train, job.seed, step, options.prompts_per_step)
        with rollout.autocast(job):
            rewards, fitness = evaluate(found, noise, options, sampler, rule, items).T
        weights = update(found, noise, options, fitness)
        _anchor.after_step(job.anchor, parameters, anchor, options.learning_rate)
        evolution.check_weights(parameters.values(), step)
        progress = evolution.advance(progress, job, policy.trainable, rewards, weights)
        trajectory.after_step(
            evolution.measures(rewards, progress, job),
            lambda done=progress: list(done),  # type: ignore[misc]
            details={"noise_key": key, "noise_step": step, "fitness": fitness.tolist()}
            | ({} if step else {"perturbed": list(found)}),
        )
    return evolution.close(trajectory, job, progress)


def noise_of(options: Options, key: int, step: int) -> Noise:
    """The noise of one step."""
    return Noise(key, step, options.directions)


def evaluate(
    found: Matrices,
    noise: Noise,
    options: Options,
    sampler: Sampler,
    rule: FitnessRule,
    items: list[dict[str, Any]],
) -> Vector:
    """Mean reward and fitness of every member on its prompts, [N, 2]; charges the meter."""
    from retainbench.trainers._shared import rollout

    prompts = rollout.prompts(sampler, items)
    population = _noise.members(options.population, options.antithetic)
    if options.layout == "own":
        at_once = options.population // len(items)
        asked = [([item], [prompt]) for item, prompt in zip(items, prompts, strict=True)]
    else:
        at_once = max(1, options.rollout_rows // len(prompts))
        asked = [(items, prompts)] * -(-options.population // at_once)
    scores: list[tuple[float, float]] = []
    for number, (own_items, own_prompts) in enumerate(asked):
        members = population[number * at_once : (number + 1) * at_once]
        directions = sorted({member.direction for member in members})
        drawn = _population.draw(found, noise, options.rank, directions)
        local = [m._replace(direction=directions.index(m.direction)) for m in members]
        factors = _population.of_members(drawn, local, options.sigma)
        scores += _scores(found, factors, sampler, rule, own_items, own_prompts)
    return np.array(scores)


def _scores(
    found: Matrices,
    factors: Mapping[str, Factors],
    sampler: Sampler,
    rule: FitnessRule,
    items: list[dict[str, Any]],
    prompts: list[list[int]],
) -> list[tuple[float, float]]:
    """Mean reward and fitness of some members that answer the same prompts.

    The meter is charged as `es` does, one pass over every prompt for each member.
    """
    from retainbench.trainers._evolution import population_decode
    from retainbench.trainers._gradient import gradient
    from retainbench.trainers._shared import rollout

    model = sampler.policy.model
    with _population.perturbed(found) as active:
        answers = population_decode.complete(
            population_decode.Members(model, active, factors),
            prompts,
            max_new_tokens=sampler.target.max_new_tokens,
            stops=sampler.stops,
        )
        active.factors = factors
        samples = [rollout.score(sampler, items, prompts, own) for own in answers]
        together = [sample for own in samples for sample in own]
        fitness = fitness_of(rule, together, partial(gradient.logits, model))
    for own in samples:
        rollout.charge(sampler.meter, sum(map(len, prompts)), own)
        sampler.meter.samples(len(own))
    means = fitness.reshape(len(samples), -1).mean(1)
    return [
        (float(rollout.rewards(own).mean()), float(value))
        for own, value in zip(samples, means, strict=True)
    ]


def update(found: Matrices, noise: Noise, options: Options, fitness: Vector) -> Vector:
    """Apply one update in place; returns the net weight of each distinct direction.

    Factors are drawn again, `DIRECTIONS_AT_ONCE` at a time.
    """
    import torch

    population = _noise.members(options.population, options.antithetic)
    weights = _noise.net_weights(options.weights(fitness), population)
    scale = options.learning_rate / options.population
    used = np.flatnonzero(weights).tolist()
    device = next(iter(found.values())).module.weight.device
    for start in range(0, len(used), DIRECTIONS_AT_ONCE):
        part = used[start : start + DIRECTIONS_AT_ONCE]
        drawn = _population.draw(found, noise, options.rank, part)
        scaled = torch.tensor(scale * weights[part], dtype=torch.float32, device=device)
        _population.add_to_weights(found, drawn, scaled)
    return weights
