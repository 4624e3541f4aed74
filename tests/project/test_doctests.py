"""The worked examples in docstrings, wherever they stand."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [(name, ("retainbench",)) for name in ("harness", "suites", "tasks", "trainers")]
FOLDERS.append(("results", ()))
MODULES = sorted(
    ".".join((*package, *path.relative_to(ROOT).with_suffix("").parts))
    for folder, package in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_worked_examples_hold(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert result.failed == 0


def test_examples_were_found() -> None:
    assert {"retainbench.harness.statistics.paired", "retainbench.tasks._numeric"} <= set(MODULES)
