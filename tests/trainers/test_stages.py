"""Recipes of several stages: where each starts, what it may spend, and resume between them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fixtures.trainer_cases import SMALL
from retainbench.harness.contracts.jobs import weights
from retainbench.harness.core import paths
from retainbench.harness.core.records import TrainRecord
from retainbench.harness.core.schema import Budget
from retainbench.harness.core.stages import Recipe
from retainbench.harness.models import bases, loading
from retainbench.harness.running.training import jobs
from retainbench.harness.running.training import train as training
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import Cell
from retainbench.harness.tasks.catalogue import OWN

SFT = {"method": "sft", "options": SMALL["sft"]}
LORA = SFT | {"adaptation": {"kind": "lora", "rank": 2}}
FACTS = SFT | {"target": "new_facts"}


class KilledError(Exception):
    """Stands for SIGKILL."""


def cell(base: Path, *stages: dict[str, Any], unit: Any = "steps", amount: float = 4) -> Cell:
    return Cell(
        id="0" * 16,
        base=str(base),
        target="countdown",
        name="staged",
        recipe=Recipe.model_validate({"stages": list(stages)}),
        seed=0,
        budget=Budget(unit=unit, amount=amount),
        trajectory=[1.0],
        dtype="float32",
    )


def train(chosen: Cell, folder: Path, progress: Any = None) -> TrainRecord:
    base = bases.resolve(chosen.base)
    return training.train(chosen, paths.CellFolder(folder), base, progress=progress)


def end_of(folder: Path, record: TrainRecord, stage: int = -1) -> dict[str, bytes]:
    return weights(folder / record.checkpoints[stage].folder)


@pytest.mark.parametrize("first", [SFT, LORA])
def test_a_stage_starts_from_the_weights_that_the_one_before_it_left(
    tiny_base: Path, tmp_path: Path, first: dict[str, Any]
) -> None:
    """T-STG-1: an adapter is merged first; from there the stage alone ends in the same bytes."""
    chosen, folder = cell(tiny_base, first, SFT), paths.CellFolder(tmp_path / "whole")
    whole = train(chosen, folder.root)
    job = jobs.make_job(chosen, 1, tiny_base, folder, whole.checkpoints[:1], "cpu", OWN)
    left = loading.load(folder.root / whole.checkpoints[0].folder).model.state_dict()
    start = load_file(job.base / "model.safetensors")
    assert all(torch.equal(start[name], value) for name, value in left.items())
    assert weights(job.base) != weights(tiny_base)
    again = paths.CellFolder(tmp_path / "again")
    methods.load("sft").train(dataclasses.replace(job, out=again.root))
    assert weights(again.checkpoint("s1-1.0000")) == end_of(folder.root, whole)


def test_a_sequence_of_one_target_is_the_single_run(tiny_base: Path, tmp_path: Path) -> None:
    """T-SEQ-3."""
    single = train(cell(tiny_base, SFT), tmp_path / "single")
    listed = train(cell(tiny_base, SFT | {"target": "countdown"}), tmp_path / "listed")
    assert end_of(tmp_path / "listed", listed) == end_of(tmp_path / "single", single)


@pytest.mark.parametrize("at", [0.25, 0.75])
def test_a_sequence_that_is_killed_ends_in_the_same_bytes(
    tiny_base: Path, tmp_path: Path, at: float
) -> None:
    """T-SEQ-1: killed in the middle of its first and of its second target."""
    chosen = cell(tiny_base, SFT, FACTS)
    whole = train(chosen, tmp_path / "whole")

    def die(share: float, _metrics: dict[str, float]) -> None:
        if share >= at:
            raise KilledError

    with pytest.raises(KilledError):
        train(chosen, tmp_path / "cut", die)
    resumed = train(chosen, tmp_path / "cut")
    for stage in (0, 1):
        assert end_of(tmp_path / "cut", resumed, stage) == end_of(tmp_path / "whole", whole, stage)
    logs = [(tmp_path / name / "steps.jsonl").read_text() for name in ("cut", "whole")]
    assert logs[0] == logs[1]


def test_a_recipe_of_stages_stops_within_one_step_of_the_budget(
    tiny_base: Path, tmp_path: Path
) -> None:
    """Four samples a step, shares of 10 / 3: every stage ends a step late, the recipe but once."""
    record = train(cell(tiny_base, SFT, SFT, SFT, unit="samples", amount=10), tmp_path)
    assert [point.ledger.samples for point in record.checkpoints] == [4, 8, 12]


def test_a_stage_whose_share_is_spent_fails_the_cell(tiny_base: Path, tmp_path: Path) -> None:
    record = train(cell(tiny_base, *[SFT] * 6, unit="samples", amount=10), tmp_path)
    assert record.status == "failed"
    assert record.reason is not None
    assert "stage 1 has no budget: the stages before it spent 40%" in record.reason
    assert record.checkpoints[0].ledger.samples == 4
