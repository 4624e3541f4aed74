"""A run folder -> per-item tables of every arm (base x target x recipe) over seeds and points.

Reads the plan, scorecards and item records of a run; writes nothing. The tables are the input of
the two-level statistics: gain[S, T, I] on the target's items and, per axis, chance-rescaled
drop[S, T, J] on the items of the tasks that are above chance, all seeds and arms on the same items
in the same order. An arm with a failed or unscored seed has no tables but a reason: an average over
the other seeds is not the method's.
Shapes: S seeds, T checkpoints (the base first), I target items, J retention items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retainbench.harness.comparison.columns import Columns, columns
from retainbench.harness.comparison.pairing import (
    Floats,
    Pair,
    is_documents,
    pair,
    paired_rows,
)
from retainbench.harness.comparison.perplexity import Documents, documents
from retainbench.harness.core import paths
from retainbench.harness.core.axes import ordered
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.scorecards import PointScore, Scorecard
from retainbench.harness.statistics.verdict import at_chance
from retainbench.harness.suites import plan as planning
from retainbench.harness.suites.plan import Cell, Plan


class Items(NamedTuple):
    """The items of one table, in the order of its last axis."""

    clusters: list[str]
    """`task cluster`, so that clusters of different tasks stay apart."""
    tasks: list[str]
    """The stratum of each item: its task."""
    scales: list[float]
    """The largest possible change of each item: 1 / (1 - chance) where it is rescaled, else 1."""


class Arm(NamedTuple):
    """One method on one target."""

    base: str
    target: str
    recipe: str
    seeds: list[int]
    budgets: list[float]
    """Share of the budget spent at each checkpoint, mean over seeds; 0 first, increasing."""
    fractions: list[float]
    """The shares that the checkpoints are named after; 0 first."""
    gain: Floats
    """(S, T, I)"""
    drops: dict[str, Floats]
    """Axis -> (S, T, J); axes without a task above chance are absent."""
    eroded: dict[str, Floats]
    """Axis -> (S, J) chance-rescaled drop at the end of the gold choice's probability at
    temperature 4, on the tasks that have one."""
    read: dict[str, Floats]
    """Axis -> (S, J) rise at the end of the documents' negative log-likelihood, nats per token."""
    points: list[list[PointScore]]
    """(S, T - 1): the scored checkpoints past the base, for drift and KL."""


class Arms(NamedTuple):
    """All complete arms of one base and target, and the reasons for the missing ones."""

    arms: list[Arm]
    absent: dict[str, str]
    """Recipe -> reason."""
    asked: Items
    kept: dict[str, Items]
    """Axis -> its items."""
    sure: dict[str, Items]
    """Axis -> the items of its tasks that have a tempered score."""
    documents: dict[str, Items]
    """Axis -> its documents; nats have no largest change, so the scale is the range that was seen
    over all arms."""


class _Tables(NamedTuple):
    gain: Floats
    drops: dict[str, Floats]
    eroded: dict[str, Floats]
    read: dict[str, Floats]


def load(run: Path) -> dict[tuple[str, str], Arms]:
    """Arms by (base, target), in the plan's order.

    Raises:
        IntegrityError: records are missing or do not pair.
    """
    folder = paths.RunFolder(run)
    plan = read_json(folder.plan, Plan)
    base = columns(folder.base_point(plan.suite.base).records)
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.base, cell.target), []).append(cell)
    return {key: _arms(folder, plan, base, cells) for key, cells in groups.items()}


