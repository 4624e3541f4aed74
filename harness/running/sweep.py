"""Choose options of every recipe on the validation split, before the cells that are reported.

A suite's `sweep` tries multiples of options (the learning rate, say) of every stage that has them:
one option of one stage after another, with what was chosen before. Each variant is trained with one
seed and judged by its mean reward on the target's validation items; test items are never looked at,
retention items only by `choose: gain_within_margin`. Where the best value is at an edge of its
grid, the grid grows by one more value in that direction, up to `extend` times. Ties go to the
smaller value.

Writes `RUN/sweep/choices.json`; training and judging one variant is running/variants.py. Called by
`retainbench run`; a suite without `sweep` passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import write_json
from retainbench.harness.core.recipes import SweepChoice, SweepChoices, SweepVariant
from retainbench.harness.core.schema import Suite, Sweep
from retainbench.harness.core.stages import Recipe, Stage
from retainbench.harness.models import bases
from retainbench.harness.running import variants
from retainbench.harness.running.context import Context, require_device
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import Cell, Inputs, make_cell
from retainbench.harness.tasks.catalogue import OWN, Catalogue


class Knob(NamedTuple):
    """An option of a stage."""

    stage: int
    option: str


@dataclass
class RecipeSearch:
    """One recipe on its way: knobs are settled in order, each with the choices before it."""

    name: str
    target: str
    recipe: Recipe
    """With what has been chosen so far."""
    knobs: list[Knob]
    sweep: Sweep
    tasks: Catalogue = OWN
    tried: dict[float, SweepVariant] = field(default_factory=dict)
    """By factor of the current knob."""
    extended: int = 0
    choices: list[SweepChoice] = field(default_factory=list)

    @property
    def wanted(self) -> list[float]:
        """Factors that the current knob needs; none once all knobs are settled."""
        if len(self.choices) == len(self.knobs):
            return []
        return [factor for factor in sorted(self.sweep.factors) if factor not in self.tried] or (
            [wider] if (wider := self._wider()) else []
        )

    def variant(self, factor: float) -> Recipe:
        """The recipe with the current knob's option multiplied."""
        return scaled(self.recipe, self.knobs[len(self.choices)], factor, self.tasks)

    def settle(self) -> None:
        """Take the best value of the current knob and go on to the next one, where that is due.

        Raises:
            UsageError: every variant failed.
        """
        while len(self.choices) < len(self.knobs) and not self.wanted:
            knob, factor = self.knobs[len(self.choices)], self._best()
            self.recipe = self.variant(factor)
            self.choices.append(
                SweepChoice(
                    recipe=self.name,
                    target=self.target,
                    stage=knob.stage,
                    option=knob.option,
                    value=self.recipe.stages[knob.stage].options[knob.option],
                    factor=factor,
                    variants=[self.tried[f] for f in sorted(self.tried)],
                )
            )
            self.tried, self.extended = {}, 0

    def note(self, variant: SweepVariant) -> None:
        """Remember what a variant earned."""
        self.extended += variant.factor not in self.sweep.factors
        self.tried[variant.factor] = variant

    def _best(self) -> float:
        """The factor that earned most among those within the margin; else the least excess."""
        scored = {f: found for f, found in self.tried.items() if found.reward is not None}
        if not scored:
            raise UsageError(f"every variant of recipe {self.name!r} failed")
        within = self.sweep.choose == "gain_within_margin"
        excess = {f: max(0.0, found.excess or 0.0) * within for f, found in scored.items()}
        return min(scored, key=lambda f: (excess[f], -(scored[f].reward or 0.0), f))

    def _wider(self) -> float | None:
        """One more value outside the grid where the best one is at its edge; None where it is not.

        The grid goes on by the step between its two outermost values.
        """
        if self.extended == self.sweep.extend:
            return None
        grid, best = sorted(self.tried), self._best()
        if best == grid[-1]:
            return best * (grid[-1] / grid[-2])
        return best * (grid[0] / grid[1]) if best == grid[0] else None


