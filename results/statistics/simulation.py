"""Simulated and enumerated behaviour of the statistics: coverage, verdict errors, known forgetting.

Every function takes the number of draws and a seed and returns rows (plain dicts of numbers) that
build.py writes; the tests run the same functions with fewer draws. `low`/`high` of
a rate are its Wilson 95% limits over draws. Left out: the whole gate over simulated releases, which
needs policies and lives with the gate. Shapes: R draws, N items, K choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from results.statistics.vectorised import worst_item
from retainbench.harness.statistics.clusters import PLANNING_ICC, Design
from retainbench.harness.statistics.graded import (
    Moments,
    bca_interval,
    edgeworth_interval,
    t_interval,
)
from retainbench.harness.statistics.methods.seeds import ColumnLayout, mean_over_seeds, two_way
from retainbench.harness.statistics.paired import (
    Bounds,
    BoundsArray,
    Floats,
    newcombe_bounds,
    normal_quantile,
    tango_bounds,
    tango_variance,
    wilson,
)

Row = dict[str, str | float | int | bool]

SIZES = (50, 200, 1000)
ACCURACIES = (0.3, 0.6, 0.9)
DISCORDANCES = (0.02, 0.05, 0.10, 0.20)
SEEDS_ITEMS = ((3, 200), (5, 200), (5, 1000))
BOOTSTRAPS = 999  # resamples inside a simulated draw; real intervals use 9,999 or 99,999


class PairModel(NamedTuple):
    """Cell probabilities of a pair (p11, p10, p01, p00)."""

    p11: float
    p10: float
    p01: float
    p00: float


def pair_model(accuracy: float, discordance: float, drop: float) -> PairModel | None:
    """Pairs with this base accuracy, discordance and true drop; None where they do not exist.

    >>> [round(p, 3) for p in pair_model(0.6, 0.1, 0.02)]
    [0.54, 0.06, 0.04, 0.36]
    >>> pair_model(0.9, 0.4, 0.0) is None
    True
    """
    p10, p01 = (discordance + drop) / 2, (discordance - drop) / 2
    model = PairModel(accuracy - p10, p10, p01, 1 - accuracy - p01)
    return model if min(model) >= -1e-12 else None


def _generator(seed: int, *purpose: float) -> np.random.Generator:
    """A stream of its own for every cell of a grid, whatever cells ran before."""
    return np.random.default_rng([seed, *(round(1000 * p) for p in purpose)])


def _draw_counts(
    model: PairModel, n: int, draws: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    p = np.clip(np.array(model), 0, 1)
    return list(rng.multinomial(n, p / p.sum(), size=draws).T)


def wald_bounds(n10: Floats, n01: Floats, n: Floats, confidence: float) -> BoundsArray:
    """The interval that may not gate, kept here alone, to show by how much it errs."""
    drop, z = (n10 - n01) / n, normal_quantile((1 + confidence) / 2)
    half = z * np.sqrt(((n10 + n01) / n - drop**2) / n)
    return BoundsArray(drop - half, drop + half)


def _rate(name: str, hits: int, draws: int) -> Row:
    low, high = wilson(hits, draws, 0.95)
    return {name: hits / draws, "low": float(low), "high": float(high), "draws": draws}


def _covers(bounds: BoundsArray, truth: float) -> int:
    # 1e-9: the truth can be a limit itself, up to rounding (n10 = n01 = 0 and truth 0).
    return int(np.sum((bounds.low <= truth + 1e-9) & (bounds.high >= truth - 1e-9)))


def coverage_binary(draws: int, seed: int, confidence: float = 0.95) -> list[Row]:
    """Coverage of the 95% intervals of the drop over size x accuracy x discordance x true drop."""
    rows: list[Row] = []
    for n in SIZES:
        for accuracy in ACCURACIES:
            for q in DISCORDANCES:
                for drop in (0.0, 0.02):
                    model = pair_model(accuracy, q, drop)
                    if model is not None:
                        rows += _coverage_cell(model, n, draws, seed, confidence)
    return rows


def _coverage_cell(model: PairModel, n: int, draws: int, seed: int, confidence: float) -> list[Row]:
    accuracy, q = model.p11 + model.p10, model.p10 + model.p01
    drop = model.p10 - model.p01
    n11, n10, n01, n00 = _draw_counts(model, n, draws, _generator(seed, n, accuracy, q, drop))
    all_n = np.full(draws, float(n))
    found = {
        "tango": tango_bounds(n10, n01, all_n, confidence),
        "newcombe": newcombe_bounds(n11, n10, n01, n00, confidence),
        "wald": wald_bounds(n10.astype(float), n01.astype(float), all_n, confidence),
    }
    where: Row = {
        "n": n, "accuracy": round(accuracy, 6), "discordance": round(q, 6), "drop": round(drop, 6)
    }  # fmt: skip
    return [
        where | {"method": name} | _judged(_rate("coverage", _covers(bounds, drop), draws))
        for name, bounds in found.items()
    ]


def _judged(row: Row) -> Row:
    """Add whether coverage is within 93-97%, or else on which side of it."""
    coverage = float(row["coverage"])
    side = "below" if coverage < 0.93 else "above" if coverage > 0.97 else "inside"
    return row | {"within_93_97": side}


def exact_pass_rates(n: int, discordance: float, drop: float, margin: float) -> dict[str, float]:
    """Probability of a PASS at the 90% interval by enumeration of (n10, n01): Tango and Wald.

    >>> rates = exact_pass_rates(100, 0.04, 0.02, 0.02)
    >>> round(rates["tango"], 4), round(rates["wald"], 4)
    (0.0437, 0.0885)
    """
    p10, p01 = (discordance + drop) / 2, (discordance - drop) / 2
    grid = np.meshgrid(_likely(n, p10), _likely(n, p01))
    n10, n01 = (x.ravel().astype(np.float64) for x in grid)
    n10, n01 = n10[n10 + n01 <= n], n01[n10 + n01 <= n]
    rest, size = n - n10 - n01, np.full(len(n10), float(n))
    mass = np.exp(
        special.gammaln(n + 1)
        - sum(special.gammaln(x + 1) for x in (n10, n01, rest))
        + sum(special.xlogy(x, p) for x, p in ((n10, p10), (n01, p01), (rest, 1 - p10 - p01)))
    )
    # The upper limit is at most m exactly if the score statistic at m is at most -z.
    spread = np.sqrt(tango_variance(n10, n01, size, np.full_like(size, margin)))
    tango = n10 - n01 - n * margin + normal_quantile(0.95) * spread <= 0
    wald = wald_bounds(n10, n01, size, 0.90).high <= margin
    return {"tango": float(mass[tango].sum()), "wald": float(mass[wald].sum())}


def _likely(n: int, p: float) -> NDArray[np.int64]:
    """Counts within nine standard deviations of a binomial's mean; mass beyond is < 1e-12."""
    reach = 9 * math.sqrt(n * p) + 9
    return np.arange(max(0, math.floor(n * p - reach)), min(n, math.ceil(n * p + reach)) + 1)


