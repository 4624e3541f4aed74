"""The sensitivity page: power at equal size of damage, and the choice of tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from results.sensitivity import noise, page
from results.sensitivity.build import RESULTS
from results.sensitivity.power import (
    Path as Trajectory,
)
from results.sensitivity.power import (
    choose,
    held_out,
    intra_cluster_correlation,
    joint_power,
    power,
    statistics_at,
)
from retainbench.harness.contracts import jobs
from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.schema import Budget, Policy
from retainbench.harness.drift import measure as drift
from retainbench.trainers._shared.contract import TrainingError


def test_a_mechanism_that_never_costs_so_much_has_no_statistics() -> None:
    path = Trajectory(np.array([0.01]), np.array([[0.1]]), np.array([[0.1]]))
    assert statistics_at(path, 0.02) is None


def test_power_of_a_set_is_that_of_its_members_at_their_share_of_alpha() -> None:
    assert joint_power([2.0, 2.0]) == pytest.approx(1 - (1 - power(2.0, 0.025)) ** 2)
    assert joint_power([3.0, -5.0]) < joint_power([3.0])


def test_the_worst_mechanism_chooses() -> None:
    """Task 0 sees one mechanism only, task 1 the other one only, task 2 both a little."""
    found = {"noise": np.array([6.0, 0.0, 1.0]), "sft": np.array([0.0, 6.0, 1.0])}
    chosen = choose(found)
    assert sorted(chosen.order[: chosen.size]) == [0, 1] or chosen.order[0] == 2
    assert chosen.worst[chosen.size - 1] >= 0.8
    blind = held_out({"noise": found["noise"], "sft": found["sft"]})
    assert blind["sft"] < 0.2, "what sees noise alone is blind to sft"


def test_correlation_is_that_of_planted_clusters() -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(2, 2, size=4_000)  # ICC of Beta(a, b) rates is 1 / (a + b + 1)
    lost = rng.random((4_000, 3)) < rates[:, None]
    clusters = np.repeat(np.arange(4_000), 3).tolist()
    assert intra_cluster_correlation(lost.ravel(), clusters) == pytest.approx(0.2, abs=0.03)
    assert intra_cluster_correlation([1.0, 0.0], ["a", "b"]) is None
    assert intra_cluster_correlation([0.0, 0.0], ["a", "a"]) is None


def test_noise_moves_the_weights_by_its_scale_and_half_of_it_by_the_root(
    tiny_base: Path, tmp_path: Path
) -> None:
    """A random walk of independent steps; the same seed gives the same bytes."""
    out = tmp_path / "one"
    noise.train(jobs.job(tiny_base, out, noise.Options(scale=0.2)))
    noise.train(jobs.job(tiny_base, tmp_path / "two", noise.Options(scale=0.2)))
    folder = CellFolder(out).checkpoint(jobs.END)
    moved = drift.measure(tiny_base, folder).overall.relative
    half = drift.measure(tiny_base, CellFolder(out).checkpoint("s0-0.5000")).overall.relative
    assert moved == pytest.approx(0.2, rel=0.05)
    assert half == pytest.approx(0.2 * 0.5**0.5, rel=0.05)
    again = CellFolder(tmp_path / "two").checkpoint(jobs.END)
    assert jobs.weights(again) == jobs.weights(folder)


def test_noise_needs_a_budget_of_steps(tiny_base: Path, tmp_path: Path) -> None:
    budget = Budget(unit="flops", amount=1e9)
    with pytest.raises(TrainingError, match="steps"):
        noise.train(jobs.job(tiny_base, tmp_path, noise.Options(), budget=budget))


def test_the_published_page_follows_from_its_tables() -> None:
    assert page.page(page.published(RESULTS)) == (RESULTS / "README.md").read_text("utf-8")


def test_the_margins_of_the_policy_are_the_calibrated_ones() -> None:
    tables = page.published(RESULTS)
    assert Policy().erosion_margin == page.margin(tables, "erosion")
    assert Policy().perplexity_margin == page.margin(tables, "nats")
