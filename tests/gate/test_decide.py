"""The gate on synthetic records: verdicts, fail-closed rules, exit codes, tiers, run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.gate import POLICY, Sides, drift, run_folder, sides, suite, target
from retainbench.harness.comparison.arms import load
from retainbench.harness.comparison.compare import compare
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import read_json, write_json, write_jsonl
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.scorecards import DivergenceSummary
from retainbench.harness.core.verdicts import GateResult, exit_code, failed, overall
from retainbench.harness.gate.candidates import gate_records, gate_run
from retainbench.harness.gate.decide import Movement, gate
from retainbench.harness.gate.tiers import n_items, promise
from retainbench.harness.statistics.estimate import estimate
from retainbench.harness.statistics.power import detectable_drop
from retainbench.harness.suites.plan import Plan


def judged(both: Sides, policy: Policy = POLICY, **options: Any) -> GateResult:
    return gate_records(both.base, both.candidate, policy, **options)


def test_base_against_itself_passes_with_all_deltas_zero() -> None:
    both = suite(200)
    result = gate_records(both.base, both.base, POLICY)
    assert (result.verdict, result.reasons, result.warnings) == ("PASS", [], [])
    assert exit_code([result]) == 0
    assert {task.change.drop.value for task in result.tasks} == {0.0}
    assert {axis.verdict for axis in result.axes} == {"PASS"}


def test_planted_damage_is_a_regression_that_names_its_axis() -> None:
    result = judged(suite(300, {"numeric0": 45, "numeric1": 45}))
    assert (result.verdict, exit_code([result])) == ("REGRESSION", 1)
    assert [task.change.task for task in result.tasks[:2]] == ["numeric0", "numeric1"]
    verdicts = {axis.axis: axis.verdict for axis in result.axes}
    assert verdicts["numeric"] == "REGRESSION"
    assert {verdicts["general"], verdicts["temporal"]} == {"PASS"}
    assert "numeric0 regressed" in result.reasons


def test_thirty_damaged_items_are_inconclusive_and_say_how_many_would_decide() -> None:
    result = judged(suite(30, {"numeric0": 3}, noise=0))
    assert (result.verdict, exit_code([result])) == ("INCONCLUSIVE", 3)
    damaged = next(task for task in result.tasks if task.change.task == "numeric0")
    assert damaged.change.n == 30
    assert damaged.items_to_decide is not None
    assert 100 < damaged.items_to_decide < 5000
    # All answers lost: 30 items would do, the policy's minimum decides how many are asked for.
    hopeless = judged(suite(30, {"numeric0": 24}, noise=0))
    assert hopeless.tasks[0].verdict == "INCONCLUSIVE"
    by_name = {task.change.task: task.items_to_decide for task in hopeless.tasks}
    assert by_name["numeric0"] == POLICY.minimum_items


def test_nothing_gated_is_refused() -> None:
    """Defect 1 of peers: an empty set of gated tasks returned GO."""
    with pytest.raises(IntegrityError, match="nothing is gated"):
        gate([], [], POLICY)
    with pytest.raises(IntegrityError, match="nothing is gated"):
        judged(target(60, 10, 20))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(POLICY.model_copy(update={"mandatory": ["general9"]}), ()), (POLICY, ("general9",))],
)
def test_a_mandatory_or_expected_task_that_vanished_is_refused(
    policy: Policy, expected: tuple[str, ...]
) -> None:
    """Defect 10: fail-open on vanished evaluations."""
    with pytest.raises(IntegrityError, match="'general9' must be gated but has no results"):
        judged(suite(60), policy, expected=expected)


def test_a_small_task_cannot_pass_or_regress() -> None:
    """Defect 5: intervals down to n = 2."""
    for lost in (0, 40):
        result = judged(sides("t", 49, lost=lost, right=0.9))
        assert result.verdict == "INCONCLUSIVE"
        assert "49 items, the policy asks for 50" in result.tasks[0].reasons[0]


def test_worse_and_unknown_are_different_verdicts() -> None:
    """Defect 4: an interval that merely crosses the margin was called a regression."""
    result = judged(sides("t", 100, lost=6, gained=2))
    assert result.tasks[0].change.drop.high > 0.05 > result.tasks[0].change.drop.low
    assert (result.verdict, exit_code([result])) == ("INCONCLUSIVE", 3)


def test_a_significant_drop_within_the_margin_passes() -> None:
    result = judged(sides("t", 5000, lost=200, gained=140), Policy(margin=0.02))
    change = result.tasks[0].change
    assert change.mcnemar_p is not None
    assert change.mcnemar_p < 0.01
    assert result.verdict == "PASS"


def test_one_task_of_many_must_survive_holm() -> None:
    """Defect 2: no control over many benchmarks. The gate is INCONCLUSIVE, never PASS."""
    alone = judged(sides("t", 200, lost=22, gained=1))
    assert alone.verdict == "REGRESSION"
    many = [sides("t", 200, lost=22, gained=1), *(sides(f"u{i}", 200) for i in range(29))]
    both = Sides([r for s in many for r in s.base], [r for s in many for r in s.candidate])
    result = judged(both)
    assert result.verdict == "INCONCLUSIVE"
    worst = result.tasks[0]
    assert (worst.change.task, worst.verdict, worst.unadjusted) == ("t", "INCONCLUSIVE", True)
    assert worst.holm_p == pytest.approx(30 * (worst.change.p_drop_within_margin or 0))
    assert result.reasons == ["t: regression (unadjusted)"]


def test_tasks_that_are_not_mandatory_may_be_inconclusive_but_not_regress() -> None:
    policy = Policy(margin=0.05, mandatory=["big"])
    big, small = sides("big", 300, lost=2, gained=2), sides("small", 60, lost=3)
    both = Sides([*big.base, *small.base], [*big.candidate, *small.candidate])
    assert judged(both, policy).verdict == "PASS"
    bad = sides("small", 60, lost=30)
    worse = Sides([*big.base, *bad.base], [*big.candidate, *bad.candidate])
    assert judged(worse, policy).verdict == "REGRESSION"


def test_a_mandatory_task_at_chance_is_inconclusive() -> None:
    result = judged(sides("t", 400, right=0.25))
    assert result.verdict == "INCONCLUSIVE"
    assert result.tasks[0].items_to_decide is None
    assert "chance" in result.reasons[0]


def test_a_gated_axis_decides_and_needs_its_tasks() -> None:
    lost = {"numeric0": 9, "numeric1": 9, "numeric2": 9, "numeric3": 9}
    both = suite(300, lost, per_axis=4, noise=3)
    plain = judged(both)
    assert plain.verdict in {"PASS", "INCONCLUSIVE"}
    strict = judged(both, POLICY.model_copy(update={"axis_margins": {"numeric": 0.01}}))
    assert strict.verdict == "REGRESSION"
    assert "axis numeric regressed" in strict.reasons
    absent = judged(sides("t", 300), POLICY.model_copy(update={"axis_margins": {"temporal": 0.05}}))
    assert absent.verdict == "INCONCLUSIVE"
    assert "no temporal task above chance" in absent.reasons[0]


def test_a_floor_on_the_gain_decides_three_ways() -> None:
    both = suite(200)
    verdicts = {}
    for won in (200, 40, 5):
        goal = target(300, 20, 20 + won)
        sides_ = Sides([*both.base, *goal.base], [*both.candidate, *goal.candidate])
        verdicts[won] = judged(sides_, POLICY.model_copy(update={"minimum_gain": 0.12})).verdict
    assert verdicts == {200: "PASS", 40: "INCONCLUSIVE", 5: "REGRESSION"}
    with pytest.raises(UsageError, match="minimum_gain needs a target"):
        judged(both, POLICY.model_copy(update={"minimum_gain": 0.1}))


def test_advisory_limits_warn_and_never_decide() -> None:
    kl = DivergenceSummary(
        forward={"target": 9.0, "general": 0.3}, reverse={}, tokens={}, estimator="exact"
    )
    policy = POLICY.model_copy(update={"maximum_relative_drift": 0.005, "maximum_kl": 0.1})
    both = suite(200)
    result = judged(both, policy, movement=Movement(drift=drift(), divergence=kl))
    assert result.verdict == "PASS"
    assert len(result.warnings) == 2
    assert "0.3" in result.warnings[1]
    assert "was not measured" in judged(both, policy).warnings[0]


def test_soft_scores_warn_before_answers_change() -> None:
    both = sides("t", 200)
    soft = [
        [one.model_copy(update={"soft_score": level}) for one in side]
        for side, level in zip(both, (0.9, 0.6), strict=True)
    ]
    result = judged(Sides(*soft), POLICY.model_copy(update={"soft_margin": 0.1}))
    assert result.verdict == "PASS"
    assert "soft score dropped by 0.3000" in result.warnings[0]


def test_identical_weights_must_answer_identically() -> None:
    both = suite(200)
    same = Movement(drift=drift(changed=0, relative=0.0))
    assert gate_records(both.base, both.base, POLICY, movement=same).verdict == "PASS"
    with pytest.raises(IntegrityError, match="equal weights but other answers"):
        judged(both, movement=same)


def test_changes_judged_under_another_policy_are_refused() -> None:
    found = compare(*suite(200), POLICY)
    with pytest.raises(IntegrityError, match="compare again"):
        gate(found.tasks, found.axes, Policy(margin=0.2))
    with pytest.raises(IntegrityError, match=r"level 0\.9"):
        gate(found.tasks, found.axes, Policy(margin=0.05, alpha=0.01))


def test_exit_codes_and_their_precedence() -> None:
    passed = judged(suite(200))
    regressed = judged(suite(200, {"general0": 60}))
    unknown = judged(suite(60))
    broken = failed("c", "", "records are missing", 0.05)
    assert [exit_code([r]) for r in (passed, regressed, unknown, broken)] == [0, 1, 3, 4]
    assert exit_code([passed, unknown]) == 3
    assert exit_code([passed, unknown, regressed]) == 1
    assert exit_code([passed, unknown, regressed, broken]) == 4
    assert exit_code([]) == 4
    assert exit_code([unknown, passed], allow_inconclusive=True) == 0
    assert exit_code([regressed], allow_inconclusive=True) == 1
    assert overall([unknown]) == "INCONCLUSIVE"


def test_pass_at_a_margin_implies_pass_at_a_larger_one() -> None:
    both = sides("t", 300, lost=20, gained=3)
    verdicts = [judged(both, Policy(margin=m / 200)).verdict for m in range(1, 40)]
    order = ["REGRESSION", "INCONCLUSIVE", "PASS"]
    ranks = [order.index(verdict) for verdict in verdicts]
    assert ranks == sorted(ranks)
    assert set(verdicts) == set(order)


def test_a_tier_judges_the_first_items_and_never_passes() -> None:
    both = suite(300, noise=0)
    smoke = judged(both, tier="smoke")
    assert (smoke.verdict, smoke.tier) == ("INCONCLUSIVE", "tier smoke, 100 items of each task")
    assert {task.change.n for task in smoke.tasks} == {100}
    assert "only all items can pass" in smoke.reasons[0]
    # The losses of this candidate lie in the first items: the tier sees all of them.
    assert judged(suite(300, {"general1": 60}), tier="smoke").verdict == "REGRESSION"
    hidden = Sides(both.base, [r for r in both.candidate if r.item_id != "i17"])
    with pytest.raises(IntegrityError, match="missing from the candidate"):
        judged(hidden, tier="smoke")


def test_what_a_tier_says_it_detects_it_detects() -> None:
    """The promised drop is shown in about 80 % of draws of that many items."""
    items, tasks, margin, churn = n_items("smoke", 300), 9, 0.05, 0.10
    drop = detectable_drop(items, margin, tasks=tasks, discordance=churn)
    assert drop is not None
    rng = np.random.default_rng(0)
    lost, gained = churn / 2 + drop, churn / 2
    shown = 0
    for _ in range(300):
        n10, n01, _ = rng.multinomial(items, [lost, gained, 1 - lost - gained])
        outcome = [items - n10 - n01, n10, n01]
        base, tuned = np.repeat([1.0, 1, 0], outcome), np.repeat([1.0, 0, 1], outcome)
        shown += estimate(base, tuned, confidence=0.90, margin=margin).p_within <= 0.05 / tasks
    assert 0.70 < shown / 300 < 0.92
    assert "never passes" in promise("smoke", tasks, margin, 0.05)
    assert "24 points" in promise("smoke", tasks, margin, 0.05)


def test_a_run_folder_is_gated_cell_by_cell_from_its_records(tmp_path: Path) -> None:
    good, bad = suite(200), suite(200, {"temporal1": 60})
    root = run_folder(tmp_path, {0: good, 1: bad, 2: good}, good)
    results = gate_run(root)
    assert [r.verdict for r in results] == ["PASS", "REGRESSION", "PASS"]
    assert results[1].label == "sft on countdown, seed 1"
    assert results[0].gain is not None
    assert [r.verdict for r in gate_run(root, cells=["sft-2"])] == ["PASS"]
    assert set(results[0].digests) == {"base_records", "candidate_records", "policy"}
    with pytest.raises(UsageError, match="no cell 'cell9'"):
        gate_run(root, cells=["cell9"])
    with pytest.raises(UsageError, match="not a run folder"):
        gate_run(tmp_path / "elsewhere")
    tiered = gate_run(root, tier="smoke")
    assert [r.verdict for r in tiered] == ["INCONCLUSIVE", "REGRESSION", "INCONCLUSIVE"]


def test_a_broken_cell_is_an_error_and_the_others_are_judged(tmp_path: Path) -> None:
    good = suite(200)
    root = run_folder(tmp_path, {0: good, 1: good, 2: good}, good)
    records = RunFolder(root).cell("sft-1").point(point_name(0, 1.0)).records
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[1:]))
    RunFolder(root).cell("sft-2").point(point_name(0, 1.0)).records.unlink()
    results = gate_run(root, Policy(alpha=0.01))
    assert [r.verdict for r in results] == ["PASS", "ERROR", "ERROR"]
    assert {r.alpha for r in results} == {0.01}  # of the broken ones, too
    assert "1 missing from the candidate (first: 'i0')" in results[1].reasons[0]
    assert exit_code(results) == 4
    RunFolder(root).base_point("fruitfly").records.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        gate_run(root)


def test_the_verdict_comes_from_records_not_from_the_scorecard(tmp_path: Path) -> None:
    good, bad = suite(200), suite(200, {"temporal1": 60})
    root = run_folder(tmp_path, {0: bad}, good)
    spotless = run_folder(tmp_path / "other", {0: good}, good)
    forged = RunFolder(spotless).cell("sft-0").scorecard.read_bytes()
    RunFolder(root).cell("sft-0").scorecard.write_bytes(forged)
    assert [r.verdict for r in gate_run(root)] == ["REGRESSION"]


def test_a_run_of_the_first_items_cannot_pass(tmp_path: Path) -> None:
    good = suite(200)
    root = run_folder(tmp_path, {0: good}, good)
    path = RunFolder(root).plan
    path.write_text(path.read_text().replace('"items_per_task": null', '"items_per_task": 200'))
    (result,) = gate_run(root)
    assert (result.verdict, result.tier) == ("INCONCLUSIVE", "first 200 items of each task")


def test_files_and_lists_are_gated_alike(tmp_path: Path) -> None:
    both = suite(100, {"general0": 20})
    write_jsonl(tmp_path / "a.jsonl", both.base)
    write_jsonl(tmp_path / "b.jsonl", both.candidate)
    found = gate_records(tmp_path / "a.jsonl", tmp_path / "b.jsonl", POLICY)
    assert set(found.digests) == {"base_records", "candidate_records", "policy"}
    assert found.model_copy(update={"digests": judged(both).digests}) == judged(both)


def test_items_in_the_training_data_do_not_decide(tmp_path: Path) -> None:
    """The candidate lost what it was trained on and nothing else: those items are left out."""
    base = suite(200)
    root = run_folder(tmp_path, {0: suite(200, {"general0": 40})}, base)
    assert [r.verdict for r in gate_run(root)] == ["REGRESSION"]
    path = RunFolder(root).plan
    plan = read_json(path, Plan)
    given_away = {"countdown": {"general0": [f"i{number}" for number in range(40)]}}
    inputs = plan.inputs.model_copy(update={"overlap": given_away})
    write_json(path, plan.model_copy(update={"inputs": inputs}))
    (result,) = gate_run(root)
    by_name = {task.change.task: task.change for task in result.tasks}
    assert (by_name["general0"].n, by_name["general0"].excluded) == (160, 40)
    assert result.verdict == "PASS"
    (arms,) = load(root).values()
    assert len(arms.kept["general"].tasks) == 360
