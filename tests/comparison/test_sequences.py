"""Recipes that learn several targets in turn: METHODS 16 worked out from stored records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fixtures.gate import POLICY, drift, record
from retainbench.harness.comparison.compare import PointInput, scorecard
from retainbench.harness.comparison.methods import methods
from retainbench.harness.comparison.sequences import SequenceRow, phases, sequences
from retainbench.harness.core.files.storage import write_json, write_jsonl
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.records import (
    CheckpointRecord,
    ItemRecord,
    ItemText,
    Ledger,
    TrainRecord,
)
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.report import report
from retainbench.harness.suites.plan import Cell, Inputs, Plan

NAMES = ("a", "b", "c")
SCORES = ((0.8, 0.2, 0.1), (0.6, 0.9, 0.3), (0.5, 0.7, 0.95))
ALONE = {"a": 0.85, "b": 0.92, "c": 0.97}
ITEMS = 100


def answers(scores: Mapping[str, float]) -> list[ItemRecord]:
    """Rewards with the given means, and one retention task."""
    found = [record("general0", i, float(i < 80), axis="general") for i in range(ITEMS)]
    for name, score in scores.items():
        found += [
            record(
                name, i, float(i < round(score * ITEMS)), axis="target", metric="reward", chance=0.0
            )
            for i in range(ITEMS)
        ]
    return found


def text_of(one: ItemRecord) -> ItemText:
    return ItemText(
        task=one.task,
        item_id=one.item_id,
        doc_hash=one.doc_hash,
        prompt="?",
        choices=None,
        gold="!",
    )


def cell(name: str, targets: Sequence[str], seed: int = 0) -> Cell:
    return Cell.model_validate(
        {
            "id": f"{name}-{seed}",
            "base": "fruitfly",
            "target": targets[0],
            "name": name,
            "recipe": {"stages": [{"method": "sft", "target": target} for target in targets]},
            "seed": seed,
            "budget": {"unit": "steps", "amount": 9},
            "trajectory": [1.0],
            "dtype": "float32",
        }
    )


def store(root: Path, scored: Mapping[str, tuple[Cell, Sequence[Mapping[str, float]]]]) -> Path:
    """A run folder with each cell's rewards after each of its stages."""
    base, folder = answers(dict.fromkeys(NAMES, 0.1)), RunFolder(root)
    cells = [one for one, _ in scored.values()]
    recipes = {one.name: one.recipe.model_dump() for one in cells}
    suite: dict[str, Any] = {
        "name": "turns",
        "description": "",
        "base": "fruitfly",
        "targets": ["a"],
        "tasks": ["general"],
        "recipes": recipes,
        "seeds": sorted({one.seed for one in cells}),
        "budget": {"unit": "steps", "amount": 9},
        "policy": POLICY.model_dump(),
    }
    inputs = Inputs(base="b", tasks={}, versions={}).model_dump()
    plan = {"suite": suite, "inputs": inputs, "retention": ["general0"], "cells": cells}
    write_json(folder.plan, Plan.model_validate(plan))
    write_jsonl(folder.base_point("fruitfly").records, base)
    for name in {one.task for one in base}:
        rows = [one for one in base if one.task == name]
        write_jsonl(folder.items(name), map(text_of, rows))
    cards = [_store_cell(folder, one, base, rewards) for one, rewards in scored.values()]
    write_jsonl(folder.scorecards, cards)
    return root


def _store_cell(
    folder: RunFolder, one: Cell, base: list[ItemRecord], rewards: Sequence[Mapping[str, float]]
) -> Scorecard:
    points = []
    for stage, scores in enumerate(rewards):
        fraction, records = (stage + 1) / len(rewards), answers(scores)
        where = folder.cell(one.id).point(point_name(stage, fraction))
        write_jsonl(where.records, records)
        at = CheckpointRecord(
            stage=stage,
            fraction=fraction,
            folder="",
            weights_digest="w",
            ledger=Ledger(steps=round(9 * fraction)),
        )
        points.append(PointInput(at, records, drift()))
    train = TrainRecord(
        cell=one.id,
        status="done" if points else "failed",
        reason=None if points else "the loss is NaN",
        checkpoints=[point.checkpoint for point in points],
        trainable_parameters=1,
        total_parameters=1,
        metrics={},
        dtypes={},
        environment={},
    )
    asked = {record.task for point in points for record in point.records}  # type: ignore[union-attr]
    kept = [record for record in base if record.task in asked]
    card = scorecard(one, train, kept, points, POLICY, provenance={})
    write_json(folder.cell(one.id).scorecard, card)
    return card


def rows_of(*table: Sequence[float]) -> list[dict[str, float]]:
    return [dict(zip(NAMES, line, strict=True)) for line in table]


