"""What a recipe spends, and when it must stop: one meter for every method.

FLOPs follow the usual count of two per parameter and token forwards, and twice that backwards
(arXiv:2001.08361, section 2.1). The backward pass splits into 2N for the activations' gradients
and 2 N_trainable for the weights' gradients, so full training costs 4N and LoRA little over 2N.
Generated tokens are forward tokens. Attention's quadratic term and ES noise are left out.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from retainbench.harness.core.records import Ledger
from retainbench.harness.core.schema import Budget
from retainbench.trainers._shared import collective

SHARED = ("forward_tokens", "backward_tokens", "generated_tokens", "samples", "flops")
"""What each of several processes counts for its own rows."""
ROUNDING = 1e-9
"""Tolerance of shares, which are quotients of floats: without it 4 steps could become 5."""


class Meter:
    """Counts one stage's spending, added to that of the earlier stages.

    Args:
        budget: of this stage alone.
        parameters: all parameters that a token passes through.
        trainable: those that receive a gradient (0 for evolution strategies).
        spent: the ledger so far, of earlier stages and of an interrupted run of this one.
        start: the ledger at the beginning of this stage (differs from `spent` on resume).
    """

    def __init__(
        self, budget: Budget, parameters: int, trainable: int, spent: Ledger, start: Ledger
    ) -> None:
        self.budget = budget
        self._parameters = parameters
        self._trainable = trainable
        self._counts = spent.model_dump()
        self._start = start
        self._clock = time.monotonic()

    def forward(self, tokens: int, parameters: int | None = None) -> None:
        """Tokens that went through the model forwards.

        Args:
            parameters: of the model, where it is not the policy or one of its size.
        """
        self._counts["forward_tokens"] += tokens
        self._counts["flops"] += 2.0 * (parameters or self._parameters) * tokens

    def backward(self, tokens: int) -> None:
        """Tokens whose loss was differentiated (count their forward pass separately)."""
        self._counts["backward_tokens"] += tokens
        self._counts["flops"] += 2.0 * (self._parameters + self._trainable) * tokens

    def generated(self, tokens: int) -> None:
        """Newly sampled tokens; their forward pass is counted here, the prompt's is not."""
        self._counts["generated_tokens"] += tokens
        self.forward(tokens)

    def samples(self, number: int) -> None:
        """Completions that an update learns from (`Ledger.samples`)."""
        self._counts["samples"] += number

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Add up what the processes that share a batch count in this block, each for its rows."""
        before = {name: self._counts[name] for name in SHARED}
        yield
        if collective.number() > 1:
            spent = collective.summed([self._counts[name] - before[name] for name in SHARED])
            for name, more in zip(SHARED, spent, strict=True):
                self._counts[name] = before[name] + type(before[name])(more)

    def step(self) -> None:
        """One update of the weights."""
        self._counts["steps"] += 1

    @property
    def share(self) -> float:
        """Share of this stage's budget that is spent; 1.0 for an empty budget."""
        if not self.budget.amount:
            return 1.0
        unit = self.budget.unit
        spent = Ledger(**self._counts).used(unit) - self._start.used(unit)
        return spent / self.budget.amount

    @property
    def exhausted(self) -> bool:
        """True once the budget is spent; a trainer's loop then stops."""
        return self.share >= 1.0 - ROUNDING

    def ledger(self) -> Ledger:
        """A snapshot, with wall time and the peak resident memory of this process."""
        seconds = self._counts["seconds"] + time.monotonic() - self._clock
        peak = max(self._counts["peak_memory_bytes"], peak_memory_bytes())
        return Ledger(**(self._counts | {"seconds": seconds, "peak_memory_bytes": peak}))


def peak_memory_bytes() -> int:
    """Highest resident set size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
