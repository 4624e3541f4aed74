"""How the figures with axes are drawn: rows in, Altair chart out. Heat maps: `report/page/maps.py`.

Pure; Altair is imported when a chart is drawn. Up and right is better in every figure.
Colour tells recipes apart and is never alone: names next to marks, shapes, tooltips and the data
tables carry the same facts. Left out: sizes on a screen and dark colours, which the page sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from retainbench.harness.core.axes import DEFAULT, ordered
from retainbench.harness.report.page.labels import LabelBox, domain, labelled
from retainbench.harness.report.page.points import Datum

if TYPE_CHECKING:
    import altair as alt

PALETTE = (
    "#3b6fb6", "#d1662b", "#2f8f6b", "#8b5fbf", "#a9811d", "#c2497a", "#3f98aa", "#7d6d60",
    "#76972a", "#b3513f", "#cf6f86", "#6d7fd1", "#2f9f78", "#8c79a6", "#a5843f", "#5f93a8",
)  # fmt: skip
"""Each with a contrast of 3 or more on white and on the report's dark page."""
PANEL = 270  # pixels of one panel's side
ROOM = 0.15  # of the axis of gains, right of the largest one, for names
SMALL = (150, 120)  # width and height of one of many panels
INK, PAPER = "#1d2529", "#ffffff"
RETENTION = "change of retention, pp"


