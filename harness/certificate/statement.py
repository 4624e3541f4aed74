"""What a certificate says, as in-toto statements: who was tested, against what, with which result.

Builds plain objects from a certificate's files. The statement names every file of the certificate
and, next to the digest of each model folder, every file of that folder. The subject's digest
follows the model-signing tool's default (files, SHA-256), so that its signatures and ours name the
same model: SHA-256 over the raw SHA-256 digests of all files, ordered by their relative path part
by part, without .git, .gitattributes, .github, .gitignore and the signature file. Unlike its
default we read files behind links (as its `--allow-symlinks`), because hub snapshots consist of
them.

Formats: in-toto Statement v1, predicates test-result v0.1 and SVR v0.1
(https://github.com/in-toto/attestation/tree/main/spec).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retainbench.harness.certificate.bundle import Bundle, Evidence, task_digests
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import parse_object
from retainbench.harness.core.files.storage import canonical, sha256_file
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.verdicts import GateResult, TaskGate
from retainbench.harness.models.identity import ModelIdentity
from retainbench.harness.tasks.training_data import TrainData

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SUMMARY = "https://in-toto.io/attestation/svr/v0.1"
PROPERTY = "RETAINBENCH_RETENTION_PASS_v1"
TRAIN_DATA = "train-data "
"""Before the number of a training file; no file of a certificate has such a name."""


def descriptor(name: str, sha256: str, /, **annotations: Any) -> dict[str, Any]:
    """An in-toto ResourceDescriptor."""
    found: dict[str, Any] = {"name": name, "digest": {"sha256": sha256}}
    return found | ({"annotations": annotations} if annotations else {})


def test_result(
    bundle: Bundle, evidence: Evidence, base: list[ItemRecord], candidate: list[ItemRecord]
) -> dict[str, Any]:
    """The test-result statement; everything but PASS is FAILED, INCONCLUSIVE too.

    Args:
        bundle: all other files of the certificate, written.
    """
    predicate = {
        "result": "PASSED" if evidence.gate.verdict == "PASS" else "FAILED",
        "configuration": [
            _model("base", evidence.base),
            _model("candidate", evidence.candidate),
            *map(_train_data, range(1, len(evidence.train_data) + 1), evidence.train_data),
            *_files(bundle, evidence, base, candidate),
        ],
        **test_names(evidence.gate),
    }
    return about(evidence.candidate, TEST_RESULT, predicate)


def _train_data(number: int, data: TrainData) -> dict[str, Any]:
    annotations = {"name": data.name, "rows": data.rows, "overlap": data.overlap}
    return descriptor(f"{TRAIN_DATA}{number}", data.sha256, **annotations)


def _model(side: str, model: ModelIdentity) -> dict[str, Any]:
    """A model folder with its files, which the digest of the whole does not name."""
    return descriptor(side, model.sha256, **{"name": model.name, "files": model.files})


def _files(
    bundle: Bundle, evidence: Evidence, base: list[ItemRecord], candidate: list[ItemRecord]
) -> list[dict[str, Any]]:
    annotations: dict[str, dict[str, Any]] = {
        bundle.base_records.name: {"tasks": task_digests(base)},
        bundle.candidate_records.name: {"tasks": task_digests(candidate)},
        bundle.scorecard.name: {"verdict": evidence.gate.verdict, "command": evidence.command},
    }
    return [
        descriptor(name, sha256_file(path), **annotations.get(name, {}))
        for name, path in bundle.files().items()
    ]


def test_names(result: GateResult) -> dict[str, list[str]]:
    """Names by outcome; a task that is not mandatory and did not pass is a warning."""
    passed: list[str] = []
    warned: list[str] = []
    failed: list[str] = []
    for task in result.tasks:
        kind = passed if task.verdict == "PASS" else failed if task.mandatory else warned
        kind.append(_test_name(task))
    for axis in result.axes:
        if axis.gated:
            (passed if axis.verdict == "PASS" else failed).append(f"retention/{axis.axis}/mean")
    return {
        "passedTests": sorted(passed),
        "warnedTests": sorted(warned),
        "failedTests": sorted(failed),
    }


def summary(subject: ModelIdentity, created: str, version: str) -> dict[str, Any]:
    """The short statement that policy engines read; made for a PASS only, since it has no "no"."""
    verifier = {"id": f"pkg:pypi/retainbench@{version}"}
    predicate = {"verifier": verifier, "timeCreated": created, "properties": [PROPERTY]}
    return about(subject, SUMMARY, predicate)


def parse(payload: bytes, where: str, predicate_type: str) -> dict[str, Any]:
    """A statement of the wanted type from its canonical bytes.

    Raises:
        IntegrityError: other bytes, for example a key that is given twice, which another program
            may read otherwise; or another kind of statement.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{where}: not UTF-8 at byte {error.start}") from error
    value = parse_object(text, where)
    if not _is_canonical(value, payload):
        raise IntegrityError(f"{where}: the statement is not canonical JSON; somebody rewrote it")
    if value.get("_type") != STATEMENT:
        raise IntegrityError(f"{where}: not an in-toto statement v1")
    if value.get("predicateType") != predicate_type:
        raise IntegrityError(f"{where}: its predicateType is not {predicate_type}")
    if not isinstance(value.get("predicate"), dict):
        raise IntegrityError(f"{where}: it has no predicate")
    return value


def _is_canonical(value: dict[str, Any], payload: bytes) -> bool:
    try:
        return canonical(value).encode() == payload
    except ValueError:  # NaN, or half a surrogate pair
        return False


def listed(statement: Mapping[str, Any], where: str) -> dict[str, str]:
    """SHA-256 of every file of the certificate that a statement names, by file name.

    Raises:
        IntegrityError: an entry has no name or SHA-256, or two have the same name.
    """
    descriptors = statement["predicate"].get("configuration")
    try:
        found = {str(entry["name"]): str(entry["digest"]["sha256"]) for entry in descriptors}
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"{where}: a resource without name or SHA-256") from error
    if len(found) != len(descriptors):
        raise IntegrityError(f"{where}: two resources have the same name")
    for side in ("base", "candidate"):
        found.pop(side, None)
    return {name: sha256 for name, sha256 in found.items() if not name.startswith(TRAIN_DATA)}


def _test_name(task: TaskGate) -> str:
    return f"retention/{task.change.task}/{task.change.metric}"


def about(subject: ModelIdentity, predicate_type: str, predicate: dict[str, Any]) -> dict[str, Any]:
    """An in-toto statement about one model."""
    return {
        "_type": STATEMENT,
        "subject": [descriptor(subject.name, subject.sha256)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
