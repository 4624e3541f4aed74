"""The A/A noise floor: how much answers change in repeat scorings of one base.

Reads records of the base and of its repeat scorings (`evaluate.REPEAT_SCORINGS`); returns per task
the churn and the scatter of soft scores. Reads the files that `paths.PointFolder.noise` names,
writes nothing. A REGRESSION whose churn is not shown to exceed a floor above 0 may be an effect of
scoring (STATISTICS 8): `lowered` makes it INCONCLUSIVE. A sign test without a finding is not
evidence that nothing was lost.

Leaves out: other seeds of sampled decoding; every task here is scored greedily.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.comparison.columns import Columns, Records, columns
from retainbench.harness.comparison.pairing import Floats, Pair, pair
from retainbench.harness.core.files.storage import was_written
from retainbench.harness.core.paths import PointFolder
from retainbench.harness.statistics.flips import churn_above_floor
from retainbench.harness.statistics.paired import is_binary
from retainbench.harness.statistics.verdict import Judgement

NAMES = ("repeat", "batch", "options")
"""Every repeat scoring that a run may have; `evaluate.REPEAT_SCORINGS` describes each."""

Repeats = Mapping[str, Records]
"""Name of a repeat scoring -> its records, on some or all of its tasks."""


class NoiseFloor(NamedTuple):
    """One task's floor, from the repeat scorings of it."""

    churns: dict[str, float]
    """Repeat scoring -> share of items whose correctness changed; empty for graded scores."""
    soft: float | None
    """Root mean square change of an item's soft score in the noisiest repeat scoring."""
    flipped: NDArray[np.bool_] | None
    """Items whose correctness changed in the repeat scoring with the most of them, in the pair's
    order; None for graded scores."""


def stored(where: PointFolder) -> dict[str, Columns]:
    """The repeat scorings of a base that were stored, read once.

    Raises:
        IntegrityError: one was damaged, or removed without its digest.
    """
    found = {name: where.noise(name) for name in NAMES}
    return {name: columns(path) for name, path in found.items() if was_written(path)}


def noise_floor(
    base: Records, repeats: Repeats, excluded: Mapping[str, Set[str]] | None = None
) -> dict[str, NoiseFloor]:
    """Per task label what changed between the base and its repeat scorings.

    Args:
        excluded: items left out, the same as in the comparison that the floor belongs to.

    Raises:
        IntegrityError: a repeat scoring does not hold the items of the base.
    """
    start = columns(base)
    pairs: dict[str, dict[str, Pair]] = {}
    for name, records in repeats.items():
        again = {label: rows for label, rows in columns(records).items() if label in start}
        same = {label: start[label] for label in again}
        for label, one in pair(same, again, excluded).items():
            pairs.setdefault(label, {})[name] = one
    return {label: _noise(found) for label, found in pairs.items()}


def lowered(found: Judgement, one: Pair, noise: NoiseFloor) -> Judgement:
    """The judgement; a REGRESSION whose churn the floor may explain becomes INCONCLUSIVE.

    A floor without a single flip explains none: the verdict then rests on its interval alone.
    """
    if noise.flipped is None or not noise.flipped.any():
        return found
    above = above_floor(one, noise, found.alpha)
    if above is not False or found.verdict == "PASS" or not (found.drop and found.drop > 0):
        return found
    churn, floor = _share(flips_of(one)), max(noise.churns.values())
    why = (
        f"a repeat scoring of the base changes {100 * floor:.1f} % of the items, the candidate "
        f"{100 * churn:.1f} %: more was not shown (sign test), so the scoring itself may explain it"
    )
    reasons = (*found.reasons, why)
    if found.verdict == "INCONCLUSIVE":
        return replace(found, reasons=reasons)
    return replace(found, verdict="INCONCLUSIVE", reasons=reasons, p_within=1.0)


def above_floor(one: Pair, noise: NoiseFloor, alpha: float) -> bool | None:
    """Whether more items are shown to change than in any A/A run; None for graded scores."""
    if noise.flipped is None or not (is_binary(one.base) and is_binary(one.candidate)):
        return None
    return churn_above_floor(flips_of(one), noise.flipped, alpha)


def flips_of(one: Pair) -> NDArray[np.bool_]:
    """Which items changed from right to wrong or back."""
    changed: NDArray[np.bool_] = one.base != one.candidate
    return changed


def _noise(found: Mapping[str, Pair]) -> NoiseFloor:
    soft = [rms for one in found.values() if (rms := _scatter(one)) is not None]
    scatter = max(soft) if soft else None
    if not all(is_binary(one.base) and is_binary(one.candidate) for one in found.values()):
        return NoiseFloor({}, scatter, None)
    flips = {name: flips_of(one) for name, one in found.items()}
    churns = {name: _share(changed) for name, changed in flips.items()}
    return NoiseFloor(churns, scatter, flips[max(churns, key=lambda name: churns[name])])


def _scatter(one: Pair) -> float | None:
    if one.base_soft is None or one.candidate_soft is None:
        return None
    d: Floats = one.base_soft - one.candidate_soft
    return float(np.sqrt(np.mean(d * d)))


def _share(changed: NDArray[np.bool_]) -> float:
    return float(np.mean(changed))
