"""Recompute a certificate from its own files, and refuse it on any difference.

Reads a certificate's folder, wherever it is now; writes nothing and runs no model. In this order:

    the signature, before the statement is parsed; the statement's bytes; the set of files and their
    digests (here); the bytes of every file (contents.py); records against locks and against
    themselves (answers.py); suite, tasks and date (asked.py); statistics and verdict (judging.py);
    texts for people and CI (page.py); the statement itself (statement.py); and, where they are
    given, the two model folders and how far the weights moved (folders.py).

Whoever can rewrite all files of an unsigned certificate can make another one, so an unsigned one is
refused unless the caller asks for it. A signature says who made it, if you trust the key.

Command: `retainbench verify CERT [--candidate DIR] [--base DIR] [--key K | --allow-unsigned]`.
Leaves out: scoring the models again, and KL; `.github/SECURITY.md` says what follows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.certificate import dsse, page, speaking, statement
from retainbench.harness.certificate.bundle import Bundle, Evidence, differences, refuse
from retainbench.harness.certificate.checks import answers, asked, contents, folders
from retainbench.harness.certificate.checks.contents import CertificateContents
from retainbench.harness.certificate.judging import Scope, judge, judge_engines
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.atomic import explained
from retainbench.harness.core.files.foreign_json import regular_file
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.schema import Suite
from retainbench.harness.core.verdicts import GateResult
from retainbench.harness.gate.decide import Movement
from retainbench.harness.tasks.catalogue import OWN, Catalogue

MOST_BYTES = 64 << 20
"""Of a statement; the files of 10,000 shards and tasks take some 3 MB."""


class VerifyResult(NamedTuple):
    """A certificate that holds, and how far it was checked."""

    gate: GateResult
    subject: str
    """SHA-256 of the candidate's folder (model-signing's rule)."""
    keyid: str | None
    """Of the trusted key that signed; None if no key was given or the file is unsigned."""
    notes: list[str]
    """What was not checked."""
    contents: CertificateContents
    """What the certificate says."""


def verify(
    cert: Path,
    *,
    candidate: Path | None = None,
    base: Path | None = None,
    key: Path | None = None,
    allow_unsigned: bool = False,
    suite: Suite | None = None,
    tasks: Catalogue = OWN,
) -> VerifyResult:
    """Verify a certificate's folder, or the certificate.json in it.

    Args:
        candidate: model folder that must be the one certified.
        base: model folder that must be the one it was compared with.
        key: PEM file of the public key that must have signed.
        allow_unsigned: accept a certificate without a signature that was checked.
        suite: what must have been asked; None takes the packaged suite of that name, if any.
        tasks: to compare the certificate's locks with.

    Raises:
        UsageError: there is no certificate, or the key or a model folder cannot be read.
        IntegrityError: anything differs, or the certificate is unsigned; the message names it.
    """
    bundle = bundle_of(cert)
    trusted = dsse.public_key(key) if key else None
    with explained(bundle.root, "read"):
        opened, found = _check_own_files(bundle, trusted, tasks)
        evidence = found.evidence
        notes = asked.check(found, tasks, suite)
        moved = folders.check_folders(evidence, base, candidate)
        speaking.check(evidence.spoken, base, candidate, found.locks, tasks)
    notes = [*moved, *notes, *_not_repeated(evidence)]
    if opened.keyid is None:
        if not allow_unsigned:
            raise IntegrityError(f"{bundle.certificate}: {unsigned(opened)}")
        notes.insert(0, unsigned(opened).partition(";")[0])
    return VerifyResult(evidence.gate, evidence.candidate.sha256, opened.keyid, notes, found)


def bundle_of(cert: Path) -> Bundle:
    """The bundle in a folder, or around a certificate.json.

    Raises:
        UsageError: there is no certificate.
    """
    bundle = Bundle(cert if cert.is_dir() else cert.parent)
    if not bundle.certificate.is_file():
        raise UsageError(
            f"not a certificate: {cert}. Name a folder that `retainbench certify` has written"
        )
    return bundle


def _check_own_files(
    bundle: Bundle, key: Any, tasks: Catalogue
) -> tuple[dsse.OpenedEnvelope, CertificateContents]:
    """The statement and every file that it names, as far as they follow from each other."""
    made, opened = open_statement(bundle.certificate, statement.TEST_RESULT, key)
    check_files(bundle, statement.listed(made, str(bundle.certificate)))
    found = contents.read(bundle)
    evidence = found.evidence
    folders.check_identity(evidence.base, "base")
    folders.check_identity(evidence.candidate, "candidate")
    if evidence.engine_change:
        folders.check_identity(evidence.engine_change.base, "base on the candidate's engine")
    answers.check(found, tasks)
    try:
        _check_made(bundle, found, made)
    except IntegrityError as error:
        if asked.made_here(evidence):
            raise
        raise IntegrityError(
            f"{error}. It was made by retainbench {asked.made_by(evidence)}, which may compute and "
            "write otherwise; verify it with that version"
        ) from error
    _check_summary(bundle, evidence, key)
    return opened, found


def open_statement(
    path: Path, predicate_type: str, key: Any
) -> tuple[dict[str, Any], dsse.OpenedEnvelope]:
    """A statement of a type, and the envelope it was in."""
    regular_file(path, MOST_BYTES)
    opened = dsse.open_envelope(path.read_bytes(), str(path), key)
    return statement.parse(opened.payload, str(path), predicate_type), opened


def check_files(bundle: Bundle, listed: dict[str, str]) -> None:
    """The certificate holds exactly the files that the statement names, unchanged."""
    present = bundle.files()
    for name in sorted(listed.keys() | present.keys()):
        path = bundle.root / name
        if name not in present:
            raise IntegrityError(f"{path}: missing, but named in the certificate")
        if name not in listed:
            raise IntegrityError(f"{path}: not named in the certificate; move it away")
        if sha256_file(path) != listed[name]:
            raise IntegrityError(f"{path}: was changed after the certificate was made")


def _check_made(bundle: Bundle, found: CertificateContents, made: dict[str, Any]) -> None:
    """Everything that follows from the records does."""
    evidence = found.evidence
    stored, computed = evidence.gate, _recompute(bundle, found)
    wrong = differences(stored.model_dump(mode="json"), computed.model_dump(mode="json"))
    wrong += _engine_differences(bundle, found)
    refuse(wrong, f"{bundle.scorecard}: does not follow from the records")
    texts = page.files(evidence, found.policy)
    known = {*texts, *_sources(bundle)}
    for name, path in bundle.files().items():
        if name not in known:
            raise IntegrityError(f"{path}: not a file of a certificate")
        if name in texts and path.read_bytes() != texts[name].encode():
            raise IntegrityError(f"{path}: does not say what the scorecard says")
    for name in texts:
        regular_file(bundle.root / name)
    wanted = statement.test_result(bundle, evidence, found.base, found.candidate)
    refuse(differences(made, wanted), f"{bundle.certificate}: does not follow from its records")


def _sources(bundle: Bundle) -> list[str]:
    """Names of the files that are read, not made again."""
    fixed = [bundle.base_records, bundle.candidate_records, bundle.policy, bundle.scorecard]
    listed = [*fixed, bundle.summary, *bundle.noises().values(), *bundle.locks.glob("*.lock")]
    return [path.relative_to(bundle.root).as_posix() for path in listed]


def _recompute(bundle: Bundle, found: CertificateContents) -> GateResult:
    """The verdict from the records, under the name that the identity of the candidate has."""
    evidence = found.evidence
    movement = Movement(
        drift=evidence.drift,
        divergence=evidence.divergence,
        one_engine=evidence.candidate_settings is None,
    )
    scope = Scope(evidence.tier, evidence.items_per_task, evidence.train_data)
    name = evidence.candidate.name
    try:
        return judge(bundle, found.policy, name, evidence.expected, movement, scope)
    except UsageError as error:
        raise IntegrityError(f"{bundle.policy}: cannot be applied: {error}") from error


def _engine_differences(bundle: Bundle, found: CertificateContents) -> list[str]:
    """Where the judgements about a change of engine do not follow from the records."""
    evidence = found.evidence
    scope = Scope(evidence.tier, evidence.items_per_task, evidence.train_data)
    computed = judge_engines(bundle, found.policy, evidence.expected, scope)
    stored = evidence.engine_change
    if (computed is None) != (stored is None) or (stored and evidence.candidate_settings is None):
        return ["engine_change"]
    return [
        path
        for name, gate in (computed._asdict() if computed else {}).items()
        for path in differences(
            getattr(stored, name).model_dump(mode="json"),
            gate.model_dump(mode="json"),
            f"engine_change.{name}",
        )
    ]


def _check_summary(bundle: Bundle, evidence: Evidence, key: Any) -> None:
    """The short statement exists exactly for a PASS, and is about the same candidate."""
    if bundle.summary.is_file() != (evidence.gate.verdict == "PASS"):
        raise IntegrityError(f"{bundle.summary}: there is a summary on a PASS, and only then")
    if bundle.summary.is_file():
        made, _ = open_statement(bundle.summary, statement.SUMMARY, key)
        wanted = statement.summary(evidence.candidate, evidence.created, asked.made_by(evidence))
        refuse(differences(made, wanted), f"{bundle.summary}: differs from the certificate")


def unsigned(opened: dsse.OpenedEnvelope) -> str:
    """What is missing, and after a semicolon what to do."""
    if opened.signed:
        what = "signed, but no key was given, so the signature was not checked; give --key"
    else:
        what = "unsigned, so nobody vouches for it; sign it with `retainbench certify --key`"
    return f"{what}, or add --allow-unsigned to accept it as it is"


def _not_repeated(evidence: Evidence) -> list[str]:
    """What only the models or files of the maker could show."""
    notes = [
        f"training data {data.name}: not read again; the items in it are as recorded"
        for data in evidence.train_data
    ]
    return notes + (["KL to the base was not measured again"] if evidence.divergence else [])
