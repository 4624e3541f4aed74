"""What a release states: one version everywhere, workflows that name what exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from retainbench.harness.core.paths import PACKAGE

PROJECT: dict[str, Any] = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
GITHUB = PACKAGE / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert loaded(PACKAGE / "CITATION.cff")["version"] == version
    changelog = (PACKAGE / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_the_citation_names_the_project() -> None:
    citation = loaded(PACKAGE / "CITATION.cff")
    assert citation["title"].startswith(f"{PROJECT['name']}: ")
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def test_every_python_that_is_claimed_is_tested() -> None:
    prefix = "Programming Language :: Python :: "
    claimed = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    matrix = loaded(GITHUB / "workflows/ci.yml")["jobs"]["versions"]["strategy"]["matrix"]
    assert matrix["python"] == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_pre_commit_formats_as_make_test_does() -> None:
    hooks = loaded(PACKAGE / ".pre-commit-config.yaml")["repos"]
    pinned = (PACKAGE / "constraints.txt").read_text("utf-8")
    assert f"\nruff=={hooks[0]['rev'].removeprefix('v')}\n" in pinned


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_few_rights_and_inline_no_value(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            for file in re.findall(r"(?:tests/\S+|\.ci/\S+)", step.get("run", "")):
                assert (PACKAGE / file).exists(), file


@pytest.mark.parametrize(
    "path", sorted((GITHUB / "ISSUE_TEMPLATE").iterdir()), ids=lambda p: p.stem
)
def test_issue_forms_have_what_github_asks_for(path: Path) -> None:
    form = loaded(path)
    assert {"name", "description", "body"} <= set(form)
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in asked}) == len(asked) > 0


@pytest.mark.parametrize("path", sorted(GITHUB.glob("*.md")), ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target
