"""Verdicts: the three-way rule, what bars a PASS, Holm, axes, the gate, and defects of peers."""

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retainbench.harness.statistics.estimate import estimate
from retainbench.harness.statistics.multiplicity import (
    Member,
    axis_mean,
    decide_gate,
    holm,
    judge_axis,
)
from retainbench.harness.statistics.paired import Bounds, PairedCounts
from retainbench.harness.statistics.power import minimum_detectable_effect
from retainbench.harness.statistics.verdict import Judgement, at_chance, decide, judge

Pair = tuple[np.ndarray, np.ndarray]
VERDICTS = ("PASS", "REGRESSION", "INCONCLUSIVE")


def outcomes(n11: int, n10: int, n01: int, n00: int) -> Pair:
    base = np.repeat([1.0, 1, 0, 0], [n11, n10, n01, n00])
    tuned = np.repeat([1.0, 0, 1, 0], [n11, n10, n01, n00])
    return base, tuned


def judged(cells: tuple[int, int, int, int], margin: float = 0.02) -> Judgement:
    return judge(*outcomes(*cells), margin=margin, min_items=1)


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ((600, 30, 28, 342), "PASS"),
        ((600, 60, 45, 295), "INCONCLUSIVE"),
        ((600, 110, 50, 240), "REGRESSION"),
        ((3000, 200, 140, 1660), "PASS"),
        ((50, 0, 0, 50), "INCONCLUSIVE"),
    ],
)
def test_worked_verdicts(cells: tuple[int, int, int, int], verdict: str) -> None:
    assert judged(cells).verdict == verdict


def test_case_z_the_methods_disagree_and_the_safer_one_counts() -> None:
    found = judged((50, 0, 0, 50))
    alone = {method.name: decide(method.bounds, 0.02) for method in found.methods}
    assert alone == {"tango": "INCONCLUSIVE", "newcombe": "PASS", "worst item": "INCONCLUSIVE"}
    assert found.bounds is not None
    assert found.bounds.high == max(method.bounds.high for method in found.methods)
    assert found.reasons == (
        "the 90 % interval of the drop, -2.95 to 2.95 points, contains the margin of 2",
    )


def test_significant_within_the_margin_is_a_pass() -> None:
    found = judged((3000, 200, 140, 1660))
    assert found.evidence_p is not None
    assert found.evidence_p < 0.002
    assert found.verdict == "PASS"


def test_reasons_name_what_bars_a_verdict() -> None:
    base, tuned = outcomes(25, 0, 0, 5)
    few = judge(base, tuned, margin=0.02, min_items=100)
    assert few.reasons == ("30 items, the policy asks for 100",)
    assert few.items_if_unchanged > 100
    empty = judge([], [], margin=0.02, min_items=1)
    assert (empty.verdict, empty.p_within, empty.mde) == ("INCONCLUSIVE", 1.0, None)


def test_a_pass_has_no_reasons_and_others_have() -> None:
    for cells in ((600, 30, 28, 342), (600, 60, 45, 295), (600, 110, 50, 240)):
        found = judged(cells)
        assert (not found.reasons) == (found.verdict == "PASS")


def test_a_base_at_chance_cannot_pass() -> None:
    base, tuned = outcomes(260, 0, 0, 740)
    assert judge(base, tuned, margin=0.02, min_items=1).verdict == "PASS"
    lucky = judge(base, tuned, margin=0.02, min_items=1, chance=0.25)
    assert lucky.at_chance
    assert lucky.verdict == "INCONCLUSIVE"


def test_at_chance_takes_chance_per_item() -> None:
    scores = np.repeat([1.0, 0.0], [40, 60])
    assert at_chance(scores, np.repeat([0.5, 0.25], [60, 40]))
    assert not at_chance(scores, 0.25)
    assert at_chance(np.zeros(100))


@pytest.mark.parametrize("margin", [0.0, -0.01, 1.0, float("nan")])
def test_margins_are_score_points(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        judge([1, 0], [1, 0], margin=margin, min_items=1)


# --- graded and clustered paths -------------------------------------------------------------


def test_graded_paths_by_size() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.4, 0.8, 2000)
    tuned = base - rng.normal(0.005, 0.02, 2000)
    names = [estimate(base[:n], tuned[:n], confidence=0.90).name for n in (20, 100, 2000)]
    assert names == ["t, worst item", "bca, t, worst item", "edgeworth, t, worst item"]
    assert judge(base, tuned, margin=0.02, min_items=100).verdict == "PASS"
    assert judge(base, tuned - 0.05, margin=0.02, min_items=100).verdict == "REGRESSION"


