"""Where things are: the package's own data, the user's cache, and the layout of a run folder.

No other module joins these names. A run folder is the unit that people copy, publish and gate:

    RUN/plan.json                        suite, digests and cells, by content-addressed id
    RUN/commands.json                    the command line that started the run
    RUN/device.json                      the kind of device that all of it was computed on
    RUN/.lock                            who writes the folder now; .NAME.sha256: digest of NAME
    RUN/items/<task>.jsonl               prompts and choices, once per task
    RUN/bases/<name>/                    records, noise floor and continuations of the base
    RUN/evaluations/                     records by content: (checkpoint, task)
    RUN/cells/<id>/checkpoints/<point>/  weights; <point> is like `s0-0.5000`
    RUN/cells/<id>/steps.jsonl           one line per training step
    RUN/cells/<id>/train.json, scorecard.json
    RUN/cells/<id>/validation.json       rewards on validation items, where they choose something
    RUN/cells/<id>/points/<point>/       records.jsonl, drift.json, divergence.json
    RUN/scorecards.jsonl, table.*, report.html
    RUN/sweep/                           a run folder of the variants, and choices.json
    RUN/progress.jsonl                   what the live view showed: checkpoints scored, cells done
"""

from __future__ import annotations

import os
from pathlib import Path

from retainbench.harness.core.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[2]
TASKS = PACKAGE / "tasks"
SUITES = PACKAGE / "suites"
TRAINERS = PACKAGE / "trainers"
BASES = PACKAGE / "harness" / "models" / "embedded"
TEMPLATES = PACKAGE / "harness" / "templates"


def cache() -> Path:
    """The user's cache: `$RETAINBENCH_CACHE`, else `$XDG_CACHE_HOME/retainbench`.

    Raises:
        UsageError: neither is set, and the user has no home folder.
    """
    chosen = os.environ.get("RETAINBENCH_CACHE")
    if chosen:
        return Path(chosen)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "retainbench"
    try:
        return Path.home() / ".cache" / "retainbench"
    except RuntimeError as error:
        raise UsageError("there is no home folder; set RETAINBENCH_CACHE to a folder") from error


class RunFolder:
    """Names inside one run folder; creates nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plan = root / "plan.json"
        self.commands = root / "commands.json"
        self.device = root / "device.json"
        self.scorecards = root / "scorecards.jsonl"
        self.report = root / "report.html"
        self.progress = root / "progress.jsonl"
        self.cells = root / "cells"
        self.evaluations = root / "evaluations"

    @property
    def sweep(self) -> RunFolder:
        """The variants that a sweep tried, a run folder of their own."""
        return RunFolder(self.root / "sweep")

    @property
    def choices(self) -> Path:
        """What a sweep chose, in the folder of its variants."""
        return self.root / "choices.json"

    def items(self, task: str) -> Path:
        """Prompts and choices of one task."""
        return self.root / "items" / f"{task}.jsonl"

    def base_point(self, base: str) -> PointFolder:
        """Evaluations of the base itself."""
        return PointFolder(self.root / "bases" / Path(base).name)

    def cell(self, cell: str) -> CellFolder:
        """One cell by id."""
        return CellFolder(self.cells / cell)

    def table(self, suffix: str) -> Path:
        """The standardized table in one format: md, csv, json, tex or html."""
        return self.root / f"table.{suffix}"


class CellFolder:
    """Names inside one cell."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.train = root / "train.json"
        self.steps = root / "steps.jsonl"
        self.checkpoints = root / "checkpoints"
        self.scorecard = root / "scorecard.json"
        self.validation = root / "validation.json"

    def checkpoint(self, point: str) -> Path:
        """Weights at one point."""
        return self.checkpoints / point

    def checkpoint_record(self, point: str) -> Path:
        """What the checkpoint at one point cost, and its digest."""
        return self.checkpoints / f"{point}.json"

    def point(self, point: str) -> PointFolder:
        """Measurements at one point."""
        return PointFolder(self.root / "points" / point)


class PointFolder:
    """Measurements of one checkpoint."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = root / "records.jsonl"
        self.drift = root / "drift.json"
        self.divergence = root / "divergence.json"
        self.continuations = root / "continuations.jsonl"

    def noise(self, repeat: str) -> Path:
        """Records of a repeat scoring of the base: the A/A noise floor."""
        return self.root / f"noise-{repeat}.jsonl"


def point_name(stage: int, fraction: float) -> str:
    """`s0-0.5000` for stage 0 at half of the budget; sorts in order of training."""
    return f"s{stage}-{fraction:.4f}"
