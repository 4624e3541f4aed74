"""Recompute a certificate from the files beside it, and refuse it on any difference.

Reads a certificate's folder wherever it lies now; writes nothing, imports no torch and runs no
model. Checked, in this order: the signature (before the payload is parsed), the digest of every
file, the records against the locks, then statistics and verdict computed again from the records
and compared with what is stored. Given the model folders it compares their digests too.

An unsigned certificate protects against accidents and against edits of single parts; whoever can
rewrite all of it can make another one. Only a signature by a key you trust says who made it.

Command: `retainbench verify CERT [--candidate DIR] [--base DIR] [--key K]`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.certificate import dsse, statement
from retainbench.harness.certificate.bundle import Bundle, Evidence, differences
from retainbench.harness.certificate.certify import TRAIN_DATA, Scope, configuration, judge
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.storage import read_json, read_jsonl, sha256_file
from retainbench.harness.core.verdicts import GateResult
from retainbench.harness.gate.decide import Movement
from retainbench.harness.models import identity
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.lock import Lock, check_locked


class VerifyResult(NamedTuple):
    """A certificate that holds, and how far it was checked."""

    gate: GateResult
    subject: str
    """SHA-256 of the candidate's folder (model-signing's rule)."""
    keyid: str | None
    """Of the trusted key that signed; None if no key was given or the file is unsigned."""
    notes: list[str]
    """What was not checked."""


def verify(
    cert: Path,
    *,
    candidate: Path | None = None,
    base: Path | None = None,
    key: Path | None = None,
    tasks: Catalogue = OWN,
) -> VerifyResult:
    """Verify a certificate's folder, or the certificate.json in it.

    Args:
        candidate: model folder that must be the one certified.
        base: model folder that must be the one it was compared with.
        key: PEM file of the public key that must have signed.
        tasks: those installed here, for the note on other versions.

    Raises:
        UsageError: there is no certificate.
        IntegrityError: anything differs; the message names it.
    """
    bundle = Bundle(cert if cert.is_dir() else cert.parent)
    made, opened = _open(bundle.certificate, statement.TEST_RESULT, key)
    predicate = made["predicate"]
    listed = statement.digests(predicate.get("configuration") or [], str(bundle.certificate))
    _check_files(bundle, listed)
    evidence = read_json(bundle.scorecard, Evidence)
    policy = read_json(bundle.policy, Policy)
    _check_records(bundle, evidence.items_per_task)
    result = _recompute(bundle, evidence, policy)
    wanted = statement.test_result(evidence.candidate, result, configuration(bundle, evidence))
    _refuse(differences(made, wanted), f"{bundle.certificate}: does not follow from its records")
    _check_summary(bundle, evidence, key)
    for folder, known in ((candidate, evidence.candidate), (base, evidence.base)):
        if folder is not None:
            _check_model(folder, known)
    notes = _notes(bundle, opened, candidate, base, tasks)
    notes += [
        f"training data {one.name}: not read again; what they give away is as recorded"
        for one in evidence.train_data
    ]
    return VerifyResult(result, evidence.candidate.sha256, opened.keyid, notes)


def _open(path: Path, predicate_type: str, key: Path | None) -> tuple[dict[str, Any], dsse.Opened]:
    if not path.is_file():
        raise UsageError(f"{path}: no certificate there")
    trusted = dsse.public_key(key) if key else None
    opened = dsse.open_envelope(path.read_bytes(), str(path), trusted)
    try:
        value = json.loads(opened.payload)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: the statement is not valid JSON: {error}") from error
    return statement.check_statement(value, str(path), predicate_type), opened


def _check_files(bundle: Bundle, listed: dict[str, str]) -> None:
    """Every file that the statement names is there unchanged, and no other one is relied on."""
    present = bundle.relied_on()
    outside = {name for name in listed if name == "base" or name.startswith(TRAIN_DATA)}
    for name in sorted((listed.keys() - outside) | present.keys()):
        if name not in listed or name not in present or not present[name].is_file():
            raise IntegrityError(f"{bundle.root / name}: missing, or not named in the certificate")
        if sha256_file(present[name]) != listed[name]:
            raise IntegrityError(f"{present[name]}: was changed after the certificate was made")


def _check_records(bundle: Bundle, most: int | None) -> None:
    locks = {path.stem: read_json(path, Lock) for path in sorted(bundle.locks.glob("*.lock"))}
    for side in (bundle.base_records, bundle.candidate_records):
        check_locked(read_jsonl(side, ItemRecord), locks, str(side), most)
    for side in bundle.noises().values():
        again = read_jsonl(side, ItemRecord)
        answered = {record.task for record in again}
        asked = {name: lock for name, lock in locks.items() if name in answered}
        check_locked(again, asked, str(side), most)


def _recompute(bundle: Bundle, evidence: Evidence, policy: Policy) -> GateResult:
    """The verdict from the records; must be what the scorecard says."""
    movement = Movement(drift=evidence.drift, divergence=evidence.divergence)
    name = evidence.gate.candidate
    scope = Scope(evidence.tier, evidence.items_per_task, evidence.train_data)
    result = judge(bundle, policy, name, evidence.expected, movement, scope)
    stored = evidence.gate.model_dump(mode="json")
    found = differences(stored, result.model_dump(mode="json"))
    _refuse(found, f"{bundle.scorecard}: does not follow from the records")
    return result


def _check_summary(bundle: Bundle, evidence: Evidence, key: Path | None) -> None:
    """The short statement is there exactly for a PASS, and speaks of the same candidate."""
    if bundle.summary.is_file() != (evidence.gate.verdict == "PASS"):
        raise IntegrityError(f"{bundle.summary}: there is a summary on a PASS, and only then")
    if bundle.summary.is_file():
        made, _ = _open(bundle.summary, statement.SUMMARY, key)
        wanted = statement.summary(
            evidence.candidate, evidence.created, evidence.environment.get("retainbench", "")
        )
        _refuse(differences(made, wanted), f"{bundle.summary}: differs from the certificate")


def _check_model(folder: Path, known: identity.ModelIdentity) -> None:
    found = identity.identify(folder)
    if found.sha256 != known.sha256:
        names = found.files.keys() | known.files.keys()
        changed = [name for name in names if found.files.get(name) != known.files.get(name)]
        changed.sort(key=lambda name: (not name.endswith(".safetensors"), name))
        raise IntegrityError(
            f"{folder}: is not {known.name} of the certificate; first difference: {changed[0]}"
        )


def _refuse(found: list[str], what: str) -> None:
    if found:
        raise IntegrityError(f"{what} at {found[0].lstrip('.')} ({len(found)} differences)")


def _notes(
    bundle: Bundle, opened: dsse.Opened, candidate: Path | None, base: Path | None, tasks: Catalogue
) -> list[str]:
    notes = []
    if not opened.signed:
        notes.append("unsigned statement: nobody vouches for it")
    elif opened.keyid is None:
        notes.append("signed, but no key was given: the signature was not checked")
    notes += [
        f"the {name} folder was not given: its digest was not checked"
        for name, folder in (("candidate", candidate), ("base", base))
        if folder is None
    ]
    known = tasks.tasks
    for path in sorted(bundle.locks.glob("*.lock")):
        info = known.get(path.stem)
        if info is None or catalogue.lock_digest(info) != sha256_file(path):
            notes.append(f"task {path.stem}: not the version that is installed here")
    return notes
