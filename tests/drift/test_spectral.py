"""Spectra against torch.linalg, and subspace overlap on changes whose place is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.drift import example, moved, write
from retainbench.harness.drift import measure as drift
from retainbench.harness.drift import spectral


def test_spectrum_matches_torch_svd(tmp_path: Path) -> None:
    base = example()
    candidate = moved(base)
    thin = torch.outer(torch.arange(1.0, 49), torch.ones(48)) * 1e-3
    candidate["model.layers.0.self_attn.q_proj.weight"] = (
        base["model.layers.0.self_attn.q_proj.weight"] + thin
    )
    report = drift.measure(
        write(tmp_path / "a", base), write(tmp_path / "b", candidate), spectral=True
    )
    for tensor in report.tensors:
        if len(tensor.shape) != 2:
            assert tensor.spectrum is None
            continue
        change = candidate[tensor.name].double() - base[tensor.name].double()
        values = torch.linalg.svdvals(change)
        energy = torch.cumsum(values**2, 0) / torch.sum(values**2)
        assert tensor.spectrum is not None
        assert tensor.spectrum.norm == pytest.approx(float(values[0]), rel=1e-6)
        stable = float(torch.sum(values**2) / values[0] ** 2)
        assert tensor.spectrum.stable_rank == pytest.approx(stable, rel=1e-6)
        assert tensor.spectrum.numerical_rank == int(
            torch.sum(values > report.rank_tolerance * values[0])
        )
        assert tensor.spectrum.energy_rank == int(torch.sum(energy < 0.9)) + 1


def test_matrices_beyond_the_size_limit_get_the_norm_only(monkeypatch: pytest.MonkeyPatch) -> None:
    change = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    monkeypatch.setattr(spectral, "FULL_SPECTRUM", 16)
    found = spectral.spectrum(change)
    values = np.linalg.svd(change.astype(np.float64), compute_uv=False)
    assert found.norm == pytest.approx(values[0], rel=1e-5)
    assert found.stable_rank == pytest.approx((values**2).sum() / values[0] ** 2, rel=2e-5)
    assert found.numerical_rank is None
    assert found.energy_rank is None


def test_subspace_overlap_separates_aligned_from_random_changes() -> None:
    generator = np.random.default_rng(0)
    left, _, right = np.linalg.svd(generator.standard_normal((80, 120)), full_matrices=False)
    base = (left * 0.8 ** np.arange(80) @ right).astype(np.float32)
    aligned = 0.1 * np.outer(left[:, 0], right[1]).astype(np.float32)
    found = spectral.subspace(base, aligned)
    assert found is not None
    assert found.left == pytest.approx(1, abs=1e-5)
    assert found.right == pytest.approx(1, abs=1e-5)
    noise = 1e-3 * generator.standard_normal(base.shape).astype(np.float32)
    random = spectral.subspace(base, noise)
    assert random is not None
    assert random.rank == 16
    # 16 of 80 directions hold a share with standard deviation below 0.01 for 9600 entries
    assert random.left == pytest.approx(random.left_random, abs=0.03)
    assert random.right == pytest.approx(random.right_random, abs=0.03)
    assert random.mask == pytest.approx(random.mask_random, abs=1e-9)
    assert 0 < random.shift < 0.05
    assert spectral.subspace(base, np.zeros_like(base)) is None


def test_subspace_level_reports_each_matrix(tmp_path: Path) -> None:
    base = example()
    report = drift.measure(
        write(tmp_path / "a", base), write(tmp_path / "b", moved(base)), subspace=True
    )
    assert {t.kind for t in report.tensors if t.subspace} == {"embed", "head", "q", "down"}
