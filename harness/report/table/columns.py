"""What a person sees of a row: the compact columns and their order.

Pure. Markdown, LaTeX, HTML and the terminal print `Table.cells` in this order and add nothing but
escaping, so they cannot differ; CSV and JSON hold whole rows. Gains and drops are shown in
percentage points, drift in percent of the base's norm, KL in nats per token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.recipes import FEW_UPDATES
from retainbench.harness.core.text.formatting import (
    NONE,
    bounded,
    brief,
    counted,
    flops,
    listed,
    nats,
    points,
)
from retainbench.harness.report.table.model import TableRow, axes_of, most_eroded, with_documents
from retainbench.harness.report.table.notes import (
    OVERSPENT,
    notes,
    overspent,
    shallow,
)

Sortable = str | float | None


SEVERITY = ("ERROR", "REGRESSION", "INCONCLUSIVE", "PASS")


class Column(NamedTuple):
    """One compact column."""

    key: str
    header: str
    align: Literal["left", "right"]
    text: Callable[[TableRow], str]
    sort: Callable[[TableRow], Sortable]
    hint: str
    """What the numbers are, for a tooltip and the HTML header."""


class Grid(NamedTuple):
    """A further small table, of unescaped texts, under the standardized one."""

    caption: str
    head: list[str]
    align: str
    """An `l` or `r` for each column."""
    cells: list[list[str]]
    notes: list[str]
    matrix: bool = False
    """A row and a column for each recipe: files have it, a terminal is too narrow."""


class Table(NamedTuple):
    """A table ready to render: unescaped texts."""

    caption: str
    columns: list[Column]
    rows: list[TableRow]
    notes: list[str]
    further: tuple[Grid, ...] = ()

    @property
    def cells(self) -> list[list[str]]:
        """Unescaped text of each row's compact columns."""
        return [[column.text(row) for column in self.columns] for row in self.rows]


def table(rows: Sequence[TableRow], extra_notes: Sequence[str] = ()) -> Table:
    """Compact table of rows; identity columns appear only where they tell rows apart."""
    targets = listed(row.target for row in rows)
    place = "the target" if ", " in targets else targets
    caption = f"Gain on {place} against forgetting on the retention axes"
    return Table(caption, columns(rows), list(rows), [*notes(rows), *extra_notes])


def columns(rows: Sequence[TableRow]) -> list[Column]:
    """The standardized columns; base and target only where there is more than one."""
    found = [
        Column("recipe", "Recipe", "left", _recipe, _recipe, "Name of the recipe in the suite"),
        Column("method", "Method", "left", _method, _method, "Method and which parameters move"),
        _gain(),
        *(_drop(axis) for axis in axes_of(rows)),
        *([_erosion()] if any(most_eroded(row) for row in rows) else []),
        *(_perplexity(axis) for axis in with_documents(rows)),
        _flips(),
        _drift(),
        _kl(),
        _updates(),
        _samples(),
        _cost(),
        _verdict(),
    ]
    if len({row.target for row in rows}) > 1:
        target = Column("target", "Target", "left", _target, _target, "The new task")
        found.insert(0, target)
    if len({row.base for row in rows}) > 1:
        found.insert(0, Column("base", "Base", "left", _base, _base, "The reference model"))
    return found


def _base(row: TableRow) -> str:
    return row.base


def _target(row: TableRow) -> str:
    return row.target


def _recipe(row: TableRow) -> str:
    return row.recipe


def _method(row: TableRow) -> str:
    return f"{row.method}, {row.adaptation}"


def _gain() -> Column:
    hint = "Reward on the target's test items, after minus before, in percentage points"
    return Column(
        "gain", "Gain, pp", "right", lambda r: points(r.gain), lambda r: _value(r.gain), hint
    )


def _drop(axis: str) -> Column:
    hint = f"Chance-rescaled drop on {axis} tasks in percentage points; positive is forgetting"
    return Column(
        axis,
        f"{axis.capitalize()} drop, pp",
        "right",
        lambda row: points(row.axis(axis).drop),
        lambda row: _value(row.axis(axis).drop),
        hint,
    )


def _erosion() -> Column:
    def text(row: TableRow) -> str:
        axis = most_eroded(row)
        return f"{points(row.axis(axis).erosion)} {axis}" if axis else NONE

    def value(row: TableRow) -> float | None:
        axis = most_eroded(row)
        return _value(row.axis(axis).erosion) if axis else None

    hint = (
        "Drop of the gold choice's probability at temperature 4 on the axis where it is largest, "
        "in percentage points; an early warning, never a verdict"
    )
    return Column("erosion", "Erosion, pp", "right", text, value, hint)


