"""Claims about on-policy data, stages, sparsity and flips: C8, C11, C12, C14."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from results.claims import finding
from results.claims.finding import Finding
from results.claims.published import Published, end
from results.claims.resampling import bootstrap
from retainbench.harness.comparison.methods import MethodRow
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.core.text.formatting import points
from retainbench.harness.statistics.paired import wilson

FAMILIES = ("sft", "rft-once", "rft", "grpo")
"""From data of another writer to the model's own of this moment (C8)."""
SPARSE = 0.685
"""Least share of bfloat16 weights that RL left alone in arXiv:2505.11711 (C12)."""
DENSE = 0.01
TINY = 1e-9
MUCH_LARGER = 2.0
"""Churn over net change from which on averages are said to hide flows (C14)."""


def forgets_less_on_policy(runs: Published, longer: Published) -> Finding:
    """C8: drop of SFT minus that of GRPO at the same gain, over the rates of both.

    Where the budget ends before GRPO has that gain, longer runs at one rate each answer.
    """
    arms = {name: _at_goal(runs, name) for name in FAMILIES}
    if not any(arms.values()):
        return finding.missing(runs)
    sft, grpo = arms["sft"], arms["grpo"]
    if sft is None or grpo is None:
        return _at_one_rate(longer, runs)
    known = runs.matched_drops(sft.recipe, grpo.recipe)
    return Finding(
        finding.by_sign(list(known.values()), 1),
        f"drop at the same gain, {sft.recipe} minus {grpo.recipe}: "
        f"{finding.by_axis(known)}; {_all_families(arms, runs.axes)}",
        runs.name,
        finding.seeds_to_decide(runs, list(known.values())),
    )


def _at_one_rate(runs: Published, short: Published) -> Finding:
    """The same of the recipes `sft` and `grpo` of a suite with a larger budget."""
    known = runs.matched_drops("sft", "grpo")
    if not known:
        wanted = f"twice the budget of `{short.name}`, so that both reach it"
        hours = finding.suite_hours(short, 2)
        return Finding(
            "undecided", "the common gain is not reached by both", short.name, wanted + hours
        )
    return Finding(
        finding.by_sign(list(known.values()), 1),
        f"in `{short.name}` the budget ends before GRPO has the common gain; in `{runs.name}`, at "
        f"one rate each, drop at the same gain, sft minus grpo: {finding.by_axis(known)} "
        f"({finding.seeds_text(runs)})",
        runs.name,
        finding.seeds_to_decide(runs, list(known.values())),
    )


def _at_goal(runs: Published, family: str) -> MethodRow | None:
    """The recipe of a family that reaches the common gain with the smallest mean drop."""
    reached = [
        row
        for row in runs.recipes(family)
        if row.matched and all(m.drop is not None for m in row.matched.values())
    ]
    return min(
        reached, key=lambda row: fmean(m.drop or 0.0 for m in row.matched.values()), default=None
    )


def _all_families(arms: dict[str, MethodRow | None], axes: Sequence[str]) -> str:
    mean = {
        name: fmean(row.matched[axis].drop or 0.0 for axis in axes)
        for name, row in arms.items()
        if row
    }
    return "mean over axes: " + ", ".join(f"{n} {100 * drop:+.1f}" for n, drop in mean.items())


def stages(runs: Published) -> Finding:
    """C11: the SFT stage brings valid answers, the RL stage brings reward.

    Asked of the rate of RL with the largest mean gain.
    """
    names = sorted({card.recipe for card in runs.cards if card.recipe.startswith("sft-grpo")})
    rates = {name: cards for name in names if (cards := runs.of(name, "countdown_large"))}
    if not rates:
        return finding.missing(runs)
    best = max(rates, key=lambda name: fmean(end(card).gain.value for card in rates[name]))
    cards = rates[best]
    valid, reward = stage_changes(cards)
    return Finding(
        finding.every(finding.in_every(valid, 1), finding.in_every(reward, 1)),
        f"{best}, in every seed: {stages_text(valid, reward)}"
        + _alone(runs.of("sft", "countdown_large"))
        + f" ({finding.seeds_text(runs)})",
        runs.name,
        finding.more_seeds(runs),
    )


def stage_changes(cards: Sequence[Scorecard]) -> tuple[list[Interval], list[Interval]]:
    """Of each cell of two stages: valid answers, first stage minus base; reward, second minus
    first."""
    pairs = [(_last(card, 0), _last(card, 1)) for card in cards]
    valid = [_share_change(one.base_valid, one.candidate_valid, one.gain.n) for one, _ in pairs]
    return valid, [_later(one.gain, two.gain) for one, two in pairs]


