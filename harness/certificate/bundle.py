"""The files of a certificate: names, and the record of what the verdict rests on.

    OUT/certificate.json         the in-toto statement, or its signed DSSE envelope
    OUT/svr.json                 the short statement (SVR); on a PASS only
    OUT/scorecard.json           `Evidence`: models, gate result, environment, command
    OUT/base-records.jsonl       one record per item
    OUT/candidate-records.jsonl
    OUT/noise-<way>.jsonl        the base scored again in another way: the A/A noise floor
    OUT/policy.json
    OUT/locks/<task>.lock        what was asked, item by item
    OUT/table.csv                one row per task; nothing rests on this and on what follows
    OUT/report.html              the same for people, in one file
    OUT/ci/                      gate.json, junit.xml, summary.md, comment.md

Everything that the verdict rests on is named with its digest in the statement's configuration, so
the folder can move to any place and still be verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from retainbench.harness.core.records import (
    SCHEMA_VERSION,
    DivergenceSummary,
    DriftSummary,
    ItemRecord,
    Record,
)
from retainbench.harness.core.storage import digest
from retainbench.harness.core.verdicts import GateResult
from retainbench.harness.models.identity import ModelIdentity
from retainbench.harness.tasks.training_data import TrainData


class Evidence(Record):
    """`scorecard.json` of a certificate."""

    schema_version: int = SCHEMA_VERSION
    suite: str
    base: ModelIdentity
    candidate: ModelIdentity
    expected: list[str]
    """Retention tasks that had to be compared."""
    tier: Literal["smoke", "standard", "full"]
    items_per_task: int | None
    """Of the suite: only the first items of each task were scored, which never passes."""
    train_data: list[TrainData] = []
    """What the candidate was trained on, as far as it was given, and the items in it."""
    gate: GateResult
    drift: DriftSummary | None
    divergence: DivergenceSummary | None
    notes: list[str] = []
    """Remarks on the two folders, and what could not be measured, with the reason."""
    repeat_churn: dict[str, float] | None
    """Share of items that changed when the base was scored twice in one way; None: not done."""
    environment: dict[str, str]
    settings: dict[str, str]
    """How both were scored: backend, dtype, device, batch."""
    command: list[str]
    created: str
    """UTC, ISO 8601."""
    scope: str = "one checkpoint: items are the random sample, the training seed is fixed"


class Bundle:
    """Names inside one certificate's folder; creates nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.certificate = root / "certificate.json"
        self.summary = root / "svr.json"
        self.scorecard = root / "scorecard.json"
        self.base_records = root / "base-records.jsonl"
        self.candidate_records = root / "candidate-records.jsonl"
        self.policy = root / "policy.json"
        self.table = root / "table.csv"
        self.report = root / "report.html"
        self.ci = root / "ci"
        self.locks = root / "locks"

    def lock(self, task: str) -> Path:
        """What one task asked."""
        return self.locks / f"{task}.lock"

    def noise(self, way: str) -> Path:
        """The base scored again in one way."""
        return self.root / f"noise-{way}.jsonl"

    def noises(self) -> dict[str, Path]:
        """Those that are there, by way."""
        found = sorted(self.root.glob("noise-*.jsonl"))
        return {path.stem.removeprefix("noise-"): path for path in found}

    def relied_on(self) -> dict[str, Path]:
        """Every file that the verdict rests on, by its name in the statement."""
        fixed = [self.base_records, self.candidate_records, self.policy, self.scorecard]
        listed = [*fixed, *self.noises().values(), *sorted(self.locks.glob("*.lock"))]
        return {path.relative_to(self.root).as_posix(): path for path in listed}


def task_digests(records: Sequence[ItemRecord]) -> dict[str, str]:
    """SHA-256 of each task's records, independent of their order in the file."""
    by_task: dict[str, list[str]] = {}
    for record in records:
        by_task.setdefault(record.task, []).append(digest(record.model_dump(mode="json")))
    return {task: digest(sorted(rows)) for task, rows in sorted(by_task.items())}


def differences(stored: Any, computed: Any, at: str = "") -> list[str]:
    """Paths at which two JSON values differ; floats may differ in their last digits.

    Another machine's libm may round otherwise; 1e-9 is far below anything that is reported.
    """
    if isinstance(stored, dict) and isinstance(computed, dict):
        keys = sorted(stored.keys() | computed.keys())
        parts = [differences(stored.get(k), computed.get(k), f"{at}.{k}") for k in keys]
        return [path for part in parts for path in part]
    if isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        pairs = enumerate(zip(stored, computed, strict=True))
        return [p for i, (one, two) in pairs for p in differences(one, two, f"{at}[{i}]")]
    if isinstance(stored, float) and isinstance(computed, float):
        close = abs(stored - computed) <= 1e-9 * max(1.0, abs(stored))
        return [] if close else [at]
    return [] if stored == computed and type(stored) is type(computed) else [at]
