"""What training a suite's cells will cost, from three updates of every stage on this machine.

Each stage of each recipe is trained for `STEPS` updates from the base, in a temporary folder, by
the code that will train it: tokens and FLOPs are their mean, seconds those of the second, which has
neither the start nor a checkpoint in it. The budget says how many updates there are. A stage that
fails in so few updates (nothing accepted, no reward) is named and not counted. A sweep counts its
grid, not the values that it may add at an edge.

Command: `retainbench plan SUITE --estimate`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.schema import Budget, Recipe, Suite
from retainbench.harness.models.checked import Base
from retainbench.harness.running import train as training
from retainbench.harness.study_design.cost import Cost, total
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import Cell, Plan
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.rendering.chat import Rendering

STEPS = 3


class UpdateCost(NamedTuple):
    """One update of a stage."""

    used: float
    """In the unit of the budget."""
    cost: Cost


class TrainingCost(NamedTuple):
    """All cells of a plan, and the variants of its sweep."""

    cells: Cost
    variants: Cost
    number_of_variants: int
    unknown: list[str]
    """Why a recipe is not counted, a line each."""


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
        spec = cell.recipe.trained[stage]
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
        times: list[float] = []
        record = training.train(
            cell,
            CellFolder(self.folder / str(len(self.known))),
            self.base,
            device=self.device,
            progress=lambda _share, _metrics: times.append(time.perf_counter()),
            tasks=self.tasks,
            rendering=self.rendering,
        )
        if record.status == "failed":
            return record.reason or "failed"
        spent = record.checkpoints[-1].ledger
        seconds = times[1] - times[0] if len(times) >= STEPS else spent.seconds / spent.steps
        cost = Cost(spent.forward_tokens / spent.steps, spent.flops / spent.steps, seconds)
        return UpdateCost(spent.used(unit) / spent.steps, cost)


def of_plan(
    plan: Plan, base: Base, tasks: Catalogue, rendering: Rendering, device: str
) -> TrainingCost:
    """Probe the stages of all recipes; seeds cost alike."""
    found: list[Cost] = []
    unknown: dict[str, str] = {}
    variants, number = Cost(), 0
    with tempfile.TemporaryDirectory(prefix="retainbench-") as folder:
        prober = _Prober(base, tasks, rendering, device, Path(folder))
        for cell in plan.cells:
            stages = [_stage(prober, cell, index) for index in range(len(cell.recipe.trained))]
            if reasons := [one for one in stages if isinstance(one, str)]:
                unknown[cell.name] = f"{cell.name} on {cell.target} is not counted: {reasons[0]}"
                continue
            cost = total([one for one in stages if isinstance(one, Cost)])
            found.append(cost)
            if cell.seed == plan.suite.seeds[0]:
                tried, share = _tried(plan.suite, cell)
                variants, number = variants.plus(cost.times(tried * share)), number + tried
    return TrainingCost(total(found), variants, number, list(unknown.values()))


def _stage(prober: _Prober, cell: Cell, stage: int) -> Cost | str:
    """A stage's share of the budget; what its updates spend says how many there are."""
    if not cell.budget.amount:
        return Cost()
    update = prober.update(cell, stage)
    if isinstance(update, str):
        return update
    shares = [one.share for one in cell.recipe.trained]
    amount = cell.budget.amount * shares[stage] / sum(shares)
    return update.cost.times(amount / update.used)


def _tried(suite: Suite, cell: Cell) -> tuple[int, float]:
    """Variants of a cell's recipe in the sweep's grid, and the budget of each as a share."""
    if suite.sweep is None:
        return 0, 0.0
    options: Sequence[dict[str, object]] = [stage.options for stage in cell.recipe.trained]
    knobs = sum(name in stage for stage in options for name in suite.sweep.options)
    return knobs * len(suite.sweep.factors), suite.sweep.budget_share
