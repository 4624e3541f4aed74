"""`python -m results.gate.build`: how often the whole gate is right.

Draws releases (base and candidate answering every item of a suite) with a known drop and sends them
through the real path: columns, pairing, judgement, Holm, gate. Writes results/gate/releases.csv and
README.md, both generated; a minute or two of one core per 200 releases and cell. Each item's pair
of outcomes is a multinomial draw: lost with probability q/2 + D, gained with q/2, q = churn without
a net change. Left out: clusters, graded scores and correlated damage: results/statistics has them.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from retainbench.harness.comparison.columns import OPTIONAL, RecordTable, joined
from retainbench.harness.core.axes import DEFAULT as AXES
from retainbench.harness.core.files.storage import csv_text, read_csv, write_text
from retainbench.harness.core.records import Verdict
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.text.markdown import grid
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.statistics.paired import wilson

RESULTS = Path(__file__).resolve().parent
RELEASES = 200
TASKS = 12
MARGIN = 0.05
SHARES = (0.0, 0.5, 1.0, 2.0)
"""True drop of a harmed task as a multiple of the margin."""
VERDICTS: tuple[Verdict, ...] = ("PASS", "INCONCLUSIVE", "REGRESSION")


class Cell(NamedTuple):
    """One setting of the simulation."""

    items: int
    churn: float
    harmed: int
    """Tasks with the true drop; the others lose nothing."""
    share: float

    @property
    def drop(self) -> float:
        """True drop of a harmed task, in score points."""
        return self.share * MARGIN


class Row(NamedTuple):
    """How the gate ruled on the releases of one cell."""

    cell: Cell
    seed: int
    releases: int
    counts: Mapping[str, int]
    named: int
    """Of the REGRESSION verdicts: those that named no task without harm."""

    def rate(self, verdict: str) -> float:
        """Share of the releases with this verdict."""
        return self.counts.get(verdict, 0) / self.releases


class Frame(NamedTuple):
    """All columns but the scores; they are the same for every release."""

    tasks: dict[str, RecordTable]
    items: int


def cells() -> Iterator[Cell]:
    """300 and 1,000 items, two levels of churn, one harmed task and all harmed."""
    for items in (300, 1000):
        for churn in (0.04, 0.10):
            for harmed in (1, TASKS):
                yield from (Cell(items, churn, harmed, share) for share in SHARES)


def frame(items: int) -> Frame:
    """The frozen side of a suite: hashes, clusters, chance."""
    return Frame({f"task{t:02d}": _frozen(f"task{t:02d}", t, items) for t in range(TASKS)}, items)


def _frozen(name: str, number: int, items: int) -> RecordTable:
    hashes = [hashlib.sha256(f"{name} {i}".encode()).hexdigest() for i in range(items)]
    ids = [f"i{i}" for i in range(items)]
    same = {"task": name, "axis": AXES[number % len(AXES)], "filter": "none", "metric": "acc"}
    columns: dict[str, Any] = {key: [value] * items for key, value in same.items()}
    columns |= {"item_id": ids, "cluster": ids, "repeat": [0] * items, "chance": [0.25] * items}
    columns |= dict.fromkeys(("doc_hash", "prompt_hash", "target_hash"), hashes)
    columns |= {"score": [0.0] * items, "valid": [True] * items}
    columns |= dict.fromkeys(OPTIONAL, [None] * items)
    rows = [
        SimpleNamespace(**dict(zip(columns, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]
    return joined([rows])


def release(shape: Frame, cell: Cell, rng: np.random.Generator) -> tuple[Any, Any]:
    """Base and candidate of one release as columns."""
    base, candidate = {}, {}
    for number, (name, table) in enumerate(shape.tasks.items()):
        drop = cell.drop if number < cell.harmed else 0.0
        lost, gained = cell.churn / 2 + drop, cell.churn / 2
        kinds = rng.choice(4, size=shape.items, p=_shares(lost, gained))
        base[name] = _scored(table, kinds < 2)  # 0 both right, 1 lost, 2 gained, 3 both wrong
        candidate[name] = _scored(table, (kinds == 0) | (kinds == 2))
    return base, candidate


def _shares(lost: float, gained: float, right: float = 0.75) -> list[float]:
    """The base is right on 75 % of the items: those kept and those lost."""
    return [right - lost, lost, gained, 1 - right - gained]


def _scored(table: RecordTable, right: Any) -> RecordTable:
    return table.replaced("score", right.astype(np.float64))


def simulate(cell: Cell, shape: Frame, releases: int, seed: int) -> Row:
    """Gate `releases` independent releases of one cell; equal arguments give equal rows."""
    policy = Policy(margin=MARGIN)
    key = (cell.items, round(1000 * cell.churn), cell.harmed, round(100 * cell.share))
    rng = np.random.default_rng((seed, *key))
    counts: Counter[str] = Counter()
    named = 0
    for _ in range(releases):
        result = gate_records(*release(shape, cell, rng), policy)
        counts[result.verdict] += 1
        blamed = {t.change.task for t in result.tasks if t.verdict == "REGRESSION"}
        harmed = {f"task{t:02d}" for t in range(cell.harmed if cell.share else 0)}
        named += result.verdict == "REGRESSION" and blamed <= harmed
    return Row(cell, seed, releases, counts, named)


PAGE_HEAD = ("items", "churn", "harmed tasks", "true drop", *VERDICTS, "blames")
HEADER = ("items", "churn", "harmed", "share", "seed", "releases", *VERDICTS, "named")


def write(rows: Sequence[Row], folder: Path = RESULTS) -> None:
    """releases.csv and README.md."""
    lines = []
    for row in rows:
        counts = [row.counts.get(verdict, 0) for verdict in VERDICTS]
        lines.append([*row.cell, row.seed, row.releases, *counts, row.named])
    write_text(folder / "releases.csv", csv_text(HEADER, lines))
    write_text(folder / "README.md", readme(rows))


def read(folder: Path = RESULTS) -> list[Row]:
    """The rows of a releases.csv."""
    return [_row(line) for line in read_csv(folder / "releases.csv")]


def _row(line: Mapping[str, str]) -> Row:
    cell = Cell(int(line["items"]), float(line["churn"]), int(line["harmed"]), float(line["share"]))
    counts: dict[str, int] = {verdict: int(line[verdict]) for verdict in VERDICTS}
    return Row(cell, int(line["seed"]), int(line["releases"]), counts, int(line["named"]))


def readme(rows: Sequence[Row]) -> str:
    """The page: how it was made, the table, and the rate that must not exceed alpha."""
    lines = grid(PAGE_HEAD, [_line(row) for row in rows], "r" * len(PAGE_HEAD))
    at_margin = [row for row in rows if row.cell.share == 1]
    single = [row for row in at_margin if row.cell.harmed == 1]
    passed = sum(row.counts.get("PASS", 0) for row in single)
    total = sum(row.releases for row in single)
    low, high = (100 * float(x) for x in wilson(passed, total, 0.95))
    harmless = [row for row in rows if row.cell.share <= 1]
    return HEAD.format(
        releases=rows[0].releases,
        seed=rows[0].seed,
        tasks=TASKS,
        margin=100 * MARGIN,
        table="\n".join(lines),
        passed=passed,
        total=total,
        rate=100 * passed / total,
        low=low,
        high=high,
        worst=100 * max(row.rate("PASS") for row in at_margin),
        error=100 * (0.05 * 0.95 / rows[0].releases) ** 0.5,
        alarms=sum(row.counts.get("REGRESSION", 0) for row in harmless),
        harmless=sum(row.releases for row in harmless),
        loudest=100 * max(row.rate("REGRESSION") for row in harmless),
    )


def _line(row: Row) -> list[str]:
    cell = row.cell
    alarms = row.counts.get("REGRESSION", 0)
    return [
        str(cell.items),
        f"{100 * cell.churn:g} %",
        str(cell.harmed),
        f"{cell.share:g} m",
        *(f"{100 * row.rate(verdict):.1f} %" for verdict in VERDICTS),
        f"{alarms - row.named} wrong",
    ]


HEAD = """# Error rates of the whole gate

