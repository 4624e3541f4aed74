"""Arms of a stored run against each other, on planted gains and drops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fixtures.gate import Candidate, Sides, record, sides, stored_run, target
from retainbench.harness.comparison import matched
from retainbench.harness.comparison.arms import load
from retainbench.harness.comparison.methods import methods
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.records import DOCUMENT_METRIC, ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.scorecards import DivergenceSummary, PointScore


def scored(won: int, lost: int) -> list[ItemRecord]:
    """A candidate with `won` % more of 200 target items and `lost` of 100 numeric items, none
    of 300 general ones."""
    goal = target(200, 20, 20 + 2 * won)
    numeric = sides("arithmetic", 100, lost=lost, axis="numeric", chance=0.0)
    general = sides("capitals", 300, axis="general", chance=0.25)
    return [*numeric.candidate, *general.candidate, *goal.candidate]


BASE = scored(0, 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`calm` and `rash` reach the same gain; `rash` forgets; `idle` learns nothing; one failed."""
    calm = {0.5: scored(20, 1), 1.0: scored(40, 2)}
    rash = {0.5: scored(40, 30), 1.0: scored(40, 20)}
    cells = [
        *(Candidate("calm", seed, calm) for seed in range(2)),
        *(Candidate("rash", seed, rash) for seed in range(2)),
        Candidate("idle", 0, {1.0: BASE}),
        Candidate("broken", 0, {1.0: BASE}),
        Candidate("broken", 1, {}),
    ]
    return stored_run(tmp_path_factory.mktemp("run"), BASE, cells)


def test_rows_hold_planted_gains_drops_and_trajectories(run: Path) -> None:
    rows = {row.recipe: row for row in methods(run).rows}
    assert list(rows) == ["calm", "rash", "idle"]
    calm, rash, idle = rows.values()
    assert calm.seeds == [0, 1]
    # Rewards of the items won rise from 0 or 0.1 to 1.
    assert calm.gain.value == pytest.approx(0.3735)
    assert 0.25 < calm.gain.low < calm.gain.value < calm.gain.high < 0.50
    # Not one of 200 answers changed: as wide as the worst-item limit, not [0, 0].
    assert (idle.gain.value, -idle.gain.low) == (0, pytest.approx(idle.gain.high))
    assert idle.gain.high == pytest.approx(1 - 0.05 ** (1 / 200), rel=0.02)
    # Three quarters of what guessing leaves: a rescaled axis is 4/3 as wide.
    assert idle.drops["general"].high == pytest.approx((1 - 0.05 ** (1 / 300)) * 4 / 3, rel=0.02)
    assert (calm.gain.method, idle.gain.method) == ("two-way, 2 seeds", "two-way, one seed")
    assert rash.drops["numeric"].value == pytest.approx(0.20)
    assert (rash.drops["general"].value, set(rash.drops)) == (0.0, {"general", "numeric"})
    path = rash.trajectories["numeric"]
    found = (path.worst, path.worst_at, path.end, path.recovery)
    assert found == pytest.approx((0.30, 0.5, 0.20, 0.10))
    assert path.area == pytest.approx(0.5 * (0.30 / 2 + (0.30 + 0.20) / 2))


def test_drops_are_compared_at_the_same_gain(run: Path) -> None:
    rows = {row.recipe: row for row in methods(run, matched_gain=0.2).rows}
    calm, rash, idle = (rows[name].matched["numeric"] for name in ("calm", "rash", "idle"))
    assert calm.drop is not None
    assert rash.drop is not None
    # Half of the way to its first checkpoint `rash` has half of that checkpoint's drop.
    assert 0.005 < calm.drop < 0.015
    assert 0.14 < rash.drop < 0.18
    assert rash.low is not None
    assert calm.high is not None
    assert calm.high < rash.low
    assert (idle.drop, idle.reason) == (None, "not reached")
    unmatched = methods(run).rows[0].matched["numeric"].gain
    assert unmatched == pytest.approx(0.5 * max(row.gain.value for row in rows.values()))


def test_pairs_are_compared_at_a_gain_of_their_own_and_wherever_both_hold_it(run: Path) -> None:
    rows = methods(run).matched_pairs
    by = {(row.first, row.second, row.axis, row.share): row for row in rows}
    crossing, end = by["calm", "rash", "numeric", None], by["calm", "rash", "numeric", 1.0]
    assert crossing.gain == pytest.approx(0.5 * 0.3735)
    assert crossing.difference is not None
    assert end.difference is not None
    # `calm` crosses at half of its first checkpoint or later, `rash` on the way to its first.
    assert -0.18 < crossing.difference.value < -0.12
    assert crossing.difference.high < 0
    assert (end.difference.value, end.holm_p) == (pytest.approx(-0.18), None)
    assert crossing.holm_p is not None
    assert ("calm", "rash", "numeric", 0.5) not in by  # `calm` has less than the gain there
    idle = by["calm", "idle", "numeric", None]
    assert (idle.difference, idle.reason) == (None, "one of them gains nothing")


