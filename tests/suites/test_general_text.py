"""General text of a suite: a file's content decides, retention items never get into training."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.models import bases
from retainbench.harness.running.training.general_text import own_text
from retainbench.harness.suites import loading, plan
from retainbench.harness.tasks import catalogue, contamination, text_files
from retainbench.harness.tasks.catalogue import OWN
from retainbench.harness.tasks.rendering.prompts import reference

REPLAY = {"replay": {"source": "./general.jsonl"}}


def planned(folder: Path, texts: list[str], **recipe: Any) -> plan.Plan:
    folder.mkdir(exist_ok=True)
    (folder / "general.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    content = {
        "name": "mine",
        "description": "for tests",
        "base": "fruitfly",
        "targets": ["countdown"],
        "tasks": ["capitals"],
        "recipes": {"a": {"method": "sft"} | recipe},
        "seeds": [0],
        "budget": {"unit": "steps", "amount": 4},
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(content))
    suite, known = loading.opened(str(folder / "suite.yaml"))
    return plan.plan(suite, plan.gather(suite, (), known), known)


def test_the_text_decides_the_cell_and_not_its_path(tmp_path: Path) -> None:
    """A cell without general text keeps the id that it had before there was any."""
    (plain,) = planned(tmp_path / "plain", ["some text"]).cells
    assert "replay" not in plain.recipe.model_dump()["stages"][0]
    (first,) = planned(tmp_path / "a", ["some text"], **REPLAY).cells
    (again,) = planned(tmp_path / "b", ["some text"], **REPLAY).cells
    (other,) = planned(tmp_path / "c", ["other text"], **REPLAY).cells
    assert first.id == again.id
    assert len({plain.id, first.id, other.id}) == 3
    assert first.recipe.stages[0].texts == ["general"]


def test_the_recipes_of_the_guide_are_read_as_they_are_written(tmp_path: Path) -> None:
    """`on:` without quotes is a truth value in YAML 1.1."""
    guide = (paths.PACKAGE / "suites" / "README.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", guide, re.S) if "sft-replay" in b)
    planned(tmp_path / "mine", ["some text"])
    file = tmp_path / "mine" / "suite.yaml"
    content = yaml.safe_load(file.read_text())
    del content["recipes"]
    file.write_text(yaml.safe_dump(content) + "recipes:\n" + textwrap.indent(block, "  "))
    recipes = loading.opened(str(file)).suite.recipes
    anchor = recipes["grpo-held"].stages[0].anchor
    assert anchor is not None
    assert anchor.on == "general"
    assert len(recipes) == 3


def test_text_that_holds_a_retention_item_is_refused(tmp_path: Path) -> None:
    item = catalogue.items(OWN.tasks["capitals"])[0]
    answer = item["choices"][item["gold"]] if "choices" in item else reference(item)
    leak = f"{item['query']} {answer}"
    with pytest.raises(UsageError, match=r"holds 1 retention item \(capitals"):
        planned(tmp_path / "leak", ["some text", leak], **REPLAY)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"method": "es"} | REPLAY, "es reads no general text"),
        ({"adaptation": {"rank": 64}}, "rank and alpha are for adapters"),
        ({"anchor": {"kind": "kl", "norm": "l1", "strength": 1.0}}, "norm is for an anchor of wei"),
        ({"replay": {"source": "./missing.jsonl"}}, "not a file"),
        ({"replay": {"source": "general"}}, "is `self` or a path like `./general.jsonl`, not 'gen"),
        ({"replay": {"source": "./general.jsonl", "share": 1.0}}, "less than 1"),
        (
            {"adaptation": "lora", "anchor": {"kind": "ewc", "strength": 1.0, "on": "self"}},
            "ewc needs `adaptation: full`",
        ),
    ],
)
def test_wrong_uses_are_one_line(tmp_path: Path, recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        planned(tmp_path / "wrong", ["some text"], **recipe)


def test_the_bases_own_text_is_cleaned_of_retention_items() -> None:
    base = bases.resolve("fruitfly").folder
    found = own_text(base, 0, OWN, "cpu")
    assert found == own_text(base, 0, OWN, "cpu")
    assert len(found) > 100
    retention = [name for name, info in OWN.tasks.items() if info.axis != "target"]
    items = contamination.retention_items(retention, OWN)
    search = contamination.OverlapSearch(items)
    search.read([text] for text in found)
    assert search.found() == []


def test_cleaning_drops_what_overlaps_and_keeps_the_rest() -> None:
    items = {("t", "long"): "one two three four five six seven eight nine", ("t", "short"): "2 4"}
    texts = ["nothing", "zero one two three four five six seven eight", "2 + 4", "2 and 4"]
    assert text_files.cleaned(texts, items) == ["nothing", "2 and 4"]
