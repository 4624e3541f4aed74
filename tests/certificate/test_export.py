"""Exports carry the certificate's numbers in the shape that other tools parse.

The facts about every_eval_ever 0.3.0 and CycloneDX 1.6 below are restated from their schemas; the
exports were also validated against the schemas themselves.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from fixtures.certify import DAMAGE, TASKS, make
from retainbench.harness.certificate import export as exporting
from retainbench.harness.certificate.export import FORMATS
from retainbench.harness.certificate.formats.every_eval_ever import sample_hash
from retainbench.harness.certificate.formats.hub import dump
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_jsonl
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.tasks import catalogue

export = partial(exporting.export, allow_unsigned=True)
TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
SAMPLES = rf"^data/[^/]+/[^/]+/[^/]+/{UUID4}_samples\.jsonl$"


def shape(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """JSON schema of an object that has these keys and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | optional,
        "additionalProperties": False,
    }


AGGREGATE = shape(
    {
        "schema_version": {"const": "0.3.0"},
        "evaluation_id": TEXT,
        "retrieved_timestamp": {"type": "string", "pattern": "^[0-9]+$"},
        "source_metadata": shape(
            {
                "source_type": {"enum": ["documentation", "evaluation_run"]},
                "source_organization_name": TEXT,
                "evaluator_relationship": {
                    "enum": ["first_party", "third_party", "collaborative", "other"]
                },
            },
            source_name=TEXT,
        ),
        "eval_library": shape({"name": TEXT, "version": TEXT}, additional_details=TEXTS),
        "model_info": shape(
            {
                "name": TEXT,
                "id": TEXT,
                "additional_details": TEXTS
                | {"required": ["deployment_type", "model_availability"]},
            }
        ),
        "evaluation_results": {
            "type": "array",
            "minItems": 1,
            "items": shape(
                {
                    "evaluation_name": TEXT,
                    "source_data": shape(
                        {"dataset_name": TEXT, "source_type": {"const": "other"}},
                        additional_details=TEXTS,
                    ),
                    "metric_config": {
                        "type": "object",
                        "required": ["lower_is_better", "min_score", "max_score"],
                    },
                    "score_details": shape(
                        {"score": {"type": "number"}}, details=TEXTS, uncertainty={}
                    ),
                },
                evaluation_result_id=TEXT,
            ),
        },
    },
    evaluation_timestamp=TEXT,
    detailed_evaluation_results=shape(
        {
            "format": {"const": "jsonl"},
            "file_path": {"type": "string", "pattern": SAMPLES},
            "hash_algorithm": {"const": "sha256"},
            "checksum": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "total_rows": {"type": "integer"},
        }
    ),
)
INSTANCE = shape(
    {
        "schema_version": {"const": "0.3.0"},
        "evaluation_id": TEXT,
        "model_id": TEXT,
        "evaluation_name": TEXT,
        "sample_id": TEXT,
        "interaction_type": {"const": "single_turn"},
        "input": {"type": "object", "required": ["raw", "reference"]},
        "output": {"type": "object", "required": ["raw"]},
        "answer_attribution": {"type": "array", "minItems": 1},
        "evaluation": shape({"score": {"type": "number"}, "is_correct": {"type": "boolean"}}),
    },
    evaluation_result_id=TEXT,
    sample_hash=TEXT,
    metadata=TEXTS,
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of a regression."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAINBENCH_CACHE", str(folder / "cache"))
        return make(folder, DAMAGE).bundle.root


def accuracy(certificate: Path, side: str, task: str) -> float:
    """Mean score of one task, from the records."""
    records = read_jsonl(certificate / f"{side}-records.jsonl", ItemRecord)
    scores = [record.score for record in records if record.task == task]
    return sum(scores) / len(scores)


