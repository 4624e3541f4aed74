"""The methods that exist: every public file of this folder, found without importing torch."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from retainbench.harness.core import names, paths
from retainbench.harness.core.errors import UsageError

if TYPE_CHECKING:
    from retainbench.harness.core.schema import Stage


@cache
def methods() -> tuple[str, ...]:
    """Names of all methods, sorted: the stems of the public files in trainers/."""
    return tuple(sorted(p.stem for p in paths.TRAINERS.glob("*.py") if not p.stem.startswith("_")))


def load(method: str) -> Any:
    """The module of a method; its parts are described in `_contract`."""
    return importlib.import_module(f"retainbench.trainers.{method}")


def options(stage: Stage) -> Any:
    """The stage's options, validated and completed with the method's defaults."""
    return load(stage.method).Options.model_validate(stage.options)


def check(stage: Stage, where: str) -> None:
    """Raise `UsageError` for an option, adaptation or anchor that the method does not have."""
    module = load(stage.method)
    try:
        options(stage)
    except ValidationError as error:
        raise UsageError(f"{where}.options: {_explain(error, module)}") from error
    if stage.adaptation.kind not in module.ADAPTATIONS:
        raise UsageError(
            f"{where}.adaptation: {stage.method} cannot use {stage.adaptation.kind!r}; "
            f"it can use {', '.join(module.ADAPTATIONS)}"
        )
    if stage.anchor and stage.anchor.kind not in module.ANCHORS:
        possible = ", ".join(module.ANCHORS) or "no anchor"
        raise UsageError(
            f"{where}.anchor: {stage.method} cannot use {stage.anchor.kind!r}; it takes {possible}"
        )


def _explain(error: ValidationError, module: Any) -> str:
    detail = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        return f"{key}: {detail['msg'].removeprefix('Value error, ')}"
    known = sorted(module.Options.model_fields)
    return f"unknown option '{key}'{names.nearest(key, known)} Allowed here: {', '.join(known)}"
