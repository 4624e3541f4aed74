"""The incomplete beta function, Student's t and the bootstrap against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from retainbench.harness.statistics import beta
from retainbench.harness.statistics.graded import bca_interval, t_quantile, t_tail

SIZES = [(-0.5, 1.0), (0.0, 3.0), (2.0, 6.0), (-0.3, 5.0)]
"""Powers of ten that a and b are drawn between: one item to a million, and few with many."""


def drawn(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return 10 ** generator.uniform(low, high, 300), 10 ** generator.uniform(low, high, 300)


@pytest.mark.parametrize(("low", "high"), SIZES)
@pytest.mark.parametrize("probability", [0.01, 0.5, 0.8, 0.9, 0.95, 0.975, 0.999])
def test_quantiles_are_scipys(low: float, high: float, probability: float) -> None:
    a, b = drawn(low, high)
    expected = special.betaincinv(a, b, probability)
    assert np.max(np.abs(beta.quantile(a, b, probability) - expected)) < 1e-12


@pytest.mark.parametrize(("low", "high"), SIZES)
def test_tails_are_scipys(low: float, high: float) -> None:
    a, b = drawn(low, high)
    mean = a / (a + b)
    spread = np.sqrt(mean * (1 - mean) / (a + b + 1))
    for distance in (-4, -1, 0, 0.5, 2, 5):
        x = np.clip(mean + distance * spread, 1e-9, 1 - 1e-9)
        found = beta.tails(a, b, x, 1 - x)
        usual = (special.betainc(a, b, x) > 1e-12) & (special.betaincc(a, b, x) > 1e-12)
        for ours, theirs in zip(found, (special.betainc, special.betaincc), strict=True):
            assert ours[usual] == pytest.approx(theirs(a, b, x)[usual], rel=1e-10, abs=1e-14)


def test_ends() -> None:
    assert beta.tails(2.0, 3.0, np.array([0.0, 1.0]), np.array([1.0, 0.0])).lower.tolist() == [0, 1]


@pytest.mark.parametrize(
    "degrees", [1.0, 1.3, 2.0, 2.5, 4.7, 29.3, 100.0, 1234.5, 9999.0, 1e4, 1e6]
)
def test_students_t_is_scipys(degrees: float) -> None:
    for probability in (0.001, 0.05, 0.2, 0.5, 0.5001, 0.8, 0.9, 0.95, 0.975, 0.99, 0.9999):
        expected = special.stdtrit(degrees, probability)
        assert t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    for statistic in (-5.0, -1.0, 0.0, 0.1, 1.0, 3.3, 8.0, 30.0):
        expected = special.stdtr(degrees, -statistic)
        assert t_tail(statistic, degrees) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("values", [[-0.4, -0.1, 0, 0, 0.05, 0.1, 0.75], [0, 0, 0, 1], [0.5, 0.25]])
def test_the_bootstrap_is_scipys(values: list[float]) -> None:
    differences = np.array(values, float)
    expected = stats.bootstrap(
        (differences,),
        np.mean,
        method="BCa",
        confidence_level=0.9,
        n_resamples=9_999,
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert bca_interval(differences, 0.9, 7, 9_999) == pytest.approx(tuple(expected), rel=1e-12)
