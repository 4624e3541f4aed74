"""JSON Schemas of every record that retainbench writes, and of the files that a user writes.

A schema is that of one record; a `.jsonl` file holds one a line. tests/api/schemas.json keeps the
digests of this version's schemas; `python -m retainbench.harness.api.schemas` prints them.
Command: `retainbench schema NAME`.
"""

from __future__ import annotations

import sys
from typing import Any

from retainbench.harness.certificate.bundle import Evidence
from retainbench.harness.certificate.chain.records import ChainRecord
from retainbench.harness.core import names
from retainbench.harness.core.files.storage import canonical, digest
from retainbench.harness.core.records import (
    SCHEMA_VERSION,
    CheckpointRecord,
    Commands,
    DeviceRecord,
    ItemRecord,
    ItemText,
    Record,
    TrainRecord,
)
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.core.scorecards import DivergenceSummary, DriftSummary, Scorecard
from retainbench.harness.core.verdicts import GateResult
from retainbench.harness.divergence.records import DivergenceReport
from retainbench.harness.drift.records import DriftReport
from retainbench.harness.report.table.model import TableRow
from retainbench.harness.study_design.power import Power
from retainbench.harness.study_design.sensitivity import Sensitivity
from retainbench.harness.suites.lock import SuiteLock
from retainbench.harness.suites.plan import Plan
from retainbench.harness.tasks.freeze import Provenance
from retainbench.harness.tasks.lock import Lock

RECORDS: dict[str, type[Record]] = {
    "certificate": Evidence,
    "chain": ChainRecord,
    "checkpoint": CheckpointRecord,
    "commands": Commands,
    "device": DeviceRecord,
    "divergence": DivergenceSummary,
    "divergence-report": DivergenceReport,
    "drift": DriftSummary,
    "drift-report": DriftReport,
    "gate": GateResult,
    "items": ItemText,
    "lock": Lock,
    "plan": Plan,
    "policy": Policy,
    "power": Power,
    "provenance": Provenance,
    "records": ItemRecord,
    "scorecard": Scorecard,
    "sensitivity": Sensitivity,
    "suite": Suite,
    "suite-lock": SuiteLock,
    "table": TableRow,
    "train": TrainRecord,
}
"""Name -> what the file of that name holds, one of them or one a line."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one kind of record.

    Raises:
        UsageError: there is no record of that name.
    """
    names.require(name, RECORDS, "schema")
    described = RECORDS[name].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def snapshot() -> str:
    """Digest of every schema without its descriptions, under the version of the records."""
    kept = {name: digest(_without_words(schema(name))) for name in RECORDS}
    return canonical({"version": SCHEMA_VERSION, "schemas": kept})


def _without_words(value: Any) -> Any:
    if isinstance(value, dict):
        words = {"description", "title"} if isinstance(value.get("title"), str) else {"description"}
        kept = {k: v for k, v in value.items() if k not in words or not isinstance(v, str)}
        return {key: _without_words(part) for key, part in kept.items()}
    return [_without_words(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.stdout.write(snapshot() + "\n")
