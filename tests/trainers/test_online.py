"""GRPO and RLOO against their formulas, on the very completions that TRL was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import assert_same, differentiate, gradients, log_of, logprobs
from retainbench.harness.contracts.jobs import letters, weights
from retainbench.harness.contracts.method import KilledError
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.records import CheckpointRecord
from retainbench.harness.core.stages import Anchor
from retainbench.harness.models import bases, loading
from retainbench.harness.suites import methods
from retainbench.harness.tasks.rendering.encoding import encode
from retainbench.trainers._gradient import trl_online
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared import rollout
from retainbench.trainers._shared.contract import Job, TrainingError
from retainbench.trainers._shared.data import Example, item_at
from retainbench.trainers._shared.trajectory import Trajectory

END = "checkpoints/s0-1.0000"
ONE_GROUP = {"batch_size": 4, "num_generations": 4, "max_grad_norm": 1e9}
SCRIPT = (1.0, 0.0, 0.0, 1.0)


class Scripted(NamedTuple):
    """A job whose first group earns SCRIPT."""

    job: Job
    rows: list[Example]


def train(chosen: Job, method: str) -> None:
    methods.load(method).train(chosen)


def scripted(
    base: Path, out: Path, method: str, *, steps: int = 1, anchor: Anchor | None = None, **more: Any
) -> Scripted:
    """Sample the first group as the trainer will, then reward its first and last answer.

    Answers may grow to 120 tokens, so that those two end by themselves, as a reward demands.
    """
    target = dataclasses.replace(letters(), max_new_tokens=120)
    options = ONE_GROUP | more
    plain = job(base, out, method, steps=steps, anchor=anchor, target=target, options=options)
    policy = _model.load(plain)
    prompt = plain.target.prompt(item_at(plain.target.train, plain.seed, 0))
    ids = encode(policy.tokenizer, [prompt])[0]
    sampling = trl_online.rollouts(plain, policy, Trajectory(plain, policy))
    rows = [Example(ids, tokens) for tokens in sampling.generate([ids] * 4)]
    assert all(rollout.ended(sampling.sampler.stops, rows[n].completion) for n in (0, 3))
    texts = policy.tokenizer.batch_decode([r.completion for r in rows], skip_special_tokens=True)
    answers = [text.split("\n", 1)[0] for text in texts]
    assert len(set(answers)) == 4
    good = {a for a, value in zip(answers, SCRIPT, strict=True) if value}
    target = dataclasses.replace(plain.target, reward=lambda text, _item: float(text in good))
    return Scripted(dataclasses.replace(plain, target=target), rows)


def test_prompts_encoded_at_once_are_those_encoded_alone(tiny_base: Path, tmp_path: Path) -> None:
    """In order, repeated ones too; every rollout depends on it."""
    for base in (tiny_base, bases.resolve("fruitfly").folder):
        chosen, tokenizer = job(base, tmp_path, "grpo"), loading.load(base).tokenizer
        texts = [chosen.target.prompt(item) for item in chosen.target.train] * 2 + ["", "a"]
        assert encode(tokenizer, texts) == [tokenizer(text).input_ids for text in texts]
        assert encode(tokenizer, []) == []


def surrogate(
    rows: list[Example], advantages: list[float], divisor: Callable[[int], float]
) -> Callable[[Any], torch.Tensor]:
    """-sum of A_i rho_t / divisor(tokens of the row), rho_t the ratio to the detached policy."""

    def loss(model: Any) -> torch.Tensor:
        total = torch.zeros(())
        for row, advantage in zip(rows, advantages, strict=True):
            logp = logprobs(model, row)
            ratio = (logp - logp.detach()).exp()
            total = total - advantage * ratio.sum() / divisor(len(row.completion))
        return total

    return loss


@pytest.mark.parametrize(
    ("loss", "scale", "size"),
    [
        ("dapo", "group", 0.865876),
        ("grpo", "group", 0.865876),
        ("bnpo", "batch", 0.865876),
        ("dr_grpo", "none", 0.5),
    ],
)
def test_first_step_of_grpo_is_the_formula(
    tiny_base: Path, tmp_path: Path, loss: str, scale: str, size: float
) -> None:
    """T-GRPO-1 and 3: rewards (1, 0, 0, 1) give +-0.865876, Dr.GRPO +-0.5; ratio 1, no clipping."""
    chosen, rows = scripted(tiny_base, tmp_path, "grpo", loss=loss, scale_rewards=scale)
    tokens = sum(len(row.completion) for row in rows)
    divisors: dict[str, Callable[[int], float]] = {
        "dapo": lambda _: tokens,
        "bnpo": lambda _: tokens,
        "grpo": lambda own: 4 * own,
        "dr_grpo": lambda _: 4 * chosen.target.max_new_tokens,
    }
    signs = [size if value else -size for value in SCRIPT]
    value, wanted = differentiate(tiny_base, surrogate(rows, signs, divisors[loss]))
    with gradients() as seen:
        train(chosen, "grpo")
    assert_same(seen[0], wanted)
    line = log_of(chosen)[0]
    assert line["loss"] == pytest.approx(value, abs=1e-6)
    assert line["reward"] == 0.5
    assert line["frac_reward_zero_std"] == 0.0
    assert line["clip_ratio/region_mean"] == 0.0
    assert line["completions/mean_length"] == tokens / 4


def test_first_step_of_rloo_is_the_formula(tiny_base: Path, tmp_path: Path) -> None:
    """T-RLOO-1: A = (2/3, -2/3, -2/3, 2/3), REINFORCE on whole completions."""
    chosen, rows = scripted(tiny_base, tmp_path, "rloo")
    advantages = [2 / 3, -2 / 3, -2 / 3, 2 / 3]
    # T-RLOO-2: leave-one-out is K / (K - 1) times the distance to the mean.
    assert advantages == pytest.approx([4 / 3 * (r - 0.5) for r in SCRIPT])
    _, wanted = differentiate(tiny_base, surrogate(rows, advantages, lambda _: 4.0))
    with gradients() as seen:
        train(chosen, "rloo")
    assert_same(seen[0], wanted)
    line = log_of(chosen)[0]
    assert line["loss"] == pytest.approx(0.0, abs=1e-6)
    assert line["clip_ratio/region_mean"] == 0.0


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_an_answer_that_is_cut_off_earns_nothing(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """Whatever is written has the reward 1, but only what ends within four tokens gets it.

    TRL counts an answer as ended where its last token is padding too, hence the inequality.
    """
    short = dataclasses.replace(letters(), max_new_tokens=4, reward=lambda _response, _item: 1.0)
    train(job(tiny_base, tmp_path, method, target=short, steps=8), method)
    lines = log_of(job(tiny_base, tmp_path, method))
    assert all(line["reward"] <= 1 - line["completions/clipped_ratio"] + 1e-6 for line in lines)
    assert any(line["reward"] > 0 for line in lines)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_equal_rewards_give_no_gradient_and_fail(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """T-GRPO-2."""
    same = dataclasses.replace(letters(), reward=lambda _response, _item: 0.0)
    chosen = job(tiny_base, tmp_path, method, target=same, steps=2)
    with (
        gradients() as seen,
        pytest.raises(TrainingError, match="no two completions of a prompt differed in reward"),
    ):
        train(chosen, method)
    assert len(seen) == 2
    assert all(not value.any() for step in seen for value in step.values())


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_accumulation_leaves_questions_gradient_and_resume_alone(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """Both parts of a step train on one sampling of the questions that are next in order."""
    seen = {}
    for parts in (1, 2):
        chosen = job(
            tiny_base,
            tmp_path / f"{method}{parts}",
            method,
            steps=2,
            options={"accumulation": parts, "max_grad_norm": 1e9},
        )
        with gradients() as seen[parts]:
            train(chosen, method)
    # Until a group differs in reward, gradients are 0 and the weights are those of the start.
    signal = next(n for n, step in enumerate(seen[1]) if any(v.any() for v in step.values()))
    assert_same(seen[2][signal], seen[1][signal])

    def die(_share: float, _metrics: dict[str, float]) -> None:
        raise InterruptedError

    cut = dataclasses.replace(chosen, out=tmp_path / "cut", progress=die)
    with pytest.raises(InterruptedError):
        train(cut, method)
    train(dataclasses.replace(chosen, out=cut.out), method)
    assert weights(cut.out / END) == weights(chosen.out / END)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_accumulation_costs_the_same(tiny_base: Path, tmp_path: Path, method: str) -> None:
    """A division by the parts lost the remainder of every step's tokens."""
    costs = []
    for parts in (1, 16):
        out = tmp_path / str(parts)
        train(job(tiny_base, out, method, steps=1, options={"accumulation": parts}), method)
        costs.append(read_json(out / f"{END}.json", CheckpointRecord).ledger)
    assert costs[0].backward_tokens == costs[1].backward_tokens
    assert costs[0].forward_tokens == costs[1].forward_tokens
    assert costs[0].backward_tokens % 16


