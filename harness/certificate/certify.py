"""Score a checkpoint that somebody trained anywhere, compare, decide, write a certificate.

Reads base and candidate (full weights, merged, or a PEFT adapter) and a suite's retention tasks;
writes the folder described in `certificate/bundle.py`, whole or not at all. The base's records come
from a cache that is keyed by everything that can change them; the candidate is scored for each
certificate. Each task is stored when it is done, so a second start after a kill scores the rest.
A failure of integrity leaves no certificate behind.

Command: `retainbench certify --base B --candidate C --suite S [--policy P] [--key K]`.
Retention items in the candidate's training data (`--train-data`) follow the policy: left out of the
verdict, refused before anything is scored, or reported. The scorecard has their ids and the file's
digest, so that `verify` comes to the same verdict without the file.
Leaves out: contamination by data that nobody named.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.certificate import dsse, statement
from retainbench.harness.certificate import page as certify_report
from retainbench.harness.certificate.bundle import Bundle, EngineChange, Evidence
from retainbench.harness.certificate.checks import asked, contents
from retainbench.harness.certificate.judging import (
    ENGINE,
    Scope,
    judge,
    judge_engines,
)
from retainbench.harness.certificate.preparing import (
    CertificateRequest,
    PreparedCertificate,
    check_place,
    prepare,
    require_outside,
    scored_items,
)
from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import replacing, write_bytes
from retainbench.harness.core.files.storage import (
    canonical,
    digest,
    write_json,
    write_jsonl,
    write_text,
)
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.core.verdicts import GateResult
from retainbench.harness.gate.decide import NOT_MEASURED
from retainbench.harness.models import identity
from retainbench.harness.scoring.stored import (
    VERSIONS,
    score_base,
    score_candidate,
    score_repeats,
)
from retainbench.harness.suites import plan
from retainbench.harness.tasks.lock import LOCK, check_locked


class Certified(NamedTuple):
    """A finished certificate."""

    bundle: Bundle
    evidence: Evidence
    signed: bool

    @property
    def gate(self) -> GateResult:
        """The verdict."""
        return self.evidence.gate


def certify(
    base: str,
    candidate: str,
    suite: Suite,
    policy: Policy,
    out: Path,
    request: CertificateRequest,
    *,
    overwrite: bool = False,
) -> Certified:
    """Certify one candidate against its base.

    Args:
        base: a named base, a folder or a hub id; so is `candidate`, which may be an adapter.
        policy: what decides; usually `plan.policy_of(suite)`.
        out: folder of the certificate.

    Raises:
        UsageError: `out` is taken, or a model is not there.
        IntegrityError: tokenizer or template changed, a task differs from its lock, the policy
            refuses the training data, or the answers cannot be paired. No certificate is written
            then.
    """
    with locks.replaced(out):
        check_place(out, overwrite)
        prepared = prepare(base, candidate, suite, policy, request)
        require_outside(out, prepared)
        with unfinished(out) as store:
            records = _score(prepared, suite, request, store)
            evidence = write(out, prepared, records, suite, policy, request)
    return Certified(Bundle(out), evidence, prepared.key is not None)


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """Where the candidate's records are kept, task by task, until the certificate is written.

    After a kill the next start with the same `out` scores the rest. A certificate never takes
    records from another certificate's folder, nor any after a failure of integrity.
    """
    folder = paths.cache() / "unfinished" / digest(str(out.resolve()))[:32]
    try:
        yield folder
    except IntegrityError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def write(
    out: Path,
    prepared: PreparedCertificate,
    records: ScoredRecords,
    suite: Suite,
    policy: Policy,
    request: CertificateRequest,
) -> Evidence:
    """The folder of the certificate, whole or not at all."""
    files = {i.name: i.folder / LOCK for i in request.tasks.find(prepared.names)}
    with replacing(out) as folder:
        bundle = Bundle(folder)
        _write_records(bundle, records, policy, files)
        write_json(
            bundle.scorecard,
            _evidence(bundle, prepared, suite, policy, request, records.churn),
        )
        return write_findings(bundle, prepared.key)


class ScoredRecords(NamedTuple):
    """What scoring gave."""

    base: list[ItemRecord]
    candidate: list[ItemRecord]
    repeats: Mapping[str, list[ItemRecord]]
    """Repeat scorings of the base, by name."""
    churn: dict[str, float] | None
    """Share of items per task that changed when the base was scored twice."""


def _score(
    prepared: PreparedCertificate, suite: Suite, request: CertificateRequest, unfinished: Path
) -> ScoredRecords:
    """The candidate first: what cannot be loaded fails before an hour of scoring the base."""
    scoring, most, tasks = request.scoring, scored_items(suite, request.tier), request.tasks
    expected = plan.retention_tasks(suite)
    spoken = prepared.speaking
    own = (request.candidate_scoring or scoring).through(spoken.candidate)
    candidate = score_candidate(prepared.candidate, prepared.names, own, most, unfinished, tasks)
    scoring = scoring.through(spoken.base)
    check_locked(candidate, prepared.locks, "candidate", most)
    base, churn = score_base(prepared.base, prepared.names, scoring, most, tasks)
    check_locked(base, prepared.locks, "base", most)
    repeats = score_repeats(prepared.base, expected, scoring, most, tasks)
    if request.floor and prepared.twin:
        floor = request.floor.scoring.through(spoken.base)
        repeats[ENGINE], _ = score_base(prepared.twin, expected, floor, most, tasks)
    return ScoredRecords(base, candidate, repeats, churn)


def _write_records(
    bundle: Bundle, records: ScoredRecords, policy: Policy, locks: Mapping[str, Path]
) -> None:
    """What the verdict is computed from."""
    write_jsonl(bundle.base_records, records.base)
    write_jsonl(bundle.candidate_records, records.candidate)
    for name, rows in records.repeats.items():
        write_jsonl(bundle.noise(name), rows)
    write_json(bundle.policy, policy)
    for task, path in locks.items():
        write_bytes(bundle.lock(task), path.read_bytes())


def _evidence(
    bundle: Bundle,
    prepared: PreparedCertificate,
    suite: Suite,
    policy: Policy,
    request: CertificateRequest,
    churn: dict[str, float] | None,
) -> Evidence:
    base, candidate = prepared.base, prepared.candidate
    spoken = prepared.speaking
    measure = request.measure or (lambda *_: NOT_MEASURED)
    if request.measure and spoken.base.chat is not None:
        measure = partial(request.measure, rendering=spoken.base)
    other = request.candidate_scoring
    movement = measure(base, candidate)._replace(one_engine=other is None)
    expected = plan.retention_tasks(suite)
    most = scored_items(suite, request.tier)
    scope = Scope(request.tier, most, prepared.train_data)
    return Evidence(
        suite=suite.name,
        suite_tasks=suite.tasks,
        suite_sha256=asked.suite_digest(suite),
        base=identity.identify(base.shipped, base.name),
        candidate=identity.identify(candidate.shipped, candidate.name),
        expected=expected,
        tier=request.tier,
        items_per_task=most,
        spoken=spoken.spoken,
        train_data=prepared.train_data,
        gate=judge(bundle, policy, candidate.name, expected, movement, scope),
        drift=movement.drift,
        divergence=movement.divergence,
        notes=[*prepared.remarks, *movement.notes],
        repeat_churn=churn,
        environment=environment(),
        settings=dict(request.scoring.settings),
        candidate_settings=other and dict(other.settings),
        engine_change=_engine_change(bundle, prepared, policy, expected, scope),
        command=list(request.command),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _engine_change(
    bundle: Bundle,
    prepared: PreparedCertificate,
    policy: Policy,
    expected: Sequence[str],
    scope: Scope,
) -> EngineChange | None:
    gates = judge_engines(bundle, policy, expected, scope)
    if gates is None or prepared.twin is None:
        return None
    twin = identity.identify(prepared.twin.shipped, prepared.twin.name)
    return EngineChange(base=twin, engine=gates.engine, weights=gates.weights)


def environment() -> dict[str, str]:
    """Versions and hardware, for the record."""
    found = {name: version(name) for name in VERSIONS}
    found |= {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
    }
    torch = sys.modules.get("torch")  # asks only a torch that the scoring has loaded already
    if torch is not None and torch.cuda.is_available():
        found["accelerator"] = str(torch.cuda.get_device_name())
    return found


def write_findings(bundle: Bundle, key: Any) -> Evidence:
    """What follows from the scorecard: texts for people and CI, the summary, the statement last.

    All of it is made from the files just written, as `verify` reads them.
    """
    found = contents.read(bundle)
    evidence = found.evidence
    for name, text in certify_report.files(evidence, found.policy).items():
        write_text(bundle.root / name, text)
    if evidence.gate.verdict == "PASS":
        short = statement.summary(evidence.candidate, evidence.created, version("retainbench"))
        write_statement(bundle.summary, short, key)
    made = statement.test_result(bundle, evidence, found.base, found.candidate)
    write_statement(bundle.certificate, made, key)
    return evidence


def write_statement(path: Path, value: dict[str, Any], key: Any) -> None:
    """A statement, sealed if there is a key."""
    payload = canonical(value).encode()
    write_bytes(path, dsse.seal(payload, key) if key else payload + b"\n")
