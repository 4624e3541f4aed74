"""The calibration: its fast intervals are the package's, and its promises hold in a small part."""

import numpy as np
import pytest

from results.statistics import build, calibration
from results.statistics.calibration import MARGIN, core_designs, damaged
from results.statistics.vectorised import estimates, graded, over_seeds, regression_p
from retainbench.harness.statistics.clusters import PLANNING_ICC, Design
from retainbench.harness.statistics.estimate import design_of, estimate, estimate_of
from retainbench.harness.statistics.methods.seeds import ColumnLayout, mean_over_seeds


@pytest.mark.parametrize("clustered", [True, False])
def test_many_runs_have_the_intervals_of_each_run(clustered: bool) -> None:
    rng = np.random.default_rng(0)
    design = Design(np.arange(120) // (4 if clustered else 1), PLANNING_ICC)
    runs = damaged(rng, design, 40, 0.8, 0.03, 0.02, 0.2 if clustered else 0.0)
    many = estimates(*runs, design, 0.05)
    p = regression_p(*runs, design, MARGIN)
    for row in range(40):
        base, tuned = runs.base[row], runs.tuned[row]
        one = estimate(base, tuned, confidence=0.90, clusters=design.codes, margin=MARGIN)
        assert one.bounds == pytest.approx((many.bounds.low[row], many.bounds.high[row]), abs=1e-9)
        assert one.standard_error == pytest.approx(many.error[row], abs=1e-9)
        # The worst-item limit's own p is left out of the fast form; it is seldom the largest.
        assert p[row] <= one.p_within + 1e-9


def test_many_graded_runs_have_the_intervals_of_each_run() -> None:
    d = np.random.default_rng(1).normal(0.01, 0.05, (20, 60))
    many = graded(d, 0.05)
    for row in range(20):
        one = estimate_of(d[row], design_of(None, 60), confidence=0.90).bounds
        assert one == pytest.approx((many.low[row], many.high[row]), abs=1e-9)


def test_many_tables_over_seeds_have_the_intervals_of_each_table() -> None:
    rng = np.random.default_rng(2)
    designs = [Design(np.arange(60) // 3, PLANNING_ICC), Design(np.arange(40), PLANNING_ICC)]
    tables = [(rng.random((15, 3, d.items)) < 0.2).astype(float) for d in designs]
    many = over_seeds(tables, designs, 0.05)
    clusters = [*(np.arange(60) // 3), *range(100, 140)]
    layout = ColumnLayout(clusters, ["a"] * 60 + ["b"] * 40)
    for row in range(15):
        table = np.concatenate([x[row] for x in tables], axis=1)
        one = mean_over_seeds(table, layout, 0.90).interval(0.90)
        assert one == pytest.approx((many.low[row], many.high[row]), abs=1e-9)


@pytest.mark.parametrize("name", sorted(core_designs()))
def test_false_passes_hold_the_level_on_the_clusters_of_every_core_task(name: str) -> None:
    """True ICC .3, drop at the margin, 600 runs: at most 5 % and three Monte Carlo errors."""
    design = core_designs()[name]
    rng = np.random.default_rng(3)
    icc = 0.3 if design.clustered else 0.0
    found = estimates(*damaged(rng, design, 600, 1.0, MARGIN, 0.0, icc), design, 0.05)
    assert np.mean(found.bounds.high <= MARGIN) <= 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5
    assert np.mean(found.bounds.low > MARGIN) <= 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5


def test_damage_has_the_drop_and_the_correlation_that_were_asked_for() -> None:
    design = Design(np.arange(2000) // 10, PLANNING_ICC)
    runs = damaged(np.random.default_rng(4), design, 40, 1.0, 0.1, 0.0, 0.3)
    d = runs.base - runs.tuned
    assert d.mean() == pytest.approx(0.1, abs=0.01)
    sums = d.reshape(40, 200, 10).sum(axis=2)
    icc = (np.var(sums) / (10 * 0.1 * 0.9) - 1) / 9
    assert icc == pytest.approx(0.3, abs=0.06)


def test_published_promises_hold() -> None:
    found = build.published(build.RESULTS)

    def largest(table: str, column: str, most: float = 0.3) -> float:
        return max(
            float(row[column]) - 3 * float(row[f"{column}_error"])
            for row in found[table]
            if float(row.get("icc", 0.0)) <= most
        )

    assert largest("calibration_tasks", "false_pass") <= 0.05
    assert largest("calibration_tasks", "false_regression", 1.0) <= 0.05
    assert largest("calibration_gates", "pass") <= 0.05
    assert largest("calibration_gates", "regression", 1.0) <= 0.05
    assert largest("calibration_graded", "false_pass") <= 0.05
    assert max(float(row["false_pass"]) for row in found["calibration_saturated"]) <= 0.0501
    for table in ("calibration_seeds", "calibration_axes", "calibration_tasks"):
        rows = [r for r in found[table] if float(r.get("icc", 0.0)) <= 0.3]
        for row in rows:
            if "collapses" not in str(row.get("case", "")):
                assert float(row["coverage"]) >= 0.88 - 3 * float(row["coverage_error"])


def test_a_table_is_drawn_again_from_its_seed() -> None:
    assert calibration.graded_point_masses(50, 7) == calibration.graded_point_masses(50, 7)
    assert len(calibration.planned_power(20, 7)) >= 27
    assert len(calibration.saturated(1, 1)) == 21
