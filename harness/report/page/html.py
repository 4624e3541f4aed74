"""One self-contained HTML report: tables, figures, flips explorer, provenance; no network.

Reads what `report/report.py` hands over; returns the page as text. The page carries a Content
Security Policy that allows exactly its own scripts and style sheet, by hash: Vega (bundled offline
by vl-convert, run with its interpreter so that no `eval` is needed), `flips.js` and `report.js`,
and `table.css` with `report.css`. Jinja2 escapes everything; data for the scripts is JSON without
`<`, `>` or `&`. Deterministic: equal scorecards give equal bytes, so the page has no date.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from retainbench.harness.core.paths import TEMPLATES
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.escaping import each, visible
from retainbench.harness.core.text.formatting import (
    NONE,
    brief,
    counted,
    duration,
    flops,
    listed,
    points,
)
from retainbench.harness.report.page import figures as report_figures
from retainbench.harness.report.page import flips as report_flips
from retainbench.harness.report.page.figures import Figure
from retainbench.harness.report.page.flips import FlipSheets
from retainbench.harness.report.table import further, glance
from retainbench.harness.report.table.columns import Table, worst_first
from retainbench.harness.report.table.evidence import CellVerdict
from retainbench.harness.report.table.model import axes_of

SuiteContent = Mapping[str, Any]

SHOWN_VALUES = 4  # distinct values of one provenance key that are listed


class ProvenanceLine(NamedTuple):
    """One line of provenance."""

    name: str
    value: str


def page(
    table: Table,
    cards: Sequence[Scorecard],
    figures: Sequence[Figure],
    flips: FlipSheets,
    verdicts: Mapping[str, CellVerdict],
    suite: SuiteContent,
) -> str:
    """The report as one HTML document.

    Args:
        suite: the suite as in plan.json, or {} where the folder has none.
    """
    targets = list(dict.fromkeys(row.target for row in table.rows))
    return document(
        "report.html",
        [template("flips.js"), _bundle(), template("report.js")],
        ("table.css", "report.css"),
        title=suite.get("name") or "run",
        suite=suite,
        table=table,
        targets=targets,
        axes=axes_of(table.rows),
        facts=scope(cards),
        rulings=glance.rulings(cards, verdicts),
        glances=glance.glance(table.rows),
        measures=further.measures(table.rows),
        figures=figures,
        data=embedded({"specs": _specs(figures, targets)}),
        flips=embedded(report_flips.payload(flips)),
        flip_note=flip_note(flips),
        cards=cards,
        verdicts=verdicts,
        provenance=provenance(cards),
        suite_json=json.dumps(suite, ensure_ascii=False, indent=1),
    )


def table_page(table: Table) -> str:
    """The table alone as a small HTML document without scripts."""
    return small_page("table.html", table=table)


def small_page(name: str, **values: Any) -> str:
    """A template as an HTML document with the tables' style sheet and without scripts."""
    return document(name, [], ("table.css",), **values)


def document(name: str, scripts: Sequence[str], sheets: Sequence[str], **values: Any) -> str:
    """A template as an HTML document that runs these scripts, and no other, with these sheets."""
    style = "".join(map(template, sheets))
    page = _environment().get_template(name)
    rendered: str = page.render(
        policy=policy(scripts, style), scripts=scripts, style=style, **values
    )
    return rendered


def template(name: str) -> str:
    """The text of a script or a style sheet, to be given to `document`."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def policy(scripts: Sequence[str], style: str) -> str:
    """Content Security Policy: nothing but these scripts and this style sheet, by hash."""
    sources = " ".join(_hash(script) for script in scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {sources}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def embedded(value: Any) -> str:
    """JSON that is safe inside a script element: no character that HTML parsing looks for, none
    that hides or reorders text.

    >>> embedded("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(
        each(value, visible), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from inside vl-convert."""
    import vl_convert

    script: str = vl_convert.javascript_bundle(snippet="window.vegaEmbed = vegaEmbed;")
    if "</script" in script or "<!--" in script:
        raise ValueError("the Vega bundle would end its own script element")
    return script


def _shown(value: Any) -> Any:
    """Texts on a page with control and hidden characters as escape codes; ours stay as they are."""
    plain = isinstance(value, str) and not hasattr(value, "__html__")
    return visible(value) if plain else value


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"points": points, "brief": brief, "flops": flops, "time": duration}
    environment.globals |= {"NONE": NONE, "worst_first": worst_first}
    environment.globals["LABELS"] = glance.LABELS
    return environment


def _specs(figures: Sequence[Figure], targets: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        figure.key: {
            target: report_figures.spec(figure, target) for target in targets if figure.of(target)
        }
        for figure in figures
    }


def scope(cards: Sequence[Scorecard]) -> list[ProvenanceLine]:
    """The line under the title: what was run."""
    done = sum(bool(card.points) for card in cards)
    failed = len(cards) - done
    return [
        ProvenanceLine("Base", listed(card.base for card in cards)),
        ProvenanceLine("Target", listed(card.target for card in cards)),
        ProvenanceLine("Recipes", str(len({card.recipe for card in cards}))),
        ProvenanceLine("Seeds", str(len({card.seed for card in cards}))),
        ProvenanceLine("Budget per cell", listed(card.budget for card in cards)),
        ProvenanceLine("Cells", f"{done} done, {failed} failed" if failed else f"{done} done"),
    ]


def flip_note(flips: FlipSheets) -> str:
    """How many flips there are, how many are on the page, and why some are not."""
    note = f"{counted(flips.total, 'item')} changed from right to wrong or back."
    if len(flips.shown) < flips.total:
        note = (
            f"{flips.total} items changed from right to wrong or back; {len(flips.shown)} of them "
            "are on this page, the same number for every candidate, task and direction. The "
            "records hold all."
        )
    if flips.unread:
        note += f" {counted(flips.unread, 'cell')} came without item records."
    if unknown := sorted({flip.after.task for flip in flips.shown if flip.key not in flips.items}):
        note += (
            f" Prompts of {', '.join(unknown)} are not here: no task that was installed or named "
            "with --pack holds these items."
        )
    return note


def provenance(cards: Sequence[Scorecard]) -> list[ProvenanceLine]:
    """What all cells share, and the distinct values of what differs."""
    names = list(dict.fromkeys(name for card in cards for name in card.provenance))
    return [ProvenanceLine(name, _values(cards, name)) for name in names]


def _values(cards: Sequence[Scorecard], name: str) -> str:
    found = list(dict.fromkeys(card.provenance.get(name, "absent") for card in cards))
    more = len(found) - SHOWN_VALUES
    return "; ".join(found[:SHOWN_VALUES]) + (f"; and {more} more" if more > 0 else "")
