"""Claims about on-policy data, KL, stages, sparsity and flips: C8 to C12, C14."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from results.claims import finding
from results.claims.finding import Finding
from results.claims.published import Published, end
from retainbench.harness.comparison.methods import MethodRow
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.core.text.formatting import points
from retainbench.harness.statistics.paired import wilson

RESAMPLES = 1_999
FAMILIES = ("sft", "rft-once", "rft", "grpo")
"""From data of another writer to the model's own of this moment (C8)."""
SPARSE = 0.685
"""Least share of bfloat16 weights that RL left alone in arXiv:2505.11711 (C12)."""
DENSE = 0.01
MUCH_LARGER = 2.0
"""Churn over net change from which on averages are said to hide flows (C14)."""


def forgets_less_on_policy(runs: Published) -> Finding:
    """C8: drop of SFT minus that of GRPO at the same gain, over the rates of both."""
    arms = {name: _at_goal(runs, name) for name in FAMILIES}
    if not any(arms.values()):
        return finding.missing(runs)
    sft, grpo = arms["sft"], arms["grpo"]
    if sft is None or grpo is None:
        return Finding("undecided", "the common gain is not reached by both", runs.name)
    found = {axis: runs.matched(sft.recipe, grpo.recipe, axis) for axis in runs.axes}
    known = {axis: interval for axis, interval in found.items() if interval}
    return Finding(
        finding.by_sign(list(known.values()), 1),
        f"drop at the same gain, {sft.recipe} minus {grpo.recipe}: "
        f"{finding.by_axis(known)}; {_all_families(arms, runs.axes)}",
        runs.name,
        finding.more_seeds(runs),
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


def kl_predicts(runs: Published) -> Finding:
    """C9: share of the variance of drops that KL on the new task explains, without ES."""
    cells = [card for card in runs.cards if card.points]
    table = _kl_and_drop(cells)
    if len(table) < 6:
        return finding.missing(runs)
    value, low, high = _bootstrap(table, lambda t: _r2(t[:, 0], t[:, 2]))
    slope = _bootstrap(table, lambda t: _rank_correlation(t[:, 0], t[:, 2]))
    return Finding(
        "reproduced" if slope[1] > 0 else "contradicted" if slope[2] < 0 else "undecided",
        f"R² of the mean drop on KL of the new task {value:.2f} [{low:.2f}, {high:.2f}], rank "
        f"correlation {slope[0]:.2f} [{slope[1]:.2f}, {slope[2]:.2f}], {len(table)} cells",
        runs.name,
        finding.more_seeds(runs),
    )


def kl_across_families(runs: Published, more: Published) -> Finding:
    """C10: with ES in the pool, KL on the new task no longer orders drops, KL elsewhere does."""
    table = _kl_and_drop([card for card in (*runs.cards, *more.cards) if card.points])
    if not runs.cards or not more.cards or len(table) < 6:
        return finding.missing(more if runs.cards else runs)
    on = _bootstrap(table, lambda t: _rank_correlation(t[:, 0], t[:, 2]))
    off = _bootstrap(table, lambda t: _rank_correlation(t[:, 1], t[:, 2]))
    gap = _bootstrap(
        table,
        lambda t: _rank_correlation(t[:, 1], t[:, 2]) - _rank_correlation(t[:, 0], t[:, 2]),
    )
    return Finding(
        "reproduced"
        if gap[1] > 0 and off[1] > 0
        else "contradicted"
        if gap[2] < 0
        else "undecided",
        f"rank correlation of the mean drop with KL of the new task {on[0]:.2f} [{on[1]:.2f}, "
        f"{on[2]:.2f}], with KL on retention prompts {off[0]:.2f} [{off[1]:.2f}, {off[2]:.2f}], "
        f"difference {gap[0]:.2f} [{gap[1]:.2f}, {gap[2]:.2f}], {len(table)} cells",
        runs.name,
        finding.more_seeds(runs),
    )


def _kl_and_drop(cards: Sequence[Scorecard]) -> NDArray[np.float64]:
    """(cells, 3): KL on the target, mean KL on the axes, mean drop over the axes, at the end."""
    rows = []
    for point in map(end, cards):
        if point.divergence is None:
            continue
        kl = dict(point.divergence.forward)
        on = kl.pop("target")
        rows.append((on, fmean(kl.values()), fmean(change.drop.value for change in point.axes)))
    return np.array(rows).reshape(-1, 3)


def _bootstrap(
    table: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float]
) -> tuple[float, float, float]:
    """A statistic of cells with its 90 % percentile limits over resampled cells."""
    draw = np.random.default_rng(0).integers(0, len(table), (RESAMPLES, len(table)))
    values = np.array([statistic(table[rows]) for rows in draw])
    low, high = np.nanquantile(values, [0.05, 0.95])
    return statistic(table), float(low), float(high)


def _r2(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def _rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's; ties by their order, which is rare in means over thousands of items."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (x, y)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def stages(runs: Published) -> Finding:
    """C11: the SFT stage brings valid answers, the RL stage brings reward."""
    cards = runs.of("sft-grpo", "countdown_large")
    if not cards:
        return finding.missing(runs)
    pairs = [(_last(card, 0), _last(card, 1)) for card in cards]
    valid = [_share_change(one.base_valid, one.candidate_valid, one.gain.n) for one, _ in pairs]
    reward = [_later(one.gain, two.gain) for one, two in pairs]
    return Finding(
        finding.both(finding.by_sign(valid, 1), finding.by_sign(reward, 1)),
        "valid answers, SFT stage minus base: "
        + ", ".join(points(v) for v in valid)
        + "; reward, RL stage minus SFT stage: "
        + ", ".join(points(r) for r in reward)
        + f" ({finding.seeds_text(runs)})",
        runs.name,
        finding.more_seeds(runs),
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
    apparent = finding.within(min(rounded["grpo"]), 1.0, (SPARSE, 1.0))
    real = finding.within(0.0, max(exact), (0.0, DENSE))
    return Finding(
        finding.both(apparent, real),
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
    cards = [card for runs in folders for card in runs.cards if card.points and _mild(card)]
    rows = [
        (float(t.churn), abs(t.drop.value))
        for card in cards
        for t in end(card).tasks
        if t.churn is not None
    ]
    if not rows:
        return finding.missing(folders[0])
    value, low, high = _bootstrap(np.array(rows), lambda t: float(t[:, 0].sum() / t[:, 1].sum()))
    return Finding(
        finding.within(low, high, (MUCH_LARGER, math.inf)),
        f"items whose correctness changed over the net change: {value:.1f} [{low:.1f}, {high:.1f}] "
        f"times, {len(rows)} tasks of the {len(cards)} cells without a regression",
        next((runs.name for runs in folders if runs.cards), None),
        "milder recipes, whose net change is small",
    )
