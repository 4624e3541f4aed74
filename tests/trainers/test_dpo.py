"""DPO against its formula, on the pairs that it makes."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import (
    assert_same,
    differentiate,
    divergence,
    gradients,
    log_of,
    logprobs,
)
from retainbench.harness.contracts.jobs import letters
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.stages import Anchor
from retainbench.harness.models import loading
from retainbench.trainers import dpo
from retainbench.trainers._gradient.preference_pairs import PreferencePairs
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.contract import Item, Job, Target, TrainingError
from retainbench.trainers._shared.data import Example

BEST = {
    "batch_size": 4,
    "chosen": "best",
    "samples_per_prompt": 2,
    "learning_rate": 1e-3,
    "max_grad_norm": 1e9,
}


def early(response: str, _item: Item) -> float:
    """Half of the answers of a random model begin so."""
    return float(response[:1] < "P")


def late(response: str, item: Item) -> float:
    return 1.0 - early(response, item)


def swappable(base: Path, out: Path, reward: Any, steps: int = 1) -> Job:
    # Long enough that no answer is cut off: such a one earns nothing, whichever the reward.
    target: Target = dataclasses.replace(letters(), reward=reward, max_new_tokens=200)
    return job(base, out, "dpo", steps=steps, target=target, options=BEST)


def pairs(chosen: Job) -> list[tuple[Example, Example]]:
    """The first batch: (preferred, rejected)."""
    policy = _model.load(chosen)
    made = PreferencePairs(chosen, loading.load(chosen.base).model, policy)
    rows = [made.at(place).row for place in range(chosen.options.batch_size)]
    return [
        (Example(r["prompt_ids"], r["chosen_ids"]), Example(r["prompt_ids"], r["rejected_ids"]))
        for r in rows
    ]


def margin(model: Any, base: Any, pair: tuple[Example, Example]) -> torch.Tensor:
    """beta times the difference of the log ratios."""
    better, worse = (logprobs(model, e).sum() - logprobs(base, e).sum().detach() for e in pair)
    return 0.1 * (better - worse)


def test_pairs_are_sampled_once_however_often_a_run_is_resumed(
    tiny_base: Path, tmp_path: Path
) -> None:
    """A kill leaves a part of a line at most; the rest needs no pass through the reference."""
    passes = [0]

    def resumed(out: Path) -> PreferencePairs:
        chosen = swappable(tiny_base, out, early)
        reference = loading.load(tiny_base).model
        reference.register_forward_pre_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
        return PreferencePairs(chosen, reference, _model.load(chosen))

    wanted = [resumed(tmp_path / "whole").at(place) for place in range(80)]
    cut = tmp_path / "cut"
    size = sum(pair.new_tokens < wanted[79].new_tokens for pair in wanted)
    assert 0 < size < 79
    assert [resumed(cut).at(place) for place in range(size)] == wanted[:size]
    with (cut / "pairs-0.jsonl").open("a") as file:
        file.write('{"rows": [[1')
    again, passes[0] = resumed(cut), 0
    assert [again.at(place) for place in range(size)] == wanted[:size]
    assert passes[0] == 0
    assert [again.at(place) for place in range(80)] == wanted
    assert passes[0] > 0
    files = [(folder / "pairs-0.jsonl").read_bytes() for folder in (cut, tmp_path / "whole")]
    assert files[0] == files[1]


def test_accumulation_costs_the_same(tiny_base: Path, tmp_path: Path) -> None:
    """A division by the parts lost the remainder of every step's sampling."""
    costs = []
    for parts in (1, 3):
        options = {"accumulation": parts, "batch_size": 9}
        chosen = job(tiny_base, tmp_path / str(parts), "dpo", steps=2, options=options)
        dpo.train(chosen)
        ledger = json.loads((chosen.out / "checkpoints/s0-1.0000.json").read_text())["ledger"]
        costs.append({unit: ledger[unit] for unit in ("generated_tokens", "samples")})
    assert costs[0] == costs[1]
    assert costs[0]["samples"] == 2 * 9 * 2  # two steps of nine pairs
    assert costs[0]["generated_tokens"] % 3


def test_first_loss_is_log_two_and_the_first_margin_is_zero(
    tiny_base: Path, tmp_path: Path
) -> None:
    """T-DPO-1, for full and low-rank adaptation; float32 log-probabilities of equal weights."""
    for adaptation in ("full", "lora"):
        chosen = job(tiny_base, tmp_path / adaptation, "dpo", adaptation=adaptation, steps=2)
        dpo.train(chosen)
        first, second = log_of(chosen)
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)
        assert abs(second["rewards/margins"]) > 1e-4


def test_gradient_is_the_formula_and_turns_round_with_the_pairs(
    tiny_base: Path, tmp_path: Path
) -> None:
    """T-DPO-2: a reward that prefers the other answer of each pair negates margin and gradient."""
    seen = {}
    made = {}
    for name, reward in (("early", early), ("late", late)):
        chosen = swappable(tiny_base, tmp_path / name, reward)
        made[name] = pairs(chosen)
        base = loading.load(tiny_base).model
        _, wanted = differentiate(
            tiny_base,
            lambda model, rows=made[name], base=base: (
                -sum(torch.nn.functional.logsigmoid(margin(model, base, row)) for row in rows)
                / len(rows)
            ),
        )
        with gradients() as captured:
            dpo.train(chosen)
        assert_same(captured[0], wanted)
        seen[name] = captured[0]
    assert made["late"] == [(worse, better) for better, worse in made["early"]]
    assert_same(seen["late"], {name: -value for name, value in seen["early"].items()})


