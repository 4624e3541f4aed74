"""The sweep chooses on validation items, reads finished variants back, and touches nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fixtures.runs import ES, SFT, suite
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.recipes import SweepChoice, SweepChoices, SweepVariant
from retainbench.harness.core.schema import Suite, Sweep
from retainbench.harness.core.stages import Recipe, Stage
from retainbench.harness.running import sweep
from retainbench.harness.suites import loading as suites_loading
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks.catalogue import OWN


def of_two_recipes(base: Path) -> Suite:
    return suite(
        base,
        recipes={"sft": SFT, "staged": {"stages": [SFT, SFT]}},
        budget={"unit": "steps", "amount": 3},
        sweep=Sweep(factors=[1.0, 0.1], extend=0).model_dump(),
    )


def test_the_best_variant_is_taken_and_kept(tiny_base: Path, tmp_path: Path) -> None:
    chosen = of_two_recipes(tiny_base)
    inputs = planning.gather(chosen)
    resolved = sweep.resolve(chosen, inputs, tmp_path)
    assert resolved.sweep is None
    found = read_json(tmp_path / "sweep" / "choices.json", SweepChoices)
    assert [(choice.recipe, choice.stage) for choice in found.choices] == [
        ("sft", 0),
        ("staged", 0),
        ("staged", 1),
    ]
    for choice in found.choices:
        assert [variant.factor for variant in choice.variants] == [0.1, 1.0]
        best = max(v.reward for v in choice.variants if v.reward is not None)
        taken = next(v for v in choice.variants if v.factor == choice.factor)
        assert taken.reward == best
        stage = resolved.recipes[choice.recipe].stages[choice.stage]
        assert stage.options["learning_rate"] == choice.value
        assert choice.value == pytest.approx(1e-3 * choice.factor)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    assert sweep.resolve(chosen, inputs, tmp_path) == resolved
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == before


def test_workers_find_what_one_process_finds(tiny_base: Path, tmp_path: Path) -> None:
    chosen = of_two_recipes(tiny_base)
    inputs, said = planning.gather(chosen), list[str]()
    alone = sweep.resolve(chosen, inputs, tmp_path / "alone")
    both = sweep.resolve(chosen, inputs, tmp_path / "both", workers=2, say=said.append)
    assert both == alone
    written = [
        (tmp_path / way / "sweep" / "choices.json").read_bytes() for way in ("alone", "both")
    ]
    assert written[0] == written[1]
    # Two values of three stages; the second stage's chosen-so-far variant was trained already.
    assert [line.split(":")[0] for line in said[:5]] == [f"sweep {n}" for n in range(1, 6)]
    assert all(line.endswith("did best; a wider grid might do better") for line in said[5:])
    assert len(said) == 5 + 3, "of two values, each is at an edge"


def test_a_value_inside_its_grid_is_not_at_the_edge() -> None:
    variants = [SweepVariant(factor=factor, reward=0.5) for factor in (0.1, 1.0, 10.0)]
    choices = [
        SweepChoice(
            recipe="sft",
            target="countdown",
            stage=0,
            option="learning_rate",
            value=1e-3 * v.factor,
            factor=v.factor,
            variants=variants,
        )
        for v in variants
    ]
    assert [c.edge for c in choices] == ["smallest", None, "largest"]


def test_a_suite_without_sweep_passes_through(tiny_base: Path, tmp_path: Path) -> None:
    chosen = suite(tiny_base)
    assert sweep.resolve(chosen, planning.gather(chosen), tmp_path) is chosen
    assert list(tmp_path.iterdir()) == []


def test_failed_variants_lose_and_a_recipe_without_any_is_refused(
    tiny_base: Path, tmp_path: Path
) -> None:
    hopeless = SFT | {"options": {"learning_rate": 1e30, "batch_size": 4}}
    chosen = suite(
        tiny_base,
        recipes={"hopeless": hopeless},
        sweep={"factors": [1.0, 2.0], "budget_share": 0.2},
    )
    with pytest.raises(UsageError, match="every variant"):
        sweep.resolve(chosen, planning.gather(chosen), tmp_path)


def search(factors: list[float], extend: int, *knobs: sweep.Knob) -> sweep.RecipeSearch:
    """A search over stages of SFT and ES."""
    recipe = Recipe.model_validate({"stages": [SFT, ES]})
    grid = Sweep(options=["learning_rate", "population"], factors=factors, extend=extend)
    return sweep.RecipeSearch("both", "countdown", recipe, list(knobs), grid)


def run(found: sweep.RecipeSearch, best: dict[sweep.Knob, float]) -> list[list[float]]:
    """Settle all knobs where the factor nearest to a knob's best one earns most; what was tried."""
    while found.wanted:
        knob = found.knobs[len(found.choices)]
        for factor in found.wanted:
            earned = 1 / (1 + abs(math.log(factor / best[knob])))
            found.note(SweepVariant(factor=factor, reward=earned))
        found.settle()
    return [[variant.factor for variant in choice.variants] for choice in found.choices]


def test_a_grid_grows_at_its_edge_until_the_best_value_is_inside() -> None:
    rate = sweep.Knob(0, "learning_rate")
    (tried,) = run(search([1 / 3, 1.0, 3.0], 3, rate), {rate: 9.0})
    assert tried == pytest.approx([1 / 3, 1, 3, 9, 27])
    limited = search([1 / 3, 1.0, 3.0], 1, rate)
    (tried,) = run(limited, {rate: 1 / 81})
    assert tried == pytest.approx([1 / 9, 1 / 3, 1, 3])
    assert limited.choices[0].edge == "smallest"


def test_every_stage_is_chosen_by_itself_and_counts_stay_even() -> None:
    rate, noise_rate, size = (
        sweep.Knob(0, "learning_rate"),
        sweep.Knob(1, "learning_rate"),
        sweep.Knob(1, "population"),
    )
    found = search([1 / 3, 1.0, 3.0], 0, rate, noise_rate, size)
    run(found, {rate: 3.0, noise_rate: 1.0, size: 3.0})
    sft, es = (stage.options for stage in found.recipe.stages)
    assert (sft["learning_rate"], es["learning_rate"]) == (pytest.approx(3e-3), 0.02)
    assert es["population"] == 12
    assert sweep.scaled(found.recipe, size, 1 / 9).stages[1].options["population"] == 2


def test_a_value_that_failed_or_that_the_method_refuses_bounds_the_grid() -> None:
    assert not sweep._allowed(Stage(method="sft", options={"warmup": 3.0}))
    found = search([1.0, 3.0], 1, sweep.Knob(0, "warmup"))
    found.note(SweepVariant(factor=1.0, reward=0.5))
    found.note(SweepVariant(factor=3.0, reward=None))
    assert found.wanted == [pytest.approx(1 / 3)]


def test_an_option_that_no_stage_has_is_refused(tiny_base: Path) -> None:
    chosen = suite(tiny_base, sweep={"options": ["sigmo"]})
    with pytest.raises(UsageError, match=r"sweep\.options: unknown 'sigmo'"):
        suites_loading.check(chosen, "small.yaml", OWN)
