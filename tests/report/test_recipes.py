"""What each recipe was given: options of every stage and the choices of a sweep, published."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import report as fixtures
from retainbench.harness.core.files.storage import read_json, write_json
from retainbench.harness.core.recipes import Recipes, SweepChoice, SweepVariant, kl_coefficient
from retainbench.harness.core.stages import Anchor, Recipe, Stage
from retainbench.harness.models import bases
from retainbench.harness.report import publish, report
from retainbench.harness.report.table.evidence import files
from retainbench.harness.report.table.recipes import chosen, grids
from retainbench.harness.suites import loading as suites_loading

SFT = Stage(
    method="sft",
    options={"learning_rate": 9e-4, "batch_size": 32, "schedule": "cosine", "warmup": 0.05},
)
PPO = Stage(method="ppo", options={"learning_rate": 1e-5, "kl_coefficient": 0.05})


def choice(taken: float, option: str = "learning_rate") -> SweepChoice:
    tried = [SweepVariant(factor=factor, reward=0.5) for factor in (1 / 3, 1.0, 3.0)]
    return SweepChoice(
        recipe="sft-grpo",
        target="countdown",
        stage=0,
        option=option,
        value=3e-4 * taken,
        factor=taken,
        variants=tried,
    )


def test_a_published_folder_names_options_and_choices(tmp_path: Path) -> None:
    cards = [c for c in fixtures.scorecards() if c.recipe == "sft-grpo"]
    run = tmp_path / "run"
    fixtures.write_run(run, cards)
    given = Recipes(recipes={"sft-grpo": Recipe(stages=[SFT, PPO])}, choices=[choice(3.0)])
    write_json(files(run).recipes, given)
    publish.publish(run, tmp_path / "published")
    table = report.load_table(tmp_path / "published")
    (grid,) = (one for one in table.further if one.caption == "What each recipe was given")
    assert grid.cells == [
        [
            "sft-grpo",
            "sft, full",
            "0.0009",
            "0.0001, 0.0003, 0.0009 (largest: at the edge)",
            "cosine, warm-up 0.05",
            "32",
            "0",
            "100 %",
        ],
        ["sft-grpo", "ppo, full", "1e-05", "not swept", "—", "—", "0.05", ""],
    ]
    assert "(largest: at the edge)" in (tmp_path / "published" / "README.md").read_text()


def test_what_a_stage_reads_besides_its_rows_is_named() -> None:
    """Two recipes of one method that differ by their teacher, replay or anchor look different."""
    taught = Stage(method="gkd", teacher="larger", anchor=Anchor(kind="kl", on="web", strength=2))
    mixed = Stage(method="interpolate", options={"weights": [0.25, 0.5]})
    (grid,) = grids(Recipes(recipes={"wise": Recipe(stages=[taught, mixed])}, choices=[]), [])
    assert [row[1] for row in grid.cells] == [
        "gkd, full, teacher larger, kl on web (2)",
        "interpolate, full, w 0.25, 0.5",
    ]


def test_a_value_inside_its_grid_is_not_marked_and_other_options_are_named() -> None:
    assert chosen(choice(1.0, "sigma")) == "sigma 0.0001, 0.0003, 0.0009"


def test_the_kl_of_an_anchor_and_of_the_method_add_up() -> None:
    anchored = PPO.model_copy(update={"anchor": Anchor(kind="kl", strength=0.1)})
    decayed = SFT.model_copy(update={"anchor": Anchor(kind="weights", strength=10.0)})
    assert round(kl_coefficient(anchored), 9) == 0.15
    assert kl_coefficient(decayed) == 0


def published_today() -> list[Path]:
    """Folders whose base is the fruitfly that ships now; those of an older one wait for a run."""
    digest = bases.resolve("fruitfly").digest
    found = []
    for folder in publish.published():
        cards = report.load_scorecards(folder)
        if any(card.provenance.get("base") == digest for card in cards):
            found.append(folder)
    return found


@pytest.mark.parametrize("folder", published_today(), ids=lambda folder: folder.name)
def test_published_tables_name_every_option_and_what_a_sweep_chose(folder: Path) -> None:
    given = read_json(files(folder).recipes, Recipes)
    cards = report.load_scorecards(folder)
    assert set(given.recipes) == {card.recipe for card in cards}
    for name, recipe in given.recipes.items():
        for stage in recipe.stages:
            assert "learning_rate" in stage.options, name
            assert len(stage.options) > 5, f"{name}: defaults are not named"
    swept = suites_loading.available().get(folder.name)
    if swept and (sweep := suites_loading.read(folder.name).sweep):
        chosen = {(choice.recipe, choice.stage, choice.option) for choice in given.choices}
        assert chosen == {
            (name, number, option)
            for name, recipe in given.recipes.items()
            for number, stage in enumerate(recipe.stages)
            for option in sweep.options
            if option in stage.options
        }
