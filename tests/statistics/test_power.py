"""Planning numbers and seeds x items against STATISTICS 5-7."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retainbench.harness.statistics.estimate import Estimate, estimate
from retainbench.harness.statistics.methods.seeds import two_way
from retainbench.harness.statistics.paired import PairedCounts, mcnemar, tango_interval
from retainbench.harness.statistics.power import (
    detectable_drop,
    growth_for_joint_power,
    items_needed,
    minimum_detectable_effect,
    power_per_task,
    power_to_pass,
    seeds_needed,
)

SIZES = (100, 250, 500, 1000, 2500, 5000, 10000)
# STATISTICS 7: discordance -> items at 5, 3, 2, 1 pp; at 2 pp with true D .5 pp; MDE in pp.
PLANS = {
    0.05: ((124, 344, 773, 3092), 1374, (5.56, 3.52, 2.49, 1.76, 1.11, 0.79, 0.56)),
    0.10: ((248, 687, 1546, 6183), 2748, (7.86, 4.97, 3.52, 2.49, 1.57, 1.11, 0.79)),
    0.20: ((495, 1374, 3092, 12366), 5495, (11.12, 7.03, 4.97, 3.52, 2.22, 1.57, 1.11)),
}
TABLE = np.array([[1, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 1]])


@pytest.mark.parametrize("q", PLANS)
def test_plans_are_those_of_the_normal_approximation_plus_one_item_in_n(q: float) -> None:
    """n (m - D - 1/n)^2 has the same solution as STATISTICS 7 without its 1/n, at many flips."""
    items, with_drop, effects = PLANS[q]
    for margin, plain in zip((0.03, 0.02, 0.01), items[1:], strict=True):
        found = items_needed(margin, q)
        assert found is not None
        if found * q > 40:
            # 2 / m items more; up to rounding and a term of second order.
            assert found == pytest.approx(plain + 2 / margin, abs=3)
    shifted = items_needed(0.02, q, true_drop=0.005)
    assert shifted is not None
    assert with_drop < shifted < with_drop + 2 / 0.015 + 4
    for n, effect in zip(SIZES, effects, strict=True):
        if n * q > 40:
            found_effect = 100 * (minimum_detectable_effect(n, q) - 1 / n)
            assert found_effect == pytest.approx(effect, abs=0.005)  # printed with two decimals


def shares(
    n: int, lost: float, gained: float, draws: int, seed: int, margin: float
) -> dict[Estimate, float]:
    """Estimates of n items, 60 % of them kept right, with how often each comes up."""
    rng = np.random.default_rng(seed)
    kinds = rng.multinomial(n, [0.6, lost, gained, 0.4 - lost - gained], size=draws)
    counts, times = np.unique(kinds[:, 1:3], axis=0, return_counts=True)
    found: dict[Estimate, float] = {}
    for (n10, n01), often in zip(counts.tolist(), times.tolist(), strict=True):
        kept = round(0.6 * n)
        outcome = [kept, n10, n01, n - kept - n10 - n01]
        base, tuned = np.repeat([1.0, 1, 0, 0], outcome), np.repeat([1.0, 0, 1, 0], outcome)
        found[estimate(base, tuned, confidence=0.90, margin=margin)] = often / draws
    return found


def passes(n: int, margin: float, q: float, draws: int, seed: int) -> float:
    """How often n items pass if q of them flip, as many lost as gained."""
    found = shares(n, q / 2, q / 2, draws, seed, margin)
    return sum(often for one, often in found.items() if one.bounds and one.bounds.high <= margin)


@pytest.mark.parametrize(
    ("margin", "q", "n"),
    [(0.02, 0.01, 155), (0.05, 0.05, 124), (0.05, 0.01, 60), (0.05, 0.10, 300), (0.05, 0.20, 400)],
)
def test_stated_power_is_the_power_that_verdicts_have(margin: float, q: float, n: int) -> None:
    stated = power_to_pass(n, margin, q)
    # Three Monte Carlo standard errors of 2,000 draws at .5 are .034; the planning leaves out
    # Newcombe, whose limit is rarely the highest.
    assert passes(n, margin, q, 2000, seed=3) == pytest.approx(stated, abs=0.034)


@pytest.mark.parametrize(("margin", "q"), [(0.05, 0.05), (0.05, 0.10), (0.05, 0.20), (0.02, 0.02)])
def test_items_planned_for_power_8_have_it(margin: float, q: float) -> None:
    needed = items_needed(margin, q)
    assert needed is not None
    assert 0.77 <= power_to_pass(needed, margin, q) <= 0.83
    drawn = passes(needed, margin, q, 4000, seed=4)
    assert 0.77 <= drawn <= 0.83  # Monte Carlo standard error of 4,000 draws: .006


def test_a_detectable_drop_is_detected() -> None:
    """One task of nine, Holm's first step: as often as promised, or more."""
    n, q = 200, 0.10
    drop = detectable_drop(n, 0.05, tasks=9, discordance=q)
    assert drop is not None
    found = shares(n, q / 2 + drop, q / 2, 1000, 5, 0.05)
    assert 0.77 <= sum(often for one, often in found.items() if one.p_within <= 0.05 / 9) <= 0.9


