"""What every recipe of a run was given: `recipes.json`, and the choices of a sweep.

Reads and writes nothing itself. A sweep (running/sweep.py) writes its choices as `choices.json`;
the report puts them next to the options of every stage, so that a published folder names the
learning rates behind its numbers.
"""

from __future__ import annotations

from typing import Literal

from retainbench.harness.core.records import SCHEMA_VERSION, Record, Share
from retainbench.harness.core.stages import Recipe, Stage

FEW_UPDATES = 50
"""Below this many, a stage says little about its method."""


class SweepVariant(Record):
    """One value that was tried: the factor and what it earned."""

    factor: float
    reward: Share | None
    """Mean reward on the validation items; None where training failed."""
    excess: float | None = None
    """Largest drop beyond the policy's margin over the axes, below 0 within it, score points; None
    where the variant was not scored."""
    cell: str | None = None
    """Of the variant in the sweep's scorecards; None where it was not scored."""


class SweepChoice(Record):
    """What was tried for one option of one stage of a recipe, and what was taken."""

    recipe: str
    target: str
    stage: int
    """0-based."""
    option: str
    value: float
    """The value taken: `factor` times the recipe's own."""
    factor: float
    variants: list[SweepVariant]

    @property
    def taken(self) -> SweepVariant:
        """The variant with the value taken."""
        return next(variant for variant in self.variants if variant.factor == self.factor)

    @property
    def edge(self) -> Literal["smallest", "largest"] | None:
        """Whether the value taken is the first or last of its grid; a wider one might do better."""
        tried = [variant.factor for variant in self.variants]
        if len(tried) < 2 or self.factor not in (min(tried), max(tried)):
            return None
        return "smallest" if self.factor == min(tried) else "largest"


class SweepChoices(Record):
    """`choices.json`."""

    choices: list[SweepChoice]


class Recipes(Record):
    """`recipes.json`."""

    schema_version: int = SCHEMA_VERSION
    recipes: dict[str, Recipe]
    """As they were trained: every option of every stage, defaults and chosen values included."""
    choices: list[SweepChoice] = []


def kl_coefficient(stage: Stage) -> float:
    """Weight of the KL to the base in a stage's loss or reward.

    It is the anchor's. PPO had an option of its own in records made before `anchor: kl` set it.

    >>> kl_coefficient(Stage(method="ppo", options={"kl_coefficient": 0.05}))
    0.05
    """
    anchored = stage.anchor.strength if stage.anchor and stage.anchor.kind == "kl" else 0.0
    return anchored + float(stage.options.get("kl_coefficient", 0.0))
