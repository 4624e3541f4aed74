"""Every JSON and JSONL file that retainbench writes, as strict pydantic models.

Reads and writes nothing itself: `write_json`, `write_jsonl` and their readers are the
only way files with records come to be, so that all of them are canonical (UTF-8, sorted keys, no
NaN), atomic (temporary sibling, fsync, rename) and versioned. A reader refuses an unknown schema
version, an unknown key, a missing key and a non-finite number, naming file and line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from retainbench.harness.core.axes import Axis

SCHEMA_VERSION = 2

Verdict = Literal["PASS", "REGRESSION", "INCONCLUSIVE"]
Share = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """Base of all records: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


PREFERRED_METRICS = ("reward", "acc", "exact_match", "acc_norm")
"""What `score` is, in order of preference, among the metrics that a task reports."""
DOCUMENT_METRIC = "token_probability"
"""What `score` is of a document: the geometric mean of its tokens' probabilities."""


def gold_probability(logprobs: Sequence[float], gold: Iterable[int]) -> float:
    """Probability of the gold choices, normalised over all choices (STATISTICS 9).

    >>> round(gold_probability([-1.0, -2.0, -3.0], [0]), 6)
    0.665241
    """
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    return min(1.0, sum(weights[index] for index in set(gold)) / sum(weights))


class ItemRecord(Record):
    """One item of one task answered by one checkpoint; the unit of every statistic.

    Items pair on (task, doc_hash, filter, repeat); equal prompt and target hashes are required.
    """

    task: str
    axis: Axis
    item_id: str
    doc_hash: str
    prompt_hash: str
    target_hash: str
    filter: str = "none"
    metric: str
    """What `score` is: `acc`, `exact_match`, `reward`, or the name in an adopted log."""
    repeat: int = 0
    cluster: str
    chance: Share
    """Expected score of a guesser on this item: 1/k for k choices, 0 for free-form answers."""
    score: Share
    soft_score: Share | None = None
    """Probability of the gold choice, normalised over the choices."""
    valid: bool = True
    response: str | None = None
    """What the model wrote (free form), or the text of the chosen choice."""
    choice_logprobs: list[float] | None = None
    """Of a document, the sum over all of its tokens."""
    gold: int | str | None = None
    cut: bool | None = None
    """The response ended at the limit of new tokens; None where nothing was generated, or where the
    records do not say."""
    document_tokens: int | None = None
    """Tokens of a document, by the model's own tokenizer."""
    document_bytes: int | None = None
    """Its length in UTF-8."""


def document_nats(record: ItemRecord) -> float:
    """Log-likelihood of a document in nats per token of the model that read it.

    Raises:
        ValueError: the record is not of a document.
    """
    if record.choice_logprobs is None or not record.document_tokens:
        raise ValueError(f"{record.task}: item {record.item_id} is not a document")
    return record.choice_logprobs[0] / record.document_tokens


class ItemText(Record):
    """What an item asks, stored once per run so that reports can show lost and gained items."""

    task: str
    item_id: str
    doc_hash: str
    prompt: str
    choices: list[str] | None
    gold: str


class Ledger(Record):
    """What a recipe has spent, in every unit (METHODS 0)."""

    steps: int = 0
    samples: int = 0
    """Completions that updates learn from: rows of a gradient step, as often as they are trained
    on (a pair of DPO is two, a second epoch counts again), or answers that an update of ES scores.
    What is sampled and not trained on costs tokens and no sample."""
    forward_tokens: int = 0
    """Tokens through the model forwards, generation included. A prompt counts whole for each copy
    of the weights that reads it, whatever it shares with other prompts, but once for all samples
    of it."""
    backward_tokens: int = 0
    generated_tokens: int = 0
    flops: float = 0.0
    """2N per forward token + 4N per backward token, N = parameters of the model."""
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def used(self, unit: str) -> float:
        """What was spent in a budget's unit; `tokens` are forward tokens."""
        return float(getattr(self, {"tokens": "forward_tokens"}.get(unit, unit)))


class DeviceRecord(Record):
    """`device.json`: what a run is computed on."""

    device: str
    """The kind, without a number: cpu, cuda, mps."""


class CheckpointRecord(Record):
    """One scored point of a trajectory."""

    stage: int
    """0-based stage of the recipe; a single-method recipe has stage 0 only."""
    fraction: float
    """Share of the whole budget at which the checkpoint was taken (0 = the base itself); of an
    interpolation, the share of the weights' change that it keeps."""
    folder: str
    """Relative to the cell's folder."""
    weights_digest: str
    ledger: Ledger
    metrics: dict[str, float] = {}
    """Numbers that the step log holds for the last update before the checkpoint."""


class TrainRecord(Record):
    """`cells/<id>/train.json`: what training one cell did."""

    schema_version: int = SCHEMA_VERSION
    cell: str
    status: Literal["done", "failed"]
    reason: str | None = None
    """Why it failed, or why it ended before the budget (for example: nothing was accepted)."""
    checkpoints: list[CheckpointRecord]
    interpolated: list[CheckpointRecord] = []
    """Between the base and the last checkpoint."""
    trainable_parameters: int
    total_parameters: int
    metrics: dict[str, float]
    """Final values of the method's own metrics (zero-sd share, clip share, es_null, ...)."""
    dtypes: dict[str, str]
    """parameter, master, optimizer and saved dtype."""
    environment: dict[str, str]


class Interval(Record):
    """A point estimate with its two-sided interval; `level` states the confidence."""

    value: float
    low: float
    high: float
    level: float
    n: int
    method: str
    """The methods whose union it is (tango, newcombe, cluster-t, worst item), or `two-way, S seeds`
    over seeds and items."""


