"""The policies of a chain's steps and of the whole, and the verdict that follows from theirs.

A chain of k steps makes k + 1 claims: each step lost less than its share of the margin, and the
whole less than the margin. Each is decided at alpha / (k + 1), so by the union bound all of them
hold together with an error of at most alpha, however the steps depend on each other: they share
items and links. Scores of a task add up along the chain: the drop of the whole is the sum of the
steps' drops. With margins of 1/k for each step, a chain whose every step passes has shown that the
whole passes, by the same claims.

Assumption: one set of items for all links, which locks and pairing enforce. Leaves out: cleverer
splits of alpha or margin; the simulation in tests/certificate/test_chain.py is of this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from retainbench.harness.core.records import Verdict
from retainbench.harness.core.schema import Policy


class Composed(NamedTuple):
    """What decides about each part."""

    step: Policy
    whole: Policy


def compose(policy: Policy, steps: int) -> Composed:
    """Split a policy's level over all claims, and its margins over the steps.

    >>> found = compose(Policy(margin=0.06, alpha=0.05), steps=3)
    >>> round(found.step.margin, 6), found.whole.margin, found.whole.alpha
    (0.02, 0.06, 0.0125)
    """
    alpha = policy.alpha / (steps + 1)
    shares = {
        "margin": policy.margin / steps,
        "task_margins": {name: value / steps for name, value in policy.task_margins.items()},
        "axis_margins": {name: value / steps for name, value in policy.axis_margins.items()},
    }
    return Composed(
        policy.model_copy(update={"alpha": alpha, "minimum_gain": None, **shares}),
        policy.model_copy(update={"alpha": alpha}),
    )


def bound(policy: Policy, steps: int) -> str:
    """The claims in words."""
    return (
        f"{steps + 1} claims, each at alpha {policy.alpha:g} / {steps + 1}: by the union bound all "
        f"hold together with an error of at most {policy.alpha:g}. Each step may lose 1/{steps} of "
        f"the margin, so the margins of the steps add up to that of the whole"
    )


class ChainVerdict(NamedTuple):
    """The verdict on a chain, and why."""

    verdict: Verdict
    because: str


def decide(steps: Sequence[Verdict], whole: Verdict) -> ChainVerdict:
    """The verdict on what is released: that of the whole, or PASS where every step passes.

    >>> decide(["PASS", "REGRESSION"], "INCONCLUSIVE").verdict
    'INCONCLUSIVE'
    >>> decide(["PASS", "PASS"], "INCONCLUSIVE").verdict
    'PASS'
    """
    if whole == "INCONCLUSIVE" and all(verdict == "PASS" for verdict in steps):
        return ChainVerdict("PASS", "every step passes, and their margins add up to the whole's")
    return ChainVerdict(whole, "the last link against the first")
