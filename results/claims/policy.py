"""Claims about on-policy data, sparsity and flips: C8, C12, C14."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from results.claims import finding
from results.claims.finding import Finding
from results.claims.published import Published, end
from results.claims.resampling import TINY, Clusters, bootstrap, recipes_to_decide
from retainbench.harness.comparison.methods import MethodRow
from retainbench.harness.core.scorecards import Scorecard

FAMILIES = ("sft", "rft-once", "rft", "grpo")
"""From data of another writer to the model's own of this moment (C8)."""
SPARSE = 0.685
"""Least share of bfloat16 weights that RL left alone in arXiv:2505.11711 (C12)."""
DENSE = 0.01
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
        [
            f"drop at the same gain, {sft.recipe} minus {grpo.recipe}: {finding.by_axis(known)}",
            _all_families(arms, runs.axes),
        ],
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
            "undecided", ["the common gain is not reached by both"], short.name, wanted + hours
        )
    return Finding(
        finding.by_sign(list(known.values()), 1),
        [
            f"in `{runs.name}`, one rate each, drop at the same gain, sft minus grpo: "
            f"{finding.by_axis(known)}, {finding.seeds_text(runs)}",
            f"in `{short.name}` the budget ends before GRPO has the gain common to all rates",
            *_over_rates(short),
        ],
        runs.name,
        finding.seeds_to_decide(runs, list(known.values())),
    )


def _over_rates(runs: Published) -> list[str]:
    """What the rates of a suite show where SFT and GRPO both reach half of their own lower gain."""
    pairs = [
        p
        for p in (runs.methods.matched_pairs if runs.methods else [])
        if p.share is None and p.difference is not None
        if {p.first.split("-")[0], p.second.split("-")[0]} == {"sft", "grpo"}
    ]
    if not pairs:
        return []
    rates = {(p.first, p.second) for p in pairs}
    shown = [p for p in pairs if p.holm_p is not None and p.holm_p <= finding.ALPHA]
    return [
        f"in `{runs.name}`, {len(rates)} pairs of rates at half of their own lower gain: "
        f"{len(shown)} of {len(pairs)} differences are shown after Holm's correction"
    ]


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
        [
            f"weights unchanged after rounding to bfloat16: grpo {texts['grpo']} %, sft "
            f"{texts['sft-']} %",
            f"exactly unchanged in float32: at most {100 * max(exact):.2g} %",
        ],
        runs.name,
        "cells that train in bfloat16 (`dtype: bfloat16`) on a base of more than a million weights",
        "RL changed most weights, even as bfloat16 shows them."
        if apparent == "contradicted"
        else "",
    )


def _mild(card: Scorecard) -> bool:
    """Nothing was shown to be lost: where much is, net change and churn are the same thing."""
    return all(change.verdict != "REGRESSION" for change in end(card).axes)


def flows(*folders: Published) -> Finding:
    """C14: items that changed against the net change, over cells without a regression."""
    cells = {  # several suites have some cells in common
        end(card).weights_digest: (f"{runs.name} {card.recipe} {card.target}", card)
        for runs in folders
        for card in runs.cards
        if card.points and card.status == "done"
    }
    mild = _by_recipe([(name, card) for name, card in cells.values() if _mild(card)])
    if not mild:
        return finding.missing(folders[0])
    known = next(runs for runs in folders if runs.cards)
    ratio, every = (
        bootstrap(table, _churn_over_net) for table in (mild, _by_recipe(cells.values()))
    )
    status = finding.within(ratio.low, ratio.high, (MUCH_LARGER, math.inf))
    return Finding(
        status,
        [
            f"items whose correctness changed over the net change: {ratio} times, "
            f"{sum(map(len, mild))} tasks of the {sum(_mild(c) for _, c in cells.values())} cells "
            f"without a regression, {len(mild)} recipes",
            f"of all {len(cells)} cells: {every} times",
        ],
        known.name,
        recipes_to_decide([(ratio, MUCH_LARGER)], len(mild), folders)
        if status == "undecided"
        else "",
    )


def _by_recipe(cells: Iterable[tuple[str, Scorecard]]) -> Clusters:
    """The tasks of all seeds of a recipe, which are not independent of each other."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for name, card in cells:
        if len(rows := _changes(card)):
            found.setdefault(name, []).append(rows)
    return [np.concatenate(rows) for rows in found.values()]


def _churn_over_net(table: NDArray[np.float64]) -> float:
    return float(table[:, 0].sum() / max(table[:, 1].sum(), TINY))


def _changes(card: Scorecard) -> NDArray[np.float64]:
    """(tasks, 2): share of items that changed, and size of the net change, at the end."""
    rows = [(float(t.churn), abs(t.drop.value)) for t in end(card).tasks if t.churn is not None]
    return np.array(rows).reshape(-1, 2)