def read(rise: float) -> list[ItemRecord]:
    """160 documents, each less likely by about so many nats per token."""
    wobble = 0.01 * np.sin(np.arange(160))
    return [
        record(
            "numeric_text",
            number,
            math.exp(-nats),
            axis="numeric",
            metric=DOCUMENT_METRIC,
            chance=0.0,
            choice_logprobs=[-100 * nats],
            document_tokens=100,
            document_bytes=400,
        )
        for number, nats in enumerate(2.3 + (rise + wobble if rise else 0 * wobble))
    ]


def test_documents_are_compared_by_pairs_in_nats(tmp_path: Path) -> None:
    cells = [
        Candidate(name, seed, {1.0: [*scored(40, 2), *read(rise)]})
        for name, rise in (("calm", 0.01), ("rash", 0.5), ("same", 0.01))
        for seed in range(2)
    ]
    found = methods(stored_run(tmp_path, [*BASE, *read(0)], cells))
    by = {(row.first, row.second): row for row in found.pairs if row.measure.endswith("perplexity")}
    lost, equal = by["calm", "rash"], by["calm", "same"]
    assert lost.measure == "numeric perplexity"
    assert lost.difference.value == pytest.approx(-0.49)
    assert lost.difference.high < -0.4
    assert lost.holm_p < 0.05
    assert (equal.difference.value, equal.margin) == (0.0, Policy().perplexity_margin)
    assert "numeric perplexity" not in found.rows[0].ranks


def test_gain_per_drift_at_the_same_gain(run: Path) -> None:
    calm, rash, idle = (row.matched_per_drift for row in methods(run, matched_gain=0.2).rows)
    assert calm is not None
    assert rash is not None
    assert rash.value is not None
    assert calm.value == pytest.approx(0.2 / 0.01)  # drift of the fixture is .01 at every point
    assert rash.value > 1.5 * 0.2 / 0.01  # it crosses halfway to its first point
    assert idle is not None
    assert idle.reason == "not reached"


def test_the_front_and_the_ratios(run: Path) -> None:
    rows = {row.recipe: row for row in methods(run).rows}
    assert {name: row.on_front for name, row in rows.items()} == {
        "calm": True,
        "rash": False,
        "idle": True,
    }
    assert rows["rash"].dominated_by == ["calm"]
    drift = rows["calm"].gain_per_drift
    assert drift.value == pytest.approx(rows["calm"].gain.value / 0.01)
    assert rows["calm"].gain_per_kl.reason == "not measured for every seed"


@pytest.mark.parametrize("known", [2, 1])
def test_the_error_of_a_kl_is_that_of_its_prompts(known: int) -> None:
    """t limits of eight prompts are 1.895 standard errors wide, not the 1.645 of a normal one.

    An axis with a single prompt has no error of its own and takes none from the other.
    """
    half = 1.894579 * 0.01
    one = Interval(
        value=0.2, low=0.2 - half, high=0.2 + half, level=0.9, n=8, method="t over prompts"
    )
    axes = ("general", "numeric")
    summary = DivergenceSummary.model_construct(
        forward={"target": 9.0, **dict.fromkeys(axes, 0.2)},
        intervals=dict.fromkeys(axes[:known], one),
    )
    found = matched.kl(PointScore.model_construct(divergence=summary))
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert found.error == pytest.approx(0.01 * math.sqrt(known) / 2, rel=1e-5)


def test_pairs_and_ranks_tell_what_differs(run: Path) -> None:
    found = methods(run)
    by = {(row.measure, row.first, row.second): row for row in found.pairs}
    assert len(by) == 3 * 3  # three pairs of arms; gain and two axes
    gain, lost = by["gain", "calm", "rash"], by["numeric", "calm", "rash"]
    assert (gain.difference.value, gain.equivalent) == (0.0, True)
    assert lost.difference.value == pytest.approx(-0.18)
    assert lost.difference.high < 0
    assert (lost.holm_p < 0.05, lost.equivalent) == (True, False)
    ranks = {row.recipe: row.ranks for row in found.rows}
    assert (ranks["calm"]["gain"], ranks["idle"]["gain"]) == ([1, 2], [3, 3])
    assert ranks["rash"]["numeric"] == [3, 3]