def pareto(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Gain and retention with both intervals, one panel per axis, names next to the marks."""
    import altair as alt

    across = domain(_numbers(rows, "gain", "gain_low", "gain_high"), ROOM)
    up = domain(_numbers(rows, "retention", "retention_low", "retention_high"))
    swept = [row for row in rows if "value" in row]
    chosen = _named([row for row in rows if "value" not in row], across, up)
    rows = [*chosen, *swept]
    every = alt.Chart().encode(color=_recipes(rows))
    base = every.transform_filter("!datum.value") if swept else every
    x, y = _x("gain:Q", across), _y("retention:Q", RETENTION, up)
    along = base.mark_rule(opacity=0.5).encode(x=_x("gain_low:Q", across), x2="gain_high:Q", y=y)
    upright = base.mark_rule(opacity=0.5).encode(
        x=x, y=_y("retention_low:Q", RETENTION, up), y2="retention_high:Q"
    )
    marks = base.mark_point(filled=False, size=80, strokeWidth=2, opacity=1).encode(
        x=x,
        y=y,
        shape=_shapes(),
        fill=_recipes(rows, "Fill"),
        fillOpacity=alt.condition("datum.front === 'no'", alt.value(0), alt.value(1)),
        tooltip=tips("recipe", "adaptation", "gain", "retention", "front"),
    )
    dots = every.transform_filter("datum.value").mark_point(filled=True, size=14, opacity=0.7)
    dots = dots.encode(x=x, y=y, tooltip=tips("recipe", "value", "gain", "retention"))
    layers = (along, upright, *([dots] if swept else []), marks, *_labels(x, y))
    return _panels(_highlit(*layers), rows)


def retention_by_gain(rows: Sequence[Datum], order: str = "budget") -> alt.TopLevelMixin:
    """Lines in the plane of gain and retention, one panel per axis.

    Args:
        order: the field whose order joins the points of a recipe.
    """
    import altair as alt

    across = domain(_numbers(rows, "gain"), ROOM)
    up = domain(_numbers(rows, "retention"))
    rows = _named(rows, across, up, ends=True)
    x, y = _x("gain:Q", across), _y("retention:Q", RETENTION, up)
    base = alt.Chart().encode(x=x, y=y, color=_recipes(rows))
    lines = base.mark_line(strokeWidth=1.8).encode(order=f"{order}:Q")
    marks = base.mark_point(filled=True, size=36, opacity=1).encode(
        tooltip=tips("recipe", order, "gain", "retention")
    )
    return _panels(_highlit(lines, marks, *_labels(x, y)), rows)


def retention_by_budget(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Retention over the share of the budget: one panel per recipe, one line per axis."""
    import altair as alt

    up = domain(_numbers(rows, "retention", "retention_low", "retention_high"))
    names = axes_in(rows)
    places = ordered((*DEFAULT, *names))  # the default axes have the same colours everywhere
    colours = [PALETTE[places.index(name)] for name in names]
    scale = alt.Scale(domain=names, range=colours)
    x = alt.X("budget:Q", title="budget spent, %").axis(values=[0, 50, 100])
    base = alt.Chart().encode(x=x, color=alt.Color("axis:N", scale=scale, title=None))
    limits = {"y": _y("retention_low:Q", RETENTION, up), "y2": "retention_high:Q"}
    y = _y("retention:Q", RETENTION, up)
    marks = base.mark_point(filled=True, size=24, opacity=1).encode(
        y=y,
        shape=alt.Shape("axis:N", scale=alt.Scale(domain=names), title=None),
        tooltip=tips("recipe", "axis", "budget", "retention", "retention_low", "retention_high"),
    )
    layers = (
        base.mark_area(opacity=0.16).encode(**limits),
        base.mark_line(strokeWidth=1.8).encode(y=y),
        marks,
    )
    recipes = list(dict.fromkeys(str(row["recipe"]) for row in rows))
    chart = alt.layer(*layers).properties(width=SMALL[0], height=SMALL[1])
    return _faceted(chart, rows, "recipe", recipes, columns=5)


def axes_in(rows: Sequence[Datum]) -> list[str]:
    """The axes of a figure's rows, in the order of every table."""
    return list(ordered(str(row["axis"]) for row in rows))


def _numbers(rows: Sequence[Datum], *fields: str) -> Iterator[float]:
    values = (row.get(field) for row in rows for field in fields)
    return (value for value in values if isinstance(value, int | float))


def _named(
    rows: Sequence[Datum],
    across: tuple[float, float],
    up: tuple[float, float],
    ends: bool = False,
) -> list[Datum]:
    """Rows with the places of their labels; with `ends`, only the last row of a recipe has one."""

    def place(row: Datum) -> tuple[float, float]:
        (left, right), (bottom, top) = across, up
        gain, kept = _numbers([row], "gain", "retention")
        return PANEL * (gain - left) / (right - left), PANEL * (top - kept) / (top - bottom)

    found: list[Datum] = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        panel = [row for row in rows if row["axis"] == axis]
        last = {row["recipe"]: n for n, row in enumerate(panel)}
        wanted = list(last.values()) if ends else range(len(panel))
        found += labelled(panel, "recipe", place, LabelBox(0, 0, PANEL, PANEL), wanted)
    return found


def _labels(x: alt.X, y: alt.Y) -> tuple[alt.Chart, alt.Chart]:
    """Names of recipes at the places that `report/page/labels.py` found, over a halo."""
    import altair as alt

    base = alt.Chart().encode(x=x, y=y, text="label:N").transform_filter("datum.label")
    marks = (
        base.mark_text(
            dx=alt.ExprRef("datum.label_x"),
            dy=alt.ExprRef("datum.label_y"),
            align=alt.ExprRef("datum.label_side"),
            baseline="middle",
            fontSize=10,
            color=INK,
            **halo,
        )
        for halo in ({"stroke": PAPER, "strokeWidth": 3, "strokeOpacity": 0.8}, {})
    )
    return next(marks), next(marks)


def _highlit(*layers: alt.Chart) -> alt.LayerChart:
    """Layers in which a click on a name in the legend leaves that recipe and fades the others."""
    import altair as alt

    picked = alt.selection_point(fields=["recipe"], bind="legend", name="picked", toggle="true")
    faded = [
        layer.encode(opacity=alt.condition(picked, _opacity(layer), alt.value(0.06)))
        for layer in layers
    ]
    return alt.layer(faded[0].add_params(picked), *faded[1:])


def _opacity(layer: alt.Chart) -> alt.Value:
    import altair as alt

    own = layer.mark.opacity
    return alt.value(1 if own is alt.Undefined else own)


def kl_scatter(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """KL on and off the target against the mean drop; a thin line joins the points of a cell."""
    import altair as alt

    x = alt.X("kl:Q", title="KL to the base, nats per token").scale(type="sqrt").axis(tickCount=5)
    base = alt.Chart().encode(x=x, y=_y("drop:Q", "mean drop, pp"), color=_recipes(rows))
    lines = base.mark_line(strokeWidth=1, opacity=0.5).encode(order="budget:Q", detail="seed:N")
    marks = base.mark_point(filled=True, size=46, opacity=0.8).encode(
        tooltip=tips("recipe", "seed", "budget", "kl", "drop")
    )
    panels = _panels(_highlit(lines, marks), rows, "prompts", ("on the target's prompts",))
    return panels.resolve_scale(x="independent")


def _panels(
    chart: alt.LayerChart,
    rows: Sequence[Datum],
    field: str = "axis",
    order: Sequence[str] = (),
) -> alt.FacetChart:
    chart = chart.properties(width=PANEL, height=PANEL)
    return _faceted(chart, rows, field, order or axes_in(rows), columns=3)


def _faceted(
    chart: alt.LayerChart, rows: Sequence[Datum], field: str, order: Sequence[str], columns: int
) -> alt.FacetChart:
    import altair as alt

    present = {row[field] for row in rows}
    columns = min(columns, len(present)) or 1
    header = alt.Header(title=None)
    facet = alt.Facet(f"{field}:N", sort=list(order), header=header)
    return chart.facet(facet, columns=columns, data=alt.InlineData(values=list(rows)))


def _x(field: str, limits: tuple[float, float]) -> alt.X:
    import altair as alt

    return alt.X(field, title="gain, pp").scale(domain=limits, nice=False).axis(tickCount=6)


def _y(field: str, title: str, limits: tuple[float, float] | None = None) -> alt.Y:
    """A vertical axis with a darker grid line at zero."""
    import altair as alt

    at_zero = {"test": "datum.value === 0"}
    axis = alt.Axis(
        gridColor={"condition": {**at_zero, "value": "#6b757b"}, "value": "#e7ebed"},
        gridDash={"condition": {**at_zero, "value": [4, 4]}, "value": []},
        tickCount=6,
    )
    y = alt.Y(field, title=title, axis=axis)
    return y.scale(domain=limits, nice=False) if limits else y


def _recipes(rows: Sequence[Datum], channel: str = "Color") -> alt.Color | alt.Fill:
    """A recipe's colour, by its place in the suite."""
    import altair as alt

    names = list(dict.fromkeys(str(row["recipe"]) for row in rows))
    colours = [PALETTE[n % len(PALETTE)] for n in range(len(names))]
    scale = alt.Scale(domain=names, range=colours)
    made: alt.Color | alt.Fill = getattr(alt, channel)("recipe:N", scale=scale, title=None)
    return made


def _shapes() -> alt.Shape:
    import altair as alt

    return alt.Shape("adaptation:N", title=None)


def tips(*fields: str) -> list[alt.Tooltip]:
    """The tooltip of a mark: fields with their names."""
    import altair as alt

    text = ("recipe", "adaptation", "axis", "name", "task", "front", "value", "against", "measure")
    return [
        alt.Tooltip(f"{name}:N") if name in text else alt.Tooltip(f"{name}:Q", format=".3~g")
        for name in fields
    ]
