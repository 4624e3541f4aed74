"""A policy file -> `Policy`, as strictly as a suite file.

The file is YAML: the keys of a suite's `policy:` block, alone or under `policy:` (so that a whole
suite file serves too). Command: `retainbench gate --policy FILE`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.records import Record
from retainbench.harness.core.schema import (
    Adaptation,
    Anchor,
    Budget,
    Policy,
    Resources,
    RetentionAxis,
    Source,
    Stage,
    Suite,
    Sweep,
)
from retainbench.harness.suites import lock, methods
from retainbench.harness.tasks import catalogue


def load_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        UsageError: naming the file, the key and what is allowed.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    block = value.get("policy", value) if isinstance(value, dict) else value
    if not isinstance(block, dict):
        raise UsageError(f"{path}: a policy is a mapping of keys, such as `margin: 0.02`")
    try:
        return _File.model_validate({"policy": block}).policy
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error, block)}") from error


class _File(Record):
    """Puts the key `policy` in front of every error's place, where `explain` looks for it."""

    policy: Policy


def available() -> dict[str, Path]:
    """Packaged suites by name."""
    return {path.stem: path for path in sorted(paths.SUITES.glob("*.yaml"))}


def load(reference: str) -> Suite:
    """Read a suite by name or by path and check every name in it; add the tasks of packs in use.

    Raises:
        UsageError: naming the file, the key and what is allowed; or packs that the suite needs.
        IntegrityError: a pack is not what the suite's lock says.
    """
    suite = read(reference)
    revisions = {name: source.revision for name, source in suite.sources.items()}
    lock.verify(suite.name, reference, revisions)
    added = [name for name in [*suite.sources, *catalogue.packed()] if name not in suite.tasks]
    return suite.model_copy(update={"tasks": [*suite.tasks, *dict.fromkeys(added)]})


def read(reference: str) -> Suite:
    """A suite as its file has it, every name in it checked.

    Raises:
        UsageError: naming the file, the key and what is allowed.
    """
    path = _find(reference)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a suite is a mapping of keys; see suites/quick.yaml")
    suite = parse(value, str(path))
    check(suite, str(path))
    return suite


def parse(value: dict[str, Any], where: str) -> Suite:
    """Validate the shape of a suite; names of methods, tasks and options are `check`'s matter."""
    try:
        return Suite.model_validate(value)
    except ValidationError as error:
        raise UsageError(f"{where}: {explain(error, value)}") from error


def check(suite: Suite, where: str) -> None:
    """Raise `UsageError` for a method, option, task or target that does not exist."""
    known = catalogue.discover()
    targets = [name for name, info in known.items() if info.axis == "target"]
    for target in suite.targets:
        require(target, targets, f"{where}: targets")
    for name in suite.tasks:
        require(name, [*get_args(RetentionAxis), *known], f"{where}: tasks")
    for name, recipe in suite.recipes.items():
        for stage in recipe.stages:
            at = f"{where}: recipes.{name}"
            require(stage.method, methods.methods(), f"{at}.method")
            methods.check(stage, at)
            if stage.target:
                require(stage.target, targets, f"{at}.target")


def require(name: str, known: Iterable[str], where: str) -> None:
    """Raise `UsageError` with the nearest valid name unless `name` is known."""
    choices = sorted(known)
    if name in choices:
        return
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise UsageError(f"{where}: unknown {name!r}{hint} Known: {', '.join(choices)}")


def explain(error: ValidationError, value: Any) -> str:
    """One line for the first validation error: the key, what is wrong, what is allowed."""
    detail = error.errors()[0]
    keys = [str(part) for part in detail["loc"]]
    if detail["type"] == "extra_forbidden":
        allowed = allowed_keys(keys[:-1])
        near = difflib.get_close_matches(keys[-1], allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown key {'.'.join(keys)!r}{hint} Allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"missing key {'.'.join(keys)!r}"
    return f"{'.'.join(keys)}: {detail['msg']}"


def allowed_keys(location: list[str]) -> list[str]:
    """Keys that may stand at a place of a suite file, for error messages."""
    models: dict[str, type[Record]] = {
        "adaptation": Adaptation,
        "anchor": Anchor,
        "budget": Budget,
        "policy": Policy,
        "resources": Resources,
        "sweep": Sweep,
    }
    if location[:1] == ["sources"]:
        return sorted(Source.model_fields)
    if not location:
        return sorted(Suite.model_fields)
    return sorted(models.get(location[-1], Stage).model_fields)


def _find(reference: str) -> Path:
    path = Path(reference)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"suite file {reference} does not exist")
        return path
    require(reference, available(), "suite")
    return available()[reference]
