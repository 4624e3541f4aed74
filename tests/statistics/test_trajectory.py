"""Trajectories against STATISTICS 10."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retainbench.harness.statistics.methods.trajectory import trajectory


def test_trajectory_summary() -> None:
    found = trajectory([0, 1, 2, 4], [0, 0.06, 0.02, 0.04])
    assert found == pytest.approx((0.06, 1.0, 0.04, 0.03 + 0.04 + 0.06, 0.02))
    with pytest.raises(ValueError, match="increase"):
        trajectory([0, 1, 1], [0, 0, 0])
    with pytest.raises(ValueError, match="not finite"):
        trajectory([0, 1], [0, float("nan")])


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_worst_is_never_better_than_the_end(drops: list[float]) -> None:
    found = trajectory(np.arange(len(drops)), drops)
    assert found.worst >= found.end
    assert found.recovery == pytest.approx(found.worst - found.end)
