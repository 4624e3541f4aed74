"""The figures as Vega-Lite specifications, and their SVG, PNG and PDF files.

Reads the rows of `report/page/points.py`; `write` puts RUN/figures/<figure>-<target>.{svg,png,pdf}.
One specification serves both: the HTML report embeds it for a mouse, vl-convert draws it for paper,
all offline. Altair and vl-convert are imported when something is drawn. Colour tells recipes apart
and is never alone: shapes, tooltips and the data tables carry the same facts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retainbench.harness.core.files.atomic import write_bytes
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text import escaping
from retainbench.harness.report.page.charts import (
    kl_scatter,
    pareto,
    retention_by_budget,
    retention_by_gain,
)
from retainbench.harness.report.page.maps import drift_map, task_map
from retainbench.harness.report.page.matrix import differences, pair_map, rank_ranges, ranked
from retainbench.harness.report.page.points import (
    Datum,
    ScorecardsByArm,
    drift_places,
    finished,
    gain_and_retention,
    interpolations,
    kl_and_forgetting,
    swept,
    tasks,
    trajectories,
)
from retainbench.harness.report.table.evidence import NOTHING, TableEvidence
from retainbench.harness.report.table.model import TableRow
from retainbench.harness.report.table.variants import Tried, tried

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]


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


ARM = {"target": "Target", "recipe": "Recipe"}
RETAINED = {"retention": "Retention, pp", "retention_low": "low", "retention_high": "high"}


def figures(
    rows: Sequence[TableRow], cards: Sequence[Scorecard], evidence: TableEvidence = NOTHING
) -> list[Figure]:
    """All figures of a run in reading order; one without rows is kept, with an empty list."""
    arms = finished(rows, cards)
    variants = tried(evidence.recipes, evidence.variants)
    return [
        *_at_the_end(rows, arms, variants),
        *_against_each_other(evidence),
        *_along_the_way(arms),
        *([_between(arms)] if any(card.interpolated for card in cards) else []),
        *_of_the_weights(arms),
    ]


SWEPT = (
    " Small dots: the other values that the sweep tried, one seed each; the mark is what it chose."
)


def _at_the_end(
    rows: Sequence[TableRow], arms: ScorecardsByArm, variants: Sequence[Tried]
) -> list[Figure]:
    return [
        Figure(
            "pareto",
            "Gain and retention",
            "Gain against retention",
            "Each mark is a recipe at the end of its budget, its bars the intervals; up and right "
            "is better, and on the dashed line nothing is forgotten. Hollow: dominated, another "
            "recipe gains more and forgets no more on its worst axis, beyond what the intervals "
            "allow. A click on a name in the legend fades the others."
            + (SWEPT if variants else ""),
            {
                **ARM,
                **({"value": "Value"} if variants else {}),
                "axis": "Axis",
                "gain": "Gain, pp",
                "gain_low": "low",
                "gain_high": "high",
            }
            | RETAINED
            | {"front": "On the front"},
            [*gain_and_retention(rows), *swept(variants)],
            pareto,
        ),
        Figure(
            "tasks",
            "Tasks",
            "Retention by task",
            "Change of each retention task in percentage points, mean over seeds; negative is "
            "forgetting. Bold: the interval (over several seeds pooled from theirs) excludes 0.",
            {**ARM, "axis": "Axis", "task": "Task", "n": "Items"} | RETAINED,
            tasks(arms),
            task_map,
        ),
    ]


def _against_each_other(evidence: TableEvidence) -> list[Figure]:
    """Only where recipes were compared: older folders have no pairs."""
    if not evidence.pairs:
        return []
    return [
        Figure(
            "pairs",
            "Pairs",
            "Recipes against each other",
            "Row minus column in percentage points, paired on items and seeds. Blue: the row's "
            "recipe is better, red: worse. * The two differ after Holm's correction; = equivalent, "
            "the whole interval is within the margin. Every measure has colours of its own.",
            {**ARM, "against": "Against", "measure": "Measure", "difference": "Difference, pp"}
            | {"low": "low", "high": "high", "holm": "Holm p", "mark": "Mark"},
            differences(evidence.pairs),
            pair_map,
        ),
        Figure(
            "ranks",
            "Ranks",
            "Ranks and how sure they are",
            "From the best to the worst rank that no pair contradicts after Holm's correction. Two "
            "recipes whose bars overlap cannot be distinguished for certain.",
            {**ARM, "measure": "Measure", "best": "Best rank", "worst": "Worst rank"},
            ranked(evidence.methods.values()),
            rank_ranges,
        ),
    ]


def _along_the_way(arms: ScorecardsByArm) -> list[Figure]:
    along = trajectories(arms)
    return [
        Figure(
            "trajectory-gain",
            "Along the gain",
            "Retention along the gain",
            "Scored checkpoints in the order of training, mean over seeds: what each point of gain "
            "cost in retention. Intervals are in the next figure.",
            {**ARM, "axis": "Axis", "budget": "Budget, %", "gain": "Gain, pp"} | RETAINED,
            along,
            retention_by_gain,
        ),
        Figure(
            "trajectory-budget",
            "Along the budget",
            "Retention along the budget",
            "The same checkpoints over the share of the budget that is spent, one panel per "
            "recipe. Bands are intervals; over several seeds they are pooled from the seeds' own "
            "and wider than the table's.",
            {**ARM, "axis": "Axis", "budget": "Budget, %"} | RETAINED,
            along,
            retention_by_budget,
        ),
    ]


def _between(arms: ScorecardsByArm) -> Figure:
    return Figure(
        "interpolation",
        "Between base and end",
        "Weights between the base and the end",
        "Base + w x (end - base) for weights w between 0 and 1, mean over seeds: what giving up "
        "some of the gain keeps, without training. A line above a recipe's trajectory in the "
        "figure before is the better place to stop.",
        {**ARM, "axis": "Axis", "weight": "Weight w", "gain": "Gain, pp"} | RETAINED,
        interpolations(arms),
        partial(retention_by_gain, order="weight"),
    )


def _of_the_weights(arms: ScorecardsByArm) -> list[Figure]:
    return [
        Figure(
            "drift",
            "Drift",
            "Where the weights moved",
            "Share of the squared change by module kind and by layer, in percent of the recipe's "
            "whole change, mean over seeds; outside the layers are embedding, final norm and "
            "output head. The table adds the drift over the module's own norm.",
            {
                **ARM,
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
            "Every scored checkpoint of every seed, joined in the order of training: KL(base || "
            "candidate) in nats per token, and the drop averaged over the axes in percentage "
            "points; up is forgetting.",
            {
                **ARM,
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


CONFIG: Mapping[str, Any] = {
    "background": "white",
    "font": "Liberation Sans, Helvetica Neue, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": "#9aa3a8", "gridColor": "#e7ebed", "tickColor": "#9aa3a8",
        "labelColor": "#3d474d", "titleColor": "#3d474d", "titleFontWeight": "normal",
        "labelFontSize": 11, "titleFontSize": 11, "labelLimit": 160, "labelFlush": False,
    },
    "header": {"labelColor": "#1d2529", "labelFontSize": 12, "labelFontWeight": 600},
    "title": {"color": "#1d2529", "fontSize": 12, "fontWeight": 600},
    "legend": {
        "orient": "bottom", "columns": 7, "labelColor": "#1d2529", "labelFontSize": 11,
        "titleColor": "#3d474d", "titleFontWeight": "normal", "symbolSize": 80, "labelLimit": 220,
        "symbolOpacity": 1, "symbolBaseFillColor": "#3d474d",
    },
    "rule": {"color": "#6b757b"},
    "rect": {"stroke": "white", "strokeWidth": 1},
}  # fmt: skip
"""Look on paper; the report replaces the colours by those of its own light or dark theme."""


def spec(figure: Figure, target: str) -> Spec:
    """Vega-Lite specification of a figure for one target, data inlined.

    Altair's own validation takes two thirds of the time and is left to the tests.
    """
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):
        drawn: Spec = figure.draw(figure.of(target)).to_dict(validate=False)
    drawn["config"] = dict(CONFIG)
    # vl-convert ends the whole process at a control character in a text.
    shown: Spec = escaping.each(drawn, escaping.one_line)
    return shown


def write(drawn: Sequence[Figure], targets: Sequence[str], folder: Path) -> list[Path]:
    """Draw every figure that has rows, per target, as SVG, PNG (2x) and PDF; returns the files."""
    import vl_convert

    files: list[Path] = []
    for figure in drawn:
        for target in targets:
            if not figure.of(target):
                continue
            svg = renumbered(vl_convert.vegalite_to_svg(spec(figure, target)))
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


def renumbered(svg: str) -> str:
    """The SVG with the ids of its gradients and clips counted from 0.

    Vega counts them over all figures of a process, so that the same figure had other bytes.

    >>> renumbered("<a id='gradient_7'/><b fill='url(#gradient_7)'/><c id='clip3'/>")
    "<a id='gradient_0'/><b fill='url(#gradient_0)'/><c id='clip1'/>"
    """
    seen: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"{found[1]}{seen.setdefault(found[0], len(seen))}"

    return re.sub(r"\b(gradient_|clip)\d+\b", number, svg)


def _file_part(name: str) -> str:
    """A target's name as part of a file name: letters, digits, dot, dash and underscore."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:80]
