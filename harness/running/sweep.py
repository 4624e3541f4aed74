"""Choose one option per recipe on the validation split, before the cells that are reported.

A suite's `sweep` multiplies an option (the learning rate) of every recipe by its factors, trains
each variant with one seed, and keeps the value with the highest mean reward on the target's
validation items; test and retention items are never looked at. Ties go to the smaller value. In a
recipe of stages the option of every stage that has it is multiplied by the same factor.

Writes `RUN/sweep/cells/` and `RUN/sweep/choices.json`; a finished variant is read back. Called by
`retainbench run`; a suite without `sweep` passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from retainbench.harness.core import paths
from retainbench.harness.core.atomic import explained
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.recipes import Choice, Choices, Variant
from retainbench.harness.core.records import Record, Share
from retainbench.harness.core.schema import Budget, Recipe, Stage, Suite, Sweep
from retainbench.harness.core.storage import intact, read_json, write_json
from retainbench.harness.models import bases, loading
from retainbench.harness.models.checked import Base
from retainbench.harness.running import pool
from retainbench.harness.running import train as training
from retainbench.harness.running.context import require_device
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import Cell, Inputs, make_cell
from retainbench.harness.tasks import chat
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.chat import Rendering
from retainbench.harness.tasks.prompts import STOP, judged
from retainbench.trainers._shared.contract import Target


def resolve(
    suite: Suite,
    inputs: Inputs,
    root: Path,
    device: str = "cpu",
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
    tasks: Catalogue = OWN,
) -> Suite:
    """The suite with every recipe's option chosen; the suite itself where it has no sweep.

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
    cells = _cells(suite, suite.sweep, inputs)
    once = {cell.id: cell for cell in cells.values()}
    earned: dict[str, float | None] = {}
    calls = [
        partial(_earned, cell, folder, base, device, tasks, rendering) for cell in once.values()
    ]
    for number, reward in _all_earned(calls, workers, device):
        cell = list(once.values())[number]
        earned[cell.id] = reward
        result = "failed" if reward is None else f"earned {reward:.3f} on validation"
        say(f"sweep {len(earned)}/{len(once)}: a variant of {cell.name} {result}")
    tried: dict[str, list[Variant]] = {}
    for (name, factor), cell in cells.items():
        tried.setdefault(name, []).append(Variant(factor=factor, reward=earned[cell.id]))
    best = {name: _best(suite, name, variants) for name, variants in tried.items()}
    recipes = {
        name: scaled(suite.recipes[name], suite.sweep.option, factor)
        for name, factor in best.items()
    }
    found = [
        choice
        for name, recipe in recipes.items()
        for choice in _choices(suite, name, recipe, best[name], tried[name])
    ]
    for name, end in dict.fromkeys((one.recipe, one.edge) for one in found if one.edge):
        say(f"sweep: the {end} value of {name} did best; a wider grid might do better")
    write_json(folder.root / "choices.json", Choices(choices=found), checked=True)
    return suite.model_copy(update={"recipes": recipes, "sweep": None})


def scaled(recipe: Recipe, option: str, factor: float) -> Recipe:
    """A recipe with one option multiplied, in every stage whose method has it."""
    stages = [_scale(stage, option, factor) for stage in recipe.stages]
    return recipe.model_copy(update={"stages": stages})


def _scale(stage: Stage, option: str, factor: float) -> Stage:
    complete = methods.options(stage).model_dump(mode="json")
    if option not in complete:
        return stage
    changed = stage.options | {option: complete[option] * factor}
    return stage.model_copy(update={"options": changed})


def _cells(suite: Suite, sweep: Sweep, inputs: Inputs) -> dict[tuple[str, float], Cell]:
    """A cell for each recipe and factor, in order."""
    amount = suite.budget.amount * sweep.budget_share
    short = suite.model_copy(
        update={"budget": Budget(unit=suite.budget.unit, amount=amount), "trajectory": [1.0]}
    )
    return {
        (name, factor): make_cell(
            short,
            inputs,
            suite.targets[0],
            name,
            scaled(recipe, sweep.option, factor),
            sweep.seed,
        )
        for name, recipe in suite.recipes.items()
        for factor in sorted(sweep.factors)
    }


def _best(suite: Suite, name: str, variants: list[Variant]) -> float:
    """The factor that earned most; of equal ones the smallest."""
    scored = [v for v in variants if v.reward is not None]
    if not scored:
        raise UsageError(f"suite {suite.name}: every variant of recipe {name!r} failed")
    return max(scored, key=lambda v: (v.reward or 0.0, -v.factor)).factor


def _choices(
    suite: Suite, name: str, recipe: Recipe, factor: float, variants: list[Variant]
) -> list[Choice]:
    """What was taken, for every stage that has the option."""
    option = suite.sweep.option if suite.sweep else ""
    return [
        Choice(
            recipe=name,
            target=suite.targets[0],
            stage=number,
            option=option,
            value=stage.options[option],
            factor=factor,
            variants=variants,
        )
        for number, stage in enumerate(recipe.stages)
        if option in methods.options(stage).model_dump()
    ]


def _all_earned(
    calls: Sequence[Callable[[], Earned]], workers: int, device: str
) -> Iterator[tuple[int, float | None]]:
    """What variants earned, as they end; None where one failed or its process died."""
    if workers == 1:
        for number, call in enumerate(calls):
            yield number, call().reward
    else:
        for number, earned in pool.side_by_side(calls, workers, device):
            yield number, earned.reward if earned else None


class Earned(Record):
    """`validation.json` of a variant."""

    reward: Share | None


def _earned(
    cell: Cell,
    folder: paths.RunFolder,
    base: Base,
    device: str,
    tasks: Catalogue,
    rendering: Rendering,
) -> Earned:
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
        write_json(known, Earned(reward=reward), checked=True)
    return read_json(known, Earned)


def validation_reward(loaded: loading.Loaded, target: Target) -> float:
    """Mean reward of greedy answers to the target's validation items."""
    from retainbench.harness.scoring.decoding import generate, stop_rule

    tokenizer = loaded.tokenizer
    vocabulary = loaded.model.config.get_text_config().vocab_size
    made = generate(
        loaded.model,
        target.rendering.encode(tokenizer, target.prompts(target.validation)),
        max_new_tokens=target.max_new_tokens,
        stops=stop_rule(target.rendering.ends(tokenizer), vocabulary, [STOP], tokenizer),
    )
    texts = tokenizer.batch_decode(made.tokens, skip_special_tokens=True)
    rewards = [
        target.reward(judged(text), item)
        for text, item in zip(texts, target.validation, strict=True)
    ]
    return sum(rewards) / len(rewards)
