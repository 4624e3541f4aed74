"""Calibration on the tasks of this repository: their own clusters, and damage as training does it.

The generators resemble what is judged: every core task's cluster labels, damage that is shared
within clusters (ICC 0 to .6), a base that is right on all, .9 or .6 of the items, seeds that
differ, interact with items or collapse, damage correlated over tasks, scores that barely move but
for a few items that are lost whole. The true drop is the margin, where a PASS is wrong and
likeliest. Rows are plain dicts of numbers, with Monte Carlo errors; `build.py` writes them. Shapes:
R runs, S seeds, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from results.statistics.simulation import Row
from results.statistics.vectorised import Many, estimates, graded, over_seeds, regression_p
from retainbench.harness.comparison.changes import icc_of
from retainbench.harness.statistics.clusters import Design
from retainbench.harness.statistics.multiplicity import axis_mean
from retainbench.harness.statistics.paired import BoundsArray, Floats
from retainbench.harness.statistics.power import power_to_pass
from retainbench.harness.suites import loading
from retainbench.harness.tasks import catalogue

ALPHA = 0.05
MARGIN = 0.05
ICCS = (0.0, 0.1, 0.3, 0.6)
BASES = ((1.0, 0.0), (0.9, 0.02), (0.6, 0.04))
"""Share of the items that the base has right, and share that is gained in passing."""
SEED_CASES = (
    ("no seed effect", 0.05, 0.0),
    ("seeds differ, sd 2 points", 0.05, 0.02),
    ("seeds differ, sd 4 points", 0.15, 0.04),
    ("one seed in three collapses", 0.0, 0.0),
)
COLLAPSED, SOUND = 0.30, 0.02
BATCH = 500  # runs held at once


class Runs(NamedTuple):
    """0/1 outcomes of R runs on one task."""

    base: Floats
    tuned: Floats


def core_designs() -> dict[str, Design]:
    """The clusters of core's tasks with answers, with the ICC that its policy plans for."""
    core, known = loading.load("core"), catalogue.own()
    answered = [name for name in core.tasks if known[name].kind != "perplexity"]
    return {name: Design(labels(name), icc_of(core.policy, name)) for name in answered}


def labels(name: str) -> list[str]:
    """Cluster of each item of a task of this repository."""
    return [row["cluster"] for row in catalogue.items(catalogue.own()[name])]


def damaged(
    rng: np.random.Generator,
    design: Design,
    runs: int,
    right: float,
    lost: float,
    gained: float,
    icc: float,
) -> Runs:
    """Runs that lose `lost` + `gained` of all items and gain `gained`.

    The items of a cluster share their chance of being lost, Beta with the mean that it must have
    and intra-cluster correlation `icc`.
    """
    chance = np.full((runs, design.groups), (lost + gained) / right)
    if icc > 0 and chance[0, 0] > 0:
        spread = 1 / icc - 1
        chance = rng.beta(chance * spread, (1 - chance) * spread)
    base = rng.random((runs, design.items)) < right
    draw = rng.random((runs, design.items))
    gains = draw < gained / max(1 - right, 1e-12)
    tuned = np.where(base, draw >= chance[:, design.codes], gains)
    return Runs(base.astype(np.float64), tuned.astype(np.float64))


def _share(name: str, hits: NDArray[Any], draws: int) -> Row:
    """A rate with its Monte Carlo standard error."""
    rate = float(np.mean(hits))
    return {name: rate, f"{name}_error": (rate * (1 - rate) / draws) ** 0.5}


def _covers(bounds: BoundsArray, truth: float) -> Floats:
    inside: Floats = ((bounds.low <= truth + 1e-12) & (bounds.high >= truth - 1e-12)).astype(float)
    return inside


def _joined(parts: Sequence[Many]) -> BoundsArray:
    lows, highs = ([getattr(p.bounds, side) for p in parts] for side in ("low", "high"))
    return BoundsArray(np.concatenate(lows), np.concatenate(highs))