def verdict_errors(
    draws: int, seed: int, sizes: tuple[int, ...] = (*SIZES, 5000), accuracy: float = 0.6
) -> list[Row]:
    """How often each verdict is given at true drops 0, half, one and two margins.

    The verdict is the one `judge` gives: the union of Tango, Newcombe and worst item. PASS at
    a true drop of the margin or more, and REGRESSION at the margin or less, are errors; each may
    happen in 5% of the runs.
    """
    rows: list[Row] = []
    for n in sizes:
        for q in DISCORDANCES:
            for margin in (0.01, 0.02, 0.05):
                for share in (0.0, 0.5, 1.0, 2.0):
                    model = pair_model(accuracy, q, share * margin)
                    if model is not None:
                        rows.append(_verdict_cell(model, n, margin, share, draws, seed))
    return rows


def _verdict_cell(
    model: PairModel, n: int, margin: float, share: float, draws: int, seed: int
) -> Row:
    q, drop = model.p10 + model.p01, model.p10 - model.p01
    rng = _generator(seed, n, q, margin, share)
    n11, n10, n01, n00 = _draw_counts(model, n, draws, rng)
    tango = tango_bounds(n10, n01, np.full(draws, float(n)), 0.90)
    newcombe = newcombe_bounds(n11, n10, n01, n00, 0.90)
    lowest, highest = -(n01 > 0).astype(np.float64), (n10 > 0).astype(np.float64)
    moved = Moments((n10 - n01) / n, (n10 + n01) / n, lowest, float(n))
    found = (tango, newcombe, worst_item(moved, highest, 0.05))
    passed = np.all([one.high <= margin for one in found], axis=0)
    regressed = np.all([one.low > margin for one in found], axis=0)
    row: Row = {"n": n, "discordance": round(q, 6), "margin": margin, "drop": round(drop, 6)}
    row |= {"pass": float(passed.mean()), "regression": float(regressed.mean())}
    row |= {"inconclusive": float((~passed & ~regressed).mean())}
    row |= {"pass_is_error": share >= 1, "regression_is_error": share <= 1}
    row |= {"tango_pass_exact": exact_pass_rates(n, q, drop, margin)["tango"]}
    return row | {"draws": draws}


