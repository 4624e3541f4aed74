"""Suite YAML -> `Suite`: what is compared with what, strictly checked before anything runs.

A suite names a base, targets, retention tasks, recipes, seeds, one budget for all and a policy. An
unknown key, method, task or option is refused with the nearest valid name. Hyper-parameters live
here only: `options` are checked against the trainer's `Options`, which has the documented defaults.

Command: `retainbench suites` lists them, `retainbench plan SUITE` shows what one would run.
Leaves out: whether models and tasks load; `suites/plan.py` and the steps after it find that out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from retainbench.harness.core.axes import RetentionAxis
from retainbench.harness.core.names import Name
from retainbench.harness.core.records import Record, Share

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
Reference = Annotated[str, Field(min_length=1, max_length=1_000)]


class Settings(Record):
    """Base of what a person writes: a value of another type is refused, not converted."""

    model_config = ConfigDict(strict=True)


class Budget(Settings):
    """What every recipe of the suite may spend; `tokens` are forward tokens."""

    unit: Unit
    amount: Annotated[float, Field(ge=0, le=1e27)]
    """The largest training runs that have been published spent less than 1e27 flops."""

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


class Adaptation(Settings):
    """Which parameters move: all of them, or low-rank adapters on every linear layer."""

    kind: Literal["full", "lora"] = "full"
    rank: Annotated[int, Field(ge=1, le=65_536)] = 16
    """arXiv:2405.09673 sweeps 16, 64 and 256."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Scale s = alpha / rank; default 2 x rank (arXiv:2405.09673)."""

    def __str__(self) -> str:
        return self.kind if self.kind == "full" else f"lora r={self.rank}"


class AnyAdapter(Settings):
    """An adapter of PEFT by its type; all other keys are those of PEFT's config of that type."""

    model_config = ConfigDict(extra="allow")

    peft_type: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,40}$")]

    @property
    def kind(self) -> Literal["lora"]:
        """A method that trains LoRA trains any adapter."""
        return "lora"

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of PEFT's config."""
        return dict(self.model_extra or {})

    def __str__(self) -> str:
        shown = [f"{key}={value}" for key, value in sorted(self.settings.items())]
        return " ".join([self.peft_type.lower(), *shown])[:80]


SELF = "self"
"""The source of general text that is the base itself."""


class Anchor(Settings):
    """A pull towards the base, on top of the method."""

    kind: Literal["weights", "kl", "ewc"]
    """`weights`: after each step theta - theta_0 decays (arXiv:2605.30148). `kl`: a penalty. `ewc`:
    decay in proportion to each weight's Fisher information on general text (arXiv:1612.00796)."""
    norm: Literal["l1", "l2"] = "l2"
    """For `weights` only."""
    strength: Annotated[float, Field(ge=0, le=1e6)]
    """lambda of the decay (10 for l2, 0.01 for l1 in the paper), or the penalty's coefficient."""
    on: Reference | None = Field(default=None, exclude_if=lambda text: text is None)
    """General text for `kl` and `ewc`: a JSON Lines file, or `self` for the base's own text. A `kl`
    without it is taken on the method's own answers."""

    @model_validator(mode="after")
    def _texts(self) -> Self:
        if self.kind == "ewc" and self.on is None:
            raise ValueError("ewc needs general text. Write `on: self` or a JSON Lines file")
        if self.kind == "weights" and self.on is not None:
            raise ValueError("an anchor of weights reads no text. Leave out `on`")
        return self


class Replay(Settings):
    """General text to train on next to the method's own data, so that it is not forgotten."""

    source: Reference
    """A JSON Lines file, or `self` for the base's own text."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the loss, and of the rows of a step."""


