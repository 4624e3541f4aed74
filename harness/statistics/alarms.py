"""Which retention tasks notice forgetting, and the fewest that notice as much as all of them.

The unit is a checkpoint of a trajectory. A task raises the alarm when an exact one-sided test of
its paired items says that scores fell; a set S of tasks raises it when one of them does at level
alpha / |S| (Bonferroni), so that the false-alarm rate of every set, small or large, is at most
alpha per checkpoint, and each further task costs a little of what the others can see.

Whether a checkpoint *is* damaged must not be decided by the items that are then praised for
noticing. The items of every task are split in two halves (clusters stay whole): one half, all tasks
together, says what is damaged, the other is what a set has to notice it with; then the halves
change roles, so that each checkpoint gives two observations. Power = share of the damaged
observations at which the set raises the alarm.

Sets grow greedily by power. How many tasks are enough is judged on recipes that the choice has not
seen: each recipe is left out once, a sequence of sets is grown on the others and tried on it.
The smallest size whose held-out power reaches the power of the whole suite is taken, and the set
of that size is grown on everything.

Assumes: clusters independent, and equally likely to gain as to lose when nothing is forgotten.
Left out: correction for looking at several checkpoints of one trajectory; the rate is per look.
Pure numpy; no files. Reading is study_design/sensitivity.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.statistics.clusters import clustered_mean
from retainbench.harness.statistics.graded import t_tail
from retainbench.harness.statistics.paired import Floats

Bools = NDArray[np.bool_]
Integers = NDArray[np.intp]
CAP = 12.0
"""-log10 p counts up to here when two sets have equal power: beyond, clear is clear."""


class Selection(NamedTuple):
    """The smallest sufficient set and what it rests on."""

    order: list[int]
    """All tasks in the order in which the greedy search takes them."""
    size: int
    """How many of them are enough."""
    held_out: Floats
    """Power of the first k tasks, k = 1 .. T, on recipes that were left out of the choice."""
    held_out_error: Floats
    """Its standard error, clustered by cell."""
    whole: float
    """Power of all tasks together."""
    whole_error: float


def p_of_loss(differences: Floats, clusters: Integers) -> float:
    """One-sided p of "nothing was lost" against a drop, for paired differences base - candidate.

    Sign-flip test over clusters: under the null each cluster's sum s_g is as likely as -s_g. Exact
    where the sums are whole numbers (0/1 scores), by convolution of their distributions; with one
    item per cluster it is McNemar's exact test. Graded scores get the clustered t test.

    >>> round(p_of_loss(np.array([1.0, 1, 1, 1, 0, 0, -1]), np.arange(7)), 4)  # 4 lost, 1 gained
    0.1875
    >>> p_of_loss(np.array([1.0, 1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 2, 2]))  # 2 clusters
    0.25
    >>> p_of_loss(np.zeros(5), np.arange(5))
    1.0
    """
    if not np.any(differences):
        return 1.0
    sums = np.bincount(clusters, weights=differences)
    whole = np.rint(sums).astype(np.int64)
    if np.array_equal(whole, sums):
        return _exact_tail(np.abs(whole), int(whole.sum()))
    found = clustered_mean(differences, clusters)
    statistic = found.mean / found.standard_error if found.standard_error else math.inf
    return t_tail(math.copysign(statistic, found.mean), found.clusters - 1)


def _exact_tail(sizes: NDArray[np.int64], observed: int) -> float:
    """P(sum of +-sizes >= observed), signs independent and fair."""
    chances = np.ones(1)
    for size in sizes[sizes > 0].tolist():
        wider = np.zeros(len(chances) + 2 * size)
        wider[: len(chances)] += chances / 2
        wider[2 * size :] += chances / 2
        chances = wider
    total = int(sizes.sum())
    return float(chances[observed + total :].sum())


def alarms(p: Floats, tasks: Integers | list[int], alpha: float) -> Bools:
    """Whether a set raises the alarm at each observation: min p <= alpha / |S|.

    Args:
        p: (observations, tasks).

    >>> alarms(np.array([[0.04, 0.9], [0.02, 0.9]]), [0, 1], 0.05).tolist()
    [False, True]
    """
    flags: Bools = p[:, tasks].min(axis=1) <= alpha / len(tasks)
    return flags


def crossed(halves: Floats, alpha: float) -> tuple[Floats, Bools]:
    """Observations from both roles of the halves.

    Args:
        halves: p of each half, (checkpoints, tasks, 2).

    Returns:
        p to notice with, (2 x checkpoints, tasks), and whether the other half finds damage.

    >>> p, damaged = crossed(np.array([[[0.001, 0.04], [0.9, 0.9]]]), 0.05)
    >>> p.tolist(), damaged.tolist()
    ([[0.001, 0.9], [0.04, 0.9]], [False, True])
    """
    everything = np.arange(halves.shape[1])
    first, second = halves[:, :, 0], halves[:, :, 1]
    damaged = [alarms(second, everything, alpha), alarms(first, everything, alpha)]
    return np.concatenate([first, second]), np.concatenate(damaged)


def grown(p: Floats, damaged: Bools, alpha: float) -> list[int]:
    """All tasks in greedy order: each next one adds the most power to those before it.

    Equal power goes to the set with the stronger evidence (mean of -log10 min p, capped), then to
    the task that comes first.

    >>> p = np.array([[0.001, 0.9, 0.5], [0.001, 0.9, 0.5], [0.9, 0.001, 0.5]])
    >>> grown(p, np.array([True, True, True]), 0.05)
    [0, 1, 2]
    """
    seen = p[damaged]
    evidence = np.minimum(-np.log10(np.maximum(seen, 10.0**-CAP)), CAP)
    chosen: list[int] = []

    def worth(task: int) -> tuple[float, float, int]:
        with_it = [*chosen, task]
        power = float(alarms(seen, with_it, alpha).mean())
        return power, float(evidence[:, with_it].max(axis=1).mean()), -task

    while len(chosen) < p.shape[1]:
        chosen.append(max((t for t in range(p.shape[1]) if t not in chosen), key=worth))
    return chosen


def select(
    p: Floats, damaged: Bools, recipes: Integers, cells: Integers, alpha: float = 0.05
) -> Selection:
    """The smallest set of tasks that reaches the power of all, judged on recipes left out.

    Args:
        p: (observations, tasks); damaged, recipes, cells: (observations,).

    Raises:
        ValueError: damage in fewer than two recipes; nothing could be held out.

    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(size=(400, 6))
    >>> p[:, 2] = 1e-6  # one task notices everything, five notice nothing
    >>> found = select(p, np.ones(400, bool), np.arange(400) % 4, np.arange(400) % 40)
    >>> found.order[: found.size], float(found.held_out[0]), found.whole
    ([2], 1.0, 1.0)
    """
    hurt = np.unique(recipes[damaged])
    if len(hurt) < 2:
        raise ValueError(f"forgetting in {len(hurt)} recipes; a choice needs two to be tried on")
    total = p.shape[1]
    noticed = np.zeros((len(p), total), bool)
    for recipe in hurt:
        out = recipes == recipe
        order = grown(p[~out], damaged[~out], alpha)
        for size in range(1, total + 1):
            noticed[out, size - 1] = alarms(p[out], order[:size], alpha)
    held_out = noticed[damaged].mean(axis=0)
    whole = alarms(p, np.arange(total), alpha)[damaged]
    order = grown(p, damaged, alpha)
    size = int(np.argmax(held_out >= whole.mean() - 1e-12)) + 1
    errors = [_error(noticed[damaged, k], cells[damaged]) for k in range(total)]
    return Selection(
        order=order,
        size=size,
        held_out=held_out,
        held_out_error=np.array(errors),
        whole=float(whole.mean()),
        whole_error=_error(whole, cells[damaged]),
    )


def _error(flags: Bools, cells: Integers) -> float:
    """Standard error of a share over checkpoints, trajectories being the independent units."""
    return clustered_mean(flags.astype(np.float64), cells).standard_error


def alone(p: Floats, damaged: Bools, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """Power and false-alarm rate of every task by itself, both (tasks,).

    >>> power, false = alone(np.array([[0.01, 0.2], [0.3, 0.2]]), np.array([True, False]))
    >>> power.tolist(), false.tolist()
    ([1.0, 0.0], [0.0, 0.0])
    """
    rings = p <= alpha
    nothing = np.full(p.shape[1], np.nan)
    power = rings[damaged].mean(axis=0) if damaged.any() else nothing
    false = rings[~damaged].mean(axis=0) if not damaged.all() else nothing
    return power, false


def delays(
    p: Floats, fractions: Floats, cells: Integers, alpha: float = 0.05
) -> tuple[Floats, int]:
    """Budget between the suite's first alarm in a cell and each task's own, mean over cells.

    A task that stays silent counts with all the budget that was left (restricted mean); a task
    that is earlier than the corrected suite counts as 0.

    Args:
        p: on all items, (checkpoints, tasks); fractions, cells: (checkpoints,).

    Returns:
        Mean delay (tasks,) as a share of the budget, NaN without alarms, and the number of cells.

    >>> p = np.array([[0.9, 0.9], [0.001, 0.9], [0.001, 0.04]])
    >>> delays(p, np.array([0.25, 0.5, 1.0]), np.zeros(3, int))
    (array([0. , 0.5]), 1)
    """
    everything = np.arange(p.shape[1])
    rows = []
    for cell in np.unique(cells):
        inside = np.flatnonzero(cells == cell)
        inside = inside[np.argsort(fractions[inside], kind="stable")]
        when, rings = fractions[inside], alarms(p[inside], everything, alpha)
        if not rings.any():
            continue
        onset = when[np.argmax(rings)]
        own = p[inside] <= alpha
        first = np.where(own.any(axis=0), when[np.argmax(own, axis=0)], when[-1])
        rows.append(np.maximum(first - onset, 0.0))
    if not rows:
        return np.full(p.shape[1], np.nan), 0
    return np.asarray(np.mean(rows, axis=0)), len(rows)
