"""How many items and seeds a policy needs, measured on pilots and runs with known variance."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import certify as certify_fixtures
from fixtures.gate import POLICY, run_folder, sides, suite
from fixtures.screen import shown
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.study_design.power import power_plan
from retainbench.harness.study_design.power_sources import power_run, power_suite
from retainbench.harness.study_design.power_table import of_run, of_suite, terminal


def test_power_measures_the_variance_on_a_pilot() -> None:
    """A base of 80 % against an unrelated model has variance .32; its own A/A run has .08."""
    both = suite(100)
    alone = power_plan(both.base, POLICY).tasks[0]
    measured = power_plan(both.base, POLICY, [both.candidate]).tasks[0]
    assert alone.variance == pytest.approx(2 * 0.8 * 0.2)
    assert measured.variance == pytest.approx(0.08)
    # 6.182557 q / m^2 = 198 (STATISTICS 7) and 2 / m more for the worst item; 1.82 times that for
    # six tasks at once.
    assert measured.items_alone == pytest.approx(198 + 40, abs=3)
    assert 1.7 < measured.items_joint / measured.items_alone < 2.0
    still = power_plan(both.base, POLICY, [both.base]).tasks[0]
    assert still.variance == 0.5 / 100
    assert still.power_to_pass < 1


def test_power_of_a_run_says_how_many_seeds(tmp_path: Path) -> None:
    good = suite(100, noise=1)
    worse = suite(100, {"general0": 12}, noise=1)
    found = power_run(run_folder(tmp_path, {0: good, 1: worse, 2: good}, good))
    axes = {one.axis: one for one in found.seeds}
    assert set(axes) == {"general", "numeric", "temporal"}
    assert axes["numeric"].seeds_needed is not None
    general = axes["general"].seeds_needed
    assert general is None or general > axes["numeric"].seeds_needed
    assert 0 < found.joint_power < 1


def test_clusters_count_by_the_planned_design_effect() -> None:
    """20 clusters of 5 at an ICC of .8 count as 100 / 4.2 items: never a PASS at 5 points."""
    both = sides("calendar", 100, axis="temporal", right=1.0)
    records = [r.model_copy(update={"cluster": f"c{n // 5}"}) for n, r in enumerate(both.base)]
    (row,) = power_plan(records, POLICY, [records]).tasks
    assert (row.clusters, row.power_to_pass) == (20, 0.0)
    assert row.minimum_detectable_effect == pytest.approx(1 - 0.05 ** (1 / 23), abs=1e-6)
    assert row.items_alone >= 4 * 59
    (axis,) = power_plan(records, POLICY, [records]).axes
    assert axis.items_needed > 100
    assert axis.power_to_pass < 0.5


def test_an_axis_needs_fewer_items_than_its_tasks(tmp_path: Path) -> None:
    """Two tasks of 100 items at q .08, rescaled by 4/3: the plan of one task with q .08 / .75^2."""
    both = suite(100)
    found = power_plan(both.base, POLICY, [both.candidate])
    general = found.axes[0]
    assert (general.axis, general.tasks, general.items) == ("general", 2, 200)
    assert general.items_needed == pytest.approx(6.182557 * 0.08 / 0.75**2 / 0.05**2, abs=1)
    assert general.items_needed < 2 * found.tasks[0].items_alone
    assert general.minimum_detectable_effect == pytest.approx(
        (6.182557 * 0.08 / 0.75**2 / 200) ** 0.5, rel=1e-6
    )


def test_a_suite_is_measured_on_its_base_and_again_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    folder = certify_fixtures.model(tmp_path / "base")
    chosen = certify_fixtures.suite(base=str(folder))
    usual = certify_fixtures.Answers()

    def turned(where: Path, names: list[str], most: int | None) -> list[list[ItemRecord]]:
        """Every tenth item flips when the options are turned."""
        return [
            [
                r.model_copy(update={"score": 1 - r.score}) if n % 10 == 0 else r
                for n, r in enumerate(records)
            ]
            for records in certify_fixtures.Answers()(where, names, most)
        ]

    scoring = certify_fixtures.request(usual, repeats={"batch": usual, "options": turned}).scoring
    found = power_suite(chosen, None, scoring)
    assert [task.task for task in found.tasks] == certify_fixtures.TASKS
    assert found.tasks[0].variance == pytest.approx(0.1, abs=0.01)
    assert found.tasks[0].source == "base against base, the noisiest scoring"
    assert {axis.axis for axis in found.axes} == {"general", "numeric", "temporal"}
    scored = len(usual.calls)
    assert power_suite(chosen, None, scoring) == found
    assert len(usual.calls) == scored
    text = shown(terminal(found))
    assert "mean of 1 task" in text
    assert "Seeds: not known before a run" in text
    with pytest.raises(IntegrityError, match="was scored for the base, not"):
        power_suite(chosen, None, scoring, [certify_fixtures.answers("capitals", 0.0)[1:]])


def test_a_repeat_scoring_counts_for_the_tasks_that_it_applies_to() -> None:
    """Options rotate in tasks with choices alone; the others keep what is known of them."""
    first, second = (certify_fixtures.answers(name, 0.0) for name in certify_fixtures.TASKS[:2])
    found = power_plan([*first, *second], POLICY, repeats={"options": first})
    assert [task.source for task in found.tasks] == [
        "base against base, the noisiest scoring",
        "twice the base's variance",
    ]


def test_what_cannot_be_planned_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run folder"):
        of_suite(str(tmp_path), [], None)
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        of_suite("quik", [], None)
    with pytest.raises(UsageError, match="brings its own pilots"):
        of_run(tmp_path, [tmp_path], None)
