"""`retainbench gate --base-results`: choices by task, and limited runs that never pass."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.adoption import inspect_log, lighteval, lm_eval_row, lm_eval_run
from retainbench.harness.adoption.choices import choices
from retainbench.harness.cli import main as cli
from retainbench.harness.core.errors import UsageError
from retainbench.harness.gate.command import FinishedGate, Sources, command

ITEMS = 120


def lm_eval(folder: Path, limited: bool) -> None:
    rows = [lm_eval_row(i, topic=f"t{i // 4}") for i in range(ITEMS)]
    for i, row in enumerate(rows):
        row["doc"] = {"id": i, "topic": f"t{i // 4}"}
    original = ITEMS + 5 if limited else ITEMS
    lm_eval_run(folder, rows, **{"n-samples": {"tiny": {"original": original, "effective": ITEMS}}})


def light(folder: Path, limited: bool) -> None:
    lighteval(folder, [True] * ITEMS)
    if limited:
        (results,) = folder.rglob("results_*.json")
        value = json.loads(results.read_text())
        value["config_general"]["max_samples"] = ITEMS
        results.write_text(json.dumps(value))


def inspect(folder: Path, limited: bool) -> None:
    folder.mkdir()
    log = inspect_log("tiny", ["C"] * ITEMS)
    log["eval"].setdefault("config", {})["limit"] = ITEMS if limited else None
    (folder / "log.json").write_text(json.dumps(log))


def gated(folder: Path, **options: Any) -> FinishedGate:
    """The same results on both sides, so that nothing changed."""
    (folder / "policy.yaml").write_text("margin: 0.05\nminimum_items: 50\n")
    sources = Sources(
        base_results=folder / "results",
        candidate_results=folder / "results",
        choices=choices(**options),
    )
    return command(sources, policy=folder / "policy.yaml")


@pytest.mark.parametrize("write", [lm_eval, light, inspect])
def test_a_limited_run_never_passes(tmp_path: Path, write: Callable[[Path, bool], None]) -> None:
    write(tmp_path / "results", False)
    assert gated(tmp_path).exit_code == 0
    other = tmp_path / "limited"
    other.mkdir()
    write(other / "results", True)
    finished = gated(other)
    assert finished.exit_code == 3
    (result,) = finished.results
    assert {task.verdict for task in result.tasks} == {"PASS"}
    assert "no regression was shown, but only all items can pass" in result.reasons[0]
    assert str(ITEMS) in result.reasons[0] or "--limit" in result.reasons[0]


def test_axis_metric_and_cluster_are_chosen_by_task_or_pattern(tmp_path: Path) -> None:
    lm_eval(tmp_path / "results", False)
    (plain,) = gated(tmp_path).results[0].tasks
    assert (plain.change.axis, plain.change.metric, plain.change.clusters) == (
        "general",
        "acc",
        120,
    )
    chosen = gated(tmp_path, axis=["t*=numeric"], metric=["tiny=acc_norm"], cluster=["tiny=topic"])
    (task,) = chosen.results[0].tasks
    assert (task.change.axis, task.change.metric, task.change.clusters) == (
        "numeric",
        "acc_norm",
        30,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": ["tiny"]}, "--axis tiny: write TASK=AXIS"),
        (
            {"axis": ["tiny=Numbers"]},
            "--axis tiny=Numbers: write general, numeric, temporal or any",
        ),
        ({"axis": ["tiny=numeric", "tiny=general"]}, "once per task"),
        ({"metric": ["tinny=acc"]}, "no task is called 'tinny'; has tiny"),
        ({"metric": ["tiny=f1"]}, "choose one of acc, acc_norm"),
        ({"filter": ["tiny=strict"]}, "choose one of none"),
        ({"cluster": ["tiny=author"]}, "no field 'author' to cluster by"),
    ],
)
def test_a_mistyped_choice_decides_nothing(
    tmp_path: Path, options: dict[str, list[str]], message: str
) -> None:
    lm_eval(tmp_path / "results", False)
    with pytest.raises(UsageError, match=message):
        gated(tmp_path, **options)


def test_choices_need_results_to_speak_of(tmp_path: Path) -> None:
    sources = Sources(run=tmp_path, choices=choices(axis=["tiny=numeric"]))
    with pytest.raises(UsageError, match="are about --base-results"):
        command(sources)


def test_compare_takes_the_choices_of_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm_eval(tmp_path / "results", False)
    policy = tmp_path / "policy.yaml"
    policy.write_text("margin: 0.05\nminimum_items: 30\n")
    options = [
        "--policy",
        str(policy),
        "--axis",
        "tiny=numeric",
        "--metric",
        "tiny=acc_norm",
        "--cluster",
        "tiny=topic",
    ]
    for side in ("base", "candidate"):
        options += [f"--{side}-results", str(tmp_path / "results")]
    found = {}
    for verb in ("gate", "compare"):
        out = tmp_path / verb
        monkeypatch.setattr(sys, "argv", ["retainbench", verb, *options, "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 3
        found[verb] = json.loads((out / "gate.json").read_text())
    assert found["gate"]["results"] == found["compare"]["results"]
    assert '"acc_norm"' in json.dumps(found["compare"]["results"])
