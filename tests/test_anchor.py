"""Anchors: decay towards the base after a step, and the KL penalty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trainer_cases import job, weights

from retainbench.harness.suite import Anchor
from retainbench.trainers import _anchor, _discovery

END = "checkpoints/s0-1.0000"
OURS = ["es", "eggroll", "rft", "ppo"]


def test_full_decay_returns_to_the_anchor_exactly() -> None:
    anchor = {"a": torch.randn(50)}
    parameters = {"a": torch.randn(50)}
    _anchor.decay_towards(parameters, anchor, "l2", 1.0)
    assert torch.equal(parameters["a"], anchor["a"])


def test_l2_shrinks_the_distance_by_one_factor_a_step() -> None:
    anchor, parameters = {"a": torch.ones(50)}, {"a": torch.ones(50) + torch.randn(50)}
    start = (parameters["a"] - anchor["a"]).norm()
    for _ in range(10):
        _anchor.decay_towards(parameters, anchor, "l2", 0.1)
    assert float((parameters["a"] - anchor["a"]).norm() / start) == pytest.approx(0.9**10, rel=1e-5)


def test_l1_sets_small_coordinates_to_the_anchor_and_moves_others_by_a_constant() -> None:
    anchor = {"a": torch.tensor([1.0, 1.0, 1.0, 1.0])}
    parameters = {"a": torch.tensor([1.05, 0.95, 2.0, 0.0])}
    _anchor.decay_towards(parameters, anchor, "l1", 0.25)
    assert parameters["a"].tolist() == [1.0, 1.0, 1.75, 0.25]


def test_kl_penalty_is_the_exact_kl_of_the_trained_tokens() -> None:
    """p (.5, .3, .2) against q (.4, .4, .2): 0.0252672 nats (METHODS 15)."""
    p = torch.tensor([0.5, 0.3, 0.2]).log()
    q = torch.tensor([0.4, 0.4, 0.2]).log()
    logits = torch.stack([p, p + 3.0, q])[None].requires_grad_()
    reference = torch.stack([q, q - 1.0, p])[None]
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    penalty = _anchor.kl_penalty(logits, reference, mask)
    assert float(penalty.detach()) == pytest.approx(0.0252672, abs=1e-6)
    penalty.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad[0, 2].abs().max()) == 0
    assert float(_anchor.kl_penalty(p[None, None], p[None, None], torch.ones(1, 1))) == 0


@pytest.mark.parametrize("method", OURS)
def test_weights_anchor_at_full_strength_ends_at_the_base(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    rate = job(tiny_base, tmp_path, method).options.learning_rate
    anchor = Anchor(kind="weights", strength=1.0 / rate)
    _discovery.load(method).train(job(tiny_base, tmp_path, method, anchor=anchor))
    assert weights(tmp_path / END) == weights(tiny_base)


@pytest.mark.parametrize("method", ["rft", "ppo"])
def test_kl_anchor_keeps_the_policy_nearer_to_the_base(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    base = load_file(tiny_base / "model.safetensors")
    moved = {}
    for strength in (1e-6, 30.0):
        folder = tmp_path / str(strength)
        anchor = Anchor(kind="kl", strength=strength)
        _discovery.load(method).train(job(tiny_base, folder, method, steps=4, anchor=anchor))
        lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        moved[strength] = lines[-1]["kl"]
        assert all(line["kl"] >= -1e-6 for line in lines)
        after = load_file(folder / END / "model.safetensors")
        assert any(not torch.equal(after[name], base[name]) for name in base)
    assert moved[30.0] < 0.5 * moved[1e-6]
