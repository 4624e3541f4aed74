"""`python -m results.sensitivity.build`: which tasks notice damage, whatever did it.

Trains and scores small checkpoints of fruitfly (`checkpoints.py`: six mechanisms of damage, null
updates) into --work, and resumes what is there; about ten minutes of one core. Writes the CSV files
and README.md of this folder, all generated: power of every task at equal size of damage, the
smallest sufficient sets and what they notice of a mechanism that had no part in choosing them, the
correlation of losses within clusters, and the margins that null updates stay within; alarms/ has
the page of `retainbench sensitivity` over the same run. With --page only the page is made again,
from the CSV files.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from results.sensitivity import checkpoints, page
from results.sensitivity.checkpoints import Checkpoint
from results.sensitivity.power import (
    Path as Trajectory,
)
from results.sensitivity.power import (
    choose,
    held_out,
    intra_cluster_correlation,
    power,
    statistics_at,
)
from retainbench.harness.comparison.changes import icc_of
from retainbench.harness.core.axes import DEFAULT
from retainbench.harness.core.changes import Interval, TaskChange
from retainbench.harness.core.files.storage import csv_text, write_text
from retainbench.harness.statistics.paired import Floats, normal_quantile
from retainbench.harness.study_design import sensitivity, sensitivity_page

RESULTS = Path(__file__).resolve().parent
WORK = Path("runs/sensitivity")
SIZES = (0.02, 0.05)
"""Mean chance-rescaled drop over all tasks at which mechanisms are compared, score points."""
DECIDING = 0.05
"""The size at which sets are chosen."""
MEASURES = ("accuracy", "erosion", "perplexity")
LOST_ENOUGH = 0.05
"""Share of lost items from which a checkpoint says something about their correlation."""
Row = dict[str, Any]


def tables(damage: Sequence[Checkpoint], null: Sequence[Checkpoint], work: Path) -> dict[str, Any]:
    """Every table by file stem."""
    return {
        "checkpoints": [_checkpoint_row(one) for one in [*damage, *null]],
        "tasks": _task_rows(damage),
        "sets": _set_rows(damage),
        "correlations": _correlation_rows(damage),
        "margins": [*_null_rows(null), *_repeat_rows(work)],
    }


def _size(one: Checkpoint) -> float:
    drops = [task.rescaled_drop for task in one.found.tasks if task.rescaled_drop is not None]
    return float(np.mean(drops))


def _checkpoint_row(one: Checkpoint) -> Row:
    found: Row = {
        "mechanism": one.mechanism,
        "seed": one.seed,
        "share": one.fraction,
        "drift": one.drift if one.drift is not None else math.nan,
        "size": _size(one),
    }
    for axis in DEFAULT:
        change = next(a for a in one.found.axes if a.axis == axis)
        text = next(p for p in one.found.perplexity if p.axis == axis)
        found |= {
            f"{axis}_drop": change.drop.value,
            f"{axis}_erosion": change.erosion.value if change.erosion else math.nan,
            f"{axis}_nats": text.change.value,
        }
    return found


def _error(interval: Interval) -> float:
    """The standard error behind a symmetric interval; never 0."""
    z = normal_quantile((1 + interval.level) / 2)
    return max((interval.high - interval.low) / 2 / z, 1e-12)


def _measured(one: Checkpoint, measure: str) -> dict[str, tuple[float, float]]:
    """Task -> change and its error, by one measure; tasks that do not have it are absent."""
    if measure == "perplexity":
        tasks = [task for axis in one.found.perplexity for task in axis.tasks]
        return {task.task: (task.change.value, max(task.error, 1e-12)) for task in tasks}
    found = {}
    for task in one.found.tasks:
        value = _accuracy(task) if measure == "accuracy" else _erosion(task)
        if value is not None:
            found[task.task] = value
    return found


def _accuracy(task: TaskChange) -> tuple[float, float] | None:
    if task.rescaled_drop is None or task.rescaled_error is None:
        return None
    return task.rescaled_drop, task.rescaled_error


def _erosion(task: TaskChange) -> tuple[float, float] | None:
    return (task.erosion.value, _error(task.erosion)) if task.erosion else None


def axis_of(damage: Sequence[Checkpoint]) -> dict[str, str]:
    """Task -> axis, tasks with answers first."""
    first = damage[0].found
    with_answers = {task.task: task.axis for task in first.tasks}
    return with_answers | {t.task: p.axis for p in first.perplexity for t in p.tasks}


def trajectories(
    damage: Sequence[Checkpoint], names: Sequence[tuple[str, str]]
) -> dict[str, Trajectory]:
    """Mechanism -> its checkpoints, with the named (task, measure) as columns."""
    found = {}
    for mechanism in dict.fromkeys(one.mechanism for one in damage):
        own = [one for one in damage if one.mechanism == mechanism]
        known = [{m: _measured(one, m) for m in MEASURES} for one in own]
        values = np.array([[row[measure][task] for task, measure in names] for row in known])
        sizes = np.maximum.accumulate([_size(one) for one in own])
        found[mechanism] = Trajectory(sizes, values[..., 0], values[..., 1])
    return found


def _names(damage: Sequence[Checkpoint], measures: Iterable[str]) -> list[tuple[str, str]]:
    return [(task, measure) for measure in measures for task in _measured(damage[0], measure)]


def _at(
    damage: Sequence[Checkpoint], names: list[tuple[str, str]], size: float
) -> dict[str, Floats]:
    """Mechanism -> statistics of the named measures at a size that it reaches."""
    found = {
        mechanism: statistics_at(path, size)
        for mechanism, path in trajectories(damage, names).items()
    }
    return {mechanism: row for mechanism, row in found.items() if row is not None}


def _task_rows(damage: Sequence[Checkpoint]) -> list[Row]:
    """Power of every task by every measure at equal size, per mechanism and in the worst case."""
    names, axes = _names(damage, MEASURES), axis_of(damage)
    rows = []
    for size in SIZES:
        found = _at(damage, names, size)
        for place, (task, measure) in enumerate(names):
            powers = {mechanism: power(float(row[place])) for mechanism, row in found.items()}
            rows.append(
                {
                    "size": size,
                    "axis": axes[task],
                    "task": task,
                    "measure": measure,
                    "worst": min(powers.values()),
                    "worst_by": min(powers, key=lambda name: powers[name]),
                    "mean": float(np.mean(list(powers.values()))),
                    **{f"power_{name}": value for name, value in powers.items()},
                }
            )
    return rows


def _set_rows(damage: Sequence[Checkpoint]) -> list[Row]:
    """The greedy order of an axis' tasks by each measure, and the power on unseen mechanisms."""
    axes = axis_of(damage)
    rows = []
    for measure in MEASURES:
        for axis in DEFAULT:
            names = [name for name in _names(damage, [measure]) if axes[name[0]] == axis]
            found = _at(damage, names, DECIDING)
            chosen, unseen = choose(found), held_out(found)
            for place, index in enumerate(chosen.order):
                rows.append(
                    {
                        "measure": measure,
                        "axis": axis,
                        "place": place + 1,
                        "task": names[index][0],
                        "worst": chosen.worst[place],
                        "needed": place < chosen.size,
                        "unseen_worst": min(unseen.values()),
                        "unseen_worst_by": min(unseen, key=lambda name: unseen[name]),
                    }
                )
    return rows


