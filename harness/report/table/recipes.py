"""What each recipe was given, and how changes of recipes combine, as small tables.

Pure: takes `recipes.json` and the rows, returns unescaped texts. Without that file (a folder that
was published before it existed) there is no such table. `combined` takes the effects of
`comparison/factorial.py`, which a suite without combinations does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from retainbench.harness.core.recipes import Recipes, SweepChoice, kl_coefficient
from retainbench.harness.core.stages import INTERPOLATE, Stage
from retainbench.harness.core.text.formatting import NONE, listed, points
from retainbench.harness.report.table.columns import Grid
from retainbench.harness.report.table.model import TableRow

if TYPE_CHECKING:
    from retainbench.harness.comparison.factorial import EffectRow

CAPTION = "What each recipe was given"
HEAD = [
    "Recipe",
    "Stage",
    "Learning rate",
    "Chosen of",
    "Schedule",
    "Batch",
    "KL to base",
    "Budget spent",
]
NOTES = [
    "Chosen of: the values that a sweep tried for one seed, judged by the reward on the target's "
    "validation items; at the edge of its grid, a value outside might do better. KL to base: "
    "weight of the KL to the base in the loss or reward. Budget spent: by the whole recipe, most "
    "of all seeds. All other options: recipes.json.",
]


def grids(given: Recipes | None, rows: Sequence[TableRow]) -> tuple[Grid, ...]:
    """The table as a tuple of one, or nothing."""
    if given is None:
        return ()
    spent: dict[str, float] = {}
    for row in rows:
        if row.budget_spent is not None:
            spent[row.recipe] = max(spent.get(row.recipe, 0.0), row.budget_spent)
    cells = [
        [
            name,
            _method(stage),
            *_options(given.choices, name, number, stage),
            _spent(spent, name, number),
        ]
        for name, recipe in given.recipes.items()
        for number, stage in enumerate(recipe.stages)
    ]
    return (Grid(CAPTION, HEAD, "llrllrrr", cells, NOTES),)


def _method(stage: Stage) -> str:
    """What a stage is, and what it reads or weighs next to its rows; other options have columns.

    >>> from retainbench.harness.core.stages import Anchor, Replay
    >>> held = Anchor(kind="ewc", on="self", strength=10)
    >>> _method(Stage(method="sft", anchor=held, replay=Replay(source="self", share=0.2)))
    'sft, full, replay of self (0.2), ewc on self (10)'
    """
    parts = [stage.method, str(stage.adaptation)]
    if stage.teacher:
        parts.append(f"teacher {stage.teacher}")
    if stage.replay:
        parts.append(f"replay of {stage.replay.source} ({stage.replay.share:g})")
    if stage.anchor and stage.anchor.on:
        parts.append(f"{stage.anchor.kind} on {stage.anchor.on} ({stage.anchor.strength:g})")
    if stage.method == INTERPOLATE:
        parts.append("w " + listed(f"{weight:g}" for weight in stage.options["weights"]))
    return ", ".join(parts)


def _options(choices: Sequence[SweepChoice], recipe: str, number: int, stage: Stage) -> list[str]:
    own = [one for one in choices if (one.recipe, one.stage) == (recipe, number)]
    return [
        _number(stage.options.get("learning_rate")),
        "; ".join(map(chosen, own)) or "not swept",
        _schedule(stage.options),
        _number(stage.options.get("batch_size", stage.options.get("population"))),
        _number(kl_coefficient(stage)),
    ]


def chosen(choice: SweepChoice) -> str:
    """`1e-4, 3e-4, 9e-4 (largest: at the edge)`; the option is named unless it is the usual one."""
    own = choice.value / choice.factor
    tried = listed(_number(own * variant.factor) for variant in choice.variants)
    name = "" if choice.option == "learning_rate" else f"{choice.option} "
    return f"{name}{tried}" + (f" ({choice.edge}: at the edge)" if choice.edge else "")


def _schedule(options: Mapping[str, object]) -> str:
    if "schedule" not in options:
        return NONE
    warm = options.get("warmup")
    return str(options["schedule"]) + (f", warm-up {_number(warm)}" if warm else "")


def _spent(spent: Mapping[str, float], recipe: str, number: int) -> str:
    """On the first line of a recipe alone: stages share the budget."""
    return f"{100 * spent[recipe]:.0f} %" if recipe in spent and number == 0 else ""


def _number(value: object) -> str:
    return NONE if not isinstance(value, (int, float)) else f"{value:.3g}"


def combined(rows: Sequence[EffectRow]) -> list[Grid]:
    """What each change of the recipes does, and what two of them do beyond their sum."""
    return [
        _combined(target, [row for row in rows if row.target == target])
        for target in dict.fromkeys(row.target for row in rows)
    ]


def _combined(target: str, rows: Sequence[EffectRow]) -> Grid:
    measures = list(dict.fromkeys(row.measure for row in rows))
    found = {(tuple(row.changes), row.measure): row for row in rows}
    cells = [
        [" x ".join(changes), *(_effect(found[changes, measure]) for measure in measures)]
        for changes in dict.fromkeys(tuple(row.changes) for row in rows)
    ]
    head = [m.capitalize() if m == "gain" else f"{m.capitalize()} drop" for m in measures]
    note = (
        "A change: the mean of with minus without it, over all recipes that differ by it alone. "
        "Two with x: what both together do beyond the sum of both, 0 if their effects add up. "
        f"Paired on items and seeds, pp, with {100 * rows[0].difference.level:g} % intervals; * "
        "differs from 0 after Holm's correction over the column."
    )
    return Grid(
        f"Changes and how they combine on {target}",
        ["Change", *head],
        "l" + "r" * len(measures),
        cells,
        [note],
    )


def _effect(row: EffectRow) -> str:
    mark = "*" if row.holm_p <= 1 - row.difference.level else ""
    return points(row.difference) + mark
