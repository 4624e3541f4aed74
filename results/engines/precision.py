"""Verdicts in bfloat16 against those in float32, on copies of fruitfly that were damaged.

Every matrix gets Gaussian noise of a share of its own standard deviation, from a seed. Base and
copy are scored in one precision and judged as a certificate judges them. Writes precision.csv.

Command: `python -m results.engines.precision`, then `python -m results.engines.build`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from retainbench.harness.core.files.storage import csv_text, write_text
from retainbench.harness.core.process import quieten
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks.catalogue import OWN

DAMAGES = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Noise as a share of each matrix's standard deviation."""
DTYPES = ("float32", "bfloat16")
TASKS = ("capitals", "quantities", "date_formats")
HEAD = ("damage", *DTYPES, *(f"{task}, {dtype}" for task in TASKS for dtype in DTYPES))


def rows() -> Iterator[tuple[object, ...]]:
    """One row a damaged copy: its verdicts, and its drop on each task, in both precisions."""
    before = {dtype: scored(0.0, dtype) for dtype in DTYPES}
    for damage in DAMAGES:
        gates = [
            gate_records(before[dtype], scored(damage, dtype), Policy(), expected=TASKS)
            for dtype in DTYPES
        ]
        drops = [
            {task.change.task: task.change.drop.value for task in gate.tasks} for gate in gates
        ]
        verdicts = [gate.verdict for gate in gates]
        yield (damage, *verdicts, *(drop[task] for task in TASKS for drop in drops))


def scored(damage: float, dtype: str) -> list[ItemRecord]:
    """Records of a damaged copy; noise is added in float32, before the precision is lowered."""
    loaded = loading.load(bases.resolve("fruitfly"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in loaded.model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight += damage * weight.std() * noise
    for weight in loaded.model.parameters():  # and no buffer, as when a checkpoint is loaded so
        weight.data = weight.data.to(getattr(torch, dtype))
    return evaluate.evaluate(loaded, OWN.find(TASKS))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/engines"))
    arguments = parser.parse_args()
    quieten()
    write_text(arguments.out / "precision.csv", csv_text(HEAD, rows()))


if __name__ == "__main__":
    main()
