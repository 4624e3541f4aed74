"""Rejection sampling: what is accepted, from whom it was sampled, what is trained on it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.trainer_cases import job
from retainbench.harness.contracts.jobs import letters, weights
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.records import CheckpointRecord
from retainbench.harness.core.schema import Budget
from retainbench.harness.models import loading
from retainbench.harness.models.identity import weights_digest
from retainbench.trainers import rft
from retainbench.trainers._gradient import gradient as _gradient
from retainbench.trainers._gradient import pulls, updates
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared import rollout
from retainbench.trainers._shared.contract import TrainingError
from retainbench.trainers._shared.model import trainable_parameters

END = "checkpoints/s0-1.0000"


def options_of(**values: Any) -> rft.Options:
    return rft.Options(**values)


def samples(*rows: tuple[str, float, bool]) -> list[rollout.Sample]:
    return [rollout.Sample({}, [2], [3, 0], text, done, reward) for text, reward, done in rows]


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_threshold_duplicates_and_cut_off_answers() -> None:
    made = samples(
        (" 1+2", 1.0, True),
        (" 2+1", 1.0, True),
        (" 1+2", 1.0, True),
        (" 9", 0.1, True),
        (" 3", 1.0, False),
        (" 4", 0.99, True),
        (" 5", 0.5, True),
        (" 6", 0.0, True),
    )
    strict = options_of(samples_per_prompt=4, threshold=1.0)
    assert rft.accept(made, strict) == [[" 1+2", " 2+1"], []]
    lenient = options_of(samples_per_prompt=4, threshold=0.5)
    assert rft.accept(made, lenient) == [[" 1+2", " 2+1"], [" 4", " 5"]]


def test_every_accepted_prompt_gives_equally_many_rows() -> None:
    target = letters()
    accepted = [["x"], [], ["a", "b", "c"]]
    rows = rft.equalised(target, target.train[:3], accepted, 2)
    first, third = target.prompt(target.train[0]), target.prompt(target.train[2])
    assert rows == [(first, "x"), (first, "x"), (third, "a"), (third, "b")]


def test_objectives_have_the_published_values() -> None:
    """p = (0.5, 0.25, 0.8): NLL mean 0.767528, DFT mean 0.290554; gradients differ by p."""
    p = torch.tensor([0.5, 0.25, 0.8])
    logits = torch.stack([p.log(), (1 - p).log()], dim=-1)[None]
    places = _gradient.TargetPositions(0, torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3), 3)
    gradients = []
    for objective, wanted in (("nll", 0.767528), ("dft", 0.290554)):
        leaf = logits.double().requires_grad_()
        loss, metrics = _gradient.token_loss(leaf, places, objective, 3)  # type: ignore[arg-type]
        assert metrics["loss"] == pytest.approx(wanted, abs=1e-6)
        assert metrics["nll"] == pytest.approx(0.767528, abs=1e-6)
        (gradient,) = torch.autograd.grad(loss, leaf)
        gradients.append(gradient)
    torch.testing.assert_close(
        gradients[1], gradients[0] * p.double()[None, :, None], rtol=0, atol=1e-7
    )


def test_accumulation_leaves_the_gradient_alone(tiny_base: Path, tmp_path: Path) -> None:
    """Unequal lengths in unequal parts; float32 sums in another order set the tolerance."""
    from retainbench.trainers._shared.data import example
    from retainbench.trainers._shared.trajectory import Trajectory

    gradients = []
    for parts in (1, 3):
        chosen = job(tiny_base, tmp_path, "rft", options={"accumulation": parts})
        policy = _model.load(chosen)
        rows = [example(policy.tokenizer, "ab"[: n % 2 + 1], " x" * n) for n in range(1, 8)]
        trajectory = Trajectory(chosen, policy)
        loss = updates.token_losses(chosen.options.objective)
        updates.accumulate(trajectory, rows, loss, pulls.penalty(chosen))
        gradients.append([p.grad for p in policy.model.parameters()])
        assert trajectory.meter.ledger().backward_tokens == sum(map(len, sum(rows, ())))
    for one, three in zip(*gradients, strict=True):
        torch.testing.assert_close(one, three, atol=1e-7, rtol=1e-4)


def test_rounds_are_sampled_from_the_weights_before_them(tiny_base: Path, tmp_path: Path) -> None:
    """Killed at every step, so that the weights before each round are known."""
    chosen = job(tiny_base, tmp_path, "rft", options={"kept_per_prompt": 2, "batch_size": 8})
    points = tuple((f"s0-{n}", n / 4) for n in range(5))
    rft.train(dataclasses.replace(chosen, points=points))
    lines = log_of(tmp_path)
    rounds = [(n, line) for n, line in enumerate(lines) if "sampled_from" in line]
    assert len(rounds) > 1
    for step, line in rounds:
        model = loading.load(tmp_path / "checkpoints" / f"s0-{step}").model
        assert line["sampled_from"] == weights_digest(trainable_parameters(model).items())
        assert line["rejected"] + sum(line["accepted_per_prompt"]) == line["samples"]
        assert line["samples"] == 8 * chosen.options.samples_per_prompt
        assert line["temperature"] == 1.0
    assert len({line["sampled_from"] for _, line in rounds}) == len(rounds)


def test_last_rows_of_a_round_step_in_proportion(tiny_base: Path, tmp_path: Path) -> None:
    """Adam's first step is the rate in every coordinate, whatever the batch."""
    start = loading.load(tiny_base).model.state_dict()
    longest = {}
    for batch in (4, 64):
        chosen = job(tiny_base, tmp_path / str(batch), "rft", steps=1)
        options = chosen.options.model_copy(update={"batch_size": batch})
        rft.train(dataclasses.replace(chosen, options=options))
        end = loading.load(tmp_path / str(batch) / END).model.state_dict()
        longest[batch] = max(float((end[n] - start[n]).abs().max()) for n in start)
        record = read_json(tmp_path / str(batch) / f"{END}.json", CheckpointRecord)
        wanted = options.learning_rate * record.ledger.samples / batch
        assert longest[batch] == pytest.approx(wanted, rel=1e-3)
    assert longest[64] < longest[4]


