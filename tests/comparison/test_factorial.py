"""Effects and interactions: found in every suite that has the combinations, and planted."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fixtures.gate import Candidate, sides, stored_run, target
from retainbench.harness.comparison import factorial
from retainbench.harness.comparison.arms import load
from retainbench.harness.comparison.methods import methods
from retainbench.harness.comparison.seed_tables import SeedTable
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.stages import Recipe
from retainbench.harness.report.table import recipes as recipe_tables
from retainbench.harness.suites import loading

SFT = {"method": "sft", "options": {"learning_rate": 1e-4}}
DFT = {"method": "dft", "options": {"learning_rate": 1e-3}}
KL = {"anchor": {"kind": "kl", "strength": 0.1}}
LORA = {"adaptation": "lora"}
SQUARE = {"sft": SFT, "dft": DFT, "sft-kl": SFT | KL, "dft-kl": DFT | KL}


def recipes(**content: Any) -> dict[str, Recipe]:
    return {name: Recipe.model_validate(value) for name, value in content.items()}


def found(content: dict[str, Any]) -> dict[tuple[str, ...], dict[str, float]]:
    return {tuple(c.changes): dict(c.weights) for c in factorial.contrasts(recipes(**content))}


def test_four_recipes_that_differ_by_two_changes_are_a_factorial() -> None:
    """Whatever their order; a change of the method may bring options of its own."""
    for content in (SQUARE, dict(reversed(SQUARE.items()))):
        weights = found(content)
        assert len(weights) == 3
        (both,) = (weights[names] for names in weights if len(names) == 2)
        assert {name for name in both if both[name] > 0} in ({"sft", "dft-kl"}, {"dft", "sft-kl"})
    assert found(SQUARE)["anchor: kl",] == {
        "sft-kl": 0.5, "sft": -0.5, "dft-kl": 0.5, "dft": -0.5
    }  # fmt: skip


def test_three_changes_are_averaged_over_the_third() -> None:
    """12 edges and 6 faces make 3 effects of 8 recipes and 3 interactions, no sums of changes."""
    content = {
        "-".join(str(part) for part in parts): method | parts[1] | parts[2]
        for parts in product(("sft", "dft"), ({}, KL), ({}, LORA))
        for method in [{"sft": SFT, "dft": DFT}[parts[0]]]
    }
    weights = found(content)
    assert [len(names) for names in weights] == [1, 1, 1, 2, 2, 2]
    assert {len(one) for one in weights.values()} == {8}
    assert {abs(w) for names, one in weights.items() for w in one.values()} == {0.25, 0.5}


@pytest.mark.parametrize(
    "content",
    [
        {name: SQUARE[name] for name in ("sft", "dft", "sft-kl")},
        {f"{m}-{rate}": {"method": m, "options": {"learning_rate": rate}}
         for m in ("sft", "dft") for rate in (1e-5, 1e-4, 1e-3)},
        {"a": SFT, "b": SFT},
    ],
    ids=["one is missing", "a grid of rates", "equal recipes"],
)  # fmt: skip
def test_other_recipes_have_no_contrasts(content: dict[str, Any]) -> None:
    assert found(content) == {}


def test_a_further_recipe_changes_nothing() -> None:
    assert found(SQUARE | {"grpo": {"method": "grpo"}}) == found(SQUARE)


def test_the_suite_of_compositions_has_every_combination() -> None:
    chosen = loading.load("compositions")
    found = factorial.contrasts(chosen.recipes)
    assert [len(one.changes) for one in found] == [1, 1, 1, 2, 2, 2]
    assert all(set(one.weights) == set(chosen.recipes) for one in found)


def scored(won: int, lost: int) -> list[ItemRecord]:
    goal = target(200, 20, 20 + 2 * won)
    numeric = sides("arithmetic", 100, lost=lost, axis="numeric", chance=0.0)
    return [*numeric.candidate, *goal.candidate]


def test_planted_effects_and_interaction_are_found(tmp_path: Path) -> None:
    """The anchor takes 20 of 40 lost items; the method adds 10 alone and 30 with the anchor."""
    lost = {"sft": 40, "dft": 50, "sft-kl": 20, "dft-kl": 50}
    cells = [
        Candidate(name, seed, {1.0: scored(20, losses)})
        for name, losses in lost.items()
        for seed in (0, 1)
    ]
    run = stored_run(tmp_path, scored(0, 0), cells)
    ((_, arms),) = load(run).items()
    rows = factorial.effects(SeedTable(arms, Policy()), recipes(**SQUARE), "countdown")
    by = {(tuple(row.changes), row.measure): row for row in rows}
    drop = {names: by[names, "numeric"].difference for names, m in by if m == "numeric"}
    assert drop["anchor: kl",].value == pytest.approx(-0.10)
    assert drop["method: dft",].value == pytest.approx(0.20)
    both = by[("method: dft", "anchor: kl"), "numeric"]
    assert both.difference.value == pytest.approx(0.20)
    assert both.difference.low > 0
    assert both.recipes == list(SQUARE)
    none = by[("method: dft", "anchor: kl"), "gain"]
    assert none.difference.value == 0.0
    # No answer of 200 differs between four arms: twice as wide as for a pair of them.
    pair = next(p for p in methods(run).pairs if p.measure == "gain")
    assert none.difference.high == pytest.approx(2 * pair.difference.high, rel=0.01)
    assert none.holm_p == 1.0
    (grid,) = recipe_tables.combined(rows)
    assert grid.head == ["Change", "Gain", "Numeric drop"]
    shown = {cells[0]: cells[2] for cells in grid.cells}
    assert shown["method: dft x anchor: kl"].startswith("+20.0 [")
    assert shown["method: dft x anchor: kl"].endswith("]*")
    assert methods(run).effects == []  # the plan of the stored run has one recipe under four names