def test_logged_margin_after_a_step_is_the_formula(tiny_base: Path, tmp_path: Path) -> None:
    """Four prompts, so the second batch's margins can be had from the weights between."""
    chosen = swappable(tiny_base, tmp_path, early, steps=2)
    dpo.train(chosen)
    policy = _model.load(chosen)
    base, tuned = policy.model, loading.load(tmp_path / "checkpoints/s0-0.5000").model
    made = PreferencePairs(chosen, base, policy)
    rows = [made.at(place).row for place in range(4, 8)]
    with torch.no_grad():
        wanted = [
            margin(
                tuned,
                base,
                (
                    Example(r["prompt_ids"], r["chosen_ids"]),
                    Example(r["prompt_ids"], r["rejected_ids"]),
                ),
            )
            for r in rows
        ]
        mean = float(torch.stack(wanted).mean())
    assert log_of(chosen)[1]["rewards/margins"] == pytest.approx(mean, abs=1e-5)
    assert abs(mean) > 1e-4


def log_ratios(model: Any, base: Any, pair: tuple[Example, Example]) -> list[torch.Tensor]:
    """log p / p_ref of both answers, summed over tokens."""
    return [logprobs(model, e).sum() - logprobs(base, e).sum().detach() for e in pair]


def sft_part(model: Any, rows: list[tuple[Example, Example]]) -> torch.Tensor:
    return -torch.cat([logprobs(model, better) for better, _ in rows]).mean()


def ipo_part(model: Any, base: Any, rows: list[tuple[Example, Example]]) -> torch.Tensor:
    """(average log ratio of y+ - of y- - 1 / (2 beta))^2."""
    parts = []
    for pair in rows:
        good, bad = (
            ratio / len(example.completion)
            for ratio, example in zip(log_ratios(model, base, pair), pair, strict=True)
        )
        parts.append((good - bad - 1 / 0.2) ** 2)
    return torch.stack(parts).mean()


def robust_part(model: Any, base: Any, rows: list[tuple[Example, Example]]) -> torch.Tensor:
    """(-(1 - e) log s(m) + e log s(-m)) / (1 - 2 e) with e = .1."""
    log_s = torch.nn.functional.logsigmoid
    margins = torch.stack([margin(model, base, row) for row in rows])
    return (-(0.9 * log_s(margins)) + 0.1 * log_s(-margins)).mean() / 0.8


def sigmoid_part(model: Any, base: Any, rows: list[tuple[Example, Example]]) -> torch.Tensor:
    return -torch.stack(
        [torch.nn.functional.logsigmoid(margin(model, base, row)) for row in rows]
    ).mean()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            {"loss": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
            lambda m, b, r: sigmoid_part(m, b, r) + 0.5 * sft_part(m, r),
        ),
        ({"loss": ["ipo"]}, ipo_part),
        ({"loss": ["robust"], "label_smoothing": 0.1}, robust_part),
    ],
    ids=["sigmoid+sft", "ipo", "robust"],
)
def test_other_losses_are_their_formulas(
    tiny_base: Path, tmp_path: Path, options: dict[str, Any], wanted: Any
) -> None:
    chosen = swappable(tiny_base, tmp_path, early)
    chosen = dataclasses.replace(chosen, options=chosen.options.model_copy(update=options))
    rows, base = pairs(chosen), loading.load(tiny_base).model
    value, gradient = differentiate(tiny_base, lambda model: wanted(model, base, rows))
    with gradients() as seen:
        dpo.train(chosen)
    assert_same(seen[0], gradient)
    assert log_of(chosen)[0]["loss"] == pytest.approx(value, rel=1e-4)


def test_anchor_adds_the_kl_on_both_answers(tiny_base: Path, tmp_path: Path) -> None:
    """The cell's base is another model than the stage's start, so that the first KL is not 0."""
    save_tiny(tmp_path / "start", seed=1)
    chosen = swappable(tmp_path / "start", tmp_path / "run", early)
    anchor = Anchor(kind="kl", strength=0.3)
    chosen = dataclasses.replace(chosen, reference=tiny_base, anchor=anchor)
    rows = pairs(chosen)
    base, start = (loading.load(folder).model for folder in (tiny_base, tmp_path / "start"))
    answers = [answer for pair in rows for answer in pair]
    kl, pull = differentiate(tmp_path / "start", lambda model: divergence(model, base, answers))
    _, plain = differentiate(tmp_path / "start", lambda model: sigmoid_part(model, start, rows))
    with gradients() as seen:
        dpo.train(chosen)
    assert_same(seen[0], {name: plain[name] + 0.3 * pull[name] for name in plain})
    assert log_of(chosen)[0]["kl"] == pytest.approx(kl, rel=1e-4)


def test_pairs_of_near_rewards_are_left_out(tiny_base: Path, tmp_path: Path) -> None:
    """Rewards 0 and 1 stay with a gap of 1; rewards 0 and .5 have none as large."""
    chosen = swappable(tiny_base, tmp_path / "far", early)
    options = chosen.options.model_copy(update={"least_gap": 1.0})
    assert pairs(dataclasses.replace(chosen, options=options))
    near = swappable(tiny_base, tmp_path / "near", lambda r, i: 0.5 * early(r, i))
    short = dataclasses.replace(near.target, max_new_tokens=8)  # 640 prompts are answered
    near = dataclasses.replace(near, target=short)
    with pytest.raises(TrainingError, match="no pair of answers"):
        pairs(dataclasses.replace(near, options=options))


def test_as_many_weights_as_losses() -> None:
    with pytest.raises(ValueError, match="2 losses need as many weights"):
        dpo.Options(loss=["sigmoid", "sft"], loss_weights=[1.0])
