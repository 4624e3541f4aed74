"""Fitness of a population: shaping, the base's corrections by hand, EGGROLL's published layout."""

from __future__ import annotations

import copy
import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import logprobs
from retainbench.harness.contracts.jobs import letters
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.stages import Anchor
from retainbench.harness.models import loading
from retainbench.harness.scoring.decoding import generate
from retainbench.trainers import eggroll, es
from retainbench.trainers._evolution import fitness as _fitness
from retainbench.trainers._evolution import noise as _noise
from retainbench.trainers._evolution import population as _population
from retainbench.trainers._gradient import gradient
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared import rollout
from retainbench.trainers._shared.contract import Job
from retainbench.trainers._shared.data import Example, batch_at, generator
from retainbench.trainers._shared.trajectory import Trajectory

KL = Anchor(kind="kl", strength=0.3)
BOTH = {"weighting": "base_probability"}


def test_ranks_forget_the_size_of_a_reward() -> None:
    """(1, 2, 3, 1000) weighs as (1, 2, 3, 4); equal members share a rank; no spread, no step."""
    wanted = [-1.341641, -0.447214, 0.447214, 1.341641]
    found = _fitness.shaped(np.array([1.0, 2.0, 3.0, 1000.0]), "ranks")
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    tied = _fitness.shaped(np.array([5.0, 0.0, 5.0]), "ranks")
    np.testing.assert_allclose(tied, [2**-0.5, -(2**0.5), 2**-0.5], atol=1e-6)
    assert not _fitness.shaped(np.full(4, 0.1), "ranks").any()


def test_published_layout_by_hand() -> None:
    """Questions of means .25, .5 and .1; the variance of all twelve rewards is one number."""
    rewards = np.array([1.0, 0, 0, 0, 1, 1, 0, 0, 0.1, 0.1, 0.1, 0.1])
    found = _fitness.by_question(rewards, 4)
    sd = (rewards.var() + 1e-5) ** 0.5
    np.testing.assert_allclose(found[:4], np.array([0.75, -0.25, -0.25, -0.25]) / sd)
    np.testing.assert_allclose(found[4:8], np.array([0.5, 0.5, -0.5, -0.5]) / sd)
    assert not found[8:].any()
    assert not _fitness.by_question(np.full(8, 0.3), 4).any()


