"""The figures as Vega-Lite specifications, and their SVG, PNG and PDF files.

Reads the rows of `report_points.py`; `write` puts RUN/figures/<figure>-<target>.{svg,png,pdf}. One
specification serves both: the HTML report embeds it for a mouse, vl-convert draws it for paper, all
offline. Altair and vl-convert are imported when something is drawn. Colour tells recipes apart and
is never alone: shapes, tooltips and the data tables carry the same facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retainbench.harness.records import Scorecard, write_bytes
from retainbench.harness.report_model import AXES, TableRow
from retainbench.harness.report_points import (
    Datum,
    drift_places,
    finished,
    gain_and_retention,
    kl_and_forgetting,
    tasks,
    trajectories,
)

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]

PALETTE = (
    "#3b6fb6", "#d1662b", "#2f8f6b", "#8b5fbf", "#b8902a", "#c2497a", "#4aa3b5", "#7a6a5d",
    "#6b8e23", "#a34a3a",
)  # fmt: skip
PANEL = 230  # pixels of one panel's side


class Figure(NamedTuple):
    """One figure over all targets."""

    key: str
    short: str
    """Name in the navigation."""
    title: str
    caption: str
    columns: dict[str, str]
    """Field -> heading, for the data table."""
    rows: list[Datum]
    draw: Callable[[Sequence[Datum]], alt.TopLevelMixin]

    def of(self, target: str) -> list[Datum]:
        """Rows of one target."""
        return [row for row in self.rows if row["target"] == target]


def figures(rows: Sequence[TableRow], cards: Sequence[Scorecard]) -> list[Figure]:
    """All figures of a run in reading order; one without rows is kept, with an empty list."""
    arms = finished(rows, cards)
    arm = {"target": "Target", "recipe": "Recipe"}
    interval = {"retention": "Retention, pp", "retention_low": "low", "retention_high": "high"}
    along = trajectories(arms)
    return [
        Figure(
            "pareto",
            "Gain and retention",
            "Gain against retention",
            "Each mark is a recipe at the end of its budget; up and right is better, the dashed "
            "line is a base that forgets nothing. Bars are intervals.",
            {**arm, "axis": "Axis", "gain": "Gain, pp", "gain_low": "low", "gain_high": "high"}
            | interval,
            gain_and_retention(rows),
            pareto,
        ),
        Figure(
            "tasks",
            "Tasks",
            "Retention by task",
            "Change of each retention task in percentage points, mean over seeds; negative is "
            "forgetting.",
            {**arm, "axis": "Axis", "task": "Task", "n": "Items"} | interval,
            tasks(arms),
            task_map,
        ),
        Figure(
            "trajectory-gain",
            "Along the gain",
            "Retention along the gain",
            "Scored checkpoints in the order of training, mean over seeds: what each point of gain "
            "cost in retention.",
            {**arm, "axis": "Axis", "budget": "Budget, %", "gain": "Gain, pp"} | interval,
            along,
            retention_by_gain,
        ),
        Figure(
            "trajectory-budget",
            "Along the budget",
            "Retention along the budget",
            "The same checkpoints over the share of the budget that is spent.",
            {**arm, "axis": "Axis", "budget": "Budget, %"} | interval,
            along,
            retention_by_budget,
        ),
        Figure(
            "drift",
            "Drift",
            "Where the weights moved",
            "Share of the squared change by module kind and by layer, in percent of the recipe's "
            "whole change, mean over seeds; the table adds the drift over the module's own norm.",
            {
                **arm,
                "place": "Place",
                "name": "Name",
                "share": "Share of squared change, %",
                "relative": "Relative drift, %",
            },
            drift_places(arms),
            drift_map,
        ),
        Figure(
            "kl",
            "KL",
            "KL to the base against forgetting",
            "Every scored checkpoint of every seed: KL(base || candidate) in nats per token, and "
            "the drop averaged over the axes in percentage points.",
            {
                **arm,
                "seed": "Seed",
                "budget": "Budget, %",
                "prompts": "Prompts",
                "kl": "KL, nats per token",
                "drop": "Mean drop, pp",
            },
            kl_and_forgetting(arms),
            kl_scatter,
        ),
    ]


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
            x=x, y=y, shape=_shapes(), tooltip=_tips("recipe", "adaptation", "gain", "retention")
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
    return _panels(alt.layer(marks), rows, "prompts", ("on the target's prompts",))


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

    text = ("recipe", "adaptation", "name", "task")
    return [
        alt.Tooltip(f"{name}:N") if name in text else alt.Tooltip(f"{name}:Q", format=".3~g")
        for name in fields
    ]


CONFIG: Mapping[str, Any] = {
    "background": "white",
    "font": "Liberation Sans, Helvetica Neue, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": "#9aa3a8", "gridColor": "#e7ebed", "tickColor": "#9aa3a8",
        "labelColor": "#3d474d", "titleColor": "#3d474d", "titleFontWeight": "normal",
        "labelFontSize": 11, "titleFontSize": 11, "labelLimit": 160,
    },
    "header": {"labelColor": "#1d2529", "labelFontSize": 12, "labelFontWeight": 600},
    "title": {"color": "#1d2529", "fontSize": 12, "fontWeight": 600},
    "legend": {
        "orient": "bottom", "columns": 7, "labelColor": "#1d2529", "labelFontSize": 11,
        "titleColor": "#3d474d", "titleFontWeight": "normal", "symbolSize": 80, "labelLimit": 220,
        "symbolOpacity": 1,
    },
    "rule": {"color": "#6b757b"},
    "rect": {"stroke": "white", "strokeWidth": 1},
}  # fmt: skip
"""Look on paper; the report replaces the colours by those of its own light or dark theme."""


def spec(figure: Figure, target: str) -> Spec:
    """Vega-Lite specification of a figure for one target, data inlined."""
    drawn: Spec = figure.draw(figure.of(target)).to_dict()
    drawn["config"] = dict(CONFIG)
    return drawn


def write(drawn: Sequence[Figure], targets: Sequence[str], folder: Path) -> list[Path]:
    """Draw every figure that has rows, per target, as SVG, PNG (2x) and PDF; returns the files."""
    import vl_convert

    files: list[Path] = []
    for figure in drawn:
        for target in targets:
            if not figure.of(target):
                continue
            svg = vl_convert.vegalite_to_svg(spec(figure, target))
            stem = figure.key if len(targets) == 1 else f"{figure.key}-{_file_part(target)}"
            contents = {
                "svg": svg.encode(),
                "png": vl_convert.svg_to_png(svg, scale=2),
                "pdf": vl_convert.svg_to_pdf(svg),
            }
            for suffix, content in contents.items():
                files.append(folder / f"{stem}.{suffix}")
                write_bytes(files[-1], content)
    return files


def _file_part(name: str) -> str:
    """A target's name as part of a file name: letters, digits, dot, dash and underscore."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:80]
