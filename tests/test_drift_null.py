"""The drift of evolution strategies without information: published runs and a random walk."""

from __future__ import annotations

import numpy as np
import pytest

from retainbench.harness.drift_null import EsStep, anchored_es_null, es_null


def test_null_covers_idle_steps_repeated_seeds_and_antithetic_pairs() -> None:
    plain = EsStep(0.1, 4, [-1.341641, -0.447214, 0.447214, 1.341641])
    assert es_null(100, [plain]) == pytest.approx(0.1 * (100 / 4) ** 0.5, rel=1e-6)
    idle = EsStep(0.1, 4, [0, 0, 0, 0])
    assert es_null(100, [plain, idle]) == es_null(100, [plain])
    repeated = EsStep(0.1, 4, [-1.788855, 0, 1.788855])
    assert es_null(100, [repeated]) > es_null(100, [plain])
    pairs = EsStep(0.1, 4, [-2.683282, 0.894428])
    ratio = es_null(100, [pairs]) ** 2 / es_null(100, [plain]) ** 2
    assert ratio == pytest.approx(2, abs=1e-5)


def test_null_of_published_runs_and_of_the_anchor() -> None:
    """METHODS 14's table; the general form ends one pull of the anchor after the closed one."""
    nulls = [anchored_es_null(1_544_000_000, 5e-4, 30, steps, 0) for steps in (50, 100, 200, 500)]
    assert [round(null, 1) for null in nulls] == [25.4, 35.9, 50.7, 80.2]
    closed = anchored_es_null(1000, 5e-4, 30, 500, 10.0)
    general = es_null(1000, [EsStep(5e-4, 30, [30**0.5], kept=0.995)] * 500)
    assert general == pytest.approx(0.995 * closed, rel=1e-12)


def test_null_matches_a_random_walk() -> None:
    """T-ES-5: rewards without information drift by the null; d 1e4, N 30, T 100."""
    generator = np.random.default_rng(5)
    position, schedule = np.zeros(10_000), []
    for _ in range(100):
        rewards = generator.standard_normal(30)
        weights = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        position += 0.01 / 30 * weights @ generator.standard_normal((30, 10_000))
        schedule.append(EsStep(0.01, 30, weights.tolist()))
    assert 0.97 < np.linalg.norm(position) / es_null(10_000, schedule) < 1.03
