"""Score a checkpoint that somebody trained anywhere, compare, decide, write a certificate.

Reads base and candidate (full weights, merged, or a PEFT adapter) and a suite's retention tasks;
writes the folder described in `certificate/bundle.py`, whole or not at all. The base's records come
from a cache that is keyed by everything that can change them; the candidate is always scored anew.
A failure of integrity leaves no certificate behind.

Command: `retainbench certify --base B --candidate C --suite S [--policy P] [--key K]`.
Retention items in the candidate's training data (`--train-data`) follow the policy: left out of the
verdict, refused before anything is scored, or reported. Their ids stand in the scorecard beside the
file's digest, so that `verify` comes to the same verdict without the file.
Leaves out: contamination by data that nobody named.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.certificate import dsse, statement
from retainbench.harness.certificate import page as certify_report
from retainbench.harness.certificate.bundle import Bundle, Evidence, task_digests
from retainbench.harness.core import locks
from retainbench.harness.core.atomic import replacing, write_bytes
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.core.storage import (
    canonical,
    read_jsonl,
    sha256_file,
    write_json,
    write_jsonl,
    write_text,
)
from retainbench.harness.core.verdicts import GateResult, first_items
from retainbench.harness.gate import ci
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.gate.decide import NOT_MEASURED, Movement
from retainbench.harness.gate.tiers import Tier
from retainbench.harness.models import bases, identity
from retainbench.harness.models.checked import Base
from retainbench.harness.models.compatibility import check_alike
from retainbench.harness.scoring.stored import VERSIONS, Scoring, score_base, score_repeats
from retainbench.harness.suites import plan
from retainbench.harness.tasks import contamination, training_data
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.contamination import union
from retainbench.harness.tasks.lock import LOCK, check_locked
from retainbench.harness.tasks.training_data import TrainData

TRAIN_DATA = "train-data "
"""Before the number of a training file, in the statement; no file of the bundle has such a name."""

Measure = Callable[[Base, Base], Movement]
"""Drift and divergence of two checked models."""


class Certified(NamedTuple):
    """A finished certificate."""

    bundle: Bundle
    evidence: Evidence
    signed: bool

    @property
    def gate(self) -> GateResult:
        """The verdict."""
        return self.evidence.gate


class Request(NamedTuple):
    """How to score, and what the certificate says about it."""

    scoring: Scoring
    command: Sequence[str]
    measure: Measure | None = None
    """For example `certify_measure.drift_only`; None measures nothing."""
    key: Path | None = None
    """PEM file of an Ed25519 private key; None leaves the statement unsigned."""
    tier: Tier = "full"
    train_data: Sequence[Path] = ()
    """Files that the candidate was trained on."""
    tasks: Catalogue = OWN
    """Where the suite's tasks are found."""


class Scope(NamedTuple):
    """Which items are judged: those of the tier, out of those that the suite scores and that the
    training data do not give away."""

    tier: Tier
    items_per_task: int | None
    train_data: Sequence[TrainData] = ()


