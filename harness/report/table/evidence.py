"""The findings of other steps about a run: verdicts, comparison over seeds, recipes.

`current` computes them from a run folder's records, so that no older file decides, and stores them
as RUN/verdicts.json and RUN/methods.json; RUN/recipes.json is what the plan gave every recipe and
what a sweep chose, RUN/variants.jsonl the scorecards of what it tried, where it kept them. A
published folder has no records: there `stored` reads these files. A folder without the first two
was not gated, and its rows state this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from retainbench.harness.core.files.storage import (
    read_json,
    read_jsonl,
    was_written,
    write_json,
    write_jsonl,
)
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.recipes import Recipes, SweepChoices
from retainbench.harness.core.records import SCHEMA_VERSION, Record
from retainbench.harness.core.scorecards import Scorecard

if TYPE_CHECKING:
    from retainbench.harness.comparison.factorial import EffectRow
    from retainbench.harness.comparison.matched import MatchedPairRow
    from retainbench.harness.comparison.methods import MethodRow
    from retainbench.harness.comparison.seed_tables import PairRow
    from retainbench.harness.comparison.sequences import SequenceRow


class CellVerdict(Record):
    """One cell's verdict and, unless it is PASS, why."""

    verdict: str
    reasons: list[str]


class CellVerdicts(Record):
    """`verdicts.json`: cell id -> verdict at the end of its budget."""

    schema_version: int = SCHEMA_VERSION
    cells: dict[str, CellVerdict]


class TableEvidence(NamedTuple):
    """All of it, as far as there is any."""

    verdicts: Mapping[str, CellVerdict]
    """Cell id -> verdict."""
    methods: Mapping[tuple[str, str, str], MethodRow]
    """(base, target, recipe) -> estimates over seeds and items."""
    sequences: Sequence[SequenceRow] = ()
    """Recipes that learn several targets one after another."""
    pairs: Sequence[PairRow] = ()
    """Recipes of a target against each other."""
    matched: Sequence[MatchedPairRow] = ()
    """The same at the same gain."""
    recipes: Recipes | None = None
    """What every recipe was given."""
    variants: Sequence[Scorecard] = ()
    """Scorecards of all that a sweep tried, where it kept them."""
    effects: Sequence[EffectRow] = ()
    """Of the changes that a suite's recipes combine."""


NOTHING = TableEvidence({}, {})


class EvidenceFiles(NamedTuple):
    """Where a run, or a published folder, keeps them."""

    verdicts: Path
    methods: Path
    recipes: Path
    variants: Path


def files(folder: Path) -> EvidenceFiles:
    """Names in one folder."""
    names = ("verdicts.json", "methods.json", "recipes.json", "variants.jsonl")
    return EvidenceFiles(*(folder / name for name in names))


def current(folder: Path) -> TableEvidence:
    """Evidence of a run folder, computed now and stored; or that stored in a published one.

    Raises:
        UsageError: the suite's policy cannot be applied.
        IntegrityError: plan or records are broken.
    """
    run = RunFolder(folder)
    if was_written(run.plan) and run.cells.is_dir():
        from retainbench.harness.comparison import methods as compare_methods
        from retainbench.harness.gate import candidates

        cells = {
            result.candidate: CellVerdict(verdict=result.verdict, reasons=list(result.reasons))
            for result in candidates.gate_run(folder)
        }
        write_json(files(folder).verdicts, CellVerdicts(cells=cells))
        write_json(files(folder).methods, compare_methods.methods(folder))
        write_json(files(folder).recipes, given(run))
        if run.sweep.scorecards.is_file():
            write_jsonl(files(folder).variants, read_jsonl(run.sweep.scorecards, Scorecard))
    return stored(folder)


def stored(folder: Path) -> TableEvidence:
    """What the files say; nothing where there are none."""
    verdicts, methods, recipes, tried = files(folder)
    cells = read_json(verdicts, CellVerdicts).cells if verdicts.is_file() else {}
    options = read_json(recipes, Recipes) if recipes.is_file() else None
    variants = read_jsonl(tried, Scorecard) if tried.is_file() else []
    if not methods.is_file():
        return TableEvidence(cells, {}, recipes=options, variants=variants)
    from retainbench.harness.comparison.methods import Methods

    found: Methods = read_json(methods, Methods)
    by_arm = {(row.base, row.target, row.recipe): row for row in found.rows}
    return TableEvidence(
        cells,
        by_arm,
        found.sequences,
        found.pairs,
        found.matched_pairs,
        options,
        variants,
        found.effects,
    )


def given(run: RunFolder) -> Recipes:
    """What the plan gave every recipe, defaults included, and what a sweep chose for it.

    Raises:
        IntegrityError: plan or choices are broken.
    """
    from retainbench.harness.suites.plan import Plan

    plan = read_json(run.plan, Plan)
    chosen = run.sweep.choices
    return Recipes(
        recipes={cell.name: cell.recipe for cell in reversed(plan.cells)},
        choices=read_json(chosen, SweepChoices).choices if chosen.is_file() else [],
    )
