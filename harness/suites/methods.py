"""The methods that exist, found without importing torch or any of them.

They are every public file of trainers/, the entry points `retainbench.methods` of installed
distributions, and the files that the user's own suite names (`method: ./my_method.py`), which a
command hands down as data.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from retainbench.harness.core import names, origins, paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import code_files
from retainbench.harness.core.files.code_files import CodeFile
from retainbench.harness.core.stages import INTERPOLATE, AnyAdapter

if TYPE_CHECKING:
    from retainbench.harness.core.stages import Stage

CONTRACT = ("PAPER", "ADAPTATIONS", "ANCHORS", "Options", "train")
"""What a method's module defines; trainers/_shared/contract.py describes them."""


OUTSIDE = "command"
"""The method that runs a trainer of the user's choice; it keeps none of our trainers' promises."""
NO_BUDGET = (OUTSIDE, INTERPOLATE)
"""Methods that no budget stops: they are not compared under one, and keep other contracts."""


class MethodSource(NamedTuple):
    """Where an installed method is."""

    name: str
    module: str
    distribution: str


@cache
def installed() -> dict[str, MethodSource]:
    """The methods of all installed distributions by name.

    Raises:
        UsageError: two of them have the same name.
    """
    stems = sorted(p.stem for p in paths.TRAINERS.glob("*.py") if not p.stem.startswith("_"))
    own = [MethodSource(stem, f"retainbench.trainers.{stem}", origins.OWN) for stem in stems]
    own += [
        MethodSource(name, f"retainbench.trainers._shared.{name}", origins.OWN)
        for name in NO_BUDGET
    ]
    entries = [MethodSource(*entry) for entry in origins.added(origins.METHODS)]
    return origins.unique([*own, *entries], "method")


@cache
def methods() -> tuple[str, ...]:
    """Names of the package's own methods, sorted: the stems of the public files in trainers/."""
    own = [name for name, source in installed().items() if source.distribution == origins.OWN]
    return tuple(name for name in own if name not in NO_BUDGET)


def known(files: Sequence[CodeFile] = ()) -> list[str]:
    """Names that a recipe may use: installed methods and the user's own files."""
    return [*installed(), *(file.name for file in files)]


def load(method: str, files: Sequence[CodeFile] = ()) -> Any:
    """The module of a method; its parts are described in `trainers/_shared/contract.py`.

    Args:
        files: methods that the user's own suite brings.

    Raises:
        UsageError: the module cannot be imported, or lacks a part of the contract.
    """
    own = {file.name: file for file in files}
    if method in own:
        module = code_files.module(own[method])
        return _complete(module, own[method].place)
    source = installed()[method]
    if source.distribution == origins.OWN:
        return importlib.import_module(source.module)
    try:
        module = importlib.import_module(source.module)
    except Exception as error:  # not our code: anything can come out of it
        entry = origins.Added(source.name, source.module, source.distribution)
        raise UsageError(origins.line(entry, origins.METHODS, error)) from error
    return _complete(module, f"{source.module} of {source.distribution}")


def _complete(module: Any, place: str) -> Any:
    if missing := [name for name in CONTRACT if not hasattr(module, name)]:
        raise UsageError(
            f"{place}: a method defines {', '.join(CONTRACT)}; missing: {', '.join(missing)}. See "
            "one with `retainbench new method NAME`"
        )
    return module


def splits(module: Any) -> bool:
    """Whether several processes may share a method's batches."""
    return bool(getattr(module, "SPLITS", False))


def options(stage: Stage, files: Sequence[CodeFile] = ()) -> Any:
    """The stage's options, validated and completed with the method's defaults."""
    return load(stage.method, files).Options.model_validate(stage.options)


def learns_from_teacher(module: Any) -> bool:
    """Whether a method needs a stage's `teacher`."""
    return bool(getattr(module, "TEACHER", False))


def check(stage: Stage, where: str, files: Sequence[CodeFile] = ()) -> None:
    """Raise `UsageError` for an option, adaptation, anchor or teacher that does not fit."""
    module = load(stage.method, files)
    try:
        options(stage, files)
    except ValidationError as error:
        raise UsageError(f"{where}.options: {_explain(error, module)}") from error
    if stage.adaptation.kind not in module.ADAPTATIONS:
        raise UsageError(
            f"{where}.adaptation: {stage.method} cannot use {stage.adaptation.kind!r}; "
            f"it can use {', '.join(module.ADAPTATIONS)}"
        )
    if isinstance(stage.adaptation, AnyAdapter):
        from retainbench.harness.models.adaptation import peft_config

        try:
            peft_config(stage.adaptation)
        except UsageError as error:
            raise UsageError(f"{where}.adaptation: {error}") from error
    if stage.processes > 1 and not splits(module):
        able = ", ".join(name for name in methods() if splits(load(name)))
        raise UsageError(
            f"{where}.processes: {stage.method} trains in one process. Leave it out; it is for "
            f"{able}"
        )
    if stage.texts and "text" not in module.ANCHORS:
        raise UsageError(
            f"{where}: {stage.method} reads no general text. Leave out `replay` and the anchor's "
            "`on`"
        )
    if stage.teacher and not learns_from_teacher(module):
        raise UsageError(
            f"{where}.teacher: {stage.method} learns from no other model. Leave out `teacher`"
        )
    if learns_from_teacher(module) and not stage.teacher:
        raise UsageError(
            f"{where}: {stage.method} needs a teacher. Name a base or a model folder, as in "
            "`teacher: ./model`"
        )
    if stage.anchor and stage.anchor.kind == "ewc" and stage.adaptation.kind != "full":
        raise UsageError(f"{where}.anchor: ewc needs `adaptation: full`")
    if stage.anchor and not stage.anchor.on and stage.anchor.kind not in module.ANCHORS:
        possible = ", ".join(a for a in module.ANCHORS if a != "text") or "no anchor"
        raise UsageError(
            f"{where}.anchor: {stage.method} cannot use {stage.anchor.kind!r}; it takes {possible}"
        )


def _explain(error: ValidationError, module: Any) -> str:
    detail = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        return f"{key}: ".removeprefix(": ") + detail["msg"].removeprefix("Value error, ")
    known = sorted(module.Options.model_fields)
    return f"unknown option '{key}'{names.nearest(key, known)} Allowed here: {', '.join(known)}"