def stages_text(valid: Sequence[Interval], reward: Sequence[Interval]) -> str:
    return (
        f"valid answers, SFT stage minus base {', '.join(map(points, valid))}; reward, RL stage "
        f"minus SFT stage {', '.join(map(points, reward))}"
    )


def _alone(cards: Sequence[Scorecard]) -> str:
    """What SFT does with the whole budget."""
    if not cards:
        return ""
    valid = [100 * end(card).candidate_valid for card in cards]
    gains = ", ".join(points(end(card).gain) for card in cards)
    return (
        f"; sft alone, with the whole budget: {finding.range_text(min(valid), max(valid), 0)} % "
        f"valid, gain {gains}"
    )


def _last(card: Scorecard, stage: int) -> PointScore:
    return [point for point in card.points if point.stage == stage][-1]


def _share_change(before: float, after: float, n: int) -> Interval:
    """Change of a share of n answers; limits by Wilson's intervals of both (Newcombe)."""
    first, second = wilson(before * n, n, 0.9), wilson(after * n, n, 0.9)
    value = after - before
    low = value - math.hypot(after - float(second.low), float(first.high) - before)
    high = value + math.hypot(float(second.high) - after, before - float(first.low))
    return Interval(value=value, low=low, high=high, level=0.9, n=n, method="newcombe")


def _later(before: Interval, after: Interval) -> Interval:
    """Change of a gain between two points; limits as if they were independent, which is wider."""
    width = math.hypot((before.high - before.low) / 2, (after.high - after.low) / 2)
    value = after.value - before.value
    return after.model_copy(update={"value": value, "low": value - width, "high": value + width})


def sparse(runs: Published) -> Finding:
    """C12: shares of weights that training left alone, exactly and after rounding to bfloat16."""
    ends = {
        name: [
            p.drift for c in runs.cards if c.recipe.startswith(name) and c.points for p in [end(c)]
        ]
        for name in ("grpo", "sft-")
    }
    rounded = {n: [d.unchanged_bf16 for d in ds if d] for n, ds in ends.items()}
    exact = [d.unchanged_exact for ds in ends.values() for d in ds if d]
    if not all(rounded.values()):
        return finding.missing(runs)
    texts = {n: finding.range_text(100 * min(v), 100 * max(v), 0) for n, v in rounded.items()}
    apparent = finding.within(min(rounded["grpo"]), max(rounded["grpo"]), (SPARSE, 1.0))
    real = finding.within(min(exact), max(exact), (0.0, DENSE))
    return Finding(
        finding.every(apparent, real),
        f"weights unchanged after rounding to bfloat16: grpo {texts['grpo']} %, sft "
        f"{texts['sft-']} %; exactly unchanged in float32: at most {100 * max(exact):.2g} %",
        runs.name,
        "cells that train in bfloat16 (`dtype: bfloat16`) on a base of more than a million weights",
    )


def _mild(card: Scorecard) -> bool:
    """Nothing was shown to be lost: where much is, net change and churn are the same thing."""
    return all(change.verdict != "REGRESSION" for change in end(card).axes)


def flows(*folders: Published) -> Finding:
    """C14: items that changed against the net change, over cells without a regression."""
    cards = [c for runs in folders for c in runs.cards if c.points and c.status == "done"]
    cells = [_changes(card) for card in cards if _mild(card)]
    cells = [rows for rows in cells if len(rows)]
    if not cells:
        return finding.missing(folders[0])
    known = next(runs for runs in folders if runs.cards)
    ratio = bootstrap(cells, lambda t: float(t[:, 0].sum() / max(t[:, 1].sum(), TINY)))
    every = bootstrap(
        [rows for card in cards if len(rows := _changes(card))],
        lambda t: float(t[:, 0].sum() / max(t[:, 1].sum(), TINY)),
    )
    return Finding(
        finding.within(ratio.low, ratio.high, (MUCH_LARGER, math.inf)),
        f"items whose correctness changed over the net change: {ratio} times, "
        f"{sum(map(len, cells))} tasks of the {len(cells)} cells without a regression; of all "
        f"{len(cards)} cells {every}",
        known.name,
        finding.more_seeds(known) + ", for more cells without a regression",
    )


def _changes(card: Scorecard) -> NDArray[np.float64]:
    """(tasks, 2): share of items that changed, and size of the net change, at the end."""
    rows = [(float(t.churn), abs(t.drop.value)) for t in end(card).tasks if t.churn is not None]
    return np.array(rows).reshape(-1, 2)
