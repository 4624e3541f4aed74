"""The simulations, with few draws: rates where theory puts them, and the page that is written."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.statistics import build as simulate
from results.statistics.respondents import SCENARIOS, expected_flips, known_forgetting
from results.statistics.simulation import (
    coverage_binary,
    coverage_clustered,
    coverage_graded,
    coverage_seeds,
    pair_model,
    verdict_errors,
)
from retainbench.harness.statistics.paired import newcombe_bounds

# STATISTICS 8: p_b, p_a, k, g -> raw n10/n, c, F unclipped, true.
EXPECTED = {
    (0.6, 0.6, 4, 0.0): (0.0750, 0.0300, 0.0450, 0.0),
    (0.6, 0.6, 4, 0.8): (0.0150, 0.0300, -0.0150, 0.0),
    (0.6, 0.55, 4, 0.0): (0.1125, 0.03375, 0.07875, 0.05),
    (0.6, 0.55, 4, 0.8): (0.0525, 0.03375, 0.01875, 0.05),
    (0.6, 0.5, 4, 0.0): (0.1500, 0.0375, 0.1125, 0.10),
    (0.8, 0.8, 2, 0.0): (0.0500, 0.0100, 0.0400, 0.0),
}
RESULTS = Path(__file__).resolve().parents[2] / "results" / "statistics"


def test_tango_covers_where_the_sample_is_large() -> None:
    rows = [r for r in coverage_binary(400, seed=2) if r["method"] == "tango" and r["n"] == 1000]
    mean = sum(float(r["coverage"]) for r in rows) / len(rows)
    # 24 cells x 400 draws: standard error .0022 around a coverage between .945 and .955.
    assert mean == pytest.approx(0.95, abs=0.012)


def test_false_verdicts_stay_at_the_nominal_rate() -> None:
    rows = verdict_errors(400, seed=2, sizes=(200, 1000))
    passed = [float(r["pass"]) for r in rows if r["pass_is_error"]]
    alarmed = [float(r["regression"]) for r in rows if r["regression_is_error"]]
    for rates in (passed, alarmed):
        assert sum(rates) / len(rates) < 0.05
        assert max(rates) < 0.05 + 4 * (0.05 * 0.95 / 400) ** 0.5  # the largest of about 60 cells


def test_newcombe_alone_would_pass_too_often() -> None:
    model = pair_model(0.6, 0.04, 0.03)
    assert model is not None
    n11, n10, n01, n00 = np.random.default_rng(0).multinomial(100, model, size=4000).T
    passed = newcombe_bounds(n11, n10, n01, n00, 0.90).high <= 0.03
    # STATISTICS 2: .068 from 4,000 draws, standard error .004 on either side.
    assert float(passed.mean()) == pytest.approx(0.068, abs=3 * 2**0.5 * 0.004)


def test_net_and_soft_recover_a_planted_loss_and_adjusted_flips_do_not() -> None:
    for row in known_forgetting(60, seed=2, scenarios=(SCENARIOS[2], SCENARIOS[4])):
        for name in ("net", "soft"):
            assert abs(float(row[f"{name}_bias"])) < 4 * float(row[f"{name}_mc_se"])
        assert abs(float(row["unclipped_bias"])) > 0.025
        assert row["unclipped_mean"] == pytest.approx(row["unclipped_expected"], abs=0.01)
        assert float(row["soft_sd"]) < float(row["net_sd"])


def test_graded_clustered_and_seeded_tables_have_every_cell() -> None:
    assert len(coverage_graded(2, seed=2)) == 18
    clustered = {(r["clusters"], r["method"]): r for r in coverage_clustered(60, seed=2)}
    together, apart = clustered[50, "cluster-t"], clustered[50, "t, clusters ignored"]
    assert float(together["coverage"]) > float(apart["coverage"])
    seeded = coverage_seeds(3, seed=2)
    assert {r["method"] for r in seeded} == {
        "two-way",
        "over seeds and items",
        "seeds pooled as items",
    }


def test_same_seed_same_rows() -> None:
    assert known_forgetting(3, 7, 50) == known_forgetting(3, 7, 50)
    assert coverage_clustered(5, 7) == coverage_clustered(5, 7)


def test_tables_survive_the_file(tmp_path: Path) -> None:
    rows = simulate.exact_table()
    rows[0] |= {"method": "t, clusters ignored", "is_error": True}
    simulate.write_csv(tmp_path / "one.csv", rows[:1])
    again = simulate.read_rows(tmp_path / "one.csv")[0]
    assert again == {k: pytest.approx(v) if type(v) is float else v for k, v in rows[0].items()}


def test_published_exact_table_is_what_the_code_gives(tmp_path: Path) -> None:
    simulate.write_csv(tmp_path / "again.csv", simulate.exact_table())
    published = RESULTS / "false_pass_exact.csv"
    assert (tmp_path / "again.csv").read_text("utf-8") == published.read_text("utf-8")


def test_published_page_is_made_from_the_published_tables() -> None:
    page = (RESULTS / "README.md").read_text("utf-8")
    draws, seed = re.search(r"--draws (\d+) --seed (\d+)", page).groups()  # type: ignore[union-attr]
    assert page == simulate.readme(simulate.published(RESULTS), int(draws), int(seed))


def test_published_rates_are_what_was_asked_for() -> None:
    found = simulate.published(RESULTS)
    deciding = [r for r in found["coverage_binary"] if r["method"] == "tango"]
    assert min(float(r["coverage"]) for r in deciding) > 0.93
    assert all(r["within_93_97"] == "inside" for r in deciding if int(r["n"]) >= 200)
    false_passes = [float(r["pass"]) for r in found["verdict_errors"] if r["pass_is_error"]]
    assert max(false_passes) < 0.055  # 5% + 3 Monte Carlo standard errors of 20,000 draws
    certain = [r for r in found["known_forgetting"] if float(r["gold_lead_nats"]) > 10]
    for row in certain:
        for name in ("net", "soft"):
            assert abs(float(row[f"{name}_bias"])) < 3 * float(row[f"{name}_mc_se"])


@pytest.mark.parametrize("model", EXPECTED)
def test_expected_flips(model: tuple[float, float, int, float]) -> None:
    found = expected_flips(*model)
    shown = (found.lost, found.guess_allowance, found.adjusted_forgetting, found.true_forgetting)
    assert shown == pytest.approx(EXPECTED[model], abs=1e-6)


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(2, 8))
def test_residual_of_the_adjustment_without_any_change(known: float, choices: int) -> None:
    residual = known * (1 - known) * (choices - 1) / choices**2
    found = expected_flips(known, known, choices, 0.0).adjusted_forgetting
    assert found == pytest.approx(residual, abs=1e-12)
