"""The standardized table's row, as a strict record: everything that CSV and JSON hold.

Reads and writes nothing. `report_rows.py` fills it from scorecards, `report_format.py` says how a
person sees it. Numbers are score points in [0, 1], nats per token, or the unit in the field's line.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from retainbench.harness.records import Interval, Record

RetentionAxis = Literal["general", "numeric", "temporal"]
AXES: tuple[RetentionAxis, ...] = get_args(RetentionAxis)


class AxisColumns(Record):
    """Retention on one axis: drop > 0 is forgetting, chance-rescaled, in score points."""

    drop: Interval | None = None
    soft_drop: Interval | None = None
    lost: float | None = None
    """Items right before and wrong after, mean per seed."""
    gained: float | None = None
    tasks: int | None = None
    items: int | None = None
    worst_drop: float | None = None
    """Largest drop along the trajectory of the seeds' mean; biased up by the choice."""
    worst_fraction: float | None = None


class DriftColumns(Record):
    """How far the weights moved, mean over seeds."""

    relative: float
    frobenius: float
    over_null: float | None
    unchanged_exact: float
    unchanged_1e5: float
    unchanged_bf16: float
    dtypes: str


class CostColumns(Record):
    """What a seed's cell spent, mean over seeds; memory is the largest."""

    flops: float
    steps: float
    samples: float
    forward_tokens: float
    backward_tokens: float
    generated_tokens: float
    seconds: float
    peak_memory_bytes: int


class TableRow(Record):
    """One arm of the comparison at the end of its budget."""

    base: str
    target: str
    recipe: str
    method: str
    adaptation: str
    stages: int
    budget: str
    seeds: list[int]
    """Seeds that finished."""
    absent: dict[str, str]
    """Seed -> why it has no scorecard with an end point; when not empty, no estimate is given."""
    gain: Interval | None = None
    base_reward: float | None = None
    candidate_reward: float | None = None
    base_valid: float | None = None
    candidate_valid: float | None = None
    general: AxisColumns = AxisColumns()
    numeric: AxisColumns = AxisColumns()
    temporal: AxisColumns = AxisColumns()
    churn: float | None = None
    """Share of retention items whose answer changed between right and wrong, mean over tasks."""
    forgetting_chance_adjusted: float | None = None
    """Published companion (STATISTICS 8), mean over tasks, unclipped; never gated on."""
    backward_transfer_chance_adjusted: float | None = None
    minimum_detectable_effect: float | None = None
    """Largest over the retention tasks, in score points."""
    drift: DriftColumns | None = None
    kl_on: float | None = None
    """KL(base || candidate), nats per token, on the target's prompts."""
    kl_off: float | None = None
    """The same on retention prompts, mean over axes."""
    gain_per_drift: float | None = None
    gain_per_kl: float | None = None
    cost: CostColumns | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    verdicts: dict[str, int] = Field(default_factory=dict)
    """Verdict -> number of seeds; empty when the run was not gated."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Column -> why it is null."""

    def axis(self, name: RetentionAxis) -> AxisColumns:
        """Columns of one retention axis."""
        columns: AxisColumns = getattr(self, name)
        return columns
