"""Progress of scoring: a line per finished task with the time that is left, on standard error.

Work of less than `QUIET` seconds prints nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence

from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.text.escaping import one_line
from retainbench.harness.tasks.catalogue import TaskInfo

QUIET = 20.0  # seconds


def watched(
    scored: Iterable[list[ItemRecord]],
    infos: Sequence[TaskInfo],
    most: int | None,
    side: str,
) -> Iterator[list[ItemRecord]]:
    """Pass on the records of each task; after the first seconds print a line for each.

    The time that is left takes items to last as long as those of the finished tasks did.

    Args:
        infos: the tasks, in the order of the records.
        most: items of each task that are scored; None means all.
        side: what is scored, such as `candidate`.
    """
    items = [min(info.n_items, most or info.n_items) for info in infos]
    start = time.monotonic()
    for done, records in enumerate(scored, 1):
        yield records
        seconds = time.monotonic() - start
        if seconds >= QUIET:
            left = seconds * sum(items[done:]) / sum(items[:done])
            sys.stderr.write(one_line(line(side, infos, done, left), 300) + "\n")


def line(side: str, infos: Sequence[TaskInfo], done: int, left: float) -> str:
    """What is finished, and the minutes that are left.

    >>> from retainbench.harness.tasks.catalogue import OWN
    >>> line("base", OWN.find(["capitals", "arithmetic"]), 1, 150.0)
    'base: capitals is scored, 1 of 2 tasks; about 2.5 min left'
    """
    after = f"; about {left / 60:.1f} min left" if done < len(infos) else ""
    return f"{side}: {infos[done - 1].name} is scored, {done} of {len(infos)} tasks{after}"
