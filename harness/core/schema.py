"""Suite YAML -> `Suite`: what is compared with what, strictly checked before anything runs.

A suite names a base, targets, retention tasks, recipes, seeds, one budget for all and a policy. An
unknown key, method, task or option is refused with the nearest valid name. `core/stages.py` has the
keys of a recipe.

Command: `retainbench suites` lists them, `retainbench plan SUITE` shows what one would run.
Leaves out: whether models and tasks load; `suites/plan.py` and the steps after it find that out.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from retainbench.harness.core.axes import RetentionAxis
from retainbench.harness.core.names import Name, Reference
from retainbench.harness.core.records import Settings, Share
from retainbench.harness.core.stages import Recipe

Unit = Literal["flops", "samples", "tokens", "steps"]
T = TypeVar("T")


def _distinct(values: list[T]) -> list[T]:
    doubled = sorted({str(value) for value in values if values.count(value) > 1})
    if doubled:
        raise ValueError(f"duplicate {doubled[0]}. Write each value once")
    return values


Distinct = Annotated[list[T], AfterValidator(_distinct)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What NumPy's generators accept."""


class Budget(Settings):
    """What every recipe of the suite may spend."""

    unit: Unit
    """What is counted; `tokens` are forward tokens."""
    amount: Annotated[float, Field(ge=0, le=1e27)]
    """Per recipe and seed. At most 1e27, more than the largest published training runs."""

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


MEASURED_ICCS = {
    "calendar": 0.8,
    "calendar_free": 0.6,
    "capitals": 0.4,
    "capitals_free": 0.4,
    "clock": 0.4,
    "dates": 0.8,
    "quantities": 0.8,
    "units": 0.5,
}
"""Own tasks that lose the items of a cluster together more than `Policy.icc` plans for: the largest
mean over checkpoints of one mechanism of damage (results/sensitivity; the cards have noise alone),
rounded up to a tenth. Clusters are small, so this costs few items (calendar's are not: its 329
count as 69, which 5 points can still pass)."""


class Policy(Settings):
    """When a checkpoint may be released; margins are drops in score points (0.02 = 2 pp)."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """One-sided; the verdict uses the two-sided 1 - 2 alpha interval."""
    margin: Share = 0.05
    """Largest drop of a task that may PASS."""
    task_margins: dict[str, Share] = {}
    """Other margins for single tasks."""
    axis_margins: dict[RetentionAxis, Share] = {}
    """An axis that is named here is gated as a whole too (mean chance-rescaled drop)."""
    mandatory: Annotated[Distinct[str], Field(min_length=1)] | None = None
    """Tasks that must PASS; null = every retention task of the suite."""
    icc: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Planned intra-cluster correlation of losses: a clustered task of n items counts as n / (1 +
    (sum n_g^2 / n - 1) icc) independent ones, however many items changed."""
    task_iccs: dict[str, Annotated[float, Field(ge=0, lt=1)]] = MEASURED_ICCS
    """Tasks whose measured correlation asks for another plan; a map here replaces the default."""
    minimum_items: Annotated[int, Field(ge=2, le=10**9)] = 50
    """Below this many paired items a task is INCONCLUSIVE."""
    minimum_gain: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Floor on the lower limit of the gain; null = retention alone decides."""
    maximum_relative_drift: Annotated[float, Field(ge=0)] | None = None
    """Advisory: exceeding it warns and never decides."""
    maximum_kl: Annotated[float, Field(ge=0)] | None = None
    """Advisory, nats per token on retention prompts."""
    soft_margin: Share | None = None
    """Advisory margin on the soft-score drop: an early warning."""
    erosion_margin: Share = 0.02
    """Advisory margin on erosion, the drop of the gold choice's probability at temperature 4, as a
    mean over an axis: above it answers are on their way out though accuracy may not show it. What
    updates that teach nothing stay within (results/sensitivity)."""
    perplexity_margin: Annotated[float, Field(gt=0, le=10)] = 0.035
    """Nats per token by which documents may become less likely, per task and axis; calibrated as
    the margin on erosion is. It decides where `mandatory` names a task of documents; everywhere
    else it is shown."""
    contaminated: Literal["exclude", "refuse", "report"] = "exclude"
    """What happens to retention items that overlap the training data."""


class Source(Settings):
    """Where a retention task comes from that is frozen once, with internet (suites/freeze.py)."""

    axis: RetentionAxis
    """What its tasks are about."""
    task: Reference | None = None
    """lm-eval's name, if not the entry's own; a group's tasks become one pack."""
    revision: Reference = "main"
    """Commit of the dataset on the hub; a branch is pinned by the first freeze, in SUITE.lock."""
    filter: str | None = None
    """lm-eval's filter that decides; null = the first."""
    cluster: str | None = None
    """Field of lm-eval's documents that names what items share; null = each its own."""


