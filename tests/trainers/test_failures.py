"""What cannot work must say so: no reward, equal rewards, nothing left to learn, NaN, no budget.

Runs over discovery. A method either raises `TrainingError` with its reason, or trains in earnest; a
run that ends well with the weights of its start is the silent success that none of them may have.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fixtures.trainer_cases import SMALL, job
from retainbench.harness.contracts.jobs import letters
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.schema import Budget
from retainbench.harness.core.stages import Recipe, Stage
from retainbench.harness.models import bases
from retainbench.harness.running.training.train import train as train_cell
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import Cell
from retainbench.trainers._shared.contract import Job, Target, TrainingError

METHODS = methods.methods()
END = "checkpoints/s0-1.0000"
IMITATION = {"sft", "dft", "sdft", "gkd"}
"""Methods that follow the reference answers or a teacher and learn from no reward."""
CONSTANT = {"all-zero": 0.0, "all-equal": 0.5, "gold-only": 1.0}
"""Every answer's reward; `gold-only`: whatever the model writes is already right."""
PAIRED = ("dpo", "kto", "orpo", "simpo")
ALWAYS_TEACHES = {("rft", "gold-only"), *((method, "all-zero") for method in PAIRED)}
"""Methods of pairs by default prefer the reference answer, which beats every sample that earned
nothing. RFT trains on every accepted sample. Any reward above 0 teaches the other sampling methods
to end in time, because an answer that was cut off earns nothing; where none was, they must say
so."""


def constant(value: float) -> Target:
    return dataclasses.replace(letters(), reward=lambda _response, _item: value)


def end_of(chosen: Job, method: str) -> str | None:
    """Why a run failed or ended early; None after one that spent its budget. Weights moved."""
    try:
        outcome = methods.load(method).train(chosen)
    except TrainingError as error:
        return str(error)
    start = load_file(chosen.base / "model.safetensors")
    final = load_file(chosen.out / END / "model.safetensors")
    assert any(not torch.equal(final[name], start[name]) for name in start), "nothing moved"
    assert all(torch.isfinite(value).all() for value in final.values())
    reason: str | None = outcome.reason
    return reason


@pytest.mark.parametrize("case", CONSTANT)
@pytest.mark.parametrize("method", METHODS)
def test_rewards_that_teach_nothing(
    tiny_base: Path, tmp_path: Path, method: str, case: str
) -> None:
    chosen = job(tiny_base, tmp_path, method, steps=2, target=constant(CONSTANT[case]))
    reason = end_of(chosen, method)
    if method in IMITATION or (method, case) in ALWAYS_TEACHES:
        assert reason is None
    elif not CONSTANT[case]:
        assert reason is not None, "a reward without differences cannot have taught anything"
    assert reason is None or len(reason.split()) > 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.5, -0.1])
@pytest.mark.parametrize("method", sorted({*METHODS} - IMITATION))
def test_reward_outside_its_range_fails_the_cell(
    tiny_base: Path, tmp_path: Path, method: str, bad: float
) -> None:
    """Before it gets into the weights: one NaN turns all of them into NaN."""
    with pytest.raises(TrainingError, match=r"the target's reward gave (nan|inf|1\.5|-0\.1) for"):
        methods.load(method).train(job(tiny_base, tmp_path, method, target=constant(bad)))
    assert not (tmp_path / END).exists()


@pytest.mark.parametrize("method", METHODS)
def test_diverging_run_is_not_a_success(tiny_base: Path, tmp_path: Path, method: str) -> None:
    """A rate of 1e30 overflows float32 in the first forward pass after the first step."""
    hot = job(tiny_base, tmp_path, method, steps=4, options={"learning_rate": 1e30})
    reason = end_of(hot, method)
    assert reason is not None
    assert len(reason.split()) > 3


@pytest.mark.parametrize("method", ["sft", "dpo", "es"])
def test_rate_that_ruins_the_weights_in_the_last_step(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """The loss of that step was computed before its update, so only the weights can tell."""
    hot = job(tiny_base, tmp_path, method, steps=1, options={"learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"the weights overflowed (at|by) step 1"):
        methods.load(method).train(hot)
    assert not (tmp_path / END).exists()


@pytest.mark.parametrize("method", METHODS)
def test_budget_below_one_step(tiny_base: Path, tmp_path: Path, method: str) -> None:
    """One FLOP: a method ends within one step of it, or says that it had no budget for a step."""
    small = dataclasses.replace(
        job(tiny_base, tmp_path, method), budget=Budget(unit="flops", amount=1.0)
    )
    reason = end_of(small, method)
    if reason is None:
        assert len((tmp_path / "steps.jsonl").read_text().splitlines()) == 1
    else:
        assert len(reason.split()) > 5


@pytest.mark.parametrize("method", ["grpo", "rloo", "sdft"])
def test_group_that_does_not_fit_the_batch_is_refused_before_training(method: str) -> None:
    stage = Stage(method=method, options={"batch_size": 12})
    with pytest.raises(
        UsageError, match="options: batch_size 12 is not a multiple of num_gen"
    ) as e:
        methods.check(stage, "x")
    assert "\n" not in str(e.value)


def test_dpo_on_the_best_needs_two_different_rewards(tiny_base: Path, tmp_path: Path) -> None:
    chosen = job(tiny_base, tmp_path, "dpo", target=constant(0.0), options={"chosen": "best"})
    with pytest.raises(TrainingError, match="no pair of answers with different rewards"):
        methods.load("dpo").train(chosen)


def failing(base: Path, method: str, teacher: Path) -> Cell:
    """A random model on countdown, which it never solves, at a rate that no weights survive."""
    hot = SMALL[method] | {"learning_rate": 1e30}
    taught_by = str(teacher) if methods.learns_from_teacher(methods.load(method)) else None
    return Cell(
        id="0" * 16,
        base=str(base),
        target="countdown",
        name="hopeless",
        recipe=Recipe(stages=[Stage(method=method, options=hot, teacher=taught_by)]),
        seed=0,
        budget=Budget(unit="samples", amount=100),
        trajectory=[1.0],
        dtype="float32",
    )


@pytest.mark.parametrize("method", METHODS)
def test_failed_cell_is_recorded_and_not_tried_again(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """The second call only reads the record."""
    save_tiny(tmp_path / "teacher", seed=1)
    cell = failing(tiny_base, method, tmp_path / "teacher")
    folder = paths.CellFolder(tmp_path / "cell")
    base = bases.resolve(cell.base)
    record = train_cell(cell, folder, base)
    assert record.status == "failed"
    assert record.reason is not None
    assert len(record.reason.split()) > 3
    assert record.checkpoints == []
    written = folder.train.read_bytes()

    def forbidden(_share: float, _metrics: dict[str, float]) -> None:
        raise AssertionError("a failed cell was trained again")

    assert train_cell(cell, folder, base, progress=forbidden) == record
    assert folder.train.read_bytes() == written
