"""The live view: what the bar says, what progress.jsonl holds, which trackers are refused."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from fixtures.runs import SFT, plan_of, suite
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_jsonl
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.running import bars as running_bars
from retainbench.harness.running import live
from retainbench.harness.running import run as runner
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks import catalogue


def test_retention_shows_as_soon_as_a_checkpoint_is_scored(tmp_path: Path) -> None:
    """As the tables say it: items that the training data give away are left out."""
    hot = SFT | {"options": SFT["options"] | {"learning_rate": 1e-2}}
    settings = {"tasks": ["capitals", "dates"], "divergence_prompts": 0, "recipes": {"hot": hot}}
    chosen = suite(Path("fruitfly"), **settings)
    given = [item["id"] for item in catalogue.items(catalogue.own()["capitals"])[::3]]
    overlap = {"countdown": {"capitals": given}}
    inputs = planning.gather(chosen).model_copy(update={"overlap": overlap})
    plan = planning.plan(chosen, inputs)
    folder = RunFolder(tmp_path / "run")
    console = Console(file=io.StringIO(), force_terminal=True, width=160, highlight=False)
    with running_bars.lines(console) as bars:
        view = live.ProgressView(plan, console, bars, folder.progress)
        seen: list[str] = []
        left = [str(bars.tasks[0].fields["left"])]

        def watch(*told: object) -> None:
            view.step(*told)  # type: ignore[arg-type]
            seen.extend(str(task.fields["shown"]) for task in bars.tasks[1:])
            left.extend(str(task.fields["left"]) for task in bars.tasks)

        runner.run(plan, folder.root, watch=watch, finished=view.finished)
    assert seen[0].startswith("of the budget  loss ")
    assert left[0] == "scoring the base"
    assert re.fullmatch(r"about \d+ (s|min|h) left|", left[1])
    assert left[-1] == "scoring"
    assert "retention" not in seen[0]
    assert "retention" in seen[-1]
    assert seen[-1].endswith("pp at 100%")
    (card,) = read_jsonl(folder.scorecards, Scorecard)
    events = [json.loads(line) for line in folder.progress.read_text().splitlines()]
    assert [event["event"] for event in events] == ["scored", "scored", "done"]
    assert [event["share"] for event in events[:-1]] == [0.5, 1.0]
    end = card.points[-1]
    kept = -sum(axis.drop.value for axis in end.axes) / len(end.axes)
    assert events[1]["retention"] == pytest.approx(kept)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "of the budget" in output
    assert "[1/1]" in output


def test_an_unknown_or_missing_tracker_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="--report-to mlflow: choose one of tensorboard, trackio"):
        live.check_trackers(["mlflow"])
    monkeypatch.setitem(live.TRACKERS, "wandb", ("a_package_that_is_not_there",))
    with pytest.raises(UsageError, match="not installed; pip install a_package"):
        live.check_trackers(["wandb"])
    live.check_trackers([])


def test_metrics_reach_tensorboard_in_the_cells_folder(tiny_base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="pip install tensorboardX")
    plan = plan_of(suite(tiny_base, recipes={"sft": SFT}, divergence_prompts=0))
    (card,) = runner.run(plan, tmp_path / "run", report_to=("tensorboard",))
    assert card.status == "done"
    where = RunFolder(tmp_path / "run").cell(card.cell).root / "tensorboard"
    (events,) = where.iterdir()
    assert b"train/loss" in events.read_bytes()


def test_the_time_left_is_that_of_the_cells_that_were_run_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(running_bars.time, "monotonic", lambda: now[0])
    with running_bars.lines(Console(file=io.StringIO())) as bars:
        cells = running_bars.CellBars(bars, cells=4, points=2)
        task = bars.tasks[0]
        cells.finished("an earlier run's")
        assert task.fields["left"] == ""
        cells.step("a", "A", 0.01, "", scored=False)
        now[0] += 10
        # Half a cell in 10 s: two and a half more take 50.
        cells.step("a", "A", 1.0, "", scored=False)
        assert task.fields["left"] == "about 50 s left"
        now[0] += 5
        cells.step("a", "A", 0.5, "", scored=True)
        assert task.completed == pytest.approx(1.75)
        now[0] += 5
        cells.finished("a")
        assert task.fields["left"] == "about 40 s left"
        cells.finished("failed before its first step")
        assert task.fields["left"] == "about 20 s left"
