"""Part of the items, for checks that must be quick: how many, and what so few can detect.

A tier is the first n items of every task in the frozen order. It can show a REGRESSION or nothing
(INCONCLUSIVE); it never passes, because the policy's margin was planned for all items. What a tier
can detect is the smallest true drop that it calls a REGRESSION with power .8 after Holm's
correction over the gated tasks (the first step, alpha / K), at a stated discordance.

Pure. Command: `retainbench gate --tier smoke`; `retainbench power` prints the detectable drops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from retainbench.harness.comparison.columns import Columns, RecordTable
from retainbench.harness.statistics.power import POWER, detectable_drop

Tier = Literal["smoke", "standard", "full"]
ITEMS: Mapping[Tier, int | None] = {"smoke": 100, "standard": 200, "full": None}
TYPICAL_DISCORDANCE = 0.10  # of a fine-tuned model on a task that it mostly knows (STATISTICS 7)


class TierPart(NamedTuple):
    """Both sides cut to the same items."""

    base: Columns
    candidate: Columns


def n_items(tier: Tier, available: int) -> int:
    """Items of a task that a tier uses.

    >>> [n_items(tier, 300) for tier in ("smoke", "standard", "full")], n_items("smoke", 60)
    ([100, 200, 300], 60)
    """
    most = ITEMS[tier]
    return available if most is None else min(available, most)


def cut(base: Columns, candidate: Columns, tier: Tier) -> TierPart:
    """Both sides with the first items of each task in the base's order; the full tier is uncut.

    An item that the candidate lacks stays missing, so that pairing refuses it.
    """
    if tier == "full":
        return TierPart(base, candidate)
    chosen = {label: _first(rows, tier) for label, rows in base.items()}

    def kept(columns: Columns) -> dict[str, RecordTable]:
        return {
            label: rows.take(np.array([one in chosen[label] for one in rows["doc_hash"]], bool))
            if label in chosen
            else rows
            for label, rows in columns.items()
        }

    return TierPart(kept(base), kept(candidate))


def _first(rows: RecordTable, tier: Tier) -> set[str]:
    """Hashes of the first items; several repeats of one item count once."""
    hashes = list(dict.fromkeys(rows["doc_hash"]))
    return set(hashes[: n_items(tier, len(hashes))])


def promise(tier: Tier, tasks: int, margin: float, alpha: float) -> str:
    """One line that says what a tier can detect, printed with every verdict of the tier."""
    items = ITEMS[tier]
    if items is None:
        return "full: all items; can PASS, REGRESS or be INCONCLUSIVE"
    found = detectable_drop(
        items, margin, tasks=tasks, discordance=TYPICAL_DISCORDANCE, alpha=alpha
    )
    drop = "no drop" if found is None else f"a drop of {math.ceil(100 * found)} points on one task"
    return (
        f"{tier}: first {items} items of {tasks} tasks; shows {drop} with power {POWER:g}; "
        "never passes"
    )
