"""The scorecard of a cell: what every checkpoint of its trajectory kept, won, moved and cost.

Reads and writes nothing; `running/` writes one for each cell, `gate/` and `report/` read them.
"""

from __future__ import annotations

from typing import Literal

from retainbench.harness.core.changes import AxisChange, Interval, PerplexityChange, TaskChange
from retainbench.harness.core.records import SCHEMA_VERSION, Ledger, Record


class DriftSummary(Record):
    """Global geometry of candidate minus base."""

    frobenius: float
    relative: float
    changed_parameters: int
    parameters: int
    unchanged_exact: float
    unchanged_1e5: float
    unchanged_bf16: float
    cosine: float
    by_kind: dict[str, float]
    """Share of the squared norm per module kind."""
    by_layer: dict[str, float]
    relative_by_kind: dict[str, float]
    es_null: float | None = None
    over_null: float | None = None
    dtypes: str


class DivergenceSummary(Record):
    """Exact KL in nats per token on continuations sampled from the base."""

    forward: dict[str, float]
    """Prompt set -> KL(base || candidate); sets are `target` and the retention axes."""
    reverse: dict[str, float]
    tokens: dict[str, int]
    estimator: str
    prompt_weighted: dict[str, float] = {}
    """Forward KL, mean over prompts of the mean over tokens."""
    intervals: dict[str, Interval] = {}
    """Prompt set -> forward KL per token with its interval, prompts as clusters; sets of one prompt
    have none."""
    sampled: dict[str, dict[str, float]] = {}
    """Prompt set -> forward KL per token by the estimators k1, k2, k3 (METHODS 15)."""


class PointScore(Record):
    """A candidate at one point of its trajectory, against the base."""

    stage: int
    fraction: float
    ledger: Ledger
    weights_digest: str
    base_reward: float
    candidate_reward: float
    gain: Interval
    base_valid: float
    candidate_valid: float
    base_cut: float | None = None
    """Share of responses to the target that ended at the limit of new tokens."""
    candidate_cut: float | None = None
    base_length: float | None = None
    """Mean characters of a response to the target; None where the responses were not at hand."""
    candidate_length: float | None = None
    base_commonest: float | None = None
    """Share of the responses to the target that are its most frequent one; None as above."""
    candidate_commonest: float | None = None
    repeats: int = 1
    """Responses to each item of the target, averaged inside the item."""
    tasks: list[TaskChange]
    axes: list[AxisChange]
    perplexity: list[PerplexityChange] = []
    """One an axis that has documents."""
    drift: DriftSummary | None
    divergence: DivergenceSummary | None


VALIDATION_REWARD = "validation_reward"
"""Among a scorecard's metrics: of its last point, where validation items chose that point."""


class Scorecard(Record):
    """`cells/<id>/scorecard.json`: gain, retention, drift, divergence and cost of one cell."""

    schema_version: int = SCHEMA_VERSION
    cell: str
    base: str
    target: str
    recipe: str
    """The name the recipe has in the suite."""
    method: str
    """The method, or `a+b` for stages."""
    adaptation: str
    seed: int
    budget: str
    """For example `3e+12 flops`."""
    status: Literal["done", "failed"]
    reason: str | None = None
    points: list[PointScore]
    """In order of stage and fraction; the last one is what is reported: the end of the budget, or
    the checkpoint that validation items chose. Empty when failed."""
    interpolated: list[PointScore] = []
    """Between base and end of training, by the share of the change that is kept (`fraction`)."""
    metrics: dict[str, float]
    trainable_parameters: int
    total_parameters: int
    provenance: dict[str, str]

    def share(self, point: PointScore) -> float:
        """Share of the budget that was really spent at a point, in the budget's unit.

        A step passes the share that a point is named after, by little or, where steps are large or
        sampling comes first, by much. For an empty budget, or one that is not metered, it is the
        point's name.
        """
        amount, unit = self.budget.split(" ")
        if not float(amount) or not self.metered:
            return point.fraction
        return point.ledger.used(unit) / float(amount)

    @property
    def scored(self) -> list[PointScore]:
        """All points that were scored."""
        return [*self.points, *self.interpolated]

    @property
    def sampling(self) -> str | None:
        """The suite's `scoring`; None where targets were answered greedily, once."""
        return self.provenance.get("scoring")

    @property
    def metered(self) -> bool:
        """False where a command of the user's trained and did not report what it spent."""
        return self.metrics.get("metered", 1.0) > 0
