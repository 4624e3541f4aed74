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
from fixtures.trainer_oracle import assert_same, differentiate, gradients, log_of, logprobs
from retainbench.harness.contracts.jobs import letters
from retainbench.harness.models import loading
from retainbench.trainers import dpo
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.contract import Item, Job, Target
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
    made = dpo.PreferencePairs(chosen, loading.load(chosen.base).model, policy)
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

    def resumed(out: Path) -> dpo.PreferencePairs:
        chosen = swappable(tiny_base, out, early)
        reference = loading.load(tiny_base).model
        reference.register_forward_pre_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
        return dpo.PreferencePairs(chosen, reference, _model.load(chosen))

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
    made = dpo.PreferencePairs(chosen, base, policy)
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
