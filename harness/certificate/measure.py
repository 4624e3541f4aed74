"""What a certificate says beside scores: how far the weights moved, and the KL to the base.

Reads two checked models; keeps the base's continuations in the user's cache, one set for all of its
candidates. Neither decides the verdict, so what cannot be measured becomes a note with its reason.
Leaves out KL on the new task's prompts: nobody named what the candidate was trained for.
"""

from __future__ import annotations

from retainbench.harness.core import paths
from retainbench.harness.core.errors import RetainbenchError
from retainbench.harness.core.schema import Suite
from retainbench.harness.divergence.prompts import prompt_sets
from retainbench.harness.drift import measure as drift
from retainbench.harness.gate.decide import Movement
from retainbench.harness.models import loading
from retainbench.harness.models.checked import Base
from retainbench.harness.suites.plan import retention_tasks
from retainbench.harness.tasks.catalogue import OWN, Catalogue


def drift_only(base: Base, candidate: Base) -> Movement:
    """The cheap measurement: how far the weights moved, read once."""
    try:
        found = drift.measure(base.folder, candidate.folder)
        return Movement(drift=drift.summary(found), notes=tuple(found.notes))
    except RetainbenchError as error:
        return Movement(notes=(f"drift is unmeasured, because {error}",))


def drift_and_kl(
    base: Base, candidate: Base, *, suite: Suite, device: str = "cpu", tasks: Catalogue = OWN
) -> Movement:
    """Drift, and KL on each retention axis' prompts: as many, and as long, as the suite says."""
    from retainbench.harness.divergence import measure as divergence

    found = drift_only(base, candidate)
    prompts = prompt_sets(retention_tasks(suite), suite.divergence_prompts, tasks)
    if not prompts:
        return found
    try:
        measured = divergence.summarise(
            loading.load(base, device=device),
            loading.load(candidate, device=device),
            prompts,
            max_new_tokens=suite.divergence_tokens,
            cache=paths.cache() / "continuations.jsonl",
        )
    except RetainbenchError as error:
        return found._replace(notes=(*found.notes, f"KL is unmeasured, because {error}"))
    return found._replace(divergence=measured)
