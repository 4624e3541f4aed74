"""The verdict of a certificate from its records; `certify` and `verify` call the same function.

Pure but for reading the bundle's records. What decides is `gate/decide.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from retainbench.harness.certificate.bundle import Bundle
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.verdicts import GateResult, first_items
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.gate.decide import Movement
from retainbench.harness.gate.tiers import Tier
from retainbench.harness.tasks import contamination
from retainbench.harness.tasks.contamination import union
from retainbench.harness.tasks.training_data import TrainData


class Scope(NamedTuple):
    """Which items are judged: those of the tier, out of those that the suite scores and that the
    training data do not give away."""

    tier: Tier
    items_per_task: int | None
    train_data: Sequence[TrainData] = ()


def judge(
    bundle: Bundle,
    policy: Policy,
    name: str,
    expected: Sequence[str],
    movement: Movement,
    scope: Scope,
) -> GateResult:
    """The verdict on a candidate.

    What the training data give away is among the warnings, and left out if the policy says so.

    Args:
        name: of the candidate.
        expected: retention tasks that must have been compared.

    Raises:
        IntegrityError, UsageError: as `gate_records`.
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