def test_one_shot_samples_once_and_charges_it(tiny_base: Path, tmp_path: Path) -> None:
    rft.train(job(tiny_base, tmp_path, "rft", steps=6, options={"sampling": "one_shot"}))
    lines = log_of(tmp_path)
    assert ["sampled_from" in line for line in lines] == [True] + [False] * 5
    ledger = read_json(tmp_path / f"{END}.json", CheckpointRecord).ledger
    trained = min(4, sum(bool(n) for n in lines[0]["accepted_per_prompt"])) * 6
    assert ledger.samples == trained
    assert ledger.generated_tokens > 0
    assert lines[-1]["nll"] < lines[0]["nll"]


@pytest.mark.parametrize("sampling", ["one_shot", "iterative"])
def test_nothing_accepted_fails_the_cell(tiny_base: Path, tmp_path: Path, sampling: str) -> None:
    never = dataclasses.replace(letters(), reward=lambda _response, _item: 0.0)
    options = {"sampling": sampling, "samples_per_prompt": 1}
    with pytest.raises(TrainingError, match="nothing accepted: of 8 prompts"):
        rft.train(job(tiny_base, tmp_path, "rft", target=never, options=options))


def test_points_that_sampling_passes_hold_the_weights_that_sampled(
    tiny_base: Path, tmp_path: Path
) -> None:
    """They held the weights after the first update, drawn at a share long passed by then."""
    options = {"sampling": "one_shot", "sampling_share": 0.6, "samples_per_prompt": 64}
    chosen = job(tiny_base, tmp_path, "rft", options=options)
    budget = Budget(unit="flops", amount=2e9)
    points = tuple((f"s0-{share}", share) for share in (0.0, 0.05, 0.1, 1.0))
    rft.train(dataclasses.replace(chosen, budget=budget, points=points))
    before = weights(tmp_path / "checkpoints/s0-0.0")
    for share in ("0.05", "0.1"):
        kept = f"checkpoints/s0-{share}"
        assert weights(tmp_path / kept) == before
        record = read_json(tmp_path / f"{kept}.json", CheckpointRecord)
        assert record.ledger.steps == 0
        assert record.ledger.flops >= float(share) * budget.amount
    assert weights(tmp_path / END) != before
