"""What a person reads is plain modern English: the words that STYLE.md bans are not in it.

Checked are the texts of errors, of `help=`, of the table's notes, README.md and .github/ (the
guides: test_guides.py), what `retainbench new` writes, and every docstring of harness/ and
trainers/ (those of tasks are frozen with them). A file of `UNFINISHED` is left out
until its texts are rewritten; it must be empty.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.plain_english import BANNED
from retainbench.harness.core import paths

ROOT = paths.PACKAGE
CODE = ("harness", "trainers")
ROOMS = (*CODE, "tasks", "results")
SOURCES = sorted(p for part in ROOMS for p in (ROOT / part).rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted((ROOT / "harness/templates").glob("new_*.txt")),
]
NOTES = ROOT / "harness/report/table"
UNFINISHED: frozenset[str] = frozenset()


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of everything in a module that a person reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    code = path.relative_to(ROOT).parts[0] in CODE
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from literals(node.exc)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            yield from literals(node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and code:
            yield node.lineno, str(node.value.value)
    if NOTES in path.parents:
        yield from literals(tree)


def literals(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts in an expression, those of f-strings included, without docstrings."""
    parts = list(ast.walk(node))
    docstrings = {id(part.value) for part in parts if isinstance(part, ast.Expr)}
    for part in parts:
        text = isinstance(part, ast.Constant) and isinstance(part.value, str)
        if text and id(part) not in docstrings:
            yield part.lineno, part.value


def banned(path: Path) -> list[str]:
    """Lines of a module with a banned word, as `file:line: word: text`."""
    name = path.relative_to(ROOT)
    return [
        f"{name}:{line}: {word[0]}: {text[max(0, word.start() - 30) : word.end() + 30]!r}"
        for line, text in texts(path)
        for word in BANNED.finditer(text)
    ]


def finished(path: Path) -> bool:
    """Whether the texts of a module are held to the list."""
    name = path.relative_to(ROOT).as_posix()
    return not any(name.startswith(f"{folder}/") for folder in UNFINISHED)


@pytest.mark.parametrize("path", [p for p in SOURCES if finished(p)], ids=lambda p: p.stem)
def test_no_text_has_a_banned_word(path: Path) -> None:
    assert banned(path) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_page_and_no_template_has_a_banned_word(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if BANNED.search(line)] == []


@pytest.mark.parametrize(
    "text", ["X is no folder", "mend it", "item 7 is there twice", "the options turned by one"]
)
def test_the_list_finds_what_it_bans(text: str) -> None:
    assert BANNED.search(text)
