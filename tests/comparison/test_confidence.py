"""Erosion: what the log-likelihoods of the choices notice before an answer flips."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gate import POLICY, sides
from retainbench.harness.comparison.columns import columns
from retainbench.harness.comparison.compare import compare
from retainbench.harness.comparison.confidence import calibration_error, confidence, slope
from retainbench.harness.core.records import ItemRecord, gold_probability
from retainbench.harness.core.verdicts import erosion


def with_choices(records: list[ItemRecord], logprobs: list[list[float]]) -> list[ItemRecord]:
    """Records with the log-likelihoods of their choices, the first of which is right."""
    return [
        record.model_copy(
            update={"choice_logprobs": row, "soft_score": gold_probability(row, [0]), "gold": 0}
        )
        for record, row in zip(records, logprobs, strict=True)
    ]


def drawn(number: int, lead: float) -> list[list[float]]:
    """The right choice leads three others by `lead` nats and some noise that is the same always."""
    rng = np.random.default_rng(0)
    return [[lead + float(rng.normal()) * 0.1, 0.0, -1.0, -2.0] for _ in range(number)]


def test_worked_example_and_the_single_answer_of_free_form() -> None:
    both = sides("capitals", 1, axis="general", chance=0.25).base
    (table,) = columns(with_choices(both, [[-1.0, -2.0, -3.0]])).values()
    found = confidence(table)
    assert found is not None
    weights = [math.exp(value / 4) for value in (-1.0, -2.0, -3.0)]
    assert found.tempered[0] == pytest.approx(weights[0] / sum(weights))
    assert found.margins is not None
    assert found.margins[0] == pytest.approx(1.0)
    free = [both[0].model_copy(update={"choice_logprobs": [-2.0], "soft_score": math.exp(-2.0)})]
    (table,) = columns(free).values()
    found = confidence(table)
    assert found is not None
    assert (found.tempered[0], found.margins) == (pytest.approx(math.exp(-0.5)), None)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-60, 0), min_size=2, max_size=6),
            st.integers(min_value=0, max_value=5),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_gold_choice_is_found_by_its_probability(
    items: list[tuple[list[float], int]],
) -> None:
    rows = [(values, place % len(values)) for values, place in items]
    records = [
        record.model_copy(
            update={"choice_logprobs": values, "soft_score": gold_probability(values, [gold])}
        )
        for record, (values, gold) in zip(
            sides("capitals", len(rows), axis="general", chance=0.25).base, rows, strict=True
        )
    ]
    (table,) = columns(records).values()
    found = confidence(table)
    assert found is not None
    assert found.margins is not None
    for (values, gold), margin in zip(rows, found.margins, strict=True):
        others = max(value for place, value in enumerate(values) if place != gold)
        assert margin == pytest.approx(values[gold] - others, abs=1e-4)


def test_several_gold_choices_have_no_erosion() -> None:
    values = [-1.0, -2.0, -3.0]
    record = (
        sides("capitals", 1, axis="general", chance=0.25)
        .base[0]
        .model_copy(
            update={"choice_logprobs": values, "soft_score": gold_probability(values, [0, 1])}
        )
    )
    (table,) = columns([record]).values()
    assert confidence(table) is None


def test_erosion_shows_where_no_answer_flips_and_decides_nothing() -> None:
    """All leads halve: not one answer changes, PASS stays, and the shrink is half."""
    both = sides("capitals", 300, axis="general", chance=0.25)
    base = with_choices(both.base, drawn(300, 6.0))
    halved = [[value / 2 for value in row] for row in drawn(300, 6.0)]
    found = compare(base, with_choices(both.base, halved), POLICY)
    (axis,), (task,) = found.axes, found.tasks
    assert (axis.drop.value, axis.verdict, task.verdict) == (0.0, "PASS", "PASS")
    assert axis.erosion is not None
    assert axis.erosion.low > POLICY.erosion_margin
    assert axis.margin_slope == pytest.approx(0.5)
    assert task.margin_drop is not None
    assert task.margin_drop.low < 3.0 < task.margin_drop.high
    assert "above its margin of 2" in erosion(axis)


def test_base_against_itself_has_no_erosion_at_all() -> None:
    both = sides("capitals", 300, axis="general", chance=0.25)
    same = with_choices(both.base, drawn(300, 6.0))
    found = compare(same, same, POLICY)
    for change in (*found.axes, *found.tasks):
        assert change.erosion is not None
        assert change.margin_drop is not None
        assert (change.erosion.low, change.erosion.high) == (0.0, 0.0)
        assert (change.margin_drop.low, change.margin_drop.high) == (0.0, 0.0)
        assert change.margin_slope == 1.0


def test_a_task_of_written_answers_does_not_take_an_axis_erosion_away() -> None:
    """Every axis of our own suites has one; the erosion is that of its tasks with choices."""
    both = sides("capitals", 300, axis="general", chance=0.25)
    written = sides("capitals_free", 300, axis="general", chance=0.0)
    base = with_choices(both.base, drawn(300, 6.0))
    candidate = with_choices(both.candidate, drawn(300, 5.0))
    alone = compare(base, candidate, POLICY).axes[0]
    mixed = compare([*base, *written.base], [*candidate, *written.base], POLICY).axes[0]
    assert (alone.n, mixed.n) == (300, 600)
    assert mixed.erosion == alone.erosion
    assert mixed.margin_drop == alone.margin_drop


def test_items_without_likelihoods_have_no_erosion() -> None:
    both = sides("capitals", 60, axis="general", chance=0.25)
    found = compare(both.base, both.candidate, POLICY)
    assert found.axes[0].erosion is None
    assert erosion(found.axes[0]) == ""


def test_a_base_without_margins_has_no_slope() -> None:
    assert slope(np.zeros(3), np.ones(3)) is None


def test_brier_score_and_calibration_by_hand() -> None:
    """Probabilities .5 / .3 / .2 with the first one right: .25 + .09 + .04."""
    rows = [[math.log(p) for p in (0.5, 0.3, 0.2)]]
    (table,) = columns(with_choices(sides("capitals", 1, axis="general").base, rows)).values()
    found = confidence(table)
    assert found is not None
    assert found.brier is not None
    assert found.top is not None
    assert found.hit is not None
    assert found.brier[0] == pytest.approx(0.38)
    assert (found.top[0], found.hit[0]) == (pytest.approx(0.5), 1.0)
    assert calibration_error(found.top, found.hit) == pytest.approx(0.5)


def test_an_overconfident_candidate_has_a_worse_brier_score_and_calibration() -> None:
    """Half of the answers are wrong; the candidate is four times as sure of all of them."""
    leads = [[float((-1) ** number), 0.0] for number in range(400)]
    both = sides("capitals", 400, axis="general")
    base = with_choices(both.base, leads)
    sure = with_choices(both.base, [[4 * lead, 0.0] for lead, _ in leads])
    found = compare(base, sure, POLICY)
    change = found.tasks[0]
    assert change.brier_rise is not None
    assert change.brier_rise.low > 0
    assert change.candidate_brier == pytest.approx(
        (change.base_brier or 0) + change.brier_rise.value
    )
    before, after = change.base_calibration_error, change.candidate_calibration_error
    assert before is not None
    assert after is not None
    assert after > before > 0.2
    assert found.axes[0].brier_rise is not None


def test_calibrated_probabilities_have_no_error() -> None:
    top = np.repeat([0.55, 0.75, 0.95], 100)
    hit = np.concatenate([np.arange(100) < right for right in (55, 75, 95)]).astype(float)
    assert calibration_error(top, hit) == pytest.approx(0.0, abs=1e-12)