def tasks_at_the_margin(draws: int, seed: int) -> list[Row]:
    """One task exactly at its margin: false PASS, false REGRESSION, coverage of 90 % intervals."""
    rows: list[Row] = []
    for name, design in core_designs().items():
        for right, gained in BASES:
            for icc in ICCS if design.clustered else ICCS[:1]:
                rng = np.random.default_rng([seed, design.items, round(100 * right + 10 * icc)])
                parts = [
                    estimates(
                        *damaged(rng, design, BATCH, right, MARGIN, gained, icc), design, ALPHA
                    )
                    for _ in range(max(1, draws // BATCH))
                ]
                bounds, total = _joined(parts), BATCH * len(parts)
                where: Row = {"task": name, "clusters": design.groups, "base": right, "icc": icc}
                where |= _share("false_pass", bounds.high <= MARGIN, total)
                where |= _share("false_regression", bounds.low > MARGIN, total)
                rows.append(where | _share("coverage", _covers(bounds, MARGIN), total))
                rows[-1]["draws"] = total
    return rows


def gates(draws: int, seed: int) -> list[Row]:
    """The whole core suite: one task at its margin, the others unharmed or harmed by half as much.

    Damage is correlated over tasks in the second half of the rows: a release that hurts one task at
    its margin hurts all others by half of it. The last rows have every task at its margin, where a
    false REGRESSION is likeliest.
    """
    designs = core_designs()
    clustered = [name for name, design in designs.items() if design.effect > 1.2]
    rows: list[Row] = []
    for share in (0.0, 0.5, 1.0):
        for icc in ICCS:
            for harmed in clustered if share < 1 else ["every task"]:
                drops = {name: MARGIN if name == harmed else share * MARGIN for name in designs}
                row: Row = {"at_margin": harmed, "others": share, "icc": icc}
                rows.append(row | _gate(designs, drops, icc, draws, seed))
    return rows


def _gate(
    designs: dict[str, Design], drops: dict[str, float], icc: float, draws: int, seed: int
) -> Row:
    passed, alarmed = [], []
    key = [seed, round(100 * icc), round(1e4 * sum(drops.values())), *(map(len, drops))]
    rng = np.random.default_rng(key)
    for _ in range(max(1, draws // BATCH)):
        all_pass, least = np.ones(BATCH, bool), np.ones(BATCH)
        for name, design in designs.items():
            runs = damaged(rng, design, BATCH, 0.95, drops[name], 0.0, icc)
            found = estimates(*runs, design, ALPHA)
            all_pass &= found.bounds.high <= MARGIN
            p = regression_p(*runs, design, MARGIN)
            least = np.minimum(least, np.where(found.bounds.low > MARGIN, p, 1.0))
        passed.append(all_pass)
        alarmed.append(least <= ALPHA / len(designs))
    total = BATCH * len(passed)
    row = _share("pass", np.concatenate(passed), total)
    return row | _share("regression", np.concatenate(alarmed), total) | {"draws": total}


def axes(draws: int, seed: int) -> list[Row]:
    """Coverage of one checkpoint's axis means: three core tasks, each with its own drop."""
    groups = {"temporal": ("calendar", "clock", "dates"), "general": ("capitals", "elements")}
    designs, rows = core_designs(), list[Row]()
    for axis, names in groups.items():
        used = [name for name in names if name in designs]
        for icc in ICCS[:3]:
            for size in (0.0, 0.02, 0.10):
                drops = [size * share for share in np.linspace(0.5, 1.5, len(used))]
                rng = np.random.default_rng([seed, len(axis), round(10 * icc), round(100 * size)])
                parts = [
                    estimates(*damaged(rng, d, draws, 0.9, drop, 0.01, icc), d, ALPHA)
                    for d, drop in zip((designs[n] for n in used), drops, strict=True)
                ]
                hits = _axis_hits(parts, float(np.mean(drops)))
                where: Row = {"axis": axis, "icc": icc, "drop": size}
                rows.append(where | _share("coverage", hits, draws) | {"draws": draws})
    return rows


def _axis_hits(parts: Sequence[Many], truth: float) -> Floats:
    degrees = [part.degrees for part in parts]
    hits = []
    for run in range(len(parts[0].drop)):
        drops, errors = [p.drop[run] for p in parts], [p.error[run] for p in parts]
        low, high = axis_mean(drops, errors, 1 - 2 * ALPHA, degrees).bounds
        hits.append(low <= truth <= high)
    return np.array(hits, np.float64)


def seeds(draws: int, seed: int) -> list[Row]:
    """Coverage of a method's mean drop on one axis over 2, 3 and 5 seeds.

    An item is lost in a seed where a normal score, made of what its cluster, the item and the seed
    and item together add, is below that seed's threshold; `interaction` is the last one's share.
    """
    all_designs, rows = core_designs(), list[Row]()
    axes_used = {"temporal": ("calendar", "clock", "dates"), "general": ("agreement", "elements")}
    for axis, names in axes_used.items():
        designs = [all_designs[name] for name in names if name in all_designs]
        for case, mean, spread in SEED_CASES:
            for count in (2, 3, 5):
                for interaction in (0.2, 0.6):
                    rng = np.random.default_rng([seed, len(case), len(axis), count, 7])
                    hits = _seed_hits(rng, designs, case, mean, spread, count, interaction, draws)
                    row: Row = {"axis": axis, "case": case, "seeds": count}
                    row |= {"interaction": interaction} | _share("coverage", hits, len(hits))
                    rows.append(row | {"draws": len(hits)})
    return rows


def _seed_hits(
    rng: np.random.Generator,
    designs: list[Design],
    case: str,
    mean: float,
    spread: float,
    count: int,
    interaction: float,
    draws: int,
) -> Floats:
    collapse = case.startswith("one seed")
    truth = (COLLAPSED + 2 * SOUND) / 3 if collapse else mean
    found = []
    for _ in range(max(1, draws // BATCH)):
        size = (BATCH, count)
        shares = np.where(rng.random(size) < 1 / 3, COLLAPSED, SOUND) if collapse else None
        if shares is None:
            # Reflected at 0 and twice the mean, which keeps the mean.
            shares = mean + np.clip(rng.normal(0, spread, size), -mean, mean)
        limits = special.ndtri(np.clip(shares, 1e-12, 1 - 1e-12))
        tables = [_lost(rng, design, limits, interaction) for design in designs]
        found.append(_covers(over_seeds(tables, designs, ALPHA), truth))
    return np.concatenate(found)


def _lost(
    rng: np.random.Generator, design: Design, limits_RS: Floats, interaction: float
) -> Floats:
    runs, count = limits_RS.shape
    shared = 0.2 * design.clustered
    cluster = rng.standard_normal((runs, 1, design.groups))[:, :, design.codes]
    item = rng.standard_normal((runs, 1, design.items))
    fresh = rng.standard_normal((runs, count, design.items))
    score = shared**0.5 * cluster + (1 - shared - interaction) ** 0.5 * item
    lost: Floats = (score + interaction**0.5 * fresh < limits_RS[:, :, None]).astype(np.float64)
    return lost


def graded_point_masses(draws: int, seed: int) -> list[Row]:
    """Scores that move by 1e-4, a few that lose .9 or .3; the mean drop is the margin."""
    rows: list[Row] = []
    for n in (50, 75, 100, 150, 300):
        for margin in (0.02, 0.05):
            for loss in (0.9, 0.3):
                rng = np.random.default_rng([seed, n, round(100 * margin), round(10 * loss)])
                hit = rng.random((draws, n)) < margin / loss
                d = np.where(hit, loss, rng.normal(0, 1e-4, (draws, n)))
                bounds = graded(d, ALPHA)
                row: Row = {"n": n, "margin": margin, "loss": loss}
                row |= _share("false_pass", bounds.high <= margin, draws)
                rows.append(row | _share("coverage", _covers(bounds, margin), draws))
                rows[-1]["draws"] = draws
    return rows


def saturated(_draws: int, _seed: int) -> list[Row]:
    """Independent items at the margin by enumeration: q = m is a base that was right on all."""
    return [
        {
            "n": n,
            "margin": margin,
            "discordance": share * margin,
            "false_pass": power_to_pass(n, margin, share * margin, margin, ALPHA),
        }
        for margin, sizes in ((0.05, (59, 100, 300)), (0.02, (149, 300)), (0.01, (299, 600)))
        for n in sizes
        for share in (1.0, 1.5, 3.0)
    ]


def planned_power(draws: int, seed: int) -> list[Row]:
    """The power that `retainbench power` states against how often such runs pass."""
    rows: list[Row] = []
    for name, design in core_designs().items():
        for q in (0.01, 0.03, 0.06):
            for icc in (0.0, design.icc) if design.clustered else (0.0,):
                rng = np.random.default_rng([seed, design.items, round(100 * q), round(10 * icc)])
                runs = damaged(rng, design, draws, 0.8, 0.0, q / 2, icc)
                found = estimates(*runs, design, ALPHA)
                row: Row = {"task": name, "discordance": q, "icc": icc}
                row["stated"] = power_to_pass(design.effective_items, MARGIN, q, alpha=ALPHA)
                rows.append(row | _share("true", found.bounds.high <= MARGIN, draws))
                rows[-1]["draws"] = draws
    return rows
