"""What the user decides about foreign results: tasks, axes, metrics, filters, clusters.

Texts of the command line (`mmlu_*=general`) become `AdoptionChoices`; keys are task names or shell
patterns, and an exact name wins over a pattern. Reads no files and knows no harness.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from retainbench.harness.core.axes import HELP, WORD, Axis
from retainbench.harness.core.errors import UsageError
from retainbench.harness.tasks.catalogue import OWN, Catalogue

V = TypeVar("V")


@dataclass(frozen=True)
class AdoptionChoices:
    """What the user may decide; names are task names or shell patterns."""

    axes: Mapping[str, Axis] = field(default_factory=dict)
    """Axis of a task; else a packaged task's own axis, else `general`."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Metric (Inspect: scorer); else `reward`, `acc`, `exact_match`, else the first one listed."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """lm-eval filter; else the first one listed. One is judged: all see the same items."""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """Field of the document that names its cluster; else `cluster`, else each item is its own."""
    tasks: Sequence[str] = ()
    """Tasks to judge; empty: all."""
    left_out: Sequence[str] = ()
    """Tasks to leave out, after `tasks`."""
    catalogue: Catalogue = OWN
    """Packaged tasks, whose results are checked against their locks."""

    def named(self) -> list[str]:
        """Every task name or pattern that decides something."""
        tables = (self.axes, self.metrics, self.filters, self.clusters)
        return [name for names in (*tables, self.tasks, self.left_out) for name in names]

    def wants(self, task: str) -> bool:
        """Whether a task is to be read at all."""
        asked = not self.tasks or any(applies(name, task) for name in self.tasks)
        return asked and not any(applies(name, task) for name in self.left_out)


DEFAULT_CHOICES = AdoptionChoices()


def choices(
    axis: Sequence[str] = (),
    metric: Sequence[str] = (),
    filter: Sequence[str] = (),
    cluster: Sequence[str] = (),
    task: Sequence[str] = (),
    leave_out: Sequence[str] = (),
) -> AdoptionChoices:
    """A user's choices from texts like `mmlu_*=general`.

    Raises:
        UsageError: a text of another form, a task named twice, or an unknown axis.

    >>> choices(axis=["gsm8k=numeric"]).axes
    {'gsm8k': 'numeric'}
    """
    axes = _values("--axis", "AXIS", axis)
    for name, value in axes.items():
        if not re.fullmatch(WORD, value):
            raise UsageError(f"--axis {name}={value}: write {HELP}")
    return AdoptionChoices(
        axes=axes,
        metrics=_values("--metric", "NAME", metric),
        filters=_values("--filter", "NAME", filter),
        clusters=_values("--cluster", "FIELD", cluster),
        tasks=tuple(task),
        left_out=tuple(leave_out),
    )


def _values(option: str, what: str, texts: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in texts:
        task, _, value = text.partition("=")
        if not (task and value) or task in values:
            raise UsageError(
                f"{option} {text}: write TASK={what}, once per task (or pattern like mmlu*)"
            )
        values[task] = value
    return values


def choose(mapping: Mapping[str, V], task: str) -> V | None:
    """The user's value for a task: its exact name, else the first pattern that matches."""
    if task in mapping:
        return mapping[task]
    return next((value for name, value in mapping.items() if applies(name, task)), None)


def applies(name: str, task: str) -> bool:
    """Whether a choice for `name` (a task or a shell pattern) is about a task."""
    return name == task or fnmatch.fnmatchcase(task, name)