def test_every_eval_ever(certificate: Path, tmp_path: Path) -> None:
    written = export(certificate, "every-eval-ever", tmp_path)
    assert len(written) == 4
    one_row = jsonschema.Draft7Validator(INSTANCE)
    for path in (path for path in written if path.suffix == ".json"):
        whole = json.loads(path.read_text())
        jsonschema.validate(whole, AGGREGATE)
        detail = whole["detailed_evaluation_results"]
        samples = (tmp_path / detail["file_path"]).read_bytes()
        rows = [json.loads(line) for line in samples.splitlines()]
        assert hashlib.sha256(samples).hexdigest() == detail["checksum"]
        assert len(rows) == detail["total_rows"]
        for row in rows:
            one_row.validate(row)
            assert row["evaluation_id"] == whole["evaluation_id"]
        side = whole["model_info"]["additional_details"]["role"]
        for result in whole["evaluation_results"]:
            task = result["evaluation_name"]
            assert result["score_details"]["score"] == accuracy(certificate, side, task)
            ids = {row["evaluation_result_id"] for row in rows if row["evaluation_name"] == task}
            assert ids == {result["evaluation_result_id"]}
            details = result["score_details"]["details"]
            assert ("verdict" in details) == (side == "candidate")
        info = catalogue.own()["arithmetic"]
        asked = [row["input"]["raw"] for row in rows if row["evaluation_name"] == "arithmetic"]
        assert asked == catalogue.prompts(info)


def test_sample_hash_is_the_schemas_recipe() -> None:
    expected = hashlib.sha256(b'{"raw":"2+2","reference":["4"]}').hexdigest()
    assert sample_hash("2+2", ["4"]) == expected


def test_model_index_is_read_by_the_hub_library(certificate: Path, tmp_path: Path) -> None:
    (written,) = export(certificate, "model-index", tmp_path)
    text = written.read_text()
    assert "verified" not in text
    card = ModelCard(f"---\n{text}---\n# A model\n")
    assert isinstance(card.data, ModelCardData)
    assert card.data.model_name == "candidate"
    values = {r.dataset_type: r.metric_value for r in card.data.eval_results or []}
    assert values == {
        task: pytest.approx(accuracy(certificate, "candidate", task), abs=1e-6) for task in TASKS
    }
    assert {r.metric_type for r in card.data.eval_results or []} == {"accuracy"}


def test_yaml_keeps_strings_strings() -> None:
    for hostile in (
        "no",
        "1e3",
        "null",
        "a: b",
        "line\nbreak",
        "!!python/object:os.system",
        "{{x}}",
    ):
        assert yaml.safe_load(dump({hostile: [hostile]})) == {hostile: [hostile]}


def test_cyclonedx(certificate: Path, tmp_path: Path) -> None:
    (written,) = export(certificate, "cyclonedx", tmp_path)
    bom = json.loads(written.read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    (component,) = bom["components"]
    stated = json.loads((certificate / "certificate.json").read_text())
    assert component["hashes"] == [
        {"alg": "SHA-256", "content": stated["subject"][0]["digest"]["sha256"]}
    ]
    card = component["modelCard"]
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    for metric in metrics:
        bounds = metric.get("confidenceInterval", {}).values()
        assert {type(value) for value in [metric["value"], metric["slice"], *bounds]} == {str}
    drops = {m["slice"]: float(m["value"]) for m in metrics if m["type"] == "retention-drop"}
    lost = accuracy(certificate, "base", "arithmetic") - accuracy(
        certificate, "candidate", "arithmetic"
    )
    assert drops["numeric/arithmetic"] == pytest.approx(lost, abs=1e-6)
    properties = {entry["name"]: entry["value"] for entry in card["properties"]}
    assert properties["retainbench:verdict"] == "REGRESSION"


def test_cyclonedx_against_its_schema(certificate: Path, tmp_path: Path) -> None:
    """The strict schema comes with `pip install 'cyclonedx-python-lib[json-validation]'`."""
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    (written,) = export(certificate, "cyclonedx", tmp_path)
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(written.read_text()) is None
    bom = json.loads(written.read_text())
    bom["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] = 1
    assert validator.validate_str(json.dumps(bom)) is not None


def test_exports_are_deterministic_and_never_overwrite(certificate: Path, tmp_path: Path) -> None:
    for name in FORMATS.keys() - {"eval-results"}:  # which has no data set here
        first = export(certificate, name, tmp_path / name)
        contents = [path.read_bytes() for path in first]
        first[0].write_text("ours")
        with pytest.raises(UsageError, match="exists already"):
            export(certificate, name, tmp_path / name)
        again = export(certificate, name, tmp_path / name, overwrite=True)
        assert [path.read_bytes() for path in again] == contents
    with pytest.raises(UsageError, match="choose one of cyclonedx, eval-results"):
        export(certificate, "pdf", tmp_path)
    with pytest.raises(UsageError, match="not a certificate"):
        export(tmp_path, "cyclonedx", tmp_path)
