"""What the export writers work from: a certificate in memory, and absolute scores per task."""

from __future__ import annotations

import math
from typing import NamedTuple

from retainbench.harness.certificate.bundle import Evidence
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.verdicts import TaskGate
from retainbench.harness.models.identity import ModelIdentity
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import OWN, Catalogue


class ExportSource(NamedTuple):
    """One certificate."""

    evidence: Evidence
    base: list[ItemRecord]
    candidate: list[ItemRecord]
    tasks: Catalogue = OWN
    """Where the items' texts are found."""

    def sides(self) -> list[tuple[str, ModelIdentity, list[ItemRecord]]]:
        """(role, model, records) of base and candidate."""
        return [
            ("base", self.evidence.base, self.base),
            ("candidate", self.evidence.candidate, self.candidate),
        ]

    def gated(self) -> list[TaskGate]:
        """The gate's tasks by name."""
        return sorted(self.evidence.gate.tasks, key=lambda task: task.change.task)


class Mean(NamedTuple):
    """A task's absolute score."""

    value: float
    error: float
    """Standard error over items; clusters are not resampled here, the gate's intervals are."""
    deviation: float
    n: int


def mean(records: list[ItemRecord]) -> Mean:
    """Mean over items, repeats averaged inside the item first."""
    by_item: dict[str, list[float]] = {}
    for record in records:
        by_item.setdefault(record.doc_hash, []).append(record.score)
    scores = [sum(values) / len(values) for values in by_item.values()]
    n = len(scores)
    value = sum(scores) / n
    deviation = math.sqrt(sum((s - value) ** 2 for s in scores) / (n - 1)) if n > 1 else 0.0
    return Mean(value, deviation / math.sqrt(n), deviation, n)


def by_task(records: list[ItemRecord]) -> dict[str, list[ItemRecord]]:
    """Records of each task, tasks by name."""
    found: dict[str, list[ItemRecord]] = {}
    for record in sorted(records, key=lambda r: r.task):
        found.setdefault(record.task, []).append(record)
    return found


def item_inputs(task: str, tasks: Catalogue) -> dict[str, tuple[str, list[str] | None, str]]:
    """(prompt, choices, right answer) by doc_hash for a task that is installed here."""
    info = tasks.tasks.get(task)
    if info is None:
        return {}
    rows = zip(
        catalogue.lock(info).items, catalogue.items(info), catalogue.prompts(info), strict=True
    )
    return {
        locked.doc_hash: (
            prompt,
            item.get("choices"),
            str(item["choices"][item["gold"]] if "choices" in item else item["answer"]),
        )
        for locked, item, prompt in rows
    }
