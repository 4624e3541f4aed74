"""Which retention tasks notice forgetting first, from the trajectories of finished runs.

Reads the item records of base and checkpoints in run folders (nothing is scored again); asks
`statistics/alarms.py`; writes, with `--out`, what `study_design/sensitivity_page.py` renders. All
runs given are one body of evidence over the retention tasks that they share.

Command: `retainbench sensitivity RUN... [--out FOLDER]`. Torch-free.
Leaves out: targets, failed cells (counted), and the base itself as a checkpoint of a trajectory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retainbench.harness.comparison.columns import Columns, columns
from retainbench.harness.comparison.pairing import Pair, pair
from retainbench.harness.core.axes import Axis
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.records import Record, Share
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.statistics import alarms
from retainbench.harness.statistics.clusters import clustered_mean
from retainbench.harness.statistics.flips import chance_rescaled
from retainbench.harness.statistics.paired import Floats
from retainbench.harness.suites.plan import Plan, excluded

MOST_ITEMS = 20
"""Items that are listed."""


class TaskRow(Record):
    """One task in the ranking; drops are chance-rescaled shares."""

    task: str
    axis: Axis
    items: int
    power: Share
    """Share of the damaged observations at which the task alone raises the alarm."""
    delay: Share
    """Share of the budget between the whole suite's first alarm and the task's."""
    drop: float
    """Mean over damaged observations."""
    error: float
    """Mean standard error of the drop there: the noise."""
    other_alarms: Share | None
    """Share of alarms where the other half of all items shows no damage; None: all are damaged."""
    place: int
    """In the greedy order, from 1."""
    selected: bool


class SizeRow(Record):
    """How much the first `size` tasks notice on recipes that had no part in choosing them."""

    size: int
    adds: str
    """The task that the choice on all recipes adds at this size."""
    power: Share
    error: float


class ItemRow(Record):
    """One item: how often it is lost where there is damage, and how often it flips where not."""

    task: str
    item_id: str
    lost: Share
    flips: Share | None


class Sensitivity(Record):
    """`sensitivity.json`: everything that table and page show."""

    schema_version: int = 1
    runs: list[str]
    alpha: Share
    cells: int
    failed: int
    recipes: list[str]
    checkpoints: int
    damaged_checkpoints: int
    """By all items and tasks together."""
    damaged_cells: int
    observations: int
    """Damaged ones; a checkpoint gives two, one for each half of the items."""
    whole: Share
    whole_error: float
    selected: list[str]
    tasks: list[TaskRow]
    sizes: list[SizeRow]
    items: list[ItemRow]


class PairedCheckpoint(NamedTuple):
    """One checkpoint of one trajectory, paired with its base."""

    cell: str
    recipe: str
    fraction: float
    pairs: dict[str, Pair]
    """Retention tasks by label."""


def measure(runs: Sequence[Path], alpha: float = 0.05) -> Sensitivity:
    """Rank the tasks that all runs share and find the smallest sufficient set.

    Raises:
        UsageError: no run folder, no task in common, or too little forgetting to learn from.
        IntegrityError: records are missing or cannot be paired.
    """
    plans = [_plan(run) for run in runs]
    folders = [RunFolder(run) for run in runs]
    shared, outside = _shared(plans), _excluded(plans)
    looks = [
        look
        for folder, plan in zip(folders, plans, strict=True)
        for look in _looks(folder, plan, shared, outside)
    ]
    if not looks:
        raise UsageError("no run has a scored checkpoint after the start of training")
    names = [name for name in looks[0].pairs if all(name in look.pairs for look in looks)]
    trained = {look.cell for look in looks}
    failed = sum(len(plan.cells) for plan in plans) - len(trained)
    return _measured([run.name for run in runs], looks, names, failed, alpha)


def _plan(run: Path) -> Plan:
    folder = RunFolder(run)
    if not folder.plan.is_file():
        raise UsageError(f"{run} is not a run folder: it has no plan.json")
    return read_json(folder.plan, Plan)


def _shared(plans: Sequence[Plan]) -> list[str]:
    """Retention tasks that all runs hold under the same lock."""
    first = plans[0]
    shared = [
        name
        for name in first.retention
        if all(
            name in plan.retention and plan.inputs.tasks.get(name) == first.inputs.tasks.get(name)
            for plan in plans
        )
    ]
    if not shared:
        raise UsageError("the runs have no retention task in common")
    return shared


def _excluded(plans: Sequence[Plan]) -> dict[str, set[str]]:
    """Items that some cell is not judged on; here no cell is, so that all have the same items."""
    found: dict[str, set[str]] = {}
    for plan in plans:
        for cell in plan.cells:
            for task, items in excluded(plan, cell).items():
                found.setdefault(task, set()).update(items)
    return found


def _looks(
    folder: RunFolder, plan: Plan, shared: Sequence[str], outside: dict[str, set[str]]
) -> Iterator[PairedCheckpoint]:
    """All checkpoints of all cells that were trained to their end."""
    base = _only(columns(folder.base_point(plan.suite.base).records), shared)
    for cell in plan.cells:
        where = folder.cell(cell.id)
        if not where.scorecard.is_file():
            continue
        for scored in read_json(where.scorecard, Scorecard).points:
            if scored.fraction > 0:
                point = where.point(point_name(scored.stage, scored.fraction))
                pairs = pair(base, _only(columns(point.records), shared), outside)
                yield PairedCheckpoint(cell.id, cell.name, scored.fraction, pairs)


def _only(found: Columns, shared: Sequence[str]) -> Columns:
    """The columns of the shared tasks; a label may be `task/filter`."""
    return {label: table for label, table in found.items() if label.split("/")[0] in shared}


def _measured(
    runs: list[str], looks: list[PairedCheckpoint], names: list[str], failed: int, alpha: float
) -> Sensitivity:
    """Statistics of all looks; see the module for what is a look."""
    p, halves = _p_values(looks, names)
    cells = np.unique([look.cell for look in looks], return_inverse=True)[1]
    known, recipes = np.unique([look.recipe for look in looks], return_inverse=True)
    observed, damaged = alarms.crossed(halves, alpha)
    try:
        chosen = alarms.select(observed, damaged, np.tile(recipes, 2), np.tile(cells, 2), alpha)
    except ValueError as error:
        raise UsageError(f"cannot choose tasks: {error}") from error
    late, hurt_cells = alarms.delays(p, np.array([look.fraction for look in looks]), cells, alpha)
    hurt = alarms.alarms(p, np.arange(len(names)), alpha)
    selected = [names[place] for place in chosen.order[: chosen.size]]
    return Sensitivity(
        runs=runs,
        alpha=alpha,
        cells=len(np.unique(cells)),
        failed=failed,
        recipes=[str(name) for name in known],
        checkpoints=len(looks),
        damaged_checkpoints=int(hurt.sum()),
        damaged_cells=hurt_cells,
        observations=int(damaged.sum()),
        whole=chosen.whole,
        whole_error=chosen.whole_error,
        selected=selected,
        tasks=_task_rows(looks, names, observed, damaged, late, chosen, alpha),
        sizes=[
            SizeRow(
                size=size + 1,
                adds=names[chosen.order[size]],
                power=float(chosen.held_out[size]),
                error=float(chosen.held_out_error[size]),
            )
            for size in range(len(names))
        ],
        items=_item_rows(looks, names, hurt),
    )


def _p_values(looks: list[PairedCheckpoint], names: list[str]) -> tuple[Floats, Floats]:
    """p of a loss on all items, (looks, tasks), and on either half, (looks, tasks, 2).

    Pairs are in the order of their documents' hashes and clusters are numbered in that order, so
    even and odd clusters are two halves that no property of the items decides.
    """
    whole = np.ones((len(looks), len(names)))
    halves = np.ones((len(looks), len(names), 2))
    for row, look in enumerate(looks):
        for column, name in enumerate(names):
            one = look.pairs[name]
            lost, side = one.base - one.candidate, one.clusters % 2
            whole[row, column] = alarms.p_of_loss(lost, one.clusters)
            for half in (0, 1):
                inside = side == half
                halves[row, column, half] = alarms.p_of_loss(lost[inside], one.clusters[inside])
    return whole, halves


def _task_rows(
    looks: list[PairedCheckpoint],
    names: list[str],
    observed: Floats,
    damaged: alarms.Bools,
    late: Floats,
    chosen: alarms.Selection,
    alpha: float,
) -> list[TaskRow]:
    """The ranking: most power first, then the earliest, then the clearest signal."""
    power, others = alarms.alone(observed, damaged, alpha)
    first, second = np.split(damaged, 2)
    either = first | second
    rows = []
    for column, name in enumerate(names):
        pairs = [look.pairs[name] for look in looks]
        changes = [_change(one) for one, hurt in zip(pairs, either, strict=True) if hurt]
        rows.append(
            TaskRow(
                task=name,
                axis=pairs[0].axis,
                items=len(pairs[0].base),
                power=float(power[column]),
                delay=float(late[column]),
                drop=float(np.mean([drop for drop, _ in changes])),
                error=float(np.mean([error for _, error in changes])),
                other_alarms=None if np.isnan(others[column]) else float(others[column]),
                place=chosen.order.index(column) + 1,
                selected=chosen.order.index(column) < chosen.size,
            )
        )
    return sorted(rows, key=lambda row: (-row.power, row.delay, -_signal(row), row.task))


def _signal(row: TaskRow) -> float:
    return row.drop / row.error if row.error else 0.0


def _change(one: Pair) -> tuple[float, float]:
    """Chance-rescaled drop and its standard error, clustered."""
    lost = chance_rescaled(one.base, one.chance) - chance_rescaled(one.candidate, one.chance)
    found = clustered_mean(lost, one.clusters)
    return found.mean, found.standard_error


def _item_rows(
    looks: list[PairedCheckpoint], names: list[str], hurt: alarms.Bools
) -> list[ItemRow]:
    """The items that tell damage from none best: lost there, and still elsewhere."""
    rows = []
    for name in names:
        pairs = [look.pairs[name] for look in looks]
        drops = np.array([one.base - one.candidate for one in pairs])
        lost = np.maximum(drops[hurt], 0).mean(axis=0)
        flips = np.abs(drops[~hurt]).mean(axis=0) if not hurt.all() else None
        for place, item in enumerate(pairs[0].items.tolist()):
            rows.append(
                ItemRow(
                    task=name,
                    item_id=item,
                    lost=float(lost[place]),
                    flips=None if flips is None else float(flips[place]),
                )
            )
    rows.sort(key=lambda row: (-(row.lost - (row.flips or 0.0)), row.task, row.item_id))
    return rows[:MOST_ITEMS]
