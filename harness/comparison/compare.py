"""Records of base and candidate -> what changed per task and per axis -> a cell's scorecard.

Reads item records (files, lists, or columns already read), training records and summaries; returns
`TaskChange`, `AxisChange`, `PointScore` and `Scorecard`; writes nothing. Every estimate is paired
by item and carries the two-sided 1 - 2 alpha interval of the policy, the one that decides.
Deterministic: the bootstrap of graded scores is seeded by the task's name.

Called by `retainbench run` for every cell, and by `gate` and `certify`. Leaves out: verdicts on a
release (`gate/decide.py`), methods against each other over seeds and trajectories
(`comparison/methods.py`), several targets one after another (`comparison/sequences.py`), rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from retainbench.harness.comparison import perplexity
from retainbench.harness.comparison.changes import axis_changes, judge_pair
from retainbench.harness.comparison.columns import Records, columns
from retainbench.harness.comparison.noise_floor import Repeats, noise_floor
from retainbench.harness.comparison.pairing import averaged, is_documents, paired_rows
from retainbench.harness.core.changes import AxisChange, Interval, PerplexityChange, TaskChange
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import CheckpointRecord, TrainRecord
from retainbench.harness.core.scorecards import (
    DivergenceSummary,
    DriftSummary,
    PointScore,
    Scorecard,
)

if TYPE_CHECKING:
    from retainbench.harness.core.schema import Policy
    from retainbench.harness.suites.plan import Cell

Excluded = Mapping[str, Set[str]]
"""Task -> ids of items that overlap the training data."""


class Comparison(NamedTuple):
    """Changes between two checkpoints, per task and axis."""

    tasks: list[TaskChange]
    """Retention tasks in the order of the base's records."""
    axes: list[AxisChange]
    """Axes that have a task above chance, in the order of every table."""
    targets: list[TaskChange]
    """Targets; a negative drop is a gain, and there is no verdict."""
    perplexity: list[PerplexityChange]
    """Axes that have documents."""


class TargetResponses(NamedTuple):
    """What the responses to a task have in common."""

    length: float
    """Mean characters."""
    commonest: float
    """Share of the most frequent one."""


class PointInput(NamedTuple):
    """What was measured at one point of a trajectory."""

    checkpoint: CheckpointRecord
    records: Records
    drift: DriftSummary | None = None
    divergence: DivergenceSummary | None = None


def compare(
    base: Records,
    candidate: Records,
    policy: Policy,
    *,
    excluded: Excluded | None = None,
    design: Mapping[str, float] | None = None,
    repeats: Repeats | None = None,
) -> Comparison:
    """Compare two checkpoints on everything that both were scored on.

    Args:
        excluded: contaminated items, left out on both sides.
        design: task -> variance of one paired difference known before the run (for 0/1 items the
            discordance of an A/A run or a pilot); sizes the minimum detectable effect.
        repeats: repeat scorings of the base, for the A/A noise floor next to the flips.

    Raises:
        IntegrityError: the two sides do not hold the same items (rules in `comparison/pairing.py`).
        UsageError: the policy has a margin of 0.
    """
    start = columns(base)
    pairs, documents = [], []
    for label, rows in paired_rows(start, candidate):
        if is_documents(rows.base):
            documents.append(perplexity.judge_documents(label, rows, policy, excluded or {}))
        else:
            pairs.append(averaged(label, rows, excluded or {}))
    noise = noise_floor(start, repeats or {}, excluded)
    judged = [
        judge_pair(one, policy, (design or {}).get(one.task), noise.get(one.label)) for one in pairs
    ]
    kept = [one for one in judged if one.pair.axis != "target"]
    return Comparison(
        tasks=[one.change for one in kept],
        axes=axis_changes(kept, policy),
        targets=[one.change for one in judged if one.pair.axis == "target"],
        perplexity=perplexity.changes(documents, policy),
    )


