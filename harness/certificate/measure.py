"""What a certificate says besides scores: how far the weights moved, and the KL to the base.

Reads two checked models; keeps the base's continuations in the user's cache, one set for all of its
candidates. Neither decides the verdict, so what cannot be measured becomes a note with its reason,
whatever the reason is: by now both models have been scored, and a full disk, a full card or a
library's error must not cost these hours.
Leaves out KL on the new task's prompts: nobody named what the candidate was trained for.
"""

from __future__ import annotations

from retainbench.harness.core import paths
from retainbench.harness.core.errors import RetainbenchError
from retainbench.harness.core.schema import Suite
from retainbench.harness.core.text.escaping import one_line
from retainbench.harness.divergence.prompts import most_prompts, prompt_sets
from retainbench.harness.drift import measure as drift
from retainbench.harness.gate.decide import Movement
from retainbench.harness.models import loading
from retainbench.harness.models.checked import Base
from retainbench.harness.models.placement import ON_CPU, Placement
from retainbench.harness.suites.plan import retention_tasks
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering

LONGEST_NOTE = 500  # characters
RESIZED = (
    "KL compares the first {:,} tokens, which both models have; the probability of the others is "
    "left out"
)


def drift_only(base: Base, candidate: Base, *, rendering: Rendering = PLAIN) -> Movement:
    """The cheap measurement: how far the weights moved, read once; no prompt is asked."""
    try:
        found = drift.measure(base.folder, candidate.folder)
        return Movement(drift=drift.summary(found), notes=tuple(found.notes))
    except Exception as error:  # noqa: BLE001 - see above
        return Movement(notes=(_unmeasured("drift", error),))


def _unmeasured(what: str, error: Exception) -> str:
    """A note in one line; a path of this machine stays, a traceback does not fit."""
    kind = "" if isinstance(error, RetainbenchError) else f"{type(error).__name__}: "
    return one_line(f"{what} is unmeasured, because {kind}{error}", LONGEST_NOTE)


def drift_and_kl(
    base: Base,
    candidate: Base,
    *,
    suite: Suite,
    placement: Placement = ON_CPU,
    tasks: Catalogue = OWN,
    rendering: Rendering = PLAIN,
) -> Movement:
    """Drift, and KL on each retention axis' prompts: as many, and as long, as the suite says."""
    from retainbench.harness.divergence import measure as divergence
    from retainbench.harness.divergence.continuations import Extent

    found = drift_only(base, candidate)
    try:
        prompts = prompt_sets(retention_tasks(suite), most_prompts(suite), tasks, rendering)
        if not prompts:
            return found
        before, after = (loading.load(one, **placement._asdict()) for one in (base, candidate))
        shared = divergence.shared_tokens(before, after)
        measured = divergence.summarise(
            before,
            after,
            prompts,
            max_new_tokens=suite.divergence_tokens,
            extent=Extent(suite.divergence_prompts, suite.divergence_minimum_tokens),
            cache=paths.cache() / "continuations.jsonl",
            rendering=rendering,
        )
    except Exception as error:  # noqa: BLE001 - see above
        return found._replace(notes=(*found.notes, _unmeasured("KL", error)))
    notes = found.notes if shared is None else (*found.notes, RESIZED.format(shared))
    return found._replace(divergence=measured, notes=notes)
