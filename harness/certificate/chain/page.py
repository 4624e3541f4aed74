"""A chain's certificate for people and CI, and its statement. Deterministic, as `verify` needs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from retainbench.harness.certificate import statement
from retainbench.harness.certificate.bundle import Evidence
from retainbench.harness.certificate.chain.records import ChainBundle, ChainRecord, ChainStep
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.text.escaping import terminal
from retainbench.harness.core.text.formatting import NONE, brief, points
from retainbench.harness.gate import ci
from retainbench.harness.report.page.html import small_page
from retainbench.harness.report.table.columns import Grid


def screen(chain: ChainRecord, found: Sequence[Evidence]) -> list[str]:
    """What a person reads at the end: the verdict, then each step, the whole last.

    Args:
        found: evidence of the steps, then of the whole.
    """
    lines = [f"{chain.verdict:12} {terminal(chain.links[-1].name)}: {chain.because}"]
    edges = [*chain.steps, chain.whole]
    lines += [_line(edge, evidence) for edge, evidence in zip(edges, found, strict=True)]
    for edge in chain.steps:
        if edge.folder in chain.damaged:
            lines.append(
                f"  the damage was done from {terminal(edge.base)} to {terminal(edge.candidate)}"
            )
    return [*lines, f"  {chain.bound}"]


def _line(edge: ChainStep, evidence: Evidence) -> str:
    drops = ", ".join(
        f"{axis.axis} {points(axis.change.drop)}" for axis in evidence.gate.axes if axis.change
    )
    moved = f"; weights moved by {brief(evidence.drift.relative, 100)} %" if evidence.drift else ""
    lost = f"; regressed: {', '.join(edge.regressed)}" if edge.regressed else ""
    return (
        f"  {edge.verdict:12} {terminal(edge.base)} -> {terminal(edge.candidate)}: mean drop "
        f"{drops or NONE} points{moved}{lost}"
    )


def files(chain: ChainRecord, found: Sequence[Evidence], policy: Policy) -> dict[str, str]:
    """Every file for people and for CI, by its name; the whole comes first in CI.

    Args:
        found: evidence of the steps, then of the whole.
    """
    *steps, whole = found
    shown = ci.files([evidence.gate for evidence in (whole, *steps)], chain.created)
    page = small_page(
        "certificate.html",
        title=f"{chain.links[-1].name} and the steps from {chain.links[0].name}",
        verdict=chain.verdict,
        reasons=[chain.because, chain.bound],
        facts=[
            ("Suite", whole.suite),
            ("Margin of the whole", brief(policy.margin, 100)),
            ("Made", chain.created),
            ("Command", shlex.join(chain.command)),
            *((f"Link {n}", f"{m.name}, sha256 {m.sha256}") for n, m in enumerate(chain.links)),
        ],
        grids=[_grid(chain, found)],
    )
    return {"report.html": page, **{f"ci/{name}": text for name, text in shown.items()}}


def _grid(chain: ChainRecord, found: Sequence[Evidence]) -> Grid:
    edges = [*chain.steps, chain.whole]
    axes = [axis.axis for axis in found[-1].gate.axes]
    cells = []
    for edge, evidence in zip(edges, found, strict=True):
        drops = {one.axis: one.change.drop for one in evidence.gate.axes if one.change}
        cells.append(
            [edge.folder, f"{edge.base} → {edge.candidate}", edge.verdict]
            + [points(drops[axis]) if axis in drops else NONE for axis in axes]
            + [brief(evidence.drift.relative, 100) if evidence.drift else NONE]
            + [", ".join(edge.regressed) or NONE]
        )
    head = ["Folder", "Step", "Verdict", *(f"{axis} drop" for axis in axes), "Drift", "Regressed"]
    note = "Points; each folder has the whole certificate of its step. Drift: % of the norm."
    return Grid("Steps, and the whole", head, "lll" + "r" * len(axes) + "rl", cells, [note])


def statement_of(bundle: ChainBundle, chain: ChainRecord) -> dict[str, Any]:
    """The in-toto statement: the last link passed or failed, over every file of the chain."""
    edges = [*chain.steps, chain.whole]
    names = {edge.folder: f"retention/chain/{edge.folder}" for edge in edges}
    predicate = {
        "result": "PASSED" if chain.verdict == "PASS" else "FAILED",
        "configuration": [
            statement.descriptor(name, sha256_file(path)) for name, path in bundle.files().items()
        ],
        "passedTests": [names[edge.folder] for edge in edges if edge.verdict == "PASS"],
        "warnedTests": [],
        "failedTests": [names[edge.folder] for edge in edges if edge.verdict != "PASS"],
    }
    return statement.about(chain.links[-1], statement.TEST_RESULT, predicate)
