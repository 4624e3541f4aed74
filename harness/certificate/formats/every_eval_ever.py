"""every_eval_ever 0.3.0: one aggregate JSON and one samples JSONL per model.

Paths are `data/<collection>/<developer>/<model>/<uuid>.json` and `<uuid>_samples.jsonl`, as the
schema's pattern wants them; the UUID is drawn from the content, so exporting twice gives the same
files. The schema has no place for paired drops: interval and verdict of a task are in the
candidate's `score_details.details`, where all values are strings.

Schema: evaleval/every_eval_ever, every_eval_ever/schemas/{eval,instance_level_eval}.schema.json
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from retainbench.harness.certificate.formats.source import ExportSource, by_task, item_inputs, mean
from retainbench.harness.core.files.storage import canonical, digest
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models.identity import ModelIdentity

SCHEMA = "0.3.0"
COLLECTION = "retainbench"
DEVELOPER = "unknown"  # a local folder does not say who made it; `org/model` names do


def files(source: ExportSource) -> dict[str, str]:
    """Both files of both models, by path."""
    written: dict[str, str] = {}
    for role, model, records in source.sides():
        identity = _uuid(source, role)
        developer, _, name = model.name.rpartition("/")
        folder = f"data/{COLLECTION}/{developer or DEVELOPER}/{name}"
        samples = "".join(canonical(row) + "\n" for row in instances(source, role, model, records))
        detail = {
            "format": "jsonl",
            "file_path": f"{folder}/{identity}_samples.jsonl",
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(samples.encode()).hexdigest(),
            "total_rows": len(records),
        }
        whole = aggregate(source, role, model, records) | {"detailed_evaluation_results": detail}
        text = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        written[f"{folder}/{identity}.json"] = text + "\n"
        written[f"{folder}/{identity}_samples.jsonl"] = samples
    return written


def aggregate(
    source: ExportSource, role: str, model: ModelIdentity, records: list[ItemRecord]
) -> dict[str, Any]:
    """The aggregate file without the reference to its samples."""
    evidence = source.evidence
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(source, model),
        "evaluation_timestamp": _epoch(source),
        "retrieved_timestamp": _epoch(source),
        "source_metadata": {
            "source_name": "retainbench",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "retainbench",
            "version": evidence.environment.get("retainbench", "unknown"),
            "additional_details": {"lm_eval": evidence.environment.get("lm-eval", "unknown")},
        },
        "model_info": {
            "name": model.name,
            "id": model.name,
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                "sha256": model.sha256,
                "role": role,
            },
        },
        "evaluation_results": [
            _result(source, role, task, rows) for task, rows in by_task(records).items()
        ],
    }


def _result(
    source: ExportSource, role: str, task: str, records: list[ItemRecord]
) -> dict[str, Any]:
    score = mean(records)
    graded = {record.score for record in records} - {0.0, 1.0}
    uncertainty = {
        "standard_error": {"value": score.error, "method": "analytic"},
        "standard_deviation": score.deviation,
        "num_samples": score.n,
    }
    return {
        "evaluation_result_id": f"{task}/{records[0].metric}",
        "evaluation_name": task,
        "source_data": {
            "dataset_name": f"retainbench/{task}",
            "source_type": "other",
            "additional_details": {"axis": records[0].axis},
        },
        "metric_config": {
            "metric_id": "accuracy" if records[0].metric == "acc" else records[0].metric,
            "metric_name": records[0].metric,
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
            "additional_details": {"items": "graded" if graded else "right or wrong"},
        },
        "score_details": {
            "score": score.value,
            "uncertainty": uncertainty,
            "details": _details(source, role, task),
        },
    }


def _details(source: ExportSource, role: str, task: str) -> dict[str, str]:
    """The paired comparison of the task, for the candidate."""
    found = [gated for gated in source.gated() if gated.change.task == task]
    if role == "base" or not found:
        return {"role": role}
    change = found[0].change
    return {
        "role": role,
        "base_sha256": source.evidence.base.sha256,
        "retention_drop": f"{change.drop.value:.6f}",
        "retention_drop_interval": f"[{change.drop.low:.6f}, {change.drop.high:.6f}]",
        "retention_drop_level": f"{change.drop.level:g}",
        "margin": f"{change.margin}",
        "verdict": found[0].verdict,
    }


def instances(
    source: ExportSource, role: str, model: ModelIdentity, records: list[ItemRecord]
) -> Iterator[dict[str, Any]]:
    """One row per item; the text of items is in it only if the task is installed."""
    for task, rows in by_task(records).items():
        known = item_inputs(task, source.tasks)
        for record in rows:
            prompt, choices, answer = known.get(
                record.doc_hash, (f"sha256:{record.prompt_hash}", None, str(record.gold))
            )
            yield {
                "schema_version": SCHEMA,
                "evaluation_id": _evaluation_id(source, model),
                "model_id": model.name,
                "evaluation_name": task,
                "evaluation_result_id": f"{task}/{record.metric}",
                "sample_id": record.item_id,
                "sample_hash": sample_hash(prompt, [answer]),
                "interaction_type": "single_turn",
                "input": {"raw": prompt, "reference": [answer], "choices": choices},
                "output": {"raw": [record.response or ""]},
                "answer_attribution": [_attribution(record)],
                "evaluation": {"score": record.score, "is_correct": record.score == 1.0},
                "metadata": _metadata(record),
            }


def sample_hash(raw: str, reference: list[str]) -> str:
    """The schema's own recipe: SHA-256 of prompt and references as compact ASCII JSON."""
    value = {"raw": raw, "reference": reference}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _attribution(record: ItemRecord) -> dict[str, Any]:
    method = "log-likelihood" if record.choice_logprobs else record.metric
    return {
        "turn_idx": 0,
        "source": "output.raw",
        "extracted_value": record.response or "",
        "extraction_method": method,
        "is_terminal": True,
    }


def _metadata(record: ItemRecord) -> dict[str, str]:
    """Everything else about an item; the schema allows strings only."""
    found = {
        "axis": record.axis,
        "cluster": record.cluster,
        "doc_hash": record.doc_hash,
        "prompt_hash": record.prompt_hash,
        "repeat": str(record.repeat),
        "valid": str(record.valid).lower(),
    }
    return found | ({} if record.soft_score is None else {"soft_score": repr(record.soft_score)})


def _evaluation_id(source: ExportSource, model: ModelIdentity) -> str:
    return f"{COLLECTION}-{source.evidence.suite}/{model.name}/{_epoch(source)}"


def _epoch(source: ExportSource) -> str:
    return str(int(datetime.fromisoformat(source.evidence.created).timestamp()))


def _uuid(source: ExportSource, role: str) -> uuid.UUID:
    content = digest([source.evidence.model_dump(mode="json"), role])
    return uuid.UUID(hex=content[:32], version=4)
