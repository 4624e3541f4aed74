"""Items that are answered by one call of an engine: the unit that workers share."""

from __future__ import annotations

from typing import NamedTuple

from retainbench.harness.tasks.catalogue import TaskInfo


class ItemBlock(NamedTuple):
    """Items of a task."""

    task: str
    seed: int
    """Number of the response; greedy tasks have one."""
    number: int
    """0 is the first `BLOCK` items."""


BLOCK = 500
"""Items. A block's answers do not depend on other blocks, not even in rounding, so records are the
same however blocks are shared out; every task of the package is one block."""


def blocks(info: TaskInfo, limit: int | None) -> list[ItemBlock]:
    """The blocks of a task, of which the first n items are scored."""
    items = min(info.n_items, limit or info.n_items)
    numbers = range(-(-items // BLOCK))
    return [ItemBlock(info.name, seed, n) for seed in range(info.repeats) for n in numbers]
