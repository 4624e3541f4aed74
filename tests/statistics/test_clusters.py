"""CR2 and Bell-McCaffrey against their definitions, and the planned design effect."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retainbench.harness.statistics.clusters import Design, clustered_mean

sizes = st.lists(st.integers(1, 9), min_size=2, max_size=12)


def by_definition(codes: np.ndarray, icc: float) -> tuple[np.ndarray, float]:
    """The covariance of the scaled cluster residuals from n x n matrices, and its degrees."""
    n, groups = len(codes), int(codes.max()) + 1
    inside = codes[:, None] == codes[None]
    omega = np.where(inside, icc, 0.0) + (1 - icc) * np.eye(n)
    away = np.eye(n) - 1 / n  # residual maker of a mean
    member = (codes[None] == np.arange(groups)[:, None]).astype(float)
    scale = 1 / np.sqrt(1 - member.sum(axis=1) / n)
    m = scale[:, None] * (member @ away @ omega @ away @ member.T) * scale
    return m, float(np.trace(m) ** 2 / np.sum(m * m))


@settings(deadline=None, max_examples=40)
@given(sizes, st.floats(0, 0.9))
def test_degrees_equal_the_matrix_formula(groups: list[int], icc: float) -> None:
    codes = np.repeat(np.arange(len(groups)), groups)
    _, degrees = by_definition(codes, icc)
    assert Design(codes, icc).degrees == pytest.approx(max(1.0, degrees), rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(sizes)
def test_cr2_is_unbiased_for_independent_items(groups: list[int]) -> None:
    codes = np.repeat(np.arange(len(groups)), groups)
    m, _ = by_definition(codes, 0.0)
    # E[sum of squared scaled residuals] = tr M; the variance of a sum of n unit items is n.
    assert np.trace(m) == pytest.approx(len(codes), rel=1e-9)


def test_equal_clusters_have_the_usual_correction() -> None:
    d = np.array([1.0, 1, 0, 0, -1, 0, 1, 0])
    found = clustered_mean(d, [0, 0, 1, 1, 2, 2, 3, 3])
    assert found.standard_error == pytest.approx(0.322749, abs=1e-6)
    assert Design([0, 0, 1, 1, 2, 2, 3, 3], 0.3).degrees == pytest.approx(3)


def test_the_planned_effect_needs_no_data() -> None:
    design = Design(np.repeat(np.arange(20), 5), 0.2)
    assert (design.effect, design.effective_items) == pytest.approx((1.8, 100 / 1.8))
    assert Design(np.arange(100), 0.2).effect == 1.0
    with pytest.raises(ValueError, match="planning ICC"):
        Design([0, 1], 1.0)
