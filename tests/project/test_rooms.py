"""The floor plan: rooms stay small enough to see, and an import against the floors is refused.

`pyproject.toml` has the floors; `make test` runs import-linter over the package itself.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retainbench.harness.core import paths

PROJECT = paths.PACKAGE / "pyproject.toml"
MOST_MODULES, MOST_LINES, MOST_LINES_INSIDE = 14, 400, 50
BUILDINGS = ("harness", "trainers")
ROOMS = sorted({path.parent for path in (paths.PACKAGE / "harness").rglob("*.py")})
MODULES = sorted(p for part in BUILDINGS for p in (paths.PACKAGE / part).rglob("*.py"))


def test_no_folder_has_too_many_modules() -> None:
    modules = {room: {p.stem for p in room.glob("*.py")} - {"__init__"} for room in ROOMS}
    assert {room: names for room, names in modules.items() if len(names) > MOST_MODULES} == {}


def length(function: ast.FunctionDef) -> int:
    """Lines below the docstring, without those of functions inside."""
    first = function.body[0]
    docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef)][1:]
    begin = first.end_lineno if docstring else function.lineno
    return span(begin, function) - sum(span(node.lineno - 1, node) for node in inner)


def span(begin: int | None, node: ast.FunctionDef) -> int:
    return (node.end_lineno or 0) - (begin or 0)


def test_no_module_and_no_function_is_too_long() -> None:
    long = []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
        long += [path.name] * (text.count("\n") > MOST_LINES)
        long += [f"{path.name}: {f.name}" for f in functions if length(f) > MOST_LINES_INSIDE]
    assert long == []


WRONG = {
    "core/names.py": "from retainbench.harness.tasks import lock",
    "comparison/pairing.py": "from retainbench.harness.drift import records as _records",
    "gate/tiers.py": "import torch",
    "models/checks/weights.py": "from retainbench.harness.models import checked",
}
"""Module -> an import that goes up, to a room of the same floor, to torch, in a circle."""


@pytest.mark.skipif(not PROJECT.is_file(), reason="needs the repository")
def test_wrong_imports_are_refused_and_named(tmp_path: Path) -> None:
    package = tmp_path / "retainbench"
    for room in BUILDINGS:
        shutil.copytree(paths.PACKAGE / room, package / room)
    for module, line in WRONG.items():
        with (package / "harness" / module).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    script = "from importlinter.cli import lint_imports_command as main; main()"
    command = [sys.executable, "-c", script, "--config", PROJECT, "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    checked = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1, checked.stdout + checked.stderr
    broken = checked.stdout.partition("Broken contracts")[2]
    for line in (
        "core.names -> retainbench.harness.tasks.lock",
        "comparison.pairing -> retainbench.harness.drift.records",
        "gate.tiers -> torch",
        "No cycles are allowed in retainbench.harness.models.",
    ):
        assert line in broken, broken
