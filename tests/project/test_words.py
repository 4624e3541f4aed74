"""One word, one meaning: no two classes of the package have the same name.

A type alias counts as a class where a class has its name. Left out: `Options`, which every method
defines by contract (trainers/_shared/contract.py), and the command line's annotated parameters in
harness/cli, which are named after the option that they describe.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from retainbench.harness.core import paths

BY_CONTRACT = frozenset({"Options"})
"""Names that several modules must define; the path says which one is meant."""


def definitions(path: Path) -> Iterator[tuple[str, bool]]:
    """Name of each class and each alias of a type in a module, and whether it is a class."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name, True
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            if name[0].isupper() and not name.isupper():
                yield name, False


def ambiguous(root: Path) -> list[str]:
    """Names with two meanings in the Python files below a folder, with their modules."""
    modules = defaultdict(list)
    classes = set()
    for path in sorted(p for room in ("harness", "trainers") for p in (root / room).rglob("*.py")):
        for name, is_class in definitions(path):
            if is_class or "cli" not in path.parts:
                modules[name].append(path.relative_to(root).as_posix())
            if is_class:
                classes.add(name)
    return [
        f"{name}: {', '.join(files)}"
        for name, files in modules.items()
        if len(files) > 1 and name in classes - BY_CONTRACT
    ]


def test_no_two_classes_have_the_same_name() -> None:
    assert ambiguous(paths.PACKAGE) == []


def test_a_second_class_or_alias_of_a_name_is_found(tmp_path: Path) -> None:
    for name, text in {"a": "class Pair: ...", "b": "Pair = tuple[str, str]"}.items():
        (tmp_path / "harness" / name).mkdir(parents=True)
        (tmp_path / "harness" / name / "pair.py").write_text(text, encoding="utf-8")
    assert ambiguous(tmp_path) == ["Pair: harness/a/pair.py, harness/b/pair.py"]
