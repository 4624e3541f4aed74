"""The three open questions that this project grew out of, answered from the stored rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results.claims import finding
from results.claims.published import Published, end
from results.claims.stages import stage_changes, stages_text
from retainbench.harness.comparison.factorial import EffectRow
from retainbench.harness.comparison.matched import RatioRow
from retainbench.harness.core.text.formatting import brief, points
from retainbench.harness.report.report import load_table


def section(runs: Mapping[str, Published]) -> list[str]:
    """Markdown lines."""
    return [
        "## Open questions",
        "",
        "**Which methods gain most per drift?** " + _gain_per_drift(runs["quick"]),
        "",
        "**Do rectified losses, KL and low-rank search compose?** "
        + _compose(runs["compositions"]),
        "",
        "**Which retention tests are mandatory?** See [sensitivity](../sensitivity/README.md).",
        "",
        "**Does any of it hold on a language model?** "
        + _language_model(runs["llm-small"], runs["llm-small-es"], runs["llm-small-noise"]),
    ]


def _language_model(runs: Published, evolution: Published, noise: Published) -> str:
    """Gain and drops of every recipe by its own intervals, and what noise of that drift does."""
    if not runs.cards or runs.folder is None:
        return f"Not run yet: `retainbench run {runs.name}`."
    staged = runs.of("sft-grpo", runs.cards[0].target)
    return (
        f"A first look: `{runs.cards[0].base}`, restored from a 4-bit file, on one-word facts "
        f"through its chat template. Gain, and drops in parentheses: {_recipes(runs)}. In "
        f"sft-grpo, {stages_text(*stage_changes(staged))}. Evolution strategies: "
        + (_recipes(evolution) if evolution.cards else f"not run yet (`{evolution.name}`)")
        + ". Noise alone on all weights: "
        + (_by_drift(noise) if noise.cards else f"not run yet (`{noise.name}`)")
        + "."
    )


def _by_drift(runs: Published) -> str:
    """Drops at every checkpoint of the one cell."""
    listed = "; ".join(
        f"drift {100 * point.drift.relative:.1f} %, "
        + ", ".join(f"{change.axis} {points(change.drop)}" for change in point.axes)
        for point in runs.cards[0].points
        if point.drift
    )
    return f"[{runs.name}](../{runs.name}/README.md), {finding.seeds_text(runs)}: {listed}"


def _recipes(runs: Published) -> str:
    """Where it was asked, then gain and drops of every recipe."""
    rows = load_table(runs.folder).rows if runs.folder else []  # of one seed, as its page has them
    listed = "; ".join(
        f"{row.recipe} {points(row.gain)} ("
        + ", ".join(f"{axis} {points(row.axis(axis).drop)}" for axis in runs.axes)
        + ")"
        for row in rows
    )
    return (
        f"[{runs.name}](../{runs.name}/README.md), {end(runs.cards[0]).ledger.samples:,} samples "
        f"each, {finding.seeds_text(runs)}: {listed}"
    )


def _gain_per_drift(runs: Published) -> str:
    rows = [row for row in (runs.methods.rows if runs.methods else []) if row.gain.low > 0]
    ratios = sorted(rows, key=lambda row: -(row.gain_per_drift.value or 0.0))
    if not ratios:
        return "Not run yet: `retainbench run quick`."
    listed = "; ".join(f"{row.recipe} {_ratio(row.gain_per_drift)}" for row in ratios)
    return (
        "Points of gain per percent of relative drift, of the recipes in "
        f"[{runs.name}](../{runs.name}/README.md) whose gain is above 0 "
        f"({finding.seeds_text(runs)}): {listed}. A small drift is not a virtue of its own: "
        "what counts is the drop next to it."
    )


def _ratio(ratio: RatioRow) -> str:
    return f"{brief(ratio.value)} [{brief(ratio.low)}, {brief(ratio.high)}]"


def _compose(runs: Published) -> str:
    """Effects and interactions of a factorial, and whether any interaction is shown."""
    rows = runs.methods.effects if runs.methods else []
    if not rows:
        return (
            f"Not run yet: `retainbench run {runs.name}`; `retainbench plan {runs.name} "
            "--estimate` says what it costs."
        )
    alone = [_effect(rows, names) for names in _changes(rows) if len(names) == 1]
    joint = [names for names in _changes(rows) if len(names) == 2]
    shown = [row for row in rows if len(row.changes) == 2 and row.holm_p < finding.ALPHA]
    verdict = (
        "Not in full, an interaction is shown: "
        + ", ".join(f"{_name(row.changes)} on {_measure(row)}" for row in shown)
        if shown
        else "No interaction is shown, so nothing says that they work against each other"
    )
    return (
        f"{verdict} (Holm's correction over all effects of a measure, "
        f"{finding.seeds_text(runs)}). Effects, mean over all combinations in "
        f"[{runs.name}](../{runs.name}/README.md): {'; '.join(alone)}. Interactions, what both "
        "together bring beyond the sum of both: "
        + "; ".join(_effect(rows, names) for names in joint)
        + "."
    )


def _changes(rows: Sequence[EffectRow]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tuple(row.changes) for row in rows))


def _name(changes: Sequence[str]) -> str:
    return " x ".join(f"`{change}`" for change in changes)


def _measure(row: EffectRow) -> str:
    return "gain" if row.measure == "gain" else f"the drop in {row.measure}"


def _effect(rows: Sequence[EffectRow], changes: tuple[str, ...]) -> str:
    """One effect or interaction on every measure."""
    found = {row.measure: row.difference for row in rows if tuple(row.changes) == changes}
    drops = ", ".join(f"{axis} {points(drop)}" for axis, drop in found.items() if axis != "gain")
    return f"{_name(changes)} gain {points(found['gain'])}, drop {drops}"
