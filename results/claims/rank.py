"""C13: ranks of the summed updates of EGGROLL, kept in rank.json next to the page.

A published folder holds no weights, so these figures are taken once from the run folder:
`python -m results.claims.build --runs runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from results.claims.finding import Finding
from results.claims.published import Published
from retainbench.harness.core.files.storage import read_json, write_json
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.records import Record, TrainRecord
from retainbench.harness.drift.measure import measure
from retainbench.harness.models import bases
from retainbench.harness.suites.plan import Cell, Plan

FILE = "rank.json"
RECIPE = "eggroll-64"


class RankRow(Record):
    """One checkpoint; matrices are the two-dimensional weights that moved."""

    cell: str
    updates: int
    directions: int
    """Rank-one directions that were added up: updates times pairs of members."""
    matrices: int
    full: int
    """Matrices of full numerical rank (singular values above the drift report's tolerance)."""
    stable_rank: float
    """Mean of |D|_F^2 / s1^2."""
    smallest_side: int


class Ranks(Record):
    """`rank.json`."""

    rows: list[RankRow]


def take(run: Path, out: Path) -> None:
    """Measure every checkpoint of the recipe in a run folder."""
    folder = RunFolder(run)
    plan = read_json(folder.plan, Plan)
    base = bases.resolve(plan.suite.base).folder
    rows = [
        _row(base, folder.cell(cell.id).root / checkpoint.folder, cell, checkpoint.ledger.steps)
        for cell in plan.cells
        if cell.name == RECIPE and folder.cell(cell.id).train.exists()
        for checkpoint in read_json(folder.cell(cell.id).train, TrainRecord).checkpoints
    ]
    write_json(out / FILE, Ranks(rows=rows))


def _row(base: Path, candidate: Path, cell: Cell, updates: int) -> RankRow:
    options = cell.recipe.stages[0].options
    directions = options["population"] // (2 if options["antithetic"] else 1)
    report = measure(base, candidate, spectral=True)
    moved = [t for t in report.tensors if t.spectrum and t.spectrum.norm]
    spectra = [t.spectrum for t in moved if t.spectrum]
    sides = [min(t.shape) for t in moved]
    return RankRow(
        cell=cell.id,
        updates=updates,
        directions=directions * updates,
        matrices=len(moved),
        full=sum(s.numerical_rank == side for s, side in zip(spectra, sides, strict=True)),
        stable_rank=fmean(s.stable_rank or 0.0 for s in spectra),
        smallest_side=min(sides),
    )


def full_rank(page: Published) -> Finding:
    """C13: full rank at the end of every run.

    Asked where more directions were added up than the smaller side has. The checkpoints before the
    end are counted too, where a singular value may lie at the tolerance.
    """
    file = page.folder / FILE if page.folder else None
    rows = read_json(file, Ranks).rows if file and file.exists() else []
    due = [row for row in rows if row.directions > row.smallest_side]
    if not due:
        return Finding("undecided", ["no rows"], None, "a run of es-forgetting, no training")
    ends = list({row.cell: row for row in due}.values())
    full = sum(r.full for r in ends)
    return Finding(
        "reproduced" if full == _matrices(ends) else "contradicted" if not full else "undecided",
        [
            f"{full} of {_matrices(ends)} matrices have full rank at the end of {len(ends)} runs, "
            f"{sum(r.full for r in due)} of {_matrices(due)} at all {len(due)} checkpoints",
            f"stable rank after {ends[-1].updates} updates: "
            f"{fmean(r.stable_rank for r in ends):.1f} of {ends[-1].smallest_side}",
        ],
        page.name,
        "a closer look at the matrices that are not",
    )


def _matrices(rows: Sequence[RankRow]) -> int:
    return sum(row.matrices for row in rows)
