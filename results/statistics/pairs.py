"""How often pairs of methods over few seeds are told apart, by right and by mistake.

Half of the methods lose 8 points more than the other half; each has its own scatter over seeds, 2
points times a lognormal factor, or one method scatters by 8 points and the rest by 1. Every draw
goes through `statistics/methods/pairwise.py`, so variances are moderated as in published tables.
Rows are plain dicts of numbers; `build.py` writes them. Shapes: M methods, S seeds, N items.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from results.statistics.simulation import Row
from retainbench.harness.statistics.methods.moderated import applies
from retainbench.harness.statistics.methods.pairwise import PairwiseDifference, pairs
from retainbench.harness.statistics.methods.seeds import ColumnLayout
from retainbench.harness.statistics.paired import Floats

LEVEL = 0.90
ITEMS = 200
LOW, APART = 0.10, 0.08
SCATTER = {
    "equal": 0.0,
    "sd within a factor of 1.6 (68 %)": 0.5,
    "sd within a factor of 2.7 (68 %)": 1.0,
    "one of them four times": None,
}
SIZES = ((6, 2), (6, 3), (6, 5), (13, 3))
"""Methods and seeds."""


class Outcome(NamedTuple):
    """Of one draw."""

    covered: float
    """Share of the pairs whose interval has the true difference."""
    scattered: float
    """The same, of the pairs with the method that scatters most."""
    mistaken: bool
    """A pair of methods that lose the same is told apart, after Holm's correction."""
    found: float
    """Share of the pairs that differ by 8 points and are told apart."""
    width: float
    """Median half width of the pairs' intervals."""


def pairs_over_seeds(draws: int, seed: int) -> list[Row]:
    """Coverage of paired 90 % intervals, mistakes among all pairs, and what is found."""
    rows: list[Row] = []
    for methods, seeds in SIZES:
        for name, spread in SCATTER.items():
            rng = np.random.default_rng([seed, methods, seeds, len(name)])
            runs = max(1, draws * 6 // methods)
            drawn = [_draw(rng, methods, seeds, spread) for _ in range(runs)]
            means = np.mean(np.array(drawn, np.float64), axis=0)
            covered, scattered, mistaken, found, width = map(float, means)
            rows.append(
                {
                    "methods": methods,
                    "seeds": seeds,
                    "moderated": applies(methods, seeds),
                    "scatter over seeds": name,
                    "coverage": covered,
                    "coverage, most scattered": scattered,
                    "any mistake": mistaken,
                    "any mistake_error": (mistaken * (1 - mistaken) / runs) ** 0.5,
                    "found": found,
                    "half width, points": 100 * width,
                    "draws": runs,
                }
            )
    return rows


def _draw(rng: np.random.Generator, methods: int, seeds: int, spread: float | None) -> Outcome:
    truth: Floats = LOW + APART * (np.arange(methods, dtype=np.float64) % 2)
    sd = np.where(np.arange(methods) == 0, 0.08, 0.01)
    if spread is not None:
        sd = 0.02 * np.exp(spread * rng.standard_normal(methods))
    sd = np.minimum(sd, truth / 2)  # keeps nearly all shares above 0, and so the means true
    shares = truth + sd * rng.standard_normal((seeds, methods))
    item, fresh = rng.standard_normal(ITEMS), rng.standard_normal((methods, seeds, ITEMS))
    rank = ndtr(0.8**0.5 * item + 0.2**0.5 * fresh)
    tables = [(rank[m] < shares[:, [m]]).astype(np.float64) for m in range(methods)]
    layout = ColumnLayout(np.arange(ITEMS))
    found = pairs(
        tables, layout, confidence=LEVEL, margin=0.02, seeds=[list(range(seeds))] * methods
    )
    return _outcome(found, truth, int(np.argmax(sd)))


def _outcome(found: list[PairwiseDifference], truth: Floats, widest: int) -> Outcome:
    gaps = np.array([truth[one.first] - truth[one.second] for one in found])
    held = np.array(
        [one.bounds.low <= gap <= one.bounds.high for one, gap in zip(found, gaps, strict=True)]
    )
    apart = np.array([one.holm_p <= 1 - LEVEL for one in found])
    most = np.array([widest in (one.first, one.second) for one in found])
    widths = [(one.bounds.high - one.bounds.low) / 2 for one in found]
    return Outcome(
        covered=float(held.mean()),
        scattered=float(held[most].mean()),
        mistaken=bool(apart[gaps == 0].any()),
        found=float(apart[gaps != 0].mean()),
        width=float(np.median(widths)),
    )