def point_score(
    base: Records,
    point: PointInput,
    target: str,
    policy: Policy,
    excluded: Excluded | None = None,
    repeats: Repeats | None = None,
    *,
    answers: TargetResponses | None = None,
) -> PointScore:
    """One point of a trajectory against the base: gain on `target`, retention on all other tasks.

    Args:
        answers: the base's to the target, which columns leave out.

    Raises:
        IntegrityError: as `compare`, or the target was not scored.
    """
    found = compare(base, point.records, policy, excluded=excluded, repeats=repeats)
    on_target = [change for change in found.targets if change.task == target]
    if len(on_target) != 1:
        raise IntegrityError(f"{len(on_target)} scored tasks are the target {target!r}, not one")
    change, before, after = on_target[0], answers, answers_to(target, point.records)
    return PointScore(
        stage=point.checkpoint.stage,
        fraction=point.checkpoint.fraction,
        ledger=point.checkpoint.ledger,
        weights_digest=point.checkpoint.weights_digest,
        base_reward=change.base_score,
        candidate_reward=change.candidate_score,
        gain=gain(change),
        base_valid=change.base_valid,
        candidate_valid=change.candidate_valid,
        base_cut=change.base_cut,
        candidate_cut=change.candidate_cut,
        base_length=before.length if before else None,
        candidate_length=after.length if after else None,
        base_commonest=before.commonest if before else None,
        candidate_commonest=after.commonest if after else None,
        repeats=change.repeats,
        tasks=found.tasks,
        axes=found.axes,
        perplexity=found.perplexity,
        drift=point.drift,
        divergence=point.divergence,
    )


def gain(change: TaskChange) -> Interval:
    """The gain on a target: its drop with the sign reversed."""
    drop = change.drop
    return drop.model_copy(
        update={"value": 0.0 - drop.value, "low": 0.0 - drop.high, "high": 0.0 - drop.low}
    )


def scorecard(
    cell: Cell,
    train: TrainRecord,
    base: Records,
    points: Sequence[PointInput],
    policy: Policy,
    *,
    provenance: Mapping[str, str],
    excluded: Excluded | None = None,
    repeats: Repeats | None = None,
) -> Scorecard:
    """Assemble a cell's scorecard; that of a failed cell has its reason and no points.

    Args:
        base: records of the base on the same tasks and target.
        points: what was measured at each checkpoint, in any order.
        repeats: repeat scorings of the base (`noise_floor.stored`).
    """
    done = train.status == "done"
    known = columns(base) if done else {}
    ordered = sorted(points, key=lambda p: (p.checkpoint.stage, p.checkpoint.fraction))
    answers = answers_to(cell.target, base)
    scored = [
        point_score(known, point, cell.target, policy, excluded, repeats, answers=answers)
        for point in ordered
        if done
    ]
    trained = len(cell.recipe.trained)
    if done and not scored:
        raise IntegrityError(f"cell {cell.id} is done but none of its checkpoints was scored")
    return Scorecard(
        cell=cell.id,
        base=cell.base,
        target=cell.target,
        recipe=cell.name,
        method=cell.recipe.method,
        adaptation=cell.recipe.adaptation,
        seed=cell.seed,
        budget=str(cell.budget),
        status=train.status,
        reason=train.reason,
        points=[point for point in scored if point.stage < trained],
        interpolated=[point for point in scored if point.stage >= trained],
        metrics=train.metrics,
        trainable_parameters=train.trainable_parameters,
        total_parameters=train.total_parameters,
        provenance=dict(provenance),
    )


def answers_to(task: str, records: Records) -> TargetResponses | None:
    """Of the responses to a task; None for columns and files of records, which leave them out."""
    if isinstance(records, Mapping | Path):
        return None
    texts = [one.response for one in records if one.task == task and one.response is not None]
    if not texts:
        return None
    most = max(Counter(texts).values())
    return TargetResponses(fmean(map(len, texts)), most / len(texts))