def test_planning_never_promises_a_pass_without_enough_items() -> None:
    assert items_needed(0.02, 0.0) == 149
    needed = items_needed(0.02, 0.0)
    assert needed is not None
    assert tango_interval(PairedCounts(needed, 0, 0, 0), 0.90).high <= 0.02
    assert minimum_detectable_effect(100, 0.0) == pytest.approx(1 - 0.05 ** (1 / 100), abs=1e-9)


def test_a_drop_at_the_margin_is_never_decided() -> None:
    assert items_needed(0.02, 0.1, true_drop=0.02) is None
    assert items_needed(0.02, 0.1, true_drop=0.05) == pytest.approx(670 + 2 / 0.03, abs=4)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 0.2), st.floats(0.01, 0.5))
def test_planned_items_reach_the_power(margin: float, q: float) -> None:
    needed = items_needed(margin, q)
    assert needed is not None
    assert power_to_pass(needed, margin, q) >= 0.8 - 0.01  # enumeration meets approximation at 40


def test_joint_power() -> None:
    assert [power_per_task(0.8, k) for k in (3, 9, 12)] == pytest.approx(
        [0.9283, 0.9755, 0.9816], abs=5e-5
    )
    assert [growth_for_joint_power(0.8, k) for k in (3, 9, 12)] == pytest.approx(
        [1.56, 2.11, 2.25], abs=5e-3
    )


def test_pooling_repeats_invents_evidence() -> None:
    assert mcnemar(4, 0).drop == pytest.approx(1 / 16)
    assert mcnemar(12, 0).drop == pytest.approx(0.000244141, abs=1e-9)


def test_seeds_needed() -> None:
    found = seeds_needed(0.02, 0.0001, 0.02, 0.05, items=2000)
    assert found is not None
    assert seeds_needed(0.02, 0.0004, 0.02, 0.05, items=2000) > found  # type: ignore[operator]
    assert seeds_needed(0.02, 0.0, 0.2, 0.05, items=500) is None


def test_two_way_example() -> None:
    found = two_way(TABLE)
    squares = (found.ms_seed, found.ms_item, found.ms_error)
    assert found.mean == 0.5
    assert squares == pytest.approx((0.25, 0.555556, 0.138889), abs=1e-6)
    assert found.variance == pytest.approx(0.0555556, abs=1e-7)
    pooled = float(np.var(TABLE, ddof=1)) / TABLE.size
    assert pooled == pytest.approx(0.0227273, abs=1e-7)
    assert found.variance > pooled


def test_negative_components_clip_to_zero() -> None:
    checkered = [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    found = two_way(checkered)
    assert (found.seed_variance, found.item_variance) == (0.0, 0.0)
    assert found.variance == pytest.approx(found.ms_error / 16)


@pytest.mark.parametrize("table", [[[1, 0, 1]], [[1], [0]], [[1, np.nan], [0, 1]]])
def test_two_way_refuses_what_it_cannot_estimate(table: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="2 seeds x 2 items"):
        two_way(table)