def _correlation_rows(damage: Sequence[Checkpoint]) -> list[Row]:
    """ICC of lost items per task, over the checkpoints that lost enough of them."""
    rows = []
    for task, first in damage[0].pairs.items():
        found: dict[str, list[float]] = {}
        for one in damage:
            known = one.pairs[task].base > one.pairs[task].candidate
            right = one.pairs[task].base > 0
            if known.mean() < LOST_ENOUGH:
                continue
            icc = intra_cluster_correlation(known[right], one.pairs[task].clusters[right].tolist())
            if icc is not None:
                found.setdefault(one.mechanism, []).append(icc)
        every = [icc for values in found.values() for icc in values]
        if not every:
            continue
        means = {mechanism: float(np.mean(values)) for mechanism, values in found.items()}
        rows.append(
            {
                "task": task,
                "axis": first.axis,
                "clusters": len(np.unique(first.clusters)),
                "items": len(first.base),
                "checkpoints": len(every),
                "median": float(np.median(every)),
                "largest_mean": max(means.values()),
                "by": max(means, key=lambda name: means[name]),
                "planned": icc_of(checkpoints.POLICY, task),
            }
        )
    return rows


def _null_rows(null: Sequence[Checkpoint]) -> list[Row]:
    rows = []
    for one in null:
        for axis in DEFAULT:
            change = next(a for a in one.found.axes if a.axis == axis)
            text = next(p for p in one.found.perplexity if p.axis == axis)
            rows.append(_margin_row(f"null, seed {one.seed}", axis, change.erosion, text.change))
    return rows


def _repeat_rows(work: Path) -> list[Row]:
    rows = []
    for name, found in checkpoints.repeats(work / "null").items():
        texts = {change.axis: change.change for change in found.perplexity}
        for change in found.axes:
            rows.append(
                _margin_row(f"base, {name}", change.axis, change.erosion, texts.get(change.axis))
            )
    return rows


def _margin_row(what: str, axis: str, erosion: Interval | None, text: Interval | None) -> Row:
    row: Row = {"update": what, "axis": axis}
    for name, found in (("erosion", erosion), ("nats", text)):
        row |= {
            name: found.value if found else math.nan,
            f"{name}_high": found.high if found else math.nan,
        }
    return row


def write(found: Mapping[str, Sequence[Row]]) -> None:
    """Every table as CSV, and the page."""
    for name, rows in found.items():
        lines = ([_cell(row.get(key, "")) for key in _keys(rows)] for row in rows)
        write_text(RESULTS / f"{name}.csv", csv_text(_keys(rows), lines, digits=6))
    write_text(RESULTS / "README.md", page.page(page.published(RESULTS)))


def _keys(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if isinstance(value, float) and math.isnan(value) else value


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m results.sensitivity.build")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the runs")
    parser.add_argument("--page", action="store_true", help="only the page, from the CSV files")
    options = parser.parse_args(arguments)
    if options.page:
        write_text(RESULTS / "README.md", page.page(page.published(RESULTS)))
        return
    checkpoints.run(options.work)
    damage, null = (checkpoints.read(options.work / name) for name in ("damage", "null"))
    write(tables(damage, null, options.work))
    alarms = sensitivity.measure([options.work / "damage"])
    sensitivity_page.write(alarms, RESULTS / "alarms")


if __name__ == "__main__":
    main()