def _arms(folder: paths.RunFolder, plan: Plan, base: Columns, cells: Sequence[Cell]) -> Arms:
    target = cells[0].target
    start = _only(base, {*plan.retention, target})
    outside = _excluded(plan, cells)
    itself = pair(start, start, outside)
    kept: dict[str, list[str]] = {
        axis: names
        for axis in ordered(one.axis for one in itself.values())
        if (names := _above_chance(itself, axis))
    }
    sure = {
        axis: tempered
        for axis, names in kept.items()
        if (tempered := [name for name in names if itself[name].base_sure is not None])
    }
    read = _documents(start)
    by_recipe: dict[str, list[Cell]] = {}
    for cell in cells:
        by_recipe.setdefault(cell.name, []).append(cell)
    arms: list[Arm] = []
    absent: dict[str, str] = {}
    for name, seeds in by_recipe.items():
        cards = [_card(folder, cell) for cell in seeds]
        if broken := [card.reason for card in cards if card.status == "failed" or not card.points]:
            absent[name] = f"{len(broken)} of {len(seeds)} seeds have no result: {broken[0]}"
            continue
        arms.append(_arm(folder, start, seeds, cards, _Chosen(kept, sure, read), outside))
    asked = _items(itself, [label for label, p in itself.items() if p.axis == "target"])
    everywhere = [axis for axis in sure if all(axis in arm.eroded for arm in arms)]
    return Arms(
        arms,
        absent,
        asked,
        {axis: _items(itself, names) for axis, names in kept.items()},
        {axis: _items(itself, sure[axis]) for axis in everywhere},
        {axis: _documents_of(start, read[axis], axis, arms, outside) for axis in read},
    )


class _Chosen(NamedTuple):
    """Tasks by axis."""

    kept: Mapping[str, Sequence[str]]
    """Above chance."""
    sure: Mapping[str, Sequence[str]]
    """Of these, those with a tempered score."""
    read: Mapping[str, Sequence[str]]
    """Tasks of documents."""


def _documents(base: Columns) -> dict[str, list[str]]:
    """Axis -> tasks of documents."""
    found: dict[str, list[str]] = {}
    for label, rows in base.items():
        if is_documents(rows):
            found.setdefault(str(rows["axis"][0]), []).append(label)
    return found


def _documents_of(
    base: Columns,
    labels: Sequence[str],
    axis: str,
    arms: Sequence[Arm],
    outside: Mapping[str, set[str]],
) -> Items:
    found = {label: _read(label, base, base, outside) for label in labels}
    clusters = [f"{label} {name}" for label, one in found.items() for name in one.clusters]
    names = [label for label, one in found.items() for _ in one.clusters]
    seen = [0.0, *(f(arm.read[axis]) for arm in arms for f in (np.min, np.max))]
    largest = float(max(seen) - min(seen)) or 1.0
    return Items(clusters, names, [largest] * len(names))


def _read(
    label: str, base: Columns, candidate: Columns, outside: Mapping[str, set[str]]
) -> Documents:
    [(_, rows)] = paired_rows({label: base[label]}, {label: candidate[label]})
    return documents(label, rows, outside)


