"""Lines of progress while a model is scored, and records that do not depend on other tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from retainbench.harness.models import loading
from retainbench.harness.scoring import evaluate, progress
from retainbench.harness.tasks.catalogue import OWN

NAMES = ["capitals", "capitals_free"]


def test_each_finished_task_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    infos = OWN.find(NAMES)
    clock = iter([0.0, 30.0, 45.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(progress.watched([[], []], infos, 10, "candidate"))
    assert capsys.readouterr().err.splitlines() == [
        "candidate: capitals is scored, 1 of 2 tasks; about 0.5 min left",
        "candidate: capitals_free is scored, 2 of 2 tasks",
    ]


def test_quick_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.watched([[], []], OWN.find(NAMES), 10, "base")) == [[], []]
    assert capsys.readouterr().err == ""


def test_a_task_scores_the_same_with_and_without_others(tiny_base: Path) -> None:
    """To the last bit, so that a resumed scoring equals one that was never interrupted."""
    loaded, infos = loading.load(tiny_base), OWN.find(NAMES)
    together = evaluate.evaluate(loaded, infos, limit=40)
    alone = [r for info in infos for r in evaluate.evaluate(loaded, [info], limit=40)]
    assert together == alone