def _expand(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


INTERPOLATE = "interpolate"
"""The stage without budget: weights between the base and the end of training, each scored."""


def _which(value: Any) -> str:
    """Tags in brackets are not keys of a file; errors leave them out (suites/loading.py)."""
    named = isinstance(value, AnyAdapter) or (isinstance(value, dict) and "peft_type" in value)
    return "[peft]" if named else "[own]"


class Stage(Settings):
    """One method with its adaptation, options and share of the recipe's budget."""

    method: Name
    adaptation: Annotated[
        Annotated[Adaptation, Tag("[own]")] | Annotated[AnyAdapter, Tag("[peft]")],
        Discriminator(_which),
        BeforeValidator(_expand),
    ] = Adaptation()
    options: dict[str, Any] = {}
    anchor: Anchor | None = None
    replay: Replay | None = Field(default=None, exclude_if=lambda text: text is None)
    """Left out of a cell's id where there is none, as is an anchor's `on`."""
    teacher: Reference | None = Field(default=None, exclude_if=lambda name: name is None)
    """The model that `gkd` learns from, as `base` is named, with the base's tokenizer."""
    target: Name | None = None
    """Trains on this target instead of the cell's: a sequence of targets."""
    share: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Relative to the other stages' shares."""
    processes: Annotated[int, Field(ge=1, le=1024)] = Field(1, exclude_if=lambda n: n == 1)
    """Processes that share every batch, with a GPU each on `cuda`; changes last digits only."""

    @property
    def texts(self) -> list[str]:
        """Sources of general text that the stage reads, each once."""
        named = [self.replay and self.replay.source, self.anchor and self.anchor.on]
        return list(dict.fromkeys(source for source in named if source))

    @model_validator(mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        """`{method: interpolate, weights: [...]}` is short for its one option."""
        if isinstance(value, dict) and value.get("method") == INTERPOLATE and "weights" in value:
            stage = {key: part for key, part in value.items() if key != "weights"}
            return stage | {"options": {"weights": value["weights"]}}
        return value


class Resources(Settings):
    """What a cell needs of a cluster's node (`--executor ray`, `slurm`); changes no number."""

    cpus: Annotated[float, Field(gt=0, le=1e5)] = 1.0
    gpus: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    """A fraction shares a GPU."""


class Recipe(Settings):
    """One method, or a list of stages that run one after another."""

    stages: Annotated[list[Stage], Field(min_length=1, max_length=100)]
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        """`{method: sft, ...}` is short for one stage."""
        if isinstance(value, dict) and "stages" not in value:
            stage = {key: part for key, part in value.items() if key != "resources"}
            rest = {key: part for key, part in value.items() if key == "resources"}
            return {"stages": [stage], **rest}
        return value

    @model_validator(mode="after")
    def _interpolated_last(self) -> Self:
        if any(s.method == INTERPOLATE for s in (self.stages[0], *self.stages[:-1])):
            raise ValueError(
                "interpolate takes weights between the base and the end of training. Write it as "
                "the last of several stages"
            )
        return self

    @property
    def trained(self) -> list[Stage]:
        """The stages that train: all but an interpolation at the end."""
        return [stage for stage in self.stages if stage.method != INTERPOLATE]

    @property
    def method(self) -> str:
        """`sft`, or `sft+grpo` for stages."""
        return "+".join(stage.method for stage in self.trained)

    @property
    def adaptation(self) -> str:
        """Distinct adaptations in order: `full`, `lora r=16`, `full+lora r=16`."""
        return "+".join(dict.fromkeys(str(stage.adaptation) for stage in self.trained))


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
    task_margins: dict[str, Share] = {}
    axis_margins: dict[RetentionAxis, Share] = {}
    """An axis that is named here is gated as a whole too (mean chance-rescaled drop)."""
    mandatory: Annotated[Distinct[str], Field(min_length=1)] | None = None
    """Tasks that must PASS; None = every retention task of the suite."""
    icc: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Planned intra-cluster correlation of losses: a clustered task of n items counts as n / (1 +
    (sum n_g^2 / n - 1) icc) independent ones, however many items changed."""
    task_iccs: dict[str, Annotated[float, Field(ge=0, lt=1)]] = MEASURED_ICCS
    """Tasks whose measured correlation asks for another plan; a map here replaces the default."""
    minimum_items: Annotated[int, Field(ge=2, le=10**9)] = 50
    minimum_gain: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Floor on the lower limit of the gain; None = retention alone decides."""
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
    task: Reference | None = None
    """lm-eval's name, if not the entry's own; a group's tasks become one pack."""
    revision: Reference = "main"
    """Commit of the dataset on the hub; a branch is pinned by the first freeze, in SUITE.lock."""
    filter: str | None = None
    """lm-eval's filter that decides; None = the first."""
    cluster: str | None = None
    """Field of lm-eval's documents that names what items share; None = each its own."""


class Format(Settings):
    """How prompts reach the model: as they are, or through the base's chat template."""

    template: Literal["none", "chat"] = "none"
    system: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None
    """The system message; None leaves it to the template."""
    thinking: bool | None = None
    """`enable_thinking` of templates that have it; None leaves it to the template."""
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
    budget_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    choose: Literal["gain", "gain_within_margin"] = "gain"
    """`gain`: the best reward on validation items. `gain_within_margin`: that among the values
    whose drop is within the policy's margin on every axis, or the smallest excess where none is;
    the retention items that choose are those that are reported, which flatters the choice."""
    keep: Literal["chosen", "all"] = "chosen"
    """`all` also scores every value on target and retention tasks, for the report's frontier."""


class Suite(Settings):
    """A whole comparison."""

    name: Name
    description: Annotated[str, Field(max_length=1_000)]
    base: Reference
    targets: Annotated[Distinct[Name], Field(min_length=1)]
    tasks: Distinct[Name]
    """Short names of retention tasks; the name of an axis means all its core tasks."""
    sources: dict[Name, Source] = {}
    """Further retention tasks, by the names of their packs."""
    recipes: Annotated[dict[Name, Recipe], Field(min_length=1)]
    seeds: Annotated[Distinct[Seed], Field(min_length=1)]
    budget: Budget
    trajectory: Annotated[Distinct[Share], Field(min_length=1)] = [0.0, 0.125, 0.25, 0.5, 0.75, 1.0]
    """Fractions of the budget at which a checkpoint is kept and scored."""
    checkpoint: Literal["last", "best_validation"] = "last"
    """Of a cell, the one that is reported: at the end, or with the best reward in validation."""
    policy: Policy = Policy()
    sweep: Sweep | None = None
    format: Format = Format()
    """One for training, rollouts, scoring and KL."""
    scoring: Sampling | None = None
    """How targets are answered; None is greedy, once, as retention tasks always are."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype of training and rollouts; weights and optimizer are float32 always."""
    scoring_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of base and checkpoints while their scores and KL are measured."""
    divergence_prompts: Annotated[int, Field(ge=0, le=100_000)] = 32
    """Prompts per set for the KL to the base; 0 leaves KL out."""
    divergence_tokens: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Longest continuation sampled per prompt."""
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
