"""CycloneDX 1.6: the candidate as a machine-learning component with a model card.

The schema wants `value`, `slice` and interval bounds as strings and refuses unknown keys, so
digests and the verdict are in `properties`. Serial number and timestamp come from the
certificate: the same certificate gives the same bytes.

Schema: https://cyclonedx.org/schema/bom-1.6.schema.json
"""

from __future__ import annotations

import json
import uuid
from importlib.metadata import version
from typing import Any

from retainbench.harness.certificate.formats.source import ExportSource, by_task, mean
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.files.storage import digest
from retainbench.harness.core.verdicts import TaskGate


def files(source: ExportSource) -> dict[str, str]:
    """`bom.cdx.json`: one component, its model card, and the base as its ancestor."""
    evidence = source.evidence
    serial = uuid.UUID(hex=digest(evidence.model_dump(mode="json"))[:32], version=4)
    tool = {"type": "application", "name": "retainbench", "version": version("retainbench")}
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"timestamp": evidence.created, "tools": {"components": [tool]}},
        "components": [_component(source)],
    }
    text = json.dumps(bom, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {"bom.cdx.json": text + "\n"}


def _component(source: ExportSource) -> dict[str, Any]:
    evidence = source.evidence
    base = {
        "type": "machine-learning-model",
        "name": evidence.base.name,
        "hashes": [{"alg": "SHA-256", "content": evidence.base.sha256}],
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": f"candidate-{evidence.candidate.sha256}",
        "name": evidence.candidate.name,
        "version": evidence.candidate.sha256[:16],
        "hashes": [{"alg": "SHA-256", "content": evidence.candidate.sha256}],
        "pedigree": {"ancestors": [base]},
        "modelCard": model_card(source),
    }


def model_card(source: ExportSource) -> dict[str, Any]:
    """The fragment that fits into anybody's BOM."""
    axes = {task: records[0].axis for task, records in by_task(source.candidate).items()}
    scores = [
        _metric(records[0].metric, mean(records).value, f"{axes[task]}/{task}")
        for task, records in by_task(source.candidate).items()
    ]
    drops = [
        _metric("retention-drop", t.change.drop.value, _slice(t), t.change.drop)
        for t in source.gated()
    ]
    evidence = source.evidence
    properties = {
        "retainbench:verdict": evidence.gate.verdict,
        "retainbench:suite": evidence.suite,
        "retainbench:base-sha256": evidence.base.sha256,
        "retainbench:created": evidence.created,
        **{f"retainbench:{name}": value for name, value in evidence.gate.digests.items()},
    }
    tradeoffs = list(evidence.gate.reasons) or ["no mandatory task regressed"]
    return {
        "modelParameters": {"task": "text-generation"},
        "quantitativeAnalysis": {"performanceMetrics": [*scores, *drops]},
        "considerations": {"performanceTradeoffs": tradeoffs},
        "properties": [{"name": k, "value": str(v)} for k, v in sorted(properties.items())],
    }


def _slice(task: TaskGate) -> str:
    return f"{task.change.axis}/{task.change.task}"


def _metric(
    kind: str, value: float, slice_: str, interval: Interval | None = None
) -> dict[str, Any]:
    found: dict[str, Any] = {"type": kind, "value": f"{value:.6f}", "slice": slice_}
    if interval is not None:
        bounds = {"lowerBound": f"{interval.low:.6f}", "upperBound": f"{interval.high:.6f}"}
        found["confidenceInterval"] = bounds
    return found
