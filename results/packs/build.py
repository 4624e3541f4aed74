"""Freeze packs of real benchmarks and score a real model on them, against what is known of it.

Reads a folder of JSONL files (arc_easy, piqa, blimp, tram_frequency, ...: rows as `retainbench
freeze --jsonl` takes them; they are not part of this package) and a base; writes README.md,
table.csv, run.json and, where an accuracy is off, categories.csv: scores only, never an item.

Command: `python -m results.packs.build DATA [--base smollm2-135m] [--out
results/packs]`, some minutes. Each line is what these verbs print:
`retainbench freeze --jsonl DATA/TASK.jsonl --name TASK --axis AXIS --out PACK`, then
`retainbench evaluate BASE TASK --pack PACK [--limit 100]`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from retainbench.harness.certificate.formats.source import mean
from retainbench.harness.core.axes import RetentionAxis
from retainbench.harness.core.files.storage import (
    csv_text,
    read_csv,
    read_json,
    write_json,
    write_text,
)
from retainbench.harness.core.process import quieten
from retainbench.harness.core.records import ItemRecord, Record
from retainbench.harness.core.text.markdown import grid
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue, freeze

T = TypeVar("T", "Row", "Category")


class Benchmark(NamedTuple):
    """One file, how it is asked, and the accuracy to be expected of SmolLM2-135M-Instruct."""

    name: str
    axis: RetentionAxis
    expected: float | None
    prompt: str | None = None


BENCHMARKS = (
    Benchmark("blimp", "general", 0.68),
    Benchmark("piqa", "general", 0.63),
    Benchmark("arc_easy", "general", 0.52),
    Benchmark("tram_frequency", "temporal", 0.50),
    Benchmark("hellaswag", "general", None, "{{query}}"),
    Benchmark("svamp_mc", "numeric", None),
    Benchmark("bbh_date_understanding", "temporal", None),
)
"""Expected: an independent measurement on 60 to 100 items, without a chat template, by the highest
summed log-likelihood. None: no such measurement is known."""
MODEL = "smollm2-135m"
"""The base that the expected accuracies are of."""
FIRST = 100
"""Items of the comparison with what is expected: as many as that rests on at most."""
COUNTS = ("n", "first")
MEASURES = ("accuracy", "error", "chance", "expected", "z")
FAR = 3.0
"""Standard errors beyond which an accuracy is off."""


class Row(NamedTuple):
    """One line of table.csv."""

    task: str
    axis: str
    prompt: str
    items: str
    """`first` 100, or `all`."""
    n: int
    accuracy: float
    error: float
    """Standard error over items."""
    chance: float
    expected: float | None
    z: float | None
    """Distance from the expected accuracy in standard errors, unsigned."""
    lock: str
    """Digest of the pack's lock: which items, asked how."""


class Category(NamedTuple):
    """One line of categories.csv: the items of a task by the label that their source gives."""

    task: str
    category: str
    first: int
    """Items among the first 100."""
    n: int
    accuracy: float
    error: float


class Run(Record):
    """`run.json`: what answered."""

    base: str
    digest: str
    versions: dict[str, str]


class Measured(NamedTuple):
    """The rows of both tables."""

    rows: list[Row]
    categories: list[Category]


def measure(data: Path, base: str, packs: Path) -> Measured:
    """Freeze every benchmark to `packs` and score the base on it.

    Raises:
        UsageError: a file or the base is not there.
    """
    loaded = loading.load(bases.resolve(base).folder)
    found = Measured([], [])
    for benchmark in BENCHMARKS:
        file = data / f"{benchmark.name}.jsonl"
        frozen = freeze.from_jsonl(file, benchmark.name, benchmark.axis, prompt=benchmark.prompt)
        info = freeze.write(frozen, packs)
        records = evaluate.evaluate(loaded, [info])
        expected = benchmark.expected if base == MODEL else None
        parts = {"first": records[:FIRST], "all": records}
        made = [_row(info, name, part, expected) for name, part in parts.items()]
        found.rows.extend(made)
        if any(row.z is not None and row.z > FAR for row in made):
            found.categories.extend(by_category(benchmark.name, records, file))
    return found


def _row(
    info: catalogue.TaskInfo, items: str, records: list[ItemRecord], expected: float | None
) -> Row:
    score = mean(records)
    return Row(
        task=info.name,
        axis=info.axis,
        prompt=info.template.text,
        items=items,
        n=score.n,
        accuracy=score.value,
        error=score.error,
        chance=sum(record.chance for record in records) / score.n,
        expected=expected,
        z=None if expected is None else abs(score.value - expected) / score.error,
        lock=catalogue.lock_digest(info),
    )


def by_category(task: str, records: Sequence[ItemRecord], file: Path) -> list[Category]:
    """Accuracy per `category` of the source's rows, most frequent among the first items first."""
    lines = file.read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    labels = {row["id"]: str(row.get("category")) for row in rows}
    grouped: dict[str, list[ItemRecord]] = {}
    for record in records:
        grouped.setdefault(labels[record.item_id], []).append(record)
    first = {record.item_id for record in records[:FIRST]}
    made = []
    for label, members in grouped.items():
        score = mean(members)
        early = sum(record.item_id in first for record in members)
        made.append(Category(task, label, early, score.n, score.value, score.error))
    return sorted(made, key=lambda one: (-one.first, one.category))


