"""Engines on a GPU: what vllm, lm-eval and AWQ's kernels answer there, next to our own engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures import awq
from retainbench.harness.models import bases
from retainbench.harness.models.checked import Base
from retainbench.harness.models.placement import Placement
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.engines.opening import OURS, EngineChoice, chosen

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

ON_GPU = Placement("cuda")


def likelihoods(
    engine: EngineChoice = OURS,
    *,
    model: Base | None = None,
    placement: Placement = ON_GPU,
) -> np.ndarray:
    base = model or bases.resolve("fruitfly")
    [records] = evaluate.of_model(base, ["capitals"], 30, placement=placement, engine=engine)
    return np.array([record.choice_logprobs for record in records])


def test_vllm_answers_as_transformers() -> None:
    """Two attention kernels in float32, over sums of some tens of nats."""
    pytest.importorskip("vllm")
    arguments = "dtype=float32,gpu_memory_utilization=0.3,enforce_eager=True"
    difference = np.abs(likelihoods(chosen("lm-eval:vllm", arguments)) - likelihoods())
    assert difference.max() < 0.05


def test_lm_eval_computes_on_the_gpu() -> None:
    difference = np.abs(likelihoods(chosen("lm-eval:hf", "dtype=float32")) - likelihoods())
    assert difference.max() < 0.01


def test_awq_weights_are_scored_as_the_floats_that_they_mean(tmp_path: Path) -> None:
    """In float16, with sums of some tens of nats; four bits change them by more."""
    pytest.importorskip("gptqmodel")
    fruitfly = bases.resolve("fruitfly").folder
    awq.save_both(fruitfly, tmp_path / "bits", tmp_path / "floats")
    half = Placement("cuda", dtype="float16")
    bits, floats, plain = (
        likelihoods(model=bases.of_folder(folder), placement=half)
        for folder in (tmp_path / "bits", tmp_path / "floats", fruitfly)
    )
    assert np.abs(bits - floats).max() < 0.25
    assert np.abs(floats - plain).max() > 0.5
