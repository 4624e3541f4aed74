"""Anchors: decay towards the base after a step, and the KL penalty."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import (
    assert_same,
    differentiate,
    divergence,
    first_batch,
    gradients,
    log_of,
    logprobs,
    words,
)
from retainbench.harness.contracts.jobs import weights
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.stages import Anchor
from retainbench.harness.models import loading
from retainbench.harness.suites import methods
from retainbench.trainers._shared import anchor as _anchor
from retainbench.trainers._shared.data import Example

END = "checkpoints/s0-1.0000"
ANCHORED = {
    kind: [name for name in methods.methods() if kind in methods.load(name).ANCHORS]
    for kind in ("weights", "kl")
}


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


def test_kl_of_a_token_is_exact_and_reaches_the_policy_alone() -> None:
    """p (.5, .3, .2) against q (.4, .4, .2): 0.0252672 nats (METHODS 15); logits may be shifted."""
    p = torch.tensor([0.5, 0.3, 0.2]).log()
    q = torch.tensor([0.4, 0.4, 0.2]).log()
    policy = torch.stack([p, p + 3.0, q])[None].requires_grad_()
    reference = torch.stack([q, q - 1.0, q])[None].requires_grad_()
    found = _anchor.kl_per_token(policy, reference)
    torch.testing.assert_close(found, torch.tensor([[0.0252672, 0.0252672, 0.0]]))
    (gradient,) = torch.autograd.grad(found.sum(), [policy], retain_graph=True)
    assert float(gradient[0, :2].abs().min()) > 0
    assert torch.autograd.grad(found.sum(), [reference], allow_unused=True) == (None,)


@pytest.mark.parametrize("method", ANCHORED["weights"])
def test_weights_anchor_at_full_strength_ends_at_the_base(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    rate = job(tiny_base, tmp_path, method).options.learning_rate
    anchor = Anchor(kind="weights", strength=1.0 / rate)
    methods.load(method).train(job(tiny_base, tmp_path, method, anchor=anchor))
    assert weights(tmp_path / END) == weights(tiny_base)


@pytest.mark.parametrize(
    "method", sorted({*ANCHORED["kl"]} - {"eggroll", "es", "orpo", "ppo", "rloo", "simpo"})
)
def test_kl_anchor_keeps_the_policy_nearer_to_the_base(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """PPO and RLOO log a first-order estimate, which may be negative: test_online.py tests both.

    Evolution strategies have the KL of their members in the fitness: test_fitness.py. The gradients
    of ORPO and SimPO with a penalty are tested by their formulas: test_pair_loop.py.
    """
    base = load_file(tiny_base / "model.safetensors")
    moved = {}
    for strength in (1e-6, 30.0):
        folder = tmp_path / str(strength)
        anchor = Anchor(kind="kl", strength=strength)
        methods.load(method).train(job(tiny_base, folder, method, steps=4, anchor=anchor))
        lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        moved[strength] = lines[-1]["kl"]
        assert all(line["kl"] >= -1e-6 for line in lines)
        after = load_file(folder / END / "model.safetensors")
        assert any(not torch.equal(after[name], base[name]) for name in base)
    assert moved[30.0] < 0.5 * moved[1e-6]


def test_every_method_takes_decay_and_most_a_penalty() -> None:
    """SDFT's teacher and KTO's reference are pulls to the start already."""
    assert ANCHORED["weights"] == list(methods.methods())
    assert ANCHORED["kl"] == [m for m in methods.methods() if m not in ("kto", "sdft")]


@pytest.mark.parametrize("method", ["sft", "dft"])
def test_penalised_gradient_is_that_of_loss_and_exact_kl(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """The base is another model than the start, so that the first KL is not 0; in 1 and 4 parts."""
    save_tiny(tmp_path / "start", seed=1)
    base, strength = loading.load(tiny_base).model, 0.3
    for parts in (1, 4):
        chosen = job(
            tmp_path / "start",
            tmp_path / str(parts),
            method,
            steps=1,
            target=words(),
            anchor=Anchor(kind="kl", strength=strength),
            options={"batch_size": 8, "max_grad_norm": 1e9, "accumulation": parts},
        )
        chosen = dataclasses.replace(chosen, reference=tiny_base)
        rows = first_batch(chosen)
        kl, wanted = differentiate(tmp_path / "start", partial(divergence, base=base, rows=rows))
        nll, alone = differentiate(
            tmp_path / "start", partial(supervised, rows=rows, method=method)
        )
        with gradients() as seen:
            methods.load(method).train(chosen)
        assert_same(seen[0], {name: alone[name] + strength * wanted[name] for name in alone})
        (line,) = log_of(chosen)
        assert kl > 1e-3
        assert line["kl"] == pytest.approx(kl, rel=1e-4)
        assert line["loss"] == pytest.approx(nll + strength * kl, rel=1e-4)


def supervised(model: Any, rows: list[Example], method: str) -> torch.Tensor:
    logp = torch.cat([logprobs(model, row) for row in rows])
    return -(logp * (logp.detach().exp() if method == "dft" else 1.0)).mean()
