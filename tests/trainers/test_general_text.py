"""Replay, a KL and EWC on general text: gradients by hand, beside every method that takes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

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
from retainbench.harness.contracts.method import KilledError
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.stages import Anchor, Replay
from retainbench.harness.models import loading
from retainbench.harness.suites import methods
from retainbench.trainers import sft
from retainbench.trainers._gradient import general_text
from retainbench.trainers._shared import anchor as _anchor
from retainbench.trainers._shared.contract import Job
from retainbench.trainers._shared.data import Example, item_at, seed_for

TEXTS = tuple(f"text {letter} of no task" for letter in "abcdefgh")
REPLAY = Replay(source="general", share=0.25)
ON_TEXT = Anchor(kind="kl", strength=0.3, on="general")
READING = [name for name in methods.methods() if "text" in methods.load(name).ANCHORS]


def reading(chosen: Job, **changes: Any) -> Job:
    return dataclasses.replace(chosen, texts={"general": TEXTS}, **changes)


def read_first(chosen: Job, name: str, count: int) -> list[Example]:
    """The texts of the first step, as rows."""
    rows = general_text.encoded(loading.load(chosen.base).tokenizer, TEXTS)
    order = seed_for(chosen.seed, f"{name}/0")
    return [item_at([{"row": row} for row in rows], order, n)["row"] for n in range(count)]


def nll(model: Any, rows: list[Example]) -> torch.Tensor:
    return -torch.cat([logprobs(model, row) for row in rows]).mean()


@pytest.mark.parametrize("parts", [1, 4])
def test_replay_adds_its_share_of_the_gradient(tiny_base: Path, tmp_path: Path, parts: int) -> None:
    """A quarter: 12 rows of the method, 4 of text, (1/4) / (3/4) of the loss, in any parts."""
    options = {"batch_size": 12, "max_grad_norm": 1e9, "accumulation": parts}
    chosen = job(tiny_base, tmp_path, "sft", steps=1, target=words(), options=options)
    chosen = reading(chosen, replay=REPLAY)
    text = read_first(chosen, "replay_nll", 4)
    value, wanted = differentiate(
        tiny_base, lambda model: nll(model, first_batch(chosen)) + nll(model, text) / 3
    )
    with gradients() as seen:
        sft.train(chosen)
    assert_same(seen[0], wanted)
    line = log_of(chosen)[0]
    assert line["loss"] + line["replay_nll"] / 3 == pytest.approx(value, rel=1e-4)


def test_kl_on_text_pulls_to_the_base_there(tiny_base: Path, tmp_path: Path) -> None:
    """The cell's base is another model than the stage's start, so that the first KL is not 0."""
    save_tiny(tmp_path / "start", seed=1)
    options = {"batch_size": 16, "max_grad_norm": 1e9}
    chosen = job(
        tmp_path / "start", tmp_path / "run", "sft", steps=1, target=words(), options=options
    )
    chosen = reading(chosen, reference=tiny_base, anchor=ON_TEXT)
    base, text = loading.load(tiny_base).model, read_first(chosen, "text_kl", 2)
    kl, pull = differentiate(tmp_path / "start", lambda model: divergence(model, base, text))
    _, plain = differentiate(tmp_path / "start", lambda model: nll(model, first_batch(chosen)))
    with gradients() as seen:
        sft.train(chosen)
    assert_same(seen[0], {name: plain[name] + 0.3 * pull[name] for name in plain})
    assert log_of(chosen)[0]["text_kl"] == pytest.approx(kl, rel=1e-4)


@pytest.mark.parametrize("method", READING)
def test_every_gradient_method_takes_both(tiny_base: Path, tmp_path: Path, method: str) -> None:
    """The method's own numbers of the first step stay; what it costs is charged."""
    lines, costs = {}, {}
    for name, changes in (("plain", {}), ("text", {"replay": REPLAY, "anchor": ON_TEXT})):
        chosen = reading(job(tiny_base, tmp_path / name, method, steps=2), **changes)
        methods.load(method).train(chosen)
        lines[name] = log_of(chosen)
        costs[name] = (chosen.out / "checkpoints/s0-1.0000.json").read_text()
    first = lines["text"][0]
    own = {key for key in lines["plain"][0] if key not in ("gradient_norm", "grad_norm", "share")}
    assert {key: first[key] for key in own} == {key: lines["plain"][0][key] for key in own}
    assert first["replay_nll"] > 1
    assert first["text_kl"] == pytest.approx(0, abs=1e-6)
    assert lines["text"][1]["text_kl"] > 0
    assert costs["plain"] != costs["text"]


