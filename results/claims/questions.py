"""The three open questions that this project grew out of, answered from the stored rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results.claims import finding
from results.claims.published import Published, end
from results.claims.stages import stage_changes, stages_text
from retainbench.harness.comparison.factorial import EffectRow
from retainbench.harness.comparison.matched import RatioRow
from retainbench.harness.comparison.methods import MethodRow
from retainbench.harness.core.scorecards import DriftSummary, Scorecard
from retainbench.harness.core.text.formatting import NONE, brief, points
from retainbench.harness.core.text.markdown import header, row
from retainbench.harness.report.report import load_table
from retainbench.harness.report.table.model import DriftColumns


def section(runs: Mapping[str, Published]) -> list[str]:
    """Markdown lines."""
    models = [runs[name] for name in ("llm-small", "llm-small-es", "llm-small-noise")]
    return [
        "## Open questions",
        "",
        "### Which methods gain most per drift?",
        "",
        *_gain_per_drift([runs["core"], runs["quick"]]),
        "",
        "### Do rectified losses, KL and low-rank search compose?",
        "",
        *_compose(runs["compositions"]),
        "",
        "### Which retention tests are mandatory?",
        "",
        "See [sensitivity](../sensitivity/README.md).",
        "",
        "### Does any of it hold on a language model?",
        "",
        *_language_model(models),
    ]


def _language_model(suites: Sequence[Published]) -> list[str]:
    """Gain and drops of every recipe, and of noise at every checkpoint."""
    known = [runs for runs in suites if runs.cards]
    unknown = [f"`retainbench run {runs.name}`" for runs in suites if not runs.cards]
    if not known:
        return [f"Not run yet: {', '.join(unknown)}."]
    axes = known[0].axes
    rows = [line for runs in known for line in _recipes(runs)]
    head = ["Suite", "Recipe", "Seeds", "Samples", "Drift", *_measures(axes)]
    staged = [cards for runs in known if (cards := runs.of("sft-grpo", runs.cards[0].target))]
    return [
        f"A first look: `{known[0].cards[0].base}`, restored from a 4-bit file, on one-word facts "
        "through its chat template. `noise` moves all weights at random, as far as ES does and "
        "farther.",
        "",
        *header(head, "llrrr" + "r" * (1 + len(axes))),
        *map(row, rows),
        *(line for cards in staged for line in ("", _stages(cards))),
        *(["", f"Not run yet: {', '.join(unknown)}."] if unknown else []),
    ]


def _stages(cards: Sequence[Scorecard]) -> str:
    return f"In each seed of sft-grpo: {stages_text(*stage_changes(cards))}."


def _measures(axes: Sequence[str]) -> list[str]:
    return ["Gain, pp", *(f"{axis.capitalize()} drop, pp" for axis in axes)]


def _recipes(runs: Published) -> list[list[str]]:
    """A line for each recipe, as the suite's own page has it, or for each checkpoint of noise."""
    name = f"[{runs.name}](../{runs.name}/README.md)"
    [noise] = runs.cards if len(runs.cards) == 1 else [None]
    if noise:
        return [
            [name, noise.recipe, "1", "0", _percent(point.drift), points(point.gain)]
            + [points(change.drop) for change in point.axes]
            for point in noise.points
        ]
    rows = load_table(runs.folder).rows if runs.folder else []
    return [
        [name, one.recipe, str(len(one.seeds)), f"{end(runs.cards[0]).ledger.samples:,}"]
        + [_percent(one.drift), points(one.gain)]
        + [points(one.axis(axis).drop) for axis in runs.axes]
        for one in rows
    ]


def _percent(drift: DriftSummary | DriftColumns | None) -> str:
    return f"{brief(100 * drift.relative)} %" if drift else NONE


