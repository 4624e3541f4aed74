"""The main job on a tiny base: train, score, tabulate; kill and resume; failures stay visible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.runs import DYING, ES, SFT, TABLES, dying, plan_of, suite
from fixtures.threads import one_thread
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_json, read_jsonl
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.records import Commands, ItemRecord
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.models import bases, loading
from retainbench.harness.models.placement import Placement
from retainbench.harness.report import report as reporting
from retainbench.harness.running import run as runner
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue

KILLED = """
import os, signal, sys

opened = 0

def before(event, arguments):
    global opened
    if event == "open" and str(arguments[0]) == FILE:
        opened += 1
        if opened == 4:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(before)
"""
"""Before the fourth line of a step log is written."""


def test_a_killed_run_ends_in_the_same_tables(tiny_base: Path, tmp_path: Path) -> None:
    chosen = suite(tiny_base, recipes={"sft": SFT, "es": ES})
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(chosen.model_dump(mode="json", exclude_none=True)))

    def start(folder: str, before: str = "") -> int:
        program = f"{before}\nfrom retainbench.harness.cli.main import main; main()"
        arguments = ["run", str(file), "--out", str(tmp_path / folder), "--quiet"]
        with (tmp_path / f"{folder}.err").open("a") as errors:
            return subprocess.call(
                [sys.executable, "-c", program, *arguments],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stderr=errors,
            )

    assert start("whole") == 0
    assert "it/s" not in (tmp_path / "whole.err").read_text(), "a library draws bars"
    steps = RunFolder(tmp_path / "cut").cell(plan_of(chosen).cells[1].id).steps
    assert start("cut", f"FILE = {str(steps)!r}{KILLED}") == -signal.SIGKILL
    assert len(steps.read_bytes().splitlines()) == 3
    assert not (tmp_path / "cut" / "table.md").exists()
    assert start("cut") == 0
    for name in TABLES:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_no_steps_leave_every_score_and_weight_as_it_was(tiny_base: Path, tmp_path: Path) -> None:
    chosen = suite(tiny_base, budget={"unit": "steps", "amount": 0})
    planned = plan_of(chosen)
    (card,) = runner.run(planned, tmp_path / "run")
    end = card.points[-1]
    assert end.drift is not None
    assert end.drift.frobenius == 0.0
    assert end.drift.unchanged_exact == 1.0
    assert end.divergence is not None
    assert set(end.divergence.forward.values()) == {0.0}
    assert end.gain.value == 0.0
    assert [(task.lost, task.gained, task.drop.value) for task in end.tasks] == [(0, 0, 0.0)] * 3
    # The run's store knows that the weights are the base's; score them once more without it.
    folder = RunFolder(tmp_path / "run")
    checkpoint = folder.cell(card.cell).checkpoint("s0-1.0000")
    infos = catalogue.OWN.find(["capitals", "capitals_free", "dates", "countdown"])
    again = evaluate.evaluate(loading.load(checkpoint), infos, limit=60)
    assert again == read_jsonl(folder.base_point(chosen.base).records, ItemRecord)


def test_a_run_scores_in_the_precision_of_its_suite(tiny_base: Path, tmp_path: Path) -> None:
    """As certify and evaluate do with `--dtype bfloat16`, an adapter among the checkpoints."""
    small = {"budget": {"unit": "steps", "amount": 0}, "tasks": ["capitals"], "trajectory": [1.0]}
    recipes = {"sft": SFT, "lora": SFT | {"adaptation": {"kind": "lora"}}}
    asked = {**small, "recipes": recipes, "noise_floor": ["repeat"]}
    exact = plan_of(suite(tiny_base, **asked))
    rounded = plan_of(suite(tiny_base, **asked, scoring_dtype="bfloat16"))
    assert [cell.id for cell in rounded.cells] == [cell.id for cell in exact.cells]
    cards = runner.run(rounded, tmp_path / "run")
    assert [set(card.points[-1].divergence.forward.values()) for card in cards] == [{0.0}] * 2
    folder = RunFolder(tmp_path / "run")
    points = [folder.base_point(str(tiny_base)).records]
    points += [folder.cell(cell.id).point("s0-1.0000").records for cell in rounded.cells]
    base, placement = bases.of_folder(tiny_base), Placement(dtype="bfloat16")
    [expected] = evaluate.of_model(base, ["capitals"], 60, placement=placement)
    for point in points:
        scored = [one for one in read_jsonl(point, ItemRecord) if one.task == "capitals"]
        assert scored == expected
    with pytest.raises(UsageError, match="scoring_dtype"):
        runner.run(exact, tmp_path / "run")


def test_a_failed_cell_is_recorded_and_stops_nobody(tiny_base: Path, tmp_path: Path) -> None:
    hopeless = SFT | {"options": {"learning_rate": 1e30, "batch_size": 4}}
    chosen = suite(tiny_base, recipes={"hopeless": hopeless, "sft": SFT})
    planned = plan_of(chosen)
    seen: list[str] = []
    cards = runner.run(planned, tmp_path, finished=lambda cell, _card: seen.append(cell.name))
    assert seen == ["hopeless", "sft"]
    assert [card.status for card in cards] == ["failed", "done"]
    assert cards[0].reason
    reporting.report(tmp_path, figures=False)
    assert "failed" in (tmp_path / "table.md").read_text()
    assert read_jsonl(RunFolder(tmp_path).scorecards, Scorecard) == cards


def test_a_crashed_cell_is_recorded_and_runs_again(tiny_base: Path, tmp_path: Path) -> None:
    chosen = suite(tiny_base, recipes={"sft": SFT, "slow": SFT | {"options": {"batch_size": 2}}})
    planned = plan_of(chosen)
    runner.open_folder(planned, tmp_path)
    folder = RunFolder(tmp_path).cell(planned.cells[0].id)
    folder.steps.mkdir(parents=True)  # the step log cannot be written
    cards = runner.run(planned, tmp_path)
    assert [card.status for card in cards] == ["failed", "done"]
    reporting.report(tmp_path, figures=False)
    assert "failed" in (tmp_path / "table.md").read_text()
    folder.steps.rmdir()
    assert [card.status for card in runner.run(planned, tmp_path)] == ["done", "done"]


def test_a_worker_that_dies_takes_only_its_own_cell_along(tiny_base: Path, tmp_path: Path) -> None:
    recipes = {"sft": DYING, "small": DYING | {"options": {"batch_size": 2}}}
    chosen, tasks = dying(tmp_path / "died", tiny_base, recipes=recipes, seeds=[0, 1])
    planned, folder = plan_of(chosen, tasks), tmp_path / "run"
    cards = runner.run(planned, folder, workers=2, tasks=tasks)
    assert [card.reason for card in cards if card.status == "failed"] == [
        "RuntimeError: its worker process died"
    ]
    assert all(card.status == "done" for card in runner.run(planned, folder, tasks=tasks))


def test_stages_are_scored_one_by_one_and_chain(tiny_base: Path, tmp_path: Path) -> None:
    adapted = SFT | {"adaptation": {"kind": "lora", "rank": 2}}
    chosen = suite(
        tiny_base,
        trajectory=[1.0],
        recipes={"staged": {"stages": [adapted, SFT, adapted | {"target": "new_facts"}]}},
    )
    (card,) = runner.run(plan_of(chosen), tmp_path)
    assert card.status == "done", card.reason
    assert [(point.stage, round(point.fraction, 3)) for point in card.points] == [
        (0, 0.333),
        (1, 0.667),
        (2, 1.0),
    ]
    drifts = [point.drift.frobenius for point in card.points if point.drift]
    assert drifts[0] > 0
    assert len(set(drifts)) == 3
    assert [len(point.tasks) for point in card.points] == [3, 3, 3]
    assert [point.ledger.steps for point in card.points] == [4, 8, 12]


def test_a_folder_of_another_suite_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    runner.open_folder(plan_of(suite(tiny_base)), tmp_path / "run")
    with pytest.raises(UsageError, match="belongs to another run"):
        runner.open_folder(plan_of(suite(tiny_base, trajectory=[1.0])), tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not touch")
    with pytest.raises(UsageError, match="not empty"):
        runner.open_folder(plan_of(suite(tiny_base)), tmp_path / "full")


def test_a_run_takes_more_seeds_and_recipes(tiny_base: Path, tmp_path: Path) -> None:
    """The cells that are there are not trained again; the tables are those of one run."""
    grown: dict[str, Any] = {
        "seeds": [0, 7],
        "recipes": {"sft": SFT, "more": SFT | {"adaptation": "lora"}},
    }
    runner.run(plan_of(suite(tiny_base)), tmp_path / "run")
    trained = {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("train.json")}
    for folder in ("run", "at-once"):
        runner.run(plan_of(suite(tiny_base, **grown)), tmp_path / folder)
        reporting.report(tmp_path / folder, figures=False)
    for name in TABLES:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "at-once" / name).read_bytes()
    assert trained
    assert {f: f.stat().st_mtime_ns for f in trained} == trained
    with pytest.raises(UsageError, match="cells that are there"):
        runner.open_folder(plan_of(suite(tiny_base)), tmp_path / "run")


def test_the_first_command_is_recorded(tiny_base: Path, tmp_path: Path) -> None:
    planned, folder = plan_of(suite(tiny_base)), RunFolder(tmp_path)
    first = ["retainbench", "run", "my suite.yaml", "--device", "cuda"]
    runner.run(planned, tmp_path, command=first)
    runner.run(planned, tmp_path, command=["retainbench", "run", "my suite.yaml"])
    assert read_json(folder.commands, Commands).lines == [first]


def test_workers_give_the_same_table(tiny_base: Path, tmp_path: Path) -> None:
    planned = plan_of(suite(tiny_base, seeds=[0, 1]))
    with one_thread():
        alone = runner.run(planned, tmp_path / "alone")
        shared = runner.run(planned, tmp_path / "shared", workers=2)
    assert [c.points[-1].weights_digest for c in alone] == [
        c.points[-1].weights_digest for c in shared
    ]
    for name in ("alone", "shared"):
        reporting.report(tmp_path / name, figures=False)
    for table in TABLES:
        first, second = (tmp_path / name / table for name in ("alone", "shared"))
        assert first.read_bytes() == second.read_bytes()
