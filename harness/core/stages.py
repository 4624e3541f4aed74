"""A recipe of a suite: a method or several stages, and what each adapts, anchors and replays.

Every key is checked before anything runs; `options` are checked against the trainer's `Options`,
which has the documented defaults (suites/methods.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from retainbench.harness.core.names import Name, Reference
from retainbench.harness.core.records import Settings


class Adaptation(Settings):
    """Which parameters move: all of them, or low-rank adapters on every linear layer."""

    kind: Literal["full", "lora"] = "full"
    """All parameters, or low-rank adapters on every linear layer."""
    rank: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Of the adapters; arXiv:2405.09673 sweeps 16, 64 and 256."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """The adapter is scaled by alpha / rank; without it alpha is 2 x rank (arXiv:2405.09673)."""

    @model_validator(mode="after")
    def _low_rank(self) -> Self:
        if self.kind == "full" and (self.rank, self.alpha) != (16, None):
            raise ValueError("rank and alpha are for adapters. Write `kind: lora` next to them")
        return self

    def __str__(self) -> str:
        return self.kind if self.kind == "full" else f"lora r={self.rank}"


class AnyAdapter(Settings):
    """An adapter of PEFT by its type; all other keys are those of PEFT's config of that type."""

    model_config = ConfigDict(extra="allow")

    peft_type: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,40}$")]
    """DORA, OFT, VERA, ...: any type that can be merged into weights."""

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
    """Of an anchor of `weights`: which norm decays."""
    strength: Annotated[float, Field(ge=0, le=1e6)]
    """lambda of the decay (10 for l2, 0.01 for l1 in the paper), or the penalty's coefficient."""
    on: Reference | None = Field(default=None, exclude_if=lambda text: text is None)
    """General text for `kl` and `ewc`: a JSON Lines file, or `self` for the base's own text. A `kl`
    without it is taken on the method's own answers."""

    @model_validator(mode="after")
    def _own_keys(self) -> Self:
        if self.kind == "ewc" and self.on is None:
            raise ValueError("ewc needs general text. Write `on: self` or a JSON Lines file")
        if self.kind == "weights" and self.on is not None:
            raise ValueError("an anchor of weights reads no text. Leave out `on`")
        if self.kind != "weights" and self.norm != "l2":
            raise ValueError("norm is for an anchor of weights. Leave it out")
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
    """As `retainbench methods` lists them, or the path of a file of yours."""
    adaptation: Annotated[
        Annotated[Adaptation, Tag("[own]")] | Annotated[AnyAdapter, Tag("[peft]")],
        Discriminator(_which),
        BeforeValidator(_expand),
    ] = Adaptation()
    """`full`, `lora`, or a map of the keys below."""
    options: dict[str, Any] = {}
    """The method's own, as `retainbench methods` lists them."""
    anchor: Anchor | None = None
    """A pull towards the base."""
    replay: Replay | None = Field(default=None, exclude_if=lambda text: text is None)
    """General text to train on as well."""
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
    """Cores."""
    gpus: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    """GPUs; a fraction shares one."""


class Recipe(Settings):
    """One method, or a list of stages that run one after another."""

    stages: Annotated[list[Stage], Field(min_length=1, max_length=100)]
    """One after another; the keys of a single stage may be written without `stages`."""
    resources: Resources = Resources()
    """On a cluster."""

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
