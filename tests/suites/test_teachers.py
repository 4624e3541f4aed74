"""A stage's teacher: known by content, with the base's tokenizer, refused in one line otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.runs import suite
from retainbench.harness.contracts.tiny_model import CHARACTERS, save_tiny
from retainbench.harness.core.errors import UsageError
from retainbench.harness.models import checked
from retainbench.harness.suites import loading, teachers
from retainbench.harness.suites import plan as planning

GKD = {"method": "gkd", "options": {"batch_size": 4}}


def plan_of(folder: Path, base: Path, **recipes: Any) -> planning.Plan:
    """The plan of a suite file in a folder, read as the commands read it."""
    content = suite(base).model_dump(mode="json", exclude_none=True) | {"recipes": recipes}
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    chosen, known = loading.opened(str(file))
    return planning.plan(chosen, planning.gather(chosen, (), known), known)


def test_content_of_the_teacher_is_in_the_id_and_its_path_is_not(
    tiny_base: Path, tmp_path: Path
) -> None:
    ids = []
    for folder, seed in (("one", 3), ("two", 3), ("three", 4)):
        save_tiny(tmp_path / folder / "wise", seed=seed)
        plan = plan_of(tmp_path / folder, tiny_base, taught=GKD | {"teacher": "./wise"})
        assert plan.inputs.teachers == {"wise": checked.check(tmp_path / folder / "wise").digest}
        assert plan.cells[0].recipe.stages[0].teacher == "wise"
        assert str(tmp_path / folder) not in plan.model_dump_json()
        ids.append(plan.cells[0].id)
    assert ids[0] == ids[1] != ids[2]


def test_a_plan_without_teachers_is_what_it_was(tiny_base: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, tiny_base, plain={"method": "sft"})
    assert "teacher" not in plan.model_dump_json()


def test_named_bases_and_links_are_teachers(tiny_base: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save_tiny(tmp_path / folder / "end", seed=len(folder))
    (tmp_path / "other").symlink_to(tmp_path / "b" / "end")
    recipes = {name: GKD | {"teacher": path} for name, path in (("a", "./a/end"), ("b", "./other"))}
    assert plan_of(tmp_path, tiny_base, **recipes).inputs.teachers.keys() == {"end", "other"}
    one = loading.parse(
        {
            **suite(tiny_base).model_dump(mode="json"),
            "base": "fruitfly",
            "recipes": {"x": GKD | {"teacher": "fruitfly"}},
        },
        "test",
    )
    inputs = planning.gather(one)
    assert inputs.teachers == {"fruitfly": inputs.base}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (GKD, "recipes.x: gkd needs a teacher. Name a base or a model folder"),
        ({"method": "sft", "teacher": "./wise"}, "sft learns from no other model. Leave out"),
        (GKD | {"teacher": "./none"}, r"teacher: no model at ./none \(looked for"),
        (GKD | {"teacher": "fruitfli"}, "recipes.x.teacher: unknown base 'fruitfli'; did you mean"),
        (
            GKD | {"teacher": "./foreign"},
            "foreign does not read text as tiny.* does: its .* differs",
        ),
        (GKD | {"teacher": "./fruitfly"}, "another model is named fruitfly: rename ./fruitfly"),
        (GKD | {"teacher": 3}, "recipes.x.stages.0.teacher: "),
        (
            GKD | {"options": {"beta": 2.0}, "teacher": "./wise"},
            "options: beta: .*less than or equal",
        ),
    ],
)
def test_a_wrong_teacher_is_refused_in_one_line(
    tiny_base: Path, tmp_path: Path, recipe: dict[str, Any], message: str
) -> None:
    save_tiny(tmp_path / "wise", seed=1)
    save_tiny(tmp_path / "fruitfly", seed=1)
    save_tiny(tmp_path / "foreign", seed=1, vocabulary=CHARACTERS[::-1])
    with pytest.raises(UsageError, match=message) as refused:
        plan_of(tmp_path, tiny_base, x=recipe)
    assert "\n" not in str(refused.value)


def test_two_models_of_one_name_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save_tiny(tmp_path / folder / "end", seed=1)
    recipes = {folder: GKD | {"teacher": f"./{folder}/end"} for folder in ("a", "b")}
    with pytest.raises(UsageError, match=r"named end: rename \./b/end, or name a link"):
        plan_of(tmp_path, tiny_base, **recipes)


def test_an_adapter_teaches_on_the_base(tiny_base: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from retainbench.harness.models import loading as models

    model = get_peft_model(models.load(tiny_base).model, LoraConfig(target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "adapter")
    plan = plan_of(tmp_path, tiny_base, x=GKD | {"teacher": "./adapter"})
    _, known = loading.opened(str(tmp_path / "mine.yaml"))
    found = teachers.find("adapter", checked.check(tiny_base), known)
    assert found.parent is not None
    assert plan.inputs.teachers == {"adapter": found.digest}
