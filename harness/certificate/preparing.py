"""What a certificate is asked for, and everything that can refuse before a token is scored.

Checks the two models against each other, the policy against the suite, the training data against
the policy, and where the certificate goes. Scores and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.certificate import dsse, speaking
from retainbench.harness.certificate.bundle import Bundle
from retainbench.harness.certificate.judging import overlap_lines
from retainbench.harness.certificate.speaking import PromptRenderings, TemplateChoice
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.gate.decide import Movement
from retainbench.harness.gate.tiers import ITEMS, Tier
from retainbench.harness.models import bases, identity
from retainbench.harness.models.checked import Base
from retainbench.harness.models.compatibility import check_alike
from retainbench.harness.scoring.stored import Scoring
from retainbench.harness.suites import loading, plan
from retainbench.harness.tasks import catalogue, contamination, scoring_code, training_data
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.lock import Lock
from retainbench.harness.tasks.training_data import TrainData

MeasureMovement = Callable[..., Movement]
"""Drift and divergence of two checked models; with the keyword `rendering` of KL's prompts where
they are sent as a chat."""


class EngineFloor(NamedTuple):
    """The base on the candidate's engine."""

    model: str
    """The base in a form that the engine reads; often the base itself."""
    scoring: Scoring


class CertificateRequest(NamedTuple):
    """How to score, and what the certificate says about it."""

    scoring: Scoring
    command: Sequence[str]
    candidate_scoring: Scoring | None = None
    """Where another engine answers for the candidate; None: as the base."""
    floor: EngineFloor | None = None
    """Only next to a `candidate_scoring`; None: the change of engine is not measured."""
    remarks: Sequence[str] = ()
    """About the engines."""
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
    twin: Base | None
    """The base as the candidate's engine reads it."""


def prepare(
    base: str, candidate: str, suite: Suite, policy: Policy, request: CertificateRequest
) -> PreparedCertificate:
    """Everything that can refuse does, before anything is scored."""
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
    twin = _resolve(request.floor.model) if request.floor else None
    for side in (reference, released):
        identity.identify(side.shipped)  # refuses links to folders and special files
    infos = request.tasks.find(names)
    alike = check_alike(reference, released, catalogue.texts(infos))
    remarks = [*reference.notes, *released.notes, *alike, *request.remarks]
    spoken = speaking.speaking(reference, released, suite.format, request.template, infos)
    if said := speaking.SAYS.get(spoken.spoken.template):
        remarks.append(said)
    return PreparedCertificate(
        key, reference, released, remarks, names, locks, train_data, spoken, twin
    )


def check_place(out: Path, overwrite: bool) -> None:
    """Raise `UsageError` where a certificate cannot be put."""
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already: choose another --out, or add --overwrite")
    if out.is_dir() and any(out.iterdir()) and not Bundle(out).certificate.is_file():
        raise UsageError(f"{out} is not a certificate, so it is not replaced: choose another")


def require_outside(out: Path, prepared: PreparedCertificate) -> None:
    """A certificate inside a model folder would be one of the files that it names."""
    for model in (prepared.base, prepared.candidate):
        if out.resolve().is_relative_to(model.folder.resolve()):
            raise UsageError(
                f"{out} is inside the model folder {model.folder}: choose another --out"
            )


def _resolve(reference: str, base: Base | None = None) -> Base:
    """The model under the name that the user gave, unless that is a path."""
    found = bases.resolve(reference, base)
    name = found.shipped.resolve().name if Path(reference).exists() else reference
    return found._replace(name=name)


def scored_items(suite: Suite, tier: Tier) -> int | None:
    """First items of each task that are scored: no more than the tier judges; None means all."""
    limits = (suite.items_per_task, ITEMS[tier])
    return min((most for most in limits if most is not None), default=None)


def scored_tasks(suite: Suite, policy: Policy) -> list[str]:
    """Retention tasks, and the suite's target if the policy asks for a gain."""
    wanted = suite.targets if policy.minimum_gain is not None else []
    return [*plan.retention_tasks(suite), *wanted]
