"""Score a checkpoint that was trained anywhere, or a chain of them; decide; write a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retainbench.harness.api import models
from retainbench.harness.api.gate import rules
from retainbench.harness.certificate import measure
from retainbench.harness.certificate.certify import Certified
from retainbench.harness.certificate.certify import certify as write_certificate
from retainbench.harness.certificate.chain.certify import CertifiedChain
from retainbench.harness.certificate.chain.certify import certify_chain as write_chain
from retainbench.harness.certificate.preparing import (
    CertificateRequest,
    EngineFloor,
    scored_items,
    scored_tasks,
)
from retainbench.harness.certificate.speaking import speaking
from retainbench.harness.core.process import quieten
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.gate.tiers import Tier
from retainbench.harness.models import bases
from retainbench.harness.models.compatibility import check_alike
from retainbench.harness.models.placement import Placement, placed
from retainbench.harness.running import shards
from retainbench.harness.scoring import evaluate, stored
from retainbench.harness.scoring.engines.opening import OURS, EngineChoice, without_secrets
from retainbench.harness.scoring.engines.sides import engines_of
from retainbench.harness.study_design import cost_table
from retainbench.harness.suites import loading
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks.catalogue import Catalogue

if TYPE_CHECKING:
    from rich.console import Group

    from retainbench.harness.api.gate import Rules
    from retainbench.harness.api.models import Model
    from retainbench.harness.certificate.preparing import MeasureMovement
    from retainbench.harness.certificate.speaking import TemplateChoice
    from retainbench.harness.running.run import Executor


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
    base_engine: str = "transformers",
    candidate_engine: str | None = None,
    engine_args: str = "",
    base_engine_args: str | None = None,
    engine_floor: str | None = None,
    engine_floor_args: str | None = None,
    workers: int = 1,
    executor: Executor = "local",
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
        base_engine: what answers for the base: transformers, llama.cpp or lm-eval:NAME.
        candidate_engine: the same of the candidate; None takes the base's.
        engine_args: `key=value,...` for the engines that are not transformers.
        base_engine_args: for the base's alone; None takes `engine_args`.
        engine_floor: the base as the candidate's engine reads it, where the engines differ.
        engine_floor_args: instead of `engine_args` for it, such as the server that serves the base.
        workers: processes that share the items of a model.
        executor: starts them on this machine, or on a Ray cluster.
        template: whose chat template asks both models, or each its own; None takes the base's where
            the suite has a `format`, and none otherwise.
        train_data: JSON Lines that the candidate was trained on.
        command: what the certificate records as having made it.

    Raises:
        UsageError: `out` is taken, or a name is unknown.
        IntegrityError: nothing may be judged; no certificate is written.
    """
    quieten()
    options = CertifyOptions(
        policy=policy,
        key=key,
        tier=tier,
        repeat_base=repeat_base,
        template=template,
        device=device,
        dtype=dtype,
        device_map=device_map,
        base_engine=base_engine,
        candidate_engine=candidate_engine,
        engine_args=engine_args,
        base_engine_args=base_engine_args,
        engine_floor=engine_floor,
        engine_floor_args=engine_floor_args,
        workers=workers,
        executor=executor,
        packs=packs,
        train_data=train_data,
        allow_code=allow_code,
        command=command,
    )
    chosen, decided, request = _asked(str(base), suite, options)
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
        chosen.model_copy(update={"items_per_task": scored_items(chosen, tier)}),
        decided,
        names,
        len(_scoring(chosen, tier, placement, False, known, evaluate.of_model, OURS).repeats),
        known,
        spoken.base,
        placement,
    )


def certify_chain(
    links: Sequence[str | Path],
    suite: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    **options: Any,
) -> CertifiedChain:
    """Certify each of several checkpoints against the one before it, and the whole chain.

    Args:
        links: names, folders, adapters or GGUF files, from the base to what is released.
        options: those of `certify`; the candidate's engine answers for the last link only.

    Raises:
        TypeError: an option that `certify` does not have.
        UsageError, IntegrityError: as `certify`.
    """
    quieten()
    chosen, decided, request = _asked(str(next(iter(links), "")), suite, CertifyOptions(**options))
    names = [str(link) for link in links]
    return write_chain(names, chosen, decided, Path(out), request, overwrite=overwrite)


