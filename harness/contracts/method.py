"""What a method must keep: equal bytes from equal seeds, resume, the base at zero, the budget.

Trains a tiny random model a few steps at a time in a scratch folder: some seconds a run. The
package's own methods are tested by the same rules. Command: `retainbench check METHOD.py`.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retainbench.harness.contracts import jobs
from retainbench.harness.contracts.rules import Rule, ruled
from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.schema import Budget
from retainbench.harness.core.stages import Anchor, AnyAdapter
from retainbench.harness.suites.methods import CONTRACT
from retainbench.trainers._shared import step_log
from retainbench.trainers._shared.contract import Job, TrainerOptions

KILLED_AT = 0.75
STEPS_OF_FLOPS = 2.5
"""Budget of the second run in steps' worth of FLOPs: no whole number of steps spends it exactly."""


ROUNDING = 1e-6
"""Relative drift of an untrained adapter that is merged in float32: DoRA divides by its norms."""


class KilledError(Exception):
    """What a kill in the middle of a run is here."""


class MethodTrial:
    """One method with one adaptation, trained on a tiny base; each run is made once.

    Args:
        module: the method, with the contract of `trainers/_shared/contract.py`.
        base: a small model folder.
        scratch: an empty folder.
        options: of the method; None takes `jobs.small_options`.
    """

    def __init__(
        self,
        module: Any,
        base: Path,
        scratch: Path,
        adaptation: str | AnyAdapter,
        options: Any = None,
    ) -> None:
        self.module = module
        self.base = base
        self.scratch = scratch
        self.adaptation = adaptation
        self.options = options or jobs.small_options(module)
        # An adapter is anchored too: to its untrained state, which a resumed run must find again.
        anchored = adaptation != "full" and "weights" in module.ANCHORS
        self.anchor = Anchor(kind="weights", strength=5.0) if anchored else None
        self.opened: list[str] = []
        """Files of test items that the method has read."""
        self.changed: list[str] = []
        """Global generators that training has left in another state."""

    def job(self, name: str, budget: Budget | None = None) -> Job:
        """A job in a folder of its own."""
        return jobs.job(
            self.base,
            self.scratch / name,
            self.options,
            adaptation=self.adaptation,
            anchor=self.anchor,
            budget=budget,
            teacher=jobs.teacher_for(self.module, self.base, self.scratch / "teacher"),
        )

    def train(self, job: Job, seed: int) -> dict[str, bytes]:
        """Run the method with the global generators seeded; the weights at the end."""
        with global_seed(seed), watched(self.opened):
            before = _states()
            self.module.train(job)
            self.changed += [name for name, state in _states().items() if state != before[name]]
        return jobs.weights(job.out / "checkpoints" / jobs.END)

    @cached_property
    def whole(self) -> dict[str, bytes]:
        """The weights of an uninterrupted run."""
        return self.train(self.job("whole"), 1)

    @cached_property
    def resumed(self) -> dict[str, bytes]:
        """The weights of a run that was killed and resumed under other global random states."""

        def die(share: float, _metrics: dict[str, float]) -> None:
            if share >= KILLED_AT:
                raise KilledError

        cut = self.job("cut")
        with suppress(KilledError):
            self.train(replace(cut, progress=die), 2)
        return self.train(cut, 3)

    def steps(self, name: str) -> list[dict[str, Any]]:
        """The step log of a run."""
        return step_log.steps(CellFolder(self.scratch / name).steps)

    def ledger(self, name: str) -> dict[str, Any]:
        """What a run has spent."""
        path = self.scratch / name / "checkpoints" / f"{jobs.END}.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        spent: dict[str, Any] = found.get("ledger", found)
        return spent


def check(
    module: Any, base: Path, adaptation: str | AnyAdapter, options: Any = None
) -> Iterator[Rule]:
    """The rules of a method for one adaptation, one after another."""
    with tempfile.TemporaryDirectory() as scratch:
        trial = MethodTrial(module, base, Path(scratch), adaptation, options)
        for name, find in RULES.items():
            yield ruled(f"{name} ({adaptation})", lambda find=find: find(trial))  # type: ignore[misc]


def contract(module: Any) -> str:
    """What is wrong with a method's module as far as it can be seen without training."""
    if missing := [name for name in CONTRACT if not hasattr(module, name)]:
        return f"missing: {', '.join(missing)}. A method defines {', '.join(CONTRACT)}"
    if not module.ADAPTATIONS:
        return "ADAPTATIONS is empty. Name full, lora or both"
    if not issubclass(module.Options, TrainerOptions):
        return "Options does not derive from TrainerOptions (or GradientOptions)"
    required = [name for name, info in module.Options.model_fields.items() if info.is_required()]
    return f"options without a default: {', '.join(required)}" if required else ""


