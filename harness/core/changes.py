"""What changed between a base and a candidate, per task and per axis, as records of a scorecard.

Reads and writes nothing; `comparison/` computes them, `gate/` and `report/` read them.
"""

from __future__ import annotations

from retainbench.harness.core.axes import Axis
from retainbench.harness.core.records import Record, Verdict


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