class TaskChange(Record):
    """Base against candidate on one task (drop > 0 means the candidate lost)."""

    task: str
    axis: Axis
    n: int
    clusters: int
    chance: float
    base_score: float
    candidate_score: float
    drop: Interval
    """The union of the methods' intervals: it is printed and it decides."""
    crosscheck: Interval | None = None
    """The second method alone (Newcombe next to Tango), for comparison with other tools."""
    soft_drop: Interval | None = None
    erosion: Interval | None = None
    """Drop of the gold choice's probability at temperature 4; an early warning, never a verdict."""
    margin_drop: Interval | None = None
    """Nats by which the gold choice's lead over the best other choice fell."""
    margin_slope: float | None = None
    """Slope of the candidate's leads on the base's: below 1 all of them shrank alike."""
    base_brier: float | None = None
    """Mean over items of the sum over choices of (probability - [gold])^2, 0 to 2."""
    candidate_brier: float | None = None
    brier_rise: Interval | None = None
    """Candidate minus base: above 0 is worse."""
    base_calibration_error: float | None = None
    """Expected calibration error of the likeliest choice, ten bins (comparison/confidence.py)."""
    candidate_calibration_error: float | None = None
    lost: int | None = None
    """n10: right before, wrong after (None for graded scores)."""
    gained: int | None = None
    churn: float | None = None
    forgetting_chance_adjusted: float | None = None
    backward_transfer_chance_adjusted: float | None = None
    base_valid: float
    candidate_valid: float
    base_cut: float | None = None
    """Share of responses that ended at the limit of new tokens; None where it is not known."""
    candidate_cut: float | None = None
    base_at_chance: bool
    p_drop_within_margin: float | None = None
    p_drop_beyond_margin: float | None = None
    mcnemar_p: float | None = None
    minimum_detectable_effect: float | None = None
    metric: str = "acc"
    repeats: int = 1
    """Decodes or permutations per item, averaged inside the item."""
    excluded: int = 0
    """Items left out on both sides because they overlap the training data."""
    base_score_given_valid: float | None = None
    candidate_score_given_valid: float | None = None
    noise_churn: float | None = None
    """Churn of the same task in the noisiest A/A run (base against a repeat scoring of it)."""
    noise_churns: dict[str, float] = {}
    """Repeat scoring (repeat, batch, options) -> churn of the base against itself."""
    noise_soft: float | None = None
    """Root mean square change of an item's soft score in the noisiest A/A run."""
    above_noise: bool | None = None
    """More items changed than in the noisiest A/A run (one-sided sign test at alpha). False means
    that this was not shown, not that the churn is equal. None without an A/A run."""
    rescaled_drop: float | None = None
    """Mean of (base - candidate) / (1 - chance) over items: what axes average."""
    rescaled_error: float | None = None
    margin: float | None = None
    """The policy's margin that verdict and p-values refer to; None for targets."""
    verdict: Verdict | None = None
    """Of this task alone, before Holm's correction over all tasks; None for targets."""
    reasons: list[str] = []
    """Why the verdict is not PASS."""
    items_if_unchanged: int | None = None
    """Items that would PASS with power .8 if nothing was lost."""
    items_if_as_observed: int | None = None
    """Items that would decide with power .8 if the observed drop were true; None = never."""


class AxisChange(Record):
    """Mean over the axis' tasks of the chance-rescaled drop, and of the rescaled scores.

    Tasks at chance cannot show forgetting: they are named in `at_chance` and left out of the mean.
    """

    axis: Axis
    tasks: int
    n: int
    base_score: float
    candidate_score: float
    drop: Interval
    soft_drop: Interval | None = None
    erosion: Interval | None = None
    """As in the tasks, chance-rescaled as the drop is."""
    erosion_margin: float | None = None
    margin_drop: Interval | None = None
    """Nats, mean over the tasks with choices."""
    margin_slope: float | None = None
    brier_rise: Interval | None = None
    """As in the tasks, not rescaled; mean over the tasks with choices, as the next two are."""
    base_calibration_error: float | None = None
    candidate_calibration_error: float | None = None
    lost: int
    gained: int
    at_chance: list[str] = []
    margin: float | None = None
    verdict: Verdict | None = None
    """Of the mean, before the gate adds regressions of single tasks that Holm confirms."""
    reasons: list[str] = []
    p_drop_within_margin: float | None = None


class DocumentChange(Record):
    """Base against candidate on one task of documents; a change above 0 is worse."""

    task: str
    n: int
    """Documents."""
    clusters: int
    tokens: int
    """By the base's tokenizer; both sides' nats per token are over this number."""
    excluded: int = 0
    """Documents left out on both sides because they overlap the training data."""
    base_nats: float
    """Negative log-likelihood in nats per token, mean over documents."""
    candidate_nats: float
    base_bits_per_byte: float
    """Over all documents, which compares models with different tokenizers."""
    candidate_bits_per_byte: float
    change: Interval
    """Candidate minus base, nats per token, paired by document."""
    error: float
    """Standard error of the change, with its degrees of freedom."""
    degrees: float
    margin: float
    verdict: Verdict
    """Of this task alone; it counts in a gate whose policy names the task as mandatory."""
    reasons: list[str] = []
    p_change_within_margin: float | None = None
    """None: too few documents to decide."""


class PerplexityChange(Record):
    """Mean over an axis' tasks of documents; shown always, deciding nothing by itself."""

    axis: Axis
    tasks: list[DocumentChange]
    change: Interval
    """Nats per token; above 0 is worse."""
    margin: float
    verdict: Verdict
    reasons: list[str] = []


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


class Commands(Record):
    """`commands.json`: the command lines that made a folder, each as a list of arguments."""

    lines: list[list[str]]
