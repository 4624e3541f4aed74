"""Variances over few seeds that borrow from each other: formulas, and how often they mislead."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from retainbench.harness.statistics.methods.moderated import (
    digamma,
    moderate,
    moderated_variances,
    trigamma,
)
from retainbench.harness.statistics.methods.pairwise import pairs
from retainbench.harness.statistics.methods.seeds import ColumnLayout, Component, SeedMean

ITEMS = Component(1e-4, math.inf)


@pytest.mark.parametrize("x", [1e-3, 0.5, 1.0, 2.5, 40.0, 1e5])
def test_gamma_functions_are_those_of_scipy(x: float) -> None:
    assert digamma(x) == pytest.approx(float(special.digamma(x)), rel=1e-11)
    assert trigamma(x) == pytest.approx(float(special.polygamma(1, x)), rel=1e-11)


def test_fit_recovers_the_distribution_of_variances() -> None:
    """True variances from a scaled inverse chi-square with d0 = 6 and s0^2 = 4."""
    rng = np.random.default_rng(0)
    true = 4.0 * 6 / rng.chisquare(6, 20_000)
    found = moderated_variances(true * rng.chisquare(2, 20_000) / 2, 2)
    assert found.degrees == pytest.approx(2 + 6, rel=0.1)
    assert np.mean(found.variances / true) == pytest.approx(1.0, abs=0.05)
    assert np.std(np.log(found.variances / true)) < 0.6  # 1.3 before


def differences(variances: list[float], degrees: float = 2) -> list[SeedMean]:
    return [SeedMean(0.0, Component(variance, degrees), ITEMS) for variance in variances]


def test_no_variance_shrinks_and_equal_answers_stay_equal() -> None:
    before = differences([0.0, 1.0, 2.0, 30.0, 1.5, 0.7])
    after = moderate(before, methods=5)
    assert after[0] == before[0]
    for old, new in zip(before[1:], after[1:], strict=True):
        assert old.seeds
        assert new.seeds
        assert new.seeds.variance >= old.seeds.variance
        assert 2 < new.seeds.degrees <= 10


def test_two_seeds_few_methods_and_unpaired_seeds_are_left_alone() -> None:
    two, one = differences([1.0, 2.0, 3.0], degrees=1), SeedMean(0.0, None, ITEMS)
    assert moderate(two, methods=13) == two
    assert moderate(differences([1.0, 2.0, 3.0]), methods=3) == differences([1.0, 2.0, 3.0])
    assert moderate([one] * 10, methods=5) == [one] * 10
    mixed = [*differences([1.0, 2.0]), *differences([3.0], degrees=3.7)]
    assert moderate(mixed, methods=5) == mixed


def test_methods_are_told_apart_by_three_seeds_and_seldom_by_mistake() -> None:
    """Eight methods in two groups 8 points apart, sd over seeds 1 to 3 points: many of the pairs
    across are found, of which t with two degrees of freedom finds 4 %, and few within."""
    rng = np.random.default_rng(0)
    layout = ColumnLayout(range(200))
    across = within = mistaken = 0
    for _ in range(20):
        spread = 0.02 * np.exp(0.5 * rng.standard_normal(8))
        shares = 0.3 + 0.08 * (np.arange(8) % 2) + spread * rng.standard_normal((3, 8))
        rank = rng.random(200)
        tables = [(rank < shares[:, [m]]).astype(float) for m in range(8)]
        found = pairs(tables, layout, confidence=0.90, margin=0.02, seeds=[[1, 2, 3]] * 8)
        apart = [one for one in found if one.holm_p <= 0.10]
        wrong = [one for one in apart if (one.first - one.second) % 2 == 0]
        across += len(apart) - len(wrong)
        within += bool(wrong)
        mistaken += any(one.value > 0 for one in apart if one.first % 2 < one.second % 2)
    assert across / (20 * 16) > 0.4
    assert within <= 5
    assert not mistaken
