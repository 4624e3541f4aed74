"""Suites: strict, and helpful about what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from retainbench.harness.core import schema
from retainbench.harness.core.errors import UsageError
from retainbench.harness.suites import loading
from retainbench.harness.suites import plan as planning

GOOD: dict[str, Any] = {
    "name": "small",
    "description": "for tests",
    "base": "fruitfly",
    "targets": ["countdown"],
    "tasks": ["capitals"],
    "seeds": [0, 1],
    "budget": {"unit": "steps", "amount": 3},
    "recipes": {"sft": {"method": "sft", "options": {"learning_rate": 1e-4}}},
}


def load(tmp_path: Path, changes: dict[str, Any]) -> schema.Suite:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return loading.load(str(path))


@pytest.mark.parametrize("name", loading.available())
def test_packaged_suites_load_and_are_named_like_their_file(name: str) -> None:
    suite = loading.read(name)
    assert suite.name == name
    assert suite.description


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buget": {}}, "unknown key 'buget'; did you mean 'budget'"),
        (
            {"recipes": {"a": {"method": "sft", "replay": {"sorce": "self"}}}},
            "unknown key 'recipes.a.stages.0.replay.sorce'; did you mean 'source'",
        ),
        (
            {"recipes": {"policy": {"stages": [{"method": "sft"}], "resorces": {}}}},
            "unknown key 'recipes.policy.resorces'; did you mean 'resources'",
        ),
        ({"policy": {"margin": 5}}, "write 0.05 for five points"),
        ({"seeds": []}, "seeds"),
        ({"budget": {"unit": "hours", "amount": 1}}, "budget.unit"),
        ({"budget": {"unit": "steps"}}, "missing key 'budget.amount'"),
        ({"base": 3}, "base"),
        ({"targets": ["countdwn"]}, "did you mean 'countdown'"),
        ({"tasks": ["captials"]}, "did you mean 'capitals'"),
        ({"recipes": {"a": {"method": "sfd"}}}, "did you mean 'sf"),
        (
            {"recipes": {"a": {"method": "sft", "options": {"learning_rat": 1}}}},
            "did you mean 'learning_rate'",
        ),
        ({"recipes": {"a": {"method": "sft", "options": {"learning_rate": -1}}}}, "learning_rate"),
        (
            {"recipes": {"a": {"method": "sdft", "anchor": {"kind": "kl", "strength": 1}}}},
            "sdft cannot use 'kl'; it takes weights",
        ),
        ({"recipes": {"a": {"method": "sft", "adaptation": "prefix"}}}, "adaptation"),
        ({"recipes": {"a": {"stages": []}}}, "stages"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_remedy(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, changes)
    text = str(caught.value)
    assert message in text
    assert "suite.yaml" in text
    assert "\n" not in text


def test_an_unknown_suite_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        loading.load("quik")


def test_invalid_yaml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1,\nb: 2")
    with pytest.raises(UsageError, match=r"broken\.yaml: not valid YAML") as caught:
        loading.load(str(path))
    assert "\n" not in str(caught.value)


def inputs(**changes: Any) -> planning.Inputs:
    locks = {"countdown": "t", "capitals": "c"}
    digests = {"base": "b", "tasks": locks, "versions": {"torch": "2"}}
    return planning.Inputs.model_validate(digests | changes)


def ids(suite: schema.Suite, known: planning.Inputs) -> list[str]:
    return [cell.id for cell in planning.plan(suite, known).cells]


def test_equal_inputs_give_equal_ids_and_any_change_another(tmp_path: Path) -> None:
    suite = load(tmp_path, {})
    before = ids(suite, inputs())
    assert before == ids(suite, inputs())
    assert len(set(before)) == 2
    other_rate = {"recipes": {"sft": {"method": "sft", "options": {"learning_rate": 2e-4}}}}
    for changed in (
        ids(suite, inputs(base="x")),
        ids(suite, inputs(versions={"torch": "3"})),
        ids(suite, inputs(tasks={"countdown": "x", "capitals": "c"})),
        ids(load(tmp_path, other_rate), inputs()),
        ids(load(tmp_path, {"budget": {"unit": "steps", "amount": 4}}), inputs()),
        ids(load(tmp_path, {"trajectory": [0.5, 1.0]}), inputs()),
    ):
        assert not set(changed) & set(before)


def test_ids_ignore_what_does_not_change_training(tmp_path: Path) -> None:
    before = ids(load(tmp_path, {}), inputs())
    written_out = {"recipes": {"sft": {"method": "sft", "options": {"learning_rate": 1e-4}}}}
    written_out["recipes"]["sft"]["options"]["batch_size"] = 32
    assert ids(load(tmp_path, written_out), inputs()) == before
    assert ids(load(tmp_path, {"description": "other", "tasks": ["dates"]}), inputs()) == before


def test_an_axis_name_stands_for_its_tasks(tmp_path: Path) -> None:
    named = planning.retention_tasks(load(tmp_path, {"tasks": ["temporal", "capitals"]}))
    assert "calendar" in named
    assert named[-1] == "capitals"


def test_a_suite_has_axes_of_any_word_and_at_most_eight(tmp_path: Path) -> None:
    words = [f"axis_{letter}" for letter in "abcdefgh"]
    sources = {word: {"axis": word, "task": "x"} for word in words}
    changes = {"tasks": [], "sources": sources, "policy": {"axis_margins": {"axis_h": 0.1}}}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    assert [source.axis for source in loading.read(str(path)).sources.values()] == words
    path.write_text(yaml.safe_dump(GOOD | changes | {"tasks": ["capitals"]}))
    with pytest.raises(UsageError, match=r"tasks: axis_a.*more than 8 axes\. Name fewer"):
        loading.read(str(path))
    sources["x"] = {"axis": "Safety First", "task": "x"}
    path.write_text(yaml.safe_dump(GOOD | changes))
    with pytest.raises(UsageError, match=r"sources\.x\.axis"):
        loading.read(str(path))