@pytest.mark.parametrize(("n", "verdict"), [(60, "INCONCLUSIVE"), (500, "PASS")])
def test_identical_graded_runs_pass_only_with_enough_items(n: int, verdict: str) -> None:
    scores = np.random.default_rng(1).uniform(size=n)
    found = judge(scores, scores, margin=0.02, min_items=1)
    assert (found.drop, found.verdict) == (0.0, verdict)


def test_rare_large_losses_do_not_slip_past_the_bootstrap() -> None:
    base = np.full(100, 0.9)
    tuned = base.copy()
    tuned[:2] = 0.0  # BCa and t both end below .05; two such items in a hundred do not show it
    found = judge(base, tuned, margin=0.04, min_items=1)
    assert found.verdict == "INCONCLUSIVE"
    jitter = np.random.default_rng(0).normal(0, 1e-4, 100)  # every item changed, none of it counts
    shaken = judge(base, tuned + jitter.clip(0), margin=0.04, min_items=1)
    assert shaken.verdict == "INCONCLUSIVE"


def test_unbounded_scores_are_not_judged() -> None:
    assert estimate(np.full(50, 5.0), np.full(50, 2.0), confidence=0.90).methods == ()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        judge(np.full(50, 5.0), np.full(50, 2.0), margin=0.02, min_items=1)


def test_clusters_decide_when_items_share_them() -> None:
    rng = np.random.default_rng(2)
    base = np.ones(1000)
    lost = np.repeat(rng.random(50) < 0.06, 20)
    tuned = np.where(lost, 0.0, 1.0)
    alone = judge(base, tuned, margin=0.07, min_items=1)
    together = judge(base, tuned, margin=0.07, min_items=1, clusters=np.repeat(np.arange(50), 20))
    assert together.bounds is not None
    assert alone.bounds is not None
    assert [method.name for method in together.methods] == ["cluster-t", "tango", "worst item"]
    assert together.clusters == 50
    wide, narrow = together.bounds, alone.bounds
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert (alone.verdict, together.verdict) == ("PASS", "INCONCLUSIVE")


@pytest.mark.parametrize(("icc", "groups"), [(0.2, 54), (0.0, 30), (0.99, 148)])
def test_no_flips_in_clusters_count_by_the_planned_design_effect(icc: float, groups: int) -> None:
    """Five items a cluster: 149 independent ones are 149 (1 + 4 icc) / 5 clusters."""
    for number, verdict in ((groups - 1, "INCONCLUSIVE"), (groups, "PASS")):
        scores = np.tile([1.0, 0, 1, 1, 1], number)
        labels = np.repeat([f"c{g}" for g in range(number)], 5)
        found = judge(scores, scores, margin=0.02, min_items=1, clusters=labels, icc=icc)
        assert found.verdict == verdict


def test_few_clusters_are_inconclusive_unless_the_policy_says_otherwise() -> None:
    rng = np.random.default_rng(3)
    base = (rng.random(900) < 0.9).astype(float)
    tuned = np.where(rng.random(900) < 0.05, 1 - base, base) * (rng.random(900) < 0.7)
    labels = np.repeat(np.arange(9), 100)
    strict = judge(base, tuned, margin=0.02, min_items=1, clusters=labels)
    loose = judge(base, tuned, margin=0.02, min_items=1, clusters=labels, min_clusters=5)
    assert strict.reasons == ("9 clusters, the policy asks for 10",)
    assert (strict.verdict, loose.verdict) == ("INCONCLUSIVE", "REGRESSION")


def test_one_cluster_has_no_interval() -> None:
    found = judge([1, 0, 1], [1, 1, 0], margin=0.02, min_items=1, clusters=["a"] * 3)
    assert found.bounds is None
    assert found.verdict == "INCONCLUSIVE"


def test_rescaled_drop_divides_by_what_guessing_leaves() -> None:
    base, tuned = outcomes(600, 60, 30, 310)
    found = judge(base, tuned, margin=0.02, min_items=1, chance=0.25)
    assert found.rescaled_drop == pytest.approx(0.03 / 0.75)
    plain = judge(base, tuned, margin=0.02, min_items=1)
    assert plain.rescaled_error is not None
    assert found.rescaled_error == pytest.approx(plain.rescaled_error / 0.75)
    mixed = judge(base, tuned, margin=0.02, min_items=1, chance=np.repeat([0.0, 0.5], 500))
    expected = np.mean((base - tuned) / np.repeat([1.0, 0.5], 500))
    assert mixed.rescaled_drop == pytest.approx(expected)


# --- properties -----------------------------------------------------------------------------

cells = st.integers(0, 400)
any_cells = st.tuples(cells, cells, cells, cells)


@settings(deadline=None, max_examples=40)
@given(any_cells, st.floats(0.005, 0.2), st.floats(0.001, 0.2))
def test_a_pass_stays_a_pass_at_a_larger_margin(
    counts: tuple[int, int, int, int], margin: float, more: float
) -> None:
    if judged(counts, margin).verdict == "PASS":
        assert judged(counts, margin + more).verdict == "PASS"


