"""Recipes against each other as figures: matrices of paired differences, and ranks as ranges.

Pure: takes the rows of `comparison/methods.py`, gives flat rows, and draws them; Altair is imported
when a chart is drawn. Blue: the recipe of the row is better than that of the column, red: worse.
The number is in its cell, with a star where the two differ after Holm's correction and an equals
sign where they are equivalent, so that colour is never alone. Left out: differences at the same
gain, which the tables have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from retainbench.harness.core.text.formatting import signed, significant
from retainbench.harness.report.page.charts import PALETTE, tips
from retainbench.harness.report.page.points import Datum
from retainbench.harness.report.table.pairs import axis_of, differs, unit

if TYPE_CHECKING:
    import altair as alt

    from retainbench.harness.comparison.methods import MethodRow
    from retainbench.harness.comparison.seed_tables import PairRow

CELL, NARROW, TALL = 36, 31, 22  # pixels
MANY = 9  # recipes from which cells are narrow and texts small
BLACK_UNTIL = 0.88  # of the scale: black on that colour has a contrast of 4.5 or more


def differences(pairs: Iterable[PairRow]) -> list[Datum]:
    """One row per ordered pair and measure: first minus second, and second minus first."""
    return [
        _cell(pair, names, sign)
        for pair in pairs
        for names, sign in (((pair.first, pair.second), 1), ((pair.second, pair.first), -1))
    ]


def _cell(pair: PairRow, names: tuple[str, str], sign: int) -> Datum:
    interval, better = pair.difference, sign if pair.measure == "gain" else -sign
    low, high = sorted((sign * interval.low, sign * interval.high))
    mark = ("*" if differs(pair) else "") + ("=" if pair.equivalent else "")
    return {
        "target": pair.target,
        "recipe": names[0],
        "against": names[1],
        "measure": pair.measure,
        "difference": significant(100 * sign * interval.value),
        "low": significant(100 * low),
        "high": significant(100 * high),
        "holm": significant(pair.holm_p),
        "better": significant(100 * better * interval.value),
        "mark": mark,
        "text": signed(100 * sign * interval.value) + mark,
    }


def ranked(rows: Iterable[MethodRow]) -> list[Datum]:
    """One row per recipe and measure: the best and the worst rank that no pair contradicts."""
    return [
        {
            "target": row.target,
            "recipe": row.recipe,
            "measure": measure if measure == "gain" else f"{measure} kept",
            "best": best,
            "worst": worst,
        }
        for row in rows
        for measure, (best, worst) in row.ranks.items()
    ]


def pair_map(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """A matrix of differences per measure, two side by side."""
    import altair as alt

    measures = list(dict.fromkeys(str(row["measure"]) for row in rows))
    names = list(dict.fromkeys(str(row["recipe"]) for row in rows))
    charts = [
        _matrix([row for row in rows if row["measure"] == measure], measure, names)
        for measure in measures
    ]
    return alt.concat(*charts, columns=2, spacing=14).resolve_scale(color="independent")


def _matrix(rows: Sequence[Datum], measure: str, names: Sequence[str]) -> alt.LayerChart:
    import altair as alt

    limit = max([1.0, *(abs(float(row["better"] or 0)) for row in rows)])
    colours = ["#b0492f", "#f1efec", "#2f6f8f"]
    scale = alt.Scale(domain=[-limit, 0, limit], range=colours, interpolate="lab")
    small = len(names) >= MANY
    title = f"{measure} drop" if measure == axis_of(measure) != "gain" else measure
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        x=alt.X("against:N", title=None, sort=list(names), axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("recipe:N", title=None, sort=list(names)),
        tooltip=tips("recipe", "against", "difference", "low", "high", "holm"),
    )
    ink = alt.condition(
        f"abs(datum.better) > {BLACK_UNTIL * limit}", alt.value("white"), alt.value("#000000")
    )
    weight = alt.ExprRef("test('[*]', datum.mark) ? 'bold' : 'normal'")
    cells = base.mark_rect().encode(color=alt.Color("better:Q", scale=scale, legend=None))
    texts = base.mark_text(fontSize=7.5 if small else 10, fontWeight=weight)
    chart = alt.layer(cells, texts.encode(text="text:N", color=ink))
    width = alt.Step(NARROW if small else CELL)
    return chart.properties(width=width, height=alt.Step(TALL), title=f"{title}, {unit(measure)}")


def rank_ranges(rows: Sequence[Datum]) -> alt.TopLevelMixin:
    """Ranks from best to worst as bars, one panel per measure."""
    import altair as alt

    names = list(dict.fromkeys(str(row["recipe"]) for row in rows))
    measures = list(dict.fromkeys(str(row["measure"]) for row in rows))
    x = alt.X("best:Q", title="rank, 1 is best").scale(domain=[0.5, len(names) + 0.5], nice=False)
    x = x.axis(tickMinStep=1, format="d", grid=False)
    base = alt.Chart().encode(y=alt.Y("recipe:N", title=None, sort=names), x=x)
    base = base.encode(tooltip=tips("recipe", "measure", "best", "worst"))
    bars = base.mark_rule(strokeWidth=7, opacity=0.6, color=PALETTE[0]).encode(x2="worst:Q")
    ends = [
        base.mark_tick(thickness=2, size=13, color=PALETTE[0]).encode(x=x if end is None else end)
        for end in (None, alt.X("worst:Q"))
    ]
    chart = alt.layer(bars, *ends).properties(width=190, height=alt.Step(18))
    facet = alt.Facet("measure:N", sort=measures, header=alt.Header(title=None))
    data = alt.InlineData(values=list(rows))
    return chart.facet(facet, columns=min(4, len(measures)), data=data)
