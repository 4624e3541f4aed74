"""Footnotes on the responses to targets: how often each item was answered, and what was cut off.

Pure; takes scorecards. Nothing is noted where every item has one greedy response that ended by
itself. Leaves out retention tasks, whose shares are in the scorecards (`base_cut`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.core.text.formatting import listed


def notes(cards: Sequence[Scorecard]) -> list[str]:
    """Footnotes for a table of these scorecards."""
    ends = [(card, card.points[-1]) for card in cards if card.points]
    sampled = [card.sampling for card, _ in ends if card.sampling]
    drawn = (
        f"Target items are answered several times: {listed(sampled)}. An item's score is the mean "
        "over its responses, so intervals hold their variation too."
    )
    return [*([drawn] if sampled else []), *_cut(ends)]


def _cut(ends: Sequence[tuple[Scorecard, PointScore]]) -> list[str]:
    """Shares of responses at the limit of tokens, mean over seeds; none where nothing was cut."""
    arms: dict[tuple[str, str], list[PointScore]] = {}
    for card, point in ends:
        arms.setdefault((card.recipe, card.target), []).append(point)
    shares = {
        arm: float(np.mean([point.candidate_cut for point in points]))
        for arm, points in arms.items()
        if all(point.candidate_cut is not None for point in points)
    }
    before = {card.target: point.base_cut for card, point in ends if point.base_cut is not None}
    if not any([*shares.values(), *before.values()]):
        return []
    several = len({target for _, target in arms}) > 1

    def named(recipe: str, target: str, share: float) -> str:
        return f"{recipe}{f' on {target}' if several else ''} {100 * share:.3g} %"

    cells = [named("base", target, share) for target, share in before.items()]
    cells += [named(*arm, share) for arm, share in shares.items() if share]
    return [
        "Responses to target items that were cut off at the limit of new tokens (the reward judges "
        f"what there is): {', '.join(cells)}; other recipes none."
    ]
