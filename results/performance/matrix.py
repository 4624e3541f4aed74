"""A small matrix of methods x seeds on the embedded base, against the shell loop that people write.

    matrix    {sft, dft} x seeds by `retainbench run`, with one and with two workers; against a loop
              of `trl sft` and `lm_eval` (batch 32) per cell, and one `lm_eval` for the base; same
              steps, batch size, learning rate, tasks and items
    growth    `retainbench run` with more cells and workers

`retainbench run` does more for its time: three scorings of the base for the noise floor, drift and
KL of each checkpoint, intervals, tables, figures and a report.

Command: `python -m results.performance.build matrix`
"""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from results.performance.process import (
    CLI,
    OFFLINE,
    OURS,
    CommandRow,
    Spent,
    alternate,
    spend,
)
from results.performance.startup import lm_eval
from retainbench.harness.core.files.storage import read_json, write_json, write_text
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.records import TrainRecord
from retainbench.harness.models import bases, loading
from retainbench.harness.suites import loading as suite_loading
from retainbench.harness.tasks import catalogue

METHODS = {"sft": "nll", "dft": "dft"}
"""Recipes, and what TRL calls their loss."""
SEEDS = (0, 1)
CELLS, WORKERS = (1, 4, 8), (1, 2)
"""Of the growth: cells of one method, and worker processes."""
STEPS, BATCH, RATE = 60, 32, 1e-4
TARGET = "countdown"
PEER = "loop over trl sft and lm_eval"
GROWTH = "growth"
TRL = (sys.executable, "-c", "from trl.cli import main; main()")
"""What the console script `trl` does."""

ABOUT = f"""`retainbench run` on the embedded base ({STEPS} steps of {BATCH} samples per cell, the
quick suite's tasks) beside a shell loop that calls `trl sft` and `lm_eval` (batch 32) for each cell
and `lm_eval` for the base. `explained_s` is a start plus so much per cell and worker, fitted to the
runs with one worker; `share` is the training's and scoring's arithmetic at the rate of this
machine's matrix products over the time taken."""


class MatrixRow(NamedTuple):
    """One way to run so many cells; medians over the repeats."""

    work: str
    """`matrix` or `growth`."""
    way: str
    cells: int
    workers: int
    wall_s: float
    wall_spread_s: float
    cpu_s: float
    cpu_spread_s: float
    peak_mb: float
    """Of the largest process."""
    ours_over_this: float
    """Wall time with one worker of ours over this way's."""
    explained_s: float | None = None
    gflop: float | None = None
    """Training, and scoring of multiple-choice tasks."""
    share: float | None = None


def bench(
    *, repeats: int, seeds: Sequence[int] = SEEDS, growth: bool = True
) -> Iterator[MatrixRow]:
    """Measure the matrix, then the growth."""
    with tempfile.TemporaryDirectory(prefix="retainbench-bench-") as temporary:
        folder = Path(temporary)
        cells = len(METHODS) * len(seeds)
        loop = _loop(folder, seeds)
        ways: dict[str, Callable[[], Spent]] = {
            f"{OURS}, {workers} worker{'s' * (workers > 1)}": _runner(
                folder, list(METHODS), seeds, workers
            )
            for workers in WORKERS
        }
        ways[PEER] = lambda: spend(["bash", str(loop)], environment=OFFLINE)
        for row, workers in zip(alternate("matrix", ways, repeats), (*WORKERS, 1), strict=True):
            yield MatrixRow(row.work, row.way, cells, workers, *row[2:])
        if growth:
            yield from _growth(folder, repeats)


def _growth(folder: Path, repeats: int) -> Iterator[MatrixRow]:
    from results.performance.arithmetic import gemm_rate

    loaded = loading.load(bases.resolve("fruitfly").folder)
    rate, scoring = gemm_rate(loaded.model), _scoring_flops(loaded)
    found: list[tuple[int, int, CommandRow, float]] = []
    for cells in CELLS:
        ways = {
            f"{OURS} x {workers}": _runner(folder, ["sft"], range(cells), workers)
            for workers in WORKERS
        }
        for row, workers in zip(alternate(GROWTH, ways, repeats), WORKERS, strict=True):
            once = 1 + len(suite_loading.load("quick").noise_floor)  # the base and its repeats
            work = _training_flops(folder / "run") + (once + cells) * scoring
            found.append((cells, workers, row, work))
    start, each = fit([(cells, row.wall_s) for cells, workers, row, _ in found if workers == 1])
    for cells, workers, row, work in found:
        explained = start + each * cells / workers
        share = work / rate / row.wall_s
        yield MatrixRow(row.work, row.way, cells, workers, *row[2:], explained, work / 1e9, share)