class Format(Settings):
    """How prompts reach the model: as they are, or through the base's chat template."""

    template: Literal["none", "chat"] = "none"
    """`chat`: every prompt goes through the base's chat template."""
    system: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None
    """The system message; null leaves it to the template."""
    thinking: bool | None = None
    """`enable_thinking` of templates that have it; null leaves it to the template."""
    fewshot: Literal["plain", "turns"] = "plain"
    """Solved examples of a task as part of the user's message, or as turns before it."""

    @model_validator(mode="after")
    def _spoken(self) -> Self:
        if self.template == "none" and self != Format.model_construct():
            raise ValueError("system, thinking and fewshot need `template: chat`")
        return self


class Sampling(Settings):
    """Targets are answered several times at a temperature, and an item's score is the mean."""

    repeats: Annotated[int, Field(ge=1, le=1_000)]
    """k of avg@k. Repeat r draws from seed r, for base and candidate alike."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Of the distribution that tokens are drawn from."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Tokens are drawn from the most probable ones that together have this probability."""

    def __str__(self) -> str:
        nucleus = "" if self.top_p == 1 else f", top_p {self.top_p:g}"
        seeds = "0" if self.repeats == 1 else f"0 to {self.repeats - 1}"
        return f"avg@{self.repeats} at temperature {self.temperature:g}{nucleus}, seeds {seeds}"


class Sweep(Settings):
    """Choose options of every stage on the target's validation split, before the real cells."""

    options: Annotated[Distinct[str], Field(min_length=1)] = ["learning_rate"]
    """Chosen one after another, in every stage that has them: learning_rate, sigma, beta, ..."""
    factors: Annotated[
        Distinct[Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=2, max_length=100)
    ] = [1 / 9, 1 / 3, 1.0, 3.0, 9.0]
    """Multiples of the stage's own value."""
    extend: Annotated[int, Field(ge=0, le=20)] = 2
    """Values that are added one by one while the best one is at an edge of the grid."""
    seed: Seed = 0
    """Every value trains with this seed only."""
    budget_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the budget that each value is trained for."""
    choose: Literal["gain", "gain_within_margin"] = "gain"
    """`gain`: the best reward on validation items. `gain_within_margin`: that among the values
    whose drop is within the policy's margin on every axis, or the smallest excess where none is;
    the retention items that choose are those that are reported, which flatters the choice."""
    keep: Literal["chosen", "all"] = "chosen"
    """`all` also scores every value on target and retention tasks, for the report's frontier."""


class Suite(Settings):
    """A whole comparison."""

    name: Name
    """Of the run folder and the report."""
    description: Annotated[str, Field(max_length=1_000)]
    """One line for people."""
    base: Reference
    """A named base, a folder or a hub id."""
    targets: Annotated[Distinct[Name], Field(min_length=1)]
    """What is trained: names or `./folders`."""
    tasks: Distinct[Name]
    """Short names of retention tasks; the name of an axis means all its core tasks."""
    sources: dict[Name, Source] = {}
    """Further retention tasks, by the names of their packs."""
    recipes: Annotated[dict[Name, Recipe], Field(min_length=1)]
    """By the names that the table shows."""
    seeds: Annotated[Distinct[Seed], Field(min_length=1)]
    """Every recipe is trained once with each."""
    budget: Budget
    """The same for every recipe."""
    trajectory: Annotated[Distinct[Share], Field(min_length=1)] = [0.0, 0.125, 0.25, 0.5, 0.75, 1.0]
    """Fractions of the budget at which a checkpoint is kept and scored."""
    checkpoint: Literal["last", "best_validation"] = "last"
    """Of a cell, the one that is reported: at the end, or with the best reward in validation."""
    policy: Policy = Policy()
    """When a checkpoint may be released."""
    sweep: Sweep | None = None
    """Chooses options on validation items before the cells run."""
    format: Format = Format()
    """One for training, rollouts, scoring and KL."""
    scoring: Sampling | None = None
    """How targets are answered; null is greedy, once, as retention tasks always are."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype of training and rollouts; weights and optimizer are float32 always."""
    scoring_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of base and checkpoints while their scores and KL are measured."""
    divergence_prompts: Annotated[int, Field(ge=0, le=100_000)] = 32
    """Prompts per set for the KL to the base; 0 leaves KL out."""
    divergence_tokens: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Longest continuation sampled per prompt, tokens."""
    divergence_minimum_tokens: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Further prompts go on up to so many tokens of a set; 2000 make a KL's interval small."""
    noise_floor: Distinct[Literal["repeat", "batch", "options"]] = ["repeat", "batch", "options"]
    """A/A scorings of the base: as it is, with another batch size, with the answer options rotated
    by one. Each costs as much as scoring the base on the retention tasks once; [] = none."""
    items_per_task: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Scores the first n items of each task only; such a run can never certify."""

    @model_validator(mode="after")
    def _retains(self) -> Self:
        if not (self.tasks or self.sources):
            raise ValueError("name at least one task or one source")
        return self
