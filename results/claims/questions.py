"""The three open questions that this project grew out of, answered from the stored rows."""

from __future__ import annotations

from collections.abc import Mapping

from results.claims import finding
from results.claims.published import Published
from retainbench.harness.comparison.matched import RatioRow
from retainbench.harness.comparison.methods import MethodRow
from retainbench.harness.core.text.formatting import brief, points


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
    ]


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


PARTS = (
    ("rft-dft", "rft"),
    ("grpo-kl", "grpo"),
    ("es-anchored", "es"),
    ("eggroll-anchored", "eggroll"),
)


def _compose(runs: Published) -> str:
    lines = [_part(runs, whole, plain) for whole, plain in PARTS]
    known = [line for line in lines if line]
    return "; ".join(known) + "." if known else f"Not run yet: `retainbench run {runs.name}`."


def _part(runs: Published, whole: str, plain: str) -> str:
    """What the addition changes: gain and the drop of every axis."""
    gain = runs.difference(whole, plain, "gain")
    row: MethodRow | None = runs.row(whole)
    if gain is None or row is None:
        return ""
    drops = finding.by_axis(runs.drops(whole, plain))
    return f"{whole} minus {plain}: gain {points(gain.interval)}, drop {drops}"