def _perplexity(axis: str) -> Column:
    hint = (
        f"Nats per token by which held-out {axis} documents became less likely; positive is "
        "forgetting; decides only where the policy makes the documents mandatory"
    )
    return Column(
        f"{axis}_perplexity",
        f"{axis.capitalize()} text, nats",
        "right",
        lambda row: nats(row.axis(axis).perplexity),
        lambda row: _value(row.axis(axis).perplexity),
        hint,
    )


def _flips() -> Column:
    def text(row: TableRow) -> str:
        lost, gained = flips(row, "lost"), flips(row, "gained")
        return NONE if lost is None or gained is None else f"{lost:.0f} / {gained:.0f}"

    hint = "Retention items that became wrong and that became right, mean per seed"
    return Column("flips", "Lost / gained", "right", text, lambda row: flips(row, "lost"), hint)


def _drift() -> Column:
    def value(row: TableRow) -> float | None:
        return row.drift.relative if row.drift else None

    def text(row: TableRow) -> str:
        null = row.drift.over_null if row.drift else None
        ratio = "" if null is None else f" ({null:.2f})"  # 1.00 and 1.08 differ
        return brief(value(row), scale=100, unit=" %") + ratio

    hint = (
        "Norm of the change over the base's norm; in parentheses over what a random walk of the "
        "same length gives, evolution strategies only"
    )
    return Column("drift", "Drift", "right", text, value, hint)


def _kl() -> Column:
    def text(row: TableRow) -> str:
        if row.kl_on is None and row.kl_off is None:
            return NONE
        on, off = bounded(row.kl_on, row.kl_on_interval), bounded(row.kl_off, row.kl_off_interval)
        return f"{on} / {off}"

    hint = "KL(base || candidate), nats per token, on the target's prompts / on retention prompts"
    return Column("kl", "KL on / off", "right", text, lambda row: row.kl_on, hint)


def _updates() -> Column:
    def text(row: TableRow) -> str:
        made = "+".join(f"{stage:.0f}" for stage in row.updates) or NONE
        return made + ("*" if shallow(row) else "")

    def value(row: TableRow) -> float | None:
        return row.cost.steps if row.cost else None

    hint = f"Updates of every stage, mean per seed; * fewer than {FEW_UPDATES} in a stage"
    return Column("updates", "Updates", "right", text, value, hint)


def _samples() -> Column:
    def text(row: TableRow) -> str:
        return f"{row.cost.samples:.0f}" if row.cost else NONE

    def value(row: TableRow) -> float | None:
        return row.cost.samples if row.cost else None

    hint = "Completions that updates learned from, as often as they did, mean per seed"
    return Column("samples", "Samples", "right", text, value, hint)


def _cost() -> Column:
    def text(row: TableRow) -> str:
        if not row.cost:
            return "not metered" if "cost" in row.missing else NONE
        return flops(row.cost.flops) + (" *" if overspent(row) else "")

    def value(row: TableRow) -> float | None:
        return row.cost.flops if row.cost else None

    return Column(
        "cost", "Cost", "right", text, value, f"Training FLOPs, mean per seed; * {OVERSPENT}"
    )


def _verdict() -> Column:
    def text(row: TableRow) -> str:
        if row.absent:
            return f"failed ({counted(len(row.absent), 'seed')})"
        if len(row.verdicts) == 1:
            return next(iter(row.verdicts))
        return ", ".join(f"{n} {word}" for word, n in worst_first(row.verdicts)) or NONE

    return Column("verdict", "Verdict", "left", text, text, "The gate's verdict on retention")


def worst_first(verdicts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Verdicts with their counts, the worst one first.

    >>> worst_first({"PASS": 2, "REGRESSION": 1})
    [('REGRESSION', 1), ('PASS', 2)]
    """
    return sorted(verdicts.items(), key=lambda pair: SEVERITY.index(pair[0]))


def flips(row: TableRow, which: Literal["lost", "gained"]) -> float | None:
    """Lost or gained items summed over the axes that were scored, mean per seed."""
    found = [getattr(columns, which) for columns in row.axes.values() if columns.drop]
    return sum(found) if found else None


def _value(interval: Interval | None) -> float | None:
    return interval.value if interval else None
