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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.certificate import dsse, speaking, statement
from retainbench.harness.certificate import page as certify_report
from retainbench.harness.certificate.bundle import Bundle, Evidence
from retainbench.harness.certificate.checks import asked, contents
from retainbench.harness.certificate.judging import Scope, judge, overlap_lines
from retainbench.harness.certificate.speaking import PromptRenderings, TemplateChoice
from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError, UsageError
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
from retainbench.harness.gate.decide import NOT_MEASURED, Movement
from retainbench.harness.gate.tiers import ITEMS, Tier
from retainbench.harness.models import bases, identity
from retainbench.harness.models.checked import Base
from retainbench.harness.models.compatibility import check_alike
from retainbench.harness.scoring.stored import (
    VERSIONS,
    Scoring,
    score_base,
    score_candidate,
    score_repeats,
)
from retainbench.harness.suites import loading, plan
from retainbench.harness.tasks import catalogue, contamination, scoring_code, training_data
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.lock import LOCK, Lock, check_locked
from retainbench.harness.tasks.training_data import TrainData

MeasureMovement = Callable[..., Movement]
"""Drift and divergence of two checked models; with the keyword `rendering` of KL's prompts where
they are sent as a chat."""


class Certified(NamedTuple):
    """A finished certificate."""

    bundle: Bundle
    evidence: Evidence
    signed: bool

    @property
    def gate(self) -> GateResult:
        """The verdict."""
        return self.evidence.gate


class CertificateRequest(NamedTuple):
    """How to score, and what the certificate says about it."""

    scoring: Scoring
    command: Sequence[str]
    measure: MeasureMovement | None = None
    """For example `certify_measure.drift_only`; None measures nothing."""
    key: Path | None = None
    """PEM file of an Ed25519 private key; None leaves the statement unsigned."""
    tier: Tier = "full"
    train_data: Sequence[Path] = ()
    """Files that the candidate was trained on."""
    tasks: Catalogue = OWN
    """Where the suite's tasks are found."""
    template: TemplateChoice | None = None
    """Whose chat template is used (certificate/speaking.py)."""


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
        if out.exists() and not overwrite:
            raise UsageError(f"{out} exists already: choose another --out, or add --overwrite")
        if out.is_dir() and any(out.iterdir()) and not Bundle(out).certificate.is_file():
            raise UsageError(f"{out} is not a certificate, so it is not replaced: choose another")
        prepared = _prepare(base, candidate, suite, policy, request)
        _require_outside(out, prepared)
        with _unfinished(out) as unfinished:
            records = _score(prepared, suite, request, unfinished)
            evidence = _write(out, prepared, records, suite, policy, request)
    return Certified(Bundle(out), evidence, prepared.key is not None)


def _require_outside(out: Path, prepared: PreparedCertificate) -> None:
    """A certificate inside a model folder would be one of the files that it names."""
    for model in (prepared.base, prepared.candidate):
        if out.resolve().is_relative_to(model.folder.resolve()):
            raise UsageError(
                f"{out} is inside the model folder {model.folder}: choose another --out"
            )


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
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


