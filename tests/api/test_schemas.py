"""Schemas describe the files that there are, and change only with the records' version."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from retainbench.harness.api import schemas
from retainbench.harness.cli import main as cli
from retainbench.harness.core import paths

SNAPSHOT = Path(__file__).with_name("schemas.json")


def test_a_changed_schema_has_a_new_version() -> None:
    """Raise SCHEMA_VERSION, then write `python -m retainbench.harness.api.schemas` to the file."""
    before, now = json.loads(SNAPSHOT.read_text()), json.loads(schemas.snapshot())
    names = {*before["schemas"], *now["schemas"]}
    changed = {n for n in names if before["schemas"].get(n) != now["schemas"].get(n)}
    assert not changed or before["version"] < now["version"], f"changed: {sorted(changed)}"
    assert before == now, "write the new snapshot"


@pytest.mark.parametrize("name", schemas.RECORDS)
def test_a_schema_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema", name]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    assert printed["type"] == "object"
    assert printed["additionalProperties"] is False


def test_published_scorecards_have_the_schema() -> None:
    checker = jsonschema.Draft202012Validator(schemas.schema("scorecard"))
    lines = (paths.PACKAGE / "results" / "quick" / "scorecards.jsonl").read_text().splitlines()
    for line in lines:
        checker.validate(json.loads(line))
    broken = json.loads(lines[0]) | {"seed": "zero"}
    with pytest.raises(jsonschema.ValidationError, match="not of type 'integer'"):
        checker.validate(broken)


def test_records_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema"]) == 0
    assert capsys.readouterr().out.split() == list(schemas.RECORDS)
    assert cli.run(["schema", "scorcard"]) == 2
    assert "did you mean 'scorecard'" in capsys.readouterr().err.lower()
