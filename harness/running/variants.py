"""The variants of a sweep: trained, judged on validation items, scored where the sweep asks for it.

They are cells of a run folder of their own, `RUN/sweep`, with the sweep's share of the budget, so a
finished variant is read back like any cell. With `keep: all` that folder holds their scorecards
too, and `retainbench report RUN/sweep` makes their table; the report of RUN shows them as a
frontier. What to try and what to take is running/sweep.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from retainbench.harness.comparison.changes import axis_margin_of
from retainbench.harness.core.files.atomic import explained
from retainbench.harness.core.files.storage import read_json, write_json, write_jsonl
from retainbench.harness.core.names import LONGEST
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.recipes import SweepVariant
from retainbench.harness.core.schema import Budget, Policy, Suite, Sweep
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.stages import Recipe
from retainbench.harness.models.checked import Base
from retainbench.harness.running import pool, reference, validation
from retainbench.harness.running.cell import execute, undamaged
from retainbench.harness.running.context import Context
from retainbench.harness.running.training import train as training
from retainbench.harness.suites.plan import Cell, Inputs, Plan, retention_tasks
from retainbench.harness.tasks.catalogue import OWN, Catalogue

FAILED = SweepVariant(factor=1.0, reward=None)


def context(
    suite: Suite,
    sweep: Sweep,
    inputs: Inputs,
    root: Path,
    base: Base,
    device: str,
    tasks: Catalogue = OWN,
) -> Context:
    """The run of the variants; the base is scored once for it and for the run itself."""
    amount = suite.budget.amount * sweep.budget_share
    changes = {
        "budget": Budget(unit=suite.budget.unit, amount=amount),
        "trajectory": suite.trajectory if suite.checkpoint == "best_validation" else [1.0],
        "seeds": [sweep.seed],
        "sweep": None,
    }
    plan = Plan(
        suite=suite.model_copy(update=changes),
        inputs=inputs,
        retention=retention_tasks(suite),
        cells=[],
    )
    run = RunFolder(root)
    found = Context(plan, run.sweep.root, base, device, (), tasks, run.evaluations)
    if scored(sweep):
        reference.prepare(found)
    return found


def scored(sweep: Sweep) -> bool:
    """Whether variants are scored on the target and the retention tasks."""
    return sweep.keep == "all" or sweep.choose == "gain_within_margin"


def named(recipe: str, changed: Recipe, stage: int, option: str) -> str:
    """A variant's name, no longer than a name may be.

    >>> sft = Recipe.model_validate({"method": "sft", "options": {"learning_rate": 3e-4}})
    >>> named("sft", sft, 0, "learning_rate")
    'sft[learning_rate=0.0003]'
    """
    where = f"{stage}." if len(changed.stages) > 1 else ""
    text = f"[{where}{option}={changed.stages[stage].options[option]:.4g}]"
    return recipe[: LONGEST - len(text)] + text


def judge(run: Context, cell: Cell, sweep: Sweep) -> SweepVariant:
    """Train a variant and judge it, by its scorecard too where variants are scored."""
    card = execute(run, cell) if scored(sweep) else None
    if card and card.status == "failed":
        return FAILED
    with explained(run.folder.cell(cell.id).root):
        reward = undamaged(run, cell, partial(_reward, run, cell))
    excess = _excess(card, run.plan.suite.policy) if card else None
    return SweepVariant(factor=1.0, reward=reward, excess=excess, cell=cell.id if card else None)


def _reward(run: Context, cell: Cell) -> float | None:
    where = run.folder.cell(cell.id)
    trained = training.train(
        cell, where, run.base, device=run.device, tasks=run.tasks, rendering=run.rendering
    )
    return validation.earned(run, cell, trained).reward


def _excess(card: Scorecard, policy: Policy) -> float | None:
    """Largest drop beyond the margin of its axis, score points; None without an axis."""
    axes = card.points[-1].axes
    return max((one.drop.value - axis_margin_of(policy, one.axis) for one in axes), default=None)


def judged(
    calls: Sequence[Callable[[], SweepVariant]], workers: int, device: str
) -> Iterator[tuple[int, SweepVariant]]:
    """What variants earned, as they end; one whose process died has failed."""
    if workers == 1:
        yield from enumerate(call() for call in calls)
        return
    for number, found in pool.side_by_side(calls, workers, device):
        yield number, found or FAILED


def store(run: Context, cells: Sequence[Cell]) -> None:
    """Write plan and scorecards of the variants, which makes their folder a run's."""
    plan = run.plan.model_copy(update={"cells": list(cells)})
    plan = plan.model_copy(update={"suite": _of_variants(plan)})
    write_json(run.folder.plan, plan, checked=True)
    files = [run.folder.cell(cell.id).scorecard for cell in cells]
    cards = [read_json(file, Scorecard) for file in files if file.exists()]
    write_jsonl(run.folder.scorecards, cards, checked=True)


def _of_variants(plan: Plan) -> Suite:
    """The suite with the variants as its recipes."""
    recipes = {cell.name: cell.recipe for cell in plan.cells}
    return plan.suite.model_copy(update={"recipes": recipes})