def _write(
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


class PreparedCertificate(NamedTuple):
    """What can be refused has been, before the first token is scored."""

    key: Any
    """Private key, or None."""
    base: Base
    candidate: Base
    remarks: list[str]
    names: list[str]
    """Tasks that are scored; the retention tasks among them are gated."""
    locks: Mapping[str, Lock]
    train_data: list[TrainData]
    speaking: PromptRenderings


class ScoredRecords(NamedTuple):
    """What scoring gave."""

    base: list[ItemRecord]
    candidate: list[ItemRecord]
    repeats: Mapping[str, list[ItemRecord]]
    """Repeat scorings of the base, by name."""
    churn: dict[str, float] | None
    """Share of items per task that changed when the base was scored twice."""


def _prepare(
    base: str, candidate: str, suite: Suite, policy: Policy, request: CertificateRequest
) -> PreparedCertificate:
    key = dsse.private_key(request.key) if request.key else None
    names = scored_tasks(suite, policy)
    expected = plan.retention_tasks(suite)
    locks = request.tasks.locks(names)
    axes = {info.name: info.axis for info in request.tasks.find(expected)}
    loading.check_policy(policy, axes, "policy")
    if policy.minimum_gain is not None and len(suite.targets) != 1:
        raise UsageError("policy: minimum_gain needs a suite with one target; remove it")
    for info in request.tasks.find(names):
        if info.code is not None:
            scoring_code.scoring(info, allowed=request.tasks.allow_code)
    train_data = [
        training_data.of_file(path, expected, request.tasks) for path in request.train_data
    ]
    contamination.refuse(overlap_lines(train_data, policy))
    reference = _resolve(base)
    released = _resolve(candidate, reference)
    for side in (reference, released):
        identity.identify(side.folder)  # refuses links to folders and special files
    infos = request.tasks.find(names)
    alike = check_alike(reference, released, catalogue.texts(infos))
    remarks = [*reference.notes, *released.notes, *alike]
    spoken = speaking.speaking(reference, released, suite.format, request.template, infos)
    if said := speaking.SAYS.get(spoken.spoken.template):
        remarks.append(said)
    return PreparedCertificate(key, reference, released, remarks, names, locks, train_data, spoken)


def _score(
    prepared: PreparedCertificate, suite: Suite, request: CertificateRequest, unfinished: Path
) -> ScoredRecords:
    """The candidate first: what cannot be loaded fails before an hour of scoring the base."""
    scoring, most, tasks = request.scoring, _scored_items(suite, request.tier), request.tasks
    expected = plan.retention_tasks(suite)
    spoken = prepared.speaking
    own = scoring.through(spoken.candidate)
    candidate = score_candidate(prepared.candidate, prepared.names, own, most, unfinished, tasks)
    scoring = scoring.through(spoken.base)
    check_locked(candidate, prepared.locks, "candidate", most)
    base, churn = score_base(prepared.base, prepared.names, scoring, most, tasks)
    check_locked(base, prepared.locks, "base", most)
    repeats = score_repeats(prepared.base, expected, scoring, most, tasks)
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


def _resolve(reference: str, base: Base | None = None) -> Base:
    """The model under the name that the user gave, unless that is a path."""
    found = bases.resolve(reference, base)
    name = found.folder.resolve().name if Path(reference).is_dir() else reference
    return found._replace(name=name)


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
    movement = measure(base, candidate)
    expected = plan.retention_tasks(suite)
    most = _scored_items(suite, request.tier)
    scope = Scope(request.tier, most, prepared.train_data)
    return Evidence(
        suite=suite.name,
        suite_tasks=suite.tasks,
        suite_sha256=asked.suite_digest(suite),
        base=identity.identify(base.folder, base.name),
        candidate=identity.identify(candidate.folder, candidate.name),
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
        command=list(request.command),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _scored_items(suite: Suite, tier: Tier) -> int | None:
    """First items of each task that are scored: no more than the tier judges; None means all."""
    limits = (suite.items_per_task, ITEMS[tier])
    return min((most for most in limits if most is not None), default=None)


def scored_tasks(suite: Suite, policy: Policy) -> list[str]:
    """Retention tasks, and the suite's target if the policy asks for a gain."""
    wanted = suite.targets if policy.minimum_gain is not None else []
    return [*plan.retention_tasks(suite), *wanted]


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
        _write_statement(bundle.summary, short, key)
    made = statement.test_result(bundle, evidence, found.base, found.candidate)
    _write_statement(bundle.certificate, made, key)
    return evidence


def _write_statement(path: Path, value: dict[str, Any], key: Any) -> None:
    payload = canonical(value).encode()
    write_bytes(path, dsse.seal(payload, key) if key else payload + b"\n")
