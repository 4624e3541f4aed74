"""Do changes of a recipe compose? Effects and interactions, where a suite has the combinations.

Two changes, say `anchor: kl` and another method, are compared where four recipes differ by them
alone: neither, one, the other, both. Over all such places in a suite

    effect of X           mean of (with X - without X)
    interaction of X, Y   mean of (both - X) - (Y - neither); 0 if their effects add up

on the gain and on the drop of every axis, of the same items and seeds (`SeedTable`). A positive
interaction in a drop is a loss that neither change brings alone. Which recipes differ by what is
read from the suite; nothing has to be declared. Reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from retainbench.harness.comparison.seed_tables import SeedTable, as_interval
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.records import Record
from retainbench.harness.core.stages import Recipe
from retainbench.harness.statistics.methods.seeds import mean_over_seeds
from retainbench.harness.statistics.multiplicity import holm

Change = frozenset[tuple[str, str, str]]
"""(key, value without it, value with it); a key that is not there has an empty value."""
ContrastWeights = Mapping[str, float]
"""Recipe -> its weight in a contrast; they add up to 0."""


class EffectRow(Record):
    """The effect of one change of recipes, or the interaction of two, on one measure."""

    target: str
    changes: list[str]
    """One or two, as `anchor: kl` or `method: eggroll`."""
    recipes: list[str]
    """Those that it is made of."""
    measure: str
    """`gain`, or an axis, whose drop is compared."""
    difference: Interval
    p: float
    holm_p: float
    """Over all effects and interactions of this target and measure."""


class _Contrast(NamedTuple):
    changes: list[str]
    weights: ContrastWeights


def effects(table: SeedTable, recipes: Mapping[str, Recipe], target: str) -> list[EffectRow]:
    """Every effect and interaction that the recipes of a table allow, on gain and drops."""
    seeds = table.arms[0].seeds
    known = {arm.recipe: recipes[arm.recipe] for arm in table.arms if arm.seeds == seeds}
    found = contrasts(known)
    return [
        row
        for measure in ("gain", *table.kept)
        for row in (_rows(table, found, measure, target) if found else [])
    ]


def contrasts(recipes: Mapping[str, Recipe]) -> list[_Contrast]:
    """The contrasts that recipes allow: of each change in a face, then of each pair of changes.

    Keys with three or more values, as the rates of a grid, are left out.
    """
    changes = _changes(recipes)
    faces: dict[tuple[Change, Change], list[tuple[str, str, str, str]]] = {}
    for one, other in combinations(changes, 2):
        for (neither, with_one), (also, with_other) in _starts(changes[one], changes[other]):
            both = [b for a, b in changes[other] if a == with_one]
            if neither == also and both and (with_other, both[0]) in changes[one]:
                face = (neither, with_one, with_other, both[0])
                faces.setdefault((one, other), []).append(face)
    levels = [change for change in changes if any(change in pair for pair in faces)]
    used = [
        one for one in levels if not any(one != other and _same(one, other) for other in levels)
    ]
    faces = {pair: found for pair, found in faces.items() if set(pair) <= set(used)}
    inside = {recipe for found in faces.values() for face in found for recipe in face}
    single = [
        _Contrast([_label(change)], _mean([{b: 1.0, a: -1.0} for a, b in edges]))
        for change in used
        if (edges := [edge for edge in changes[change] if inside.issuperset(edge)])
    ]
    double = [
        _Contrast(
            [_label(one), _label(other)],
            _mean([{both: 1.0, x: -1.0, y: -1.0, neither: 1.0} for neither, x, y, both in found]),
        )
        for (one, other), found in faces.items()
    ]
    return [*single, *double]


def _starts(
    one: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]
) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    return [(edge, second) for edge in one for second in other if edge[0] == second[0]]


def _changes(recipes: Mapping[str, Recipe]) -> dict[Change, list[tuple[str, str]]]:
    """Change -> (without, with) pairs of recipes in the suite's order; no change is the sum of two.

    Recipes that name a value where others leave it out count as changed by it.
    """
    flat = {
        name: _flat(recipe.model_dump(mode="json")["stages"]) for name, recipe in recipes.items()
    }
    found: dict[Change, list[tuple[str, str]]] = {}
    for a, b in combinations(recipes, 2):
        keys = flat[a].keys() | flat[b].keys()
        values = [(key, flat[a].get(key, ""), flat[b].get(key, "")) for key in keys]
        change = frozenset(value for value in values if value[1] != value[2])
        if change:
            found.setdefault(change, []).append((a, b))
    back = [frozenset((key, new, old) for key, old, new in change) for change in found]
    sums = {one | other for one, other in combinations([*found, *back], 2) if not _same(one, other)}
    return {change: edges for change, edges in found.items() if change not in sums}


def _same(one: Change, other: Change) -> bool:
    """Whether two changes are of a key that they share."""
    return bool({key for key, *_ in one} & {key for key, *_ in other})


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """Leaves by their path; what is None is left out."""
    if isinstance(value, dict):
        parts = [_flat(part, f"{key}.{name}") for name, part in value.items()]
    elif isinstance(value, list):
        parts = [_flat(part, f"{key}.{place}") for place, part in enumerate(value)]
    else:
        return {} if value is None else {key: str(value)}
    return {path: leaf for part in parts for path, leaf in part.items()}


def _label(change: Change) -> str:
    """`method: eggroll`, `anchor: kl`, `weighting: base_probability`."""
    new = {key.lstrip(".0123456789"): value for key, _, value in sorted(change)}
    if "method" in new:
        return f"method: {new['method']}"
    if "anchor.kind" in new:
        return f"anchor: {new['anchor.kind']}"
    return ", ".join(f"{key.rpartition('.')[2]}: {value or 'none'}" for key, value in new.items())


def _mean(parts: Sequence[ContrastWeights]) -> ContrastWeights:
    found: dict[str, float] = {}
    for part in parts:
        for recipe, weight in part.items():
            found[recipe] = found.get(recipe, 0.0) + weight / len(parts)
    return {recipe: weight for recipe, weight in found.items() if weight}


def _rows(
    table: SeedTable, found: Sequence[_Contrast], measure: str, target: str
) -> list[EffectRow]:
    ends = dict(zip((arm.recipe for arm in table.arms), table.ends(measure), strict=True))
    layout = table.layouts[measure]
    means, sizes = [], []
    for contrast in found:
        # The largest possible value is the sum of the positive weights times that of a difference.
        size = sum(weight for weight in contrast.weights.values() if weight > 0)
        summed = sum(weight * ends[recipe] for recipe, weight in contrast.weights.items())
        means.append(mean_over_seeds(np.asarray(summed) / size, layout, table.level))
        sizes.append(size)
    ps = [mean.p_zero for mean in means]
    rows = []
    for contrast, mean, size, p, adjusted in zip(found, means, sizes, ps, holm(ps), strict=True):
        rows.append(
            EffectRow(
                target=target,
                changes=contrast.changes,
                recipes=sorted(contrast.weights, key=list(ends).index),
                measure=measure,
                difference=as_interval(
                    mean, layout, table.level, "two-way, paired, contrast", size
                ),
                p=p,
                holm_p=adjusted,
            )
        )
    return rows