@dataclass(frozen=True)
class CertifyOptions:
    """The options of `certify`, which explains them."""

    policy: Rules | None = None
    key: str | Path | None = None
    tier: Tier = "full"
    repeat_base: bool = False
    template: TemplateChoice | None = None
    device: str = "cpu"
    dtype: str = "float32"
    device_map: str | None = None
    base_engine: str = "transformers"
    candidate_engine: str | None = None
    engine_args: str = ""
    base_engine_args: str | None = None
    engine_floor: str | None = None
    engine_floor_args: str | None = None
    workers: int = 1
    executor: Executor = "local"
    packs: Sequence[str | Path] = ()
    train_data: Sequence[str | Path] = ()
    allow_code: bool = False
    command: Sequence[str] = ("retainbench.certify(...)",)

    @property
    def placement(self) -> Placement:
        """Where the models are put, and in which precision."""
        return placed(self.device, self.dtype, self.device_map)

    @property
    def engine_arguments(self) -> tuple[str | None, ...]:
        """Every `key=value,...` for an engine, as it may be in the command."""
        return self.engine_args, self.base_engine_args, self.engine_floor_args


def _asked(
    base: str, suite: str | Path, options: CertifyOptions
) -> tuple[Suite, Policy, CertificateRequest]:
    """What to score, by which rules, and how."""
    given = Catalogue.of([Path(pack) for pack in options.packs], allow_code=options.allow_code)
    chosen, known = loading.opened(str(suite), given)
    engines = engines_of(
        options.base_engine,
        options.candidate_engine,
        options.engine_args,
        options.base_engine_args,
        options.engine_floor,
        options.engine_floor_args,
        base,
    )
    placement, repeat = options.placement, options.repeat_base
    scores = shards.scorer(options.workers, options.executor)
    score = partial(_scoring, chosen, options.tier, placement, repeat, known, scores)
    floored = engines.crosses and engines.floor is not None
    request = CertificateRequest(
        score(engines.base),
        command=without_secrets(options.command, *options.engine_arguments),
        candidate_scoring=score(engines.candidate) if engines.crosses else None,
        floor=EngineFloor(str(engines.floor), score(engines.floor_engine)) if floored else None,
        remarks=engines.remarks,
        measure=_measure(chosen, options.tier, placement, known),
        key=Path(options.key) if options.key is not None else None,
        tier=options.tier,
        train_data=[Path(path) for path in options.train_data],
        tasks=known,
        template=options.template,
    )
    return chosen, _policy(options.policy, chosen, known), request


def _policy(policy: Rules | None, suite: Suite, tasks: Catalogue) -> Policy:
    given = rules(policy)
    if given is None:
        return planning.policy_of(suite, tasks)
    where = f"{policy}: policy" if isinstance(policy, str | Path) else "policy"
    loading.check_policy(given, loading.scored_tasks(suite, tasks), where)
    return given


def _scoring(
    suite: Suite,
    tier: Tier,
    placement: Placement,
    repeat_base: bool,
    tasks: Catalogue,
    scores: stored.Evaluate,
    engine: EngineChoice,
) -> stored.Scoring:
    score = partial(scores, placement=placement, tasks=tasks, engine=engine)
    again: Sequence[str] = () if tier == "smoke" else suite.noise_floor
    repeats = {
        name: partial(score, repeat=evaluate.REPEAT_SCORINGS[name])
        for name in again
        if engine.ours or name != "batch"
    }
    settings = stored.scoring_settings(*placement) if engine.ours else engine.settings()
    return stored.Scoring(score, settings, repeat_base, repeats)


def _measure(suite: Suite, tier: Tier, placement: Placement, tasks: Catalogue) -> MeasureMovement:
    if tier == "smoke":
        return measure.drift_only
    return partial(measure.drift_and_kl, suite=suite, placement=placement, tasks=tasks)