def test_the_level_is_the_policy_s(tmp_path: Path) -> None:
    cells = [Candidate("calm", 0, {1.0: scored(40, 2)})]
    usual, strict = (
        methods(stored_run(tmp_path / str(alpha), BASE, cells, Policy(alpha=alpha))).rows[0]
        for alpha in (0.05, 0.01)
    )
    assert [row.gain.level for row in (usual, strict)] == pytest.approx([0.90, 0.98])
    assert strict.gain.high - strict.gain.low > 1.3 * (usual.gain.high - usual.gain.low)


def test_an_arm_with_a_failed_seed_is_absent_and_says_why(run: Path) -> None:
    assert methods(run).absent == {
        "broken on countdown": "1 of 2 seeds have no result: the loss is NaN"
    }


def test_tables_start_at_the_base_and_share_their_items(run: Path) -> None:
    ((key, arms),) = load(run).items()
    assert key == ("fruitfly", "countdown")
    calm = arms.arms[0]
    assert calm.budgets == [0.0, 0.5, 1.0]
    assert calm.gain.shape == (2, 3, 200)
    assert not calm.gain[:, 0].any()
    assert calm.drops["numeric"].shape == (2, 3, len(arms.kept["numeric"].tasks))


def test_points_are_placed_at_what_was_really_spent(tmp_path: Path) -> None:
    """One large step passed two points, of which the later counts; the last went past the end."""
    points = {0.25: scored(20, 1), 0.5: scored(20, 1), 1.0: scored(40, 2)}
    large = Candidate("large", 0, points, {0.25: 6, 0.5: 6, 1.0: 11})
    ((_, arms),) = load(stored_run(tmp_path, BASE, [large])).items()
    assert arms.arms[0].budgets == [0.0, 0.6, 1.1]
    (row,) = methods(tmp_path).rows
    assert row.trajectories["numeric"].worst_at == 1.1


def test_a_method_has_a_verdict_over_its_seeds(run: Path, tmp_path: Path) -> None:
    """`rash` lost 20 points of numeric, four times the margin; a second seed of `idle`, nothing."""
    verdicts = {row.recipe: row.verdict for row in methods(run).rows}
    assert verdicts == {"calm": "INCONCLUSIVE", "rash": "REGRESSION", "idle": None}
    (idle,) = methods(
        stored_run(tmp_path, BASE, [Candidate("idle", seed, {1.0: BASE}) for seed in range(2)])
    ).rows
    assert idle.verdict == "PASS"


def test_one_seed_speaks_of_one_run(tmp_path: Path) -> None:
    root = stored_run(tmp_path, BASE, [Candidate("calm", 0, {1.0: scored(40, 2)})])
    (row,) = methods(root).rows
    assert row.verdict is None
    assert row.gain.method == "two-way, one seed"


def test_a_point_that_lost_an_item_is_refused(tmp_path: Path) -> None:
    root = stored_run(tmp_path, BASE, [Candidate("calm", 0, {1.0: scored(40, 2)})])
    records = RunFolder(root).cell("calm-0").point(point_name(0, 1.0)).records
    records.write_text("".join(records.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(IntegrityError, match="missing from the candidate"):
        methods(root)


def test_repeated_methods_are_equal(run: Path) -> None:
    assert methods(run) == methods(run)


def test_a_task_at_chance_is_left_out_of_its_axis(tmp_path: Path) -> None:
    lucky = sides("lucky", 100, right=0.25, axis="numeric")
    both = Sides([*BASE, *lucky.base], [*scored(40, 5), *lucky.candidate])
    root = stored_run(tmp_path, both.base, [Candidate("calm", 0, {1.0: both.candidate})])
    (row,) = methods(root).rows
    assert row.drops["numeric"].n == 100
    assert row.drops["numeric"].value == pytest.approx(0.05)


def test_a_seed_that_stopped_early_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    early, late = {0.5: scored(30, 2)}, {0.5: scored(10, 0), 1.0: scored(40, 4)}
    cells = [Candidate("sft", 0, early), Candidate("sft", 1, late)]
    (arms,) = load(stored_run(tmp_path, BASE, cells)).values()
    (arm,) = arms.arms
    assert arm.gain.shape[:2] == (2, 3)
    assert (arm.gain[0, 1] == arm.gain[0, 2]).all()
    assert arm.gain[0, 1].mean() > arm.gain[1, 1].mean()
    row = methods(tmp_path).rows[0]
    assert row.drops["numeric"].value == pytest.approx(0.03)
