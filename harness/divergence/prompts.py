"""Which prompts KL is measured on: the first ones of each axis, spread over its tasks.

Reads the tasks' items; writes nothing and needs no torch. Minimal pairs have no prompt to continue
and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue, TaskInfo
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering


def prompt_sets(
    names: Sequence[str], number: int, tasks: Catalogue, rendering: Rendering = PLAIN
) -> dict[str, list[str]]:
    """Axis (or `target`) -> its first prompts, one from each of its tasks after the other.

    Args:
        names: short names of tasks, in the order in which they take turns.
        number: prompts per axis at most.
    """
    known = tasks.tasks
    by_axis: dict[str, list[list[str]]] = {}
    for name in names:
        info = known[name]
        by_axis.setdefault(info.axis, []).append(_prompts(info, number, rendering))
    found = {axis: _round_robin(lists)[:number] for axis, lists in by_axis.items()}
    return {axis: prompts for axis, prompts in found.items() if prompts}


def _prompts(info: TaskInfo, number: int, rendering: Rendering) -> list[str]:
    """A task's first prompts that are not empty, as the model gets them."""
    rows = [row for row in catalogue.items(info) if info.prompt(row)][:number]
    return rendering.prompts(info.template, [rendering.ask(info.prompt(row), row) for row in rows])


def _round_robin(lists: list[list[str]]) -> list[str]:
    longest = max(len(entries) for entries in lists)
    return [entries[n] for n in range(longest) for entries in lists if n < len(entries)]
