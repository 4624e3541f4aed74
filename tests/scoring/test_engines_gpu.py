"""Engines on a GPU: what vllm and lm-eval answer there, next to our own engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retainbench.harness.models import bases
from retainbench.harness.models.placement import Placement
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.engines.opening import OURS, EngineChoice, chosen

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def likelihoods(engine: EngineChoice = OURS) -> np.ndarray:
    base, cuda = bases.resolve("fruitfly"), Placement("cuda")
    [records] = evaluate.of_model(base, ["capitals"], 30, placement=cuda, engine=engine)
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
