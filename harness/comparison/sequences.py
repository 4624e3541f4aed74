"""Runs whose cells learn targets one after another -> continual-learning metrics with intervals.

Reads the plan, scorecards and item records of a run; writes nothing. The matrix R[i][j] is the mean
reward on target j at the end of phase i, b_j that of the base, R*_j that of a cell of the same run
which trained on target j alone, with the same method and options and the whole budget. Metrics are
those of `statistics/methods/continual.py` for every seed, averaged over seeds; intervals are
two-level (seeds and items). Forgetting has none: it is a maximum, which resampling biases upwards.

A phase begins where a stage first trains on a target and ends before the next new target; a stage
that rehearses an old target belongs to the phase that contains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retainbench.harness.comparison.columns import Columns, columns
from retainbench.harness.comparison.pairing import Floats, pair
from retainbench.harness.comparison.seed_tables import over_seeds
from retainbench.harness.core import paths
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.records import Record
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.stages import Stage
from retainbench.harness.statistics.methods.continual import sequence_scores
from retainbench.harness.statistics.methods.seeds import ColumnLayout
from retainbench.harness.suites.plan import Cell, Plan

FEWEST = 2  # targets of a sequence


class SequenceRow(Record):
    """One recipe that learns several targets one after another (METHODS 16), in score points."""

    base: str
    recipe: str
    targets: list[str]
    """In the order in which they are learned."""
    seeds: list[int]
    before: list[float]
    """b_j: the base on each target."""
    scores: list[list[float]]
    """R[i][j]: on target j after phase i, mean over seeds."""
    alone: list[float | None]
    """R*_j: on target j after training on it alone, mean over seeds."""
    accuracy: Interval
    """ACC: mean over targets at the end."""
    backward_transfer: Interval
    """BWT: score at the end minus score when just learned, mean over all but the last target."""
    forward_transfer: Interval
    """FWT: score just before it is learned minus the base's, mean over all but the first."""
    forgetting: float
    """Best earlier score minus score at the end; a maximum, so noise biases it upwards."""
    trace_backward_transfer: float
    """BWT as TRACE divides it: by T with a zero term, that is (T-1)/T of BWT."""
    intransigence: Interval | None
    """R*_j minus score when just learned, mean over targets."""
    intransigence_reason: str | None
    """The reason for a missing value."""


class Phase(NamedTuple):
    """One target and the last stage before the next new one."""

    target: str
    stage: int


class _Seed(NamedTuple):
    """One seed's rewards by item; I items, those of each target joined in the order of learning."""

    before: Floats
    """(I,) of the base."""
    scores: Floats
    """(T, I) after each phase."""
    alone: Floats
    """(I,) after training on the item's target alone; NaN where no cell does."""


def phases(cell: Cell) -> list[Phase]:
    """Targets of a cell in the order of learning, each with its phase's last stage."""
    found: dict[str, int] = {}
    latest = cell.target
    for number, stage in enumerate(cell.recipe.trained):
        target = stage.target or cell.target
        if target not in found:
            latest = target
        found[latest] = number
    return [Phase(target, stage) for target, stage in found.items()]


def sequences(run: Path) -> list[SequenceRow]:
    """One row for each recipe that learns two targets or more, in the plan's order.

    A recipe with a failed seed has no row; `methods.json` names it as absent.

    Raises:
        IntegrityError: records are missing or do not pair.
    """
    folder = paths.RunFolder(run)
    plan = read_json(folder.plan, Plan)
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in plan.cells:
        if len(phases(cell)) >= FEWEST:
            groups.setdefault((cell.name, cell.target), []).append(cell)
    base = columns(folder.base_point(plan.suite.base).records) if groups else {}
    found = (_row(folder, plan, base, cells) for cells in groups.values())
    return [row for row in found if row is not None]


def _row(
    folder: paths.RunFolder, plan: Plan, base: Columns, cells: Sequence[Cell]
) -> SequenceRow | None:
    cards = [read_json(folder.cell(cell.id).scorecard, Scorecard) for cell in cells]
    if any(card.status == "failed" or not card.points for card in cards):
        return None
    order = [phase.target for phase in phases(cells[0])]
    asked = {name: base[name] for name in order}
    pairs = pair(asked, asked)
    place = np.repeat(np.arange(len(order)), [len(pairs[name].base) for name in order])
    clusters = np.array([f"{n} {code}" for n in order for code in pairs[n].clusters.tolist()])
    seeds = [_seed(folder, plan, asked, cell) for cell in cells]
    parts = [_parts(seed, place) for seed in seeds]
    level = 1 - 2 * plan.suite.policy.alpha
    found = {
        name: _interval([part[name] for part in parts], place, clusters, level) for name in parts[0]
    }
    alone = _by_target(np.mean([seed.alone for seed in seeds], axis=0), place)
    missing = [name for name, score in zip(order, alone, strict=True) if np.isnan(score)]
    scores = [[_by_target(row, place) for row in seed.scores] for seed in seeds]
    metrics = [sequence_scores(table) for table in scores]
    found["intransigence"] = None if missing else found["intransigence"]
    values = {
        "base": cells[0].base,
        "recipe": cells[0].name,
        "targets": order,
        "seeds": [cell.seed for cell in cells],
        "before": _by_target(seeds[0].before, place),
        "scores": np.mean(scores, axis=0).tolist(),
        "alone": [None if np.isnan(score) else score for score in alone],
        "forgetting": _mean([one.forgetting for one in metrics]),
        "trace_backward_transfer": _mean([one.trace_backward_transfer for one in metrics]),
        "intransigence_reason": _reason(missing),
    }
    return SequenceRow.model_validate(values | found)


