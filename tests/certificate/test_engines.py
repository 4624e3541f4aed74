"""Certificates whose two sides were answered by different engines."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fixtures import certify as fixtures
from fixtures.certify import model
from retainbench.harness.certificate import page
from retainbench.harness.certificate import verify as verifying
from retainbench.harness.certificate.certify import (
    Certified,
    certify,
    write_findings,
)
from retainbench.harness.certificate.preparing import EngineFloor
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import write_json
from retainbench.harness.scoring.stored import Scoring

verify = partial(verifying.verify, allow_unsigned=True)
OTHER = {"backend": "llama.cpp", "version": "1", "arguments": ""}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))


class Lossy(fixtures.Answers):
    """An engine that loses a tenth of the answers about capitals, whatever the model."""

    def __call__(self, base: Any, names: Any, most: int | None = None) -> Any:
        found = super().__call__(base, names, most)
        loses = json.loads((base.folder / "config.json").read_text())["loses"]
        lost = loses.get("capitals", 0.0) + 0.1
        return [
            fixtures.answers(name, lost) if name == "capitals" else rows
            for name, rows in zip(names, found, strict=True)
        ]


def made(tmp_path: Path, loses: dict[str, float], floor: bool = True) -> Certified:
    """A candidate on a lossy engine against a base on another."""
    sides = [str(model(tmp_path / "base")), str(model(tmp_path / "candidate", loses))]
    other = Scoring(Lossy(), OTHER)
    request = fixtures.request(
        fixtures.Answers(),
        candidate_scoring=other,
        floor=EngineFloor(sides[0], other) if floor else None,
    )
    return certify(*sides, fixtures.suite(), fixtures.POLICY, tmp_path / "cert", request)


def test_damage_is_told_from_the_change_of_engine(tmp_path: Path) -> None:
    """The engine loses capitals, the weights lose arithmetic; item by item both add up."""
    certified = made(tmp_path, {"arithmetic": 0.15})
    change = certified.evidence.engine_change
    assert change is not None
    drops = {
        label: {task.change.task: task.change.drop.value for task in gate.tasks}
        for label, gate in (
            ("all", certified.gate),
            ("engine", change.engine),
            ("weights", change.weights),
        )
    }
    for task, drop in drops["all"].items():
        assert drop == pytest.approx(drops["engine"][task] + drops["weights"][task], abs=1e-12)
    assert drops["engine"]["arithmetic"] == drops["weights"]["capitals"] == 0
    assert drops["engine"]["capitals"] > 0.05 < drops["weights"]["arithmetic"]
    churns = {task.change.task: task.change.noise_churns for task in certified.gate.tasks}
    assert churns["capitals"]["engine"] > 0.05
    assert churns["arithmetic"]["engine"] == 0
    lines = "\n".join(page.screen(certified.evidence))
    assert "change of engine alone: mean drop" in lines
    assert "change of weights alone: mean drop" in lines
    assert "Change of engine and change of weights" in certified.bundle.report.read_text()
    assert verify(tmp_path / "cert").gate == certified.gate


def test_equal_weights_may_answer_otherwise_on_another_engine(tmp_path: Path) -> None:
    certified = made(tmp_path, {})
    assert certified.evidence.engine_change is not None
    assert certified.evidence.engine_change.weights.verdict == "PASS"
    assert certified.gate.verdict != "PASS"


def test_an_engine_that_was_not_measured_is_a_warning(tmp_path: Path) -> None:
    certified = made(tmp_path, {}, floor=False)
    assert any("Add --engine-floor" in line for line in certified.gate.warnings)
    assert certified.evidence.candidate_settings == OTHER
    assert verify(tmp_path / "cert").gate == certified.gate


@pytest.mark.parametrize("change", ["gone", "edited"])
def test_edited_judgements_are_refused(tmp_path: Path, change: str) -> None:
    """Everything that follows from the scorecard is made again, as a forger would."""
    certified = made(tmp_path, {"arithmetic": 0.15})
    evidence = certified.evidence
    assert evidence.engine_change is not None
    weights = evidence.engine_change.weights.model_copy(update={"verdict": "PASS"})
    edited = evidence.engine_change.model_copy(update={"weights": weights})
    forged = evidence.model_copy(update={"engine_change": edited if change == "edited" else None})
    write_json(certified.bundle.scorecard, forged)
    write_findings(certified.bundle, None)
    with pytest.raises(IntegrityError, match="does not follow from the records at engine_change"):
        verify(tmp_path / "cert")
