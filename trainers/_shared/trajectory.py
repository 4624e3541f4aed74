"""Budget, step log, checkpoints and resume of one stage: the part that every method shares.

A trainer with its own loop does

    trajectory = Trajectory(job, policy)
    state = trajectory.resume()              # None on a first start
    while trajectory.running:
        ...one update; charge trajectory.meter for its cost...
        trajectory.after_step(metrics, lambda: {"optimizer": ..., ...})
    return trajectory.outcome(metrics)

Writes `steps.jsonl`, `checkpoints/<point>/` with `<point>.json` next to each, and `state/`, from
which an interrupted stage continues to the same bytes. The state is saved at every checkpoint and
every `SAVE_SECONDS`; a kill repeats at most that much work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from retainbench.harness.core.files.storage import write_json
from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.records import CheckpointRecord, Ledger
from retainbench.harness.models import identity
from retainbench.trainers._shared import collective, model
from retainbench.trainers._shared import state as _state
from retainbench.trainers._shared.budget import Meter
from retainbench.trainers._shared.contract import Job, Outcome, TrainingError
from retainbench.trainers._shared.step_log import Mark, StepLog

SAVE_SECONDS = 20.0


class Trajectory:
    """One running stage; the module's docstring shows the calls."""

    def __init__(self, job: Job, policy: model.PolicyModel, *, gradient: bool = True) -> None:
        """Args:
        gradient: False for methods without a backward pass (they count no trainable FLOPs).
        """
        self.job = job
        self.policy = policy
        self._folder = CellFolder(job.out)
        self._writes = collective.first()
        self._log = StepLog(self._folder.steps, writes=self._writes)
        self._last: dict[str, float] = {}
        """Numbers of the last logged update."""
        self._state_folder = job.out / f"state-{job.stage}"
        self._trainable = policy.trainable if gradient else 0
        self._first = job.spent.steps
        self._saved_at = time.monotonic()
        self._set_meter(job.spent)

    def _set_meter(self, spent: Ledger) -> None:
        self.meter = Meter(
            self.job.budget, self.policy.parameters, self._trainable, spent, self.job.spent
        )

    @property
    def running(self) -> bool:
        """Whether the stage has budget left."""
        return not self.meter.exhausted

    @property
    def step(self) -> int:
        """Updates done in this stage."""
        return self.meter.ledger().steps - self._first

    def resume(self) -> Any | None:
        """Restore weights, meter and step log; returns the trainer's own state, or None.

        On a first start the checkpoint for share 0 is written, where the job wants one. A state
        that is damaged, or whose step log is, counts as none: the stage starts again, to the same
        bytes.
        """
        saved = _state.load(self._state_folder)
        if saved is not None and not self._resume_log(saved):
            saved = None
        if collective.summed([self.step]) != [self.step * collective.number()]:
            raise RuntimeError(f"processes begin at different steps: this one at {self.step}")
        if saved is None:
            self._log.restart(self._first)
            self._keep_due()
            return None
        import torch

        with torch.no_grad():
            for name, parameter in model.trainable_parameters(self.policy.model).items():
                parameter.copy_(saved["weights"][name])
        self._last = saved["last"]
        return saved["trainer"]

    def _resume_log(self, saved: Any) -> bool:
        """Set meter and log to a state; a finished stage's log keeps the lines of later stages."""
        self._set_meter(Ledger(**saved["ledger"]))
        if self._log.resume(Mark(**saved["log"]), cut=self.running):
            return True
        self._set_meter(self.job.spent)
        return False

    def after_step(
        self,
        metrics: dict[str, float],
        state: Callable[[], Any] | None = None,
        *,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Count and log one update; write due checkpoints; save the state every `SAVE_SECONDS`.

        Args:
            metrics: of this step; must be finite.
            state: gives the trainer's own state; None where the trainer resumes by other means.
            details: more JSON values for the step log (noise keys, fitness of each member).

        Raises:
            TrainingError: a metric is NaN or infinite, or the weights of a checkpoint overflowed.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrainingError(f"{name} became {value} at step {self.step + 1}")
        self.meter.step()
        self.job.updated(self.meter.ledger())
        line = {"step": self.meter.ledger().steps, "share": self.meter.share}
        line |= metrics | (details or {})
        self._log.append(line)
        self._last = {
            name: value for name, value in line.items() if isinstance(value, (int, float))
        }
        kept = self._keep_due()
        if self._writes and state and (kept or time.monotonic() - self._saved_at > SAVE_SECONDS):
            self.save_state(state())
        self.job.progress(self.meter.share, metrics)

    def passed_while_sampling(self) -> None:
        """Keep the checkpoints whose share was passed since the last update, before the next one.

        A method that spends much before it updates calls this, so that such a point holds the
        weights that the share was spent on, not later ones.
        """
        self._keep_due()

    def outcome(self, metrics: dict[str, float], reason: str | None = None) -> Outcome:
        """Close the stage: every checkpoint that is still missing is the final weights.

        Raises:
            TrainingError: the budget was spent before the first update, or the weights overflowed.
        """
        if self.job.budget.amount and not self.step:
            raise TrainingError(reason or "the budget was spent before the first update")
        self._keep_due(final=True)
        return Outcome(metrics, reason, self.policy.parameters, self.policy.trainable)

    def save_state(self, trainer: Any) -> None:
        """Write the resume state now."""
        weights = {n: p.detach() for n, p in model.trainable_parameters(self.policy.model).items()}
        ledger = self.meter.ledger().model_dump()
        log = self._log.mark()._asdict()
        tree = {"weights": weights, "ledger": ledger, "log": log, "last": self._last}
        _state.save(self._state_folder, tree | {"trainer": trainer})
        self._saved_at = time.monotonic()

    def _keep_due(self, *, final: bool = False) -> bool:
        kept = False
        for name, share in self.job.points if self._writes else ():
            record = self._folder.checkpoint_record(name)
            if record.exists() or (share > self.meter.share and not final):
                continue
            if model.overflowed(model.trainable_parameters(self.policy.model).values()):
                raise TrainingError(
                    f"the weights overflowed by step {self.step}: use a smaller learning_rate"
                )
            merged = self.job.adaptation.kind == "lora" and self.job.stage > 0
            model.save(self.policy, self._folder.checkpoint(name), merged=merged)
            write_json(record, self._checkpoint(name), checked=True)
            kept = True
        return kept

    def _checkpoint(self, name: str) -> CheckpointRecord:
        folder = self._folder.checkpoint(name)
        return CheckpointRecord(
            stage=self.job.stage,
            fraction=float(name.split("-")[1]),
            folder=str(folder.relative_to(self._folder.root)),
            weights_digest=identity.folder_digest(folder),
            ledger=self.meter.ledger(),
            metrics=self._last,
        )
