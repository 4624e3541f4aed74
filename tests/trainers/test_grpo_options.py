"""GRPO's further options: updates on one rollout, ratios and clips, groups without variance."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import assert_same, differentiate, gradients, log_of, logprobs
from retainbench.harness.contracts.jobs import letters, weights
from retainbench.harness.contracts.method import KilledError
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.records import CheckpointRecord
from retainbench.harness.models import loading
from retainbench.trainers import grpo
from retainbench.trainers._gradient import trl_online
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared import rollout
from retainbench.trainers._shared.contract import Job
from retainbench.trainers._shared.data import Example, item_at
from retainbench.trainers._shared.trajectory import Trajectory

END = "checkpoints/s0-1.0000"
GROUP = {"batch_size": 4, "num_generations": 4, "max_grad_norm": 1e9, "loss": "grpo"}


def first_group(chosen: Job) -> tuple[list[Example], list[float]]:
    """The first rollout of a job, with its advantages."""
    policy = _model.load(chosen)
    sampling = trl_online.rollouts(chosen, policy, Trajectory(chosen, policy))
    item = item_at(chosen.target.train, chosen.seed, 0)
    (ids,) = rollout.prompts(sampling.sampler, [item])
    tokens = sampling.generate([ids] * 4)
    samples = rollout.score(sampling.sampler, [item] * 4, [ids] * 4, tokens)
    rewards = torch.tensor([sample.reward for sample in samples])
    assert rewards.std() > 0
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    return [Example(ids, own) for own in tokens], advantages.tolist()


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_second_update_on_a_rollout_is_the_clipped_formula(
    tiny_base: Path, tmp_path: Path, level: str
) -> None:
    """Ratios to the weights that sampled, by token or (GSPO) exp of their mean log; lower clip .2,
    upper clip .01, which the first update passes."""
    options = GROUP | {"num_iterations": 2, "epsilon_high": 0.01, "learning_rate": 1e-2}
    target = dataclasses.replace(
        letters(), max_new_tokens=120, reward=lambda text, _: float(text[:1] < "P")
    )
    options |= {"importance_sampling_level": level}
    chosen = job(tiny_base, tmp_path, "grpo", steps=2, target=target, options=options)
    rows, advantages = first_group(chosen)
    base = loading.load(tiny_base).model

    def loss(model: Any) -> torch.Tensor:
        total = torch.zeros(())
        for row, advantage in zip(rows, advantages, strict=True):
            difference = logprobs(model, row) - logprobs(base, row).detach()
            if level == "sequence":
                difference = difference.mean().expand_as(difference)
            ratio = difference.exp()
            clipped = ratio.clamp(0.8, 1.01)
            total = total - torch.minimum(ratio * advantage, clipped * advantage).mean() / 4
        return total

    with gradients() as seen:
        grpo.train(chosen)
    for step, start in enumerate((tiny_base, tmp_path / "checkpoints/s0-0.5000")):
        value, wanted = differentiate(start, loss)
        assert_same(seen[step], wanted)
        assert log_of(chosen)[step]["loss"] == pytest.approx(value, abs=1e-5)
    assert log_of(chosen)[1]["clip_ratio/high_mean"] > 0


def test_a_rollout_serves_its_updates_and_is_resumed_whole(tiny_base: Path, tmp_path: Path) -> None:
    """Three updates a rollout, killed in the second: the run goes on from the rollout's start."""
    whole = job(tiny_base, tmp_path / "whole", "grpo", steps=5, options={"num_iterations": 3})
    grpo.train(whole)
    lengths = [line["completions/mean_length"] for line in log_of(whole) if "reward" in line]
    once = job(tiny_base, tmp_path / "once", "grpo", steps=2)
    grpo.train(once)
    costs = [read_json(one.out / f"{END}.json", CheckpointRecord).ledger for one in (whole, once)]
    assert lengths
    assert costs[0].samples == 5 * 16
    assert costs[0].generated_tokens < 5 / 2 * costs[1].generated_tokens

    def die(share: float, _metrics: dict[str, float]) -> None:
        if share >= 0.75:
            raise KilledError

    cut = dataclasses.replace(whole, out=tmp_path / "cut")
    with pytest.raises(KilledError):
        grpo.train(dataclasses.replace(cut, progress=die))
    grpo.train(cut)
    assert weights(cut.out / END) == weights(whole.out / END)


def test_groups_without_variance_are_replaced(tiny_base: Path, tmp_path: Path) -> None:
    """Half of the items never earn anything; with attempts every group has an advantage."""
    target = dataclasses.replace(
        letters(),
        max_new_tokens=120,
        reward=lambda text, item: float(item["answer"] < "e" and text[:1] < "P"),
    )
    shares, costs = {}, {}
    for attempts in (0, 8):
        options = {"dynamic_sampling": attempts, "batch_size": 32, "num_generations": 8}
        chosen = job(tiny_base, tmp_path / str(attempts), "grpo", target=target, options=options)
        grpo.train(chosen)
        shares[attempts] = [line["frac_reward_zero_std"] for line in log_of(chosen)]
        costs[attempts] = read_json(chosen.out / f"{END}.json", CheckpointRecord).ledger
    assert max(shares[0]) > 0
    assert shares[8] == [0.0] * 4
    assert costs[8].samples == costs[0].samples == 4 * 32
    assert costs[8].generated_tokens > costs[0].generated_tokens

    def die(share: float, _metrics: dict[str, float]) -> None:
        if share >= 0.75:
            raise KilledError

    cut = dataclasses.replace(chosen, out=tmp_path / "cut")
    with pytest.raises(KilledError):
        grpo.train(dataclasses.replace(cut, progress=die))
    grpo.train(cut)
    assert weights(cut.out / END) == weights(chosen.out / END)


def test_cut_off_answers_can_be_left_out_of_the_loss(tiny_base: Path, tmp_path: Path) -> None:
    """Nothing ends within one token but what is cut off: masked, there is no gradient at all."""
    target = dataclasses.replace(
        letters(), max_new_tokens=2, reward=lambda text, _: float(text[:1] < "P")
    )
    seen = {}
    for masked in (False, True):
        options = GROUP | {"mask_truncated": masked}
        out = tmp_path / str(masked)
        chosen = job(tiny_base, out, "grpo", steps=8, target=target, options=options)
        with gradients() as steps:
            grpo.train(chosen)
        seen[masked] = [sum(float(v.abs().sum()) for v in step.values()) for step in steps]
    assert sum(seen[True]) < sum(seen[False])


def test_dynamic_sampling_is_not_for_vllm() -> None:
    with pytest.raises(ValueError, match="dynamic_sampling needs"):
        grpo.Options(dynamic_sampling=2, rollout="vllm")
