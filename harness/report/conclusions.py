"""What a comparison shows, in plain sentences that are made from its stored inference.

Pure: takes the table's rows and the evidence of a folder (`verdicts.json`, `methods.json`); every
sentence follows by a fixed rule from intervals, verdicts, paired differences after Holm's
correction and equivalences. Where these show nothing, the sentence says that nothing is shown.
`report/publish.py` puts them between markers into the pages under results/ and into README.md, so
that no claim there is written by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

from retainbench.harness.core.text.formatting import counted, points
from retainbench.harness.report.table.columns import SEVERITY, Table
from retainbench.harness.report.table.evidence import TableEvidence
from retainbench.harness.report.table.model import TableRow, axes_of
from retainbench.harness.report.table.pairs import axis_of, differs

NAMED = 4  # recipes that a sentence names before it only counts
SAME_ANSWER = 0.9
"""Share of the commonest response from which on a recipe counts as giving one answer to all."""
FORM_CHANGED = 0.05
"""From which change in the share of valid answers on the page speaks of their form."""


def conclusions(table: Table, evidence: TableEvidence) -> list[str]:
    """All sentences, target by target; the last one says for what they hold."""
    targets = list(dict.fromkeys(row.target for row in table.rows))
    found: list[str] = []
    for target in targets:
        rows = [row for row in table.rows if row.target == target and row.gain]
        if not rows:
            found.append(f"On {target} no recipe finished all of its seeds.")
            continue
        found += [
            _most_gain(target, rows, evidence),
            _no_gain(rows),
            _lower(rows),
            _form(rows),
            _same_answer(rows),
            _verdicts(rows),
            *_forgetting(rows, evidence),
            *_apart(target, evidence),
        ]
    seeds = {seed for row in table.rows for seed in row.seeds}
    if len(seeds) == 1:
        found.append("One seed: all of this is about these runs, not about the methods.")
    found.append(_swept(evidence))
    return [sentence for sentence in found if sentence]


def short(table: Table, evidence: TableEvidence) -> str:
    """The two sentences for a list of many tables: gains, then verdicts or losses."""
    targets = list(dict.fromkeys(row.target for row in table.rows))
    parts: list[str] = []
    for target in targets:
        rows = [row for row in table.rows if row.target == target and row.gain]
        if rows:
            parts += filter(
                None, [_most_gain(target, rows, evidence), _lower(rows), _same_answer(rows)]
            )
    done = [row for row in table.rows if row.gain]
    harmed = _given("REGRESSION", done, len(targets) > 1)
    if harmed:
        parts.append(f"Regressions: {_listed(harmed)}.")
    elif any(row.verdicts for row in done):
        passed = sum(set(row.verdicts) == {"PASS"} for row in done)
        parts.append(f"No regression is shown; the gate passes {passed} of {len(done)} recipes.")
    return " ".join(parts)


def _swept(evidence: TableEvidence) -> str:
    """Whose options a sweep chose, which looks at the reward and so at the gain."""
    chosen = {one.recipe for one in evidence.recipes.choices} if evidence.recipes else set()
    if not chosen:
        return ""
    return (
        f"A sweep chose options of {counted(len(chosen), 'recipe')} for their reward: what is lost "
        "belongs to these options, and may be less at others."
    )


def _most_gain(target: str, rows: Sequence[TableRow], evidence: TableEvidence) -> str:
    gains = [(row, row.gain) for row in rows if row.gain and row.gain.low > 0]
    if not gains:
        return f"On {target} no gain is shown: no interval is above 0."
    best, gain = max(gains, key=lambda pair: pair[1].value)
    gains_most = "gains most," if len(rows) > 1 else "gains"
    level = f"On {target} {best.recipe} {gains_most} {points(gain)} pp"
    return f"{level}{_compared(best.recipe, target, 'gain', len(rows), evidence)}"


def _compared(recipe: str, target: str, measure: str, recipes: int, evidence: TableEvidence) -> str:
    """How sure it is that the recipe with the largest value is ahead of the others."""
    if recipes == 1:
        return "."
    pairs = [p for p in evidence.pairs if (p.target, p.measure) == (target, measure)]
    own = [p for p in pairs if recipe in (p.first, p.second)]
    if not own:
        return " (by its estimate: pairs of recipes were not compared)."
    others = {p.second if p.first == recipe else p.first: differs(p) for p in own}
    alike = [other for other, differ in others.items() if not differ]
    if not alike:
        every = f"each of the other {len(others)}" if len(others) > 1 else _listed(list(others))
        return f", more than {every}."
    return f"; more is not shown than for {_listed(alike)}."


def _no_gain(rows: Sequence[TableRow]) -> str:
    without = [row.recipe for row in rows if row.gain and row.gain.low <= 0]
    if not without or len(without) == len(rows):
        return ""
    return f"No gain is shown for {_listed(without)}."


def _lower(rows: Sequence[TableRow]) -> str:
    lost = [row.recipe for row in rows if row.gain and row.gain.high < 0]
    return f"The reward is lower than the base's after {_listed(lost)}." if lost else ""


def _form(rows: Sequence[TableRow]) -> str:
    """Shares of valid answers where they changed: a reward can rise by form alone."""
    changed = [
        (row, row.base_valid, row.candidate_valid)
        for row in rows
        if row.base_valid is not None and row.candidate_valid is not None
        if abs(row.candidate_valid - row.base_valid) > FORM_CHANGED
    ]
    if not changed:
        return ""
    first, before, _ = changed[0]
    levels = [f"base {_level(before, first.base_reward)}"]
    levels += [f"{row.recipe} {_level(valid, row.candidate_reward)}" for row, _, valid in changed]
    return (
        "Rewards changed by the form of answers too. Valid answers, and mean reward in "
        f"parentheses: {', '.join(levels)}."
    )


def _same_answer(rows: Sequence[TableRow]) -> str:
    """Recipes that answer nearly every item alike, whose reward shows no skill."""
    alike = [row for row in rows if (row.candidate_commonest or 0.0) >= SAME_ANSWER]
    if not alike:
        return ""
    text = (
        f"Nearly all responses to {rows[0].target} are the same after "
        f"{_listed([row.recipe for row in alike])}: that reward shows no skill."
    )
    if (alike[0].base_commonest or 0.0) >= SAME_ANSWER:
        text += " So are the base's: a gain may be no more than a luckier answer."
    return text


def _level(valid: float, reward: float | None) -> str:
    return f"{100 * valid:.0f} % ({100 * (reward or 0.0):.1f} %)"


def _verdicts(rows: Sequence[TableRow]) -> str:
    parts = []
    for word in SEVERITY:
        found = _given(word, rows, several=False)
        if found:
            parts.append(f"{word} for {_listed(found)}")
    return f"The gate's verdict on retention: {'; '.join(parts)}." if parts else ""


def _forgetting(rows: Sequence[TableRow], evidence: TableEvidence) -> list[str]:
    """One sentence for the recipe that lost most, and one where no loss is shown."""
    found = []
    for axis in axes_of(rows):
        drops = [(row, drop) for row in rows if (drop := row.axis(axis).drop)]
        lost = [pair for pair in drops if pair[1].low > 0]
        if not drops:
            continue
        if not lost:
            found.append(f"On {axis} tasks no loss is shown.")
            continue
        worst, drop = max(lost, key=lambda pair: pair[1].value)
        loses = "loses most," if len(rows) > 1 else "loses"
        level = f"On {axis} tasks {worst.recipe} {loses} {points(drop)} pp"
        found.append(f"{level}{_compared(worst.recipe, rows[0].target, axis, len(rows), evidence)}")
        if len(drops) > 1:
            found[-1] += f" A loss is shown for {len(lost)} of {len(drops)} recipes."
    return found


def _apart(target: str, evidence: TableEvidence) -> list[str]:
    """How many pairs differ and how many are equivalent, measure by measure."""
    pairs = [pair for pair in evidence.pairs if pair.target == target]
    if not pairs:
        return []
    parts = []
    for measure in dict.fromkeys(pair.measure for pair in pairs):
        own = [pair for pair in pairs if pair.measure == measure]
        name = measure if measure == "gain" or measure != axis_of(measure) else f"{measure} drop"
        parts.append(f"{name} {sum(map(differs, own))} ({sum(p.equivalent for p in own)})")
    total = len([pair for pair in pairs if pair.measure == "gain"])
    if total == 1:
        return []  # the sentences on gain and losses say it
    return [
        f"Of {total} pairs of recipes, this many differ after Holm's correction (in parentheses: "
        f"are equivalent within the margin): {', '.join(parts)}."
    ]


def _given(word: str, rows: Sequence[TableRow], several: bool) -> list[str]:
    """Recipes with a verdict, with the target where there are several, and in how many seeds."""
    found = []
    for row in rows:
        count, seeds = row.verdicts.get(word, 0), sum(row.verdicts.values())
        name = f"{row.recipe} on {row.target}" if several else row.recipe
        if count:
            found.append(name if count == seeds else f"{name} ({count} of {seeds} seeds)")
    return found


def _listed(names: Sequence[str]) -> str:
    """`a, b and c`, or the first names and how many more.

    >>> _listed(["a"]), _listed(["a", "b"]), _listed(["a", "b", "c", "d", "e", "f"])
    ('a', 'a and b', 'a, b, c, d and 2 more')
    """
    more = len(names) - NAMED
    shown = list(names[:NAMED]) + ([f"{more} more"] if more > 0 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
