"""Evolution strategies in the space of all weights (dense), as in "ES at Scale".

    Z_n = (R(theta + sigma e_n) - mean) / (sd + 1e-8)         over the population, sd with ddof 0
    theta <- theta + (alpha / N) sum_n Z_n e_n,               e_n ~ N(0, 1) per coordinate

1/sigma is absorbed in alpha. R is the mean reward over the step's prompts, the same prompts for
all members, decoded greedily. Each line of the step log holds the noise key, the step and the
fitness of every member: `replay` computes the weights from them, bit for bit.

Also gives `es_null`, the distance that the updates would have covered if fitness had nothing to do
with the noise: null^2 = sum over steps of d (alpha/N)^2 sum_j w_j^2 (METHODS 14, derived), shrunk
by the l2 anchor where there is one. On adapters it is `es_null_adapter`, because it measures the
adapter's coordinates and not the weights'. With an l1 anchor neither is given: no closed form.

Deviations from the published code (VsonicV/es-fine-tuning-paper):
1. Noise is independent across tensors; `noise: shape_correlated` is what the published code does.
2. Members start from a copy of the float32 weights; adding and subtracting noise would creep.
3. A step uses `prompts_per_step` items in the order all methods share; 200 items at the default
   size is the published setting only if the target has 200 training items.
4. Antithetic pairs are possible; the paper has none.
5. Equal fitness of all members gives no update, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from retainbench.trainers import _anchor, _noise
from retainbench.trainers._contract import Job, Outcome, TrainerOptions, TrainingError
from retainbench.trainers._noise import Noise, Vector

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

PAPER = "Qiu et al. 2025, arXiv:2509.24372"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights",)


class Options(TrainerOptions):
    """Hyper-parameters; defaults as published."""

    population: int = Field(30, ge=2)
    """Members N per step (arXiv:2509.24372)."""
    sigma: float = Field(1e-3, gt=0)
    """Standard deviation of the perturbation (arXiv:2509.24372)."""
    learning_rate: float = Field(5e-4, gt=0)
    """alpha, with 1/sigma absorbed (arXiv:2509.24372; sigma / 2 there)."""
    prompts_per_step: int = Field(200, ge=1)
    """Prompts that every member answers in a step (arXiv:2509.24372)."""
    noise: _noise.Kind = "iid"
    """`shape_correlated` shares noise between equal-shaped tensors, as the published code does."""
    antithetic: bool = False
    """Members in pairs of opposite sign; the population must be even."""
    rollout_rows: int = Field(512, ge=1)
    """Completions computed at once; changes memory and speed only."""

    @model_validator(mode="after")
    def _pairs(self) -> Options:
        if self.antithetic and self.population % 2:
            raise ValueError("an antithetic population must be even")
        return self


class Progress(NamedTuple):
    """What a run of ES remembers besides the weights."""

    null_squared: float = 0.0
    """Expected squared distance under fitness that ignores the noise."""
    varied: bool = False
    """Whether fitness has differed between members in any step."""


def train(job: Job) -> Outcome:
    """Run ES until the budget is spent.

    Raises:
        TrainingError: no step gave two members different fitness.
    """
    from retainbench.trainers import _model, _rollout
    from retainbench.trainers._data import batch_at, seed_for
    from retainbench.trainers._trajectory import Trajectory

    options: Options = job.options
    policy = _model.load(job)
    trajectory = Trajectory(job, policy, gradient=False)
    progress = Progress(*(trajectory.resume() or ()))
    parameters = {n: p.data for n, p in _model.trainable_parameters(policy.model).items()}
    anchor = _model.reference_parameters(job, policy) if job.anchor else None
    key = seed_for(job.seed, f"es/{job.stage}")
    sampling = _rollout.Sampling(0.0, None, options.rollout_rows)

    while trajectory.running:
        items = batch_at(job.target.train, job.seed, trajectory.step, options.prompts_per_step)

        def fitness(items: list[dict[str, Any]] = items) -> float:
            with _rollout.autocast(job):
                samples = _rollout.rollout(
                    policy.model, policy.tokenizer, job.target, items, sampling, trajectory.meter
                )
            return float(_rollout.rewards(samples).mean())

        noise = noise_of(options, key, trajectory.step)
        scores = evaluate(parameters, noise, options, fitness)
        update(parameters, noise, options, scores)
        _anchor.after_step(job.anchor, parameters, anchor, options.learning_rate)
        progress = advance(progress, scores, options, job, sum(p.numel() for p in parameters.values()))
        details = {"noise_key": key, "noise_step": trajectory.step, "fitness": scores.tolist()}
        trajectory.after_step(measures(scores, progress), lambda: list(progress), details=details)
    if job.budget.amount and not progress.varied:
        raise TrainingError(
            "the reward never differed between members, so nothing was learnt: use a larger "
            "sigma, more prompts_per_step, or a target the base sometimes solves"
        )
    return trajectory.outcome(null_metric(progress, job))
