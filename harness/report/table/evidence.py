"""What other steps say about a run's cells: the gate's verdicts and the comparison over seeds.

`current` computes both from a run folder's records, so that no older file decides, and stores them
as RUN/verdicts.json and RUN/methods.json. A published folder has no records: there `stored` reads
the two files. A folder with neither was not gated, and its rows say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.records import SCHEMA_VERSION, Record
from retainbench.harness.core.storage import read_json, write_json

if TYPE_CHECKING:
    from retainbench.harness.comparison.methods import MethodRow
    from retainbench.harness.comparison.sequences import SequenceRow


class CellVerdict(Record):
    """One cell's verdict and, unless it is PASS, why."""

    verdict: str
    reasons: list[str]


class Verdicts(Record):
    """`verdicts.json`: cell id -> verdict at the end of its budget."""

    schema_version: int = SCHEMA_VERSION
    cells: dict[str, CellVerdict]


class Evidence(NamedTuple):
    """Both, where there are any."""

    verdicts: Mapping[str, CellVerdict]
    """Cell id -> verdict."""
    methods: Mapping[tuple[str, str, str], MethodRow]
    """(base, target, recipe) -> estimates over seeds and items."""
    sequences: Sequence[SequenceRow] = ()
    """Recipes that learn several targets one after another."""


NOTHING = Evidence({}, {})


class Files(NamedTuple):
    """Where a run, or a published folder, keeps them."""

    verdicts: Path
    methods: Path


def files(folder: Path) -> Files:
    """Names in one folder."""
    return Files(folder / "verdicts.json", folder / "methods.json")


def current(folder: Path) -> Evidence:
    """Evidence of a run folder, computed now and stored; or that stored in a published one.

    Raises:
        UsageError: the suite's policy cannot be applied.
        IntegrityError: plan or records are broken.
    """
    run = RunFolder(folder)
    if run.plan.is_file() and run.cells.is_dir():
        from retainbench.harness.comparison import methods as compare_methods
        from retainbench.harness.gate import candidates

        cells = {
            result.candidate: CellVerdict(verdict=result.verdict, reasons=list(result.reasons))
            for result in candidates.gate_run(folder)
        }
        write_json(files(folder).verdicts, Verdicts(cells=cells))
        write_json(files(folder).methods, compare_methods.methods(folder))
    return stored(folder)


def stored(folder: Path) -> Evidence:
    """What the two files say; nothing where there are none."""
    verdicts, methods = files(folder)
    cells = read_json(verdicts, Verdicts).cells if verdicts.is_file() else {}
    if not methods.is_file():
        return Evidence(cells, {})
    from retainbench.harness.comparison.methods import Methods

    found: Methods = read_json(methods, Methods)
    by_arm = {(row.base, row.target, row.recipe): row for row in found.rows}
    return Evidence(cells, by_arm, found.sequences)
