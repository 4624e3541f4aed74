"""What a certificate says, as in-toto statements: who was tested, against what, with which result.

Builds plain objects; reads model folders for their digests. The subject's digest follows the
model-signing tool's default (files, SHA-256), so that its signatures and ours name the same model:
SHA-256 over the raw SHA-256 digests of all files, ordered by their relative path part by part,
without .git, .gitattributes, .github, .gitignore and the signature file. Unlike its default we read
files behind links (as its `--allow-symlinks`), because hub snapshots consist of them.

Formats: in-toto Statement v1, predicates test-result v0.1 and SVR v0.1
(https://github.com/in-toto/attestation/tree/main/spec).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.verdicts import GateResult, TaskGate
from retainbench.harness.models.identity import ModelIdentity

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SUMMARY = "https://in-toto.io/attestation/svr/v0.1"
PROPERTY = "RETAINBENCH_RETENTION_PASS_v1"


def descriptor(name: str, sha256: str, /, **annotations: Any) -> dict[str, Any]:
    """An in-toto ResourceDescriptor."""
    found: dict[str, Any] = {"name": name, "digest": {"sha256": sha256}}
    return found | ({"annotations": annotations} if annotations else {})


def test_result(
    subject: ModelIdentity, result: GateResult, configuration: list[dict[str, Any]]
) -> dict[str, Any]:
    """The test-result statement; everything but PASS is FAILED, INCONCLUSIVE too."""
    predicate = {
        "result": "PASSED" if result.verdict == "PASS" else "FAILED",
        "configuration": configuration,
        **test_names(result),
    }
    return _statement(subject, TEST_RESULT, predicate)


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
    return _statement(subject, SUMMARY, predicate)


def check_statement(value: Any, where: str, predicate_type: str) -> dict[str, Any]:
    """A statement of the wanted type with exactly one subject, or `IntegrityError`."""
    if not isinstance(value, dict) or value.get("_type") != STATEMENT:
        raise IntegrityError(f"{where}: not an in-toto statement v1")
    if value.get("predicateType") != predicate_type:
        raise IntegrityError(f"{where}: predicate {value.get('predicateType')!r} is not ours")
    if not isinstance(value.get("predicate"), dict) or len(value.get("subject") or []) != 1:
        raise IntegrityError(f"{where}: a certificate has one subject and a predicate")
    return value


def digests(descriptors: list[Mapping[str, Any]], where: str) -> dict[str, str]:
    """SHA-256 by name of a list of descriptors."""
    try:
        found = {str(entry["name"]): str(entry["digest"]["sha256"]) for entry in descriptors}
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"{where}: a resource without name or SHA-256") from error
    if len(found) != len(descriptors):
        raise IntegrityError(f"{where}: two resources have the same name")
    return found


def _test_name(task: TaskGate) -> str:
    return f"retention/{task.change.task}/{task.change.metric}"


def _statement(
    subject: ModelIdentity, predicate_type: str, predicate: dict[str, Any]
) -> dict[str, Any]:
    return {
        "_type": STATEMENT,
        "subject": [descriptor(subject.name, subject.sha256)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