def test_replay_resumes_to_the_same_bytes(tiny_base: Path, tmp_path: Path) -> None:
    whole = reading(job(tiny_base, tmp_path / "whole", "sft"), replay=REPLAY, anchor=ON_TEXT)
    sft.train(whole)

    def die(share: float, _metrics: dict[str, float]) -> None:
        if share >= 0.75:
            raise KilledError

    cut = dataclasses.replace(whole, out=tmp_path / "cut")
    with pytest.raises(KilledError):
        sft.train(dataclasses.replace(cut, progress=die))
    sft.train(cut)
    end = "checkpoints/s0-1.0000"
    assert weights(cut.out / end) == weights(whole.out / end)


def test_fisher_information_by_hand(tiny_base: Path, tmp_path: Path) -> None:
    """Squared gradients of each text's log-likelihood, summed; their mean over all weights is 1."""
    chosen = reading(job(tiny_base, tmp_path, "sft"))
    loaded = loading.load(tiny_base)
    found = general_text.fisher(chosen, loaded.tokenizer, TEXTS)
    wanted = {n: torch.zeros_like(p) for n, p in loaded.model.named_parameters()}
    for row in general_text.encoded(loaded.tokenizer, TEXTS):
        _, gradient = differentiate(tiny_base, lambda m, row=row: logprobs(m, row).sum())
        for name, value in gradient.items():
            wanted[name] += value.square()
    size = sum(value.numel() for value in wanted.values())
    mean = sum(float(value.sum()) for value in wanted.values()) / size
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name] / mean, rtol=1e-3, atol=1e-6)
    assert sum(float(value.sum()) for value in found.values()) / size == pytest.approx(1, rel=1e-4)


def test_important_weights_are_held(tiny_base: Path, tmp_path: Path) -> None:
    """One step by hand; in training a strong EWC leaves the weights of high importance in place."""
    parameters, origin = {"a": torch.tensor([1.0, 1.0, 1.0])}, {"a": torch.zeros(3)}
    importance = {"a": torch.tensor([0.0, 1.0, 30.0])}
    _anchor.decay_towards(parameters, origin, "l2", 0.1, importance)
    torch.testing.assert_close(parameters["a"], torch.tensor([1.0, 0.9, 0.0]))
    anchor = Anchor(kind="ewc", strength=1e3, on="general")
    chosen = reading(job(tiny_base, tmp_path, "sft"), anchor=anchor)
    sft.train(chosen)
    loaded = loading.load(tiny_base)
    fisher = general_text.fisher(chosen, loaded.tokenizer, TEXTS)
    end = loading.load(chosen.out / "checkpoints/s0-1.0000").model.state_dict()
    held = [(end[n] - p.detach())[fisher[n] > 1.1] for n, p in loaded.model.named_parameters()]
    moved = [(end[n] - p.detach())[fisher[n] < 0.1] for n, p in loaded.model.named_parameters()]
    assert not any(bool(part.any()) for part in held)
    assert any(bool(part.any()) for part in moved)


@pytest.mark.parametrize(
    ("anchor", "message"),
    [
        ({"kind": "ewc", "strength": 1.0}, "ewc needs general text"),
        ({"kind": "weights", "strength": 1.0, "on": "self"}, "reads no text"),
    ],
)
def test_wrong_anchors_are_refused(anchor: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Anchor.model_validate(anchor)
