"""ORPO and SimPO: their losses by hand, the gradient of a step, and pairs shared with DPO."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import (
    assert_same,
    differentiate,
    divergence,
    gradients,
    log_of,
    logprobs,
)
from retainbench.harness.contracts.jobs import letters
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.stages import Anchor
from retainbench.harness.models import loading
from retainbench.harness.suites import methods
from retainbench.trainers._gradient.preference_pairs import PreferencePairs
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.contract import Job
from retainbench.trainers._shared.data import Example
from retainbench.trainers.orpo import orpo_loss
from retainbench.trainers.simpo import simpo_loss

Pairs = list[tuple[Example, Example]]


def pairs_of(chosen: Job) -> Pairs:
    """The first batch: (preferred, rejected)."""
    made = PreferencePairs(chosen, loading.load(chosen.base).model, _model.load(chosen))
    rows = [made.at(place).row for place in range(chosen.options.batch_size)]
    return [
        (Example(r["prompt_ids"], r["chosen_ids"]), Example(r["prompt_ids"], r["rejected_ids"]))
        for r in rows
    ]


def test_losses_have_the_values_of_their_formulas() -> None:
    half, quarter = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    assert float(orpo_loss(half, quarter, 0.1)) == pytest.approx(0.693147 + 0.0287682, abs=1e-5)
    assert float(orpo_loss(half, half, 1.0)) == pytest.approx(2 * 0.693147, abs=1e-5)
    one, two = torch.tensor([-1.0]), torch.tensor([-2.0])
    assert float(simpo_loss(one, two, 2.0, 1.0)) == pytest.approx(0.313262, abs=1e-5)
    assert float(simpo_loss(one, one, 2.0, 0.0)) == pytest.approx(0.693147, abs=1e-5)


def orpo_by_hand(good: torch.Tensor, bad: torch.Tensor) -> torch.Tensor:
    odds = [p.exp() / (1 - p.exp()) for p in (good, bad)]
    return -good - 0.1 * (odds[0] / odds[1]).log().sigmoid().log()


def simpo_by_hand(good: torch.Tensor, bad: torch.Tensor) -> torch.Tensor:
    return -(2 * (good - bad) - 1).sigmoid().log()


@pytest.mark.parametrize(("method", "loss"), [("orpo", orpo_by_hand), ("simpo", simpo_by_hand)])
@pytest.mark.parametrize("parts", [1, 3])
def test_first_gradient_is_the_formula(
    tiny_base: Path, tmp_path: Path, method: str, loss: Any, parts: int
) -> None:
    """One row at a time, no padding; four pairs in one part and in three unequal ones."""
    target = dataclasses.replace(letters(), max_new_tokens=120)
    options = {"batch_size": 4, "accumulation": parts, "max_grad_norm": 1e9}
    chosen = job(tiny_base, tmp_path, method, steps=1, target=target, options=options)
    rows = pairs_of(chosen)

    def whole(model: Any) -> torch.Tensor:
        means = [[logprobs(model, answer).mean() for answer in pair] for pair in rows]
        return torch.stack([loss(good, bad) for good, bad in means]).mean()

    value, wanted = differentiate(tiny_base, whole)
    with gradients() as seen:
        methods.load(method).train(chosen)
    assert_same(seen[0], wanted)
    (line,) = log_of(chosen)
    assert line["loss"] == pytest.approx(value, rel=1e-4)
    assert line["logp_chosen"] < 0


def test_anchor_adds_the_kl_on_both_answers(tiny_base: Path, tmp_path: Path) -> None:
    """The cell's base is another model than the stage's start, so that the first KL is not 0."""
    save_tiny(tmp_path / "start", seed=1)
    target = dataclasses.replace(letters(), max_new_tokens=120)
    options = {"batch_size": 4, "max_grad_norm": 1e9}
    anchor = Anchor(kind="kl", strength=0.3)
    start = tmp_path / "start"
    chosen = job(
        start, tmp_path / "run", "orpo", steps=1, target=target, options=options, anchor=anchor
    )
    chosen = dataclasses.replace(chosen, reference=tiny_base)
    rows, base = pairs_of(chosen), loading.load(tiny_base).model
    answers = [answer for pair in rows for answer in pair]

    def whole(model: Any) -> torch.Tensor:
        means = [[logprobs(model, answer).mean() for answer in pair] for pair in rows]
        plain = torch.stack([orpo_by_hand(good, bad) for good, bad in means]).mean()
        return plain + 0.3 * divergence(model, base, answers)

    _, wanted = differentiate(start, whole)
    with gradients() as seen:
        methods.load("orpo").train(chosen)
    assert_same(seen[0], wanted)
    assert log_of(chosen)[0]["kl"] > 1e-3


@pytest.mark.parametrize("method", ["orpo", "simpo"])
def test_the_better_answer_wins(tiny_base: Path, tmp_path: Path, method: str) -> None:
    """Eight items over and over: every pair is the right way round at the end."""
    options = {"batch_size": 8, "learning_rate": 3e-3}
    chosen = job(tiny_base, tmp_path, method, steps=24, options=options)
    methods.load(method).train(chosen)
    lines = log_of(chosen)
    assert lines[-1]["accuracy"] == 1.0
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