Generated by `python -m results.gate.build --releases {releases} --seed {seed}` (without
torch, minutes of one core); raw counts are in `releases.csv`.

{releases} simulated releases per row: a suite of {tasks} tasks over three axes, all mandatory, base
at 75 %, margin m = {margin:g} points on every task, alpha 5 %. Each release goes through the real
path (pairing, intervals, Holm, gate). *Churn*: items that flip without a net change.
*Harmed tasks* have the true drop, the others none. *Blames*: REGRESSION verdicts that name a task
without harm.

{table}

- **False PASS at the margin**, where it is likeliest (one task exactly at the margin, the others
  unharmed): {passed} of {total} releases, {rate:.1f} % (95 % interval {low:.1f} to {high:.1f} %);
  largest single row {worst:.1f} %. Nominal: at most 5 %; Monte Carlo standard error of a row at 5 %
  is {error:.1f} points.
- **False REGRESSION** at or below the margin: {alarms} of {harmless} releases, largest single row
  {loudest:.1f} %. Nominal: at most 5 %, reached only where all tasks lie exactly at the margin.
- A harmless release that is INCONCLUSIVE is the price of few items: all {tasks} tasks must pass at
  once. `retainbench power` says how many items a suite needs.
- Not here: clusters, graded scores and damage that is correlated over tasks. results/statistics has
  them, for the core suite's own clusters and its whole gate.
"""


def main() -> None:
    """Parse the command line, simulate every cell, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--releases", type=int, default=RELEASES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shapes = {items: frame(items) for items in {cell.items for cell in cells()}}
    rows = [simulate(c, shapes[c.items], options.releases, options.seed) for c in cells()]
    write(rows)


if __name__ == "__main__":
    main()
