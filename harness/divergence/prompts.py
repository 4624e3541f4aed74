"""Which prompts KL is measured on: the first ones of each axis, spread over its tasks.

Reads the tasks' items; writes nothing and needs no torch. Minimal pairs and documents have no
prompt to continue and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from retainbench.harness.core.schema import Suite
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue, TaskInfo
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering


def most_prompts(suite: Suite) -> int | None:
    """How many prompts a set may need: all of them where a number of tokens must be reached."""
    if suite.divergence_prompts and suite.divergence_minimum_tokens:
        return None
    return suite.divergence_prompts


def prompt_sets(
    names: Sequence[str], number: int | None, tasks: Catalogue, rendering: Rendering = PLAIN
) -> dict[str, list[str]]:
    """Axis (or `target`) -> its first prompts, one from each of its tasks after the other.

    Args:
        names: short names of tasks, in the order in which they take turns.
        number: prompts per axis at most; None means all.
    """
    known = tasks.tasks
    by_axis: dict[str, list[list[str]]] = {}
    for name in names:
        info = known[name]
        by_axis.setdefault(info.axis, []).append(_prompts(info, number, rendering))
    found = {axis: _round_robin(lists)[:number] for axis, lists in by_axis.items()}
    return {axis: prompts for axis, prompts in found.items() if prompts}


def _prompts(info: TaskInfo, number: int | None, rendering: Rendering) -> list[str]:
    """A task's first prompts that are not empty, as the model gets them; none of documents."""
    if info.kind == "perplexity":
        return []
    rows = [row for row in catalogue.items(info) if info.prompt(row)][:number]
    return rendering.prompts(info.template, [rendering.ask(info.prompt(row), row) for row in rows])


def _round_robin(lists: list[list[str]]) -> list[str]:
    longest = max(len(entries) for entries in lists)
    return [entries[n] for n in range(longest) for entries in lists if n < len(entries)]