def _excluded(plan: Plan, cells: Sequence[Cell]) -> dict[str, set[str]]:
    """Contaminated items of any cell, so that all arms are compared on the same items."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        for task, ids in planning.excluded(plan, cell).items():
            found.setdefault(task, set()).update(ids)
    return found


def _arm(
    folder: paths.RunFolder,
    base: Columns,
    cells: Sequence[Cell],
    cards: Sequence[Scorecard],
    tasks: _Chosen,
    outside: Mapping[str, set[str]],
) -> Arm:
    aligned = _aligned(cells[0].name, [_points(card) for card in cards])
    pairs = list(zip(cells, cards, aligned, strict=True))
    shares = np.mean([[card.share(one) for one in points] for _, card, points in pairs], axis=0)
    kept_points, longest = _increasing(shares.tolist()), max(map(_points, cards), key=len)
    by_seed = [
        [_tables(folder, base, cell, points[place], tasks, outside) for place in kept_points]
        for cell, _, points in pairs
    ]
    return Arm(
        base=cells[0].base,
        target=cells[0].target,
        recipe=cells[0].name,
        seeds=[cell.seed for cell in cells],
        budgets=[0.0, *shares[kept_points].tolist()],
        fractions=[0.0, *(longest[place].fraction for place in kept_points)],
        gain=_stacked([[one.gain for one in points] for points in by_seed]),
        drops={
            axis: _stacked([[one.drops[axis] for one in points] for points in by_seed])
            for axis in tasks.kept
        },
        eroded={
            axis: np.array([points[-1].eroded[axis] for points in by_seed])
            for axis in tasks.sure
            if all(axis in points[-1].eroded for points in by_seed)
        },
        read={axis: np.array([points[-1].read[axis] for points in by_seed]) for axis in tasks.read},
        points=[[points[place] for place in kept_points] for points in aligned],
    )


def _stacked(values: Sequence[Sequence[Floats]]) -> Floats:
    """(S, T, I) with the base as the first checkpoint, where gain and drop are 0."""
    table = np.array(values)
    return np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)


def _points(card: Scorecard) -> list[PointScore]:
    """Scored points past the base; where two have one share (a stage's end), the later one."""
    last = {point.fraction: point for point in card.points if point.fraction > 0}
    return [last[fraction] for fraction in sorted(last)]


def _aligned(recipe: str, seeds: Sequence[list[PointScore]]) -> list[list[PointScore]]:
    """Points of every seed at the same shares of the budget.

    A seed that was stopped early, at the checkpoint with the best validation reward, keeps that
    checkpoint from there on.

    Raises:
        IntegrityError: seeds were scored at different shares.
    """
    longest = [point.fraction for point in max(seeds, key=len)]
    named = [[point.fraction for point in points] for points in seeds]
    if any(shares != longest[: len(shares)] for shares in named):
        raise IntegrityError(f"{recipe}: seeds were scored at different shares: {named}")
    return [points + points[-1:] * (len(longest) - len(points)) for points in seeds]


def _increasing(shares: Sequence[float]) -> list[int]:
    """Places of the points that differ in spending; of points with equal spending (one step passed
    them together) the last.

    >>> _increasing([0.5, 0.5, 0.7, 1.0])
    [1, 2, 3]
    """
    return [
        place
        for place, share in enumerate(shares)
        if share > 0 and (place + 1 == len(shares) or share < shares[place + 1])
    ]


def _tables(
    folder: paths.RunFolder,
    base: Columns,
    cell: Cell,
    point: PointScore,
    tasks: _Chosen,
    outside: Mapping[str, set[str]],
) -> _Tables:
    name = paths.point_name(point.stage, point.fraction)
    candidate = columns(folder.cell(cell.id).point(name).records)
    pairs = pair(base, _only(candidate, set(base)), outside)
    gains = [p.candidate - p.base for p in pairs.values() if p.axis == "target"]
    drops = {
        axis: np.concatenate([_rescaled(pairs[label]) for label in labels])
        for axis, labels in tasks.kept.items()
    }
    eroded = {
        axis: np.concatenate(tempered)
        for axis, labels in tasks.sure.items()
        if len(tempered := [t for label in labels for t in _tempered(pairs[label])]) == len(labels)
    }
    read = {
        axis: np.concatenate(
            [
                one.candidate - one.base
                for label in labels
                for one in [_read(label, base, candidate, outside)]
            ]
        )
        for axis, labels in tasks.read.items()
    }
    return _Tables(np.concatenate(gains), drops, eroded, read)


def _tempered(one: Pair) -> list[Floats]:
    """Erosion of each item, as a list of one array; empty where a side has no tempered score."""
    if one.base_sure is None or one.candidate_sure is None:
        return []
    return [(one.base_sure.tempered - one.candidate_sure.tempered) / (1 - one.chance)]


def _rescaled(one: Pair) -> Floats:
    drop: Floats = (one.base - one.candidate) / (1 - one.chance)
    return drop


def _only(records: Columns, tasks: set[str]) -> Columns:
    return {k: rows for k, rows in records.items() if k in tasks or k.split("/")[0] in tasks}


def _above_chance(pairs: Mapping[str, Pair], axis: str) -> list[str]:
    on_axis = {label: one for label, one in pairs.items() if one.axis == axis}
    return [k for k, p in on_axis.items() if not at_chance(p.base, p.chance, p.clusters)]


def _items(pairs: Mapping[str, Pair], labels: Sequence[str]) -> Items:
    chosen = [(label, code) for label in labels for code in pairs[label].clusters.tolist()]
    scales = [
        1.0 if pairs[label].axis == "target" else 1 / (1 - chance)
        for label in labels
        for chance in pairs[label].chance.tolist()
    ]
    names = [label for label, _ in chosen]
    return Items([f"{label} {code}" for label, code in chosen], names, scales)


def _card(folder: paths.RunFolder, cell: Cell) -> Scorecard:
    return read_json(folder.cell(cell.id).scorecard, Scorecard)
