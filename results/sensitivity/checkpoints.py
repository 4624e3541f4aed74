"""The checkpoints that the sensitivity pages rest on: trained, scored and read back.

Runs `damage.yaml` (six mechanisms of damage on fruitfly) and `null.yaml` (updates that teach
nothing) into a folder of runs, resuming what is there. A null update is SFT on answers that the
base itself samples at temperature 1: the expected gradient is zero at the base, so what it moves is
the noise of training. Reads the runs' records; `build.py` makes tables of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.api.run import run as run_suite
from retainbench.harness.comparison.columns import Columns, columns
from retainbench.harness.comparison.compare import Comparison, compare
from retainbench.harness.comparison.pairing import Pair, pair
from retainbench.harness.contracts import new_target, rows
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.divergence.continuations import sample_continuations
from retainbench.harness.models import bases, loading
from retainbench.harness.suites.plan import Plan
from retainbench.harness.tasks import catalogue

HERE = Path(__file__).resolve().parent
POLICY = Policy()
ASKED = "countdown"
"""Whose training prompts the base answers for the null updates."""
OWN_SAMPLES = "own_samples"


class Checkpoint(NamedTuple):
    """One damaged checkpoint against its base."""

    mechanism: str
    seed: int
    fraction: float
    drift: float | None
    """Relative norm of the change."""
    found: Comparison
    pairs: dict[str, Pair]
    """Tasks with answers by name."""


def run(work: Path) -> None:
    """Train and score everything that is missing."""
    own_samples(work)
    shutil.copyfile(HERE / "null.yaml", work / "null.yaml")
    run_suite(str(HERE / "damage.yaml"), work / "damage")
    run_suite(str(work / "null.yaml"), work / "null")


def own_samples(work: Path) -> None:
    """WORK/own_samples: a target whose right answers are the base's own samples."""
    if (work / OWN_SAMPLES).is_dir():
        return
    info = catalogue.own()[ASKED]
    items = catalogue.split(info, "train")
    base = loading.load(bases.resolve("fruitfly"))
    prompts = [info.prompt(item) for item in items]
    drawn = sample_continuations(base, prompts, max_new_tokens=info.max_new_tokens)
    texts = base.tokenizer.batch_decode([one.ids for one in drawn], skip_special_tokens=True)
    answers = [text.split("\n")[0].strip() for text in texts]
    found = [
        rows.completed({"id": item["id"], "query": item["query"], "answer": answer})
        for item, answer in zip(items, answers, strict=True)
        if answer
    ]
    wish = new_target.TargetSpec(
        OWN_SAMPLES,
        "exact",
        prompt=info.template.text,
        max_new_tokens=info.max_new_tokens,
        licence="Apache-2.0",
        provenance={"source": "jsonl", "name": "samples of fruitfly"},
    )
    work.mkdir(parents=True, exist_ok=True)
    new_target.write(wish, rows.split(found), work)


def read(folder: Path) -> list[Checkpoint]:
    """Every scored checkpoint of a run, in the plan's order.

    Raises:
        IntegrityError: a cell has no scorecard, or records do not pair.
    """
    run_folder = RunFolder(folder)
    plan = read_json(run_folder.plan, Plan)
    base = _only(columns(run_folder.base_point(plan.suite.base).records), plan.retention)
    return [
        checkpoint
        for cell in plan.cells
        for checkpoint in _checkpoints(run_folder, cell.id, cell.name, cell.seed, base)
    ]


def _checkpoints(
    folder: RunFolder, cell: str, name: str, seed: int, base: Columns
) -> Iterator[Checkpoint]:
    where = folder.cell(cell)
    for scored in read_json(where.scorecard, Scorecard).points:
        if scored.fraction > 0:
            point = where.point(point_name(scored.stage, scored.fraction))
            records = _only(columns(point.records), list(base))
            drift = scored.drift.relative if scored.drift else None
            yield Checkpoint(
                mechanism=name,
                seed=seed,
                fraction=scored.fraction,
                drift=drift,
                found=compare(base, records, POLICY),
                pairs=pair(base, records),
            )


def repeats(folder: Path) -> dict[str, Comparison]:
    """How the base differs from itself, by the name of the repeat scoring."""
    run_folder = RunFolder(folder)
    plan = read_json(run_folder.plan, Plan)
    point = run_folder.base_point(plan.suite.base)
    base = columns(point.records)
    found: dict[str, Comparison] = {}
    for name in plan.suite.noise_floor:
        again = columns(point.noise(name))
        found[name] = compare({label: base[label] for label in again}, again, POLICY)
    return found


def _only(found: Columns, names: Sequence[str]) -> Columns:
    return {label: table for label, table in found.items() if label.split("/")[0] in names}
