"""`retainbench check PATH`: which contract a path has, and its rules one after another.

A `.py` file is a method, a YAML file a suite, a folder a target, a task or a pack of tasks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from retainbench.harness.contracts import method, target, task
from retainbench.harness.contracts.rules import Rule, ruled
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.errors import RetainbenchError, UsageError
from retainbench.harness.core.files import code_files
from retainbench.harness.suites import loading, plan
from retainbench.harness.tasks import pack
from retainbench.harness.tasks.catalogue import write_lock


def check(path: Path, *, freeze: bool = False) -> Iterator[Rule]:
    """The rules that a method, suite, target or task keeps or breaks.

    Args:
        freeze: writes new locks of targets and tasks first.

    Raises:
        UsageError: there is nothing at the path, or nothing that can be checked.
    """
    if path.suffix == ".py" and path.is_file():
        yield from _method(path)
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        yield from _suite(path)
    elif path.is_dir():
        yield from _folder(path, freeze)
    else:
        raise UsageError(
            f"nothing to check at {path}: give a method's .py file, a suite's .yaml file, or the "
            "folder of a target or task"
        )


def _method(path: Path) -> Iterator[Rule]:
    file = code_files.read(path)
    contract = ruled("contract", lambda: method.contract(code_files.module(file)))
    yield contract
    if not contract.passed:
        return
    module = code_files.module(file)
    from transformers.utils.logging import disable_progress_bar

    with tempfile.TemporaryDirectory() as scratch:
        disable_progress_bar()
        base = Path(scratch) / "tiny"
        save_tiny(base, seed=0)
        for adaptation in module.ADAPTATIONS:
            yield from method.check(module, base, adaptation)


def _suite(path: Path) -> Iterator[Rule]:
    def load() -> str:
        suite, known = loading.opened(str(path))
        plan.plan(suite, plan.gather(suite, (), known), known)
        return ""

    yield ruled("loads and plans", load)


def _folder(path: Path, freeze: bool) -> Iterator[Rule]:
    try:
        infos = pack.read(path, code=True)
    except RetainbenchError as error:
        yield Rule("form", False, str(error))
        return
    yield Rule("form", True)
    for info in infos:
        if freeze:
            write_lock(info)
        yield from (target.check if info.kind == "target" else task.check)(info)