def certify(
    base: str,
    candidate: str,
    suite: Suite,
    policy: Policy,
    out: Path,
    request: Request,
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
        return _certify(base, candidate, suite, policy, out, request)


def _certify(
    base: str, candidate: str, suite: Suite, policy: Policy, out: Path, request: Request
) -> Certified:
    """Score both models and write the bundle."""
    key = dsse.private_key(request.key) if request.key else None
    reference = _resolve(base)
    released = _resolve(candidate, reference)
    remarks = check_alike(reference, released)
    names = scored_tasks(suite, policy)
    locks = request.tasks.locks(names)
    expected = plan.retention_tasks(suite)
    train_data = [
        training_data.of_file(path, expected, request.tasks) for path in request.train_data
    ]
    contamination.refuse(overlap_lines(train_data, policy))
    most = suite.items_per_task
    # the candidate first: what cannot be loaded fails before an hour of scoring the base
    candidate_records = request.scoring.evaluate(released, names, most)
    base_records, churn = score_base(reference, names, request.scoring, most, request.tasks)
    repeats = score_repeats(reference, expected, request.scoring, most, request.tasks)
    for side, records in (("base", base_records), ("candidate", candidate_records)):
        check_locked(records, locks, side, most)
    with replacing(out) as folder:
        bundle = Bundle(folder)
        write_jsonl(bundle.base_records, base_records)
        write_jsonl(bundle.candidate_records, candidate_records)
        for way, records in repeats.items():
            write_jsonl(bundle.noise(way), records)
        write_json(bundle.policy, policy)
        for info in request.tasks.find(names):
            write_bytes(bundle.lock(info.name), (info.folder / LOCK).read_bytes())
        sides = Sides(reference, released, [*reference.notes, *released.notes, *remarks])
        evidence = _evidence(bundle, sides, suite, policy, request, churn, train_data)
        _write_statements(bundle, evidence, key)
        write_text(bundle.table, certify_report.table(evidence))
        write_text(bundle.report, certify_report.page(evidence))
        ci.write(bundle.ci, [evidence.gate], evidence.created)
    return Certified(Bundle(out), evidence, key is not None)


def _resolve(reference: str, base: Base | None = None) -> Base:
    """The model under the name that the user gave, unless that is a path."""
    found = bases.resolve(reference, base)
    name = found.folder.resolve().name if Path(reference).is_dir() else reference
    return found._replace(name=name)


class Sides(NamedTuple):
    """The two models."""

    base: Base
    candidate: Base
    notes: Sequence[str]


def _evidence(
    bundle: Bundle,
    sides: Sides,
    suite: Suite,
    policy: Policy,
    request: Request,
    churn: dict[str, float] | None,
    train_data: list[TrainData],
) -> Evidence:
    base, candidate, notes = sides
    movement = request.measure(base, candidate) if request.measure else NOT_MEASURED
    expected = plan.retention_tasks(suite)
    scope = Scope(request.tier, suite.items_per_task, train_data)
    return Evidence(
        suite=suite.name,
        base=identity.identify(base.folder, base.name),
        candidate=identity.identify(candidate.folder, candidate.name),
        expected=expected,
        tier=request.tier,
        items_per_task=suite.items_per_task,
        train_data=train_data,
        gate=judge(bundle, policy, candidate.name, expected, movement, scope),
        drift=movement.drift,
        divergence=movement.divergence,
        notes=[*notes, *movement.notes],
        repeat_churn=churn,
        environment=environment(),
        settings=dict(request.scoring.settings),
        command=list(request.command),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def scored_tasks(suite: Suite, policy: Policy) -> list[str]:
    """Retention tasks, and the suite's target if the policy asks for a gain."""
    wanted = suite.targets if policy.minimum_gain is not None else []
    return [*plan.retention_tasks(suite), *wanted]


def judge(
    bundle: Bundle,
    policy: Policy,
    name: str,
    expected: Sequence[str],
    movement: Movement,
    scope: Scope,
) -> GateResult:
    """The verdict, from the records of the bundle alone; `verify` calls the same.

    What the training data give away is among the warnings, and left out if the policy says so.
    """
    exclude = policy.contaminated == "exclude"
    result = gate_records(
        bundle.base_records,
        bundle.candidate_records,
        policy,
        name=name,
        expected=expected,
        movement=movement,
        tier=scope.tier,
        part=first_items(scope.items_per_task),
        excluded=union(one.overlap for one in scope.train_data) if exclude else None,
        repeats=bundle.noises(),
    )
    given_away = [one for one in scope.train_data if one.overlap]
    lines = overlap_lines(given_away, policy)
    return result.model_copy(update={"warnings": [*result.warnings, *lines]})


def overlap_lines(train_data: Sequence[TrainData], policy: Policy) -> list[str]:
    """What every training file gives away, and what follows."""
    rule = policy.contaminated
    return [contamination.line(one.source, one.overlap, rule) for one in train_data]


def configuration(bundle: Bundle, evidence: Evidence) -> list[dict[str, Any]]:
    """Digest of everything that the verdict rests on, for the statement."""
    annotations: dict[str, dict[str, Any]] = {
        bundle.base_records.name: {"tasks": task_digests(_records(bundle.base_records))},
        bundle.candidate_records.name: {"tasks": task_digests(_records(bundle.candidate_records))},
        bundle.scorecard.name: {"verdict": evidence.gate.verdict, "command": evidence.command},
    }
    files = [
        statement.descriptor(name, sha256_file(path), **annotations.get(name, {}))
        for name, path in bundle.relied_on().items()
    ]
    outside = [statement.descriptor("base", evidence.base.sha256, name=evidence.base.name)]
    outside += [
        statement.descriptor(f"{TRAIN_DATA}{number}", one.sha256, name=one.name, rows=one.rows)
        for number, one in enumerate(evidence.train_data, start=1)
    ]
    return [*outside, *files]


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


def _records(path: Path) -> list[ItemRecord]:
    return read_jsonl(path, ItemRecord)


def _write_statements(bundle: Bundle, evidence: Evidence, key: Any) -> None:
    write_json(bundle.scorecard, evidence)
    made = statement.test_result(evidence.candidate, evidence.gate, configuration(bundle, evidence))
    _write_statement(bundle.certificate, made, key)
    if evidence.gate.verdict == "PASS":
        short = statement.summary(evidence.candidate, evidence.created, version("retainbench"))
        _write_statement(bundle.summary, short, key)


def _write_statement(path: Path, value: dict[str, Any], key: Any) -> None:
    payload = canonical(value).encode()
    write_bytes(path, dsse.seal(payload, key) if key else payload + b"\n")
