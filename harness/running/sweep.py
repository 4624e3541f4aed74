"""Choose options of every recipe on the validation split, before the cells that are reported.

A suite's `sweep` tries multiples of options (the learning rate, say) of every stage that has them:
one option of one stage after another, with what was chosen before. Each variant is trained with one
seed and judged by its mean reward on the target's validation items; test and retention items are
never looked at. Where the best value is at an edge of its grid, the grid grows by one more value in
that direction, up to `extend` times. Ties go to the smaller value.

Writes `RUN/sweep/cells/` and `RUN/sweep/choices.json`; a finished variant is read back. Called by
`retainbench run`; a suite without `sweep` passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.atomic import explained
from retainbench.harness.core.files.storage import intact, read_json, write_json
from retainbench.harness.core.recipes import SweepChoice, SweepChoices, SweepVariant
from retainbench.harness.core.records import Record, Share
from retainbench.harness.core.schema import Budget, Recipe, Stage, Suite, Sweep
from retainbench.harness.models import bases, loading
from retainbench.harness.models.checked import Base
from retainbench.harness.running import pool
from retainbench.harness.running import train as training
from retainbench.harness.running.context import require_device
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import Cell, Inputs, make_cell
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering import chat
from retainbench.harness.tasks.rendering.chat import Rendering
from retainbench.trainers._shared.contract import Target


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
    tried: dict[float, float | None] = field(default_factory=dict)
    """Factor of the current knob -> reward, None where the variant failed."""
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
                    variants=[
                        SweepVariant(factor=f, reward=self.tried[f]) for f in sorted(self.tried)
                    ],
                )
            )
            self.tried, self.extended = {}, 0

    def note(self, factor: float, reward: float | None) -> None:
        """Remember what a variant earned."""
        self.extended += factor not in self.sweep.factors
        self.tried[factor] = reward

    def _best(self) -> float:
        scored = {factor: reward for factor, reward in self.tried.items() if reward is not None}
        if not scored:
            raise UsageError(f"every variant of recipe {self.name!r} failed")
        return max(scored, key=lambda factor: (scored[factor], -factor))

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
    folder = paths.RunFolder(root / "sweep")
    base = bases.resolve(suite.base)
    rendering = chat.of_folder(base.reader, suite.format)
    searches = [_search(suite, suite.sweep, name, tasks) for name in suite.recipes]
    earned: dict[str, float | None] = {}
    while cells := _variants(suite, suite.sweep, inputs, searches):
        new = list({c.id: c for c in cells.values() if c and c.id not in earned}.values())
        calls = [partial(_earned, cell, folder, base, device, tasks, rendering) for cell in new]
        for number, reward in _all_earned(calls, workers, device):
            earned[new[number].id] = reward
            result = "failed" if reward is None else f"earned {reward:.3f} on validation"
            say(f"sweep {len(earned)}: a variant of {new[number].name} {result}")
        for search in searches:
            for factor in search.wanted:
                cell = cells[search.name, factor]
                search.note(factor, earned[cell.id] if cell else None)
            search.settle()
    chosen = [choice for search in searches for choice in search.choices]
    for choice in chosen:
        if choice.edge:
            say(
                f"sweep: the {choice.edge} {choice.option} of {choice.recipe}, stage "
                f"{choice.stage}, did best; a wider grid might do better"
            )
    write_json(folder.root / "choices.json", SweepChoices(choices=chosen), checked=True)
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


def _variants(
    suite: Suite, sweep: Sweep, inputs: Inputs, searches: Sequence[RecipeSearch]
) -> dict[tuple[str, float], Cell | None]:
    """A cell for each recipe and factor that is due; None for a value that the method refuses."""
    amount = suite.budget.amount * sweep.budget_share
    short = suite.model_copy(
        update={"budget": Budget(unit=suite.budget.unit, amount=amount), "trajectory": [1.0]}
    )
    target = suite.targets[0]
    found: dict[tuple[str, float], Cell | None] = {}
    for search in searches:
        for factor in search.wanted:
            recipe = search.variant(factor)
            allowed = all(_allowed(stage, search.tasks) for stage in recipe.stages)
            found[search.name, factor] = (
                make_cell(short, inputs, target, search.name, recipe, sweep.seed, search.tasks)
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


def _all_earned(
    calls: Sequence[Callable[[], ValidationReward]], workers: int, device: str
) -> Iterator[tuple[int, float | None]]:
    """What variants earned, as they end; None where one failed or its process died."""
    if workers == 1:
        for number, call in enumerate(calls):
            yield number, call().reward
    else:
        for number, earned in pool.side_by_side(calls, workers, device):
            yield number, earned.reward if earned else None


class ValidationReward(Record):
    """`validation.json` of a variant."""

    reward: Share | None


def _earned(
    cell: Cell,
    folder: paths.RunFolder,
    base: Base,
    device: str,
    tasks: Catalogue,
    rendering: Rendering,
) -> ValidationReward:
    """Train a variant and score its end on the validation items."""
    where = folder.cell(cell.id)
    known = where.root / "validation.json"
    if not intact(known):
        with explained(where.root):
            trained = training.train(
                cell, where, base, device=device, tasks=tasks, rendering=rendering
            )
        reward = None
        if trained.status == "done":
            end = where.root / trained.checkpoints[-1].folder
            reward = validation_reward(
                loading.load(end, device=device),
                training.load_target(cell.target, tasks, rendering),
            )
        write_json(known, ValidationReward(reward=reward), checked=True)
    return read_json(known, ValidationReward)


def validation_reward(loaded: loading.Loaded, target: Target) -> float:
    """Mean reward of greedy answers to the target's validation items."""
    from retainbench.harness.scoring.decoding import generate, stop_rule

    tokenizer = loaded.tokenizer
    vocabulary = loaded.model.config.get_text_config().vocab_size
    made = generate(
        loaded.model,
        target.rendering.encode(tokenizer, target.prompts(target.validation)),
        max_new_tokens=target.max_new_tokens,
        stops=stop_rule(target.rendering.ends(tokenizer), vocabulary, target.stop, tokenizer),
    )
    texts = tokenizer.batch_decode(made.tokens, skip_special_tokens=True)
    rewards = [
        target.reward(target.response(text), item)
        for text, item in zip(texts, target.validation, strict=True)
    ]
    return sum(rewards) / len(rewards)
