"""Score a checkpoint that was trained anywhere, decide, and write a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from retainbench.harness.api import models
from retainbench.harness.api.gate import rules
from retainbench.harness.certificate import measure
from retainbench.harness.certificate.certify import CertificateRequest, Certified, scored_tasks
from retainbench.harness.certificate.certify import certify as write_certificate
from retainbench.harness.certificate.speaking import speaking
from retainbench.harness.core.process import quieten
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.gate.tiers import Tier
from retainbench.harness.models import bases
from retainbench.harness.models.compatibility import check_alike
from retainbench.harness.models.placement import Placement, placed
from retainbench.harness.scoring import evaluate, stored
from retainbench.harness.study_design import cost_table
from retainbench.harness.suites import loading
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks.catalogue import Catalogue

if TYPE_CHECKING:
    from rich.console import Group

    from retainbench.harness.api.gate import Rules
    from retainbench.harness.api.models import Model
    from retainbench.harness.certificate.certify import MeasureMovement
    from retainbench.harness.certificate.speaking import TemplateChoice


def certify(
    base: Model,
    candidate: Model,
    suite: str | Path,
    out: str | Path,
    *,
    policy: Rules | None = None,
    key: str | Path | None = None,
    tier: Tier = "full",
    repeat_base: bool = False,
    template: TemplateChoice | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    device_map: str | None = None,
    packs: Sequence[str | Path] = (),
    train_data: Sequence[str | Path] = (),
    allow_code: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = ("retainbench.certify(...)",),
) -> Certified:
    """Certify a candidate against its base: `.gate.verdict`, `.evidence` and the folder `out`.

    A loaded model is saved to a temporary folder first, because a certificate names files.

    Args:
        suite: names the retention tasks and the policy; tasks of `packs` are added.
        policy: instead of the suite's.
        key: PEM file of an Ed25519 private key; None leaves the certificate unsigned.
        tier: first 100, first 200 or all items of each task; only full can pass.
        repeat_base: score the base twice and stop if the answers differ.
        dtype: precision of both models: float32, bfloat16, float16, or auto (as stored).
        device_map: `auto` spreads each model over the GPUs of this machine.
        template: whose chat template asks both models, or each its own; None takes the base's where
            the suite has a `format`, and none otherwise.
        train_data: JSON Lines that the candidate was trained on.
        command: what the certificate records as having made it.

    Raises:
        UsageError: `out` is taken, or a name is unknown.
        IntegrityError: nothing may be judged; no certificate is written.
    """
    quieten()
    given = Catalogue.of([Path(pack) for pack in packs], allow_code=allow_code)
    chosen, known = loading.opened(str(suite), given)
    placement = placed(device, dtype, device_map)
    request = CertificateRequest(
        _scoring(chosen, tier, placement, repeat_base, known),
        command=list(command),
        measure=_measure(chosen, tier, placement, known),
        key=Path(key) if key is not None else None,
        tier=tier,
        train_data=[Path(path) for path in train_data],
        tasks=known,
        template=template,
    )
    decided = _policy(policy, chosen, known)
    with models.stored(base, "base") as before, models.stored(candidate, "candidate") as after:
        return write_certificate(
            before, after, chosen, decided, Path(out), request, overwrite=overwrite
        )


def certificate_cost(
    base: str,
    candidate: str,
    suite: str,
    policy: Path | None,
    tier: Tier,
    template: TemplateChoice | None,
    placement: Placement,
    tasks: Catalogue,
) -> Group:
    """What a certificate would cost, from a short probe of the base; tables for a terminal.

    Raises:
        UsageError, IntegrityError: as `certify`, for the suite, the policy and the two models.
    """
    quieten()
    chosen, known = loading.opened(suite, tasks)
    decided = _policy(policy, chosen, known)
    reference = bases.resolve(base)
    released = bases.resolve(candidate, reference)
    check_alike(reference, released)
    names = scored_tasks(chosen, decided)
    known.locks(names)
    spoken = speaking(reference, released, chosen.format, template, known.find(names))
    return cost_table.of_certificate(
        reference,
        chosen,
        decided,
        names,
        len(_scoring(chosen, tier, placement, False, known).repeats),
        known,
        spoken.base,
        placement,
    )


def _policy(policy: Rules | None, suite: Suite, tasks: Catalogue) -> Policy:
    given = rules(policy)
    if given is None:
        return planning.policy_of(suite, tasks)
    where = f"{policy}: policy" if isinstance(policy, str | Path) else "policy"
    loading.check_policy(given, loading.scored_tasks(suite, tasks), where)
    return given


def _scoring(
    suite: Suite, tier: Tier, placement: Placement, repeat_base: bool, tasks: Catalogue
) -> stored.Scoring:
    score = partial(evaluate.of_model, placement=placement, tasks=tasks)
    again: Sequence[str] = () if tier == "smoke" else suite.noise_floor
    repeats = {name: partial(score, repeat=evaluate.REPEAT_SCORINGS[name]) for name in again}
    return stored.Scoring(score, stored.scoring_settings(*placement), repeat_base, repeats)


def _measure(suite: Suite, tier: Tier, placement: Placement, tasks: Catalogue) -> MeasureMovement:
    if tier == "smoke":
        return measure.drift_only
    return partial(measure.drift_and_kl, suite=suite, placement=placement, tasks=tasks)
