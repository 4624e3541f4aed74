"""Retention while a model trains: a callback for transformers' Trainer and everything built on it.

    trainer = SFTTrainer(..., callbacks=[RetentionCallback("base", "quick", every=100)])

At each look the suite's retention tasks are scored on the live model and compared with the base
item by item. What is logged, to the trainer's log and its trackers, in score points:

    retention/<task>/drop, .../drop_low, .../drop_high    what the task lost, with its interval
    retention/<axis>/drop, .../drop_low, .../drop_high    the mean over the axis, chance-rescaled

Weights, gradients, modes, buffers and the global generators are afterwards what they were: training
ends in the same bytes with and without the callback. Leaves out models that are split over several
processes (FSDP, DeepSpeed): one process cannot score them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from retainbench.harness.api import models
from retainbench.harness.api.records import pandas
from retainbench.harness.comparison import compare as comparing
from retainbench.harness.comparison.compare import Comparison
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models.loading import Loaded
from retainbench.harness.models.placement import Placement
from retainbench.harness.scoring import evaluate
from retainbench.harness.suites import loading
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.rendering import chat

if TYPE_CHECKING:
    import pandas as pd

    from retainbench.harness.api.models import Model


class RetentionCallback(TrainerCallback):
    """Scores retention tasks on the model that a Trainer trains, every so many steps."""

    def __init__(
        self,
        base: Model,
        suite: str | Path,
        every: int,
        *,
        device: str = "cpu",
        packs: Sequence[str | Path] = (),
        allow_code: bool = False,
    ) -> None:
        """Score the base; the callback then looks at the model.

        Args:
            base: what the training starts from, or any model to compare with: a named base, a
                folder, an adapter or a hub id, or (model, tokenizer), which is only read.
            suite: names the retention tasks, how many items of each, and the policy.
            every: steps of the optimizer between two looks; the last planned step is looked at too.
            device: where a base that is not loaded yet is scored.
            packs: folders of tasks from `retainbench freeze`, added to the suite.
            allow_code: lets the installed lm-eval's code score the packs that name it.

        Raises:
            UsageError: an unknown suite or model, or `every` below 1.
            IntegrityError: a task differs from its lock, or the base cannot be loaded safely.
        """
        if every < 1:
            raise UsageError(f"every: {every} steps between two looks. Write 1 or more")
        self.every = every
        self._tasks = Catalogue.of([Path(pack) for pack in packs], allow_code=allow_code)
        self._suite, self._tasks = loading.opened(str(suite), self._tasks)
        start = models.loaded(base, placement=Placement(device))
        self._rendering = chat.of(start.tokenizer, self._suite.format)
        self._base = self._score(start)
        self._rows: list[dict[str, float]] = []
        self._changes: Comparison | None = None

    @property
    def last(self) -> Comparison | None:
        """Everything that the last look found; None before the first."""
        return self._changes

    def table(self) -> pd.DataFrame:
        """A row per look: the step and what was logged."""
        return pandas().DataFrame(self._rows)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse a model that no process holds whole."""
        if args.fsdp or args.deepspeed:
            raise UsageError(
                "RetentionCallback scores in one process and cannot read a model that FSDP or "
                "DeepSpeed splits: certify its checkpoints instead"
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the model if it is time to; only the first process does."""
        due = state.global_step % self.every == 0 or state.global_step == state.max_steps
        if not due or not state.is_world_process_zero:
            return
        with _untouched(kwargs["model"]):
            records = self._score(Loaded(kwargs["model"], kwargs["processing_class"]))
        policy = planning.policy_of(self._suite, self._tasks)
        self._changes = comparing.compare(self._base, records, policy)
        logs = _logged(self._changes)
        row = {**logs, "step": state.global_step}
        self._rows.append(row)
        state.log_history.append({**row, "epoch": state.epoch})
        _handler().call_event("on_log", args, state, control, logs=logs)

    def _score(self, loaded: Loaded) -> list[ItemRecord]:
        names = planning.retention_tasks(self._suite)
        return evaluate.evaluate(
            loaded,
            self._tasks.find(names),
            limit=self._suite.items_per_task,
            allow_code=self._tasks.allow_code,
            rendering=self._rendering,
        )


def _handler() -> CallbackHandler:
    """The trainer's callbacks, trackers among them.

    transformers passes callbacks everything but the trainer and this handler, and `Trainer.log` is
    the only public way to the trackers. The handler is what called `on_step_end`, two frames up.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, CallbackHandler):
            return caller
        frame = frame.f_back
    raise RuntimeError("RetentionCallback.on_step_end was not called by a transformers Trainer")


@contextmanager
def _untouched(model: Any) -> Iterator[None]:
    """Put back the buffers that a forward pass rewrites (rotary frequencies of long contexts).

    A tensor that is made in inference mode cannot take part in training. Modes, weights and
    generators are kept by the scoring itself.
    """
    kept = [(module, dict(module._buffers)) for module in model.modules()]
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.clear()
            module._buffers.update(buffers)


def _logged(changes: Comparison) -> dict[str, float]:
    """Names and numbers for a tracker."""
    drops: dict[str, Interval] = {change.task: change.drop for change in changes.tasks}
    drops |= {axis.axis: axis.drop for axis in changes.axes}
    return {
        f"retention/{name}/{key}": value
        for name, drop in drops.items()
        for key, value in (("drop", drop.value), ("drop_low", drop.low), ("drop_high", drop.high))
    }