def single(name: str) -> tuple[Cell, list[dict[str, float]]]:
    """The cell that learns one target alone."""
    return cell(name, [name]), [{name: ALONE[name]}]


def the_row(root: Path) -> SequenceRow:
    (row,) = sequences(root)
    return row


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    turns = (cell("turns", NAMES), rows_of(*SCORES))
    return store(tmp_path_factory.mktemp("run"), {"turns": turns} | {n: single(n) for n in NAMES})


def test_the_worked_example_comes_out_of_stored_records(run: Path) -> None:
    row = the_row(run)
    assert row.targets == list(NAMES)
    assert row.before == pytest.approx([0.1] * 3)
    assert np.array(row.scores) == pytest.approx(np.array(SCORES))
    assert row.alone == pytest.approx([0.85, 0.92, 0.97])
    assert row.accuracy.value == pytest.approx(0.716667, abs=1e-6)
    assert row.backward_transfer.value == pytest.approx(-0.25)
    assert row.forward_transfer.value == pytest.approx(0.15)
    assert row.forgetting == pytest.approx(0.25)
    assert row.trace_backward_transfer == pytest.approx(-0.166667, abs=1e-6)
    assert row.intransigence is not None
    assert row.intransigence.value == pytest.approx(0.03)
    assert row.intransigence_reason is None
    for found in (row.accuracy, row.backward_transfer, row.forward_transfer, row.intransigence):
        assert found.low < found.value < found.high
    assert row.backward_transfer.n == 2 * ITEMS
    assert methods(run).sequences == [row]


def test_without_a_single_target_cell_intransigence_says_why(tmp_path: Path) -> None:
    turns = (cell("turns", NAMES), rows_of(*SCORES))
    row = the_row(store(tmp_path, {"turns": turns, "a": single("a"), "c": single("c")}))
    assert row.alone == [pytest.approx(0.85), None, pytest.approx(0.97)]
    assert row.intransigence is None
    assert row.intransigence_reason is not None
    assert "learns b alone" in row.intransigence_reason


def test_seeds_are_averaged_and_widen_the_interval(run: Path, tmp_path: Path) -> None:
    other = ((0.8, 0.2, 0.1), (0.8, 0.9, 0.3), (0.7, 0.9, 0.95))
    two = store(
        tmp_path,
        {
            "0": (cell("turns", NAMES, 0), rows_of(*SCORES)),
            "1": (cell("turns", NAMES, 1), rows_of(*other)),
        },
    )
    one, both = the_row(run), the_row(two)
    assert both.seeds == [0, 1]
    assert both.backward_transfer.value == pytest.approx((-0.25 - 0.05) / 2)
    width = both.backward_transfer.high - both.backward_transfer.low
    assert width > one.backward_transfer.high - one.backward_transfer.low


def test_a_rehearsal_belongs_to_the_phase_it_stands_in() -> None:
    assert [tuple(p) for p in phases(cell("x", ["a", "a", "b", "a"]))] == [("a", 1), ("b", 3)]
    assert [tuple(p) for p in phases(cell("x", ["b"]))] == [("b", 0)]


def test_a_failed_seed_leaves_no_row(tmp_path: Path) -> None:
    scored = {
        "0": (cell("turns", NAMES, 0), rows_of(*SCORES)),
        "1": (cell("turns", NAMES, 1), rows_of()),
    }
    root = store(tmp_path, scored)
    assert sequences(root) == []
    assert list(methods(root).absent) == ["turns on a"]


def test_every_format_has_the_second_table(run: Path) -> None:
    report.report(run, figures=False)
    folder = RunFolder(run)
    texts = {suffix: folder.table(suffix).read_text() for suffix in ("md", "tex", "html", "json")}
    texts["report"] = folder.report.read_text()
    for name, text in texts.items():
        assert "Targets learned in sequence" in text, name
        assert "80.0, 20.0, 10.0; 60.0, 90.0, 30.0; 50.0, 70.0, 95.0" in text, name
        assert "25.0" in text, name
    captions = 1 + len(report.load_table(run).further)
    assert texts["tex"].count(r"\caption{") == captions
    console = Console(width=200, file=StringIO())
    console.print(report.terminal(run, 200))
    assert "Targets learned in sequence" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_run_of_single_targets_has_no_second_table(tmp_path: Path) -> None:
    root = store(tmp_path, {"a": single("a")})
    report.report(root, figures=False)
    captions = [grid.caption for grid in report.load_table(root).further]
    assert captions == ["At the same gain", "What each recipe was given"]
    assert "Targets learned in sequence" not in RunFolder(root).table("json").read_text()
