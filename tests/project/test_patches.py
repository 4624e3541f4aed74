"""Private parts of other libraries are used in one file per library, on the versions it names."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from retainbench.harness.scoring import transformers_patches
from retainbench.harness.tasks import lm_eval_patches
from retainbench.trainers._gradient import trl_patches

ROOT = Path(__file__).parents[2]
PATCHES = (transformers_patches, lm_eval_patches, trl_patches)
PRIVATE = re.compile(
    r"\b(?:config|configs|model|task|trainer|made|lm|env)\._[a-z]"
    r"|from (?:trl|transformers|lm_eval|peft)[\w.]*\._[a-z]"
)


@pytest.mark.parametrize("patches", PATCHES)
def test_the_installed_versions_are_those_that_were_tested(patches: object) -> None:
    """A new version of a library needs a look at its patches first."""
    tested: dict[str, str] = patches.TESTED  # type: ignore[attr-defined]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["optional-dependencies"]["all"]
    allowed = {r.name: r.specifier for r in map(Requirement, needed)}
    for name, number in tested.items():
        assert version(name) == number
        assert number in allowed[name]
        assert any(bound.operator == "<" for bound in allowed[name]), name


def test_nothing_else_uses_private_parts() -> None:
    own = {Path(patches.__file__ or "").name for patches in PATCHES}
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("harness", "trainers")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name not in own
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if PRIVATE.search(line)
    ]
    assert found == []
