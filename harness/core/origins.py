"""What installed distributions add to the package: methods, tasks, targets and suites.

Two groups of entry points (PyPA's specification), read from the metadata of what is installed:

    retainbench.methods    NAME = "package.module"   a module with the contract of trainers
    retainbench.content    NAME = "package"          its folder holds tasks/, targets/ or suites/

The package's own folders come first and through the same functions. Nothing is imported to list
them. A broken entry point is one line in a listing and an error only where it is used.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError

OWN = "retainbench"
"""The distribution that this package is."""
METHODS, CONTENT = "retainbench.methods", "retainbench.content"


class Added(NamedTuple):
    """An entry point."""

    name: str
    value: str
    """Module or package."""
    distribution: str


class Content(NamedTuple):
    """A folder with tasks/, targets/ or suites/ and the distribution that it belongs to."""

    folder: Path
    distribution: str


class Origin(Protocol):
    """Something that knows its name and distribution."""

    @property
    def name(self) -> str:
        """Unique among all of its kind."""

    @property
    def distribution(self) -> str:
        """Who added it."""


O = TypeVar("O", bound=Origin)  # noqa: E741 - a type


def unique(found: Iterable[O], kind: str) -> dict[str, O]:
    """By name.

    Raises:
        UsageError: two have the same name; the message names both distributions.
    """
    named: dict[str, O] = {}
    for one in found:
        other = named.setdefault(one.name, one)
        if other is not one:
            raise UsageError(
                f"two {kind}s are named {one.name}: one of {other.distribution}, one of "
                f"{one.distribution}. Uninstall one of them, or rename it"
            )
    return named


@cache
def added(group: str) -> tuple[Added, ...]:
    """The entry points of a group, by name."""
    found = entry_points(group=group)
    return tuple(sorted(Added(e.name, e.value, e.dist.name if e.dist else "?") for e in found))


class Contents(NamedTuple):
    """The folders with content, the package's own first."""

    folders: tuple[Content, ...]
    broken: tuple[str, ...]
    """One line for each entry point whose package cannot be found."""


@cache
def contents() -> Contents:
    """Every folder with content, without importing a package's code."""
    folders, broken = [Content(paths.PACKAGE, OWN)], []
    for entry in added(CONTENT):
        try:
            spec = importlib.util.find_spec(entry.value)
        except Exception as error:  # noqa: BLE001 - imports the parent: anything can come out of it
            broken.append(line(entry, CONTENT, error))
            continue
        if spec is None or not spec.submodule_search_locations:
            broken.append(line(entry, CONTENT, ImportError(f"no package {entry.value}")))
        else:
            folder = Path(next(iter(spec.submodule_search_locations)))
            folders.append(Content(folder, entry.distribution))
    return Contents(tuple(folders), tuple(broken))


def line(entry: Added, group: str, error: BaseException) -> str:
    """What is wrong with an entry point, for people."""
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{entry.distribution}: entry point {entry.name} of {group} is broken: {what}"
