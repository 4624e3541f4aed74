"""Footnotes on the responses to targets: how often each item was answered, how long, what was cut.

Pure; takes scorecards. Leaves out retention tasks, whose shares are in the scorecards (`base_cut`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.core.text.formatting import listed

TargetRecipe = tuple[str, str]
"""Recipe and target."""
Ends = Sequence[tuple[Scorecard, PointScore]]


def notes(cards: Sequence[Scorecard]) -> list[str]:
    """Footnotes for a table of these scorecards."""
    ends = [(card, card.points[-1]) for card in cards if card.points]
    sampled = [card.sampling for card, _ in ends if card.sampling]
    drawn = (
        f"Target items are answered several times: {listed(sampled)}. An item's score is the mean "
        "over its responses, so intervals hold their variation too."
    )
    return [*([drawn] if sampled else []), *_length(ends), *_cut(ends)]


def _length(ends: Ends) -> list[str]:
    """Mean length of responses, over seeds; none where it was not measured."""
    before, after = _by_arm(ends, "base_length"), _by_arm(ends, "candidate_length")
    if not before or not after:
        return []
    cells = _named(ends, _base(before) | after)
    texts = [f"{name} {length:.3g}" for name, length in cells]
    return [f"Length of responses to target items, characters in the mean: {', '.join(texts)}."]


def _cut(ends: Ends) -> list[str]:
    """Shares of responses at the limit of tokens, mean over seeds; none where nothing was cut."""
    before, after = _by_arm(ends, "base_cut"), _by_arm(ends, "candidate_cut")
    if not any([*before.values(), *after.values()]):
        return []
    cells = _named(ends, _base(before) | {arm: share for arm, share in after.items() if share})
    texts = [f"{name} {100 * share:.3g} %" for name, share in cells]
    return [
        "Responses to target items that were cut off at the limit of new tokens (the reward judges "
        f"what there is): {', '.join(texts)}; other recipes none."
    ]


def _by_arm(ends: Ends, field: str) -> dict[TargetRecipe, float]:
    """Recipe and target -> mean over seeds, where every seed has the value."""
    found: dict[TargetRecipe, list[float | None]] = {}
    for card, point in ends:
        found.setdefault((card.recipe, card.target), []).append(getattr(point, field))
    return {
        arm: float(np.mean([value for value in values if value is not None]))
        for arm, values in found.items()
        if None not in values
    }


def _base(values: Mapping[TargetRecipe, float]) -> dict[TargetRecipe, float]:
    """The base's value for each target; it is the same in all recipes."""
    return {("base", target): value for (_, target), value in values.items()}


def _named(ends: Ends, values: Mapping[TargetRecipe, float]) -> list[tuple[str, float]]:
    """Names of arms, with the target where there are several."""
    several = len({card.target for card, _ in ends}) > 1
    return [
        (f"{recipe} on {target}" if several else recipe, value)
        for (recipe, target), value in values.items()
    ]
