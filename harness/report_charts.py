"""How each figure is drawn: rows in, Altair chart out.

Pure; Altair is imported when a chart is drawn. Up and right is better wherever there is a better.
Colour tells recipes apart and is never alone: shapes, numbers in the cells, tooltips and the data
tables carry the same facts. Left out: sizes on a screen and dark colours, which the page sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retainbench.harness.report_model import AXES
from retainbench.harness.report_points import Datum

if TYPE_CHECKING:
    import altair as alt

PALETTE = (
    "#3b6fb6", "#d1662b", "#2f8f6b", "#8b5fbf", "#b8902a", "#c2497a", "#4aa3b5", "#7a6a5d",
    "#7d9f2c", "#a34a3a", "#e08a9b", "#6d7fd1", "#4fbf95", "#9c8bb0", "#c9a86a", "#5f93a8",
)  # fmt: skip
PANEL = 230  # pixels of one panel's side


def pareto(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Gain and retention with both intervals, one panel per axis."""
    import altair as alt

    base = alt.Chart().encode(color=_recipes(rows))
    x = alt.X("gain:Q", title="gain, pp")
    y = _retention()
    layers = (
        base.mark_rule(opacity=0.55).encode(
            x=alt.X("gain_low:Q", title="gain, pp"), x2="gain_high:Q", y=y
        ),
        base.mark_rule(opacity=0.55).encode(
            x=x, y=_y("retention_low:Q", "retention, pp"), y2="retention_high:Q"
        ),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=x,
            y=y,
            shape=_shapes(),
            tooltip=_tips("recipe", "adaptation", "gain", "retention", "front"),
        ),
    )
    return _panels(alt.layer(*layers), rows)


