"""The front page says what is: its table is the published one, its commands exist."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from retainbench.harness.cli import main as cli
from retainbench.harness.core import paths
from retainbench.harness.report import publish as headline
from retainbench.harness.report import report
from retainbench.harness.suites import loading

README = (paths.PACKAGE / "README.md").read_text(encoding="utf-8")


def test_the_headline_is_the_published_table() -> None:
    assert headline.with_headline(README, paths.PACKAGE / "results" / "quick") == README


def test_the_headline_shows_every_recipe_that_its_sentence_names() -> None:
    head = README.split("<!-- headline:")[1].split("<!-- /headline -->")[0]
    (sentence,) = re.findall(r"^\*\*What it shows\.\*\* (.+)$", head, re.MULTILINE)
    recipes = [row.recipe for row in report.load_table(paths.PACKAGE / "results" / "quick").rows]
    named = [one for one in recipes if re.search(rf"(?<![\w-]){one}(?![\w-])", sentence)]
    assert named
    assert [one for one in named if f"\n| {one} |" not in head] == []


@pytest.mark.parametrize("call", re.findall(r"^retainbench ([a-z]+)", README, re.MULTILINE))
def test_commands_exist(call: str) -> None:
    assert call in get_command(cli.app).commands  # type: ignore[attr-defined]


def test_named_places_exist() -> None:
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (paths.PACKAGE / path).exists(), path
    for name in re.findall(r"retainbench run ([a-z0-9-]+)", README):
        assert name in loading.available()


def test_the_list_of_results_is_complete() -> None:
    folder = paths.PACKAGE / "results"
    listed = re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    there = {path.relative_to(folder).as_posix() for path in folder.glob("*/**/README.md")}
    assert sorted(listed) == sorted({*there, "index.html"})
