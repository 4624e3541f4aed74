"""A sweep that scores its variants, chooses within the margin, and stops at the best checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fixtures.runs import SFT, suite
from retainbench.harness.core.files.storage import read_json, read_jsonl
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.recipes import SweepChoices, SweepVariant
from retainbench.harness.core.schema import Suite, Sweep
from retainbench.harness.core.scorecards import VALIDATION_REWARD, Scorecard
from retainbench.harness.core.stages import Recipe
from retainbench.harness.report import publish, report
from retainbench.harness.running import run as runner
from retainbench.harness.running import sweep, validation, variants
from retainbench.harness.suites import plan as planning


def small(base: Path, **changes: object) -> Suite:
    few = {
        "tasks": ["capitals"],
        "noise_floor": [],
        "divergence_prompts": 0,
        "budget": {"unit": "steps", "amount": 4},
        "sweep": {"factors": [0.1, 1.0], "extend": 0, "keep": "all"},
    }
    return suite(base, **(few | changes))


def whole_run(chosen: Suite, root: Path) -> Suite:
    inputs = planning.gather(chosen)
    swept = sweep.resolve(chosen, inputs, root)
    runner.run(planning.plan(swept, inputs), root)
    report.report(root, figures=False)
    return swept


def test_all_variants_are_scored_and_a_second_run_changes_no_byte(tmp_path: Path) -> None:
    chosen, tmp_path = small(Path("fruitfly")), tmp_path / "run"
    whole_run(chosen, tmp_path)
    folder = RunFolder(tmp_path).sweep
    cards = read_jsonl(folder.scorecards, Scorecard)
    assert [card.recipe for card in cards] == [
        "sft[learning_rate=0.0001]",
        "sft[learning_rate=0.001]",
    ]
    (choice,) = read_json(folder.choices, SweepChoices).choices
    assert [variant.cell for variant in choice.variants] == [card.cell for card in cards]
    for variant, card in zip(choice.variants, cards, strict=True):
        assert variant.excess == max(one.drop.value for one in card.points[-1].axes) - 0.05
    table = report.report(folder.root, figures=False)
    assert [row.recipe for row in table.rows] == [card.recipe for card in cards]
    shown_as_frontier(tmp_path, len(cards) - 1)
    files = [*tmp_path.glob("*.*"), *folder.root.glob("*.*")]
    before = {file: file.read_bytes() for file in files}
    shutil.rmtree(folder.cell(cards[0].cell).root)
    folder.scorecards.unlink()
    whole_run(chosen, tmp_path)
    changed = [file.name for file, content in before.items() if file.read_bytes() != content]
    # Wall time of the cell that was trained again.
    timed = {"scorecards.jsonl", ".scorecards.jsonl.sha256", "variants.jsonl", "report.html"}
    assert set(changed) <= timed


def shown_as_frontier(run: Path, others: int) -> None:
    """The variants that were not taken are dots in the figure; table, CSV and page list all."""
    report.report(run)
    publish.publish(run, run.parent / "published")
    table = report.load_table(run.parent / "published")
    (grid,) = (one for one in table.further if one.caption == "What the sweep tried")
    assert grid.head[-1] == "Choice"
    assert [row[-1] for row in grid.cells].count("taken") == 1
    assert len(grid.cells) == 1 + others
    lines = (run.parent / "published" / "variants.csv").read_text().splitlines()
    assert len(lines) == 2 + others
    assert lines[1].split(",")[2].startswith("sft[learning_rate=")
    dots = (run / "figures" / "pareto.svg").read_text().count("value: learning_rate")
    assert dots == others * len(table.rows[0].axes)


@pytest.mark.parametrize(
    ("choose", "excess", "taken"),
    [
        ("gain", (-0.01, -0.01, 0.3), 3.0),
        ("gain_within_margin", (-0.01, -0.01, 0.3), 1.0),
        ("gain_within_margin", (0.2, 0.1, 0.3), 1.0),
        ("gain_within_margin", (-0.04, None, None), 3.0),
    ],
)
def test_the_choice_within_the_margin_leaves_out_what_forgets(
    choose: str, excess: tuple[float | None, ...], taken: float
) -> None:
    factors, rewards = (1 / 3, 1.0, 3.0), (0.2, 0.4, 0.6)
    grid = Sweep.model_validate({"factors": list(factors), "extend": 0, "choose": choose})
    recipe = Recipe.model_validate(SFT)
    found = sweep.RecipeSearch("sft", "countdown", recipe, [sweep.Knob(0, "learning_rate")], grid)
    for factor, reward, beyond in zip(factors, rewards, excess, strict=True):
        found.note(SweepVariant(factor=factor, reward=reward, excess=beyond))
    found.settle()
    assert (found.choices[0].factor, found.choices[0].taken.reward) == (
        taken,
        rewards[factors.index(taken)],
    )


def test_the_best_checkpoint_on_validation_ends_the_cell(tiny_base: Path, tmp_path: Path) -> None:
    chosen = small(
        tiny_base, sweep=None, checkpoint="best_validation", trajectory=[0.0, 0.25, 0.5, 1.0]
    )
    planned = planning.plan(chosen, planning.gather(chosen))
    (card,) = runner.run(planned, tmp_path)
    cell = RunFolder(tmp_path).cell(card.cell)
    earned = read_json(cell.validation, validation.Earned)
    folders = ["checkpoints/s0-0.2500", "checkpoints/s0-0.5000", "checkpoints/s0-1.0000"]
    assert list(earned.points) == folders
    best = folders.index(max(folders, key=lambda folder: earned.points[folder]))
    assert earned.reward == max(earned.points.values()) == card.metrics[VALIDATION_REWARD]
    assert [point.fraction for point in card.points] == [0.0, 0.25, 0.5, 1.0][: best + 2]
    table = report.report(tmp_path, figures=False)
    assert table.rows[0].validation_reward == pytest.approx(earned.reward)
    assert "checkpoint with the best reward on validation items" in table.notes[0]


def test_names_of_variants_are_names(tiny_base: Path) -> None:
    recipe = Recipe.model_validate({"stages": [SFT, SFT]})
    assert variants.named("a" * 80, recipe, 1, "learning_rate").endswith("a[1.learning_rate=0.001]")
    assert len(variants.named("a" * 80, recipe, 1, "learning_rate")) == 80