def retention_by_gain(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Trajectories in the plane of gain and retention."""
    import altair as alt

    return _panels(_lines(rows, alt.X("gain:Q", title="gain, pp")), rows)


def retention_by_budget(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Retention over the share of the budget."""
    import altair as alt

    return _panels(_lines(rows, alt.X("budget:Q", title="budget spent, %")), rows)


def _lines(rows: Sequence[Datum], x: alt.X) -> alt.LayerChart:
    import altair as alt

    y = _retention()
    base = alt.Chart().encode(x=x, y=y, color=_recipes(rows))
    return alt.layer(
        base.mark_line(strokeWidth=1.8).encode(order="budget:Q"),
        base.mark_point(filled=True, size=36, opacity=1).encode(
            tooltip=_tips("recipe", "budget", "gain", "retention")
        ),
    )


def kl_scatter(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """KL on and off the target against the mean drop."""
    import altair as alt

    marks = (
        alt.Chart()
        .mark_point(filled=True, size=46, opacity=0.75)
        .encode(
            x=alt.X("kl:Q", title="KL, nats per token").scale(type="sqrt").axis(tickCount=5),
            y=_y("drop:Q", "mean drop, pp"),
            color=_recipes(rows),
            tooltip=_tips("recipe", "seed", "budget", "kl", "drop"),
        )
    )
    panels = _panels(alt.layer(marks), rows, "prompts", ("on the target's prompts",))
    return panels.resolve_scale(x="independent")


def drift_map(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Share of the squared change by recipe and place, one panel per kind of place."""
    return _heat_maps(rows, "place", ("module kind", "layer"), "name", "share", _sequential())


def task_map(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Retention by recipe and task, diverging around zero, one panel per axis."""
    import altair as alt

    values = [abs(value) for row in rows if isinstance(value := row["retention"], int | float)]
    limit = max([1.0, *values])
    scale = alt.Scale(
        domain=[-limit, 0, limit], range=["#b0492f", "#f1efec", "#2f6f8f"], interpolate="lab"
    )
    return _heat_maps(rows, "axis", AXES, "task", "retention", scale)


def _sequential() -> alt.Scale:
    import altair as alt

    return alt.Scale(range=["#eef2f4", "#7fb0c4", "#1f5673"], zero=True, interpolate="lab")


def _heat_maps(
    rows: Sequence[Datum],
    field: str,
    order: Sequence[str],
    column: str,
    value: str,
    scale: alt.Scale,
) -> alt.TopLevelMixin:
    """One heat map per value of `field` side by side; only the first names the recipes."""
    import altair as alt

    colour = alt.Color(f"{value}:Q", scale=scale, title=f"{value}, {_UNITS[value]}")
    numbers = [number for row in rows if isinstance(number := row[value], int | float)]
    dark = 0.72 * max((abs(number) for number in numbers), default=1.0)
    ink = alt.condition(f"abs(datum.{value}) > {dark}", alt.value("white"), alt.value("#1d2529"))
    panels: list[alt.LayerChart] = []
    for name in [name for name in order if any(row[field] == name for row in rows)]:
        own = [row for row in rows if row[field] == name]
        base = alt.Chart(alt.InlineData(values=own), title=name).encode(
            x=alt.X(f"{column}:N", title=None, sort=None, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("recipe:N", title=None, sort=None, axis=_left(first=not panels)),
            tooltip=_tips("recipe", column, value),
        )
        text = base.mark_text(fontSize=10).encode(
            text=alt.Text(f"{value}:Q", format=".1f"), color=ink
        )
        both = alt.layer(base.mark_rect().encode(color=colour), text)
        panels.append(both.properties(width=alt.Step(38), height=alt.Step(24)))
    return alt.hconcat(*panels, spacing=12)


def _left(first: bool) -> alt.Axis:
    """Recipes are named once, left of the first panel."""
    import altair as alt

    return alt.Axis(labels=first, ticks=False, domain=False)


_UNITS = {"share": "%", "retention": "pp"}


def _panels(
    chart: alt.LayerChart,
    rows: Sequence[Datum],
    field: str = "axis",
    order: Sequence[str] = AXES,
) -> alt.FacetChart:
    chart = chart.properties(width=PANEL, height=PANEL)
    return _faceted(chart, rows, field, order)


def _faceted(
    chart: alt.LayerChart, rows: Sequence[Datum], field: str, order: Sequence[str]
) -> alt.FacetChart:
    import altair as alt

    present = {row[field] for row in rows}
    columns = len(present) or 1
    header = alt.Header(title=None)
    facet = alt.Facet(f"{field}:N", sort=list(order), header=header)
    return chart.facet(facet, columns=columns, data=alt.InlineData(values=list(rows)))


def _retention() -> alt.Y:
    return _y("retention:Q", "retention, pp")


def _y(field: str, title: str) -> alt.Y:
    """A vertical axis whose grid line at zero stands out."""
    import altair as alt

    at_zero = {"test": "datum.value === 0"}
    axis = alt.Axis(
        gridColor={"condition": {**at_zero, "value": "#6b757b"}, "value": "#e7ebed"},
        gridDash={"condition": {**at_zero, "value": [4, 4]}, "value": []},
        tickCount=6,
    )
    return alt.Y(field, title=title, axis=axis)


def _recipes(rows: Sequence[Datum]) -> alt.Color:
    import altair as alt

    names = list(dict.fromkeys(str(row["recipe"]) for row in rows))
    colours = [PALETTE[n % len(PALETTE)] for n in range(len(names))]
    scale = alt.Scale(domain=names, range=colours)
    return alt.Color("recipe:N", scale=scale, title=None)


def _shapes() -> alt.Shape:
    import altair as alt

    return alt.Shape("adaptation:N", title=None)


def _tips(*fields: str) -> list[alt.Tooltip]:
    import altair as alt

    text = ("recipe", "adaptation", "name", "task", "front")
    return [
        alt.Tooltip(f"{name}:N") if name in text else alt.Tooltip(f"{name}:Q", format=".3~g")
        for name in fields
    ]
