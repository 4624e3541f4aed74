"""What training a suite's cells will cost, from a few updates of every stage on this machine.

Each stage of each recipe is trained from the base by the code that will train it, for `STEPS`
updates or until the first that ends after `SECONDS`; nothing is saved. Tokens and FLOPs are the
mean of these updates, seconds those of the ones after the first, which has the start in it. The
budget says how many updates there are, and a stage of fewer than `FEW_UPDATES` is marked as in the
table of results. A stage that fails in so few updates (nothing accepted) is named and not counted.
A sweep counts its grid, not the values that it may add at an edge.

Command: `retainbench plan SUITE --estimate`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.records import Ledger
from retainbench.harness.core.schema import Budget, Suite
from retainbench.harness.core.stages import Recipe
from retainbench.harness.models.checked import Base
from retainbench.harness.running.training import jobs
from retainbench.harness.study_design.cost import Cost, total
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import Cell, Plan
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.rendering.chat import Rendering
from retainbench.trainers._shared.budget import ROUNDING
from retainbench.trainers._shared.contract import TrainingError

STEPS = 3
SECONDS = 6.0
"""After this long no further update of a stage begins; every stage makes one."""


class UpdateCost(NamedTuple):
    """One update of a stage."""

    used: float
    """In the unit of the budget."""
    cost: Cost
    probed: int
    """Updates that this is the mean of."""


class StageCost(NamedTuple):
    """A stage of a recipe on a target, in each of its cells."""

    recipe: str
    target: str
    method: str
    update: UpdateCost
    updates: float
    """That its share of the budget pays for; the last one may go over it."""

    @property
    def cost(self) -> Cost:
        """The whole stage."""
        return self.update.cost.times(self.updates)

    @property
    def whole_updates(self) -> int:
        """Updates that it makes: it stops at the first that reaches its share."""
        return math.ceil(self.updates - ROUNDING)


class TrainingCost(NamedTuple):
    """All cells of a plan, and the variants of its sweep."""

    cells: Cost
    variants: Cost
    number_of_variants: int
    stages: list[StageCost]
    """Of the first seed; the others cost alike."""
    unknown: list[str]
    """Why a recipe is not counted, a line each."""


class _EnoughError(Exception):
    """The probe has seen what it needs."""


@dataclass
class _Prober:
    """Trains a few updates of a stage, once for each stage on each target."""

    base: Base
    tasks: Catalogue
    rendering: Rendering
    device: str
    folder: Path
    known: dict[str, UpdateCost | str] = field(default_factory=dict)

    def update(self, cell: Cell, stage: int) -> UpdateCost | str:
        """What one update of a stage spends, or why that is not known."""
        spec = cell.recipe.trained[stage].model_copy(update={"share": 1.0})
        if spec.method == methods.OUTSIDE:
            return "a command of the user's trains; its cost is not known before"
        alone = cell.model_copy(
            update={
                "recipe": Recipe(stages=[spec]),
                "budget": Budget(unit="steps", amount=float(STEPS)),
                "trajectory": [1.0],
            }
        )
        key = f"{spec.target or cell.target} {spec.model_dump_json()}"
        if key not in self.known:
            self.known[key] = self._train(alone, cell.budget.unit)
        return self.known[key]

    def _train(self, cell: Cell, unit: str) -> UpdateCost | str:
        spent: list[Ledger] = []

        def watch(ledger: Ledger) -> None:
            spent.append(ledger)
            if ledger.steps >= STEPS or ledger.seconds >= SECONDS:
                raise _EnoughError

        folder = CellFolder(self.folder / str(len(self.known)))
        job = jobs.make_job(
            cell, 0, self.base.folder, folder, [], self.device, self.tasks, self.rendering
        )
        try:
            method = methods.load(cell.recipe.stages[0].method, self.tasks.methods)
            method.train(replace(job, points=(), updated=watch))
        except TrainingError as error:
            return str(error)
        except _EnoughError:
            pass
        return _mean(spent, unit) if spent else "its method made no update"


def _mean(spent: Sequence[Ledger], unit: str) -> UpdateCost:
    """The mean update of a probe, from what was spent after each."""
    first, last = spent[0], spent[-1]
    later = last.steps - first.steps
    seconds = (last.seconds - first.seconds) / later if later else last.seconds
    cost = Cost(last.forward_tokens / last.steps, last.flops / last.steps, seconds)
    return UpdateCost(last.used(unit) / last.steps, cost, last.steps)


def of_plan(
    plan: Plan, base: Base, tasks: Catalogue, rendering: Rendering, device: str
) -> TrainingCost:
    """Probe the stages of all recipes; seeds cost alike."""
    found: list[Cost] = []
    stages: list[StageCost] = []
    unknown: list[str] = []
    variants, number = Cost(), 0
    with tempfile.TemporaryDirectory(prefix="retainbench-") as folder:
        prober = _Prober(base, tasks, rendering, device, Path(folder))
        for cell in plan.cells:
            probed = _stages(prober, cell)
            if isinstance(probed, str):
                unknown.append(f"{cell.name} on {cell.target} is not counted: {probed}")
                continue
            cost = total([stage.cost for stage in probed])
            found.append(cost)
            if cell.seed == plan.suite.seeds[0]:
                stages += probed
                tried, share = _tried(plan.suite, cell)
                variants, number = variants.plus(cost.times(tried * share)), number + tried
    return TrainingCost(total(found), variants, number, stages, list(dict.fromkeys(unknown)))


def _stages(prober: _Prober, cell: Cell) -> list[StageCost] | str:
    """The stages of a cell, or why one is not known; none without a budget.

    A stage has a share of the budget; what its updates spend says how many there are.
    """
    if not cell.budget.amount:
        return []
    shares = [stage.share for stage in cell.recipe.trained]
    found = []
    for index, spec in enumerate(cell.recipe.trained):
        update = prober.update(cell, index)
        if isinstance(update, str):
            return update
        updates = cell.budget.amount * spec.share / sum(shares) / update.used
        target = spec.target or cell.target
        found.append(StageCost(cell.name, target, spec.method, update, updates))
    return found


def _tried(suite: Suite, cell: Cell) -> tuple[int, float]:
    """Variants of a cell's recipe in the sweep's grid, and the budget of each as a share."""
    if suite.sweep is None:
        return 0, 0.0
    options: Sequence[dict[str, object]] = [stage.options for stage in cell.recipe.trained]
    knobs = sum(name in stage for stage in options for name in suite.sweep.options)
    return knobs * len(suite.sweep.factors), suite.sweep.budget_share
