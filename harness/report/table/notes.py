"""Footnotes of the standardized table: n, seeds, intervals, what is not comparable, what failed.

Pure; unescaped lines of text, one sentence group each, the same under every format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from retainbench.harness.core.recipes import FEW_UPDATES
from retainbench.harness.core.text.formatting import clipped, counted, listed
from retainbench.harness.report.table.model import TableRow, axes_of


def notes(rows: Sequence[TableRow]) -> list[str]:
    """Footnotes: what the numbers are, n, seeds, intervals, what is not comparable, what failed."""
    done = [row for row in rows if not row.absent]
    return [
        *_scope(rows, done),
        *_meaning(done),
        *_doubts(done),
        *_limits(rows),
        *(
            f"Failed: {row.recipe} on {row.target}, seed {seed}: {clipped(why)}"
            for row in rows
            for seed, why in row.absent.items()
        ),
    ]


def _scope(rows: Sequence[TableRow], done: Sequence[TableRow]) -> list[str]:
    if not done:
        return [f"No recipe finished all of its seeds ({counted(len(rows), 'row')})."]
    found = list(dict.fromkeys(seed for row in done for seed in row.seeds))
    seeds = (
        f"mean over seeds {listed(found)}"
        if len(found) > 1
        else f"seed {listed(found)} only, so intervals are about these runs, not about the methods"
    )
    early = any(row.validation_reward is not None for row in done)
    place = (
        "at its checkpoint with the best reward on validation items, within a budget of"
        if early
        else "at the end of its budget of"
    )
    return [
        f"Base {listed(row.base for row in rows)}; every recipe {place} "
        f"{listed(row.budget for row in rows)}; {seeds}.",
        f"n: {_items(done)}. Brackets: {_intervals(done)}.",
    ]


def _items(done: Sequence[TableRow]) -> str:
    first = done[0]
    axes = (
        f"{axis} {first.axis(axis).items} in {counted(first.axis(axis).tasks or 0, 'task')}"
        for axis in axes_of([first])
        if first.axis(axis).drop
    )
    target = listed(row.gain.n for row in done if row.gain)
    return "; ".join([f"{target} target items", *axes])


def _intervals(done: Sequence[TableRow]) -> str:
    gains = [row.gain for row in done if row.gain]
    drops = [drop for row in done for axis in axes_of([row]) if (drop := row.axis(axis).drop)]
    levels = listed(f"{100 * interval.level:g} %" for interval in [*gains, *drops])
    methods = [listed(interval.method for interval in found) for found in (gains, drops)]
    how = methods[0] if methods[0] == methods[1] else "gain {}, drops {}".format(*methods)
    return f"{levels} confidence intervals ({how})"


def _meaning(done: Sequence[TableRow]) -> list[str]:
    if not done:
        return []
    dtypes = "; ".join(dict.fromkeys(row.drift.dtypes for row in done if row.drift))
    null = any(row.drift and row.drift.over_null is not None for row in done)
    return [
        "Gain: mean reward on the target's test items, candidate minus base. Drop: base minus "
        "candidate on the axis' tasks, mean over tasks, rescaled so that guessing is 0; positive "
        "is forgetting. Both in percentage points (pp). Lost / gained: retention items that "
        "became wrong / right, mean per seed.",
        *_erosion(done),
        *_perplexity(done),
        "Drift: norm of the weight change over the norm of the base"
        + (f" ({dtypes})" if dtypes else "")
        + ("; in parentheses, over that of a random walk of the same length." if null else ".")
        + " KL on / off: KL(base || candidate) in nats per token on the target's prompts / on "
        "retention prompts"
        + (", intervals over prompts" if any(row.kl_off_interval for row in done) else "")
        + ". Cost: computed training FLOPs of one seed.",
        "Updates: of every stage. Samples: completions that updates learned from, as often as they "
        "did. Seconds are in the HTML report and in scorecards.jsonl, because they differ between "
        "two runs of the same plan.",
        *_depth(done),
        *_verdict(done),
    ]


def _erosion(done: Sequence[TableRow]) -> list[str]:
    """What the column is, and which rows are beyond their margin."""
    found = [
        (row, axis, columns)
        for row in done
        for axis, columns in row.axes.items()
        if columns.erosion and columns.erosion_margin is not None
    ]
    if not found:
        return ["Erosion: not measured (no log-likelihoods of choices)."]
    above: dict[str, list[str]] = {}
    for row, axis, columns in found:
        if columns.erosion and columns.erosion.low > (columns.erosion_margin or 0.0):
            above.setdefault(f"{row.recipe} on {row.target}", []).append(axis)
    rows = "; ".join(f"{name} ({', '.join(axes)})" for name, axes in above.items())
    margin = listed(_points(columns.erosion_margin or 0.0) for _, _, columns in found)
    return [
        "Erosion: drop of the gold choice's probability with log-likelihoods divided by 4, "
        "rescaled as drops are, over the tasks with choices, on the axis where it is largest. It "
        "shows confidence that goes before answers do and never changes a verdict. "
        f"Above its margin of {margin}: {rows or 'none'}."
    ]


def _perplexity(done: Sequence[TableRow]) -> list[str]:
    """What the columns of documents are, and which rows are beyond their margin."""
    found = [
        (f"{row.recipe} on {row.target}", axis, one.perplexity, one.perplexity_margin or 0.0)
        for row in done
        for axis, one in row.axes.items()
        if one.perplexity
    ]
    if not found:
        return []
    above: dict[str, list[str]] = {}
    for name, axis, change, margin in found:
        if change.low > margin:
            above.setdefault(name, []).append(axis)
    rows = "; ".join(f"{name} ({', '.join(axes)})" for name, axes in above.items())
    documents = listed(f"{axis} {change.n}" for _, axis, change, _ in found)
    return [
        "Text, nats: by how many nats per token held-out documents became less likely, paired by "
        f"document (documents: {documents}). It sees damage before answers do and changes no "
        "verdict unless the policy makes the documents mandatory. "
        f"Above its margin of {listed(f'{margin:g}' for *_, margin in found)}: {rows or 'none'}."
    ]


OVERSHOT = 0.02
"""Share of the budget by which a row may exceed it without a mark."""
OVERSPENT = f"more than {100 * OVERSHOT:g} % over the budget"


def shallow(row: TableRow) -> bool:
    """Whether a stage of a seed made too few updates to judge the method by; no budget, no mark."""
    few = row.fewest_updates is not None and row.fewest_updates < FEW_UPDATES
    return few and row.budget_spent is not None


def overspent(row: TableRow) -> bool:
    """Whether a seed spent more than the others were allowed."""
    return row.budget_spent is not None and row.budget_spent > 1 + OVERSHOT


def _depth(done: Sequence[TableRow]) -> list[str]:
    """Rows that are not comparable in depth or in cost."""
    few = [f"{row.recipe} ({row.fewest_updates})" for row in done if shallow(row)]
    over = [
        f"{row.recipe} ({100 * (row.budget_spent or 0):.0f} %)" for row in filter(overspent, done)
    ]
    outside = [row.recipe for row in done if "command" in row.method.split("+")]
    return [
        *(
            [
                "Not matched with the other rows: a command of the user's trained "
                f"{listed(outside)}, and no budget stops it. Its cost is what it reports."
            ]
            if outside
            else []
        ),
        *(
            [
                f"* Fewer than {FEW_UPDATES} updates in a stage, which says little about a method: "
                f"{listed(few)}."
            ]
            if few
            else []
        ),
        *([f"* Spent {OVERSPENT}: {listed(over)}."] if over else []),
    ]


def _verdict(done: Sequence[TableRow]) -> list[str]:
    """By what rule the gate decides, and which margins its items can pass."""
    if not any(row.verdicts for row in done):
        return ["The run was not gated: there are no verdicts."]
    mde = max((row.minimum_detectable_effect or 0.0 for row in done), default=0.0)
    level = max(row.gain.level for row in done if row.gain)
    seen = (
        " If nothing is lost, the least sensitive task passes at margins from "
        f"{_points(mde)} on with power 0.8."
        if mde
        else ""
    )
    return [
        "Verdict: on retention alone, by the single tasks and not by the means shown here. PASS: "
        f"with {50 * (1 + level):g} % confidence no task dropped by more than its margin"
        f"{_margins(done)}; REGRESSION: with the same confidence one did; INCONCLUSIVE: neither "
        f"is shown, mostly because there are too few items.{seen}"
    ]


def _margins(done: Sequence[TableRow]) -> str:
    """The margin of most tasks, and the tasks with another one."""
    margins = {task: margin for row in done for task, margin in row.margins.items()}
    if not margins:
        return ""
    usual, _ = Counter(margins.values()).most_common(1)[0]
    others = [
        f"{task.removeprefix('rb_')} {_points(margin)}"
        for task, margin in margins.items()
        if margin != usual
    ]
    return f" ({', '.join([_points(usual), *others])})"


def _points(share: float) -> str:
    return f"{100 * share:.3g} pp"


def _doubts(done: Sequence[TableRow]) -> list[str]:
    """Noise floor, tasks at chance, contaminated items."""
    if not done:
        return []
    lucky = listed(
        name.removeprefix("rb_")
        for row in done
        for axis in axes_of([row])
        for name in row.axis(axis).at_chance
    )
    excluded = max(row.excluded_items or 0 for row in done)
    return [
        *_noise(done),
        *([f"At chance for the base and left out of the axes: {lucky}."] if lucky else []),
        *([f"{excluded} items overlap the training data and are left out."] if excluded else []),
    ]


REPEATS = {
    "repeat": "scored again",
    "batch": "with another batch size",
    "options": "with the answer options rotated by one (0 where the prompt does not show them)",
}
"""How the base was scored once more, by the names of a suite's `noise_floor`."""