@settings(deadline=None, max_examples=40)
@given(any_cells, st.floats(0.005, 0.2))
def test_every_input_gets_one_verdict_with_matching_p_values(
    counts: tuple[int, int, int, int], margin: float
) -> None:
    found = judged(counts, margin)
    assert found.verdict in VERDICTS
    if found.verdict == "PASS":
        assert found.p_beyond <= 0.05 + 1e-9
    if found.verdict == "REGRESSION":
        assert found.p_within <= 0.05 + 1e-9


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.001, 0.5))
def test_the_partition_of_intervals_is_total(low: float, width: float, margin: float) -> None:
    said = decide(Bounds(low, low + width), margin)
    assert [low + width <= margin, low > margin, low <= margin < low + width] == [
        said == v for v in VERDICTS
    ]


@settings(deadline=None, max_examples=25)
@given(any_cells, st.randoms(use_true_random=False))
def test_order_of_items_does_not_change_a_judgement(
    counts: tuple[int, int, int, int], random: object
) -> None:
    base, tuned = outcomes(*counts)
    order = np.arange(len(base))
    random.shuffle(order)  # type: ignore[attr-defined]
    there = judge(base, tuned, margin=0.02, min_items=1)
    back = judge(base[order], tuned[order], margin=0.02, min_items=1)
    assert (there.verdict, there.counts, there.bounds) == (back.verdict, back.counts, back.bounds)


@pytest.mark.parametrize(("n", "verdict"), [(148, "INCONCLUSIVE"), (400, "PASS")])
def test_identical_runs_pass_only_with_enough_items(n: int, verdict: str) -> None:
    scores = np.resize([1.0, 1, 0], n)
    found = judge(scores, scores, margin=0.02, min_items=1)
    assert (found.drop, found.verdict) == (0.0, verdict)


# --- Holm, axes, the gate -------------------------------------------------------------------


def test_holm_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    with pytest.raises(ValueError, match="p-values"):
        holm([0.1, float("nan")])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_axis_example() -> None:
    found = axis_mean([0.01, 0.02, 0.00], [0.008, 0.010, 0.006], 0.90)
    assert found.drop == pytest.approx(0.01)
    assert found.standard_error == pytest.approx(0.00471405, abs=1e-8)
    assert found.bounds.high == pytest.approx(0.0177539, abs=1e-7)


def test_axis_verdicts() -> None:
    fine, harmed = judged((6000, 100, 100, 3800)), judged((6000, 900, 100, 3000))
    assert judge_axis({"a": fine, "b": fine}, margin=0.02).verdict == "PASS"
    assert judge_axis({"a": harmed, "b": harmed}, margin=0.02).verdict == "REGRESSION"
    wide = {"a": fine, "b": fine, "c": fine, "d": harmed}
    assert judge_axis(wide, margin=0.05).verdict == "INCONCLUSIVE"


def test_an_axis_never_averages_over_what_happens_to_be_there() -> None:
    fine, empty = judged((6000, 100, 100, 3800)), judge([], [], margin=0.02, min_items=1)
    lucky = judge(*outcomes(2500, 0, 0, 7500), margin=0.02, min_items=1, chance=0.25)
    missing = judge_axis({"a": fine, "b": empty}, margin=0.02)
    assert (missing.verdict, missing.drop) == ("INCONCLUSIVE", None)
    counted = judge_axis({"a": fine, "b": lucky}, margin=0.02)
    assert (counted.verdict, counted.tasks, counted.excluded) == ("PASS", 1, ("b",))
    assert judge_axis({"b": lucky}, margin=0.02).verdict == "INCONCLUSIVE"
    assert judge_axis({}, margin=0.02).verdict == "INCONCLUSIVE"


def test_gate_needs_every_mandatory_member() -> None:
    good, unknown = Member("a", "PASS", 0.9), Member("b", "INCONCLUSIVE", 0.4, True, ("few",))
    assert decide_gate([good]).verdict == "PASS"
    assert decide_gate([good, unknown]).reasons == ("b: few",)
    assert decide_gate([good, unknown._replace(mandatory=False)]).verdict == "PASS"
    assert decide_gate([good._replace(mandatory=False)]).verdict == "INCONCLUSIVE"


def test_gate_regression_needs_holm() -> None:
    good = [Member(f"t{i}", "PASS", 0.9) for i in range(9)]
    weak, strong = Member("x", "REGRESSION", 0.03), Member("x", "REGRESSION", 0.001)
    assert decide_gate([*good, strong]).verdict == "REGRESSION"
    assert [o.name for o in decide_gate([*good, strong]).outcomes if o.holm_p <= 0.05] == ["x"]
    found = decide_gate([*good, weak])
    assert found.verdict == "INCONCLUSIVE"
    assert found.reasons == ("x: regression (unadjusted)",)
    optional = decide_gate([*good, weak._replace(mandatory=False)])
    assert optional.verdict == "INCONCLUSIVE"


