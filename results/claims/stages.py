"""C11, what the stages of SFT and RL bring, read from staged; llm-small is asked the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from results.claims import finding
from results.claims.finding import Finding, Status
from results.claims.published import Published, end
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.core.text.formatting import points
from retainbench.harness.statistics.paired import wilson

FORM: Mapping[Status, str] = {
    "reproduced": "SFT taught the form of the answer.",
    "contradicted": "After the SFT stage fewer answers were valid than before it.",
    "undecided": "SFT is not shown to teach the form of the answer.",
}
"""C11's first part in plain words."""
SCORE: Mapping[Status, str] = {
    "reproduced": "RL after it made valid answers better.",
    "contradicted": "RL after it made valid answers worse.",
    "undecided": "RL after it is not shown to make valid answers better, only more of them valid.",
}
"""Its second part."""


def stages(runs: Published) -> Finding:
    """C11: the SFT stage brings valid answers, the RL stage brings a better score of those.

    A rise of the reward shows nothing of the second: it rises with the share of valid answers alone
    (METHODS 17: score and validity are split). Asked of the rate of RL with the largest mean gain.
    """
    names = sorted({card.recipe for card in runs.cards if card.recipe.startswith("sft-grpo")})
    rates = {name: cards for name in names if (cards := runs.of(name, "countdown_large"))}
    if not rates:
        return finding.missing(runs)
    best = max(rates, key=lambda name: fmean(end(card).gain.value for card in rates[name]))
    cards = rates[best]
    valid, reward = stage_changes(cards)
    better = [_better_answers(_last(card, 0), _last(card, 1)) for card in cards]
    form, score = finding.in_every(valid, 1), finding.in_every(better, 1)
    return Finding(
        finding.every(form, score),
        [
            f"each seed of {best}: {stages_text(valid, reward)}",
            "reward of a valid answer, RL stage minus SFT stage: " + ", ".join(map(points, better)),
            "reward and valid answers: "
            + ", ".join(f"{name} {_level(points_)}" for name, points_ in _levels(cards)),
            *_alone(runs.of("sft", "countdown_large")),
        ],
        runs.name,
        finding.more_seeds(runs),
        f"{FORM[form]} {SCORE[score]}",
    )


def _levels(cards: Sequence[Scorecard]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Reward and share of valid answers of the base and after each stage, one pair a seed."""
    first, second = ([_last(card, stage) for card in cards] for stage in (0, 1))
    return [
        ("base", [(first[0].base_reward, first[0].base_valid)]),
        ("SFT stage", [(p.candidate_reward, p.candidate_valid) for p in first]),
        ("RL stage", [(p.candidate_reward, p.candidate_valid) for p in second]),
    ]


def _level(found: Sequence[tuple[float, float]]) -> str:
    rewards, valid = zip(*found, strict=True)
    return (
        f"{finding.range_text(100 * min(rewards), 100 * max(rewards), 1)} and "
        f"{finding.range_text(100 * min(valid), 100 * max(valid), 0)} %"
    )


def _better_answers(one: PointScore, two: PointScore) -> Interval:
    """Change of the mean reward of a valid answer, where an invalid one earns 0.

    Limits of a share (Newcombe of two Wilson intervals): a reward in [0, 1] scatters no more.
    """
    sides = [
        (point.candidate_reward / point.candidate_valid, point.candidate_valid * point.gain.n)
        for point in (one, two)
    ]
    return _share_change(*sides)


def stage_changes(cards: Sequence[Scorecard]) -> tuple[list[Interval], list[Interval]]:
    """Of each cell of two stages: valid answers, first stage minus base; reward, second minus
    first."""
    pairs = [(_last(card, 0), _last(card, 1)) for card in cards]
    valid = [
        _share_change((one.base_valid, one.gain.n), (one.candidate_valid, one.gain.n))
        for one, _ in pairs
    ]
    return valid, [_later(one.gain, two.gain) for one, two in pairs]


def stages_text(valid: Sequence[Interval], reward: Sequence[Interval]) -> str:
    return (
        f"valid answers, SFT stage minus base {', '.join(map(points, valid))}; reward, RL stage "
        f"minus SFT stage {', '.join(map(points, reward))}"
    )


def _alone(cards: Sequence[Scorecard]) -> list[str]:
    """What SFT does with the whole budget."""
    if not cards:
        return []
    valid = [100 * end(card).candidate_valid for card in cards]
    gains = ", ".join(points(end(card).gain) for card in cards)
    return [
        f"sft alone, with the whole budget: {finding.range_text(min(valid), max(valid), 0)} % "
        f"valid, gain {gains}"
    ]


def _last(card: Scorecard, stage: int) -> PointScore:
    return [point for point in card.points if point.stage == stage][-1]


def _share_change(one: tuple[float, float], two: tuple[float, float]) -> Interval:
    """Change between two shares, each of so many answers; limits by their Wilson intervals."""
    (before, n), (after, m) = one, two
    first, second = wilson(before * n, n, 0.9), wilson(after * m, m, 0.9)
    value = after - before
    low = value - math.hypot(after - float(second.low), float(first.high) - before)
    high = value + math.hypot(float(second.high) - after, before - float(first.low))
    return Interval(
        value=value, low=low, high=high, level=0.9, n=round(min(n, m)), method="newcombe"
    )


def _later(before: Interval, after: Interval) -> Interval:
    """Change of a gain between two points; limits as if they were independent, which is wider."""
    width = math.hypot((before.high - before.low) / 2, (after.high - after.low) / 2)
    value = after.value - before.value
    return after.model_copy(update={"value": value, "low": value - width, "high": value + width})