def _noise(done: Sequence[TableRow]) -> list[str]:
    """The A/A floor, whether equal settings gave other answers, and which recipes look like it."""
    floors = [row for row in done if row.noise_churn is not None]
    if not floors:
        return ["No A/A run (base against itself): how many flips are noise is not known."]
    churns = {
        name: max(row.noise_churns[name] for row in floors if name in row.noise_churns)
        for name in dict.fromkeys(name for row in floors for name in row.noise_churns)
    }
    repeats = ", ".join(
        f"{_percent(churn)} {REPEATS.get(name, name)}" for name, churn in churns.items()
    )
    soft = max((row.noise_soft or 0.0 for row in floors), default=0.0)
    found = [
        "A/A noise floor, base against base, items whose correctness changed, mean over tasks: "
        f"{repeats}; soft scores changed by {soft:.2g}. Largest churn of a recipe: "
        f"{_percent(max(row.churn or 0.0 for row in floors))}."
    ]
    if churns.get("repeat"):
        found.append(
            "Scored twice in the same way, the base gave other answers: not deterministic."
        )
    several = len({row.target for row in done}) > 1
    quiet = [
        f"{row.recipe} on {row.target}" if several else row.recipe
        for row in floors
        if row.tasks_above_noise == 0
    ]
    if quiet:
        found.append(
            "Not shown to change more items of any task than the A/A run does (sign test; over a "
            "floor of 0 it takes five flips in one task, so this does not show that nothing was "
            f"lost): {listed(quiet)}."
        )
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _limits(rows: Sequence[TableRow]) -> list[str]:
    apart: list[str] = []
    if len({row.target for row in rows}) > 1:
        apart.append("gains on different targets")
    if len({row.budget for row in rows}) > 1:
        apart.append("rows with different budgets")
    if len({row.base for row in rows}) > 1:
        apart.append("rows of different bases")
    return [f"Not comparable: {', '.join(apart)}."] if apart else []
