"""results/performance/: one CSV and one JSON per measurement, and a page made from them.

The CSV holds the rows as measured, the JSON how: command, date, machine, versions. The page shows
all measurements of the folder and what they say about the goals; it is a function of those files
alone, so a test rebuilds it. Command: `python -m results.performance.build WHAT --out
results/performance` adds or renews one.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from retainbench.harness.core.files.storage import (
    csv_text,
    read_csv,
    read_json,
    write_json,
    write_text,
)
from retainbench.harness.core.records import Record
from retainbench.harness.core.text.formatting import counted
from retainbench.harness.core.text.markdown import grid

VERSIONS = ("retainbench", "torch", "transformers", "lm-eval", "trl", "pandas", "numpy")
TITLES: dict[What, str] = {
    "scoring": "Scoring, beside lm-eval's own backend",
    "growth": "Scoring time as work grows",
    "startup": "Command lines from a cold start",
    "eggroll": "EGGROLL's population in one batch",
    "rollout": "Rollouts",
    "drift": "Drift of two checkpoints, beside reading them",
    "matrix": "A matrix of methods and seeds",
    "gate": "The gate on stored records",
}

HEAD = """# Performance

Generated; do not edit. Ours and the peer's figures are from the same run of each command on the
same machine, in turn; seconds are medians, the spread is the largest minus the smallest. The CSV
files beside this page hold every row unrounded."""


class Measurement(Record):
    """`<name>.json`: how the rows of `<name>.csv` came about."""

    what: What
    command: str
    repeats: int
    date: str
    """UTC, ISO 8601, by the day."""
    machine: dict[str, str]
    versions: dict[str, str]


def measured(what: What, command: str, repeats: int, accelerator: str | None) -> Measurement:
    """The record of a measurement that was just made on this machine."""
    return Measurement(
        what=what,
        command=command,
        repeats=repeats,
        date=datetime.now(UTC).date().isoformat(),
        machine=machine() | ({"accelerator": accelerator} if accelerator else {}),
        versions={name: version(name) for name in VERSIONS},
    )


def machine(information: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The processor and what of it this process may use."""
    facts = {"system": platform.system(), "python": platform.python_version()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts |= {"processor": platform.processor() or platform.machine(), "cores": str(cores)}
    if information.exists():
        facts["processor"] = processor(information.read_text()) or facts["processor"]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        facts["memory"] = f"{memory / 2**30:.0f} GiB"
    facts["threads"] = os.environ.get("OMP_NUM_THREADS", str(cores))
    return facts


def processor(information: str) -> str | None:
    """The processor's name in the text of /proc/cpuinfo; None where it has none, as on ARM.

    >>> processor("model name      : Fast 3000")
    'Fast 3000'
    >>> processor("CPU implementer : 0x41")
    """
    lines = dict(line.split(":", 1) for line in information.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in lines.items()}.get("model name")


def write(folder: Path, name: str, rows: Sequence[Any], how: Measurement) -> None:
    """Add or renew one measurement and the page.

    Args:
        name: of the files, such as `scoring-fruitfly`.
        rows: NamedTuples of one kind.
    """
    write_text(folder / f"{name}.csv", csv_text(rows[0]._fields, rows))
    write_json(folder / f"{name}.json", how)
    write_text(folder / "README.md", page(folder))


def page(folder: Path) -> str:
    """The page of a folder, from its other files."""
    found = [(path.stem, read_json(path, Measurement)) for path in sorted(folder.glob("*.json"))]
    order: list[What] = list(get_args(What))
    found.sort(key=lambda one: (order.index(one[1].what), one[0]))
    parts = [HEAD]
    for what in dict.fromkeys(how.what for _, how in found):
        parts += [f"## {TITLES[what]}", module(what).ABOUT]
        for name, how in found:
            if how.what == what:
                parts += _section(read(folder / f"{name}.csv"), how)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(rows: list[dict[str, Any]], how: Measurement) -> list[str]:
    table = [_cells(row) for row in rows]
    align = "".join("l" if isinstance(value, str) else "r" for value in _unspread(rows[0]).values())
    facts = ", ".join(f"{name} {value}" for name, value in (how.machine | how.versions).items())
    return [
        f"### `{how.command}`",
        "\n".join(f"- {line}" for line in module(how.what).findings(rows)),
        "\n".join(grid(list(table[0]), [list(cells.values()) for cells in table], align)),
        f"{how.date}, {counted(how.repeats, 'repeat')}; {facts}.",
    ]


def _cells(row: dict[str, Any]) -> dict[str, str]:
    """A line of the page by its head: seconds with their spread in brackets."""
    cells = {}
    for name, value in _unspread(row).items():
        spread = row.get(f"{name.removesuffix('_s')}_spread_s")
        head = name.replace("_", " ") + (" (spread)" if spread is not None else "")
        cells[head] = shown(value) + (f" ({shown(spread)})" if spread is not None else "")
    return cells


def _unspread(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.endswith("_spread_s")}


def module(what: What) -> Any:
    """The file that measures it: `bench`, `ABOUT` and `findings`."""
    return import_module(f"results.performance.{what}")


def read(path: Path) -> list[dict[str, Any]]:
    """Stored rows; what looks like a number is one, what is empty None."""
    return [{name: _value(text) for name, text in row.items()} for row in read_csv(path)]


def _value(text: str) -> str | int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def shown(value: object) -> str:
    """A cell: three significant digits.

    >>> [shown(value) for value in (None, "ours", 12345, 0.0, 1234.5, 2.345678, 3.6e-05)]
    ['', 'ours', '12345', '0', '1234', '2.35', '3.6e-05']
    """
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def aligned(rows: Iterable[Any]) -> Iterator[str]:
    """NamedTuples of one kind as lines of equal columns, as they come."""
    for number, row in enumerate(rows):
        values = row._asdict()
        if not number:
            yield "  ".join(_padded(name, name, value) for name, value in values.items())
        yield "  ".join(_padded(name, shown(value), value) for name, value in values.items())


def _padded(name: str, text: str, value: object) -> str:
    return text.ljust(28) if isinstance(value, str) else text.rjust(max(9, len(name)))


What = Literal["scoring", "growth", "startup", "eggroll", "rollout", "drift", "matrix", "gate"]
