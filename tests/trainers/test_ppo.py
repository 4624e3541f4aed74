"""PPO: hand-computed advantages and clips, padding, a bandit, and the checkpoint without head."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import logprobs
from retainbench.harness.contracts.jobs import letters
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.stages import Anchor
from retainbench.harness.models import loading
from retainbench.trainers import ppo
from retainbench.trainers._gradient import advantage
from retainbench.trainers._shared import model, rollout
from retainbench.trainers._shared.contract import TrainingError
from retainbench.trainers._shared.data import Example
from retainbench.trainers._shared.trajectory import Trajectory

END = "checkpoints/s0-1.0000"


@pytest.mark.parametrize(
    ("gae_lambda", "wanted"),
    [(0.95, [0.45125, 0.475, 0.5]), (0.0, [0.0, 0.0, 0.5]), (1.0, [0.5, 0.5, 0.5])],
)
def test_generalised_advantages(gae_lambda: float, wanted: list[float]) -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0]])
    made = advantage.gae(rewards, torch.full((1, 3), 0.5), torch.ones(1, 3), 1.0, gae_lambda)
    torch.testing.assert_close(made.advantages_BT, torch.tensor([wanted]))
    torch.testing.assert_close(made.returns_BT, torch.tensor([wanted]) + 0.5)


def test_task_reward_stands_on_the_last_token_and_kl_on_all() -> None:
    mask = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    ratios = torch.tensor([[9.0, 0.5, -1.0, 9.0], [9.0, 9.0, 2.0, 0.0]])
    made = advantage.token_rewards(torch.tensor([1.0, 0.1]), ratios, mask, 0.1)
    wanted = torch.tensor([[0.0, -0.05, 1.1, 0.0], [0.0, 0.0, -0.2, 0.1]])
    torch.testing.assert_close(made, wanted)


def test_padding_counts_for_nothing() -> None:
    """Prompt and padding around the completions are filled with rubbish."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    rewards, values, logp, old = torch.randn(4, 2, 3, generator=generator)
    plain, padded = [], []
    for made, left, right in ((plain, 0, 0), (padded, 2, 4)):

        def wide(
            inner: torch.Tensor, rubbish: float, left: int = left, right: int = right
        ) -> torch.Tensor:
            return torch.nn.functional.pad(inner, (left, right), value=rubbish)

        mask_BT = wide(mask, 0.0)
        gained = advantage.gae(wide(rewards, 7.0), wide(values, -3.0), mask_BT, 0.99, 0.95)
        white = advantage.whiten(gained.advantages_BT, mask_BT)
        policy = advantage.policy_loss(wide(logp, 2.0), wide(old, -2.0), white, mask_BT, 0.2, 5)
        value = advantage.value_loss(
            wide(values, 4.0), wide(old, 1.0), gained.returns_BT, mask_BT, 0.2, 5
        )
        inner = white[:, left : left + 3]
        made += [inner * mask, policy.loss, torch.tensor(policy.clipped), value]
        assert float((white * (1 - mask_BT)).abs().max()) == 0
        assert float(white.sum() / mask.sum()) == pytest.approx(0, abs=1e-6)
    for one, other in zip(plain, padded, strict=True):
        torch.testing.assert_close(one, other)


def test_policy_clip_by_hand() -> None:
    """Ratios 2, 0.5, 2, 0.5, 1 with advantages 1, 1, -1, -1, 3 and e = 0.2."""
    ratios = torch.tensor([[2.0, 0.5, 2.0, 0.5, 1.0]])
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0, 3.0]])
    made = advantage.policy_loss(
        ratios.log(), torch.zeros(1, 5), advantages, torch.ones(1, 5), 0.2, 5
    )
    assert float(made.loss) == pytest.approx(-(1.2 + 0.5 - 2.0 - 0.8 + 3.0) / 5)
    assert made.clipped == 2


def test_value_clip_takes_the_larger_error() -> None:
    values, old, returns = torch.tensor([[2.0, 0.1]]), torch.zeros(1, 2), torch.tensor([[2.0, 1.0]])
    loss = advantage.value_loss(values, old, returns, torch.ones(1, 2), 0.2, 2)
    assert float(loss) == pytest.approx(0.5 * (1.8**2 + 0.9**2) / 2)


def test_explained_variance_of_perfect_and_empty_values() -> None:
    returns, mask = torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert advantage.explained_variance(returns, returns, mask) == pytest.approx(1.0)
    assert advantage.explained_variance(torch.zeros(1, 3), returns, mask) == pytest.approx(0.0)


