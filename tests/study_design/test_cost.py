"""Estimates against what the same work then took: tokens and FLOPs, and what is printed."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from fixtures.runs import ES, SFT, plan_of, suite
from retainbench.harness.cli import main as cli
from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.schema import Policy
from retainbench.harness.models import bases, loading
from retainbench.harness.running.training import train as training
from retainbench.harness.scoring import evaluate
from retainbench.harness.study_design import cost, cost_table, training_cost
from retainbench.harness.suites.plan import Plan
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering.chat import PLAIN


def test_tokens_of_tasks_are_near_those_of_scoring_them(tiny_base: Path) -> None:
    loaded = loading.load(tiny_base)
    infos = OWN.find(["dates", "capitals_free", "countdown"])
    found = cost.of_tasks(loaded, infos, Policy(), most=120, rendering=PLAIN)
    for one in found:
        real = cost.measured(loaded, partial(evaluate.evaluate, loaded, [one.info], limit=120))
        assert one.items == 120
        assert one.cost.tokens == pytest.approx(real.tokens, rel=0.25)
    assert [one.detectable is None for one in found] == [False, False, True]
    (all_items,) = cost.of_tasks(loaded, infos[:1], Policy(), rendering=PLAIN)
    assert (all_items.detectable or 1) < (found[0].detectable or 0)


def trained(plan: Plan, tmp_path: Path) -> list[Any]:
    base = bases.resolve(plan.suite.base)
    records = [training.train(cell, CellFolder(tmp_path / cell.id), base) for cell in plan.cells]
    return [record.checkpoints[-1].ledger for record in records]


def test_training_is_near_what_it_then_spends(tiny_base: Path, tmp_path: Path) -> None:
    dft = SFT | {"method": "dft", "share": 2.0, "adaptation": "lora"}
    plan = plan_of(
        suite(tiny_base, recipes={"sft": SFT, "staged": {"stages": [SFT, dft]}}, seeds=[0, 1])
    )
    base = bases.resolve(plan.suite.base)
    found = training_cost.of_plan(plan, base, Catalogue(), PLAIN, "cpu")
    spent = trained(plan, tmp_path)
    assert found.unknown == []
    assert found.cells.tokens == pytest.approx(sum(s.forward_tokens for s in spent), rel=0.25)
    assert found.cells.flops == pytest.approx(sum(s.flops for s in spent), rel=0.25)


def test_a_budget_of_flops_is_what_is_spent(tiny_base: Path) -> None:
    swept = {"sweep": {"options": ["learning_rate"], "factors": [0.5, 1.0], "budget_share": 0.5}}
    plan = plan_of(suite(tiny_base, budget={"unit": "flops", "amount": 1e9}, **swept))
    base = bases.resolve(plan.suite.base)
    found = training_cost.of_plan(plan, base, Catalogue(), PLAIN, "cpu")
    assert found.cells.flops == pytest.approx(1e9)
    assert (found.number_of_variants, found.variants.flops) == (2, pytest.approx(1e9))


def test_a_recipe_whose_cost_is_not_known_is_named(tiny_base: Path) -> None:
    outside = {"method": "command", "options": {"command": ["false"]}}
    plan = plan_of(suite(tiny_base, recipes={"mine": outside, "sft": SFT}))
    shown = io.StringIO()
    Console(file=shown, width=160).print(cost_table.of_suite(plan, Catalogue(), "cpu"))
    text = shown.getvalue()
    assert "mine on countdown is not counted: a command of the user's trains" in text
    lines = [line.split() for line in text.splitlines()]
    assert {"training", "base", "scoring", "KL", "total"} <= {words[0] for words in lines if words}


def test_every_stage_says_how_many_updates_its_budget_pays_for(
    tiny_base: Path, tmp_path: Path
) -> None:
    dft = SFT | {"method": "dft", "options": {"learning_rate": 1e-3, "batch_size": 8}}
    staged = {"stages": [SFT | {"share": 5.0}, dft]}
    recipes = {"sft": SFT, "staged": staged}
    plan = plan_of(suite(tiny_base, recipes=recipes, budget={"unit": "samples", "amount": 222}))
    base = bases.resolve(plan.suite.base)
    stages = training_cost.of_plan(plan, base, Catalogue(), PLAIN, "cpu").stages
    pays_for = [(stage.recipe, stage.method, stage.whole_updates) for stage in stages]
    # 222 samples by 4; five sixths of them by 4; one sixth by 8.
    assert pays_for == [("sft", "sft", 56), ("staged", "sft", 47), ("staged", "dft", 5)]
    assert [ledger.steps for ledger in trained(plan, tmp_path)] == [56, 47 + 5]
    shown = io.StringIO()
    Console(file=shown, width=160).print(cost_table.of_suite(plan, Catalogue(), "cpu"))
    text = shown.getvalue()
    assert "says little about a method: staged (47), staged (5). Raise the budget or" in text
    assert [row.split()[3] for row in text.splitlines() if " countdown " in row][:3] == [
        "56",
        "47*",
        "5*",
    ]


def test_a_slow_stage_is_probed_by_one_update(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_cost, "SECONDS", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plan = plan_of(suite(tiny_base, recipes={"sft": SFT, "es": ES}))
    base = bases.resolve(plan.suite.base)
    stages = training_cost.of_plan(plan, base, Catalogue(), PLAIN, "cpu").stages
    assert [(stage.update.probed, stage.whole_updates) for stage in stages] == [(1, 12), (1, 12)]
    assert all(stage.update.cost.seconds > 0 for stage in stages)


def test_estimates_are_printed_and_nothing_is_written(
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = suite(tiny_base, tasks=["dates"], divergence_prompts=2, items_per_task=None)
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(small.model_dump(mode="json", exclude_none=True)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    certify = ["certify", "--base", str(tiny_base), "--candidate", str(tiny_base), "--estimate"]
    for words in (
        ["plan", str(file), "--estimate"],
        [*certify, "--suite", str(file), "--out", "made"],
        [*certify, "--suite", str(file), "--out", "made", "--tier", "smoke", "--dtype", "bfloat16"],
    ):
        monkeypatch.setattr(sys, "argv", ["retainbench", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        out = capsys.readouterr().out
        assert "Memory: " in out
        assert "shows: smallest true drop" in out
    assert re.search(r"dates +temporal +100 ", out), out
    assert "GB in bfloat16" in out
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