def fit(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Start and slope of the least-squares line through (cells, seconds).

    >>> fit([(1, 3.0), (2, 5.0)])
    (1.0, 2.0)
    """
    slope, start = statistics.linear_regression(*zip(*points, strict=True))
    return start, slope


def _runner(
    folder: Path, methods: Sequence[str], seeds: Sequence[int], workers: int
) -> Callable[[], Spent]:
    """`retainbench run` of so many cells, in a fresh run folder."""
    quick = suite_loading.load("quick")
    content = quick.model_dump(mode="json", exclude={"recipes"}) | {
        "name": "matrix",
        "seeds": list(seeds),
        "budget": {"unit": "steps", "amount": STEPS},
        "trajectory": [1.0],
        "recipes": {
            name: {"method": name, "options": {"learning_rate": RATE, "batch_size": BATCH}}
            for name in methods
        },
    }
    file = folder / f"matrix-{len(methods)}-{len(seeds)}.yaml"
    write_json(file, content)  # JSON is YAML

    def run() -> Spent:
        shutil.rmtree(folder / "run", ignore_errors=True)
        command = [*CLI, "run", str(file), "--out", str(folder / "run"), "--quiet"]
        return spend([*command, "--workers", str(workers)])

    return run


def _loop(folder: Path, seeds: Sequence[int]) -> Path:
    """The peer: data as TRL reads them, and a script."""
    quick, info = suite_loading.load("quick"), catalogue.own()[TARGET]
    rows = [
        {"prompt": info.prompt(item), "completion": info.template.completion(item)}
        for item in catalogue.split(info, "train")
    ]
    data = folder / "data"
    write_text(data / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    names = [one.lm_eval_name for one in catalogue.OWN.find([*quick.tasks, TARGET])]
    base = bases.resolve(quick.base).folder
    lines = ["set -e", shlex.join(lm_eval(base, names, folder / "peer" / "base"))]
    for name, loss in METHODS.items():
        for seed in seeds:
            model = folder / "peer" / f"{name}-{seed}"
            command = [*TRL, "sft", "--model_name_or_path", str(base)]
            command += ["--dataset_name", str(data), "--output_dir", str(model)]
            command += ["--loss_type", loss, "--seed", str(seed), "--max_steps", str(STEPS)]
            command += ["--per_device_train_batch_size", str(BATCH), "--learning_rate", str(RATE)]
            command += ["--lr_scheduler_type", "constant", "--use_cpu", "--bf16", "False"]
            command += ["--save_strategy", "no", "--report_to", "none"]
            lines += [shlex.join(command), shlex.join(lm_eval(model, names, model / "samples"))]
    script = folder / "loop.sh"
    write_text(script, "\n".join(lines) + "\n")
    return script


def _training_flops(run: Path) -> float:
    """What the cells' ledgers say."""
    found = [
        read_json(cell / "train.json", TrainRecord)
        for cell in sorted(RunFolder(run).cells.iterdir())
    ]
    return sum(record.checkpoints[-1].ledger.flops for record in found)


def _scoring_flops(loaded: loading.Loaded) -> float:
    """Of one checkpoint on the multiple-choice tasks, whose requests are one call."""
    from results.performance.arithmetic import flops
    from results.performance.scoring import requests
    from retainbench.harness.scoring.backend import TrieLM
    from retainbench.harness.scoring.packing.packed import prices
    from retainbench.harness.scoring.texts import ask, encoder

    work = requests(suite_loading.load("quick").tasks)
    pairs = tuple(sorted({request.args for asked in work.values() for request in asked}))
    scorer = TrieLM(loaded.model, tokenizer=loaded.tokenizer)
    return flops(loaded.model, ask(encoder(scorer), prices(loaded.model), pairs).layout)


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """What the stored rows show."""
    peer = next(row for row in rows if row["way"] == PEER)
    share = peer["ours_over_this"]
    found = [f"{peer['cells']} cells take {share:.2f} of the loop's time with one worker."]
    grown = [row for row in rows if row["work"] == GROWTH]
    if not grown:
        return found
    start, each = fit([(row["cells"], row["wall_s"]) for row in grown if row["workers"] == 1])
    most = max(row["cells"] for row in grown)
    wall = {row["workers"]: row["wall_s"] for row in grown if row["cells"] == most}
    faster = ", ".join(f"{wall[1] / wall[n]:.2f} times with {n}" for n in wall if n > 1)
    return [
        *found,
        f"One worker: {start:.1f} s to start, score the base and report, {each:.1f} s a cell.",
        f"Speed of {most} cells against one worker: {faster}.",
    ]
