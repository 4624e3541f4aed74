"""What scoring will cost, from a short probe on this machine: tokens, FLOPs, seconds per task.

A loaded base answers the first items of each task twice, few and some more; the difference gives
seconds per token and, of generated answers, tokens per item. The tokens of choices are counted in
the plan of all items, without computing them: prefixes that items share count once. KL is measured
on two prompts per set. FLOPs are 2N per token.

Commands: `retainbench plan SUITE --estimate`, `retainbench certify ... --estimate`; training is
study_design/training_cost.py. Writes nothing. Leaves out: drift, tables, and items in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from retainbench.harness.comparison.changes import icc_of, margin_of
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.divergence.prompts import prompt_sets
from retainbench.harness.gate.tiers import TYPICAL_DISCORDANCE
from retainbench.harness.models.loading import Loaded
from retainbench.harness.scoring import evaluate, sample_rows
from retainbench.harness.statistics.estimate import design_of
from retainbench.harness.statistics.power import detectable_drop
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue, TaskInfo
from retainbench.harness.tasks.rendering.chat import Rendering

FEW, MORE = 2, 8
"""Items of the two probes of a task."""
PROMPTS = 2
"""Prompts of each set that KL is probed on."""


class Cost(NamedTuple):
    """What a part of the work takes."""

    tokens: float = 0.0
    """Through the model forwards."""
    flops: float = 0.0
    seconds: float = 0.0

    def times(self, number: float) -> Cost:
        """The same work done several times."""
        return Cost(*(number * value for value in self))

    def plus(self, other: Cost) -> Cost:
        """Both."""
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


class TaskCost(NamedTuple):
    """A task scored once on one checkpoint."""

    info: TaskInfo
    items: int
    cost: Cost
    detectable: float | None
    """Smallest true drop that shows as a REGRESSION with power .8 if `TYPICAL_DISCORDANCE` of
    the answers change besides; None for a target, or where no drop shows."""


def total(parts: Sequence[Cost]) -> Cost:
    """The sum."""
    found = Cost()
    for part in parts:
        found = found.plus(part)
    return found


def of_tasks(
    loaded: Loaded,
    infos: Sequence[TaskInfo],
    policy: Policy,
    *,
    most: int | None = None,
    allow_code: bool = False,
    rendering: Rendering,
) -> list[TaskCost]:
    """Probe each task on the base.

    Args:
        most: first items of each task that will be scored; None means all.
    """

    def score(info: TaskInfo, items: int) -> Cost:
        return measured(
            loaded,
            lambda: evaluate.evaluate(
                loaded, [info], limit=items, allow_code=allow_code, rendering=rendering
            ),
        )

    retention = [info for info in infos if info.kind != "target"]
    score(infos[0], 1)  # a first call sets up what later ones find ready
    found = []
    for info in infos:
        items = min(info.n_items, most or info.n_items)
        few, more = score(info, min(FEW, items)), score(info, min(MORE, items))
        asked = sample_rows.requests(info, rendering, items, allow_code=allow_code)
        tokens = evaluate.planned_tokens(loaded, asked, rendering)
        detectable = None if info.kind == "target" else _detectable(info, items, policy, retention)
        found.append(TaskCost(info, items, _whole(few, more, items, tokens), detectable))
    return found


def _whole(few: Cost, more: Cost, items: int, tokens: int | None) -> Cost:
    """The cost of all items, from those of two probes.

    Args:
        tokens: of all items, where they are known.
    """
    if items <= MORE:
        return more
    added = more.tokens - few.tokens
    if tokens is None:
        tokens = round(more.tokens + added / (MORE - FEW) * (items - MORE))
    left = max(0.0, tokens - more.tokens)
    slower = max(0.0, more.seconds - few.seconds) / added if added else 0.0
    return Cost(
        more.tokens + left,
        more.flops / more.tokens * (more.tokens + left),
        more.seconds + slower * left,
    )


def _detectable(
    info: TaskInfo, items: int, policy: Policy, gated: Sequence[TaskInfo]
) -> float | None:
    clusters = np.array([item.cluster for item in catalogue.lock(info).items[:items]])
    effective = design_of(clusters, items, icc_of(policy, info.name)).effective_items
    return detectable_drop(
        effective,
        margin_of(policy, info.name),
        tasks=len(gated),
        discordance=TYPICAL_DISCORDANCE,
        alpha=policy.alpha,
    )


def of_divergence(
    loaded: Loaded, names: Sequence[str], suite: Suite, tasks: Catalogue, rendering: Rendering
) -> Cost:
    """KL of one candidate to the base, on all prompt sets of the suite."""
    from retainbench.harness.divergence import measure

    sets = prompt_sets(names, min(PROMPTS, suite.divergence_prompts), tasks, rendering)
    if not sets:
        return Cost()
    probed = measured(
        loaded,
        lambda: measure.summarise(
            loaded, loaded, sets, max_new_tokens=suite.divergence_tokens, rendering=rendering
        ),
    )
    return probed.times(suite.divergence_prompts / min(PROMPTS, suite.divergence_prompts))


def measured(loaded: Loaded, work: Callable[[], object]) -> Cost:
    """Tokens, FLOPs and seconds of a piece of work with a model."""
    with _counting(loaded) as tokens:
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    return Cost(sum(tokens), 2.0 * parameters * sum(tokens), seconds)


@contextmanager
def _counting(loaded: Loaded) -> Iterator[list[int]]:
    """Collects the number of tokens of every forward pass."""
    tokens: list[int] = []
    embedding = loaded.model.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda _, given: tokens.append(given[0].numel()))
    try:
        yield tokens
    finally:
        hook.remove()