def _gain_per_drift(suites: Sequence[Published]) -> list[str]:
    """A suite whose rates a sweep chose and one with other rates: the order may change with them.

    The drops stand next to the ratio, because a small drift is no virtue of its own.
    """
    found = {runs.name: _by_ratio(runs) for runs in suites}
    unknown = [f"`retainbench run {name}`" for name, rows in found.items() if not rows]
    if unknown:
        return [f"Not run yet: {', '.join(unknown)}."]
    names = [[one.recipe for one in rows] for rows in found.values()]
    orders = [[name for name in one if all(name in other for other in names)] for one in names]
    changed = any(order != orders[0] for order in orders)
    axes = suites[0].axes
    return [
        "Points of gain per percent of relative drift, of the recipes whose gain is above 0. A "
        "small drift is not a virtue of its own: what counts is the drop next to it."
        + (" The order differs between the suites: it belongs to the rates as well." * changed),
        "",
        *header(
            ["Suite", "Recipe", "Seeds", "Gain per drift", *_measures(axes)],
            "llrrr" + "r" * len(axes),
        ),
        *(
            row(
                [
                    f"[{runs.name}](../{runs.name}/README.md)",
                    one.recipe,
                    str(len(one.seeds)),
                    _ratio(one.gain_per_drift),
                    *own.get(one.recipe, [NONE] * (1 + len(axes))),
                ]
            )
            for runs in suites
            for own in [_by_recipe(runs)]
            for one in found[runs.name]
        ),
    ]


def _by_recipe(runs: Published) -> dict[str, list[str]]:
    """Gain and drops of every recipe, with the intervals of the suite's own page."""
    rows = load_table(runs.folder).rows if runs.folder else []
    return {
        one.recipe: [points(one.gain), *(points(one.axis(axis).drop) for axis in runs.axes)]
        for one in rows
    }


def _by_ratio(runs: Published) -> list[MethodRow]:
    """The recipes whose gain is shown, from the largest ratio on."""
    rows = [row for row in (runs.methods.rows if runs.methods else []) if row.gain.low > 0]
    return sorted(rows, key=lambda one: -(one.gain_per_drift.value or 0.0))


def _ratio(ratio: RatioRow) -> str:
    return f"{brief(ratio.value)} [{brief(ratio.low)}, {brief(ratio.high)}]"


def _compose(runs: Published) -> list[str]:
    """Effects and interactions of a factorial, and whether any interaction is shown."""
    rows = runs.methods.effects if runs.methods else []
    if not rows:
        return [
            f"Not run yet: `retainbench run {runs.name}`; `retainbench plan {runs.name} "
            "--estimate` says what it costs."
        ]
    shown = [one for one in rows if len(one.changes) == 2 and one.holm_p < finding.ALPHA]
    verdict = (
        "Not in full, an interaction is shown: "
        + ", ".join(f"{_name(one.changes)} on {_measure(one)}" for one in shown)
        if shown
        else "No interaction is shown, so nothing says that they work against each other"
    )
    return [
        f"{verdict} (Holm's correction over all effects of a measure, {finding.seeds_text(runs)}). "
        f"Effects are means over all combinations in [{runs.name}](../{runs.name}/README.md); an "
        "interaction is what both together bring beyond the sum of both.",
        "",
        *header(["Effect or interaction", *_measures(runs.axes)], "lr" + "r" * len(runs.axes)),
        *(row(_effect(rows, names, runs.axes)) for names in sorted(_changes(rows), key=len)),
    ]


def _changes(rows: Sequence[EffectRow]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tuple(row.changes) for row in rows))


def _name(changes: Sequence[str]) -> str:
    return " x ".join(f"`{change}`" for change in changes)


def _measure(row: EffectRow) -> str:
    return "gain" if row.measure == "gain" else f"the drop in {row.measure}"


def _effect(rows: Sequence[EffectRow], changes: tuple[str, ...], axes: Sequence[str]) -> list[str]:
    """One effect or interaction on every measure."""
    found = {one.measure: one.difference for one in rows if tuple(one.changes) == changes}
    return [_name(changes), *(points(found[measure]) for measure in ("gain", *axes))]
