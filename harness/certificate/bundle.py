"""The files of a certificate: names, and the record of what the verdict rests on.

    OUT/certificate.json         the in-toto statement, or its signed DSSE envelope
    OUT/svr.json                 the short statement (SVR); on a PASS only
    OUT/scorecard.json           `Evidence`: models, gate result, environment, command
    OUT/base-records.jsonl       one record per item
    OUT/candidate-records.jsonl
    OUT/noise-<name>.jsonl       repeat scorings of the base: the A/A noise floor, and `engine`, the
                                 base on the candidate's engine
    OUT/policy.json
    OUT/locks/<task>.lock        what was asked, item by item
    OUT/table.csv                one row per task
    OUT/report.html              the same for people, in one file
    OUT/ci/                      gate.json, junit.xml, summary.md, comment.md

The statement names every other file with its digest, so the folder can move to any place and still
be verified. A certificate holds these files and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from retainbench.harness.certificate.speaking import PromptFormat
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import digest
from retainbench.harness.core.names import Name
from retainbench.harness.core.records import ItemRecord, Record
from retainbench.harness.core.scorecards import DivergenceSummary, DriftSummary
from retainbench.harness.core.verdicts import GateResult
from retainbench.harness.models.identity import ModelIdentity, Sha256
from retainbench.harness.tasks.training_data import TrainData


class EngineChange(Record):
    """Two engines answered: what the change of engine did, and what the change of weights did."""

    base: ModelIdentity
    """The base as the candidate's engine read it."""
    engine: GateResult
    """The base on the candidate's engine against the base on its own."""
    weights: GateResult
    """The candidate against the base, both on the candidate's engine."""


class Evidence(Record):
    """`scorecard.json` of a certificate."""

    schema_version: Literal[1] = 1
    suite: Name
    suite_tasks: list[str]
    """Retention tasks as the suite lists them, with those of added packs; an axis means the
    package's tasks of that axis."""
    suite_sha256: Sha256
    """Of all else that the certificate takes from the suite (`certificate.asked.suite_digest`)."""
    base: ModelIdentity
    candidate: ModelIdentity
    expected: list[str]
    """Retention tasks that had to be compared: `suite_tasks` with axes written out."""
    tier: Literal["smoke", "standard", "full"]
    items_per_task: int | None
    """Of the suite or, if fewer, the tier: only the first items of each task were scored, which
    never passes."""
    spoken: PromptFormat = PromptFormat()
    """Through which chat template both were asked."""
    train_data: list[TrainData] = []
    """What the candidate was trained on, as far as it was given, and the items in it."""
    gate: GateResult
    drift: DriftSummary | None
    divergence: DivergenceSummary | None
    notes: list[str] = []
    """Remarks on the two folders, and what could not be measured, with the reason."""
    repeat_churn: dict[str, float] | None
    """Share of items that changed when the base was scored twice in the same way, or None."""
    environment: dict[str, str]
    settings: dict[str, str]
    """How both were scored, or the base: backend, dtype, device, batch."""
    candidate_settings: dict[str, str] | None = None
    """How the candidate was scored, where another engine than the base's answered."""
    engine_change: EngineChange | None = None
    """None with one engine, and where the base was not scored on the candidate's."""
    command: list[str]
    created: str
    """UTC, ISO 8601, in seconds."""
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

    def noise(self, name: str) -> Path:
        """A repeat scoring of the base."""
        return self.root / f"noise-{name}.jsonl"

    def noises(self) -> dict[str, Path]:
        """Those that exist, by name."""
        files = sorted(self.root.glob("noise-*.jsonl"))
        return {path.stem.removeprefix("noise-"): path for path in files}

    def files(self) -> dict[str, Path]:
        """Every file but the statement, by its name in the statement, in order.

        Raises:
            IntegrityError: a link or something else that is neither file nor folder.
        """
        files = {}
        for path in sorted(self.root.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise IntegrityError(f"{path}: a link or special file in a certificate")
            if path.is_file() and path != self.certificate:
                files[path.relative_to(self.root).as_posix()] = path
        return files


def task_digests(records: Sequence[ItemRecord]) -> dict[str, str]:
    """SHA-256 of each task's records, independent of their order in the file."""
    by_task: dict[str, list[str]] = {}
    for record in records:
        by_task.setdefault(record.task, []).append(digest(record.model_dump(mode="json")))
    return {task: digest(sorted(rows)) for task, rows in sorted(by_task.items())}


class Tolerance(NamedTuple):
    """How far two floats may be apart: `share` of the larger of the stored one and `floor`."""

    share: float = 1e-9
    """Another machine's libm may round otherwise; 1e-9 is far below anything that is reported."""
    floor: float = 1.0


USUAL = Tolerance()


def differences(
    stored: Any, computed: Any, at: str = "", tolerance: Tolerance = USUAL
) -> list[str]:
    """Paths at which two JSON values differ; floats may differ in their last digits."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        keys = sorted(stored.keys() | computed.keys())
        pairs = [(stored.get(k), computed.get(k), f"{at}.{k}") for k in keys]
        return [p for pair in pairs for p in differences(*pair, tolerance)]
    if isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        both = enumerate(zip(stored, computed, strict=True))
        return [p for i, (a, b) in both for p in differences(a, b, f"{at}[{i}]", tolerance)]
    if isinstance(stored, float) and isinstance(computed, float):
        far = abs(stored - computed) > tolerance.share * max(tolerance.floor, abs(stored))
        return [at] if far else []
    return [] if stored == computed and type(stored) is type(computed) else [at]


def refuse(found: Sequence[str], what: str) -> None:
    """Raise `IntegrityError` with the first of the paths that `differences` returned, if any."""
    if found:
        raise IntegrityError(f"{what} at {found[0].lstrip('.')} ({len(found)} differences)")
