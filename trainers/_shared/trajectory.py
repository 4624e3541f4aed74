"""Budget, step log, checkpoints and resume of one stage: the part every method shares.

A trainer with its own loop does

    trajectory = Trajectory(job, policy)
    state = trajectory.resume()              # None on a first start
    while trajectory.running:
        ...one update, telling trajectory.meter what it cost...
        trajectory.after_step(metrics, lambda: {"optimizer": ..., ...})
    return trajectory.outcome(metrics)

Writes `steps.jsonl`, `checkpoints/<point>/` with `<point>.json` beside each, and `state/`, from
which an interrupted stage goes on to the same bytes. The state is saved at every checkpoint and
every `SAVE_SECONDS`; a kill repeats at most that much work.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.records import Ledger
from retainbench.harness.core.storage import canonical, read_json, write_json
from retainbench.trainers._shared import model
from retainbench.trainers._shared import state as _state
from retainbench.trainers._shared.budget import Meter
from retainbench.trainers._shared.contract import Job, Outcome, TrainingError

SAVE_SECONDS = 20.0


class Trajectory:
    """One stage on its way; see the module's text for the calls."""

    def __init__(self, job: Job, policy: model.Policy, *, gradient: bool = True) -> None:
        """Args:
        gradient: False for methods without a backward pass (they count no trainable FLOPs).
        """
        self.job = job
        self.policy = policy
        self._folder = CellFolder(job.out)
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
        """False once the stage's budget is spent."""
        return not self.meter.exhausted

    @property
    def step(self) -> int:
        """Updates done in this stage."""
        return self.meter.ledger().steps - self._first

    def resume(self) -> Any | None:
        """Restore weights, meter and step log; returns the trainer's own state, or None.

        On a first start the checkpoint for share 0 is written, where the job wants one.
        """
        saved = _state.load(self._state_folder)
        if saved is None:
            self._truncate_log(self._first)
            self._keep_due()
            return None
        import torch

        with torch.no_grad():
            for name, parameter in model.trainable_parameters(self.policy.model).items():
                parameter.copy_(saved["weights"][name])
        self._set_meter(Ledger(**saved["ledger"]))
        self._truncate_log(self.meter.ledger().steps)
        return saved["trainer"]

    def after_step(
        self,
        metrics: dict[str, float],
        state: Callable[[], Any] | None = None,
        *,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Count and log one update; keep due checkpoints; save the state when it is time.

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
        self._log(metrics | (details or {}))
        kept = self._keep_due()
        if state and (kept or time.monotonic() - self._saved_at > SAVE_SECONDS):
            self.save_state(state())
        self.job.progress(self.meter.share, metrics)

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
        _state.save(self._state_folder, {"weights": weights, "ledger": ledger, "trainer": trainer})
        self._saved_at = time.monotonic()

    def _keep_due(self, *, final: bool = False) -> bool:
        kept = False
        for name, share in self.job.points:
            record = self._folder.checkpoints / f"{name}.json"
            if record.exists() or (share > self.meter.share and not final):
                continue
            if model.overflowed(model.trainable_parameters(self.policy.model).values()):
                raise TrainingError(
                    f"the weights overflowed by step {self.step}: use a smaller learning_rate"
                )
            merged = self.job.adaptation.kind == "lora" and self.job.stage > 0
            model.save(self.policy, self._folder.checkpoint(name), merged=merged)
            write_json(record, self.meter.ledger())
            kept = True
        return kept

    def _log(self, metrics: dict[str, Any]) -> None:
        line = {"step": self.meter.ledger().steps, "share": self.meter.share, **metrics}
        self._folder.steps.parent.mkdir(parents=True, exist_ok=True)
        with self._folder.steps.open("a", encoding="utf-8") as file:
            file.write(canonical(line) + "\n")

    def _truncate_log(self, lines: int) -> None:
        if self._folder.steps.exists():
            with self._folder.steps.open("rb+") as file:
                for _ in range(lines):
                    file.readline()
                file.truncate()
                os.fsync(file.fileno())


def kept_checkpoints(folder: CellFolder) -> dict[str, Ledger]:
    """Ledger of every checkpoint that was kept, by point name, in order."""
    return {
        path.stem: read_json(path, Ledger) for path in sorted(folder.checkpoints.glob("*.json"))
    }
