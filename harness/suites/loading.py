"""Suite and policy files -> `Suite` and `Policy`, checked whole before anything runs.

Reads YAML. A policy file has the keys of a suite's `policy:` block, alone or under `policy:`, so
that a whole suite file serves too. Writes nothing. Command: `retainbench plan SUITE`, `retainbench
gate --policy FILE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from retainbench.harness.core import axes, names, origins
from retainbench.harness.core.axes import Axis
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files import yaml_files
from retainbench.harness.core.records import Record
from retainbench.harness.core.schema import Budget, Format, Policy, Sampling, Source, Suite, Sweep
from retainbench.harness.core.stages import (
    SELF,
    Adaptation,
    Anchor,
    Recipe,
    Replay,
    Resources,
    Stage,
)
from retainbench.harness.suites import lock, methods, own
from retainbench.harness.tasks.catalogue import OWN, Catalogue


def load_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        UsageError: naming the file, the key and what is allowed.
    """
    value = _read(path)
    block = value.get("policy", value)
    if not isinstance(block, dict):
        raise UsageError(f"{path}: policy: expected keys and values such as `margin: 0.02`")
    return parse_policy(block, str(path))


def parse_policy(value: dict[str, Any], where: str) -> Policy:
    """A policy from its keys and values.

    Raises:
        UsageError: naming the key and what is allowed.
    """
    try:
        return _File.model_validate({"policy": value}).policy
    except ValidationError as error:
        raise UsageError(f"{where}: {explain(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    """A file that the user wrote: what is wrong with it is a mistake, not broken evidence."""
    if not path.exists():
        raise UsageError(f"{path} does not exist. Name a YAML file")
    try:
        return yaml_files.read_mapping(path)
    except IntegrityError as error:
        raise UsageError(str(error)) from error


class _File(Record):
    """Puts the key `policy` in front of every error's place, where `explain` looks for it."""

    policy: Policy


def available() -> dict[str, Path]:
    """Suites of all installed distributions by name, the package's own first."""
    return {name: suite.path for name, suite in installed().items()}


class InstalledSuite(NamedTuple):
    """A suite that can be used by name."""

    name: str
    distribution: str
    path: Path


@cache
def installed() -> dict[str, InstalledSuite]:
    """Suites of all installed distributions.

    Raises:
        UsageError: two of them have the same name.
    """
    found = [
        InstalledSuite(path.stem, content.distribution, path)
        for content in origins.contents().folders
        for path in sorted((content.folder / "suites").glob("*.yaml"))
    ]
    return origins.unique(found, "suite")


class OpenedSuite(NamedTuple):
    """A suite, and a catalogue that knows all that it names."""

    suite: Suite
    tasks: Catalogue


def opened(reference: str, tasks: Catalogue = OWN) -> OpenedSuite:
    """Read a suite by name or by path and check every name in it; add the tasks of packs.

    Raises:
        UsageError: naming the file, the key and what is allowed; or packs that the suite needs.
        IntegrityError: a pack differs from its lock or from the suite's.
    """
    suite, known = as_written(reference, tasks)
    revisions = {name: source.revision for name, source in suite.sources.items()}
    lock.verify(suite.name, reference, revisions, known)
    packed = [info.name for info in tasks.added if info.kind != "target"]
    added = [name for name in [*suite.sources, *packed] if name not in suite.tasks]
    update = {"tasks": [*suite.tasks, *dict.fromkeys(added)]}
    return OpenedSuite(suite.model_copy(update=update), known)


def load(reference: str, tasks: Catalogue = OWN) -> Suite:
    """`opened` for suites that bring nothing of their own."""
    return opened(reference, tasks).suite


def read(reference: str, tasks: Catalogue = OWN) -> Suite:
    """A suite as its file has it, every name in it checked.

    Raises:
        UsageError: naming the file, the key and what is allowed.
    """
    return as_written(reference, tasks).suite


def as_written(reference: str, tasks: Catalogue = OWN) -> OpenedSuite:
    """`read` with a catalogue that also knows what the suite brings."""
    path = _find(reference)
    value, known = own.bring(_read(path), path, tasks)
    suite = parse(value, str(path))
    check(suite, str(path), known)
    return OpenedSuite(suite, replace(known, sampling=suite.scoring))


def parse(value: dict[str, Any], where: str) -> Suite:
    """Validate the shape of a suite; `check` looks at names of methods, tasks and options."""
    try:
        return Suite.model_validate(value)
    except ValidationError as error:
        raise UsageError(f"{where}: {explain(error)}") from error


def check(suite: Suite, where: str, tasks: Catalogue) -> None:
    """Raise `UsageError` for a method, option, task or target that does not exist."""
    known = tasks.tasks
    targets = [name for name, info in known.items() if info.axis == "target"]
    retention = [name for name in known if name not in targets]
    for target in suite.targets:
        names.require(target, targets, f"{where}: targets")
    for name in suite.tasks:
        if name in targets:
            raise UsageError(f"{where}: tasks: {name} is a target. Name retention tasks here")
        names.require(name, [*axes.DEFAULT, *retention], f"{where}: tasks")
    for name, recipe in suite.recipes.items():
        for stage in recipe.stages:
            at = f"{where}: recipes.{name}"
            names.require(stage.method, methods.known(tasks.methods), f"{at}.method")
            methods.check(stage, at, tasks.methods)
            if stage.target:
                names.require(stage.target, targets, f"{at}.target")
            for source in stage.texts:
                _require_text(source, at, tasks)
    scored = scored_tasks(suite, tasks)
    if len(set(scored.values())) > axes.MOST:
        listed = ", ".join(sorted(set(scored.values())))
        raise UsageError(f"{where}: tasks: {listed} are more than {axes.MOST} axes. Name fewer")
    for option in suite.sweep.options if suite.sweep else ():
        names.require(option, numeric_options(suite, tasks), f"{where}: sweep.options")
    check_policy(suite.policy, scored, f"{where}: policy")


def _require_text(source: str, where: str, tasks: Catalogue) -> None:
    if source != SELF and source not in {file.name for file in tasks.texts}:
        raise UsageError(
            f"{where}: general text is `self` or a path like `./{source}.jsonl`, not {source!r}"
        )


def numeric_options(suite: Suite, tasks: Catalogue) -> set[str]:
    """Options of any stage that a sweep can multiply."""
    stages = (stage for recipe in suite.recipes.values() for stage in recipe.stages)
    return {
        name
        for stage in stages
        for name, value in methods.options(stage, tasks.methods).model_dump().items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def scored_tasks(suite: Suite, tasks: Catalogue) -> dict[str, Axis]:
    """Every retention task that a suite or its packs can name -> its axis."""
    every = {name: info.axis for name, info in tasks.tasks.items()}
    chosen = {name: axis for name, axis in every.items() if {name, axis} & set(suite.tasks)}
    packed = {info.name: info.axis for info in tasks.added if info.kind != "target"}
    return {**chosen, **packed, **{name: source.axis for name, source in suite.sources.items()}}


def check_policy(policy: Policy, tasks: Mapping[str, str], where: str) -> None:
    """Raise `UsageError` for a task or axis of a policy that is not among the scored `tasks`."""
    for name in policy.task_margins:
        names.require(name, tasks, f"{where}.task_margins")
    for name in policy.mandatory or ():
        names.require(name, tasks, f"{where}.mandatory")
    for axis in policy.axis_margins:
        names.require(axis, set(tasks.values()), f"{where}.axis_margins")


def explain(error: ValidationError) -> str:
    """One line for the first validation error: the key, what is wrong, what is allowed.

    A mistyped key is unknown, and the key that was meant is missing: the first says more.
    """
    first, *others = error.errors(include_url=False)
    typed = (
        e for e in others if e["type"] == "extra_forbidden" and e["loc"][:-1] == first["loc"][:-1]
    )
    detail = next(typed, first) if first["type"] == "missing" else first
    *above, last = [str(part) for part in detail["loc"]] or [""]
    # Types that pydantic tried are parts of the place, too; an unknown key may look like one.
    named = detail["type"] in ("extra_forbidden", "missing") or not last.startswith("[")
    keys = [part for part in above if not part.startswith("[")] + (
        [last] if named and detail["loc"] else []
    )
    place = ".".join(keys)
    if detail["type"] == "extra_forbidden":
        allowed = allowed_keys(keys[:-1])
        hint = names.nearest(keys[-1], allowed)
        return f"unknown key '{place}'{hint} Allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"missing key '{place}'"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "less_than_equal" and any("margin" in key for key in keys):
        message += ". A margin is a share: write 0.05 for five points"
    return f"{place}: {message}" if place else message


PARTS: Mapping[str, type[Record]] = {
    "adaptation": Adaptation,
    "anchor": Anchor,
    "budget": Budget,
    "format": Format,
    "policy": Policy,
    "replay": Replay,
    "resources": Resources,
    "scoring": Sampling,
    "sweep": Sweep,
}
"""The parts of a suite that have one place each, by their keys."""


def allowed_keys(location: list[str]) -> list[str]:
    """Keys that a suite file may have at a place, for error messages."""
    part: type[Record] = PARTS.get(location[-1], Stage) if location else Suite
    if location[:1] == ["sources"]:
        part = Source
    elif location[:1] == ["recipes"] and len(location) == 2:
        part = Recipe
    return sorted(part.model_fields)


def _find(reference: str) -> Path:
    path = Path(reference)
    if path.suffix in (".yaml", ".yml"):
        return path
    names.require(reference, available(), "suite")
    return available()[reference]