@pytest.mark.parametrize("method", ["grpo", "ppo", "rloo"])
def test_anchor_starts_at_zero_and_has_an_effect(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    finals = []
    for name, anchor in (("free", None), ("held", Anchor(kind="kl", strength=1.0))):
        chosen = job(tiny_base, tmp_path / name, method, anchor=anchor, steps=4)
        train(chosen, method)
        finals.append(weights(chosen.out / END))
    kl = [line["kl"] for line in log_of(chosen)]
    assert kl[0] == pytest.approx(0.0, abs=1e-6)
    assert abs(kl[-1]) > 1e-5
    assert finals[0] != finals[1]


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_anchor_is_the_cells_base_not_the_stages_start(
    tiny_base: Path, tmp_path: Path, adaptation: str
) -> None:
    """A later stage starts elsewhere: its first KL is k3 to the base, with either adaptation."""
    save_tiny(tmp_path / "start", seed=1)
    anchor = Anchor(kind="kl", strength=0.1)
    chosen, rows = scripted(tmp_path / "start", tmp_path / "run", "grpo", anchor=anchor)
    kind = chosen.adaptation.model_copy(update={"kind": adaptation})
    chosen = dataclasses.replace(chosen, reference=tiny_base, adaptation=kind)
    train(chosen, "grpo")
    start, base = loading.load(tmp_path / "start").model, loading.load(tiny_base).model
    with torch.no_grad():
        d = torch.cat([logprobs(base, row) - logprobs(start, row) for row in rows])
    k3 = float((d.exp() - d - 1).mean())
    assert k3 > 1e-3
    assert log_of(chosen)[0]["kl"] == pytest.approx(k3, rel=1e-3)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_adapter_is_held_by_its_base_and_leaves_no_copy(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    """TRL's copy of the adapter was the reference: on resume, a copy of the trained adapter."""
    anchor = Anchor(kind="kl", strength=1.0)
    whole = job(tiny_base, tmp_path / "whole", method, adaptation="lora", anchor=anchor)
    train(whole, method)

    def die(share: float, _metrics: dict[str, float]) -> None:
        if share >= 0.75:
            raise KilledError

    cut = dataclasses.replace(whole, out=tmp_path / "cut")
    with pytest.raises(KilledError):
        train(dataclasses.replace(cut, progress=die), method)
    train(cut, method)
    assert weights(cut.out / END) == weights(whole.out / END)
    assert [line["kl"] for line in log_of(cut)] == [line["kl"] for line in log_of(whole)]
    assert [path for path in (whole.out / END).iterdir() if path.is_dir()] == []
