"""How many items and seeds a policy needs, measured on pilots and runs with known variance."""

from __future__ import annotations

from pathlib import Path

import pytest
from gate_fixtures import POLICY, run_folder, suite

from retainbench.harness.power import power_plan, power_run


def test_power_measures_the_variance_on_a_pilot() -> None:
    """A base of 80 % against an unrelated model has variance .32; its own A/A run has .08."""
    both = suite(100)
    alone = power_plan(both.base, POLICY).tasks[0]
    measured = power_plan(both.base, POLICY, [both.candidate]).tasks[0]
    assert alone.variance == pytest.approx(2 * 0.8 * 0.2)
    assert measured.variance == pytest.approx(0.08)
    # 6.182557 q / m^2 (STATISTICS 7), and 1.82 times that for six tasks at once.
    assert measured.items_alone == 198
    assert 1.7 * 198 < measured.items_joint < 2.0 * 198
    still = power_plan(both.base, POLICY, [both.base]).tasks[0]
    assert still.variance == 0.5 / 100
    assert still.power_to_pass < 1


def test_power_of_a_run_says_how_many_seeds(tmp_path: Path) -> None:
    good = suite(100, noise=1)
    worse = suite(100, {"general0": 12}, noise=1)
    found = power_run(run_folder(tmp_path, {0: good, 1: worse, 2: good}, good))
    axes = {one.axis: one for one in found.seeds}
    assert set(axes) == {"general", "numeric", "temporal"}
    assert axes["numeric"].seeds_needed is not None
    general = axes["general"].seeds_needed
    assert general is None or general > axes["numeric"].seeds_needed
    assert 0 < found.joint_power < 1
