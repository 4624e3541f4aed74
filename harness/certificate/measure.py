"""What a certificate says beside scores: how far the weights moved, and the KL to the base.

Reads two model folders; keeps the base's continuations in the user's cache, one set for all of its
candidates. Leaves out KL on the new task's prompts: what a candidate was trained for, nobody said.
"""

from __future__ import annotations

from pathlib import Path

from retainbench.harness.core import paths
from retainbench.harness.core.schema import Suite
from retainbench.harness.divergence.prompts import prompt_sets
from retainbench.harness.drift import measure as drift
from retainbench.harness.gate.decide import Movement
from retainbench.harness.models import loading
from retainbench.harness.suites.plan import retention_tasks


def drift_only(base: Path, candidate: Path) -> Movement:
    """The cheap measurement: how far the weights moved, read once, without torch."""
    return Movement(drift=drift.summarise(base, candidate, {}))


def drift_and_kl(base: Path, candidate: Path, *, suite: Suite, device: str = "cpu") -> Movement:
    """Drift, and KL on each retention axis' prompts: as many, and as long, as the suite says.

    Raises:
        IntegrityError: the tokenizers differ, or a model gives NaN.
    """
    from retainbench.harness.divergence import measure as divergence

    found = drift_only(base, candidate)
    prompts = prompt_sets(retention_tasks(suite), suite.divergence_prompts)
    if not prompts:
        return found
    measured = divergence.summarise(
        loading.load(base, device=device),
        loading.load(candidate, device=device),
        prompts,
        max_new_tokens=suite.divergence_tokens,
        cache=paths.cache() / "continuations.jsonl",
    )
    return found._replace(divergence=measured)
