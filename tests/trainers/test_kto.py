"""KTO against its formula, on the rows that it makes of pairs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import assert_same, differentiate, gradients, log_of, logprobs
from retainbench.harness.contracts.jobs import letters
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.models import loading
from retainbench.trainers import kto
from retainbench.trainers._gradient.preference_pairs import PreferencePairs
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.data import Example


@pytest.mark.parametrize("parts", [1, 2])
def test_second_gradient_is_the_formula(tiny_base: Path, tmp_path: Path, parts: int) -> None:
    """From the weights after the first step, so that ratios and the estimate are not 0."""
    target = dataclasses.replace(letters(), max_new_tokens=120)
    options = {
        "batch_size": 8,
        "accumulation": parts,
        "max_grad_norm": 1e9,
        "learning_rate": 1e-2,
        "beta": 0.5,
        "undesirable_weight": 0.7,
    }
    chosen = job(tiny_base, tmp_path, "kto", steps=2, target=target, options=options)
    base = loading.load(tiny_base).model
    pairs = PreferencePairs(chosen, base, _model.load(chosen), 4)
    rows = [kto.row(pairs, place, 8 // parts) for place in range(8, 16)]

    def ratio(model: Any, answer: Example) -> torch.Tensor:
        return logprobs(model, answer).sum() - logprobs(base, answer).sum().detach()

    def loss(model: Any) -> torch.Tensor:
        total = torch.zeros(())
        for start in range(0, 8, 8 // parts):
            part = rows[start : start + 8 // parts]
            with torch.no_grad():
                wrong = [Example(r["prompt_ids"], r["KL_completion_ids"]) for r in part]
                z = torch.stack([ratio(model, one) for one in wrong]).mean().clamp(min=0)
            for r in part:
                own = ratio(model, Example(r["prompt_ids"], r["completion_ids"]))
                gap = 0.5 * (own - z) if r["label"] else 0.5 * (z - own)
                weight = 1.0 if r["label"] else 0.7
                total = total + weight * (1 - gap.sigmoid()) / len(rows)
        return total

    with gradients() as seen:
        kto.train(chosen)
    value, wanted = differentiate(tmp_path / "checkpoints/s0-0.5000", loss)
    assert_same(seen[1], wanted)
    assert log_of(chosen)[1]["loss"] == pytest.approx(value, rel=1e-4)


def test_rows_alternate_and_borrow_their_neighbours_answer(tiny_base: Path, tmp_path: Path) -> None:
    chosen = job(tiny_base, tmp_path, "kto")
    pairs = PreferencePairs(chosen, loading.load(tiny_base).model, _model.load(chosen), 2)
    rows = [kto.row(pairs, place, 4) for place in range(8)]
    assert [row["label"] for row in rows] == [True, False] * 4
    for place, row in enumerate(rows):
        before = place - 1 if place % 4 else place + 3
        assert row["KL_completion_ids"] == rows[before]["completion_ids"]


def test_desirable_answers_gain_on_undesirable_ones(tiny_base: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "base", seed=2)
    options = {"batch_size": 8, "learning_rate": 3e-3}
    chosen = job(tmp_path / "base", tmp_path / "run", "kto", steps=16, options=options)
    kto.train(chosen)
    lines = log_of(chosen)
    assert lines[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["rewards/margins"] > 0.1


@pytest.mark.parametrize("options", [{"batch_size": 5}, {"batch_size": 8, "accumulation": 4}])
def test_batches_that_leave_nothing_to_mismatch(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="even and at least 4"):
        kto.Options(**options)
