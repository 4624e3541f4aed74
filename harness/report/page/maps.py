"""How the two heat maps are drawn: retention by task, and where the weights moved.

Pure: rows in, Altair chart out; Altair is imported when a chart is drawn. The number is in its
cell, in black or white, whichever has a contrast of 4.5 or more on that cell's colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from retainbench.harness.report.page.charts import axes_in, tips
from retainbench.harness.report.page.points import Datum

if TYPE_CHECKING:
    import altair as alt

WIDE = 14  # columns from which cells are narrow and the maps are one above the other
CELL, NARROW, TALL = 40, 25, 24  # pixels


class Colours(NamedTuple):
    """A scale of colours, and the share of its length from which black gives way to white."""

    scale: alt.Scale
    dark: float


def task_map(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Retention by recipe and task, diverging around zero; bold where the interval excludes 0."""
    import altair as alt

    limit = max([1.0, *_sizes(rows, "retention")])
    colours = ["#b0492f", "#f1efec", "#2f6f8f"]
    scale = alt.Scale(domain=[-limit, 0, limit], range=colours, interpolate="lab")
    title = "change of retention, pp"
    return _heat_maps(rows, "axis", axes_in(rows), "task", "retention", title, Colours(scale, 0.88))


def drift_map(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Share of the squared change by recipe and place, one map per kind of place."""
    import altair as alt

    scale = alt.Scale(range=["#eef2f4", "#7fb0c4", "#1f5673"], zero=True, interpolate="lab")
    order, title = ("module kind", "layer"), "share of the squared change, %"
    return _heat_maps(rows, "place", order, "name", "share", title, Colours(scale, 0.77))


def _heat_maps(
    rows: Sequence[Datum],
    field: str,
    order: Sequence[str],
    column: str,
    value: str,
    title: str,
    colours: Colours,
) -> alt.TopLevelMixin:
    """One heat map per value of `field`."""
    import altair as alt

    names = [name for name in order if any(row[field] == name for row in rows)]
    panels = [[row for row in rows if row[field] == name] for name in names]
    wide = max(len({row[column] for row in panel}) for panel in panels) > WIDE
    colour = alt.Color(f"{value}:Q", scale=colours.scale, title=title)
    white = colours.dark * max([1.0, *_sizes(rows, value)])
    drawn: list[alt.LayerChart] = []
    for name, panel in zip(names, panels, strict=True):
        labels = wide or not drawn  # side by side, only the first map names the recipes
        base = alt.Chart(alt.InlineData(values=panel), title=name).encode(
            x=alt.X(f"{column}:N", title=None, sort=None, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("recipe:N", title=None, sort=None, axis=_left(labels)),
            tooltip=tips("recipe", column, value),
        )
        cells = base.mark_rect().encode(color=colour)
        chart = alt.layer(cells, _texts(base, value, white, small=wide))
        drawn.append(
            chart.properties(width=alt.Step(NARROW if wide else CELL), height=alt.Step(TALL))
        )
    return alt.vconcat(*drawn, spacing=8) if wide else alt.hconcat(*drawn, spacing=12)


def _texts(base: alt.Chart, value: str, white: float, small: bool) -> alt.Chart:
    """The number of each cell."""
    import altair as alt

    sure = f"datum.{value}_low > 0 || datum.{value}_high < 0"  # shares have no limits: never bold
    ink = alt.condition(f"abs(datum.{value}) > {white}", alt.value("white"), alt.value("#000000"))
    weight = alt.ExprRef(f"{sure} ? 'bold' : 'normal'")
    marks = base.mark_text(fontSize=8 if small else 10.5, fontWeight=weight)
    return marks.encode(text=alt.Text(f"{value}:Q", format=".1f"), color=ink)


def _sizes(rows: Sequence[Datum], value: str) -> list[float]:
    return [abs(found) for row in rows if isinstance(found := row[value], int | float)]


def _left(shown: bool) -> alt.Axis:
    import altair as alt

    return alt.Axis(labels=shown, ticks=False, domain=False)