def as_csv(rows: Sequence[Row] | Sequence[Category]) -> str:
    """CSV, numbers unrounded."""
    return csv_text(rows[0]._fields, rows)


def render(folder: Path) -> str:
    """The page, from the files in its folder."""
    found = Measured(
        [_typed(Row, line) for line in _lines(folder / "table.csv")],
        [_typed(Category, line) for line in _lines(folder / "categories.csv")],
    )
    return readme(found, read_json(folder / "run.json", Run))


def _lines(path: Path) -> list[dict[str, str]]:
    return read_csv(path) if path.is_file() else []


def _typed(kind: type[T], line: dict[str, str]) -> T:
    numbers = {name: int if name in COUNTS else float for name in (*COUNTS, *MEASURES)}
    values: dict[str, Any] = {k: (numbers.get(k, str)(v) if v else None) for k, v in line.items()}
    return kind(**values)


def readme(found: Measured, run: Run) -> str:
    """The page that shows the tables."""
    head = ("task", "axis", "n", "accuracy", "standard error", "chance", "expected", "|z|")
    cells = [
        [
            row.task,
            row.axis,
            str(row.n),
            _three(row.accuracy),
            _three(row.error),
            _three(row.chance),
            _brief(row.expected, 2),
            _brief(row.z, 1),
        ]
        for row in found.rows
    ]
    compared = [row for row in found.rows if row.z is not None and row.items == "first"]
    return PAGE.format(
        base=run.base,
        digest=run.digest,
        first=FIRST,
        table="\n".join(grid(head, cells, "llrrrrrr")),
        within=sum((row.z or 0.0) <= FAR for row in compared),
        compared=len(compared),
        categories=_categories(found.categories),
        versions=", ".join(f"{name} {number}" for name, number in run.versions.items()),
    )


def _categories(found: Sequence[Category]) -> str:
    if not found:
        return ""
    head = ("task", "category", f"in the first {FIRST}", "in all", "accuracy", "standard error")
    cells = [
        [
            one.task,
            one.category,
            str(one.first),
            str(one.n),
            *map(_three, (one.accuracy, one.error)),
        ]
        for one in found
    ]
    return CATEGORIES.format(table="\n".join(grid(head, cells, "llrrrr")), first=FIRST, far=FAR)


def _three(value: float) -> str:
    return f"{value:.3f}"


def _brief(value: float | None, digits: int) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


PAGE = """# Packs of real benchmarks

Generated by `python -m results.packs.build DATA --base {base}`; unrounded
numbers, prompts and the digests of the locks are in `table.csv`.

Plain JSONL files of public benchmarks are frozen to packs (`retainbench freeze --jsonl`) and
{base} answers them: float32 on a CPU, no chat template, no shots, the choice with the highest
summed log-likelihood. The prompt is `Question: ...` and `Answer:`; HellaSwag's choices continue the
context, BLiMP's are whole sentences after the end-of-text token. Each task has two lines: its first
{first} items, as many as the expected accuracies rest on at most, and all that the file has. The
items are not part of this repository.

{table}

- On the first {first} items {within} of the {compared} tasks with an expected accuracy are within 3
  standard errors of it.
- Expected: an independent measurement on 60 to 100 items. That has a standard error of its own,
  about 0.05, which |z| leaves out.
- The standard error is over items and takes no account of clusters (paradigms of BLiMP, templates
  and passages of TRAM), so it is somewhat too small.
- {base} has the digest `{digest}`; {versions}.
{categories}"""

CATEGORIES = """
## Where an accuracy is off

More than {far:g} standard errors on either line; the items by the category that their source gives.
Where categories differ in difficulty and the first {first} items hold other shares of them than the
file does, the two lines measure different mixtures.

{table}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, freeze, score, write the files."""
    parser = argparse.ArgumentParser(prog="python -m results.packs.build")
    parser.add_argument("data", type=Path, help="folder with the JSONL files")
    parser.add_argument("--base", default=MODEL)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    options = parser.parse_args(arguments)
    quieten()
    with tempfile.TemporaryDirectory(prefix="retainbench-packs-") as packs:
        found = measure(options.data, options.base, Path(packs))
    run = Run(
        base=options.base,
        digest=bases.resolve(options.base).digest,
        versions={name: version(name) for name in ("lm-eval", "torch", "transformers")},
    )
    (options.out / "categories.csv").unlink(missing_ok=True)
    write_json(options.out / "run.json", run)
    write_text(options.out / "table.csv", as_csv(found.rows))
    if found.categories:
        write_text(options.out / "categories.csv", as_csv(found.categories))
    write_text(options.out / "README.md", render(options.out))


if __name__ == "__main__":
    main()