# --- defects seen in peer gates (STATISTICS 11), as far as they are about numbers -----------


def test_defect_1_nothing_gated_is_not_go() -> None:
    assert decide_gate([]).verdict == "INCONCLUSIVE"


def test_defect_1_the_point_estimate_decides_nothing() -> None:
    for cells in ((40, 3, 1, 6), (40, 5, 1, 4)):  # drops .04 and .08 around a margin of .05
        found = judged(cells, 0.05)
        assert found.drop is not None
        assert found.verdict == "INCONCLUSIVE"


def test_defect_2_many_tasks_are_corrected() -> None:
    rng = np.random.default_rng(4)
    alarms = {"plain": 0, "holm": 0}
    for _ in range(200):  # 20 tasks whose true drop is the margin: p is uniform at best
        p_values = rng.random(20)
        members = [
            Member(str(i), "REGRESSION" if p <= 0.05 else "INCONCLUSIVE", float(p))
            for i, p in enumerate(p_values)
        ]
        alarms["plain"] += any(m.verdict == "REGRESSION" for m in members)
        alarms["holm"] += decide_gate(members).verdict == "REGRESSION"
    assert alarms["plain"] > 100  # expected 1 - .95^20 = 64%
    assert alarms["holm"] < 20  # 5% + 3.2 standard errors of 200 draws


def test_defect_3_mde_on_the_scale_of_all_items() -> None:
    found = minimum_detectable_effect(1000, 0.1)
    assert found == pytest.approx(2.486475 * np.sqrt(100) / 1000 + 1 / 1000, abs=1e-6)


def test_defect_4_crossing_the_margin_is_not_a_regression() -> None:
    assert decide(Bounds(-0.05, 0.03), 0.02) == "INCONCLUSIVE"


def test_defect_5_tiny_and_flipless_samples_do_not_pass() -> None:
    for n in (2, 10, 58):
        assert judged((n, 0, 0, 0), 0.05).verdict == "INCONCLUSIVE"


def test_defect_6_a_missing_value_is_an_error_and_an_empty_one_none() -> None:
    with pytest.raises(ValueError, match="errored item"):
        judge([1, float("nan")], [1, 1], margin=0.02, min_items=1)
    assert judge([], [], margin=0.02, min_items=1).drop is None


def test_defect_7_pairing_is_used() -> None:
    paired = judge(*outcomes(700, 60, 30, 210), margin=0.005, min_items=1)
    assert paired.counts == PairedCounts(700, 60, 30, 210)
    # An unpaired z test of the same margins (.76, .73) has p .12; the paired one sees the drop.
    assert paired.evidence_p is not None
    assert paired.evidence_p < 0.003


def test_defect_8_repeats_as_clusters_do_not_add_evidence() -> None:
    base, tuned = outcomes(80, 8, 4, 8)
    once = judge(base, tuned, margin=0.02, min_items=1)
    repeated = judge(
        np.tile(base, 3),
        np.tile(tuned, 3),
        margin=0.02,
        min_items=1,
        clusters=np.tile(np.arange(100), 3),
    )
    assert once.bounds is not None
    assert repeated.bounds is not None
    one, three = once.bounds, repeated.bounds
    # Pooled: .58. Short of 1 because a t interval is narrower than the union for 0/1 items.
    assert three.high - three.low > 0.8 * (one.high - one.low)


def test_defect_9_the_verdict_knows_the_number_of_items() -> None:
    assert judged((45, 3, 0, 2), 0.08).verdict == "INCONCLUSIVE"
    assert judged((4500, 300, 0, 200), 0.08).verdict == "PASS"


# --- cost -----------------------------------------------------------------------------------


def test_a_hundred_tasks_of_ten_thousand_items_take_seconds() -> None:
    rng = np.random.default_rng(7)
    base = (rng.random(10_000) < 0.7).astype(float)
    tuned = np.where(rng.random(10_000) < 0.04, 1 - base, base)
    labels = [f"item-{i}" for i in range(10_000)]
    start = time.process_time()
    found = [
        judge(base, tuned, margin=0.05, min_items=100, chance=0.25, clusters=labels)
        for _ in range(100)
    ]
    decision = decide_gate([Member(str(i), j.verdict, j.p_within) for i, j in enumerate(found)])
    assert decision.verdict == "PASS"
    assert time.process_time() - start < 10  # 0.45 s alone on one core


def test_verdicts_need_neither_torch_nor_scipy_stats() -> None:
    code = (
        "import sys, retainbench.harness.statistics.multiplicity as g; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'pydantic', 'scipy.stats')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