def _seed(folder: paths.RunFolder, plan: Plan, asked: Columns, cell: Cell) -> _Seed:
    """Rewards of one cell after each phase, of its base and of the single-target cells."""
    learned = [_rewards(folder, cell, phase.stage, asked) for phase in phases(cell)]
    before = np.concatenate([one.base for one in pair(asked, asked).values()])
    alone = []
    for target, rows in asked.items():
        other = _alone(plan, cell, target)
        last = None if other is None else len(other.recipe.trained) - 1
        if other is None or last is None or not _is_done(folder, other):
            alone.append(np.full(len(pair({target: rows}, {target: rows})[target].base), np.nan))
        else:
            alone.append(_rewards(folder, other, last, {target: rows}))
    return _Seed(before, np.array(learned), np.concatenate(alone))


def _alone(plan: Plan, cell: Cell, target: str) -> Cell | None:
    """The cell of the same base and seed that learns one target only, as this cell does."""
    stages = [_as_alone(stage, cell.target) for stage in cell.recipe.trained]
    wanted = next(stage for stage in stages if stage.target == target)
    for other in plan.cells:
        if (other.base, other.seed, len(other.recipe.trained)) != (cell.base, cell.seed, 1):
            continue
        if _as_alone(other.recipe.trained[0], other.target) == wanted:
            return other
    return None


def _as_alone(stage: Stage, target: str) -> Stage:
    """A stage with its target written out, as if it had the whole budget."""
    return stage.model_copy(update={"target": stage.target or target, "share": 1.0})


def _is_done(folder: paths.RunFolder, cell: Cell) -> bool:
    return bool(read_json(folder.cell(cell.id).scorecard, Scorecard).points)


def _rewards(folder: paths.RunFolder, cell: Cell, stage: int, asked: Columns) -> Floats:
    """(I,) rewards at the end of a stage, on the items of `asked`."""
    card = read_json(folder.cell(cell.id).scorecard, Scorecard)
    end = [point for point in card.points if point.stage == stage][-1]
    name = paths.point_name(end.stage, end.fraction)
    candidate = columns(folder.cell(cell.id).point(name).records)
    same = {label: rows for label, rows in candidate.items() if label in asked}
    return np.concatenate([one.candidate for one in pair(asked, same).values()])


def _parts(seed: _Seed, place: NDArray[np.intp]) -> dict[str, Floats]:
    """What each item adds to each metric; NaN where its target does not count.

    Args:
        place: (I,) in which phase the item's target is learned.
    """
    item, last = np.arange(len(place)), len(seed.scores) - 1
    learned, final = seed.scores[place, item], seed.scores[-1]
    just_before = np.where(place > 0, seed.scores[place - 1, item], np.nan)
    return {
        "accuracy": final,
        "backward_transfer": np.where(place < last, final - learned, np.nan),
        "forward_transfer": just_before - seed.before,
        "intransigence": seed.alone - learned,
    }


def _interval(
    parts: Sequence[Floats], place: NDArray[np.intp], clusters: NDArray[np.str_], level: float
) -> Interval | None:
    """Mean over targets of the item means, over seeds and items; None without any item."""
    used = np.isfinite(parts[0])
    if not used.any():
        return None
    return over_seeds(np.array(parts)[:, used], ColumnLayout(clusters[used], place[used]), level)


def _by_target(values: Floats, place: NDArray[np.intp]) -> list[float]:
    return [float(np.mean(values[place == n])) for n in range(int(place.max()) + 1)]


def _mean(values: Sequence[float | None]) -> float:
    """Of a metric that every sequence of two targets or more has."""
    return float(np.mean([value for value in values if value is not None]))


def _reason(missing: Sequence[str]) -> str | None:
    if not missing:
        return None
    return f"no cell learns {', '.join(missing)} alone with the same method and options"