def resolve(
    suite: Suite,
    inputs: Inputs,
    root: Path,
    device: str = "cpu",
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
    tasks: Catalogue = OWN,
) -> Suite:
    """The suite with every recipe's options chosen; the suite itself where it has no sweep.

    Args:
        workers: processes that train variants side by side.
        say: called with a line per variant.

    Raises:
        UsageError: several targets, another device than the run was begun on, or a recipe whose
            every variant failed.
    """
    if suite.sweep is None:
        return suite
    if len(suite.targets) > 1:
        raise UsageError(
            f"suite {suite.name}: `sweep` chooses on one target's validation items; "
            "write one suite per target"
        )
    require_device(root, device)
    base = bases.resolve(suite.base)
    runs = variants.context(suite, suite.sweep, inputs, root, base, device, tasks)
    searches = [_search(suite, suite.sweep, name, tasks) for name in suite.recipes]
    earned: dict[str, SweepVariant] = {}
    done: list[Cell] = []
    while cells := _due(runs, searches, suite.sweep):
        new = list({c.id: c for c in cells.values() if c and c.id not in earned}.values())
        calls = [partial(variants.judge, runs, cell, suite.sweep) for cell in new]
        for number, found in variants.judged(calls, workers, device):
            earned[new[number].id] = found
            result = (
                "failed" if found.reward is None else f"earned {found.reward:.3f} on validation"
            )
            say(f"sweep {len(earned)}: {new[number].name} {result}")
        done += new
        for search in searches:
            for factor in search.wanted:
                cell = cells[search.name, factor]
                found = earned[cell.id] if cell else variants.FAILED
                search.note(found.model_copy(update={"factor": factor}))
            search.settle()
    chosen = [choice for search in searches for choice in search.choices]
    for choice in chosen:
        if choice.edge:
            say(
                f"sweep: the {choice.edge} {choice.option} of {choice.recipe}, stage "
                f"{choice.stage}, did best; a wider grid might do better"
            )
        if suite.sweep.choose == "gain_within_margin" and (choice.taken.excess or 0.0) > 0:
            say(
                f"sweep: no {choice.option} of {choice.recipe}, stage {choice.stage}, keeps its "
                f"drops within the margin; {choice.value:.3g} exceeds it least"
            )
    if variants.scored(suite.sweep):
        variants.store(runs, done)
    write_json(runs.folder.choices, SweepChoices(choices=chosen), checked=True)
    recipes = {search.name: search.recipe for search in searches}
    return suite.model_copy(update={"recipes": recipes, "sweep": None})


def _search(suite: Suite, sweep: Sweep, name: str, tasks: Catalogue) -> RecipeSearch:
    """A recipe with the options of its stages that the sweep names, in order."""
    recipe = suite.recipes[name]
    knobs = [
        Knob(number, option)
        for number, stage in enumerate(recipe.stages)
        for option in sweep.options
        if option in methods.options(stage, tasks.methods).model_dump()
    ]
    return RecipeSearch(name, suite.targets[0], recipe, knobs, sweep, tasks)


def scaled(recipe: Recipe, knob: Knob, factor: float, tasks: Catalogue = OWN) -> Recipe:
    """A recipe with one option of one stage multiplied; a count stays even and at least 2."""
    stage = recipe.stages[knob.stage]
    own = methods.options(stage, tasks.methods).model_dump(mode="json")[knob.option]
    value = max(2, 2 * round(own * factor / 2)) if isinstance(own, int) else own * factor
    changed = stage.model_copy(update={"options": stage.options | {knob.option: value}})
    stages = [*recipe.stages[: knob.stage], changed, *recipe.stages[knob.stage + 1 :]]
    return recipe.model_copy(update={"stages": stages})


def _due(
    runs: Context, searches: Sequence[RecipeSearch], sweep: Sweep
) -> dict[tuple[str, float], Cell | None]:
    """A cell for each recipe and factor that is due; None for a value that the method refuses."""
    suite = runs.plan.suite
    found: dict[tuple[str, float], Cell | None] = {}
    for search in searches:
        for factor in search.wanted:
            recipe, knob = search.variant(factor), search.knobs[len(search.choices)]
            allowed = all(_allowed(stage, search.tasks) for stage in recipe.stages)
            name = variants.named(search.name, recipe, knob.stage, knob.option)
            found[search.name, factor] = (
                make_cell(
                    suite, runs.plan.inputs, search.target, name, recipe, sweep.seed, search.tasks
                )
                if allowed
                else None
            )
    return found


def _allowed(stage: Stage, tasks: Catalogue = OWN) -> bool:
    """Whether a method takes these values; a wider grid may leave what it allows."""
    try:
        methods.options(stage, tasks.methods)
    except ValidationError:
        return False
    return True
