"""Packs that lm-eval's own code scores: which code, whether it is unchanged, whether it may run.

Some tasks score with their own function (`process_results`: ifeval, truthfulqa_mc2, ...). Their
packs hold items and rendered prompts like any other, each item with the source document that the
function reads, and name the installed lm-eval's YAML of the task with the digests of that YAML, of
what it includes and of every Python file next to it (`folder.Code`). The function is the one
that this YAML names: a pack cannot name another, and brings no code. It runs only if the user
allows it and no file has changed since the freeze.

Torch-free.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.files.yaml_files import read_mapping
from retainbench.harness.tasks.folder import Code, TaskInfo, read_config

IMPOSSIBLE = -1e4
"""Log-likelihood of a choice that a guesser does not pick; its probability is exactly 0."""

Scores = Callable[[Any, Sequence[Any]], Mapping[str, Any]]
"""lm-eval's `process_results`: source document and answers -> metrics."""


def root() -> Path:
    """The folder of lm-eval's tasks; does not import lm_eval."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("lm-eval is not installed. Run: pip install 'retainbench[all]'")
    return Path(spec.submodule_search_locations[0]).resolve() / "tasks"


def of_config(config: Path, metric: str) -> Code:
    """The code that one of lm-eval's YAMLs names, as it is installed now."""
    files = _digests(config)
    return Code(config=config.relative_to(root()).as_posix(), metric=metric, files=files)


def scoring(info: TaskInfo, *, allowed: bool) -> Scores:
    """The function that scores a task, for documents of its pack.

    Raises:
        UsageError: the code is not `allowed`, or cannot be imported here.
        IntegrityError: its files differ from the frozen ones, or it fails on an item.
    """
    assert info.code is not None
    if not allowed:
        raise UsageError(
            f"{info.name} is scored by code of lm-eval ({info.code.config}). To run it, add "
            "--allow-code"
        )
    _check(info.name, info.code)
    score = _function(info.name, info.code)

    def of_item(doc: Mapping[str, Any], results: Sequence[Any]) -> Mapping[str, Any]:
        try:
            return score(json.loads(doc["doc"]), results)
        except Exception as error:  # code of others: it may raise anything
            what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise IntegrityError(f"{info.name}: item {doc['id']}: not scored: {what}") from error

    return of_item


def chance(score: Scores, doc: Any, choices: int, metric: str) -> float:
    """Expected score of a guesser who is sure of one choice, drawn evenly.

    >>> chance(lambda doc, results: {"acc": float(results[2][0] == 0)}, {}, 4, "acc")
    0.25
    """
    picks = [
        [(0.0 if one == pick else IMPOSSIBLE, False) for one in range(choices)]
        for pick in range(choices)
    ]
    return float(sum(float(score(doc, answers)[metric]) for answers in picks) / choices)


def packages(info: TaskInfo) -> dict[str, str]:
    """Versions of the packages that a task's scoring code imports; {} without such code."""
    if info.code is None:
        return {}
    named: set[str] = set()
    for relative in info.code.files:
        path = root() / relative
        if path.suffix == ".py" and path.is_file():
            named |= _imported(ast.parse(path.read_bytes()))
    known = packages_distributions()
    found = {dist for name in named - {"lm_eval"} for dist in known.get(name, ())}
    return {dist: version(dist) for dist in sorted(found)}


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def _digests(config: Path) -> dict[str, str]:
    return {path.relative_to(root()).as_posix(): sha256_file(path) for path in _files(config)}


def _files(config: Path) -> list[Path]:
    """The YAML, what it includes, and every Python file next to a function that these name."""
    named = [path.resolve() for path in read_config(config)[1] if path.is_file()]
    beside = {path.parent for path in named if path.suffix == ".py"}
    code = {path.resolve() for folder in beside for path in folder.glob("*.py")}
    found = sorted({*named, *code})
    for path in found:
        if not path.is_relative_to(root()):
            raise UsageError(f"{path}: is not lm-eval's own")
    return found


def _check(name: str, code: Code) -> None:
    now = _digests(root() / code.config)
    for relative in sorted(now.keys() | code.files.keys()):
        if now.get(relative) != code.files.get(relative):
            raise IntegrityError(
                f"{root() / relative}: is not what scored {name} when it was frozen. Install the "
                "lm-eval of its provenance.json, or freeze it again"
            )


def _function(name: str, code: Code) -> Scores:
    """The `process_results` of the YAML, or of the nearest one that it includes."""
    for path in read_config(root() / code.config)[1]:
        value = (
            read_mapping(path, unique=False).get("process_results")
            if path.suffix != ".py"
            else None
        )
        if value:
            break
    else:
        raise IntegrityError(
            f"{root() / code.config}: has no process_results. Freeze the task again"
        )
    stem, _, function = str(value).removeprefix("!function ").rpartition(".")
    file = (path.parent / (stem.replace(".", "/") + ".py")).resolve()
    module = ".".join(("lm_eval", "tasks", *file.relative_to(root()).with_suffix("").parts))
    try:
        found: Scores = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, AssertionError, LookupError, OSError) as error:
        what = " ".join(str(error).split())[:300]
        raise UsageError(
            f"{name}: its scoring code cannot be imported: {what}. Install what it needs"
        ) from error
    return found
