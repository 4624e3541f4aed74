"""What a trainer receives and returns.

A method is one file in `trainers/`, or one of a user's, with

    PAPER: str                       where the method comes from
    ADAPTATIONS: tuple[str, ...]     of `full`, `lora`
    ANCHORS: tuple[str, ...]         of `weights`, `kl`, and `text` where it reads general text
                                     (replay, an anchor with `on`); () where none applies
    SPLITS: bool                     whether several processes may share its batches (recipe key
                                     `processes`); False where it is left out
    class Options(TrainerOptions)    its hyper-parameters, documented, with published defaults
    def train(job: Job) -> Outcome   stops at the budget, writes through `Trajectory`

and, if it learns from another model, `TEACHER = True`: a stage must then name one, `job.teacher`.

The module must import without torch (heavy imports are inside functions), so that planning and
`retainbench methods` stay fast. Everything that makes arms comparable is shared: next to this file
`model` (loading, adapters), `data` (order and encoding), `trajectory` (budget, checkpoints, resume,
step log) and `rollout` (sampling and rewards), and in `_gradient/` `trl` (TRL's trainers under the
same rules).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from retainbench.harness.core.records import Ledger
from retainbench.harness.core.schema import Budget
from retainbench.harness.core.stages import Adaptation, Anchor, AnyAdapter, Replay
from retainbench.harness.models.checked import Base
from retainbench.harness.tasks.rendering.chat import PLAIN, Ask, Conversation, Rendering
from retainbench.harness.tasks.rendering.prompts import STOP, Template, judged, reference

Item = dict[str, Any]
"""A target item: at least `id`, `query`, `answer`; rewards may use more fields."""


class TrainingError(Exception):
    """The cell cannot continue (no reward, NaN loss, nothing accepted, no budget for one step).

    The message becomes the recorded reason of the failed cell.
    """


def added(default: Any, **constraints: Any) -> Any:
    """A field that came to a method after cells were trained without it.

    With its default it is left out of records and of a cell's id, so that a new option makes no
    finished cell run again. The default must be what the method did before.
    """
    return Field(default, exclude_if=lambda value: value == default, **constraints)


class TrainerOptions(BaseModel):
    """Base class of the methods' `Options`: strict (no value is converted), immutable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        strict=True,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True)
class Target:
    """A task to learn. Test items are not here: a trainer must not be able to see them."""

    name: str
    train: list[Item]
    validation: list[Item]
    reward: Callable[[str, Item], float]
    """Of a whole response; pure; in [0, 1]; the gold answer scores 1.0."""
    valid: Callable[[str, Item], bool]
    max_new_tokens: int
    template: Template
    """The task's template, so that trained and scored prompts are rendered alike."""
    rendering: Rendering = PLAIN
    """The suite's format with the base's chat template."""
    stop: tuple[str, ...] = (STOP,)
    """Strings that end a response."""

    def response(self, text: str) -> str:
        """What a decoded completion says, up to what ended it."""
        chat = self.rendering.chat
        return judged(text, [*self.stop, *([chat.end.strip()] if chat else [])])

    def prompts(self, items: Sequence[Item], before: Sequence[str] = ()) -> list[str]:
        """The texts that the model continues.

        Args:
            before: what each prompt begins with, in the user's message; nothing if left out.
        """
        return self.rendering.prompts(self.template, self._asked(items, before))

    def prompt(self, item: Item) -> str:
        """The text that the model continues."""
        return self.prompts([item])[0]

    def completions(self, items: Sequence[Item]) -> list[str]:
        """The reference continuations, without what ends them."""
        answers = [reference(item) for item in items]
        return self.rendering.completions(self.template, self._asked(items), answers)

    def conversations(self, items: Sequence[Item]) -> list[Conversation]:
        """Each item as a chat: what asks it, then the reference answer as the assistant's turn."""
        asked = [self.rendering.conversation(self.template, one) for one in self._asked(items)]
        answers = [{"role": "assistant", "content": reference(item)} for item in items]
        return [[*turns, answer] for turns, answer in zip(asked, answers, strict=True)]

    def _asked(self, items: Sequence[Item], before: Sequence[str] = ()) -> list[Ask]:
        begins = before or [""] * len(items)
        return [
            self.rendering.ask(self.template.prompt(item), item, begin)
            for item, begin in zip(items, begins, strict=True)
        ]


@dataclass(frozen=True)
class Job:
    """One stage of one cell."""

    base: Path
    """Full checkpoint to start from: the base, or the end of the previous stage."""
    reference: Path
    """The cell's base: what anchors pull towards and drift is measured from."""
    target: Target
    adaptation: Adaptation | AnyAdapter
    options: Any
    """An instance of the trainer's `Options`."""
    anchor: Anchor | None
    budget: Budget
    """The budget of this stage only."""
    spent: Ledger
    """Spent by the earlier stages; ledgers in checkpoints include it."""
    points: tuple[tuple[str, float], ...]
    """(name, share of this stage's budget) at which to keep a checkpoint; ends with share 1.0."""
    seed: int
    stage: int
    """Number of the stage in its recipe, from 0."""
    out: Path
    """The cell's folder."""
    device: str = "cpu"
    dtype: str = "float32"
    replay: Replay | None = None
    """General text that is trained on too."""
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """General text by source, for `replay` and for an anchor with `on`."""
    teacher: Base | None = None
    """The model that a method with `TEACHER` learns from; it makes the same tokens of a text."""
    null: float | None = 0.0
    """`es_null` of the earlier stages; None where they moved the weights in another way."""
    progress: Callable[[float, dict[str, float]], None] = field(
        default=lambda _share, _metrics: None
    )
    """Called after each step with the share of the stage's budget spent and the step's metrics."""
    updated: Callable[[Ledger], None] = field(default=lambda _spent: None)
    """Called after each update, before anything of it is saved, with all that is spent; what it
    raises ends the stage."""
    report_to: tuple[str, ...] = ()
    """Experiment trackers for TRL's trainers: trackio, tensorboard, wandb."""


class Outcome(NamedTuple):
    """The result of a finished stage."""

    metrics: dict[str, float]
    """Final values of the method's own quantities, finite; names as in trainers/README.md."""
    reason: str | None = None
    """Why it ended before the budget, if it did."""
    parameters: int = 0
    """Parameters that a token passes through, adapters not counted."""
    trainable: int = 0
    """Parameters that the method may move."""
