"""The standardized table's row, as a strict record: everything that CSV and JSON hold.

Reads and writes nothing. `report/table/rows.py` fills it from scorecards, `core/text/formatting.py`
says how a person sees it. Numbers are score points in [0, 1], nats per token, or the unit in the
field's line.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from retainbench.harness.core.axes import DEFAULT, RetentionAxis, ordered
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.records import Record


class AxisColumns(Record):
    """Retention on one axis: drop > 0 is forgetting, chance-rescaled, in score points."""

    drop: Interval | None = None
    soft_drop: Interval | None = None
    erosion: Interval | None = None
    """Drop of the gold choice's probability at temperature 4, chance-rescaled; decides nothing."""
    erosion_margin: float | None = None
    margin_drop: Interval | None = None
    """Nats by which the gold choice's lead over the best other choice fell."""
    margin_slope: float | None = None
    """Slope of the candidate's leads on the base's, mean over tasks and seeds."""
    brier_rise: Interval | None = None
    """Rise of the Brier score of the choices' probabilities, 0 to 2; above 0 is worse."""
    base_calibration_error: float | None = None
    """Expected calibration error of the likeliest choice, mean over tasks and seeds."""
    candidate_calibration_error: float | None = None
    perplexity: Interval | None = None
    """Nats per token by which held-out documents became less likely; above 0 is worse."""
    perplexity_margin: float | None = None
    base_bits_per_byte: float | None = None
    """Of the documents, mean over tasks and seeds."""
    candidate_bits_per_byte: float | None = None
    lost: float | None = None
    """Items right before and wrong after, mean per seed."""
    gained: float | None = None
    forgetting_chance_adjusted: float | None = None
    """Share of items lost beyond what guessing explains, unclipped, mean over the axis' tasks;
    a published companion that is never gated on."""
    backward_transfer_chance_adjusted: float | None = None
    """The same for items gained."""
    tasks: int | None = None
    items: int | None = None
    worst_drop: float | None = None
    """Largest drop along the trajectory of the seeds' mean; biased up by the choice."""
    worst_fraction: float | None = None
    area: float | None = None
    """Drop integrated over the share of the budget, score points."""
    matched_drop: Interval | None = None
    """Drop where the mean trajectory first reaches `gain_to_match`."""
    matched_reason: str | None = None
    at_chance: list[str] = Field(default_factory=list)
    """Tasks at which the base only guesses: left out, because they cannot show forgetting."""


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
    """Completions that updates learn from."""
    forward_tokens: float
    backward_tokens: float
    generated_tokens: float
    seconds: float = Field(exclude=True)
    """Wall time and memory differ between runs of one plan: the report shows them, tables do not,
    so that an interrupted run ends in the same bytes as a whole one."""
    peak_memory_bytes: int = Field(exclude=True)


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
    new_facts: Interval | None = None
    """Acquisition of new facts: the recipe's gain on the target `new_facts` of the same run."""
    base_reward: float | None = None
    candidate_reward: float | None = None
    base_valid: float | None = None
    candidate_valid: float | None = None
    base_commonest: float | None = None
    """Share of the responses to the target that are its most frequent one."""
    candidate_commonest: float | None = None
    axes: dict[RetentionAxis, AxisColumns] = Field(default_factory=dict)
    """Of the axes whose tasks were scored."""
    churn: float | None = None
    """Share of retention items whose answer changed between right and wrong, mean over tasks."""
    noise_churn: float | None = None
    """The same for base against base (A/A), the noisiest repeat scoring of each task;
    None when no such run was made."""
    noise_churns: dict[str, float] = Field(default_factory=dict)
    """Repeat scoring (repeat, batch, options) -> churn, mean over its tasks."""
    noise_soft: float | None = None
    """Root mean square change of an item's soft score in A/A, mean over tasks that have one."""
    tasks_above_noise: float | None = None
    """Retention tasks shown to change more items than the A/A run, mean per seed; on the others
    this is not shown, which does not show that nothing was lost."""
    forgetting_chance_adjusted: float | None = None
    """As in the axes, mean over all retention tasks."""
    backward_transfer_chance_adjusted: float | None = None
    minimum_detectable_effect: float | None = None
    """Largest over the retention tasks, in score points."""
    excluded_items: int | None = None
    """Retention items left out on both sides because they overlap the training data, most of all
    seeds."""
    drift: DriftColumns | None = None
    kl_on: float | None = None
    """KL(base || candidate), nats per token, on the target's prompts."""
    kl_off: float | None = None
    """The same on retention prompts, mean over axes."""
    kl_on_interval: Interval | None = None
    """Prompts as clusters; None where a seed's KL was stored without one."""
    kl_off_interval: Interval | None = None
    gain_to_match: float | None = None
    """Half of the largest mean gain on the target: where `matched_drop` is read."""
    gain_per_drift: Interval | None = None
    """Gain in score points over relative drift as a share."""
    gain_per_kl: Interval | None = None
    """Gain in score points over KL on retention prompts."""
    matched_per_drift: Interval | None = None
    """`gain_to_match` over the drift where it is first reached."""
    matched_per_kl: Interval | None = None
    on_front: bool | None = None
    """Not dominated in gain and worst-axis drop by another recipe on the target."""
    dominated_by: list[str] = Field(default_factory=list)
    cost: CostColumns | None = None
    updates: list[float] = Field(default_factory=list)
    """Updates of each stage, mean over seeds."""
    fewest_updates: int | None = None
    """Of all stages and seeds."""
    budget_spent: float | None = None
    """Spent over the budget, in its own unit, most of all seeds; None for an empty budget."""
    validation_reward: float | None = None
    """Mean reward on validation items where these chose the checkpoint that is reported, mean over
    seeds; None where it is the end of the budget."""
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    verdicts: dict[str, int] = Field(default_factory=dict)
    """Verdict -> number of seeds; empty when the run was not gated."""
    margins: dict[str, float] = Field(default_factory=dict)
    """Retention task -> drop that the policy allows it, score points."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Column -> why it is null."""

    def axis(self, name: str) -> AxisColumns:
        """Columns of one retention axis; empty where no task of it was scored."""
        return self.axes.get(name, AxisColumns())


def axes_of(rows: Iterable[TableRow]) -> tuple[str, ...]:
    """The axes that a table of these rows has columns for; the default ones where none is."""
    return ordered(axis for row in rows for axis in row.axes) or DEFAULT


def most_eroded(row: TableRow) -> str | None:
    """The axis with the largest erosion; None where none has any."""
    found = {name: one.erosion.value for name, one in row.axes.items() if one.erosion}
    return max(found, key=lambda name: found[name]) if found else None


def with_documents(rows: Iterable[TableRow]) -> tuple[str, ...]:
    """The axes on which some row has held-out perplexity."""
    return ordered(axis for row in rows for axis, one in row.axes.items() if one.perplexity)
