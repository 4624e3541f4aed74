"""The mandatory-set finder on planted truth: what moves early and clearly is found and suffices."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fixtures.gate import Candidate, sides, stored_run, target
from fixtures.screen import shown
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.paths import PACKAGE
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.statistics import alarms
from retainbench.harness.study_design import sensitivity, sensitivity_page
from retainbench.harness.study_design.sensitivity import Sensitivity

RESULTS = sorted((PACKAGE / "results" / "sensitivity").glob("*/sensitivity.json"))
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
EARLY = {0.25: 20, 0.5: 30, 0.75: 40, 1.0: 50}
"""Items that `early` loses of 120, at each point of a damaging recipe."""
LATE = {0.25: 0, 0.5: 0, 0.75: 5, 1.0: 30}


def scored(early: int, late: int, seed: int) -> list[ItemRecord]:
    """`early` without noise, `late` and `never` with items that flip both ways for nothing."""
    churn = 8 + seed
    tasks = [
        sides("early", 120, lost=early, axis="numeric"),
        sides("late", 120, lost=late + churn, gained=churn, right=0.7, axis="temporal"),
        sides("never", 120, lost=churn, gained=churn, right=0.7, axis="general"),
    ]
    goal = target(28, 5, 15)
    return [*(record for task in tasks for record in task.candidate), *goal.candidate]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recipes that damage, one that does not, two seeds, and a cell that failed."""
    goal = target(28, 5, 15)
    tasks = [sides("early", 120, axis="numeric"), sides("late", 120, right=0.7, axis="temporal")]
    tasks.append(sides("never", 120, right=0.7, axis="general"))
    base = [*(record for task in tasks for record in task.base), *goal.base]
    cells = [
        Candidate(recipe, seed, {f: scored(EARLY[f], LATE[f], seed) for f in FRACTIONS})
        for recipe in ("hot", "warm", "mild")
        for seed in (0, 1)
    ]
    cells += [Candidate("calm", s, {f: scored(0, 0, s) for f in FRACTIONS}) for s in (0, 1)]
    cells.append(Candidate("calm", 2, {}))
    return stored_run(tmp_path_factory.mktemp("run"), base, cells)


@pytest.fixture(scope="module")
def found(run: Path) -> Sensitivity:
    return sensitivity.measure([run])


def test_the_planted_order_is_found(found: Sensitivity) -> None:
    rows = {row.task: row for row in found.tasks}
    assert list(rows) == ["early", "late", "never"]
    assert found.selected == ["early"]
    assert rows["early"].power == 1.0
    assert rows["early"].delay == 0.0
    assert 0.15 < rows["late"].power < 0.5  # one look of four
    assert rows["late"].delay == pytest.approx(0.75)
    assert rows["never"].power == 0.0
    assert rows["never"].delay == pytest.approx(0.75)  # silent to the end
    assert rows["early"].drop == pytest.approx(35 / 120 / 0.75)
    assert rows["early"].drop / rows["early"].error > 3 * rows["late"].drop / rows["late"].error


def test_it_counts_what_it_rests_on(found: Sensitivity) -> None:
    assert (found.cells, found.failed, found.checkpoints) == (8, 1, 32)
    assert (found.damaged_checkpoints, found.damaged_cells) == (24, 6)
    assert found.observations == 48
    assert (found.whole, found.whole_error) == (1.0, 0.0)
    assert [size.power for size in found.sizes] == [1.0, 1.0, 1.0]
    assert {row.other_alarms for row in found.tasks} == {0.0}


def test_items_that_are_lost_in_damage_alone_come_first(found: Sensitivity) -> None:
    assert {item.task for item in found.items} == {"early"}
    assert {item.item_id for item in found.items} == {f"i{number}" for number in range(20)}
    assert {(item.lost, item.flips) for item in found.items} == {(1.0, 0.0)}


def test_two_tasks_are_needed_where_damage_is_of_two_kinds() -> None:
    """Half of the recipes lose one task, half the other; two more see nothing."""
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 1.0, size=(240, 4))
    recipes = np.arange(240) % 6
    p[recipes % 2 == 0, 1] = 1e-4
    p[recipes % 2 == 1, 3] = 1e-4
    chosen = alarms.select(p, np.ones(240, bool), recipes, np.arange(240) % 24)
    assert sorted(chosen.order[: chosen.size]) == [1, 3]
    assert chosen.whole == 1.0
    assert chosen.held_out[0] < 0.9
    assert chosen.held_out[1] == 1.0


def test_a_set_that_only_fits_the_recipes_it_was_chosen_on_does_not_pass() -> None:
    """Each recipe damages a task of its own: no smaller set serves a recipe that is left out."""
    recipes = np.repeat(np.arange(4), 30)
    p = np.full((120, 4), 0.9)
    p[np.arange(120), recipes] = 1e-6
    chosen = alarms.select(p, np.ones(120, bool), recipes, np.arange(120) // 10)
    assert chosen.size == 4
    assert chosen.held_out.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_false_alarms_stay_below_alpha_for_sets_of_any_size() -> None:
    """Items flip both ways with equal chance: nothing is lost; 3 SE above .05 is allowed."""
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(1500):
        drops = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(5, 60))
        clusters = (np.arange(60), np.arange(60) // 3)
        rows.append([alarms.p_of_loss(d, clusters[n % 2]) for n, d in enumerate(drops)])
    p = np.array(rows)
    for size in (1, 2, 5):
        share = alarms.alarms(p, list(range(size)), 0.05).mean()
        assert share <= 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5
        assert share > 0.005  # exact tests of few flips are careful, not deaf


def test_graded_scores_get_the_clustered_t_test() -> None:
    lost = np.array([0.5, 0.25, 0.5, 0.75, 0.25, 0.5])
    clusters = np.arange(6)
    assert alarms.p_of_loss(lost, clusters) < 0.01
    assert alarms.p_of_loss(-lost, clusters) > 0.99
    assert alarms.p_of_loss(np.full(6, 0.5), clusters) < 0.05


@pytest.mark.parametrize("recipes", [("calm",), ("hot",)])
def test_too_little_forgetting_is_a_usage_error(tmp_path: Path, recipes: tuple[str, ...]) -> None:
    points = {f: scored(EARLY[f] if "hot" in recipes else 0, 0, 0) for f in FRACTIONS}
    cells = [Candidate(recipe, 0, points) for recipe in recipes]
    with pytest.raises(UsageError, match="a choice needs two"):
        sensitivity.measure([stored_run(tmp_path / "run", scored(0, 0, 0), cells)])


def test_a_folder_that_is_no_run_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        sensitivity.measure([tmp_path])


def test_page_and_files_hold_the_same_numbers(found: Sensitivity, tmp_path: Path) -> None:
    sensitivity_page.write(found, tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "early - 1 of 3 tasks notice 100 %" in page
    assert page.count("| early | numeric | 120 | 100 |") == 1
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["early", "late", "never"]
    assert [row["selected"] for row in rows] == ["True", "False", "False"]
    assert float(rows[1]["power"]) == pytest.approx(found.tasks[1].power, rel=1e-5)
    assert "early" in shown(sensitivity_page.terminal(found))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_published_pages_are_rendered_from_their_rows(path: Path, tmp_path: Path) -> None:
    sensitivity_page.write(read_json(path, Sensitivity), tmp_path / path.parent.name)
    for name in ("README.md", "table.csv", "sizes.csv", "items.csv", "sensitivity.json"):
        assert (tmp_path / path.parent.name / name).read_bytes() == path.with_name(
            name
        ).read_bytes()