def _trains(trial: MethodTrial) -> str:
    end = trial.whole
    start = jobs.weights(trial.scratch / "whole" / "checkpoints" / jobs.START)
    return "training leaves the weights as they are" if end == start else ""


def _no_test_items(trial: MethodTrial) -> str:
    assert trial.whole
    if trial.opened:
        return f"training reads test items: {trial.opened[0]}. Train on job.target.train"
    return ""


def _same_seed(trial: MethodTrial) -> str:
    if trial.resumed == trial.whole or trial.train(trial.job("again"), 1) == trial.whole:
        return ""
    return "two runs with one seed differ. Draw from trainers._shared.data.generator(seed, purpose)"


def _no_global_state(trial: MethodTrial) -> str:
    if trial.resumed == trial.whole or trial.train(trial.job("elsewhere"), 4) == trial.whole:
        return ""
    return (
        "other weights when the global generators (random, numpy.random, torch) have another "
        "state. Draw from trainers._shared.data.generator(seed, purpose)"
    )


def _leaves_global_state(trial: MethodTrial) -> str:
    assert trial.whole
    if trial.changed:
        return f"training changes the global state of {trial.changed[0]}. Use generators of its own"
    return ""


def _resumes(trial: MethodTrial) -> str:
    if trial.resumed == trial.whole or _no_global_state(trial) or _same_seed(trial):
        return ""  # another rule says what is wrong
    return "a run that was killed and resumed ends in other bytes. Save all state in after_step"


def _zero_steps(trial: MethodTrial) -> str:
    found = trial.train(trial.job("zero", Budget(unit="steps", amount=0)), 1)
    if trial.adaptation == "full":
        return "" if found == jobs.weights(trial.base) else "a budget of 0 changes the weights"
    if isinstance(trial.adaptation, AnyAdapter):
        from retainbench.harness.drift.measure import summarise

        end = trial.scratch / "zero" / "checkpoints" / jobs.END
        drift = summarise(trial.base, end, {}).relative
        return "" if drift < ROUNDING else f"a budget of 0 moves the weights by {drift:.2g}"
    from safetensors.torch import load

    tensors = [tensor for data in found.values() for tensor in load(data).items()]
    moved = [name for name, value in tensors if "_B" in name and bool(value.any())]
    return f"a budget of 0 gives the adapter an effect: {moved[0]}" if moved else ""


def _budget(trial: MethodTrial) -> str:
    assert trial.whole
    steps, spent = trial.steps("whole"), trial.ledger("whole")
    if len(steps) != jobs.STEPS or spent["steps"] != jobs.STEPS:
        return f"{spent['steps']} steps on a budget of {jobs.STEPS}. Loop while trajectory.running"
    if not (spent["flops"] > 0 and spent["samples"] > 0):
        return "no FLOPs or samples are counted. Tell trajectory.meter what each step costs"
    amount = STEPS_OF_FLOPS * spent["flops"] / jobs.STEPS
    trial.train(trial.job("flops", Budget(unit="flops", amount=amount)), 1)
    shares = [step["share"] for step in trial.steps("flops")]
    if len(shares) > 1 and shares[-2] >= 1:
        return (
            f"{shares[-1]:.0%} of a budget of {amount:.3g} flops is spent: another step was taken "
            "when it was spent. Loop while trajectory.running"
        )
    return ""


RULES: dict[str, Callable[[MethodTrial], str]] = {
    "trains": _trains,
    "same seed, same bytes": _same_seed,
    "no global random state": _no_global_state,
    "global random state left alone": _leaves_global_state,
    "kill and resume, same bytes": _resumes,
    "zero steps, the base": _zero_steps,
    "budget within one step": _budget,
    "no test items reachable": _no_test_items,
}


def _states() -> dict[str, str]:
    import torch

    return {
        "random": repr(random.getstate()),
        "numpy.random": repr(np.random.get_state()),
        "torch": repr(torch.get_rng_state().tolist()),
    }


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators; they are as they were afterwards."""
    import torch

    before = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


_watching: list[list[str]] = []


@cache
def _hook() -> None:
    """Python keeps an audit hook for good, so there is one, and it does nothing when not asked."""

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if _watching and event == "open" and str(arguments[0]).endswith("items.jsonl"):
            _watching[-1].append(str(arguments[0]))

    sys.addaudithook(audit)


@contextmanager
def watched(opened: list[str]) -> Iterator[None]:
    """Collect files of test items that are opened meanwhile."""
    _hook()
    _watching.append(opened)
    try:
        yield
    finally:
        _watching.pop()
