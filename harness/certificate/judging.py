"""The verdict of a certificate from its records; `certify` and `verify` call the same function.

Pure but for reading the bundle's records. What decides is `gate/decide.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.certificate.bundle import Bundle
from retainbench.harness.comparison.compare import Excluded
from retainbench.harness.core.files.storage import read_jsonl
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.verdicts import GateResult, first_items
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.gate.decide import Movement
from retainbench.harness.gate.tiers import Tier
from retainbench.harness.tasks import contamination
from retainbench.harness.tasks.contamination import union
from retainbench.harness.tasks.training_data import TrainData

ENGINE = "engine"
"""The repeat scoring of the base on the candidate's engine."""
UNMEASURED = (
    "different engines, or engines with different arguments, answered for base and candidate, and "
    "the base was not scored on the candidate's: a drop may be the engine's. Add --engine-floor"
)


class Scope(NamedTuple):
    """Which items are judged: those of the tier, out of those that the suite scores and that the
    training data do not give away."""

    tier: Tier
    items_per_task: int | None
    train_data: Sequence[TrainData] = ()

    def excluded(self, policy: Policy) -> Excluded | None:
        """Items that the policy leaves out."""
        if policy.contaminated != "exclude":
            return None
        return union(one.overlap for one in self.train_data)


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
    repeats = bundle.noises()
    result = gate_records(
        bundle.base_records,
        bundle.candidate_records,
        policy,
        name=name,
        expected=expected,
        movement=movement,
        tier=scope.tier,
        part=first_items(scope.items_per_task),
        excluded=scope.excluded(policy),
        repeats=repeats,
    )
    given_away = [one for one in scope.train_data if one.overlap]
    lines = overlap_lines(given_away, policy)
    if not movement.one_engine and ENGINE not in repeats:
        lines.append(UNMEASURED)
    return result.model_copy(update={"warnings": [*result.warnings, *lines]})


class EngineGates(NamedTuple):
    """Two judgements whose drops add up to the candidate's drop."""

    engine: GateResult
    weights: GateResult


def judge_engines(
    bundle: Bundle, policy: Policy, expected: Sequence[str], scope: Scope
) -> EngineGates | None:
    """The change of engine alone, and the change of weights alone, under the same policy.

    Item by item, base on its engine - candidate = (base on its engine - base on the candidate's) +
    (base on the candidate's - candidate). None where the base was not scored on both engines.

    Raises:
        IntegrityError, UsageError: as `gate_records`.
    """
    again = bundle.noise(ENGINE)
    if not again.is_file():
        return None
    engine, weights = (
        gate_records(
            before,
            after,
            policy.model_copy(update={"minimum_gain": None}),
            name=label,
            expected=expected,
            tier=scope.tier,
            part=first_items(scope.items_per_task),
            excluded=scope.excluded(policy),
        )
        for label, before, after in (
            ("change of engine", _only(bundle.base_records, expected), again),
            ("change of weights", again, _only(bundle.candidate_records, expected)),
        )
    )
    return EngineGates(engine, weights)


def _only(file: Path, tasks: Sequence[str]) -> list[ItemRecord]:
    """The retention records of a file: a target is not scored again."""
    return [record for record in read_jsonl(file, ItemRecord) if record.task in tasks]


def overlap_lines(train_data: Sequence[TrainData], policy: Policy) -> list[str]:
    """What every training file gives away, and what follows."""
    rule = policy.contaminated
    return [contamination.line(one.source, one.overlap, rule) for one in train_data]
