"""Interpolation: weights by hand, the end of training untouched, the points in every reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import retainbench
from fixtures import report as fixtures
from fixtures.runs import SFT, plan_of, suite
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.models import loading
from retainbench.harness.report.page import figures
from retainbench.harness.report.table import rows
from retainbench.harness.running import run as runner

BETWEEN = {"method": "interpolate", "weights": [0.75, 0.25]}
LORA = SFT | {"adaptation": {"kind": "lora", "rank": 2}}


@pytest.mark.parametrize("stage", [SFT, LORA], ids=["full", "lora"])
def test_weights_between_base_and_end(
    tiny_base: Path, tmp_path: Path, stage: dict[str, Any]
) -> None:
    """The same cell without interpolation has the same end; an adapter is merged first."""
    recipes = {"plain": stage, "mixed": {"stages": [stage, BETWEEN]}}
    planned = plan_of(suite(tiny_base, trajectory=[1.0], recipes=recipes))
    plain, mixed = runner.run(planned, tmp_path / "run")
    assert mixed.status == "done", mixed.reason
    assert mixed.points[-1].weights_digest == plain.points[-1].weights_digest
    assert (mixed.method, mixed.metrics) == (plain.method, plain.metrics)
    assert [(p.stage, p.fraction) for p in mixed.interpolated] == [(1, 0.25), (1, 0.75)]
    assert {p.ledger.steps for p in mixed.scored} == {12}
    folder = RunFolder(tmp_path / "run").cell(mixed.cell)
    base = load_file(tiny_base / "model.safetensors")
    end = loading.load(folder.checkpoint("s0-1.0000")).model.state_dict()
    for weight in (0.25, 0.75):
        found = load_file(folder.checkpoint(f"s1-{weight:.4f}") / "model.safetensors")
        for name, start in base.items():
            wanted = torch.lerp(start.double(), end[name].double(), weight).float()
            torch.testing.assert_close(found[name], wanted, rtol=0, atol=1e-6)
    quarter, most = (p.drift.relative for p in mixed.interpolated if p.drift)
    assert mixed.points[-1].drift is not None
    whole = mixed.points[-1].drift.relative
    assert (quarter, most) == (pytest.approx(whole / 4, rel=1e-3), pytest.approx(0.75 * whole))
    read_back = runner.run(planned, tmp_path / "run")
    assert read_back == [plain, mixed]
    points = retainbench.Run(tmp_path / "run").records()["point"].unique().tolist()
    assert "s1-0.2500" in points


def test_figure_goes_from_the_base_to_the_end() -> None:
    """Only runs that have an interpolation get the figure, and in it only their recipes."""
    cards = fixtures.scorecards(seeds=(0, 1), failed=())
    keys = [figure.key for figure in figures.figures(rows.rows(cards), cards)]
    assert "interpolation" not in keys
    quarter = [c.points[0].model_copy(update={"stage": 1, "fraction": 0.25}) for c in cards]
    cards = [
        card.model_copy(update={"interpolated": [point] if card.recipe == "sft" else []})
        for card, point in zip(cards, quarter, strict=True)
    ]
    drawn = {figure.key: figure for figure in figures.figures(rows.rows(cards), cards)}
    figure = drawn["interpolation"]
    assert {row["recipe"] for row in figure.rows} == {"sft"}
    axis = figure.rows[0]["axis"]
    rows_of = [row["weight"] for row in figure.of("countdown") if row["axis"] == axis]
    assert rows_of == [0.0, 0.25, 1.0]
    assert figure.draw(figure.of("countdown")).to_dict()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (BETWEEN, "Write it as the last of several stages"),
        ({"stages": [SFT, BETWEEN, SFT]}, "Write it as the last of several stages"),
        ({"stages": [SFT, BETWEEN | {"weights": [1.0]}]}, "less than 1"),
        ({"stages": [SFT, BETWEEN | {"weights": [0.5, 0.5]}]}, "duplicate 0.5"),
        ({"stages": [SFT, BETWEEN | {"anchor": {"kind": "kl", "strength": 1}}]}, "no anchor"),
    ],
)
def test_wrong_interpolations_are_refused(
    tiny_base: Path, recipe: dict[str, Any], message: str
) -> None:
    from retainbench.harness.suites import loading as suites
    from retainbench.harness.tasks.catalogue import OWN

    with pytest.raises(UsageError, match=message):
        suites.check(suite(tiny_base, recipes={"mixed": recipe}), "suite.yaml", OWN)