def by_hand(job: Job, member: Any, base: Any, sample: rollout.Sample) -> float:
    """One answer, one row, no padding."""
    row = Example(sample.prompt, sample.tokens)
    with torch.no_grad():
        weight = float(logprobs(base, row).mean().exp())
        ids = torch.tensor([row.prompt + row.completion])
        own, its = (
            one(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
            for one in (member, base)
        )
        kl = float((own.exp() * (own - its)).sum(-1).mean())
    weight = weight if job.options.weighting == "base_probability" else 1.0
    return weight * sample.reward - (job.anchor.strength * kl if job.anchor else 0.0)


@pytest.mark.parametrize(("anchor", "options"), [(KL, {}), (None, BOTH), (KL, BOTH)])
def test_corrections_of_the_base(
    tiny_base: Path, tmp_path: Path, anchor: Anchor | None, options: dict[str, Any]
) -> None:
    save_tiny(tmp_path / "start", seed=1)
    target = dataclasses.replace(letters(), max_new_tokens=120)  # so that some answers end
    chosen = job(tiny_base, tmp_path / "run", "es", anchor=anchor, target=target, options=options)
    policy = _model.load(chosen)._replace(model=loading.load(tmp_path / "start").model)
    meter = Trajectory(chosen, policy).meter
    sampler = rollout.sampler(chosen, policy, meter, 64)
    samples = rollout.rollout(
        sampler, chosen.target.train, temperature=1.0, generator=generator(0, "answers")
    )
    read = sum(len(s.prompt) + len(s.tokens) for s in samples)
    before = meter.ledger().forward_tokens
    rule = _fitness.fitness_rule(chosen, policy.tokenizer, meter)
    found = _fitness.fitness_of(rule, samples, partial(gradient.logits, policy.model))
    assert meter.ledger().forward_tokens == before + read * (2 if anchor else 1)
    base = loading.load(tiny_base).model
    wanted = [by_hand(chosen, policy.model, base, sample) for sample in samples]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert np.ptp(found) > 0


@pytest.mark.parametrize("layout", ["shared", "own"])
def test_members_are_judged_as_models_of_their_own(
    tiny_base: Path, tmp_path: Path, layout: str
) -> None:
    """Every member as a perturbed copy of the model that answers its prompts alone."""
    options = BOTH | {"layout": layout, "prompts_per_step": 2, "population": 8, "rollout_rows": 6}
    chosen = job(tiny_base, tmp_path, "eggroll", anchor=KL, options=options)
    policy = _model.load(chosen)
    meter = Trajectory(chosen, policy, gradient=False).meter
    sampler = rollout.sampler(chosen, policy, meter, 512)
    rule = _fitness.fitness_rule(chosen, policy.tokenizer, meter)
    matrices = _population.matrices(policy.model)
    noise = eggroll.noise_of(chosen.options, 5, 0)
    items = batch_at(chosen.target.train, 0, 0, 2)
    rewards, fitness = eggroll.evaluate(matrices, noise, chosen.options, sampler, rule, items).T
    assert meter.ledger().samples == (8 if layout == "own" else 16)
    base, drawn = loading.load(tiny_base).model, _population.draw(matrices, noise, 1, range(4))
    prompts = rollout.prompts(sampler, items)
    for number, member in enumerate(_noise.members(8, True)):
        single = copy.deepcopy(base)
        weights = torch.zeros(4)
        weights[member.direction] = member.sign * chosen.options.sigma
        _population.add_to_weights(_population.matrices(single), drawn, weights)
        own = slice(number // 4, number // 4 + 1) if layout == "own" else slice(0, 2)
        made = generate(single, prompts[own], max_new_tokens=16, stops=sampler.stops)
        samples = rollout.score(sampler, items[own], prompts[own], made.tokens)
        assert rewards[number] == pytest.approx(np.mean([s.reward for s in samples]))
        wanted = np.mean([by_hand(chosen, single, base, sample) for sample in samples])
        assert fitness[number] == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("es", BOTH | {"shaping": "ranks"}),
        ("eggroll", BOTH | {"shaping": "ranks"}),
        ("eggroll", BOTH | {"layout": "own", "prompts_per_step": 4}),
    ],
)
def test_logged_fitness_replays_to_the_same_bytes(
    tiny_base: Path, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    """Rewards are logged as they were earned, fitness as it counted; the null is there."""
    chosen = job(tiny_base, tmp_path, method, anchor=KL, options=options)
    outcome = (es if method == "es" else eggroll).train(chosen)
    model = loading.load(tiny_base).model
    for line in map(json.loads, (tmp_path / "steps.jsonl").read_text().splitlines()):
        assert 0 <= line["reward"] <= 1
        assert line["reward"] != pytest.approx(np.mean(line["fitness"]))
        fitness = np.array(line["fitness"])
        if method == "es":
            noise = es.noise_of(chosen.options, line["noise_key"], line["noise_step"])
            parameters = {n: p.data for n, p in _model.trainable_parameters(model).items()}
            es.update(parameters, noise, chosen.options, fitness)
        else:
            noise = eggroll.noise_of(chosen.options, line["noise_key"], line["noise_step"])
            eggroll.update(_population.matrices(model), noise, chosen.options, fitness)
    saved = loading.load(tmp_path / "checkpoints/s0-1.0000").model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert outcome.metrics["es_null"] > 0


@pytest.mark.parametrize(
    "options",
    [
        {"population": 10, "prompts_per_step": 4},
        {"population": 4, "prompts_per_step": 4},
        {"population": 12, "prompts_per_step": 4},
        {"population": 8, "prompts_per_step": 4, "shaping": "ranks"},
    ],
)
def test_populations_that_do_not_fit_the_published_layout(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="layout: own"):
        eggroll.Options(**options, layout="own")


def test_new_options_leave_the_ids_of_trained_cells_alone() -> None:
    """An option at its default is not in what a cell's id is made of; a chosen one is."""
    plain = es.Options().model_dump(mode="json")
    assert not {"shaping", "weighting"} & set(plain)
    assert es.Options(shaping="ranks").model_dump(mode="json")["shaping"] == "ranks"