def _skewed(rng: np.random.Generator, n: int) -> Floats:
    """Soft-score drops: Beta(8, 2) times a loss of Beta(1, 9); mean .08, all positive."""
    return rng.beta(8, 2, n) * rng.beta(1, 9, n)


def _symmetric(rng: np.random.Generator, n: int) -> Floats:
    """Drops without direction: .3 times a difference of two Beta(2, 2); mean 0."""
    return 0.3 * (rng.beta(2, 2, n) - rng.beta(2, 2, n))


def coverage_graded(draws: int, seed: int, confidence: float = 0.95) -> list[Row]:
    """Coverage of the intervals for graded scores: BCa, its Edgeworth form, t."""
    rows: list[Row] = []
    for shape, sample, truth in (("skewed", _skewed, 0.08), ("symmetric", _symmetric, 0.0)):
        for n in SIZES:
            rng = _generator(seed, n, truth)
            methods: dict[str, Callable[[Floats], Bounds]] = {
                "bca": lambda d: bca_interval(d, confidence, seed, BOOTSTRAPS),
                "edgeworth": lambda d: edgeworth_interval(d, confidence),
                "t": lambda d: t_interval(d, confidence).bounds,
            }
            samples = [sample(rng, n) for _ in range(draws)]
            for name, method in methods.items():
                hits = sum(_inside(method(d), truth) for d in samples)
                where: Row = {"shape": shape, "n": n, "method": name}
                rows.append(where | _judged(_rate("coverage", hits, draws)))
    return rows


def _inside(bounds: Bounds, truth: float) -> bool:
    return bounds.low <= truth <= bounds.high


def coverage_clustered(draws: int, seed: int, confidence: float = 0.95) -> list[Row]:
    """Coverage when items come in clusters of 5 that share their chance of being lost.

    A cluster's share of lost items is Beta(1, 9): mean .1, intra-cluster correlation 1/11.
    """
    rows: list[Row] = []
    for clusters in (10, 20, 50, 200):
        rng, labels = _generator(seed, clusters), np.repeat(np.arange(clusters), 5)
        design = Design(labels, PLANNING_ICC)
        clustered = naive = 0
        for _ in range(draws):
            lost = rng.random(len(labels)) < rng.beta(1, 9, clusters)[labels]
            d = lost.astype(np.float64)
            clustered += _inside(design.interval(d, confidence).bounds, 0.1)
            naive += _inside(t_interval(d, confidence).bounds, 0.1)
        for name, hits in (("cluster-t", clustered), ("t, clusters ignored", naive)):
            where: Row = {"clusters": clusters, "n": len(labels), "method": name}
            rows.append(where | _judged(_rate("coverage", hits, draws)))
    return rows


def coverage_seeds(draws: int, seed: int, confidence: float = 0.95) -> list[Row]:
    """Coverage over seeds x items for a method's mean drop, with a seed effect of sd .02.

    Items have sd .2, the residual sd .3; the last method pools seeds as if they were items.
    """
    rows: list[Row] = []
    for seeds, items in SEEDS_ITEMS:
        rng, hits = _generator(seed, seeds, items), dict.fromkeys(_SEED_METHODS, 0)
        for _ in range(draws):
            x = rng.normal(0, 0.02, (seeds, 1)) + rng.normal(0, 0.2, items)
            table = x + rng.normal(0, 0.3, (seeds, items))
            for name, method in _SEED_METHODS.items():
                hits[name] += _inside(method(table, confidence), 0.0)
        for name, count in hits.items():
            where: Row = {"seeds": seeds, "items": items, "method": name}
            rows.append(where | _judged(_rate("coverage", count, draws)))
    return rows


_SEED_METHODS: dict[str, Callable[[Floats, float], Bounds]] = {
    "two-way": lambda x, level: two_way(x).interval(level),
    "over seeds and items": lambda x, level: mean_over_seeds(
        x, ColumnLayout(range(x.shape[1])), level
    ).interval(level),
    "seeds pooled as items": lambda x, level: t_interval(x.ravel(), level).bounds,
}