def test_bandit_with_four_arms_converges() -> None:
    """Only arm 2 pays; the same functions as in training, on four logits."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    mask = torch.ones(64, 1)
    for _ in range(60):
        probabilities = logits.detach().softmax(-1)
        arms = torch.multinomial(probabilities, 64, replacement=True, generator=generator)
        old = probabilities.log()[arms][:, None]
        gained = advantage.gae((arms == 2).float()[:, None], torch.zeros(64, 1), mask, 1.0, 0.95)
        advantages = advantage.whiten(gained.advantages_BT, mask)
        for _ in range(2):
            logp = logits.log_softmax(-1)[arms][:, None]
            made = advantage.policy_loss(logp, old, advantages, mask, 0.2, 64)
            optimizer.zero_grad()
            torch.autograd.backward(made.loss)
            optimizer.step()
    assert float(logits.detach().softmax(-1)[2]) > 0.9


def test_first_update_is_on_policy(tiny_base: Path, tmp_path: Path) -> None:
    """One epoch in one part: every ratio is 1, so nothing is clipped and the loss is -mean(A)."""
    options = {"minibatches": 1, "epochs": 1}
    ppo.train(job(tiny_base, tmp_path, "ppo", steps=3, options=options))
    for line in map(json.loads, (tmp_path / "steps.jsonl").read_text().splitlines()):
        assert line["clip_share"] == 0
        assert line["policy_loss"] == pytest.approx(0, abs=1e-6)
    assert line["value_loss"] > 0


def test_checkpoint_has_the_base_tensors_and_no_head(tiny_base: Path, tmp_path: Path) -> None:
    outcome = ppo.train(job(tiny_base, tmp_path, "ppo", steps=2))
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tiny_base, tmp_path / END)
    )
    assert {n: v.shape for n, v in before.items()} == {n: v.shape for n, v in after.items()}
    assert outcome.trainable == sum(value.numel() for value in before.values())


def test_reward_rises_on_an_easy_target(tiny_base: Path, tmp_path: Path) -> None:
    """Stop early: cut-off answers have no reward, so most of a random model's have none."""
    easy = dataclasses.replace(letters(), reward=lambda response, _item: 1 / (1 + len(response)))
    options = {"learning_rate": 0.01}
    ppo.train(job(tiny_base, tmp_path, "ppo", steps=32, target=easy, options=options))
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert lines[0]["reward"] < 0.15
    assert lines[0]["cut_off"] > 0.6
    assert lines[-1]["reward"] > 0.5


def test_a_step_is_one_update(tiny_base: Path, tmp_path: Path) -> None:
    """Two epochs in two parts: a rollout serves four steps, and only its first pays for it."""
    options = {"minibatches": 2, "epochs": 2}
    anchor = Anchor(kind="kl", strength=0.05)
    ppo.train(job(tiny_base, tmp_path, "ppo", steps=6, options=options, anchor=anchor))
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    divergences = [line["kl"] for line in lines]
    assert len(set(divergences[:4])) == 1
    assert divergences[4] == divergences[5] != divergences[0]


def test_anchor_is_the_log_ratio_to_the_cells_base(tiny_base: Path, tmp_path: Path) -> None:
    """A later stage starts elsewhere: the first KL is its distance from the base, by hand."""
    save_tiny(tmp_path / "start", seed=1)
    held = Anchor(kind="kl", strength=0.5)
    chosen = job(tmp_path / "start", tmp_path / "run", "ppo", steps=1, anchor=held)
    chosen = dataclasses.replace(chosen, reference=tiny_base)
    policy = model.load(chosen)
    meter = Trajectory(chosen, policy).meter
    samples = ppo.answers(chosen, rollout.sampler(chosen, policy, meter, 512), 0)
    base = loading.load(tiny_base).model
    with torch.no_grad():
        rows = [Example(sample.prompt, sample.tokens) for sample in samples]
        apart = [float((logprobs(policy.model, r) - logprobs(base, r)).sum()) for r in rows]
    ppo.train(chosen)
    line = json.loads((tmp_path / "run/steps.jsonl").read_text())
    assert line["kl"] == pytest.approx(sum(apart) / len(apart), rel=1e-4)
    assert line["kl"] > 1e-2


def test_without_an_anchor_the_reward_is_the_tasks_alone(tiny_base: Path, tmp_path: Path) -> None:
    ppo.train(job(tiny_base, tmp_path, "ppo", steps=1))
    assert "kl" not in json.loads((tmp_path / "steps.jsonl").read_text())


def test_reward_that_never_varies_fails_the_cell(tiny_base: Path, tmp_path: Path) -> None:
    flat = dataclasses.replace(letters(), reward=lambda _response, _item: 0.0)
    with pytest.raises(TrainingError, match="every answer had the reward 0"):
        ppo.train(job(tiny_base, tmp_path, "ppo", steps=2, target=flat))


def test_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        ppo.Options(**{"batch_size": 10, "minibatches": 4})
