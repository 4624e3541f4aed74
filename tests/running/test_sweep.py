"""The sweep chooses on validation items, reads finished variants back, and touches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.runs import SFT, suite
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.recipes import Choice, Choices, Variant
from retainbench.harness.core.schema import Suite, Sweep
from retainbench.harness.core.storage import read_json
from retainbench.harness.running import sweep
from retainbench.harness.suites import plan as planning


def of_two_recipes(base: Path) -> Suite:
    return suite(
        base,
        recipes={"sft": SFT, "staged": {"stages": [SFT, SFT]}},
        budget={"unit": "steps", "amount": 3},
        sweep=Sweep(factors=[1.0, 0.1]).model_dump(),
    )


def test_the_best_variant_is_taken_and_kept(tiny_base: Path, tmp_path: Path) -> None:
    chosen = of_two_recipes(tiny_base)
    inputs = planning.gather(chosen)
    resolved = sweep.resolve(chosen, inputs, tmp_path)
    assert resolved.sweep is None
    found = read_json(tmp_path / "sweep" / "choices.json", Choices)
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
    assert [line.split(":")[0] for line in said[:4]] == [f"sweep {n}/4" for n in (1, 2, 3, 4)]
    assert all(line.endswith("did best; a wider grid might do better") for line in said[4:])
    assert len(said) == 6, "of two values, each is at an edge"


def test_a_value_inside_its_grid_is_not_at_the_edge() -> None:
    variants = [Variant(factor=factor, reward=0.5) for factor in (0.1, 1.0, 10.0)]
    choices = [
        Choice(
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
